/**
 * A provider to practise on: an HTTP server on this machine that limits like Together, fails when told to, and echoes.
 *
 * Here belong what it can be told, its service and its life in a scope. Its law is `ScenarioLimit`; `EchoBackend` applies
 * it, `EchoModel` makes the answers, `EchoServer` holds the sockets. No real model and no real key ever come near it.
 *
 * **Source**
 *
 * The provider model of Evenkeel's control study, section 1; the headers and error bodies of Together's API.
 */
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as EchoBackend from "./echo/EchoBackend.ts"
import * as EchoServer from "./echo/EchoServer.ts"

/**
 * A provider that runs.
 *
 * **Shape**
 *
 * `url` is a base URL as clients want it, like `http://127.0.0.1:8080/v1`. `stats` are the counts so far, which
 * `GET /-/stats` tells too.
 */
export class EchoProvider extends Context.Service<EchoProvider, {
  readonly url: string
  readonly port: number
  readonly stats: Effect.Effect<Stats>
}>()("@evenkeel/node/EchoProvider") {}

/** What a provider has done since it started. */
export interface Stats extends EchoBackend.Stats {}

/**
 * A time during which the provider is away: connections are refused, open ones are reset.
 *
 * **Units**
 *
 * Seconds from the first call that met a limit.
 */
export interface Outage {
  readonly fromSeconds: number
  readonly toSeconds: number
}

/**
 * What a provider can be told. Everything has a default; what is said here overrides `scenario`.
 *
 * **Units**
 *
 * Rates are per second, times in the unit that ends their name.
 */
export interface Options {
  /** The address to listen on; this machine alone unless told otherwise. */
  readonly host?: string | undefined
  /** The port to listen on; 0, the default, is any free one. */
  readonly port?: number | undefined
  /** The situation to play. Its clock starts at the first call that meets a limit. */
  readonly scenario?: Scenario.Scenario | undefined
  /** The rate that is always allowed. Default 1. */
  readonly floorPerSecond?: number | undefined
  /** The rate that is never exceeded. Default 100. */
  readonly ceilingPerSecond?: number | undefined
  /** The limit is this many times the recent rate of successes. Default 2. */
  readonly cushion?: number | undefined
  /** How long a success counts as recent: the time constant of its moving average. Default 30. */
  readonly memorySeconds?: number | undefined
  /** How many seconds of the limit may come at once. Default 1. */
  readonly burstSeconds?: number | undefined
  /** How many seconds of the limit are held back rather than refused. Default 0.5. */
  readonly bufferSeconds?: number | undefined
  /** The tokens per second that are allowed; not limited unless told. */
  readonly tokensPerSecond?: number | undefined
  /** How long every call works. Default 100; with a scenario, its own service times. */
  readonly latencyMillis?: number | undefined
  /** Decides all that is drawn. Default 1, or the scenario's. */
  readonly seed?: number | undefined
  /** Which answers tell the limit. Default `all`, or as the scenario says. */
  readonly headers?: EchoBackend.HeaderMode | undefined
  /** The unit of the limit that headers tell; the law stays per second. */
  readonly unit?: "second" | "minute" | undefined
  /** What goes wrong, and how often. A call meets at most one of them. */
  readonly faults?: ReadonlyArray<EchoBackend.Fault> | undefined
  readonly outages?: ReadonlyArray<Outage> | undefined
  /** The models that exist; without them every name does. */
  readonly models?: ReadonlyArray<string> | undefined
  /** The key that callers must send; without it any key will do, or none. */
  readonly apiKey?: Redacted.Redacted | undefined
}

/** How long a call works unless told otherwise: as a small model answers a short question. */
export const defaultLatencyMillis = 100

/**
 * A provider that could not start.
 *
 * **Details**
 *
 * `PortInUse`: another process has the port. `CannotListen`: the system refuses the address or the port.
 */
export class EchoProviderError extends Data.TaggedError("EchoProviderError")<{
  readonly reason: "PortInUse" | "CannotListen"
  readonly message: string
}> {}

/**
 * Starts a provider, which ends with the scope.
 *
 * **Details**
 *
 * It answers `POST /v1/chat/completions` (JSON, and server-sent events with `stream: true`), `POST /v1/embeddings`,
 * `GET /v1/models` and `GET /-/stats`. Each organisation (a bearer token, or none) has a limit for each model. A call
 * that was admitted is worked on to its end, whether or not its client is still there. When the scope closes, the port
 * is free and no connection is open.
 *
 * **Errors**
 *
 * Fails with an `EchoProviderError` when it cannot listen. Options out of range are a defect: a `RangeError` that names
 * the option.
 *
 * **Gotchas**
 *
 * It speaks HTTP without TLS. Let it listen to other machines only where you trust them.
 *
 * **Example**
 *
 * ```ts
 * import * as EchoProvider from "@evenkeel/node/EchoProvider"
 * import * as Effect from "effect/Effect"
 *
 * const program = Effect.gen(function*() {
 *   const provider = yield* EchoProvider.make({ floorPerSecond: 10, ceilingPerSecond: 200 })
 *   return (yield* provider.stats).served
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => 0
 * ```
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<EchoProvider["Service"], EchoProviderError, Scope.Scope> {
  const { faults = [], host = "127.0.0.1", outages = [], port = 0 } = options
  checkFaults(faults)
  checkOutages(outages)
  const scenario = scenarioOf(options)
  const latencyMillis = latencyOf(options)
  const seed = options.seed ?? scenario.seed
  const clock = yield* Clock.Clock
  const after = yield* makeTimers
  const startNanos = clock.monotonicTimeNanosUnsafe()
  const backend = EchoBackend.make({
    scenario,
    headers: options.headers,
    latencyMillis,
    faults,
    models: options.models,
    apiKey: options.apiKey,
    random: {
      fault: yield* seeded(`${seed} fault`),
      overload: yield* seeded(`${seed} overload`),
      service: yield* seeded(`${seed} service`)
    },
    nowSeconds: () => Number(clock.monotonicTimeNanosUnsafe() - startNanos) / 1e9,
    unixSeconds: () => clock.currentTimeMillisUnsafe() / 1000,
    after,
    onStart: () => {
      for (const outage of outages) {
        after(outage.fromSeconds * 1000, server.leave)
        after(outage.toSeconds * 1000, server.comeBack)
      }
    }
  })
  const server: EchoServer.EchoServer = yield* Effect.acquireRelease(
    Effect.mapError(
      EchoServer.listen({ host, port, backend, after }),
      (error) => cannotListen(error, host, port)
    ),
    (server) => server.close
  )
  const authority = `${host.includes(":") ? `[${host}]` : host}:${server.port}`
  return { url: `http://${authority}/v1`, port: server.port, stats: Effect.sync(backend.stats) }
})

/**
 * A provider for as long as the layer lives.
 *
 * **Errors**
 *
 * As `make`.
 */
export const layer = (options?: Options): Layer.Layer<EchoProvider, EchoProviderError> =>
  Layer.effect(EchoProvider, make(options))

/**
 * The scenario that options come to.
 *
 * **Errors**
 *
 * Throws a `RangeError` that names the field out of range.
 */
export const scenarioOf = (options: Options): Scenario.Scenario => {
  const { dynamicRate, enforcement, headers, tokens, ...rest } = options.scenario ?? Scenario.make()
  const { memorySeconds, tokensPerSecond } = options
  return Scenario.make({
    ...rest,
    dynamicRate: {
      ...dynamicRate,
      floorPerSecond: options.floorPerSecond ?? dynamicRate.floorPerSecond,
      ceilingPerSecond: options.ceilingPerSecond ?? dynamicRate.ceilingPerSecond,
      cushion: options.cushion ?? dynamicRate.cushion,
      memory: memorySeconds === undefined ? dynamicRate.memory : { kind: "ewma", seconds: memorySeconds }
    },
    tokens: tokensPerSecond === undefined
      ? tokens
      : { floorPerSecond: tokensPerSecond, ceilingPerSecond: tokensPerSecond },
    enforcement: {
      ...enforcement,
      burstSeconds: options.burstSeconds ?? enforcement.burstSeconds,
      bufferSeconds: options.bufferSeconds ?? enforcement.bufferSeconds
    },
    headers: {
      ...headers,
      // A mode chooses from the full set, so the full set must be there to choose from.
      ...(options.headers === undefined ? {} : { onSuccess: true, onError: true, retryAfter: true }),
      units: options.unit === undefined ? headers.units : options.unit === "minute" ? 60 : 1
    }
  })
}

/** Runs things later; nothing is left to run when the scope closes. */
const makeTimers = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => new Set<NodeJS.Timeout>()),
    (timers) => Effect.sync(() => timers.forEach(clearTimeout))
  ),
  (timers) => (delayMillis: number, run: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      run()
    }, Math.min(delayMillis, maxTimerMillis))
    timers.add(timer)
  }
)

const seeded = (seed: string): Effect.Effect<() => number> =>
  Effect.map(Random.withSeed(Random.Random, seed), (random) => () => random.nextDoubleUnsafe())

const latencyOf = (options: Options): number | undefined => {
  const latencyMillis = options.latencyMillis ?? (options.scenario === undefined ? defaultLatencyMillis : undefined)
  if (latencyMillis !== undefined && !(latencyMillis >= 0 && latencyMillis <= maxTimerMillis)) {
    throw new RangeError(`EchoProvider: latencyMillis must be from 0 to ${maxTimerMillis}, got ${latencyMillis}`)
  }
  return latencyMillis
}

const checkFaults = (faults: ReadonlyArray<EchoBackend.Fault>): void => {
  for (const { kind, probability } of faults) {
    if (!(probability >= 0 && probability <= 1)) {
      throw new RangeError(`EchoProvider: the probability of fault ${kind} must be from 0 to 1, got ${probability}`)
    }
  }
  const sum = faults.reduce((sum, fault) => sum + fault.probability, 0)
  if (sum > 1 + tolerance) {
    throw new RangeError(`EchoProvider: probabilities of faults must sum to at most 1, got ${sum}`)
  }
}

const checkOutages = (outages: ReadonlyArray<Outage>): void => {
  for (const { fromSeconds, toSeconds } of outages) {
    if (!(fromSeconds >= 0 && toSeconds > fromSeconds && toSeconds * 1000 <= maxTimerMillis)) {
      throw new RangeError(
        `EchoProvider: an outage goes from 0 or later to later still, got ${fromSeconds}-${toSeconds}`
      )
    }
  }
}

const cannotListen = (error: NodeJS.ErrnoException, host: string, port: number): EchoProviderError =>
  error.code === "EADDRINUSE"
    ? new EchoProviderError({ reason: "PortInUse", message: `port ${port} on ${host} is already in use` })
    : new EchoProviderError({ reason: "CannotListen", message: `cannot listen on ${host}:${port}: ${error.message}` })

/** Beyond this a timer fires at once. */
const maxTimerMillis = 2 ** 31 - 1

/** Sums of tenths are not exact. */
const tolerance = 1e-9
