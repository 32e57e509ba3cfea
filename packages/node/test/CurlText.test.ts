import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as zlib from "node:zlib"
import * as CurlText from "../src/cli/CurlText.ts"
import { UserError } from "../src/cli/UserError.ts"

const read = (text: string | Buffer) =>
  CurlText.read("in", Buffer.from(text as string)).map(({ body, headers, host, status }) => ({
    status,
    headers: Object.fromEntries(headers),
    body: body.toString("utf8"),
    host
  }))

/** Statuses and bodies. */
const told = (text: string | Buffer) => read(text).map(({ body, status }) => [status, body])

const mistake = (text: string): string => {
  try {
    told(text)
  } catch (error) {
    if (error instanceof UserError) return error.message
    throw error
  }
  return "it was read"
}

const json = `{"error":{"message":"Slow {\\"down\\"} [","type":"rate_limit_error"}}`

const lines = (...all: ReadonlyArray<string>) => all.map((line) => `${line}\r\n`).join("")

const title = "  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n" +
  "                                 Dload  Upload   Total   Spent    Left  Speed\n"

const row = (figures: string) => `\r${figures}`

const start = row("  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0")

const half = row(" 50   201   50   100    0     0    12k      0  0:00:02  0:00:01  0:00:01 12.5k")

const done = row("100   201  100   201    0     0  42056      0 --:--:--  0:00:01 --:--:-- 43200")

describe("what curl says of its progress", () => {
  const headers = lines("< HTTP/1.1 429 Too Many Requests", "< x-a: 1", "< ")

  it("is no part of an answer, wherever it lands", () => {
    const noisy = `${title}${start}*   Trying 127.0.0.1:1...\n* Connected to x (127.0.0.1) port 1 (#0)\n` +
      `${lines("> POST / HTTP/1.1", "> Host: x", "> ")}} [5 bytes data]\n${start}${headers}{ [5 bytes data]\n` +
      `${half}${done}\n* Connection #0 to host x left intact\n${json}`
    assert.deepStrictEqual(read(noisy), [{ status: 429, headers: { "x-a": "1" }, body: json, host: "x" }])
    const plain = `${title}${start}${half}${done}\n${lines("HTTP/1.1 429 No", "x-a: 1", "")}${json}`
    assert.deepStrictEqual(told(plain), [[429, json]])
    const within = `${title}${start}${lines("HTTP/1.1 429 No", "x-a: 1", "")}${half}${done}\n${json}`
    assert.deepStrictEqual(told(within), [[429, json]])
  })

  it("is no part of a body that it cuts in two, or that does not end its line", () => {
    const cut = `${title}${start}${headers}{ [5 bytes data]\n${json.slice(0, 9)}{ [1440 bytes data]\n` +
      `${json.slice(9, 20)}${half}${json.slice(20)}* Connection #0 to host x left intact\n`
    assert.deepStrictEqual(told(cut), [[429, `${json}\n`]])
  })

  it("is kept where it is none: in the body of an answer without it", () => {
    const body = `x${half}\ny`
    assert.deepStrictEqual(told(`${lines("HTTP/1.1 500 No", "x-a: 1", "")}${body}`), [[500, body]])
  })
})

describe("headers that curl prints twice, with -v and -i", () => {
  const asked = (path: string) => `> GET ${path} HTTP/1.1\n> Host: api.x.example\n>\n`
  const block = ["HTTP/1.1 429 No", "x-a: 1", "content-type: application/json", ""]
  const verbose = lines(...block.map((line) => `< ${line}`))

  it("are told once", () => {
    assert.deepStrictEqual(told(`${asked("/")}${verbose}{ [9 bytes data]\n* left\n${lines(...block)}${json}`), [[
      429,
      json
    ]])
    assert.deepStrictEqual(told(`${asked("/")}${verbose}* left\n${lines(...block)}`), [[429, ""]])
    const moved = ["HTTP/1.1 302 Found", "location: /b", ""]
    assert.deepStrictEqual(
      told(
        `${asked("/a")}${lines(...moved.map((line) => `< ${line}`))}* Ignoring the response-body\n` +
          `${asked("/b")}${verbose}${lines(...moved)}${lines(...block)}${json}`
      ),
      [[429, json]]
    )
  })

  it("are two where they differ: then the others are a body", () => {
    const other = lines("HTTP/1.1 200 OK", "x-b: 2", "")
    assert.deepStrictEqual(told(`${asked("/")}${verbose}${other}x`), [[429, `${other}x`]])
  })

  it("are those of two answers where two were asked for", () => {
    const second = lines("HTTP/1.1 200 OK", "x-b: 2", "")
    const text = `${asked("/a")}${verbose}${lines(...block)}${json}* Connection #0 to host x left intact\n` +
      `${asked("/b")}${second.replace(/^(?=.)/gm, "< ").replace(/^\r\n/m, "< \r\n")}${second}{}`
    assert.deepStrictEqual(told(text), [[429, json], [200, "{}"]])
  })

  it("are not searched for in a body that looks like them", () => {
    assert.deepStrictEqual(told(`${asked("/")}${verbose}a page\n< HTTP/1.1 200 OK\n`), [[
      429,
      "a page\n< HTTP/1.1 200 OK\n"
    ]])
  })
})

describe("two answers after each other", () => {
  const block = (status: number, ...headers: ReadonlyArray<string>) => lines(`HTTP/1.1 ${status} X`, ...headers, "")
  const second = `${block(200, "x-b: 2")}{}`

  it("are two where the length of the first says so, whatever is in it", () => {
    const body = `${block(200, "x-c: 3")}é`
    const length = `content-length: ${Buffer.byteLength(body)}`
    assert.deepStrictEqual(told(`${block(429, length)}${body}${second}`), [[429, body], [200, "{}"]])
    assert.deepStrictEqual(told(`${block(429, length)}${body}\n${second}`), [[429, `${body}\n`], [200, "{}"]])
    assert.deepStrictEqual(told(`${block(429, length)}${body}`), [[429, body]])
  })

  it("are two where the first is JSON, a page, an event stream or compressed, and whole", () => {
    const page = "<html>HTTP/1.1 200 no</html>\n"
    assert.deepStrictEqual(told(`${block(429, "x-a: 1")}${json}${second}`), [[429, json], [200, "{}"]])
    assert.deepStrictEqual(told(`${block(429, "x-a: 1")}${json}\r\nx-t: 1\r\n${second}`), [[429, json], [200, "{}"]])
    assert.deepStrictEqual(told(`${block(503, "x-a: 1")}${page}${second}`), [[503, page], [200, "{}"]])
    const stream = "data: {}\n\n"
    const type = "content-type: text/event-stream"
    assert.deepStrictEqual(told(`${block(200, type)}${stream}${second}`), [[200, stream], [200, "{}"]])
    const gzip = zlib.gzipSync(json)
    const mixed = Buffer.concat([Buffer.from(block(429, "content-encoding: gzip")), gzip, Buffer.from(second)])
    assert.deepStrictEqual(CurlText.read("in", mixed).map(({ body }) => body), [gzip, Buffer.from("{}")])
  })

  it("are two where the first has no body and was the answer itself", () => {
    assert.deepStrictEqual(told(`${block(429, "content-length: 0")}${second}`), [[429, ""], [200, "{}"]])
    assert.deepStrictEqual(told(`${block(429, "content-length: 99")}${block(503, "x-a: 1")}`), [[429, ""], [503, ""]])
  })

  it("are one where the first is a redirect, an interim answer or a proxy's", () => {
    for (
      const before of [
        block(100),
        block(103, "link: x"),
        block(302, "location: /"),
        block(407, "x-a: 1"),
        block(200, "via: p")
      ]
    ) {
      assert.deepStrictEqual(told(`${before}${second}`), [[200, "{}"]], before)
      assert.deepStrictEqual(
        told(`${block(429, "x-a: 1")}${json}${before}${second}`),
        [[429, json], [200, "{}"]],
        before
      )
    }
  })

  it("are refused with the line where it cannot be told", () => {
    assert.match(
      mistake(`${block(503, "x-a: 1")}busy\n${second}`),
      /^in:5: another answer begins here, or the body .* file/
    )
    assert.match(mistake(`${block(503, "x-a: 1")}{"a":${second}`), /^in:4: another answer/)
    assert.match(mistake(`${block(503, "x-a: 1")}{"a":1}{"b":2}\n${second}`), /^in:5: another answer/)
  })

  it("are one where the body only speaks of HTTP", () => {
    for (
      const body of [
        "HTTP/1.1 200 OK",
        "see\nHTTP/1.1 200 OK\n",
        "x HTTP/1.1 200 OK\nand so on: a\n{",
        JSON.stringify("HTTP/1.1 200 OK\nx: 1\n\n")
      ]
    ) {
      assert.deepStrictEqual(told(`${block(429, "x-a: 1")}a${body}`), [[429, `a${body}`]], body)
    }
    const answer = `{"a":${JSON.stringify(second)}}`
    assert.deepStrictEqual(told(`${block(429, "x-a: 1")}${answer}`), [[429, answer]])
  })

  it("are each what they are alone", () => {
    const one = fc.record({
      status: fc.integer({ min: 400, max: 599 }),
      body: fc.jsonValue().filter((value) => typeof value === "object" && value !== null),
      ends: fc.constantFrom("", "\n", "\r\n"),
      hasLength: fc.boolean()
    })
    fc.assert(fc.property(fc.array(one, { minLength: 1, maxLength: 4 }), (all) => {
      const texts = all.map(({ body, ends, hasLength, status }) => {
        const text = JSON.stringify(body) + ends
        return block(status, hasLength ? `content-length: ${Buffer.byteLength(text)}` : "x-a: 1") + text
      })
      assert.deepStrictEqual(
        told(texts.join("")).map(([status, body]) => [status, JSON.parse(`${body}`)]),
        all.map(({ body, status }) => [status, JSON.parse(JSON.stringify(body))])
      )
    }))
  })
})

describe("a body of JSON", () => {
  it("ends where the JSON ends when only a trailer, or what curl says of its exit, follows", () => {
    const head = lines("HTTP/1.1 429 No", "transfer-encoding: chunked", "")
    for (
      const after of [
        "x-t: 1\r\n",
        "\r\nx-t: 1\r\nx-u: a b\r\n\r\n",
        "curl: (22) The requested URL returned error: 429\n"
      ]
    ) {
      assert.deepStrictEqual(told(`${head}${json}${after}`), [[429, json]], after)
    }
    for (const after of ["\n{\"b\":1}\n", " and more", "\n\n<p>"]) {
      assert.deepStrictEqual(told(`${head}${json}${after}`), [[429, `${json}${after}`]], after)
    }
  })
})

describe("the host that curl -v says it asked", () => {
  it("is the one of the last request, else the one it connected to", () => {
    const answer = lines("< HTTP/2 200", "< ")
    const hosts = (before: string) => read(before + answer).map(({ host }) => host)
    assert.deepStrictEqual(
      hosts("* Connected to proxy (1.2.3.4) port 80\n> GET / HTTP/2\n> Host: api.x.example\n>\n"),
      ["api.x.example"]
    )
    assert.deepStrictEqual(hosts("* Connected to api.x.example (1.2.3.4) port 443 (#0)\n"), ["api.x.example"])
    assert.deepStrictEqual(hosts("> host: a\n>\n< HTTP/2 302\n<\n> host: b\n>\n"), ["b"])
    assert.deepStrictEqual(hosts("> host: \u001b[1m\n"), [undefined])
  })
})

describe("text that is none of curl's", () => {
  it("is read or refused in one line, and quickly, whatever it is", () => {
    const piece = fc.constantFrom(
      "HTTP/1.1 200 OK\r\n",
      "< HTTP/2 429\n",
      "< ",
      "x-a: 1\r\n",
      "\r\n",
      "{",
      "}",
      "\"",
      "\\",
      "> GET / HTTP/1.1\n",
      title,
      half,
      "{ [5 bytes data]\n",
      "content-length: 9\n"
    )
    fc.assert(fc.property(fc.array(piece, { maxLength: 20 }), (parts) => {
      try {
        assert.isAbove(told(parts.join("")).length, 0)
      } catch (error) {
        if (!(error instanceof UserError)) throw error
        assert.match(error.message, /^in(?::\d+)?: [^\n]+$/)
      }
    }))
    const many = 200_000
    assert.match(mistake(`HTTP/1.1 500 No\n\na${"HTTP/1.1 200 OK\nx: y\n".repeat(many)}`), /another answer/)
    for (const part of ["\n", "HTTP/1.1 200 OK\nx: y\n{", "x: y\n", "{\"", "\"\\", "% Total % Received\r 1 "]) {
      const text = `HTTP/1.1 500 No\n\na${part.repeat(many)}`
      assert.strictEqual(told(text).length, 1, part)
    }
  })
})
