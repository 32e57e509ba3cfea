import { assert, describe, it } from "@effect/vitest"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as fs from "node:fs"
import * as AnswerFile from "../src/cli/AnswerFile.ts"
import * as Explanation from "../src/cli/Explanation.ts"

type Given = Partial<Omit<AnswerFile.Answer, "status">>

const explain = (
  status: number,
  given: Given = {},
  options: Partial<Parameters<typeof Explanation.make>[1]> = {}
): Explanation.Explanation =>
  Explanation.make(
    { status, headers: {}, body: undefined, nowMillis: undefined, provider: undefined, stream: undefined, ...given },
    { clockMillis: Date.UTC(2026, 0, 1), ...options }
  )

/** The words in one line, as they are read. */
const words = (status: number, given: Given = {}): string =>
  Explanation.words(explain(status, given)).replace(/\s+/g, " ")

const openai = (type: string, message: string, code: string | null = null) => ({ error: { message, type, code } })

/** Answers of providers with what they mean, which core is measured by. */
const facts = fs.readFileSync(new URL("../../core/test/fixtures/wire/facts.json", import.meta.url), "utf8")

const members = [
  "classification",
  "retryable",
  "attribution",
  "limitedDimension",
  "retryAfterSeconds",
  "retryAfterSource"
]
const sums = ["requests", "tokens", "inputTokens", "outputTokens"]

describe("an explanation as JSON", () => {
  it("tells of each answer that is known what the facts say, with these members in this order", () => {
    const vectors: ReadonlyArray<{ id: string; expected: Record<string, any> }> = JSON.parse(facts).vectors
    const answers = Result.getOrThrow(AnswerFile.parse("facts", facts))
    assert.strictEqual(answers.length, vectors.length)
    for (const [index, answer] of answers.entries()) {
      const { expected, id } = vectors[index]!
      const line = Explanation.json(Explanation.make(answer, { clockMillis: 0 }))
      const told = JSON.parse(line)
      assert.deepStrictEqual(Object.keys(told), [...members, ...sums.filter((sum) => expected[sum] !== undefined)], id)
      for (const member of members) assert.deepStrictEqual(told[member], expected[member], `${id}: ${member}`)
      for (const sum of sums.filter((sum) => expected[sum] !== undefined)) {
        const { limit, remaining, resetSeconds } = expected[sum]
        assert.strictEqual(
          JSON.stringify(told[sum]),
          JSON.stringify({ limit, remaining, resetSeconds }),
          `${id}: ${sum}`
        )
      }
    }
  })

  it("is null where nothing is known, and leaves out a sum of which nothing is", () => {
    assert.strictEqual(
      Explanation.json(explain(200)),
      `{"classification":"ok","retryable":false,"attribution":null,"limitedDimension":null,` +
        `"retryAfterSeconds":null,"retryAfterSource":null}`
    )
    assert.strictEqual(
      Explanation.json(explain(429, { headers: { "retry-after": "2", "x-ratelimit-remaining-tokens": "-0" } })),
      `{"classification":"rate_limited","retryable":true,"attribution":"caller","limitedDimension":"tokens",` +
        `"retryAfterSeconds":2,"retryAfterSource":"retry-after",` +
        `"tokens":{"limit":null,"remaining":0,"resetSeconds":null}}`
    )
  })
})

describe("an explanation in words", () => {
  it("says of a throttle whose doing it is, when to send again, and what that does to the pace", () => {
    const text = words(429, {
      headers: { "retry-after": "2", "x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "0" }
    })
    assert.match(text, /^429 rate_limited: our traffic \(tokens\)\. May be sent again, after 2 s \(retry-after\)\. /)
    assert.include(text, "Evenkeel waits 2 s, sends it again, and lowers the pace of tokens.")
    assert.include(text, "sum limit per second remaining tokens 6000 per min 100 0 ")
    assert.include(words(429), "Evenkeel backs off, sends it again, and lowers the pace of requests.")
  })

  it("says of short capacity that what was learned of the limits stays", () => {
    const text = words(503)
    assert.match(text, /^503 overloaded: the provider\. May be sent again\. Evenkeel backs off and sends it again\./)
    assert.include(text, "what was learned of the limits stays")
    assert.notInclude(text, "lowers the pace")
  })

  it("says what closes, and for how long", () => {
    const spent = words(429, { body: openai("insufficient_quota", "Pay.") })
    assert.match(
      spent,
      /^429 quota_exhausted: our account\. Not to be sent again\. Evenkeel sends nothing more with this API key: /
    )
    assert.match(words(401), /^401 auth: our request\. .* with this API key: it is not accepted\. /)
    assert.include(
      words(404, { body: openai("x", "No.", "model_not_found") }),
      "Evenkeel sends nothing more to this model: the provider does not know it."
    )
    const day = words(429, {
      provider: "groq",
      headers: {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "4h17m"
      }
    })
    assert.include(day, "Evenkeel sends nothing more to this model for 4 h 17 min: the quota is spent.")
  })

  it("says of a success that a hint stops nothing, and whether it tells a rate to pace by", () => {
    const hinted = words(200, { headers: { "retry-after": "13" } })
    assert.match(hinted, /^200 ok\. It asks to wait 13 s \(retry-after\)\. On a success that stops nothing\. /)
    assert.include(hinted, "It tells no rate to pace by")
    const paced = words(200, { headers: { "x-ratelimit-limit-requests": "60" } })
    assert.match(paced, /^200 ok\. Evenkeel paces by its limits\. /)
  })

  it("says that a call may have run, that a stream had begun, that a wait is too long", () => {
    assert.include(words(504), "It may have run and been billed")
    const stream =
      `data: {"choices":[{"delta":{"content":"Hel"}}]}\n\ndata: {"error":{"message":"broke","type":"server_error"}}\n\n`
    const begun = words(200, { body: stream, stream: true })
    assert.match(begun, /^200 server_error: the provider\. Not to be sent again\. The answer had begun: /)
    assert.strictEqual(words(200, { body: stream, headers: { "content-type": "text/event-stream" } }), begun)
    assert.include(words(429, { headers: { "retry-after": "4000000" } }), "longer than Evenkeel waits")
    assert.include(words(429, { headers: { "retry-after": "7200" } }), "evenkeel run stops")
    assert.include(words(400), "Evenkeel hands the error to the caller.")
    assert.include(words(500), "sends it again, a few times.")
  })

  it("names limits that stand beside, other sums, declared policies, and what it could not read", () => {
    const text = words(200, {
      headers: {
        "x-ratelimit-limit-input-images": "50",
        "ratelimit-policy": `"burst";q=100;w=60,"daily";q=1000;w=86400`,
        "ratelimit": `"daily";r=5;t=36000`,
        "x-ratelimit-remaining-requests": "many"
      }
    })
    assert.include(text, "requests (daily) 1000 per day 0.012 5 10 h")
    assert.include(text, "input-images 50 ")
    assert.include(text, "Also declared: 100 requests per min (burst).")
    assert.include(text, "Not understood: x-ratelimit-remaining-requests: many")
  })

  it("says who read it and why, and when the clock of this machine was needed", () => {
    const reader = (given: Given, options: Partial<Parameters<typeof Explanation.make>[1]> = {}) =>
      Explanation.words(explain(429, given, options)).replace(/\s+/g, " ")
    const profile = ProviderProfile.together
    assert.include(reader({}), "No provider is named: read by the names of its headers.")
    assert.include(reader({}, { profile }), "Read as together, named by --provider.")
    assert.include(reader({ provider: "openai" }, { profile }), "Read as openai, named in the input.")
    assert.include(reader({ provider: "ac\u001bme" }, { profile }), `"ac\\x1bme" is no provider that Evenkeel knows: `)

    const headers = { "x-ratelimit-reset": "1767225660" }
    assert.include(reader({ headers }), "this machine's clock")
    assert.include(reader({ headers }), "after 60 s")
    assert.notInclude(reader({ headers, nowMillis: 1_767_225_650_000 }), "clock")
    assert.include(reader({ headers }, { nowMillis: 1_767_225_650_000 }), "after 10 s")
    assert.notInclude(reader({ headers: { "x-ratelimit-reset": "5" } }), "clock")
  })

  it("shows no key that a provider repeats, and nothing of headers that are not about limits", () => {
    const text = words(401, {
      headers: { "set-cookie": "session=s3cret", "authorization": "Bearer s3cret", "x-request-id": "s3cret" },
      body: openai("auth", "Incorrect API key provided: sk-proj-abcdefgh1234. Bearer abc.def")
    })
    assert.include(text, "Incorrect API key provided: [key]. [key]")
    assert.notMatch(text, /s3cret|abcdefgh|abc\.def/)
  })

  it("fits 80 columns for each answer that is known", () => {
    for (const answer of Result.getOrThrow(AnswerFile.parse("facts", facts))) {
      const lines = Explanation.words(Explanation.make(answer, { clockMillis: 0 }), "#148 ").split("\n")
      for (const line of lines) assert.isAtMost(line.length, 80, line)
    }
  })

  it("fits 80 columns and holds no control character, whatever the answer", () => {
    const value = fc.oneof(
      fc.string({ unit: "binary", maxLength: 300 }),
      fc.nat().map(String),
      fc.constantFrom("0", "1e3", "6m0s", `"a";r=1;t=2`, `"${"p".repeat(90)}";q=5;w=3`, "100;w=60, 5;w=1")
    )
    const field = fc.constantFrom(
      "retry-after",
      "ratelimit",
      "ratelimit-policy",
      "x-ratelimit-reset",
      "x-ratelimit-limit-requests",
      `x-ratelimit-remaining-${"long-".repeat(20)}name`,
      "x-ratelimit-limit-\u009b1m",
      "date"
    )
    const body = fc.oneof(
      value,
      fc.record({ error: fc.record({ message: value, type: value, code: fc.oneof(value, fc.nat()) }) })
    )
    const answer = fc.record({
      headers: fc.dictionary(field, value),
      body,
      provider: fc.option(fc.oneof(value, fc.constantFrom("openai", "groq", "ietf")), { nil: undefined }),
      stream: fc.boolean()
    })
    fc.assert(fc.property(fc.integer({ min: 100, max: 599 }), answer, (status, given) => {
      const explanation = explain(status, given)
      const lines = Explanation.words(explanation, "#12 ").split("\n")
      assert.match(lines[0]!, /^#12 \d{3} [a-z_]+[.:]/)
      for (const line of lines) {
        assert.notMatch(line, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
        assert.isAtMost(line.length, 80, line)
      }
      assert.notMatch(Explanation.json(explanation), /\n|Infinity|NaN|:-0[,}]/)
    }))
  })
})
