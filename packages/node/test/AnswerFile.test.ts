import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as zlib from "node:zlib"
import * as AnswerFile from "../src/cli/AnswerFile.ts"

const all = (text: string): ReadonlyArray<AnswerFile.Answer> => Result.getOrThrow(AnswerFile.parse("in", text))

/** The one answer of a text. */
const one = (text: string): AnswerFile.Answer => {
  const answers = all(text)
  assert.strictEqual(answers.length, 1)
  return answers[0]!
}

/** What is said of a text that cannot be read: always one line, and always status 2. */
const mistake = (text: string): string => {
  const result = AnswerFile.parse("in", text)
  if (Result.isSuccess(result)) return "it was read"
  assert.strictEqual(result.failure.exitCode, 2)
  assert.notMatch(result.failure.message, /[\p{Cc}\p{Zl}]/u)
  return result.failure.message
}

const answer = (rest: Partial<AnswerFile.Answer>): AnswerFile.Answer => ({
  status: 429,
  headers: {},
  body: undefined,
  unread: undefined,
  nowMillis: undefined,
  provider: undefined,
  host: undefined,
  stream: undefined,
  ...rest
})

describe("an answer as curl prints it", () => {
  it("is read with lines that end in CRLF or in LF, with and without a reason phrase", () => {
    const told = answer({ headers: { "retry-after": "2", "x-a": "b: c" }, body: "{\"a\":\r\n1}\n" })
    assert.deepStrictEqual(
      one("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nX-A:b: c\r\n\r\n{\"a\":\r\n1}\n"),
      told
    )
    assert.deepStrictEqual(one("HTTP/2 429 \nretry-after:  2 \nx-a: b: c\n\n{\"a\":\r\n1}\n"), told)
  })

  it("may have no body, and no end of its headers", () => {
    for (const end of ["", "\n", "\n\n", "\r\n\r\n"]) {
      assert.deepStrictEqual(one(`HTTP/2 429\nretry-after: 2${end}`), answer({ headers: { "retry-after": "2" } }))
    }
    assert.deepStrictEqual(one("HTTP/2 429"), answer({}))
  })

  it("is the last of several blocks of headers, and its body is not searched for more", () => {
    const before = "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 100 Continue\r\nx-a: 1\r\n\r\n" +
      "HTTP/1.1 302 Found\r\nretry-after: 9\r\n\r\n"
    assert.deepStrictEqual(
      one(`${before}HTTP/1.1 503 Busy\r\nx-b: 2\r\n\r\n<html>\nHTTP/1.1 200 OK\n`),
      answer({ status: 503, headers: { "x-b": "2" }, body: "<html>\nHTTP/1.1 200 OK\n" })
    )
  })

  it("joins the lines of one field by a comma, and what was folded by a space", () => {
    const { headers } = one("HTTP/1.1 200 OK\nX-A: 1\nRetry-After:\n 5\nx-a: 2\n\t3\nX-a:\n\nbody")
    assert.deepStrictEqual(headers, { "x-a": "1, 2 3, ", "retry-after": "5" })
  })

  it("is found after what a person copied with it, and within what curl -v says", () => {
    assert.strictEqual(one("$ curl -i https://x\nHTTP/2 418\n\n").status, 418)
    const said = "* Trying 1.2.3.4...\n> GET / HTTP/2\n> Authorization: Bearer s3cret\n>\n* sent off\n" +
      "< HTTP/2 302\n< location: /x\n<\n* Issue another request\n> GET /x HTTP/2\n>\n" +
      "< HTTP/2 429 \n< retry-after: 2\n< \n{ [9 bytes data]\n<p>no</p>\n< no header\n* left intact\n"
    assert.deepStrictEqual(
      one(said),
      answer({ headers: { "retry-after": "2" }, body: "<p>no</p>\n< no header\n" })
    )
  })

  it("has the time of its Date header, where that is one", () => {
    assert.strictEqual(one("HTTP/2 200\ndate: Thu, 06 Jun 2024 18:17:42 GMT\n").nowMillis, 1_717_697_862_000)
    assert.isUndefined(one("HTTP/2 200\ndate: 2024\n").nowMillis)
  })

  it("is refused with the number of the line that is wrong", () => {
    assert.match(mistake("HTTP/1.1 999 Odd\n"), /^in:1: status 999 is not .* 100 to 599$/)
    assert.match(mistake("hi\nHTTP/1.1 OK\n"), /^in:2: status "OK" is not/)
    assert.match(mistake("HTTP/1.1 429 No\nretry-after: 2\n{\"error\":{}}\n"), /^in:3: no header line .*empty line/)
    assert.match(mistake("HTTP/2 200\n: x\n"), /^in:2: no header line/)
    assert.match(mistake("hello"), /^in: neither JSON nor an HTTP answer; give it what curl -i prints/)
    assert.match(mistake("\uFEFF \n"), /^in: empty; give it/)
  })
})

describe("an answer as JSON", () => {
  it("has names of any case, values of one or several lines, and numbers for values", () => {
    const { headers } = one(
      `{"status":429,"headers":{"Retry-After":["1","20"],"retry-after":3,"X-None":[],"__proto__":"a"}}`
    )
    assert.deepStrictEqual(Object.entries(headers), [["retry-after", "1, 20, 3"], ["__proto__", "a"]])
  })

  it("keeps a body of text as text and one of JSON as JSON; null is no body", () => {
    const body = (text: string) => one(`{"status":429,"headers":{},"body":${text}}`).body
    assert.deepStrictEqual(body(`"{\\"a\\":"`), "{\"a\":")
    assert.deepStrictEqual(body(`[{"a":1}]`), [{ a: 1 }])
    assert.isUndefined(body("null"))
  })

  it("may say when it came, whose it is and that it is a stream; what else it holds is passed over", () => {
    assert.deepStrictEqual(
      one(
        `{"id":"x","status":200,"headers":{"date":"Thu, 06 Jun 2024 18:17:42 GMT"},"now":"2024-06-06T20:00:00+02:00",` +
          `"provider":"together","stream":true,"expected":{}}`
      ),
      answer({
        status: 200,
        headers: { date: "Thu, 06 Jun 2024 18:17:42 GMT" },
        nowMillis: Date.UTC(2024, 5, 6, 18),
        provider: "together",
        stream: true
      })
    )
    assert.deepStrictEqual(
      one(`{"status":429,"headers":{},"now":null,"provider":null,"stream":null}`),
      answer({})
    )
  })

  it("may be many: an array, a member vectors, or one a line", () => {
    const two = [`{"status":429,"headers":{}}`, `{"status":503,"headers":{}}`]
    const forms = [
      `[\n${two.join(",\n")}\n]`,
      `{"meta":{},"vectors":[${two.join(",")}]}`,
      `\n${two.join("\r\n\r\n")}\n`,
      `\uFEFF${two.join("\n")}`
    ]
    for (const text of forms) assert.deepStrictEqual(all(text).map(({ status }) => status), [429, 503])
  })

  it("is refused with what is wrong, and which one of many", () => {
    const wrong: ReadonlyArray<readonly [string, RegExp]> = [
      [`{"headers":{}}`, /^in: no status; an answer is \{"status": 429/],
      [`{"status":"429","headers":{}}`, /^in: status "429" is not/],
      [`{"status":429.5,"headers":{}}`, /^in: status 429\.5 is not/],
      [`{"status":429}`, /^in: headers must be an object/],
      [`{"status":429,"headers":["a"]}`, /^in: headers must be an object/],
      [`{"status":429,"headers":{"a\\u001b":null}}`, /^in: header "a\\u001b" must be a string/],
      [`{"status":429,"headers":{"a":[true]}}`, /^in: header "a" must be a string/],
      [`{"status":429,"headers":{},"now":"soon\u009b"}`, /^in: now "soon\\x9b" is not a date such as 2026/],
      [`{"status":429,"headers":{},"now":"2026-02-30"}`, /^in: now "2026-02-30" is not a date/],
      [`{"status":429,"headers":{},"now":5}`, /^in: now must be a string, not 5$/],
      [`{"status":429,"headers":{},"provider":{}}`, /^in: provider must be a string/],
      [`{"status":429,"headers":{},"stream":"yes"}`, /^in: stream must be a boolean/],
      [`[]`, /^in: no answer in the array/],
      [`[{"status":200,"headers":{}},7]`, /^in: answer 2 of 2: not a JSON object/],
      [`{"status":200,"headers":{}}\n\n{"status":0,"headers":{}}`, /^in:3: status 0 is not/],
      [`{"status":200,"headers":{}}\n[]\n`, /^in:2: not a JSON object/]
    ]
    for (const [text, says] of wrong) assert.match(mistake(text), says)
  })

  it("is refused with the line in which it breaks", () => {
    const whole = `{\n "status": 429,\n "headers": {\n  "a": "1"\n }\n}\n`
    assert.strictEqual(one(whole).status, 429)
    const broken: ReadonlyArray<readonly [string, number]> = [
      [whole.replace("429", "429 x"), 2],
      [whole.replace("429,", "429"), 3],
      [whole.replace("\"1\"", "tru"), 4],
      [whole.replace("\"1\"", "\"1\u001b"), 4],
      [whole.replace(" }\n}\n", " }\n\n\n"), 5],
      [`${whole}${whole}`, 7],
      [`{"status":200,"headers":{}}\n{"status":200,\n`, 2]
    ]
    for (const [text, line] of broken) assert.match(mistake(text), new RegExp(`^in:${line}: not valid JSON`))
  })
})

/** Names of headers that are written in any case, and values as they come out of a header line. */
const fields = fc.uniqueArray(
  fc.tuple(
    fc.stringMatching(/^x-[a-z0-9!#$%&'*+.^_`|~-]{0,12}$/),
    fc.array(fc.stringMatching(/^[!-~]{0,8}( [!-~]{1,8})*$/).map((value) => value.trim()), {
      minLength: 1,
      maxLength: 3
    })
  ),
  { selector: ([name]) => name, maxLength: 5 }
)

const texts = fc.string({ unit: "binary" }).filter((text) => text !== "" && !/^(?:< )?HTTP\//i.test(text))

const given = fc.record({
  status: fc.integer({ min: 100, max: 599 }),
  fields,
  body: fc.option(texts, { nil: undefined }),
  upper: fc.boolean()
})

const name = (text: string, upper: boolean) => (upper ? text.toUpperCase() : text)

const expected = ({ body, fields, status }: typeof given extends fc.Arbitrary<infer A> ? A : never) =>
  answer({ status, body, headers: Object.fromEntries(fields.map(([name, lines]) => [name, lines.join(", ")])) })

describe("an answer that was written down", () => {
  it("reads back the same from what curl -i would print, however its lines end and fold", () => {
    fc.assert(fc.property(given, fc.constantFrom("\n", "\r\n"), fc.boolean(), (told, newline, folds) => {
      const lines = told.fields.flatMap(([field, values]) =>
        values.map((value) => `${name(field, told.upper)}: ${folds ? value.replaceAll(" ", `${newline}\t`) : value}`)
      )
      const text = [`HTTP/1.1 ${told.status} Reason`, ...lines, "", told.body ?? ""].join(newline)
      assert.deepStrictEqual(one(text), expected(told))
    }))
  })

  it("reads back the same from JSON, from an array and from a line of its own", () => {
    const record = fc.record({
      told: given,
      json: fc.option(fc.dictionary(fc.string(), fc.jsonValue()), { nil: undefined }),
      provider: fc.option(fc.string(), { nil: undefined }),
      nowMillis: fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: undefined }),
      stream: fc.option(fc.boolean(), { nil: undefined })
    })
    fc.assert(fc.property(fc.array(record, { minLength: 1, maxLength: 4 }), fc.nat(2), (records, indent) => {
      const written = records.map(({ json, nowMillis, provider, stream, told }) => ({
        status: told.status,
        headers: Object.fromEntries(told.fields.map(([field, values]) => [
          name(field, told.upper),
          values.length === 1 ? values[0] : values
        ])),
        body: json ?? told.body,
        now: nowMillis === undefined ? undefined : new Date(nowMillis).toISOString(),
        provider,
        stream
      }))
      const answers = records.map(({ json, nowMillis, provider, stream, told }) => ({
        ...expected(told),
        ...(json === undefined ? {} : { body: JSON.parse(JSON.stringify(json)) }),
        nowMillis,
        provider,
        stream
      }))
      assert.deepStrictEqual(all(JSON.stringify(written, null, indent)), answers)
      assert.deepStrictEqual(all(JSON.stringify({ vectors: written }, null, indent)), answers)
      assert.deepStrictEqual(all(written.map((each) => JSON.stringify(each)).join("\n\n")), answers)
      assert.deepStrictEqual(all(JSON.stringify(written[0], null, indent)), answers.slice(0, 1))
    }))
  })

  it("is read or refused in one line, whatever it is", () => {
    const pieces = fc.constantFrom(
      "HTTP/1.1 ",
      "< ",
      "429",
      "\n",
      "\r\n",
      ":",
      " ",
      "{",
      "}",
      "[",
      "]",
      "\"",
      ",",
      "status"
    )
    fc.assert(fc.property(fc.array(fc.oneof(pieces, fc.string({ unit: "binary" })), { maxLength: 20 }), (parts) => {
      const text = parts.join("")
      if (Result.isFailure(AnswerFile.parse("in", text))) assert.match(mistake(text), /^in(?::|: )/)
    }))
  })
})

describe("bytes", () => {
  it("are UTF-8 or, where they are marked so, UTF-16 of either order, as PowerShell writes it", () => {
    for (const text of [`HTTP/2 429 \r\nx-a: é\r\n\r\n{"a":"漢😀"}\r\n`, `{"status":429,"headers":{"x-a":"é漢"}}`]) {
      const little = Buffer.from(`\ufeff${text}`, "utf16le")
      for (const bytes of [little, Buffer.from(little).swap16(), Buffer.from(`\ufeff${text}`), Buffer.from(text)]) {
        assert.deepStrictEqual(Result.getOrThrow(AnswerFile.parse("in", bytes)), all(text))
      }
    }
  })

  it("of a body that is compressed are inflated, or said to be unread and kept away", () => {
    const answers = (body: Buffer) =>
      Result.getOrThrow(
        AnswerFile.parse("in", Buffer.concat([Buffer.from("HTTP/2 429 \r\ncontent-encoding: br\r\n\r\n"), body]))
      )
    const headers = { "content-encoding": "br" }
    assert.deepStrictEqual(answers(zlib.brotliCompressSync(`{"a":"é"}`)), [answer({ headers, body: `{"a":"é"}` })])
    assert.deepStrictEqual(answers(Buffer.from([0x8b, 0xff, 0, 1, 2])), [answer({ headers, unread: "br" })])
  })
})

describe("a time of the input", () => {
  it("is a date, with or without a time of day in a zone that is named", () => {
    assert.strictEqual(AnswerFile.parseInstantMillis("2026-10-06"), Date.UTC(2026, 9, 6))
    assert.strictEqual(AnswerFile.parseInstantMillis("2026-10-06T12:00Z"), Date.UTC(2026, 9, 6, 12))
    assert.strictEqual(
      AnswerFile.parseInstantMillis("2026-10-06T12:00:00.5+01:30"),
      Date.UTC(2026, 9, 6, 10, 30, 0, 500)
    )
    assert.strictEqual(AnswerFile.parseInstantMillis("2028-02-29T23:00:00-05:00"), Date.UTC(2028, 2, 1, 4))
    for (const text of ["2026-02-29", "2026-02-30", "2026-04-31T12:00:00Z", "2026-02-30T12:00:00+02:00"]) {
      assert.isUndefined(AnswerFile.parseInstantMillis(text), text)
    }
    for (const text of ["", "soon", "2026", "2026-13-06", "2026-10-06T12:00:00", "2026-10-06T25:00:00Z"]) {
      assert.isUndefined(AnswerFile.parseInstantMillis(text), text)
    }
  })
})
