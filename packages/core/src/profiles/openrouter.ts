/**
 * OpenRouter's ways, as data.
 *
 * Here belongs what differs from other providers. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * Limits are not in headers but within the body of a 429. A 429 that names a provider behind it is that one's capacity,
 * shared by all. Of what is about money, only the budget of calls in flight comes back by itself. An error may come under
 * status 200, with the status that it stands for as its code.
 *
 * **Source**
 *
 * openrouter.ai/docs (limits, errors), a recorded response, and reports.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** OpenRouter's ways. */
export const ways: Ways = usual("openrouter", ["openrouter.ai"], {
  limited: ["requests"],
  charging: { admission: "input and bound", settlement: "used", cachedInput: "counts", refusals: "unknown" },
  signs: [
    { kind: "openrouter_in_flight_budget", means: "RateLimited", attribution: "account" },
    // More than is left, for this request: a smaller one may pass.
    { status: 402, message: /\bcan only afford \d/, means: "QuotaExhausted", closes: false },
    { kind: "weight_exceeds_budget", means: "QuotaExhausted", closes: false },
    { kind: "openrouter_guardrail_budget", means: "QuotaExhausted" },
    { kind: "openrouter_workspace_budget", means: "QuotaExhausted" },
    { kind: "openrouter_key_limit", means: "QuotaExhausted" }
  ],
  requestIdHeaders: ["x-generation-id", "cf-ray"]
})
