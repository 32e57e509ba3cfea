/**
 * What one provider does in its own way, as data.
 *
 * Here belong the shapes that a provider's table is written in; the tables are in `profiles`, one file each, and what is
 * made of them is a `ProviderProfile`. Whoever adds a provider writes what differs from the usual, and a fixture.
 */
import type { Attribution, Reason } from "./ApiError.ts"
import type { Dimension } from "./Demand.ts"
import type { Dialect, Headers } from "./RateLimitHeaders.ts"

/**
 * What tells a meaning that the usual rules do not.
 *
 * **Shape**
 *
 * | member | says |
 * | --- | --- |
 * | `status`, `kind`, `message` | when it applies: all that are given must match |
 * | `means` | the reason that it is |
 * | `attribution`, `dimension`, `retryable` | what else is known, where that differs from what the reason says |
 * | `closes: false` | it is of this one request, and stops no other |
 *
 * **Details**
 *
 * `kind` is a type or code as the provider writes it. `message` is a sentence with which this provider says just this;
 * no single word, for providers use the same words for a throttle and for a spent budget. A sign without `kind` or
 * `message`, or with `here`, applies to this provider only; the others also to answers of unknown providers.
 */
export interface Sign {
  readonly status?: number
  readonly kind?: string
  readonly message?: RegExp
  readonly means: Reason["_tag"]
  readonly attribution?: Attribution
  readonly dimension?: Dimension
  readonly retryable?: false
  readonly closes?: false
  readonly here?: true
}

/**
 * What a call is charged against the provider's limits of tokens.
 *
 * **Shape**
 *
 * `admission`: what is charged when a call is let in. `input and bound` counts `max_tokens` whole, `larger of input and
 * bound` the larger of both, `input` leaves the output to be counted as it is made, `nothing` is for calls without tokens.
 *
 * `settlement`: at the end `used` is what counts, or what was `reserved` stands.
 *
 * `cachedInput`: tokens of the input that come from the provider's cache `count`, or are `free`.
 *
 * `refusals`: refused calls `count` against the limit of requests, or are `free`; `unknown` where nobody says.
 */
export interface Charging {
  readonly admission: "input and bound" | "larger of input and bound" | "input" | "nothing"
  readonly settlement: "used" | "reserved"
  readonly cachedInput: "counts" | "free"
  readonly refusals: "count" | "free" | "unknown"
}

/**
 * One provider's ways.
 *
 * **Details**
 *
 * `aliases` are other names that people use for it, in small letters. `origins` are its host names, `*` for any part; keys
 * use the first, unless it has a `*`: such hosts are limited each by itself. `modelIn` finds the model in the path of a URL,
 * where bodies do not tell it. `dialectFor` chooses a dialect by the names that a response carries, where that differs.
 * `limited` are the sums that it limits. `attributionOf429` is whose doing a 429 is that says nothing more.
 * `requestIdHeaders` are those that name a call. `idempotencyHeader` is where a key goes that lets a call be sent again
 * unharmed; hardly any provider of models has one.
 */
export interface Ways {
  readonly name: string
  readonly aliases?: ReadonlyArray<string>
  readonly origins: ReadonlyArray<string>
  readonly modelIn?: RegExp
  readonly dialect: Dialect
  readonly dialectFor?: (headers: Headers) => Dialect
  readonly limited: ReadonlyArray<Dimension>
  readonly charging: Charging
  readonly signs?: ReadonlyArray<Sign>
  readonly attributionOf429: Attribution
  readonly requestIdHeaders: ReadonlyArray<string>
  readonly idempotencyHeader: string | undefined
}

/** What is taken for granted of a provider that tells nothing else: the careful assumption in each case. */
export const usualCharging: Charging = {
  admission: "input and bound",
  settlement: "used",
  cachedInput: "counts",
  refusals: "unknown"
}

/**
 * The ways of a provider that differs from the usual by what is given, and by nothing else.
 *
 * **Details**
 *
 * The usual: a 429 is a refusal, and ours; requests and tokens are limited; `x-request-id` names a call; what is charged is
 * `usualCharging`.
 *
 * **Example** (Requests of an hour)
 *
 * ```ts
 * import * as ProviderWays from "@evenkeel/core/ProviderWays"
 *
 * const ways = ProviderWays.usual("acme", ["api.acme.example"], { dialect: { windows: { requests: 3600 } } })
 *
 * ways.dialect // => { name: "acme", refusals: [429], windows: { requests: 3600 } }
 * ```
 */
export const usual = (
  name: string,
  origins: ReadonlyArray<string>,
  more?: Partial<Omit<Ways, "name" | "origins" | "dialect">> & { readonly dialect?: Partial<Omit<Dialect, "name">> }
): Ways => ({
  name,
  origins,
  limited: ["requests", "tokens"],
  charging: usualCharging,
  attributionOf429: "caller",
  requestIdHeaders: ["x-request-id"],
  idempotencyHeader: undefined,
  ...more,
  dialect: { name, refusals: [429], ...more?.dialect }
})
