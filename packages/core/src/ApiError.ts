/**
 * The provider's refusals and failures, typed.
 *
 * Here belongs the closed set of what can be wrong with an answer, with whose doing it is and what the caller can do.
 * Telling which one an answer is belongs to `ProviderProfile`; what was never sent is a `PaceError`.
 *
 * **Source**
 *
 * RFC 9110 and 6585 for the statuses, the providers' own error pages for the types.
 */
import * as Data from "effect/Data"
import type { Dimension } from "./Demand.ts"

/** Whose doing a refusal is. */
export type Attribution = "caller" | "account" | "platform" | "upstream" | "edge" | "unknown"

/**
 * What every reason carries.
 *
 * **Units**
 *
 * `retryAfterSeconds` is a usable hint, or undefined.
 *
 * **Details**
 *
 * `retryable`: can the same request succeed within minutes? `message` is the provider's own, cut to 500 characters.
 * `type` and `code` as the provider wrote them. `midStream`: the failure came after the answer had begun.
 */
export interface Details {
  readonly status: number
  readonly message: string
  readonly type: string | undefined
  readonly code: string | undefined
  readonly attribution: Attribution
  readonly dimension: Dimension | undefined
  readonly retryable: boolean
  readonly retryAfterSeconds: number | undefined
  readonly midStream: boolean
}

/** Sent faster than the limit. **What to do**: wait; the pacer does. */
export class RateLimited extends Data.TaggedClass("RateLimited")<Details> {}

/** A budget (a day, a month, money) is spent. **What to do**: wait for its reset, or pay. */
export class QuotaExhausted extends Data.TaggedClass("QuotaExhausted")<Details> {}

/** The platform had no capacity; not due to our traffic. **What to do**: send again later, nothing ran. */
export class Overloaded extends Data.TaggedClass("Overloaded")<Details> {}

/** Larger than the limit can ever grant. **What to do**: split the request. */
export class RequestTooLarge extends Data.TaggedClass("RequestTooLarge")<Details> {}

/** Longer than the model takes. **What to do**: shorten the input or lower `max_tokens`. */
export class ContextLength extends Data.TaggedClass("ContextLength")<Details> {}

/** The credential was not accepted. **What to do**: check the key. */
export class Unauthorized extends Data.TaggedClass("Unauthorized")<Details> {}

/** Not allowed for this credential. **What to do**: ask for access. */
export class PermissionDenied extends Data.TaggedClass("PermissionDenied")<Details> {}

/** No such model or path. **What to do**: check the name. */
export class NotFound extends Data.TaggedClass("NotFound")<Details> {}

/** The resource is in another state. **What to do**: look, then decide. */
export class Conflict extends Data.TaggedClass("Conflict")<Details> {}

/** The request is malformed. **What to do**: correct it. */
export class InvalidRequest extends Data.TaggedClass("InvalidRequest")<Details> {}

/** The provider failed while working. **What to do**: send again; it may have been billed. */
export class ServerError extends Data.TaggedClass("ServerError")<Details> {}

/** Something in front of the provider answered. **What to do**: send again; it may have run. */
export class GatewayError extends Data.TaggedClass("GatewayError")<Details> {}

/** No answer in time. **What to do**: send again; it may have run. */
export class Timeout extends Data.TaggedClass("Timeout")<Details> {}

/** The closed set of reasons. */
export type Reason =
  | RateLimited
  | QuotaExhausted
  | Overloaded
  | RequestTooLarge
  | ContextLength
  | Unauthorized
  | PermissionDenied
  | NotFound
  | Conflict
  | InvalidRequest
  | ServerError
  | GatewayError
  | Timeout

/**
 * One refusal or failure, as the provider told it.
 *
 * **Example** (A message that says whose doing it was)
 *
 * ```ts
 * import * as ApiError from "@evenkeel/core/ApiError"
 *
 * const error = new ApiError.ApiError({
 *   reason: new ApiError.Overloaded({
 *     status: 503,
 *     message: "The model is overloaded.",
 *     type: undefined,
 *     code: undefined,
 *     attribution: "platform",
 *     dimension: undefined,
 *     retryable: true,
 *     retryAfterSeconds: undefined,
 *     midStream: false
 *   })
 * })
 *
 * error.message // => "503 Overloaded (platform): The model is overloaded."
 * ```
 */
export class ApiError extends Data.TaggedError("ApiError")<{ readonly reason: Reason }> {
  override get message(): string {
    const { _tag, attribution, message, status } = this.reason
    return `${status} ${_tag} (${attribution})${message === "" ? "" : `: ${message}`}`
  }
}
