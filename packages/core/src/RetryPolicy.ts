/**
 * Whether an attempt is made again, and after what delay.
 *
 * Here belong the policy as data, its pure decision, the retry allowance of a key, and the same policy as an Effect
 * `Schedule`. What an answer means is an `Outcome`; waiting belongs to `Pacer`.
 *
 * **Source**
 *
 * Exponential back-off with equal jitter; a token bucket for retries after the AWS SDKs' retry quota.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Outcome from "./Outcome.ts"

/**
 * A policy, as data.
 *
 * **Units**
 *
 * `maxFailures` and `maxRefusals` count attempts that ended so; `Infinity` for no bound.
 *
 * **Details**
 *
 * *Failures* are `Failed` and `Unknown`. *Refusals* are `Limited` and `Overloaded`, which are certain not to have run.
 * `retryUnknown`: may a call be sent again that may have run, and been billed? `"idempotent"` says only where the demand
 * says that sending twice is harmless.
 */
export interface RetryPolicy {
  readonly maxFailures: number
  readonly maxRefusals: number
  readonly retryUnknown: boolean | "idempotent"
}

/** For libraries: two more tries after a failure, ten after refusals, and what may have run only where that is harmless. */
export const standard: RetryPolicy = { maxFailures: 2, maxRefusals: 10, retryUnknown: "idempotent" }

/** For jobs that must finish: refusals are waited out for as long as the deadline lets them. */
export const persistent: RetryPolicy = { maxFailures: 5, maxRefusals: Infinity, retryUnknown: true }

/** No attempt after the first. */
export const never: RetryPolicy = { maxFailures: 0, maxRefusals: 0, retryUnknown: false }

/** How often a call was tried so far. */
export interface Attempts {
  readonly failures: number
  readonly refusals: number
}

/** Before the first attempt. */
export const noAttempts: Attempts = { failures: 0, refusals: 0 }

/**
 * Again, after a delay; or no more.
 *
 * **Units**
 *
 * `delayMillis` from now, at most 2³¹−1.
 */
export type Decision =
  | { readonly _tag: "Again"; readonly delayMillis: number; readonly attempts: Attempts; readonly reason: string }
  | { readonly _tag: "Stop"; readonly reason: string }

/**
 * Decides on an attempt that ended.
 *
 * **Units**
 *
 * `chance` is a random number from 0 up to 1.
 *
 * **Details**
 *
 * Pure. The delay doubles with each refusal or failure of the same kind, is multiplied by a factor from 0.5 to 1, and is
 * never shorter than the provider's hint, to which up to a tenth is added so that a crowd does not return at once. A hint
 * beyond a timer's range ends the tries: the caller is told, not made to sleep.
 */
export const decide = (
  policy: RetryPolicy,
  attempts: Attempts,
  outcome: Outcome.Outcome,
  options: { readonly idempotent: boolean; readonly chance: number }
): Decision => {
  if (outcome._tag === "Accepted") return stop("answered")
  if (outcome.final) return stop("cannot succeed")
  const refusal = Outcome.neverRan(outcome)
  if (refusal && attempts.refusals >= policy.maxRefusals) return stop("refusals spent")
  if (!refusal && attempts.failures >= policy.maxFailures) return stop("retries spent")
  if (outcome._tag === "Unknown" && !mayRepeat(policy, options.idempotent)) return stop("may have run")
  const next = refusal
    ? { failures: attempts.failures, refusals: attempts.refusals + 1 }
    : { failures: attempts.failures + 1, refusals: attempts.refusals }
  const [base, cap] = outcome._tag === "Limited" ? limitedBackoff : otherBackoff
  const doubled = Math.min(cap, base * 2 ** Math.min(20, refusal ? attempts.refusals : attempts.failures))
  const backoff = doubled * (0.5 + 0.5 * options.chance)
  const hint = outcome.retryAfterMillis === undefined ? 0 : outcome.retryAfterMillis * (1 + 0.1 * options.chance)
  const delayMillis = Math.max(backoff, hint)
  return delayMillis > maxTimerMillis
    ? stop("hint too far away")
    : { _tag: "Again", delayMillis, attempts: next, reason: outcome._tag }
}

/**
 * How many retries a key has left at an instant.
 *
 * **Units**
 *
 * `retries` a count, `atMillis` on the pacing clock.
 */
export interface Allowance {
  readonly retries: number
  readonly atMillis: number
}

/** A full allowance. */
export const allowance = (now: number): Allowance => ({ retries: allowanceCapacity, atMillis: now })

/** An accepted call earns a part of a retry. */
export const earn = (self: Allowance): Allowance => ({
  retries: Math.min(allowanceCapacity, self.retries + earnedPerSuccess),
  atMillis: self.atMillis
})

/**
 * Takes one retry from the allowance.
 *
 * **Units**
 *
 * The delay in milliseconds that the allowance adds.
 *
 * **Details**
 *
 * An empty allowance goes into debt and delays: it never drops a call, and never delays by more than five seconds.
 */
export const draw = (self: Allowance, now: number): readonly [Allowance, delayMillis: number] => {
  const elapsed = Math.max(0, now - self.atMillis) / 1000
  const retries = Math.max(
    -maxDebt,
    Math.min(allowanceCapacity, self.retries + elapsed * earnedPerSecond) - 1
  )
  return [{ retries, atMillis: now }, retries >= 0 ? 0 : (-retries / earnedPerSecond) * 1000]
}

/**
 * The policy as an Effect `Schedule`, for retries outside a pacer.
 *
 * **Details**
 *
 * Its input is the outcome of each attempt; it ends where `decide` stops. It knows no allowance.
 */
export const schedule = (
  policy: RetryPolicy,
  options: { readonly idempotent: boolean }
): Schedule.Schedule<Attempts, Outcome.Outcome> =>
  Schedule.fromStep(Effect.sync(() => {
    let attempts = noAttempts
    return (_now: number, outcome: Outcome.Outcome) =>
      Effect.flatMap(Random.next, (chance) => {
        const decision = decide(policy, attempts, outcome, { idempotent: options.idempotent, chance })
        if (decision._tag === "Stop") return Cause.done(attempts)
        attempts = decision.attempts
        return Effect.succeed([attempts, Duration.millis(decision.delayMillis)] as [Attempts, Duration.Duration])
      })
  }))

/** The policy in force, `standard` unless a Layer says otherwise. */
export const Current = Context.Reference<RetryPolicy>("@evenkeel/core/RetryPolicy", {
  defaultValue: () => standard
})

const stop = (reason: string): Decision => ({ _tag: "Stop", reason })

const mayRepeat = (policy: RetryPolicy, idempotent: boolean): boolean =>
  policy.retryUnknown === "idempotent" ? idempotent : policy.retryUnknown

/** First and longest back-off after a 429, ms: short, because the pacer already spaces what follows. */
const limitedBackoff = [100, 4_000] as const

/** First and longest back-off after a 503 or a failure, ms. */
const otherBackoff = [500, 8_000] as const

/** The longest delay that a timer can hold, ms. */
const maxTimerMillis = 2 ** 31 - 1

/** Retries that may be spent at once. */
const allowanceCapacity = 500

/** One retry for every two successes: a third of all attempts may be retries before they are slowed down. */
const earnedPerSuccess = 0.5

/** Retries a second that are always allowed, so that nothing waits for ever. */
const earnedPerSecond = 10

/** Debt beyond which it stops growing: five seconds' worth. */
const maxDebt = 50
