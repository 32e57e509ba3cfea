/**
 * What people do today: so many calls at once, and each tried again after a growing delay, as the official SDKs do it.
 *
 * Here belongs the other side of `evenkeel demo`, as strong as the SDKs ship it and no stronger. Nothing in it paces.
 *
 * **Source**
 *
 * `retryRequest` and `shouldRetry` of the SDKs that Stainless generates, read in openai 6.49.0 for TypeScript: 2 retries
 * on 408, 409, 429, 5xx and lost connections, after what `retry-after-ms` or `Retry-After` say, else after
 * 0.5 s * 2^n up to 8 s, less up to a quarter at random. together-ai 0.52.0 differs in that it begins with 1 s, ends with
 * 10 s, and does not retry 500.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Random from "effect/Random"

/**
 * How many calls at once, and how often one is tried again.
 *
 * **Units**
 *
 * `concurrency` in calls, `maxRetries` in tries after the first.
 */
export interface Settings {
  readonly concurrency: number
  readonly maxRetries: number
}

/** As the SDKs ship: two retries. How many calls at once is the caller's choice there; 32 is a common one. */
export const defaults: Settings = { concurrency: 32, maxRetries: 2 }

/** Response headers by their names in lower case. */
export type Headers = Readonly<Record<string, string | undefined>>

/**
 * Sends every request once it is its turn, and tells `onEnd` of each whether it was answered or given up.
 *
 * **Details**
 *
 * Any 2xx whose body arrives whole is an answer. A failed body is given up, as the SDKs do. Jitter is drawn from the
 * `Random` in the context.
 */
export const run = (
  requests: ReadonlyArray<HttpClientRequest>,
  settings: Settings,
  onEnd: (answered: boolean) => void
): Effect.Effect<void, never, HttpClient.HttpClient> =>
  Effect.flatMap(Effect.service(HttpClient.HttpClient), (client) =>
    Effect.forEach(
      requests,
      (request) => Effect.map(send(client, request, settings.maxRetries), onEnd),
      { concurrency: settings.concurrency, discard: true }
    ))

/**
 * Does an SDK try again after this answer?
 *
 * **Details**
 *
 * `x-should-retry` overrides the status.
 */
export const isRetried = (status: number, headers: Headers): boolean => {
  const told = headers["x-should-retry"]
  if (told === "true" || told === "false") return told === "true"
  return status === 408 || status === 409 || status === 429 || status >= 500
}

/**
 * How long an SDK waits before it tries again.
 *
 * **Units**
 *
 * Milliseconds, 0 or more. `retry` is 0 for the first retry, `random` from 0 to 1, `nowMillis` wall-clock time.
 *
 * **Details**
 *
 * What a header says is not bounded: so it is in the SDKs. A `retry-after-ms` of 0 counts as none.
 */
export const delayMillis = (options: {
  readonly retry: number
  readonly headers: Headers
  readonly nowMillis: number
  readonly random: number
}): number => {
  const { headers, nowMillis, random, retry } = options
  const told = toldMillis(headers, nowMillis)
  if (told !== undefined) return Math.max(0, told)
  return Math.min(firstDelayMillis * 2 ** retry, mostDelayMillis) * (1 - jitter * random)
}

/** One request through all its tries: whether it was answered. */
const send = Effect.fnUntraced(function*(
  client: HttpClient.HttpClient,
  request: HttpClientRequest,
  maxRetries: number
) {
  for (let retry = 0;; retry++) {
    const response = Option.getOrUndefined(yield* Effect.option(client.execute(request)))
    if (response !== undefined && response.status < 300) {
      return Option.isSome(yield* Effect.option(response.text))
    }
    if (response !== undefined) yield* Effect.ignore(response.text)
    if (retry >= maxRetries || (response !== undefined && !isRetried(response.status, response.headers))) return false
    const nowMillis = yield* Clock.currentTimeMillis
    yield* Effect.sleep(delayMillis({ retry, headers: response?.headers ?? {}, nowMillis, random: yield* Random.next }))
  }
})

/** The first header that says when again: milliseconds, then seconds, then a date. */
const toldMillis = (headers: Headers, nowMillis: number): number | undefined => {
  const millis = Number.parseFloat(headers["retry-after-ms"] ?? "")
  if (Number.isFinite(millis) && millis !== 0) return millis
  const after = headers["retry-after"]
  if (after === undefined) return undefined
  const seconds = Number.parseFloat(after)
  if (Number.isFinite(seconds)) return seconds * 1000
  const untilMillis = Date.parse(after) - nowMillis
  return Number.isFinite(untilMillis) ? untilMillis : undefined
}

const firstDelayMillis = 500

const mostDelayMillis = 8_000

/** Up to this part of a delay is taken off. */
const jitter = 0.25
