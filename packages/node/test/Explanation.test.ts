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
    {
      status,
      headers: {},
      body: undefined,
      unread: undefined,
      nowMillis: undefined,
      provider: undefined,
      host: undefined,
      stream: undefined,
      ...given
    },
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
    assert.include(text, "What was learned of the limits stays.")
    assert.notInclude(text, "lowers the pace")
  })

  it("says what closes, and for how long", () => {
    const spent = words(429, { body: openai("insufficient_quota", "Pay.") })
    assert.match(
      spent,
      /^429 quota_exhausted: our account\. Not to be sent again\. Evenkeel sends nothing more with this API key: its money or spending limit is used up\./
    )
    assert.match(words(401), /^401 auth: our request\. .* with this API key: it is not accepted\. /)
    assert.include(
      words(404, { body: openai("x", "No.", "model_not_found") }),
      "Evenkeel sends nothing more to this model: the provider does not serve it to this key."
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
    assert.include(words(500), "Evenkeel backs off and sends it again a few times. The pace stays as it is.")
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
      Explanation.words(explain(429, given, options), { showsReader: true }).replace(/\s+/g, " ")
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

  it("leaves out who read it where somebody named the provider, unless answers differ in that", () => {
    const profile = ProviderProfile.together
    assert.notInclude(Explanation.words(explain(429, {}, { profile })), "Read as")
    assert.notInclude(words(429, { provider: "openai" }), "Read as")
    assert.include(words(429, { provider: "acme" }), "no provider that Evenkeel knows")
    assert.include(
      words(429, { provider: "OpenAI", headers: { "retry-after": "Tue, 06 Oct 2026 12:00:30 GMT" } }),
      "clock"
    )
    assert.include(Explanation.words(explain(429, { provider: "TOGETHER" }), { showsReader: true }), "Read as together")
  })

  it("reads as the provider of the host that was asked, when none is named, and says so", () => {
    const host = "api.together.xyz:443"
    assert.strictEqual(explain(429, { host }).reader, "Read as together, by its host api.together.xyz:443.")
    assert.include(words(429, { host }), "by its host")
    assert.strictEqual(explain(429, { host, provider: "groq" }).reader, "Read as groq, named in the input.")
    assert.match(explain(429, { host }, { profile: ProviderProfile.openai }).reader, /^Read as openai, named by/)
    assert.strictEqual(
      explain(429, { host: "x.example" }).reader,
      "No provider is named: read by the names of its headers."
    )
  })

  it("tells of the clock also when by the clock of this machine all dates have passed", () => {
    const headers = { "x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1763707600" }
    assert.include(words(429, { headers }), "Dates in it are measured from this machine's clock; --now sets another.")
    assert.include(words(429, { headers: { "retry-after": "Tue, 07 Oct 2025 12:00:30 GMT" } }), "clock")
    assert.notInclude(words(429, { headers: { ...headers, date: "Thu, 20 Nov 2025 12:00:00 GMT" } }), "clock")
    assert.notInclude(words(429, { headers: { "retry-after": "30" } }), "clock")
  })

  it("says of a failure that is tried again all the same that it seldom helps", () => {
    const text = words(500, { provider: "together", body: openai("server_error", "Internal") })
    assert.match(
      text,
      /^500 server_error: the provider\. Sending it again seldom helps\. Evenkeel sends it again a few times all the same\./
    )
  })

  it("says of such a failure how long it waits, where it is asked to", () => {
    const text = words(500, {
      provider: "together",
      headers: { "retry-after": "5" },
      body: openai("server_error", "No")
    })
    assert.include(text, "seldom helps; it asks to wait 5 s (retry-after).")
    assert.include(text, "Evenkeel waits 5 s and sends it again a few times all the same.")
  })

  it("says of limits that are not paced by why they are not", () => {
    const not = "Evenkeel does not pace by these limits (an hour or longer, or of input or output alone): " +
      "it finds a rate by trying."
    assert.include(words(200, { headers: { "x-ratelimit-limit-requests-day": "1000" } }), not)
    assert.include(words(200, { headers: { "anthropic-ratelimit-input-tokens-limit": "1000" } }), not)
    assert.include(words(200, { headers: { "x-ratelimit-remaining-requests": "5" } }), "It tells no rate to pace by")
    assert.include(words(200), "It tells no rate to pace by")
  })

  it("says of a redirect and of an answer without content that they are no answer", () => {
    for (const status of [301, 302, 303, 307, 308]) {
      assert.match(
        words(status, { headers: { "retry-after": "5" } }),
        new RegExp(`^${status}: a redirect, no answer yet \\(curl -L follows it\\)\\.$`)
      )
    }
    assert.match(words(304), /^304: not changed, no answer in it\.$/)
    assert.match(words(100), /^100: no answer yet\.$/)
  })

  it("says which hints were passed over, and why limits are not counted", () => {
    const says = (headers: Record<string, string>) => words(429, { headers })
    assert.include(says({ "retry-after": "0" }), "Passed over: retry-after: 0 (no wait).")
    assert.include(says({ "retry-after": "-5" }), "Passed over: retry-after: -5 (no wait).")
    assert.include(says({ "retry-after-ms": "0" }), "Passed over: retry-after-ms: 0 (no wait).")
    assert.include(
      says({ "retry-after": "Tue, 07 Oct 2025 12:00:30 GMT" }),
      "Passed over: retry-after: Tue, 07 Oct 2025 12:00:30 GMT (it has passed)."
    )
    assert.include(says({ "retry-after": "soon" }), "Not understood: retry-after: soon")
    assert.notInclude(says({ "retry-after": "soon" }), "Passed over")
    assert.notInclude(says({ "retry-after": "3", "retry-after-ms": "2500" }), "Passed over")

    const limit = { "x-ratelimit-limit-requests": "60" }
    assert.include(
      words(200, { headers: { ...limit, age: "30" } }),
      "From a cache (age 30): its limits are not counted."
    )
    for (const headers of [{ ...limit, age: "0" }, { age: "30" }, limit]) {
      assert.notInclude(words(200, { headers }), "cache")
    }
  })

  it("says what cannot be told without a body", () => {
    const spent = "No body was given, so a spent budget cannot be told from a throttle."
    assert.include(words(429), spent)
    assert.include(words(429, { body: " \n" }), spent)
    assert.notInclude(words(429, { body: "{}" }), "No body")
    assert.notInclude(words(503), "No body")
    assert.include(words(403), "No body was given, so a limit cannot be told from a lack of rights.")
    const unread = words(429, { unread: "br" })
    assert.include(unread, "The body is compressed (br) and was not read; curl --compressed shows it.")
    assert.notInclude(unread, "No body")
  })

  it("tells the words of something in front of the provider as the answer's", () => {
    assert.match(words(503, { body: "<html><title>Busy</title>" }), /The answer says: "Busy"/)
    assert.match(words(503, { body: openai("x", "Busy") }), /The provider says: "Busy"/)
  })

  it("has no row that says nothing, nor one that says the same again", () => {
    const rows = (headers: Record<string, string>) =>
      Explanation.words(explain(200, { headers })).split("\n").filter((line) => /^ {2}(?:requests|tokens)/.test(line))
    assert.deepStrictEqual(rows({ "x-ratelimit-reset-requests": "0" }), [])
    assert.deepStrictEqual(rows({ "x-ratelimit-limit-requests": "60", "x-ratelimit-reset-tokens": "0s" }), [
      "  requests  60 per min  1"
    ])
    const both = {
      "x-ratelimit-limit-requests": "60",
      "x-ratelimit-remaining-requests": "5",
      "x-ratelimit-reset-requests": "30"
    }
    const again = (left: number) => ({
      ...both,
      "ratelimit-policy": `"a";q=60;w=60`,
      "ratelimit": `"a";r=${left};t=30`
    })
    assert.strictEqual(rows(again(5)).length, 1)
    assert.strictEqual(rows(again(4)).length, 2)
  })

  it("rounds figures before it cuts names, and cuts no name while there is room", () => {
    const long = "a-policy-with-a-rather-long-name-of-its-own"
    const roomy = Explanation.words(explain(200, { headers: { "ratelimit": `"${long}";r=5` } }))
    assert.include(roomy, `(${long})`)
    const headers = {
      "x-ratelimit-limit-tokens": `1${"0".repeat(36)}`,
      "x-ratelimit-remaining-tokens": "123456789012345.67891",
      "x-ratelimit-limit-requests": "123456.123456",
      "x-ratelimit-remaining-requests": "0.00001",
      "x-ratelimit-reset-requests": "86399999s",
      "ratelimit-policy": `"${long}";q=987654321098765;w=86399999`,
      "ratelimit": `"${long}";r=987654321098765;t=86399999`
    }
    const text = Explanation.words(explain(200, { headers }))
    for (const line of text.split("\n")) assert.isAtMost(line.length, 80, line)
    assert.include(text, ">1e15 per min")
    assert.include(text, "1.2e14")
    assert.notMatch(text, /\.\d{4}|e\+/)
  })

  it("shows no key that a provider repeats, and nothing of headers that are not about limits", () => {
    const text = words(401, {
      headers: { "set-cookie": "session=s3cret", "authorization": "Bearer s3cret", "x-request-id": "s3cret" },
      body: openai("auth", "Incorrect API key provided: sk-proj-abcdefgh1234. Bearer abc.def")
    })
    assert.include(text, "Incorrect API key provided: [key]. [key]")
    assert.notMatch(text, /s3cret|abcdefgh|abc\.def/)
    const key = "tgp_v1_abcdefgh1234"
    const everywhere = words(401, {
      provider: key,
      headers: {
        "retry-after": key,
        [`x-ratelimit-limit-${key}`]: "5",
        "ratelimit-policy": `"${key}";q=5;qu="${key}"`
      },
      body: openai(key, "No.", key)
    })
    assert.notInclude(everywhere, "abcdefgh")
    assert.include(everywhere, "(type [key], code [key])")
  })

  it("fits 80 columns for each answer that is known", () => {
    for (const answer of Result.getOrThrow(AnswerFile.parse("facts", facts))) {
      const lines = Explanation.words(Explanation.make(answer, { clockMillis: 0 }), {
        label: "#148 ",
        showsReader: true
      }).split("\n")
      for (const line of lines) assert.isAtMost(line.length, 80, line)
    }
  })

  it("fits 80 columns and holds no control character, whatever the answer", () => {
    const value = fc.oneof(
      fc.string({ unit: "binary", maxLength: 300 }),
      fc.nat().map(String),
      fc.constantFrom(
        "0",
        "1e3",
        "6m0s",
        `1${"0".repeat(36)}`,
        "123456789012345.678",
        "9999999999999",
        `"a";r=1;t=2`,
        `"${"p".repeat(90)}";q=5;w=3`,
        "100;w=60, 5;w=1"
      )
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
      const lines = Explanation.words(explanation, { label: "#12 ", showsReader: true }).split("\n")
      assert.match(lines[0]!, /^#12 \d{3}(?: [a-z_]+[.:]|: )/)
      for (const line of lines) {
        assert.notMatch(line, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
        assert.isAtMost(line.length, 80, line)
      }
      assert.notMatch(
        lines.filter((line) => /^ {2}(?:requests|tokens|input|output)/.test(line)).join("\n"),
        /\d\.\d{4}/
      )
      assert.notMatch(Explanation.json(explanation), /\n|Infinity|NaN|:-0[,}]/)
    }))
  })
})
