/**
 * Anthropic's ways, as data.
 *
 * Here belongs what differs from other providers. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * Limits are per minute, of requests, input and output; `tokens` is the most restrictive of them. Resets are dates, mostly
 * in the past, and tell when the limit is whole again. What was read from the cache is free, and `max_tokens` is not
 * counted. A 429 that says nothing but "Rate limited" is capacity as often as not.
 *
 * **Source**
 *
 * platform.claude.com (rate limits, errors), `@anthropic-ai/sdk` 1.11, recorded responses of 2024 to 2026, and reports.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** Anthropic's ways. */
export const ways: Ways = usual("anthropic", ["api.anthropic.com"], {
  aliases: ["claude"],
  dialect: {
    windows: { requests: 60, tokens: 60, inputTokens: 60, outputTokens: 60 },
    // The one header that a subscription's 429 may carry.
    resetHint: "anthropic-ratelimit-unified-reset"
  },
  limited: ["requests", "inputTokens", "outputTokens"],
  charging: { admission: "input", settlement: "used", cachedInput: "free", refusals: "unknown" },
  signs: [
    { status: 529, means: "Overloaded" },
    { kind: "enforced_spend_limit_reached", means: "QuotaExhausted" },
    {
      status: 400,
      message: /^You have reached your specified (?:workspace )?API usage limits\b/,
      means: "QuotaExhausted"
    },
    { status: 400, message: /^Your credit balance is too low to access the Anthropic API\b/, means: "QuotaExhausted" },
    { status: 400, message: /^prompt is too long: \d+ tokens > \d+ maximum/, means: "ContextLength" }
  ],
  attributionOf429: "unknown",
  requestIdHeaders: ["request-id"]
})
