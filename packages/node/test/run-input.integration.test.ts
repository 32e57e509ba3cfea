import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as zlib from "node:zlib"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

/** A mistake at the command line, and what must be said of it. `URL` in the arguments is the provider. */
interface Mistake {
  readonly is: string
  readonly args: ReadonlyArray<string>
  readonly says: RegExp
  readonly job?: string | Buffer
  readonly env?: Readonly<Record<string, string>>
  readonly prepare?: (folder: CommandLine.Folder) => void
}

const here = ["run", "job.jsonl", "--base-url", "URL"]

const line = (custom_id: string, rest: object = {}): string =>
  `${JSON.stringify({ custom_id, body: { model: "m", messages: [] }, ...rest })}\n`

const mistakes: ReadonlyArray<Mistake> = [
  {
    is: "a malformed line 7",
    args: here,
    job: `${CommandLine.chats(6)}{"custom_id": "c6", "body": {\n${CommandLine.chats(3)}`,
    says: /job\.jsonl:7: not valid JSON/
  },
  {
    is: "a custom_id that comes twice",
    args: here,
    job: line("a") + line("b") + line("a"),
    says: /job\.jsonl:3: .*"a".*line 1/
  },
  {
    is: "an absolute URL",
    args: here,
    job: line("a", { url: "https://evil.example/v1/chat/completions" }),
    says: /job\.jsonl:1: url .* is not a path/
  },
  {
    is: "a file that is not there",
    args: ["run", "no.jsonl", "--base-url", "URL"],
    says: /cannot read no\.jsonl: no such file/
  },
  { is: "no input at all", args: ["run"], says: /INPUT\.jsonl/ },
  { is: "an unknown flag", args: [...here, "--frobnicate"], says: /--frobnicate/ },
  { is: "a flag without its value", args: [...here, "--model"], says: /model/ },
  { is: "two inputs", args: [...here, "other.jsonl"], says: /other\.jsonl/ },
  { is: "a number that is none", args: [...here, "--rpm", "fast"], says: /--rpm: "fast" is not/ },
  { is: "a time that is none", args: [...here, "--deadline", "soon"], says: /--deadline: "soon" is not a time/ },
  {
    is: "nonsense as base URL",
    args: ["run", "job.jsonl", "--base-url", "nonsense"],
    says: /--base-url: "nonsense" is not a URL/
  },
  { is: "a missing key", args: ["run", "job.jsonl"], says: /TOGETHER_API_KEY is not set/ },
  {
    is: "another host, to which Together's key must not go",
    args: ["run", "job.jsonl", "--base-url", "https://api.example.com/v1"],
    env: { TOGETHER_API_KEY: "sk-secret" },
    says: /api\.example\.com .*TOGETHER_API_KEY is not sent there/
  },
  {
    is: "a key that would go over http",
    args: ["run", "job.jsonl", "--base-url", "http://api.example.com/v1", "--api-key-env", "MINE"],
    env: { MINE: "sk-secret" },
    says: /--base-url: .*http.*https/
  },
  { is: "a header without a colon", args: [...here, "--header", "nope"], says: /--header: .*Name: value/ },
  {
    is: "an output that cannot be written",
    args: [...here, "--output", "no/such/folder/out.jsonl"],
    says: /out\.jsonl.*no such file/
  },
  {
    is: "an output that is no results file",
    args: [...here, "--output", "notes.txt"],
    prepare: (folder) => folder.write("notes.txt", "dear diary\n"),
    says: /notes\.txt:1: .*not a results file/
  },
  {
    is: "standard input without --output",
    args: ["run", "-", "--base-url", "URL"],
    says: /--output: .*where the answers go/
  },
  {
    is: "a lock that another run holds",
    args: here,
    prepare: (folder) =>
      folder.write(
        "job.results.jsonl.lock",
        JSON.stringify({ pid: 1, host: "elsewhere", started: null, since: "today", nonce: "0123456789abcdef" })
      ),
    says: /another run writes these results \(process 1 on elsewhere/
  },
  {
    is: "a line that changed since it was answered",
    args: here,
    prepare: (folder) =>
      folder.write(
        "job.results.jsonl",
        `{"id":"ek-${
          "0".repeat(32)
        }","custom_id":"c0","response":{"status_code":200,"request_id":null,"body":{}},"error":null}\n`
      ),
    says: /job\.jsonl:1: .*not the one that was answered \(job\.results\.jsonl:1\).*--resend-changed/
  }
]

describe.concurrent("evenkeel run, refusing", () => {
  for (const mistake of mistakes) {
    it.live(`${mistake.is}: says so in one line, and sends nothing`, () =>
      Effect.gen(function*() {
        const folder = yield* CommandLine.folder
        const provider = yield* FakeProvider.make(FakeProvider.answered)
        folder.write("job.jsonl", mistake.job ?? CommandLine.chats(2))
        const job = fs.readFileSync(folder.at("job.jsonl"))
        mistake.prepare?.(folder)
        const args = mistake.args.map((arg) => arg === "URL" ? provider.url : arg)
        const ended = yield* folder.run(args, { env: mistake.env })
        assert.strictEqual(ended.code, 2, ended.stderr)
        assert.match(ended.stderr, mistake.says)
        assert.match(ended.stderr, /^evenkeel: [^\n]+\n$/)
        assert.notInclude(ended.stderr, "    at ")
        assert.notInclude(ended.stderr, "sk-secret")
        assert.strictEqual(ended.stdout, "")
        assert.strictEqual(provider.seen.length, 0)
        assert.isBelow(ended.seconds, 10)
        assert.isTrue(fs.readFileSync(folder.at("job.jsonl")).equals(job))
        assert.isFalse(mistake.prepare === undefined && fs.existsSync(folder.at("job.results.jsonl")))
      }))
  }
})

describe.concurrent("evenkeel", () => {
  it.live("helps, tells its version and completes", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      for (
        const [args, says] of [
          [["run", "--help"], /--retry-failed[^]*EXAMPLES/],
          [["--version"], /^evenkeel v\d+\.\d+\.\d+\n$/],
          [["--completions", "bash"], /evenkeel/]
        ] as const
      ) {
        const ended = yield* folder.run(args)
        assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
        assert.match(ended.stdout, says)
      }
    }))
})

describe.concurrent("evenkeel run, reading", () => {
  it.live("takes both batch forms, blank lines, CRLF, and lines without a custom_id", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const body = { model: "m", messages: [{ role: "user", content: "hi" }] }
      folder.write(
        "job.jsonl",
        [
          { custom_id: "openai", method: "POST", url: "/v1/chat/completions", body },
          { custom_id: "together", body: { ...body, seed: 1 } },
          "",
          { body: { ...body, seed: 2 } },
          { custom_id: "embed", url: "/v1/embeddings", body: { model: "e", input: "x" } },
          { custom_id: "no version", url: "/completions", body: { model: "m", prompt: "x" } }
        ].map((value) => value === "" ? "" : JSON.stringify(value)).join("\r\n")
      )
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", `${provider.url}/`])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.deepStrictEqual(
        folder.rows("job.results.jsonl").map((row) => row.custom_id).sort(),
        ["embed", "line-4", "no version", "openai", "together"]
      )
      assert.deepStrictEqual(
        provider.seen.map(({ method, url }) => `${method} ${url}`).sort(),
        [
          "POST /v1/chat/completions",
          "POST /v1/chat/completions",
          "POST /v1/chat/completions",
          "POST /v1/completions",
          "POST /v1/embeddings"
        ]
      )
    }))

  it.live("sends the body as it was given, but for --model, which fills in, and stream, which is off", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const bodies = {
        named: { model: "mine", messages: [], temperature: 0.10, zeta: null, alpha: { deep: [1, "ü", "\u2028"] } },
        unnamed: { messages: [], top_p: 1 },
        streamed: { stream: true, stream_options: { include_usage: true }, model: "mine", messages: [] },
        unstreamed: { model: "mine", stream: false }
      }
      folder.write(
        "job.jsonl",
        Object.entries(bodies).map(([custom_id, body]) => `${JSON.stringify({ custom_id, body })}\n`).join("")
      )
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", provider.url, "--model", "filled"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      const rows = folder.rows("job.results.jsonl")
      const sentFor = (customId: string) => {
        const row = rows.find((one) => one.custom_id === customId)
        const seen = provider.seen.find(({ number }) => row?.response?.request_id === `fake-${number}`)
        assert.strictEqual(row?.id, CommandLine.digest("/chat/completions", seen?.body))
        return seen?.text
      }
      assert.strictEqual(sentFor("named"), JSON.stringify(bodies.named))
      assert.deepStrictEqual(JSON.parse(sentFor("unnamed") ?? ""), { ...bodies.unnamed, model: "filled" })
      assert.deepStrictEqual(JSON.parse(sentFor("streamed") ?? ""), { stream: false, model: "mine", messages: [] })
      assert.strictEqual(sentFor("unstreamed"), JSON.stringify(bodies.unstreamed))
    }))

  it.live("reads gzip by its bytes, and standard input, and names the output after the input", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      folder.write("job.jsonl.gz", zlib.gzipSync(CommandLine.chats(5)))
      const base = ["--base-url", provider.url]
      const zipped = yield* folder.run(["run", "job.jsonl.gz", ...base])
      assert.strictEqual(zipped.code, 0, zipped.stderr)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 5)
      const stdin = zlib.gzipSync(CommandLine.chats(7))
      const piped = yield* folder.run(["run", "-", "--output", "out.jsonl", ...base], { stdin })
      assert.strictEqual(piped.code, 0, piped.stderr)
      assert.strictEqual(folder.rows("out.jsonl").length, 7)
      const again = yield* folder.run(["run", "-", "--output", "out.jsonl", ...base], { stdin })
      assert.strictEqual(again.code, 0, again.stderr)
      assert.strictEqual(provider.seen.length, 12)
    }))

  it.live("sends a changed line again with --resend-changed, and no other", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const args = ["run", "job.jsonl", "--base-url", provider.url]
      folder.write("job.jsonl", CommandLine.chats(3))
      assert.strictEqual((yield* folder.run(args)).code, 0)
      folder.write("job.jsonl", CommandLine.chats(3).replace("question 1", "another question"))
      const refused = yield* folder.run(args)
      assert.strictEqual(refused.code, 2)
      assert.match(refused.stderr, /job\.jsonl:2: .*--resend-changed/)
      assert.strictEqual(provider.seen.length, 3)
      const resent = yield* folder.run([...args, "--resend-changed"])
      assert.strictEqual(resent.code, 0, resent.stderr)
      assert.strictEqual(provider.seen.length, 4)
      assert.strictEqual(provider.seen[3]?.body.messages[0].content, "another question")
      const settled = yield* folder.run(args)
      assert.strictEqual(settled.code, 0, settled.stderr)
      assert.strictEqual(provider.seen.length, 4)
    }))

  it.live("continues after a torn last line", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const args = ["run", "job.jsonl", "--base-url", provider.url]
      folder.write("job.jsonl", CommandLine.chats(3))
      assert.strictEqual((yield* folder.run(args)).code, 0)
      folder.write("job.results.jsonl", folder.read("job.results.jsonl").slice(0, -30))
      const ended = yield* folder.run(args)
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(provider.seen.length, 4)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 3)
    }))

  it.live("lets no second run write the same results while the first one lives", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.number === 0 ? { hang: true } : FakeProvider.answered(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(1))
      const args = ["run", "job.jsonl", "--base-url", provider.url]
      const first = yield* folder.start(args)
      yield* CommandLine.until(() => provider.seen.length === 1)
      const second = yield* folder.run(args)
      assert.strictEqual(second.code, 2)
      assert.match(second.stderr, new RegExp(`another run writes these results \\(process ${first.pid} `))
      assert.strictEqual(provider.seen.length, 1)
      first.kill("SIGKILL")
      yield* first.ended
      const third = yield* folder.run(args)
      assert.strictEqual(third.code, 0, third.stderr)
      assert.strictEqual(provider.seen.length, 2)
      assert.isFalse(fs.existsSync(folder.at("job.results.jsonl.lock")))
    }))
})
