/**
 * Why a call was not sent.
 *
 * Here belongs the closed set of reasons for which a pacer lets a call go unsent. What the provider answered is an
 * `ApiError`; the call's own error passes through untouched.
 */
import * as Data from "effect/Data"
import type { Key } from "./Demand.ts"
import type { Outcome } from "./Outcome.ts"

/**
 * It could not start by its deadline.
 *
 * **Units**
 *
 * `waitedMillis` since the call was offered.
 *
 * **Details**
 *
 * `last` is the verdict on the last attempt, when there was one.
 */
export class TooLate extends Data.TaggedClass("TooLate")<{
  readonly waitedMillis: number
  readonly last: Outcome | undefined
}> {}

/** As many calls wait as the queue holds. */
export class QueueFull extends Data.TaggedClass("QueueFull")<{ readonly capacity: number }> {}

/** It costs more than the limit can ever grant, so waiting cannot help. */
export class LargerThanLimit extends Data.TaggedClass("LargerThanLimit")<{
  readonly dimension: string
  readonly cost: number
  readonly limit: number
}> {}

/**
 * The key, the credential or the whole pacer is closed.
 *
 * **Units**
 *
 * `forMillis` from now until it opens, `Infinity` when nothing that we can see will open it.
 */
export class Closed extends Data.TaggedClass("Closed")<{
  readonly scope: "key" | "credential" | "pacer"
  readonly reason: string
  readonly forMillis: number
  readonly last: Outcome | undefined
}> {}

/** More keys are in use than the pacer keeps. */
export class TooManyKeys extends Data.TaggedClass("TooManyKeys")<{ readonly capacity: number }> {}

/** The store that shares the pace did not answer, and no share was ever borrowed. */
export class StoreUnavailable extends Data.TaggedClass("StoreUnavailable")<{ readonly cause: unknown }> {}

/** Why a call was not sent. */
export type Reason = TooLate | QueueFull | LargerThanLimit | Closed | TooManyKeys | StoreUnavailable

/**
 * A call was not sent, or not sent again.
 *
 * **Example** (Telling reasons apart)
 *
 * ```ts
 * import * as Demand from "@evenkeel/core/Demand"
 * import * as PaceError from "@evenkeel/core/PaceError"
 *
 * const error = new PaceError.PaceError({
 *   key: Demand.key("https://api.example", "acme", "llama"),
 *   reason: new PaceError.QueueFull({ capacity: 100 })
 * })
 *
 * error.message // => "not sent: 100 calls are waiting already, which is all the queue holds"
 * ```
 */
export class PaceError extends Data.TaggedError("PaceError")<{
  readonly key: Key
  readonly reason: Reason
}> {
  override get message(): string {
    return describe(this.reason)
  }
}

/** One plain sentence for a reason. */
export const describe = (reason: Reason): string => {
  switch (reason._tag) {
    case "TooLate":
      return `not sent: it could not start by its deadline (waited ${seconds(reason.waitedMillis)})`
    case "QueueFull":
      return `not sent: ${reason.capacity} calls are waiting already, which is all the queue holds`
    case "LargerThanLimit":
      return `not sent: it costs ${reason.cost} ${reason.dimension}, and the limit never grants more than ${reason.limit}`
    case "Closed":
      return reason.forMillis === Infinity
        ? `not sent: the ${reason.scope} is closed (${reason.reason})`
        : `not sent: the ${reason.scope} is closed for another ${seconds(reason.forMillis)} (${reason.reason})`
    case "TooManyKeys":
      return `not sent: ${reason.capacity} keys are in use already, which is all the pacer keeps`
    case "StoreUnavailable":
      return "not sent: the store that shares the pace does not answer"
  }
}

const seconds = (millis: number): string => `${Math.round(millis / 100) / 10} s`
