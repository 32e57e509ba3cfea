/**
 * Together AI's ways, as data.
 *
 * Here belongs what differs from other providers: hosts, header names, the meaning of a status. How it is applied belongs
 * to `ProviderProfile`.
 *
 * **Source**
 *
 * docs.together.ai (rate limits, error codes), its OpenAPI description, and a recorded response of June 2024. The 429 text
 * of 2024 prints "600 RPM (10 QPS)": limits are enforced per second.
 */
import type { Dialect } from "../RateLimitHeaders.ts"

/** How Together speaks of limits: per second, plain and dynamic. */
export const dialect: Dialect = {
  name: "together",
  limits: [
    {
      dimension: "requests",
      limit: "x-ratelimit-limit",
      remaining: "x-ratelimit-remaining",
      reset: "x-ratelimit-reset",
      resetForm: "seconds",
      windowSeconds: 1
    },
    {
      dimension: "tokens",
      limit: "x-tokenlimit-limit",
      remaining: "x-tokenlimit-remaining",
      reset: "x-tokenlimit-reset",
      resetForm: "seconds",
      windowSeconds: 1
    },
    {
      dimension: "requests",
      policy: "dynamic",
      limit: "x-ratelimit-limit-dynamic",
      remaining: "x-ratelimit-remaining-dynamic",
      reset: "x-ratelimit-reset-dynamic",
      resetForm: "seconds",
      windowSeconds: 1
    },
    {
      dimension: "tokens",
      policy: "dynamic",
      limit: "x-tokenlimit-limit-dynamic",
      remaining: "x-tokenlimit-remaining-dynamic",
      reset: "x-tokenlimit-reset-dynamic",
      resetForm: "seconds",
      windowSeconds: 1
    }
  ],
  refusals: [429],
  resetHint: "x-ratelimit-reset"
}

/**
 * Together's ways.
 *
 * **Details**
 *
 * 403 is an input longer than the model takes. Whether a 500 may succeed when sent again is contested: Together's
 * TypeScript client never tries, its Python client does.
 */
export const ways = {
  name: "together",
  origins: ["api.together.xyz", "api.together.ai", "*.together.ai"],
  dialect,
  attributionOf429: "caller",
  contextLengthStatus: 403,
  doubtfulStatuses: [500],
  requestIdHeaders: ["x-request-id", "x-together-traceid"],
  idempotencyHeader: undefined
} as const
