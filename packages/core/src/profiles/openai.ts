/**
 * OpenAI's ways, as data.
 *
 * Here belongs what differs from other providers: hosts and header names. How it is applied belongs to
 * `ProviderProfile`.
 *
 * **Source**
 *
 * developers.openai.com (rate limits, error codes) and recorded responses of 2024 to 2026. The window is not in the
 * names: the same `requests` header counts per minute for one account and per day for another.
 */
import type { Dialect, LimitFields } from "../RateLimitHeaders.ts"

const fields = (suffix: string, dimension: "requests" | "tokens"): LimitFields => ({
  dimension,
  ...(suffix === dimension ? {} : { policy: suffix }),
  limit: `x-ratelimit-limit-${suffix}`,
  remaining: `x-ratelimit-remaining-${suffix}`,
  reset: `x-ratelimit-reset-${suffix}`,
  resetForm: "duration",
  windowSeconds: "arithmetic"
})

/** How OpenAI speaks of limits: a family of names for each limited sum, resets as durations. */
export const dialect: Dialect = {
  name: "openai",
  limits: [
    fields("requests", "requests"),
    fields("tokens", "tokens"),
    fields("project-tokens", "tokens"),
    fields("tokens_usage_based", "tokens")
  ],
  refusals: [429]
}

/** OpenAI's ways. */
export const ways = {
  name: "openai",
  origins: ["api.openai.com"],
  dialect,
  attributionOf429: "caller",
  requestIdHeaders: ["x-request-id"],
  idempotencyHeader: undefined
} as const
