/**
 * The verdict on one attempt, and what the response said about limits.
 *
 * Here belongs what crosses from the edge to the controller and the retry policy: one `Outcome` for each attempt. Reading
 * headers belongs to `RateLimitHeaders`, deciding which outcome an answer is to `ProviderProfile`.
 */
import type { ApiError } from "./ApiError.ts"
import type { Dimension } from "./Demand.ts"

/**
 * What one response said of one limit.
 *
 * **Units**
 *
 * `limit` and `remaining` as the provider counts them; `resetSeconds` from the response; `windowSeconds` is the span that
 * `limit` covers, where it is known. Absent is *unknown*: never zero, never without limit.
 *
 * **Details**
 *
 * `ratePerSecond` is there only where the unit is known (from a profile, a policy or the arithmetic of the figures).
 * `policy` names one of several limits on the same sum. `aside` says that the limit covers only a part of the traffic, a
 * day or longer, or was not told as such: it stands beside the one that the sum is known by. A sum that is none of ours
 * (images, bytes) is `other`, with its name in `policy`.
 */
export interface LimitReading {
  readonly dimension: Dimension | "other"
  readonly limit?: number
  readonly remaining?: number
  readonly resetSeconds?: number
  readonly windowSeconds?: number
  readonly ratePerSecond?: number
  readonly policy?: string
  readonly partitionKey?: string
  readonly aside?: true
}

/**
 * A limit that a response declares, without saying what is left of it.
 *
 * **Units**
 *
 * `limit` in `unit` (requests where it says none) in each `windowSeconds`, absent where it is not known.
 */
export interface Policy {
  readonly name?: string
  readonly limit: number
  readonly windowSeconds?: number
  readonly unit?: string
  readonly partitionKey?: string
}

/** Where a retry hint came from: the field or body member that won. */
export type RetryAfterSource = string

/**
 * All that one response said about limits.
 *
 * **Details**
 *
 * Several limits may stand on one sum (per minute and per day). `malformed` keeps the raw text of what could not be read.
 */
export interface Reading {
  readonly limits: ReadonlyArray<LimitReading>
  readonly policies: ReadonlyArray<Policy>
  readonly retryAfterSeconds: number | undefined
  readonly retryAfterSource: RetryAfterSource | undefined
  readonly malformed: ReadonlyArray<{ readonly name: string; readonly raw: string }>
}

/** A response that said nothing. */
export const nothingRead: Reading = {
  limits: [],
  policies: [],
  retryAfterSeconds: undefined,
  retryAfterSource: undefined,
  malformed: []
}

/**
 * What stops as a consequence of a refusal, and for how long.
 *
 * **Units**
 *
 * `forMillis` from now; `Infinity` when nothing that we can see will end it.
 */
export interface Closure {
  readonly scope: "key" | "credential"
  readonly forMillis: number
  readonly reason: "quota" | "payment" | "unauthorized" | "unknown model"
}

/**
 * The verdict on one attempt.
 *
 * **Shape**
 *
 * | tag | means | may teach |
 * | --- | --- | --- |
 * | `Accepted` | the provider took it | the limit holds |
 * | `Limited` | refused: our traffic, `dimension` says which sum | the pace is too high |
 * | `Overloaded` | refused: its capacity, or never connected | capacity only |
 * | `Unknown` | sent, and no verdict: reset, timeout, 502, 504, 524 | nothing |
 * | `Failed` | the provider failed (500) | nothing |
 * | `Ignored` | an answer that says nothing about limits (other 4xx) | nothing |
 *
 * **Details**
 *
 * `connected` is false when no connection was ever made, which is certain not to have run. `final` says that the same
 * request cannot succeed within minutes (a spent quota, a request larger than the limit), whatever the tag. `closes`
 * says what else stops. `error` is the typed refusal, for the caller.
 */
export interface Outcome {
  readonly _tag: "Accepted" | "Limited" | "Overloaded" | "Unknown" | "Failed" | "Ignored"
  readonly dimension: Dimension | undefined
  readonly reading: Reading
  readonly retryAfterMillis: number | undefined
  readonly connected: boolean
  readonly final: boolean
  readonly closes: Closure | undefined
  readonly error: ApiError | undefined
}

const make = (tag: Outcome["_tag"]) => (options?: Partial<Omit<Outcome, "_tag">>): Outcome => ({
  _tag: tag,
  dimension: options?.dimension,
  reading: options?.reading ?? nothingRead,
  retryAfterMillis: options?.retryAfterMillis,
  connected: options?.connected ?? true,
  final: options?.final ?? (tag === "Ignored"),
  closes: options?.closes,
  error: options?.error
})

/** The provider took it. */
export const accepted = make("Accepted")

/** Refused because of our traffic. */
export const limited = make("Limited")

/** Refused because of the provider's capacity, or never connected. */
export const overloaded = make("Overloaded")

/** Sent, and nobody knows what became of it. */
export const unknown = make("Unknown")

/** The provider tried and failed. */
export const failed = make("Failed")

/** An answer that says nothing about limits. */
export const ignored = make("Ignored")

/**
 * Is it certain that the attempt did not run, so that sending it again costs nothing?
 *
 * **Details**
 *
 * True for 429, 503 and a connection that was never made.
 */
export const neverRan = (outcome: Outcome): boolean => outcome._tag === "Limited" || outcome._tag === "Overloaded"
