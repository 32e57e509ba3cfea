/**
 * The ways of Azure OpenAI, and of Azure's inference API for other models, as data.
 *
 * Here belongs what differs from OpenAI, whose header names they use. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * With `x-ratelimit-renewalperiod-*`, which tells the window, bare resets are milliseconds. -1 is no figure. A call is
 * charged its input and `max_tokens` whole, and that is not corrected at the end.
 *
 * **Source**
 *
 * learn.microsoft.com (quotas and limits of Azure OpenAI; API Management policies for quotas), recorded responses of 2024
 * to 2026, where 120 per minute with one used resets in "500".
 */
import { usual, type Ways } from "../ProviderWays.ts"
import type { Dialect, Headers } from "../RateLimitHeaders.ts"

/** How resets are written where the period of renewal is told. */
export const renewing: Dialect = { name: "azure-openai", resetForm: "milliseconds", refusals: [429] }

/** Does a response tell its period of renewal? */
export const isRenewing = (headers: Headers): boolean =>
  headers["x-ratelimit-renewalperiod-requests"] !== undefined ||
  headers["x-ratelimit-renewalperiod-tokens"] !== undefined

const plain: Dialect = { name: "azure-openai", refusals: [429] }

/** Azure OpenAI's ways. */
export const ways: Ways = usual("azure-openai", ["*.openai.azure.com", "*.cognitiveservices.azure.com"], {
  aliases: ["azure"],
  modelIn: /\/deployments\/([^/]+)/,
  dialect: plain,
  dialectFor: (headers) => (isRenewing(headers) ? renewing : plain),
  charging: { admission: "input and bound", settlement: "reserved", cachedInput: "counts", refusals: "unknown" },
  signs: [
    // API Management in front of it: a spent quota is a 403, and a rate a 429.
    { status: 403, message: /^(?:Out of call volume quota|Token quota is exceeded)\b/, means: "QuotaExhausted" },
    { message: /\bsystem is (?:currently )?experiencing high demand\b/i, means: "Overloaded" },
    { message: /^The service is temporarily unable to process your request\b/, means: "Overloaded" }
  ],
  requestIdHeaders: ["apim-request-id", "x-request-id", "x-ms-request-id"]
})

/** The ways of Azure's inference API, which GitHub Models is as well. */
export const inference: Ways = {
  ...ways,
  name: "azure-ai-inference",
  aliases: ["azure-ai-inference/github-models", "github-models"],
  origins: ["models.inference.ai.azure.com", "models.github.ai", "*.services.ai.azure.com"]
}
