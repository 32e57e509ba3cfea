/**
 * A paced `HttpClient` for Node.js, over undici.
 *
 * Here belongs what Node adds: the connection pool and proxies. Pacing, retrying and reading are core's
 * `PacedHttpClient`. Redirects are not followed, so that no credential follows one.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import type * as Pacer from "@evenkeel/core/Pacer"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { EnvHttpProxyAgent } from "undici"

/**
 * How the client connects and paces.
 *
 * **Units**
 *
 * `maxConnections` to one origin; without it as many as there are calls in flight. `connectTimeoutMillis` 10,000 unless
 * told otherwise.
 */
export interface Options extends PacedHttpClient.Options {
  readonly maxConnections?: number | undefined
  readonly connectTimeoutMillis?: number | undefined
}

/**
 * An unpaced client over undici, that honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. Nothing on this machine is asked
 * for through a proxy.
 */
export const layerUndici = (
  options?: Pick<Options, "maxConnections" | "connectTimeoutMillis">
): Layer.Layer<HttpClient.HttpClient> =>
  NodeHttpClient.layerUndiciNoDispatcher.pipe(
    Layer.provide(Layer.effect(
      NodeHttpClient.Dispatcher,
      Effect.acquireRelease(
        Effect.sync(() =>
          new EnvHttpProxyAgent({
            ...(options?.maxConnections === undefined ? {} : { connections: options.maxConnections }),
            connect: { timeout: options?.connectTimeoutMillis ?? 10_000 },
            noProxy: `${process.env["no_proxy"] ?? process.env["NO_PROXY"] ?? ""},localhost,127.0.0.1,[::1]`
          })
        ),
        (agent) => Effect.promise(() => agent.destroy())
      )
    ))
  )

/**
 * Provides a paced `HttpClient`, for code that wants a plain one.
 *
 * **Errors**
 *
 * A call that was not sent fails with an `HttpClientError` whose cause is the `PaceError`.
 *
 * **Example** (A client for any code that uses `HttpClient`)
 *
 * ```ts
 * import * as Pacer from "@evenkeel/core/Pacer"
 * import * as EchoProvider from "@evenkeel/node/EchoProvider"
 * import * as NodePacedHttpClient from "@evenkeel/node/NodePacedHttpClient"
 * import * as Effect from "effect/Effect"
 * import * as HttpClient from "effect/http/HttpClient"
 * import * as Layer from "effect/Layer"
 *
 * const program = Effect.gen(function*() {
 *   const provider = yield* EchoProvider.EchoProvider
 *   const response = yield* HttpClient.get(`${provider.url}/models`)
 *   return response.status
 * }).pipe(
 *   Effect.provide(Layer.merge(
 *     EchoProvider.layer(),
 *     NodePacedHttpClient.layer().pipe(Layer.provide(Pacer.layerMemory))
 *   ))
 * )
 *
 * await Effect.runPromise(program) // => 200
 * ```
 */
export const layer = (options?: Options): Layer.Layer<HttpClient.HttpClient, never, Pacer.Pacer> =>
  PacedHttpClient.layer(options).pipe(Layer.provide(layerUndici(options)))

/**
 * The same, with options from the configuration: `EVENKEEL_ORGANISATION`, `EVENKEEL_TIMEOUT` (a duration such as
 * `90 seconds`) and `EVENKEEL_MAX_CONNECTIONS`, each optional.
 */
export const layerConfig: Layer.Layer<HttpClient.HttpClient, Config.ConfigError, Pacer.Pacer> = Layer.unwrap(
  Effect.gen(function*() {
    const organisation = yield* Config.option(Config.String("EVENKEEL_ORGANISATION"))
    const timeout = yield* Config.option(Config.Duration("EVENKEEL_TIMEOUT"))
    const maxConnections = yield* Config.option(Config.Int("EVENKEEL_MAX_CONNECTIONS"))
    return layer({
      organisation: Option.getOrUndefined(organisation),
      timeout: Option.getOrUndefined(timeout),
      maxConnections: Option.getOrUndefined(maxConnections)
    })
  })
)
