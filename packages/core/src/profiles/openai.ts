/**
 * OpenAI's ways, as data.
 *
 * Here belongs what differs from other providers. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * A family of names for each limited sum, resets as durations, which tell when the limit is whole again. The window is not
 * in the names: the same `requests` header counts per minute for one account and per day for another, which the figures
 * give away. A call is charged the larger of `max_tokens` and its input; refused calls count.
 *
 * **Source**
 *
 * developers.openai.com (rate limits, error codes, flexible processing) and recorded responses of 2024 to 2026.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** OpenAI's ways. */
export const ways: Ways = usual("openai", ["api.openai.com", "*.api.openai.com"], {
  dialect: {
    resetForm: "duration",
    windows: { requests: "arithmetic", tokens: "arithmetic" },
    spelling: { requests: "x-ratelimit-{}-requests", tokens: "x-ratelimit-{}-tokens" }
  },
  charging: {
    admission: "larger of input and bound",
    settlement: "reserved",
    cachedInput: "counts",
    refusals: "count"
  },
  // Of the flexible tier, which runs on capacity that is left over.
  signs: [{ status: 429, message: /^Resource Unavailable\b/i, means: "Overloaded", here: true }]
})
