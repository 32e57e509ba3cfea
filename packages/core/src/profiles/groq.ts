/**
 * Groq's ways, as data.
 *
 * Here belongs what differs from OpenAI, whose header names it uses. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * In its headers *requests* are those of a day and *tokens* those of a minute, always. `max_tokens` counts when a call is
 * let in, cached input does not. A 413 with the code of a throttle is a request that can never pass.
 *
 * **Source**
 *
 * console.groq.com/docs/rate-limits, recorded responses of 2024 and 2025, and reports.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** Groq's ways. */
export const ways: Ways = usual("groq", ["api.groq.com"], {
  dialect: { windows: { requests: 86_400, tokens: 60 } },
  charging: { admission: "input and bound", settlement: "used", cachedInput: "free", refusals: "unknown" },
  // The capacity of its flexible tier.
  signs: [{ status: 498, means: "Overloaded" }],
  requestIdHeaders: ["x-request-id", "x-groq-request-id"]
})
