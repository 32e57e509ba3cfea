import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as Outcome from "@evenkeel/core/Outcome"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as ProviderWays from "@evenkeel/core/ProviderWays"
import type * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import * as Context from "effect/Context"
import * as fc from "fast-check"

const { generic, openai, together } = ProviderProfile

const classify = (
  profile: ProviderProfile.ProviderProfile,
  status: number,
  body?: unknown,
  headers: RateLimitHeaders.Headers = {}
): Outcome.Outcome =>
  profile.classify({
    status,
    headers,
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    nowMillis: 0
  })

describe("the verdict", () => {
  const html = "<!DOCTYPE html><title>Bad</title>"
  const table: ReadonlyArray<readonly [ProviderProfile.ProviderProfile, number, unknown, string, string]> = [
    [generic, 200, undefined, "Accepted", "none"],
    [generic, 302, undefined, "Accepted", "none"],
    [generic, 400, { error: { message: "bad" } }, "Ignored", "InvalidRequest"],
    [generic, 400, { error: { message: "too long", code: "context_length_exceeded" } }, "Ignored", "ContextLength"],
    [
      generic,
      400,
      { error: { message: "This model's maximum context length is 8192 tokens." } },
      "Ignored",
      "ContextLength"
    ],
    [generic, 401, undefined, "Ignored", "Unauthorized"],
    [generic, 402, html, "Ignored", "QuotaExhausted"],
    [generic, 403, { error: "no" }, "Ignored", "PermissionDenied"],
    [together, 403, undefined, "Ignored", "ContextLength"],
    [together, 403, html, "Ignored", "PermissionDenied"],
    [together, 403, "error code: 1010", "Ignored", "PermissionDenied"],
    [together, 403, { error_type: "dynamic_token_limited" }, "Limited", "RateLimited"],
    [generic, 404, html, "Ignored", "NotFound"],
    [generic, 408, undefined, "Unknown", "Timeout"],
    [generic, 409, { error: "done" }, "Ignored", "Conflict"],
    [generic, 413, html, "Ignored", "RequestTooLarge"],
    [generic, 422, undefined, "Ignored", "InvalidRequest"],
    [generic, 429, html, "Limited", "RateLimited"],
    [generic, 429, { type: "overloaded_error" }, "Overloaded", "Overloaded"],
    [generic, 500, undefined, "Failed", "ServerError"],
    [generic, 500, html, "Failed", "GatewayError"],
    [generic, 501, { error: {} }, "Failed", "ServerError"],
    [generic, 502, { error: {} }, "Unknown", "ServerError"],
    [generic, 502, html, "Unknown", "GatewayError"],
    [generic, 503, undefined, "Overloaded", "Overloaded"],
    [generic, 503, html, "Overloaded", "GatewayError"],
    [generic, 503, "upstream connect error or disconnect/reset before headers", "Overloaded", "GatewayError"],
    [together, 503, { error: { type: "dynamic_request_limited" } }, "Limited", "RateLimited"],
    [generic, 504, html, "Unknown", "Timeout"],
    [generic, 520, html, "Unknown", "GatewayError"],
    [generic, 524, undefined, "Unknown", "Timeout"],
    [generic, 527, undefined, "Unknown", "GatewayError"],
    [generic, 529, undefined, "Failed", "ServerError"]
  ]
  for (const [profile, status, body, outcome, reason] of table) {
    const shown = body === undefined ? "without a body" : JSON.stringify(body).slice(0, 60)
    it(`on ${status} ${shown} from ${profile.name} is ${outcome} for ${reason}`, () => {
      const verdict = classify(profile, status, body)
      assert.strictEqual(verdict._tag, outcome)
      assert.strictEqual(verdict.error?.reason._tag ?? "none", reason)
      assert.strictEqual(verdict.final, outcome === "Ignored")
    })
  }

  it("finds Together's error type in each of its four places", () => {
    const kind = "dynamic_token_limited"
    for (
      const body of [{ error_type: kind }, { error: { error_type: kind } }, { error: { type: kind } }, {
        error: { code: kind }
      }]
    ) {
      const verdict = classify(together, 429, body, { "x-ratelimit-reset": "3" })
      assert.strictEqual(verdict.dimension, "tokens")
      assert.strictEqual(verdict.retryAfterMillis, 3000)
    }
  })

  it("trusts the first place where the four disagree", () => {
    const body = { error_type: "dynamic_request_limited", error: { type: "dynamic_token_limited" } }
    assert.strictEqual(classify(together, 429, body).dimension, "requests")
  })

  it("is not swayed by a message that speaks of billing", () => {
    const body = { error: { message: "Check your plan and billing details: quota exceeded", type: "credit_limit" } }
    assert.strictEqual(classify(together, 429, body)._tag, "Limited")
    assert.isUndefined(classify(together, 429, body).closes)
  })

  it("keeps a hint for those who may send again, and not for a success", () => {
    const hint = { "retry-after": "7" }
    assert.strictEqual(classify(generic, 503, undefined, hint).retryAfterMillis, 7000)
    assert.strictEqual(classify(generic, 500, undefined, hint).retryAfterMillis, 7000)
    assert.isUndefined(classify(generic, 200, undefined, hint).retryAfterMillis)
    assert.strictEqual(classify(generic, 200, undefined, hint).reading.retryAfterSeconds, 7)
    assert.isUndefined(classify(generic, 402, undefined, hint).retryAfterMillis)
  })

  it("is too large when more is requested than the limit, and a throttle when it is not", () => {
    const message = (requested: number) => ({
      error: {
        message: `Limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested ${requested}. Try again.`,
        code: "rate_limit_exceeded"
      }
    })
    assert.strictEqual(classify(openai, 429, message(30_001)).error?.reason._tag, "RequestTooLarge")
    assert.strictEqual(classify(openai, 429, message(30_000)).error?.reason._tag, "RateLimited")
    assert.strictEqual(classify(openai, 429, message(30_000)).dimension, "tokens")
  })

  it("cuts a long message", () => {
    assert.lengthOf(classify(generic, 400, { error: "x".repeat(9000) }).error?.reason.message ?? "", 500)
    assert.strictEqual(
      classify(generic, 400, `{"error": {"message": "cut o`).error?.reason.message,
      `{"error": {"message": "cut o`
    )
  })

  it("is the same for a body that was cut off: still the provider's own words", () => {
    assert.strictEqual(classify(generic, 500, `{"error": {"message": "cut o`).error?.reason._tag, "ServerError")
  })
})

describe("an error under a success", () => {
  const error = { message: "broken", type: "server_error" }
  const tag = (body: unknown) => classify(generic, 200, body)._tag

  it("is none in the record of a job, in an error without a word, or in one item of several", () => {
    const none = { code: null, message: null, param: null }
    const records = [
      { id: "ftjob-1", object: "fine_tuning.job", status: "queued", error: none },
      { id: "resp_1", object: "response", status: "failed", error: { code: "rate_limit_exceeded", message: "x" } },
      { id: "batch_1", status: "FAILED", error: "no such file" },
      { error: {} },
      { error: none },
      { result: 1, error: "none of the above" },
      [{ error }, { ok: 1 }],
      { choices: [{ message: { content: "an error: rate limit" } }] },
      { data: { user: 1 }, errors: [{ message: "no such field", extensions: { code: "BAD_USER_INPUT" } }] }
    ]
    for (const body of records) assert.strictEqual(tag(body), "Accepted", JSON.stringify(body))
  })

  it("may have run, unless it says that it was refused", () => {
    assert.strictEqual(tag({ error }), "Unknown")
    assert.strictEqual(tag([{ error }]), "Unknown")
    assert.strictEqual(tag({ error: { message: "slow", code: 429 } }), "Limited")
    assert.strictEqual(tag({ error: { type: "invalid_request_error", message: "x" } }), "Ignored")
    assert.strictEqual(tag({ ok: false, error: "channel_not_found" }), "Ignored")
    const part = { choices: [{ message: { content: "Half" }, error: { code: 429, message: "x" } }], usage: {} }
    assert.strictEqual(tag(part), "Unknown")
  })
})

describe("a window that a sentence names", () => {
  const closes = (message: string, headers: RateLimitHeaders.Headers = {}) =>
    classify(generic, 429, { error: { message, code: "rate_limit_exceeded" } }, headers).closes?.reason

  it("is no day or month where it is part of an address, of a plan, or stands beside a shorter one", () => {
    for (
      const message of [
        "Too many requests, see https://api.example.com/pricing/monthly-plans",
        "Too many requests, see https://api.example.com/limits/month",
        "Your monthly plan quota allows 5 requests per second",
        "Your plan (100k requests/month): slow down, at most 5 requests/second",
        "Limits are 1,000 requests per day and 20 per minute; you exceeded the 20 per minute",
        "Slow down. A higher plan has 1,000 requests per day."
      ]
    ) assert.isUndefined(closes(message), message)
    for (const message of ["You sent 200 requests per day", "Rate limit exceeded: free-models-per-day. Add credits."]) {
      assert.strictEqual(closes(message), "quota", message)
    }
  })

  it("is a day that slides where a place comes back within a minute", () => {
    const said = "Rate limit reached on requests per day (RPD): Limit 10000, Used 10000, Requested 1."
    assert.isUndefined(closes(`${said} Please try again in 8.64s.`))
    assert.isUndefined(closes(said, { "retry-after": "52" }))
    assert.strictEqual(closes(`${said} Please try again in 1h2m.`), "quota")
  })
})

describe("a kind below 429", () => {
  it("is of a setting as often as of a limit", () => {
    const reason = (status: number, error: unknown, headers: RateLimitHeaders.Headers = {}) =>
      classify(generic, status, { error }, headers).error?.reason._tag
    assert.strictEqual(reason(400, { message: "Storage capacity exceeded for index foo" }), "InvalidRequest")
    assert.strictEqual(reason(400, { code: "invalid_capacity" }), "InvalidRequest")
    assert.strictEqual(reason(422, { code: "invalid_rate_limit" }), "InvalidRequest")
    assert.strictEqual(reason(404, { code: "rate_limit_not_found" }), "NotFound")
    assert.strictEqual(reason(404, {}, { "x-ratelimit-scope": "shared" }), "NotFound")
    assert.strictEqual(reason(400, { code: "RATELIMITED" }), "RateLimited")
  })
})

describe("what else stops", () => {
  const day = {
    "x-ratelimit-limit-requests": "200",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "7h12m"
  }

  it("is the credential for ever when money is spent or it is not accepted", () => {
    const payment = { scope: "credential", forMillis: Infinity, reason: "payment" }
    assert.deepEqual(classify(together, 402).closes, payment)
    for (
      const code of [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded"
      ]
    ) assert.deepEqual(classify(openai, 429, { error: { type: "some_type", code } }).closes, payment)
    assert.deepEqual(classify(generic, 401).closes, {
      scope: "credential",
      forMillis: Infinity,
      reason: "unauthorized"
    })
  })

  it("is the key until the reset when a day's limit is spent", () => {
    const verdict = classify(openai, 429, undefined, day)
    assert.deepEqual(verdict.closes, { scope: "key", forMillis: 25_920_000, reason: "quota" })
    assert.strictEqual(verdict.error?.reason._tag, "QuotaExhausted")
    assert.isTrue(verdict.final)
  })

  it("is the key for a day when the only hint is too short for one", () => {
    const details = [
      { "@type": "type.googleapis.com/google.rpc.QuotaFailure", violations: [{ quotaId: "RequestsPerDay" }] },
      { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "47s" }
    ]
    const verdict = classify(generic, 429, { error: { status: "RESOURCE_EXHAUSTED", details } })
    assert.deepEqual(verdict.closes, { scope: "key", forMillis: 86_400_000, reason: "quota" })
    assert.strictEqual(verdict.error?.reason.retryAfterSeconds, 47)
  })

  it("is the credential when a sentence about money names a month too", () => {
    const said = "Your team has either used all available credits or reached its monthly spending limit."
    assert.strictEqual(classify(ProviderProfile.named("xai")!, 429, said).closes?.scope, "credential")
  })

  it("is the key when only the message says that the limit is a day's", () => {
    const message = "Rate limit reached on requests per day (RPD): Limit 200, Used 200, Requested 1."
    const body = (tail: string) => ({ error: { message: message + tail, code: "rate_limit_exceeded" } })
    assert.strictEqual(classify(openai, 429, body(" Please try again in 7m12s.")).closes?.forMillis, 432_000)
    assert.strictEqual(classify(openai, 429, body("")).closes?.forMillis, 86_400_000)
  })

  it("is nothing of ours when a provider behind the provider was not paid, or only this request costs too much", () => {
    const openrouter = ProviderProfile.named("openrouter")!
    const behind = { error: { code: 402, message: "Provider returned error", metadata: { provider_name: "DeepSeek" } } }
    for (const status of [401, 402]) {
      const verdict = classify(openrouter, status, behind)
      assert.isUndefined(verdict.closes)
      assert.strictEqual(verdict.error?.reason.attribution, "upstream")
    }
    const large = { error: { code: 402, message: "You requested up to 9000 tokens, but can only afford 8000." } }
    assert.isUndefined(classify(openrouter, 402, large).closes)
  })

  it("is nothing when a minute's limit is spent, or a day's is on another answer", () => {
    assert.isUndefined(classify(openai, 429, undefined, { ...day, "x-ratelimit-reset-requests": "30s" }).closes)
    assert.isUndefined(classify(openai, 503, undefined, day).closes)
    assert.isUndefined(classify(openai, 200, undefined, day).closes)
  })

  it("is the key for ever when the model is not known", () => {
    const closes = { scope: "key", forMillis: Infinity, reason: "unknown model" }
    assert.deepEqual(classify(openai, 404, { error: { code: "model_not_found" } }).closes, closes)
    assert.deepEqual(classify(together, 400, { error: { type: "model_not_available" } }).closes, closes)
    assert.isUndefined(classify(openai, 404, { error: { code: "no_such_path" } }).closes)
  })
})

describe("a provider of one's own", () => {
  const ways = (more: Parameters<typeof ProviderWays.usual>[2]) =>
    ProviderWays.usual("acme", ["api.acme.example"], more)

  it("is refused where its table cannot be meant", () => {
    for (const requests of [0, -5, NaN, Infinity]) {
      assert.throws(() => ProviderProfile.make(ways({ dialect: { windows: { requests } } })), RangeError, "requests")
    }
    const signs = [{ message: /again/g, means: "Overloaded" }] as const
    assert.throws(() => ProviderProfile.make(ways({ signs })), RangeError, "no flag g")
  })

  it("names its calls in whatever case its headers are written", () => {
    const profile = ProviderProfile.make(ways({ requestIdHeaders: ["X-Acme-Id"] }))
    assert.strictEqual(profile.requestId({ "x-acme-id": "a" }, undefined), "a")
  })

  it("is found by its name or another, in any case", () => {
    assert.strictEqual(ProviderProfile.named("OpenAI"), openai)
    assert.strictEqual(ProviderProfile.named("Gemini")?.name, "google-gemini")
    assert.isUndefined(ProviderProfile.named("acme"))
  })
})

describe("an unknown provider", () => {
  const first = (headers: RateLimitHeaders.Headers) =>
    generic.read({ status: 200, headers, body: undefined, nowMillis: 0 }).limits[0]

  it("is read by the names it uses", () => {
    assert.strictEqual(first({ "x-ratelimit-limit": "9", "x-tokenlimit-limit": "9" })?.ratePerSecond, 9)
    assert.strictEqual(first({ "x-ratelimit-limit-dynamic": "9" })?.policy, "dynamic")
    assert.strictEqual(first({ "x-ratelimit-limit-requests": "60" })?.ratePerSecond, 1)
  })

  it("says no rate with the bare names, for their unit is not known", () => {
    assert.deepStrictEqual(first({ "x-ratelimit-limit": "5000" }), { dimension: "requests", limit: 5000 })
  })

  it("that answers 403 limits when its headers say so", () => {
    const verdict = classify(generic, 403, { message: "slow" }, {
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": "4"
    })
    assert.strictEqual(verdict._tag, "Limited")
    assert.strictEqual(verdict.retryAfterMillis, 4000)
  })
})

describe("the cost of a call", () => {
  const cost = (body: unknown) => {
    const { inputTokens, outputTokens } = together.cost(body)
    return [inputTokens, outputTokens]
  }

  it("counts a token for four characters of text, rounded up, wherever the text is", () => {
    assert.deepStrictEqual(cost({ messages: [{ role: "user", content: "12345" }], max_tokens: 9 }), [2, 9])
    assert.deepStrictEqual(
      cost({ messages: [{ content: [{ type: "text", text: "12345678" }] }], max_completion_tokens: 9 }),
      [2, 9]
    )
    assert.deepStrictEqual(cost({ prompt: ["1234", "5678"] }), [2, 256])
    assert.deepStrictEqual(cost(JSON.stringify({ prompt: "1234" })), [1, 256])
  })

  it("has no output for embeddings, and one token for each number of their input", () => {
    assert.deepStrictEqual(cost({ model: "m", input: ["1234", "5"] }), [2, 0])
    assert.deepStrictEqual(cost({ model: "m", input: [[1, 2, 3]] }), [3, 0])
    assert.deepStrictEqual(cost({ model: "m", input: "1234", max_output_tokens: 7 }), [1, 7])
    assert.deepStrictEqual(cost({ model: "m", input: "1234", stream: true }), [1, 256])
  })

  it("is one request for a body that says nothing, and always makes a demand", () => {
    assert.deepStrictEqual(together.cost(undefined), { requests: 1, inputTokens: 0, outputTokens: 256 })
    assert.deepStrictEqual(cost({ max_tokens: null }), [0, 256])
    assert.deepStrictEqual(cost({ max_tokens: -1 }), [0, 256])
    fc.assert(fc.property(fc.oneof(fc.anything(), fc.json(), requestBody), (body) => {
      assert.strictEqual(Demand.make({ key: Demand.key("o", "g", "m"), cost: together.cost(body) }).cost.requests, 1)
    }))
  })

  const requestBody = fc.dictionary(
    fc.constantFrom("messages", "prompt", "input", "max_tokens", "max_completion_tokens"),
    fc.oneof(fc.anything(), fc.double())
  )
})

describe("the usage", () => {
  it("has the thoughts and the cache of those who count them apart", () => {
    const usageMetadata = { promptTokenCount: 7, candidatesTokenCount: 20, thoughtsTokenCount: 3000 }
    assert.deepStrictEqual(generic.usage({ usageMetadata }), { inputTokens: 7, outputTokens: 3020 })
    assert.deepStrictEqual(
      generic.usage({
        usage: { inputTokens: 1, outputTokens: 2, cacheReadInputTokens: 10, cacheWriteInputTokens: 100 }
      }),
      { inputTokens: 111, outputTokens: 2, cachedInputTokens: 10 }
    )
    assert.isUndefined(generic.usage({ input_tokens: 2095 }))
    assert.deepStrictEqual(generic.usage({ prompt_eval_count: 3, eval_count: 4 }), { inputTokens: 3, outputTokens: 4 })
  })

  it("is read from an answer and from a chunk, and absent where nothing is said", () => {
    const said = { usage: { prompt_tokens: 45, completion_tokens: 3, total_tokens: 48 } }
    assert.deepStrictEqual(together.usage(said), { inputTokens: 45, outputTokens: 3 })
    assert.deepStrictEqual(together.usage(`data: ${JSON.stringify(said)}`), { inputTokens: 45, outputTokens: 3 })
    assert.deepStrictEqual(openai.usage({ usage: { prompt_tokens: 8, total_tokens: 8 } }), { inputTokens: 8 })
    assert.deepStrictEqual(openai.usage({ usage: { input_tokens: 8, output_tokens: 2 } }), {
      inputTokens: 8,
      outputTokens: 2
    })
    for (const nothing of [undefined, "data: [DONE]", { usage: null }, { usage: { prompt_tokens: -1 } }, "{cut"]) {
      assert.isUndefined(together.usage(nothing))
    }
  })
})

describe("a provider", () => {
  it("is chosen by host, whatever the port and the case", () => {
    const named = (host: string) => ProviderProfile.forHost(host).name
    assert.deepStrictEqual(
      [
        "api.together.xyz",
        "API.together.ai:443",
        "eu.together.ai",
        "api.openai.com",
        "nottogether.ai",
        "localhost:8080"
      ].map(named),
      ["together", "together", "together", "openai", "generic", "generic"]
    )
  })

  it("has one key for all its hosts, and a key of its own for any other", () => {
    const keyOf = (url: string, body?: unknown) => together.keyOf({ url: new URL(url), organisation: "acme", body })
    const body = { model: "llama" }
    assert.deepStrictEqual(
      keyOf("https://api.together.ai/v1", body),
      Demand.key("https://api.together.xyz", "acme", "llama")
    )
    assert.strictEqual(
      keyOf("https://api.together.xyz/v1", JSON.stringify(body)).id,
      keyOf("https://api.together.ai/v1", body).id
    )
    assert.deepStrictEqual(keyOf("http://localhost:8080/v1"), Demand.key("http://localhost:8080", "acme", ""))
  })

  it("whose hosts are limited each by itself has a key for each, and finds the model in the path", () => {
    const id = (url: string) => {
      const { model, origin } = ProviderProfile.forHost(new URL(url).host).keyOf({
        url: new URL(url),
        organisation: "acme"
      })
      return `${origin} ${model}`
    }
    assert.deepStrictEqual(
      [
        "https://one.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-pro:generateContent",
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude/converse",
        "https://s3.us-east-1.amazonaws.com/model/x"
      ].map(id),
      [
        "https://one.openai.azure.com gpt",
        "https://generativelanguage.googleapis.com gemini-pro",
        "https://bedrock-runtime.us-east-1.amazonaws.com anthropic.claude",
        "https://s3.us-east-1.amazonaws.com "
      ]
    )
  })

  it("names its calls in a header or in the body", () => {
    assert.strictEqual(together.requestId({ "x-request-id": "a" }, { id: "b" }), "a")
    assert.strictEqual(together.requestId({}, `{"id":"b","error":{}}`), "b")
    assert.isUndefined(together.requestId({}, "<html>"))
  })

  it("is by default chosen by host, and may be given", () => {
    assert.isUndefined(Context.get(Context.empty(), ProviderProfile.CurrentProfile))
    assert.strictEqual(
      Context.get(Context.make(ProviderProfile.CurrentProfile, openai), ProviderProfile.CurrentProfile),
      openai
    )
  })
})

describe("an attempt without an answer", () => {
  it("is overloaded when it never connected, for it did not run, and unknown when it was sent", () => {
    const refused = ProviderProfile.connectionFailed("never connected", "ECONNREFUSED")
    assert.strictEqual(refused._tag, "Overloaded")
    assert.isFalse(refused.connected)
    assert.isTrue(Outcome.neverRan(refused))
    const reset = ProviderProfile.connectionFailed("sent", "ECONNRESET")
    assert.strictEqual(reset._tag, "Unknown")
    assert.isTrue(reset.connected)
    assert.strictEqual(reset.error?.reason.message, "ECONNRESET")
  })
})

describe("a stream", () => {
  it("that fails before its first token may be sent again, and after it not", () => {
    const chunk = { error: { message: "Overloaded", type: "overloaded_error" } }
    const before = openai.streamError(chunk, { begun: false })
    assert.strictEqual(before?.reason._tag, "Overloaded")
    assert.isTrue(before?.reason.retryable)
    assert.isFalse(openai.streamError(chunk, { begun: true })?.reason.retryable)
  })

  it("carries an error in a chunk that looks like a record", () => {
    const chunk = {
      id: "chatcmpl-1",
      object: "chat.completion.chunk",
      error: { message: "gone", type: "server_error" }
    }
    assert.strictEqual(openai.streamError(chunk, { begun: true })?.reason._tag, "ServerError")
  })

  it("carries no error in an ordinary chunk", () => {
    for (
      const chunk of [
        { choices: [{ delta: {}, error: {} }] },
        { error: {} },
        { choices: [], error: null },
        "data: [DONE]",
        "",
        undefined
      ]
    ) {
      assert.isUndefined(openai.streamError(chunk, { begun: false }))
    }
  })
})

describe("whatever a server answers", () => {
  const kind = fc.constantFrom(
    "dynamic_request_limited",
    "insufficient_quota",
    "slow_down",
    "constructor",
    "__proto__",
    "tokens",
    ""
  )
  const error = fc.record({
    message: fc.anything(),
    type: fc.oneof(kind, fc.anything()),
    code: fc.oneof(kind, fc.anything())
  })
  const body = fc.oneof(
    fc.string(),
    fc.json(),
    fc.oneof(error, fc.record({ error: fc.oneof(error, fc.string()) }), fc.array(error)).map((each) =>
      JSON.stringify(each)
    ),
    fc.record({ error }).map((each) => JSON.stringify(each).slice(0, 20)),
    fc.constantFrom(undefined, "", "<html>", "[", "[]", "[null]", "null", "\"x\"", "{\"error\":[]}", "[".repeat(70_000))
  )
  const names = [
    "content-type",
    "retry-after",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-remaining-requests"
  ]
  const headers = fc.dictionary(fc.constantFrom(...names), fc.oneof(fc.string(), fc.integer().map(String)))

  it("the verdict is there, typed from 400 on, and holds no number below zero or NaN", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(together, openai, generic),
        fc.integer({ min: 100, max: 999 }),
        headers,
        body,
        (profile, status, sent, text) => {
          const verdict = profile.classify({ status, headers: sent, body: text, nowMillis: 0 })
          assert.isTrue(status < 400 || verdict.error !== undefined)
          assert.strictEqual(verdict._tag === "Accepted", verdict.error === undefined)
          assert.isTrue(verdict.retryAfterMillis === undefined || verdict.retryAfterMillis > 0)
          assert.isTrue(verdict.closes === undefined || verdict.closes.forMillis > 0)
          assert.isTrue((verdict.error?.reason.message.length ?? 0) <= 500)
          profile.streamError(text, { begun: true })
          profile.usage(text)
          profile.requestId(sent, text)
        }
      ),
      { numRuns: 1000 }
    )
  })
})
