/**
 * Amazon Bedrock's ways, as data.
 *
 * Here belongs what differs from other providers. How it is applied belongs to `ProviderProfile`.
 *
 * **Details**
 *
 * No limits in headers; the kind of an error is in `x-amzn-ErrorType`. A call is charged its input and `max_tokens` when it
 * is let in, and what it used at the end; what was read from the cache is given back. Output of some models counts five
 * times, which is not reckoned here.
 *
 * **Source**
 *
 * docs.aws.amazon.com/bedrock (quotas and token burndown, API reference), and reports.
 */
import { usual, type Ways } from "../ProviderWays.ts"

/** Amazon Bedrock's ways. */
export const ways: Ways = usual("aws-bedrock", [
  "bedrock-runtime.*.amazonaws.com",
  "bedrock-runtime-fips.*.amazonaws.com"
], {
  aliases: ["bedrock"],
  modelIn: /\/model\/([^/]+)/,
  charging: { admission: "input and bound", settlement: "used", cachedInput: "free", refusals: "unknown" },
  signs: [
    { kind: "ServiceQuotaExceededException", means: "RateLimited" },
    { kind: "ModelErrorException", means: "ServerError" },
    { kind: "ModelStreamErrorException", means: "ServerError" },
    { kind: "ModelTimeoutException", means: "Timeout" }
  ],
  requestIdHeaders: ["x-amzn-requestid"]
})
