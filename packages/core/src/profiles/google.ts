/**
 * The ways of Google's models, Gemini's API and Vertex AI, as data.
 *
 * Here belongs what differs from other providers. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * No headers: limits, their windows and the wait are in the body (`QuotaFailure`, `RetryInfo`). Only input is limited. The
 * sentence "You exceeded your current quota" is a throttle here as a rule; only a quota per day is spent.
 *
 * **Source**
 *
 * ai.google.dev/gemini-api/docs/rate-limits, cloud.google.com (provisioned throughput), google.rpc, and reports.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** The ways of Gemini and Vertex AI. */
export const ways: Ways = usual("google-gemini", [
  "generativelanguage.googleapis.com",
  "aiplatform.googleapis.com",
  "*.aiplatform.googleapis.com"
], {
  aliases: ["google-vertex", "gemini", "vertex"],
  modelIn: /\/models\/([^/:]+)/,
  limited: ["requests", "inputTokens"],
  charging: { admission: "input", settlement: "used", cachedInput: "counts", refusals: "unknown" },
  signs: [
    { kind: "API_KEY_INVALID", means: "Unauthorized" },
    { message: /\bExceeded the Provisioned Throughput\b/, means: "RateLimited", attribution: "caller" },
    {
      status: 400,
      message: /^The input token count .{0,40}exceeds the maximum number of tokens/,
      means: "ContextLength"
    }
  ],
  attributionOf429: "unknown",
  requestIdHeaders: ["x-request-id", "x-goog-request-id"]
})
