import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as CommandLine from "./CommandLine.ts"

const curl =
  "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nSet-Cookie: id=s3cret\r\nX-RateLimit-Limit-Requests: 60\r\n" +
  `\r\n{"error":{"message":"Slow \\u001b]0;mine\\u0007down","type":"\u009b31m"}}\n`

const busy = { status: 503, headers: { "Retry-After": ["1", "3"] }, body: "<html>busy</html>" }

describe.concurrent("evenkeel explain", () => {
  it.live("reads what curl -i prints from standard input, and shows no escape sequence and no cookie", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      for (const args of [["explain"], ["explain", "-"]]) {
        const ended = yield* folder.run(args, { stdin: curl })
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.strictEqual(ended.stderr, "")
        const [first, second, head, row, says] = ended.stdout.split("\n")
        assert.strictEqual(first, "429 rate_limited: our traffic. May be sent again, after 2 s (retry-after).")
        assert.include(second, "waits 2 s")
        assert.deepStrictEqual(head?.trim().split(/ {2,}/), ["sum", "limit", "per second"])
        assert.deepStrictEqual(row?.trim().split(/ {2,}/), ["requests", "60 per min", "1"])
        assert.include(says, `"Slow \\x1b]0;mine\\x07down" (type \\x9b31m)`)
        assert.notMatch(ended.stdout, /(?!\n)\p{Cc}|s3cret/u)
      }
    }))

  it.live("numbers several answers, with a blank line between them", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("answers.jsonl", `${JSON.stringify(busy)}\n\n${JSON.stringify({ status: 200, headers: {} })}\n`)
      const ended = yield* folder.run(["explain", "answers.jsonl"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      const [one, two, ...more] = ended.stdout.split("\n\n")
      assert.match(one!, /^#1 503 /)
      assert.match(two!, /^#2 200 ok\.\n/)
      assert.deepStrictEqual(more, [])
    }))

  it.live("prints one JSON object a line and nothing else with --json, whatever the answers say", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("answers.json", JSON.stringify({ vectors: [busy, { status: 401, headers: {} }] }))
      const ended = yield* folder.run(["explain", "answers.json", "--json"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(ended.stderr, "")
      const [one, two, ...more] = ended.stdout.split("\n")
      assert.deepInclude(JSON.parse(one!), { retryable: true, retryAfterSeconds: 3, retryAfterSource: "retry-after" })
      assert.strictEqual(
        two,
        `{"classification":"auth","retryable":false,"attribution":"caller","limitedDimension":null,` +
          `"retryAfterSeconds":null,"retryAfterSource":null}`
      )
      assert.deepStrictEqual(more, [""])
    }))

  it.live("reads as the provider that the answer names, else as the one of the flag", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const bare = { status: 200, headers: { "x-ratelimit-limit": "10", "x-ratelimit-reset": "1" } }
      folder.write("both.json", JSON.stringify([bare, { ...bare, provider: "openai" }, { ...bare, provider: "acme" }]))
      const ended = yield* folder.run(["explain", "both.json", "--provider", "Together"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      const [one, two, three] = ended.stdout.split("\n\n")
      assert.match(one!, / 10 per s .*\nRead as together, named by --provider\.$/s)
      assert.match(two!, /Read as openai, named in the input\.$/)
      assert.match(three!, /"acme" is no provider that Evenkeel knows: read by the names of its headers\.\n$/)
    }))

  it.live("measures dates from --now where an answer has no clock of its own", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const dated = { status: 429, headers: { "Retry-After": "Tue, 06 Oct 2026 12:00:30 GMT" } }
      folder.write("dated.json", JSON.stringify([dated, { ...dated, now: "2026-10-06T12:00:10Z" }]))
      const ended = yield* folder.run(["explain", "dated.json", "--json", "--now", "2026-10-06T12:00:00Z"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.deepStrictEqual(
        ended.stdout.trim().split("\n").map((line) => JSON.parse(line).retryAfterSeconds),
        [30, 20]
      )
    }))

  it.live("reads what curl -v prints with its progress, and what PowerShell makes of it", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const title = "  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n" +
        "                                 Dload  Upload   Total   Spent    Left  Speed\n"
      const row = "\r100   201  100   201    0     0  42056      0 --:--:-- --:--:-- --:--:-- 43200"
      const text =
        `${title}${row}> GET / HTTP/2\r\n> Host: api.together.xyz\r\n> \r\n< HTTP/2 429 \r\n< x-ratelimit-limit: 10` +
        `\r\n< \r\n{ [5 bytes data]\n${row}\n* Connection #0 to host x left intact\n{"message":"Slow down"}`
      for (const stdin of [text, Buffer.from(`\ufeff${text.replace(/\r?\n/g, "\r\n")}\r\n`, "utf16le")]) {
        const ended = yield* folder.run(["explain"], { stdin })
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.include(ended.stdout, "  requests  10 per s  10\nThe provider says: \"Slow down\"\n")
        assert.include(ended.stdout, "Read as together, by its host api.together.xyz.\n")
      }
    }))

  it.live("ends quietly when nobody reads on", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("many.jsonl", `${JSON.stringify(busy)}\n`.repeat(20_000))
      const bin = fileURLToPath(new URL("../src/bin.ts", import.meta.url))
      const ended = yield* Effect.promise(() =>
        promisify(execFile)("sh", [
          "-c",
          `"$0" "$1" explain --json "$2" | head -n 1`,
          process.execPath,
          bin,
          folder.at("many.jsonl")
        ])
      )
      assert.match(ended.stdout, /^\{[^\n]+\}\n$/)
      assert.strictEqual(ended.stderr, "")
    }))

  const mistakes: ReadonlyArray<readonly [string, ReadonlyArray<string>, string | Buffer, RegExp]> = [
    ["a file that is not there", ["no.json"], "", /cannot read no\.json: no such file/],
    ["a directory", ["."], "", /cannot read \.: it is a directory/],
    ["nothing to read", [], " \n", /standard input: empty; give it what curl -i prints/],
    ["something else", ["-"], "hello", /standard input: neither JSON nor an HTTP answer/],
    [
      "a broken line among good ones",
      [],
      `{"status":200,"headers":{}}\n{"status":2`,
      /standard input:2: not valid JSON/
    ],
    [
      "one wrong answer of many",
      ["--json"],
      `[{"status":200,"headers":{}},{"status":1}]`,
      /answer 2 of 2: status 1 is/
    ],
    ["more than 64 MiB", [], Buffer.alloc(64 * 2 ** 20 + 1, 0x20), /standard input: larger than 64 MiB/],
    [
      "an unknown provider",
      ["--provider", "acme"],
      curl,
      /--provider: "acme" is not known; it is one of .*generic.*together/
    ],
    [
      "answers that cannot be told apart",
      [],
      `${curl.slice(0, -20)}\nHTTP/1.1 200 OK\nx-a: 1\n\n`,
      /standard input:7: another answer begins here, or/
    ],
    ["a day that is none", ["--now", "2026-02-30"], curl, /--now: "2026-02-30" is not a time such as/],
    ["a time that is none", ["--now", "soon"], curl, /--now: "soon" is not a time such as 2026-10-06T12:00:00Z/]
  ]
  for (const [what, args, stdin, says] of mistakes) {
    it.live(`refuses ${what} in one line, and prints nothing`, () =>
      Effect.gen(function*() {
        const folder = yield* CommandLine.folder
        const ended = yield* folder.run(["explain", ...args], { stdin })
        assert.strictEqual(ended.code, 2)
        assert.strictEqual(ended.stdout, "")
        assert.match(ended.stderr, /^evenkeel: [^\n]+\n$/)
        assert.match(ended.stderr, says)
      }))
  }
})

describe("the page on evenkeel explain", () => {
  const page = fs.readFileSync(new URL("../../../docs/explain.md", import.meta.url), "utf8")
  const files = [...page.matchAll(/^`(\S+)`:\n\n```\w+\n(.*?)^```$/gms)]
  const sessions = [...page.matchAll(/^```console\n\$ evenkeel ([^\n]+)\n(.*?)^```$/gms)]

  it.live("shows what the command prints", () =>
    Effect.gen(function*() {
      assert.strictEqual(sessions.length, 3)
      const folder = yield* CommandLine.folder
      for (const [, name, content] of files) folder.write(name!, content!)
      for (const [, args, output] of sessions) {
        const ended = yield* folder.run(args!.split(" "))
        assert.strictEqual(ended.stdout, output, ended.stderr)
      }
    }))
})
