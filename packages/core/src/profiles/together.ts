/**
 * Together AI's ways, as data.
 *
 * Here belongs what differs from other providers: hosts, units, the meaning of a status. How it is applied belongs to
 * `ProviderProfile`.
 *
 * **Details**
 *
 * Limits are per second. 403 is an input longer than the model takes. Whether a 500 may succeed when sent again is
 * contested: Together's TypeScript client never tries, its Python client does. What a call is charged is not told.
 *
 * **Source**
 *
 * docs.together.ai (rate limits, error codes), its OpenAPI description, and a recorded response of June 2024. The 429 text
 * of 2024 prints "600 RPM (10 QPS)": limits are enforced per second.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** Together's ways. */
export const ways: Ways = usual("together", ["api.together.xyz", "api.together.ai", "*.together.ai"], {
  dialect: {
    resetForm: "seconds",
    windows: { requests: 1, tokens: 1 },
    resetHint: "x-ratelimit-reset",
    spelling: { requests: "x-ratelimit-{}", tokens: "x-tokenlimit-{}" }
  },
  signs: [
    { status: 403, means: "ContextLength" },
    { status: 500, means: "ServerError", retryable: false }
  ],
  requestIdHeaders: ["x-request-id", "x-together-traceid"]
})
