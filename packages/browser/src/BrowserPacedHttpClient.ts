/**
 * A paced `HttpClient` for pages and workers, over fetch.
 *
 * Here belongs what a page adds: the platform's fetch, addresses that are relative to the page, and the rules for requests
 * to other origins (CORS). Pacing, retrying and reading are core's `PacedHttpClient`. No provider lets pages see its
 * rate-limit headers, so pacing must do without them; it does.
 *
 * **Source**
 *
 * The Fetch standard: a page sees of another origin's response the safelisted headers and those that
 * `Access-Control-Expose-Headers` names; `Retry-After` and all rate-limit headers are not safelisted.
 */
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import type * as Pacer from "@evenkeel/core/Pacer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Url from "effect/http/Url"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"

/** How the client paces. */
export interface Options extends PacedHttpClient.Options {}

/**
 * Provides a paced `HttpClient` over fetch, for code that wants a plain one.
 *
 * **Errors**
 *
 * A call that was not sent fails with an `HttpClientError` whose cause is the `PaceError`.
 *
 * **Details**
 *
 * A relative address draws on the same key as the absolute one that it stands for. `b3` and `traceparent` are not sent,
 * since most providers' CORS rules do not allow them and the request would fail; provide
 * `HttpClient.TracerPropagationEnabled` as `true` to the calls of a server that does. Which fetch is called and with which
 * settings is told as to Effect's own client, by `FetchHttpClient.Fetch` and `FetchHttpClient.RequestInit`.
 *
 * **Gotchas**
 *
 * A page is told nothing of why a fetch failed: a refused connection, a reset and a refusal that came without CORS headers
 * (as from some edges) look the same. All are *unknown*: they teach nothing, and are tried again only where that is
 * harmless (`GET` and its like, or `idempotent` in `PacedHttpClient.CurrentCall`).
 *
 * **Example** (Calls to a server of one's own that keeps the key)
 *
 * ```ts
 * import * as BrowserPacedHttpClient from "@evenkeel/browser/BrowserPacedHttpClient"
 * import * as Pacer from "@evenkeel/core/Pacer"
 * import * as Effect from "effect/Effect"
 * import * as FetchHttpClient from "effect/http/FetchHttpClient"
 * import * as HttpClient from "effect/http/HttpClient"
 * import * as Layer from "effect/Layer"
 *
 * // Stands in for the page's fetch here; leave it out in a page.
 * const fetch = Layer.succeed(FetchHttpClient.Fetch, () => Promise.resolve(Response.json({ text: "hello" })))
 *
 * const program = Effect.gen(function*() {
 *   const response = yield* HttpClient.post("https://app.example/api/chat")
 *   return yield* response.json
 * }).pipe(
 *   Effect.provide(BrowserPacedHttpClient.layer().pipe(Layer.provide([Pacer.layerMemory, fetch])))
 * )
 *
 * await Effect.runPromise(program) // => { text: "hello" }
 * ```
 */
export const layer = (options?: Options): Layer.Layer<HttpClient.HttpClient, never, Pacer.Pacer> =>
  Layer.effect(HttpClient.HttpClient, Effect.map(HttpClient.HttpClient, asOfPage)).pipe(
    Layer.provide(PacedHttpClient.layer(options)),
    Layer.provide(FetchHttpClient.layer)
  )

/**
 * Addresses are made absolute after all of the program's own changes to the request, such as `prependUrl`, and before the
 * pacer asks whose limit it is.
 */
const asOfPage = (client: HttpClient.HttpClient): HttpClient.HttpClient =>
  HttpClient.makeWith(
    (request) =>
      Effect.updateContext(
        client.postprocess(Effect.map(request, absolute)),
        (context: Context.Context<never>) => Context.merge(withoutTraces, context)
      ),
    client.preprocess
  )

/** As Effect's client will resolve it; what is no address fails there. */
const absolute = (request: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest =>
  Result.match(Url.make(request.url, UrlParams.empty, undefined), {
    onFailure: () => request,
    onSuccess: (url) => HttpClientRequest.setUrl(request, url.href)
  })

/** Only a default: what the caller provides is merged over it. */
const withoutTraces = Context.make(HttpClient.TracerPropagationEnabled, false)
