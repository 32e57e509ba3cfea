/**
 * The ways of providers of models that differ little from the usual, as data.
 *
 * Here belongs one entry for each, with its source. One that needs more than a few lines has a file of its own. How it is
 * applied belongs to `ProviderProfile`.
 */
import { usual, usualCharging, type Ways } from "../ProviderWays.ts"

/** Their ways. */
export const all: ReadonlyArray<Ways> = [
  // docs.mistral.ai (tiers), recorded responses: windows are in the names, `-10-second`, `-minute`, `-month`; no resets.
  usual("mistral", ["api.mistral.ai"], { requestIdHeaders: ["mistral-correlation-id", "x-request-id"] }),
  // docs.cohere.com (rate limits), reported messages: a trial key has 20 calls a minute and 1,000 a month.
  usual("cohere", ["api.cohere.com", "api.cohere.ai"], {
    limited: ["requests"],
    requestIdHeaders: ["x-debug-trace-id"]
  }),
  // docs.fireworks.ai/serverless/rate-limits, a live capture: its adaptive limits are called per second and have the size
  // of ones per minute, so their window is not known. 503 is load that it sheds, even within the limit.
  usual("fireworks", ["api.fireworks.ai", "*.api.fireworks.ai"], {
    limited: ["requests", "inputTokens", "outputTokens"],
    signs: [{ status: 412, means: "PermissionDenied" }]
  }),
  // A live capture of September 2026 and its docs: OpenAI's names, scaled every 15 minutes by how much was used.
  usual("nebius", ["api.studio.nebius.com", "api.tokenfactory.nebius.com", "*.nebius.com"]),
  // inference-docs.cerebras.ai/support/rate-limits: windows are in the names; settled by what was used.
  usual("cerebras", ["api.cerebras.ai"]),
  // docs.sambanova.ai (rate limits): `-day` in the names, resets such as `4h17m`.
  usual("sambanova", ["api.sambanova.ai"]),
  // docs.x.ai (rate limits), reported bodies, which are plain text: all tokens that were used count.
  usual("xai", ["api.x.ai", "*.api.x.ai"], {
    aliases: ["grok"],
    charging: { ...usualCharging, admission: "input" },
    // What it says is a sentence and nothing else.
    signs: [
      { message: /\bused all available credits\b/, means: "QuotaExhausted" },
      { status: 400, message: /^Incorrect API key provided\b/, means: "Unauthorized" }
    ]
  }),
  // api-docs.deepseek.com (error codes): no limit headers; 402 is an empty account.
  usual("deepseek", ["api.deepseek.com"], { limited: ["concurrency"] }),
  // platform.moonshot.ai (introduction, errors): input and `max_tokens` count, whatever is generated; short capacity is a
  // 429 of type `engine_overloaded_error`.
  usual("moonshot", ["api.moonshot.ai", "api.moonshot.cn"], {
    aliases: ["kimi"],
    limited: ["requests", "tokens", "concurrency"],
    charging: { ...usualCharging, settlement: "reserved" }
  }),
  // alibabacloud.com/help/en/model-studio (rate limits, error codes): "exceeded your current quota", of code
  // `insufficient_quota`, is the tokens of a minute; only the free quota is spent.
  usual("dashscope", ["dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"], {
    aliases: ["qwen"],
    signs: [
      { message: /^Free allocated quota exceeded\b/, means: "QuotaExhausted" },
      { kind: "Arrearage", means: "QuotaExhausted" },
      { status: 429, kind: "insufficient_quota", means: "RateLimited", dimension: "tokens", here: true },
      { status: 429, message: /^Allocated quota exceeded\b/, means: "RateLimited", dimension: "tokens", here: true }
    ]
  }),
  // docs.bigmodel.cn (rate limits), docs.z.ai (error codes): the code tells a busy model from a limit of one's own.
  usual("zhipu", ["open.bigmodel.cn", "api.z.ai"], {
    aliases: ["z.ai"],
    limited: ["concurrency"],
    signs: [
      { status: 429, kind: "1305", means: "Overloaded", here: true },
      { status: 429, kind: "1302", means: "RateLimited", here: true },
      { status: 429, kind: "1113", means: "QuotaExhausted", here: true }
    ]
  }),
  // A body as relayed by a gateway: a busy model is a 429.
  usual("deepinfra", ["api.deepinfra.com"], { limited: ["concurrency"] }),
  // ollama.com, a reported body.
  usual("ollama-cloud", ["ollama.com"], { aliases: ["ollama"] }),
  // docs.perplexity.ai (rate limits).
  usual("perplexity", ["api.perplexity.ai"], { limited: ["requests"] }),
  // A reported response: a wait of days, without a body.
  usual("github-copilot", ["api.githubcopilot.com", "*.githubcopilot.com"]),
  // A reported body: weeks and months are spent under status 429.
  usual("opencode", ["opencode.ai"], { aliases: ["opencode-go", "opencode-zen"] }),
  // github.com/vllm-project/vllm: a server of one's own, which says nothing of limits and refuses nothing for its load.
  usual("vllm", [], { limited: [] }),
  // A reported response of a subscription: percentages of windows of hours and days, and `usage_limit_reached`.
  usual("codex", ["chatgpt.com"], { limited: [] }),
  // A recorded response: `ratelimit-remaining`, `ratelimit-reset` in seconds.
  usual("replicate", ["api.replicate.com"], { limited: ["requests"] }),
  // Recorded responses of its hub: the fields of the IETF, of which the policy is malformed.
  usual("huggingface", ["huggingface.co", "*.huggingface.co"], {
    aliases: ["huggingface-hub"],
    limited: ["requests"]
  })
]
