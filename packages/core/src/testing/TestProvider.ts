/**
 * A provider in virtual time: an `HttpClient` that answers as a rate-limited API would under a scenario.
 *
 * Here belong its latency, its answers and its counts. It waits through Effect's `Clock`, so `TestClock` drives it, and
 * draws from a seed, so a run repeats. The verdicts are `ScenarioLimit`'s; no socket is opened.
 *
 * **Source**
 *
 * The provider model of Evenkeel's control study, sections 1.3 and 1.4; the bodies are Together AI's.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type { Scenario } from "./Scenario.ts"
import * as ScenarioLimit from "./ScenarioLimit.ts"

/**
 * The provider as a service.
 *
 * **Shape**
 *
 * - `client`: sends chat completions to it, whatever the URL. Each pair of `authorization` header and `model` has its own
 *   limit, which begins with its first call.
 * - `stats`: what it has answered so far.
 */
export class TestProvider extends Context.Service<TestProvider, {
  readonly client: HttpClient.HttpClient
  readonly stats: Effect.Effect<Stats>
}>()("@evenkeel/core/testing/TestProvider") {}

/**
 * What a provider has answered.
 *
 * **Units**
 *
 * Counts. `served` calls have completed, `refused429` were over the limit, `refused503` met a platform without room,
 * `invalid` could not be read. `keys` have a limit now.
 */
export interface Stats {
  readonly served: number
  readonly refused429: number
  readonly refused503: number
  readonly invalid: number
  readonly keys: number
}

/**
 * How a provider differs from its scenario.
 *
 * **Details**
 *
 * `seed` replaces the scenario's. `maxKeys` bounds the limits held, 1024 unless given: past it the one that was called
 * longest ago is forgotten, and begins anew.
 */
export interface Options {
  readonly seed?: string | number | undefined
  readonly maxKeys?: number | undefined
}

/**
 * Makes a provider.
 *
 * **Errors**
 *
 * Dies with a `RangeError` when `maxKeys` is not a whole number of 1 or more.
 *
 * **Details**
 *
 * A call reaches the provider after half a round trip. Admitted, it is answered after its delay and service time;
 * refused, after 5 ms (429) or 20 ms (503); and half a round trip later the answer is here. A call whose body is not a
 * chat completion gets a 400 and is not charged. A call that is interrupted does not complete, and earns nothing.
 *
 * Prompts are counted at four characters a token. The output is drawn, up to the call's `max_tokens`.
 *
 * **Example** (One call)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpClientRequest from "effect/http/HttpClientRequest"
 * import * as TestClock from "effect/testing/TestClock"
 * import * as Scenario from "@evenkeel/core/testing/Scenario"
 * import * as TestProvider from "@evenkeel/core/testing/TestProvider"
 *
 * const program = Effect.gen(function*() {
 *   const provider = yield* TestProvider.make(Scenario.make({}))
 *   const request = HttpClientRequest.post("https://api.together.xyz/v1/chat/completions").pipe(
 *     HttpClientRequest.bodyJsonUnsafe({ model: "llama", messages: [{ role: "user", content: "Hello" }] })
 *   )
 *   yield* Effect.forkChild(provider.client.execute(request), { startImmediately: true })
 *   yield* TestClock.adjust("1 minute")
 *   return yield* provider.stats
 * })
 *
 * const stats = await Effect.runPromise(Effect.provide(program, TestClock.layer()))
 *
 * stats.served // => 1
 * ```
 */
export const make = Effect.fnUntraced(function*(scenario: Scenario, options?: Options) {
  const maxKeys = options?.maxKeys ?? defaultMaxKeys
  if (!(Number.isInteger(maxKeys) && maxKeys >= 1)) {
    return yield* Effect.die(new RangeError(`TestProvider.make: maxKeys must be a whole number >= 1, got ${maxKeys}`))
  }
  const seed = options?.seed ?? scenario.seed
  const coins = yield* generator(`${seed}/coins`)
  const draws = yield* generator(`${seed}/latency`)
  const limits = new Map<string, Held>()
  let stats: Omit<Stats, "keys"> = { served: 0, refused429: 0, refused503: 0, invalid: 0 }

  const limitOf = (key: string, nowSeconds: number): Held => {
    const held = limits.get(key) ?? { limit: ScenarioLimit.make(scenario, coins), beganSeconds: nowSeconds }
    limits.delete(key)
    limits.set(key, held)
    for (const oldest of limits.keys()) {
      if (limits.size <= maxKeys) break
      limits.delete(oldest)
    }
    return held
  }

  const serve = Effect.fnUntraced(function*(request: HttpClientRequest.HttpClientRequest) {
    const clock = yield* Clock.Clock
    const there = rttHalf(scenario, draws)
    const back = rttHalf(scenario, draws)
    const call = readCall(request)
    if (call === undefined) {
      yield* sleep(there + back)
      stats = { ...stats, invalid: stats.invalid + 1 }
      return respond(request, 400, {}, invalidBody)
    }
    const outputTokens = drawOutputTokens(scenario, call, draws)
    const serviceSeconds = drawServiceSeconds(scenario, outputTokens, draws)
    yield* sleep(there)
    const { beganSeconds, limit } = limitOf(call.key, secondsOn(clock))
    const answer = limit.arrive(secondsOn(clock) - beganSeconds, call.inputTokens)
    if (answer._tag === "Refuse") {
      const isOurs = answer.status === 503
      stats = isOurs
        ? { ...stats, refused503: stats.refused503 + 1 }
        : { ...stats, refused429: stats.refused429 + 1 }
      yield* sleep((isOurs ? overloadedSeconds : limitedSeconds) + back)
      return respond(request, answer.status, answer.headers, refusalBody(answer))
    }
    yield* sleep(answer.delaySeconds + serviceSeconds)
    limit.complete(secondsOn(clock) - beganSeconds, call.inputTokens, outputTokens)
    stats = { ...stats, served: stats.served + 1 }
    const number = stats.served
    yield* sleep(back)
    return respond(request, 200, answer.headers, completionBody(call, number, outputTokens))
  })

  return TestProvider.of({
    client: HttpClient.make((request) => serve(request)),
    stats: Effect.sync(() => ({ ...stats, keys: limits.size }))
  })
})

/** A provider and, as the `HttpClient`, the way to it. */
export const layer = (
  scenario: Scenario,
  options?: Options
): Layer.Layer<TestProvider | HttpClient.HttpClient> =>
  Layer.effectContext(
    Effect.map(make(scenario, options), (provider) =>
      Context.make(TestProvider, provider).pipe(Context.add(HttpClient.HttpClient, provider.client)))
  )

interface Held {
  readonly limit: ScenarioLimit.ScenarioLimit
  readonly beganSeconds: number
}

/** What of a chat completion matters here. */
interface Call {
  readonly key: string
  readonly model: string
  readonly inputTokens: number
  readonly maxTokens: number
}

const Body = Schema.fromJsonString(Schema.Struct({
  model: Schema.String,
  messages: Schema.Array(Schema.Struct({ content: Schema.Unknown })),
  max_tokens: Schema.optional(Schema.NullOr(Schema.Int))
}))

const readBody = Schema.decodeUnknownOption(Body)

const readCall = (request: HttpClientRequest.HttpClientRequest): Call | undefined => {
  if (request.body._tag !== "Uint8Array") return undefined
  const body = Option.getOrUndefined(readBody(new TextDecoder().decode(request.body.body)))
  if (body === undefined) return undefined
  const characters = body.messages.reduce((sum, { content }) => sum + lengthOf(content), 0)
  return {
    key: `${request.headers["authorization"] ?? ""}\n${body.model}`,
    model: body.model,
    inputTokens: Math.ceil(characters / charactersPerToken),
    maxTokens: Math.max(1, body.max_tokens ?? Infinity)
  }
}

/** Content is a text, or parts (text, image) whose written form stands for their size. */
const lengthOf = (content: unknown): number =>
  typeof content === "string" ? content.length : JSON.stringify(content ?? "").length

const respond = (
  request: HttpClientRequest.HttpClientRequest,
  status: number,
  headers: ScenarioLimit.Headers,
  body: unknown
): HttpClientResponse.HttpClientResponse =>
  HttpClientResponse.fromWeb(
    request,
    new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } })
  )

const completionBody = ({ inputTokens, model }: Call, number: number, outputTokens: number) => ({
  id: `chatcmpl-${number}`,
  object: "chat.completion",
  created: 0,
  model,
  choices: [{ index: 0, message: { role: "assistant", content: "ok" }, finish_reason: "stop" }],
  usage: { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: inputTokens + outputTokens }
})

/** The type stands where Together's body has it, and at the top, where its documentation names it. */
const refusalBody = ({ errorType, message }: ScenarioLimit.Refuse) =>
  errorType === undefined
    ? { error: { message, type: "overloaded" } }
    : { error: { message, type: errorType }, error_type: errorType }

const invalidBody = {
  error: { message: "The body must be a chat completion: model and messages.", type: "invalid_request_error" }
}

const generator = (seed: string): Effect.Effect<() => number> =>
  Random.withSeed(Effect.map(Random.Random, (random) => () => random.nextDoubleUnsafe()), seed)

/** Lognormal, from its median and sigma, by Box and Muller. */
const lognormal = (median: number, sigma: number, draw: () => number): number =>
  median * Math.exp(sigma * Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw()))

const clamp = (least: number, value: number, most: number): number => Math.min(most, Math.max(least, value))

const rttHalf = ({ latency }: Scenario, draw: () => number): number =>
  lognormal(latency.rttSeconds / 2, latency.rttSigma, draw)

const drawOutputTokens = ({ tokens }: Scenario, call: Call, draw: () => number): number => {
  const drawn = Math.round(lognormal(outputMedianTokens, tokens === null ? outputSigma : limitedOutputSigma, draw))
  return clamp(1, drawn, Math.min(call.maxTokens, mostOutputTokens))
}

/** Where tokens are limited the length of the output sets the time; elsewhere it is drawn by itself. */
const drawServiceSeconds = ({ latency, tokens }: Scenario, outputTokens: number, draw: () => number): number =>
  tokens === null
    ? clamp(
      leastServiceSeconds,
      lognormal(latency.serviceMedianSeconds, latency.serviceSigma, draw),
      mostServiceSeconds
    )
    : clamp(
      leastServiceSeconds,
      lognormal(latency.firstTokenSeconds, firstTokenSigma, draw) + latency.perTokenSeconds * outputTokens,
      mostTokenServiceSeconds
    )

const secondsOn = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e9

const sleep = (seconds: number): Effect.Effect<void> => Effect.sleep(Duration.seconds(seconds))

/** More keys than a test uses; a limit is some hundred bytes. */
const defaultMaxKeys = 1024

/** How soon a refusal is answered, as the control study's server does. */
const limitedSeconds = 0.005
const overloadedSeconds = 0.02

/** The usual estimate for English text. */
const charactersPerToken = 4

/** The control study's jobs: outputs, and the bounds of the service time. */
const outputMedianTokens = 250
const outputSigma = 0.5
const limitedOutputSigma = 1.2
const mostOutputTokens = 4096
const firstTokenSigma = 0.3
const leastServiceSeconds = 0.2
const mostServiceSeconds = 20
const mostTokenServiceSeconds = 60
