import { assert, describe, it } from "@effect/vitest"
import * as LimitNames from "../src/internal/LimitNames.ts"

/** Name, part, sum, window, and what else the name tells. */
const names: ReadonlyArray<readonly [string, LimitNames.Part, string, (number | undefined)?, string?]> = [
  ["x-ratelimit-limit", "limit", "requests"],
  ["ratelimit-remaining", "remaining", "requests"],
  ["x-rate-limit-reset", "reset", "requests"],
  ["x-ratelimit-reset-after", "resetAfter", "requests"],
  ["x-ratelimit-used", "used", "requests"],
  ["ratelimit-observed", "used", "requests"],
  ["x-ratelimit-window-size", "window", "requests"],
  ["x-ratelimit-renewalperiod-tokens", "window", "tokens"],
  ["x-ratelimit-limit-requests", "limit", "requests"],
  ["x-ratelimit-requests-remaining", "remaining", "requests"],
  ["x-acme-ratelimit-remaining", "remaining", "requests"],
  ["x-ratelimit-limit-req-10-second", "limit", "requests", 10],
  ["x-ratelimit-limit-tokens-minute", "limit", "tokens", 60],
  ["x-ratelimit-limit-requests-per-hour", "limit", "requests", 3600],
  ["x-ratelimit-limit-minute", "limit", "requests", 60],
  ["x-ratelimit-reset-requests-day", "reset", "requests", 86_400, "aside"],
  ["x-ratelimit-limit-tokens-month", "limit", "tokens", 2_592_000, "aside"],
  ["x-ratelimit-limit-project-tokens", "limit", "tokens", undefined, "aside"],
  ["x-ratelimit-limit-tokens_usage_based", "limit", "tokens", undefined, "aside"],
  ["x-ratelimit-limit-input-images", "limit", "other", undefined, "aside"],
  ["x-ratelimit-limit-tokens-prompt", "limit", "inputTokens"],
  ["x-ratelimit-limit-tokens-generated", "limit", "outputTokens"],
  ["x-ratelimit-limit-tokens-cache-adjusted-prompt", "limit", "other", undefined, "aside"],
  ["x-tokenlimit-remaining", "remaining", "tokens"],
  ["x-tokenlimit-limit-dynamic", "limit", "tokens", undefined, "dynamic"],
  ["x-ratelimit-limit-dynamic", "limit", "requests", undefined, "dynamic"],
  ["anthropic-ratelimit-input-tokens-reset", "reset", "inputTokens"],
  ["anthropic-ratelimit-tokens-limit", "limit", "tokens"],
  ["anthropic-priority-output-tokens-remaining", "remaining", "other", undefined, "aside"],
  ["anthropic-ratelimit-unified-5h-reset", "reset", "other", undefined, "aside"],
  ["x-codex-primary-reset-at", "reset", "other", undefined, "aside"],
  ["x-trial-endpoint-call-limit", "limit", "requests", 60],
  ["x-shopify-shop-api-call-limit", "pair", "requests"],
  ["x-ratelimit", "json", "requests"]
]

describe("the name of a header", () => {
  for (const [name, part, dimension, windowSeconds, aside] of names) {
    it(`${name} is the ${part} of ${dimension}${aside === undefined ? "" : `, ${aside}`}`, () => {
      // Once as it is read, and once as it is remembered.
      for (const named of [LimitNames.nameOf(name), LimitNames.nameOf(name)]) {
        assert.deepStrictEqual([named?.part, named?.dimension, named?.windowSeconds], [part, dimension, windowSeconds])
        assert.strictEqual(named?.isPart, aside === "aside")
        assert.strictEqual(named?.isDynamic, aside === "dynamic")
      }
    })
  }

  it("tells nothing where it is not that of a figure", () => {
    for (
      const name of [
        "content-type",
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-over-limit",
        "x-ratelimit-dynamic-scale-requests",
        "x-ratelimit-dynamic-period-remaining",
        "x-ratelimit-abusepenalty-active",
        "x-ratelimit-tokens-query-cost",
        "x-ratelimit-bucket",
        "anthropic-ratelimit-unified-status",
        `x-ratelimit-limit-${"a".repeat(200)}`
      ]
    ) assert.isUndefined(LimitNames.nameOf(name), name)
  })

  it("puts the parts of one limit together, and two limits apart", () => {
    const id = (name: string) => LimitNames.nameOf(name)?.id
    assert.strictEqual(id("x-ratelimit-limit-tokens"), id("x-rate-limit-reset-tokens"))
    assert.strictEqual(id("x-ratelimit-limit"), id("x-ratelimit-reset-after"))
    assert.notStrictEqual(id("x-ratelimit-limit"), id("x-tokenlimit-limit"))
    assert.notStrictEqual(id("x-ratelimit-limit-req-minute"), id("x-ratelimit-limit-req-10-second"))
  })
})
