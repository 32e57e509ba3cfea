import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Readable } from "node:stream"
import * as zlib from "node:zlib"
import * as CanonicalJson from "../src/cli/CanonicalJson.ts"
import * as JobFile from "../src/cli/JobFile.ts"
import { UserError } from "../src/cli/UserError.ts"

const baseUrl = "https://api.example/v1"

const directory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "evenkeel-test-"))),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true }))
)

const written = (content: string | Uint8Array) =>
  Effect.map(directory, (directory) => {
    const file = path.join(directory, "jobs.jsonl")
    fs.writeFileSync(file, content)
    return file
  })

const opened = (content: string | Uint8Array, options?: { readonly model?: string }) =>
  Effect.flatMap(written(content), (path) => JobFile.open({ path, baseUrl, ...options }))

const readAll = Effect.fnUntraced(function*(file: JobFile.JobFile) {
  const reader = yield* JobFile.read(file)
  const lines: Array<JobFile.JobLine> = []
  for (;;) {
    const chunk = yield* reader.next
    if (chunk === undefined) return lines
    assert.isAtLeast(chunk.length, 1)
    assert.isAtMost(chunk.length, 256)
    lines.push(...chunk)
  }
})

/** The lines of a job, both passes. */
const both = (content: string | Uint8Array, options?: { readonly model?: string }) =>
  Effect.gen(function*() {
    const file = yield* opened(content, options)
    const scan = yield* JobFile.scan(file)
    const lines = yield* readAll(file)
    assert.strictEqual(lines.length, scan.requests)
    return lines
  })

/** What the first pass says is wrong, without the directory. */
const problemOf = Effect.fnUntraced(function*(content: string | Uint8Array, options?: { readonly model?: string }) {
  const file = yield* opened(content, options)
  const error = yield* Effect.flip(JobFile.scan(file))
  assert.strictEqual(error.exitCode, 2)
  return error.message.replace(`${path.dirname(file.name)}/`, "")
})

const good = (id: number) => `{"custom_id":"r${id}","body":{"model":"m","messages":[]}}`

describe("JobFile", () => {
  it.effect("reads OpenAI's batch form and Together's, in one file", () =>
    Effect.gen(function*() {
      const lines = yield* both(
        `{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}\n` +
          `{"custom_id":"b","body":{"model":"n","messages":[]}}\n`
      )
      const [first, second] = lines
      assert.deepStrictEqual(first, {
        lineNumber: 1,
        customId: "a",
        method: "POST",
        path: "/embeddings",
        body: `{"model":"m","input":"x"}`,
        model: "m",
        requestBody: { model: "m", input: "x" },
        id: CanonicalJson.requestId("POST", "/embeddings", { input: "x", model: "m" })
      })
      assert.deepStrictEqual([second?.path, second?.model], ["/chat/completions", "n"])
      assert.strictEqual(lines.length, 2)
    }))

  it.effect("forgives a byte order mark, CRLF, blank lines and a missing last line feed; line numbers stay true", () =>
    Effect.gen(function*() {
      const lines = yield* both(`\ufeff${good(1)}\r\n\r\n  \t\r\n\n${good(2)}\r\n{"body":{"model":"m"}}`)
      assert.deepStrictEqual(lines.map(({ customId, lineNumber }) => [lineNumber, customId]), [
        [1, "r1"],
        [5, "r2"],
        [6, "line-6"]
      ])
    }))

  it.effect("fills in --model where none is named and overrides none", () =>
    Effect.gen(function*() {
      const lines = yield* both(
        `{"body":{"messages":[]}}\n{"body":{"model":null}}\n{"body":{"model":"own"}}\n`,
        { model: "given" }
      )
      assert.deepStrictEqual(lines.map(({ model }) => model), ["given", "given", "own"])
      assert.deepStrictEqual(lines.map(({ body }) => body), [
        `{"messages":[],"model":"given"}`,
        `{"model":"given"}`,
        `{"model":"own"}`
      ])
    }))

  it.effect("sends stream: true as false, without its options, and names the request after what is sent", () =>
    Effect.gen(function*() {
      const [streamed, plain] = yield* both(
        `{"body":{"model":"m","stream":true,"stream_options":{"include_usage":true},"seed":1}}\n` +
          `{"body":{"seed":1,"stream":false,"model":"m"}}\n`
      )
      assert.strictEqual(streamed?.body, `{"model":"m","stream":false,"seed":1}`)
      assert.strictEqual(streamed?.id, plain?.id)
    }))

  it.effect("reads gzip, told by its first bytes and not by its name", () =>
    Effect.gen(function*() {
      const text = Array.from({ length: 20_000 }, (_, index) => `${good(index)}\n`).join("")
      const lines = yield* both(
        Buffer.concat([zlib.gzipSync(text.slice(0, 50_001)), zlib.gzipSync(text.slice(50_001))])
      )
      assert.strictEqual(lines.length, 20_000)
      assert.strictEqual(lines.at(-1)?.customId, "r19999")
      assert.match(yield* problemOf(zlib.gzipSync(text).subarray(0, 20_000)), /^jobs\.jsonl: not a whole gzip file/)
      assert.match(yield* problemOf(zlib.gzipSync(`${good(1)}\n{`)), /^jobs\.jsonl:2: not valid JSON/)
    }))

  it.effect("copies standard input to a file without a name that only its user may read, for two passes", () =>
    Effect.gen(function*() {
      const temporary = yield* directory
      const before = process.env["TMPDIR"]
      process.env["TMPDIR"] = temporary
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env["TMPDIR"]
          else process.env["TMPDIR"] = before
        })
      )
      const stdin = Readable.from([Buffer.from(`${good(1)}\n${good(2).slice(0, 10)}`), Buffer.from(good(2).slice(10))])
      const file = yield* JobFile.open({ path: "-", baseUrl, stdin })
      assert.deepStrictEqual(fs.readdirSync(temporary), [])
      const { mode } = yield* Effect.promise(() => file.handle.stat())
      assert.strictEqual(mode & 0o777, 0o600)
      assert.strictEqual((yield* JobFile.scan(file)).requests, 2)
      assert.strictEqual((yield* readAll(file)).length, 2)
      const broken = yield* JobFile.open({ path: "-", baseUrl, stdin: Readable.from([Buffer.from("{")]) })
      assert.match((yield* Effect.flip(JobFile.scan(broken))).message, /^standard input:1: not valid JSON/)
    }))

  it.effect("lets go of a standard input that never ends when it is interrupted", () =>
    Effect.gen(function*() {
      const reading = yield* Deferred.make<void>()
      const stdin = new Readable({ read: () => void Deferred.doneUnsafe(reading, Effect.void) })
      const fiber = yield* Effect.forkChild(Effect.scoped(JobFile.open({ path: "-", baseUrl, stdin })))
      yield* Deferred.await(reading)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(stdin.destroyed)
    }))

  it.effect("says in one line what is wrong with a line, and where", () =>
    Effect.gen(function*() {
      const six = [1, 2, 3, 4, 5, 6].map((id) => `${good(id)}\n`).join("")
      const cases: ReadonlyArray<readonly [string | Uint8Array, RegExp]> = [
        [`{"custom_id":"a","body":`, /not valid JSON \(.*\); each line is one whole JSON object$/],
        [`[]`, /not a JSON object; a line is/],
        [`null`, /not a JSON object/],
        [
          `{"custom_id":"a","messages":[]}`,
          /unknown member "messages"; a line is \{"custom_id", "method", "url", "body"\}/
        ],
        [`{"custom_id":"a"}`, /no body/],
        [`{"custom_id":"a","body":"text"}`, /body must be a JSON object/],
        [`{"custom_id":7,"body":{"model":"m"}}`, /custom_id must be a string; put quotes around it/],
        [`{"custom_id":"","body":{"model":"m"}}`, /custom_id is empty/],
        [
          `{"custom_id":"a","method":"GET","url":"/v1/models","body":{"model":"m"}}`,
          /method "GET" is not sent; only "POST" is/
        ],
        [`{"custom_id":"a","url":1,"body":{"model":"m"}}`, /url must be a string/],
        [
          `{"custom_id":"a","url":"https://x.example/v1/y","body":{"model":"m"}}`,
          /url "https:\/\/x.*" is not a path; the host/
        ],
        [`{"custom_id":"a","body":{}}`, /no model; name one in the body, or for all such lines with --model$/],
        [`{"custom_id":"a","body":{"model":5}}`, /model must be a string/],
        [`{"custom_id":"a","body":{"model":"m","top_p":1e999}}`, /cannot be sent: it holds a number that is too large/],
        [
          `{"custom_id":"a","body":{"model":"m","x":${"[".repeat(501)}${"]".repeat(501)}}}`,
          /nested deeper than 500 levels/
        ],
        [`{"custom_id":"r3","body":{"model":"m"}}`, /custom_id "r3" is taken by line 3/],
        [Buffer.from([0x7b, 0xff, 0x7d]), /not UTF-8 text/]
      ]
      for (const [line, problem] of cases) {
        const content = Buffer.concat([Buffer.from(six), Buffer.from(line), Buffer.from(`\n${good(8)}\n`)])
        const message = yield* problemOf(content)
        assert.match(message, problem)
        assert.match(message, /^jobs\.jsonl:7: [^\n]*$/)
        assert.notMatch(message, /line 1 column/)
      }
    }))

  it.effect("finds a custom_id that is used twice, a given one too, and names both lines", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* problemOf(`{"custom_id":"line-3","body":{"model":"m"}}\n\n{"body":{"model":"m"}}\n`),
        `jobs.jsonl:3: custom_id "line-3" (which a line without one gets) is taken by line 1`
      )
      const halves = yield* both(
        `{"custom_id":"\\ud800","body":{"model":"m"}}\n{"custom_id":"\\ud801","body":{"model":"m"}}`
      )
      assert.strictEqual(halves.length, 2)
    }))

  it.effect("takes a line of 16 MiB and refuses a longer one, or a file without line feeds", () =>
    Effect.gen(function*() {
      const bytes = 16 * 2 ** 20
      const rest = `{"body":{"model":"m","input":""}}`.length
      const ofLength = (length: number) => `{"body":{"model":"m","input":"${"x".repeat(length - rest)}"}}`
      const [line] = yield* both(`${ofLength(bytes)}\n`)
      assert.strictEqual(line?.body.length, bytes - `{"body":}`.length)
      const tooLong = "longer than 16 MiB, which is all that a line may hold"
      assert.strictEqual(yield* problemOf(`${good(1)}\n${ofLength(bytes + 1)}\n`), `jobs.jsonl:2: ${tooLong}`)
      assert.strictEqual(yield* problemOf(`\n${"x".repeat(bytes + 2 ** 20)}`), `jobs.jsonl:2: ${tooLong}`)
    }))

  it.effect("takes an empty file as a job of no requests", () =>
    Effect.gen(function*() {
      for (const content of ["", "\n\n", "\ufeff", zlib.gzipSync("")]) {
        const file = yield* opened(content)
        assert.deepStrictEqual(yield* JobFile.scan(file), { requests: 0, models: [] })
        assert.deepStrictEqual(yield* readAll(file), [])
      }
    }))

  it.effect("says why a file cannot be read", () =>
    Effect.gen(function*() {
      const place = yield* directory
      const missing = yield* Effect.flip(JobFile.open({ path: `${place}/none.jsonl`, baseUrl }))
      assert.deepStrictEqual(missing.message, `cannot read ${place}/none.jsonl: no such file or directory`)
      assert.strictEqual(missing.exitCode, 2)
      const aDirectory = yield* Effect.flip(JobFile.open({ path: place, baseUrl }))
      assert.strictEqual(aDirectory.message, `${place} is a directory, not a file`)
    }))

  it.effect("takes a base URL that is none as a mistake of the program", () =>
    Effect.gen(function*() {
      const file = yield* written(good(1))
      const exit = yield* Effect.exit(JobFile.open({ path: file, baseUrl: "nonsense" }))
      assert.isTrue(Exit.hasDies(exit))
      assert.throws(() => JobFile.resolvePath("nonsense", "/x"), RangeError)
    }))

  it.effect("asks the check about each line in turn, with the id that the second pass gives, and stops at a refusal", () =>
    Effect.gen(function*() {
      const file = yield* opened(`${good(1)}\n${good(2)}\n${good(3)}\n`)
      const asked: Array<JobFile.CheckedLine> = []
      yield* JobFile.scan(file, { check: (line) => void asked.push(line) })
      const lines = yield* readAll(file)
      assert.deepStrictEqual(
        asked,
        lines.map(({ customId, id, lineNumber }) => ({ where: `${file.name}:${lineNumber}`, lineNumber, customId, id }))
      )
      const refusal = new UserError({ message: "no", exitCode: 2 })
      const error = yield* Effect.flip(JobFile.scan(file, {
        check: ({ lineNumber }) => {
          assert.isAtMost(lineNumber, 2)
          return lineNumber === 2 ? refusal : undefined
        }
      }))
      assert.strictEqual(error, refusal)
    }))

  it.effect("says so when the file was written to between the passes or during the second", () =>
    Effect.gen(function*() {
      const line = (id: number) => `{"custom_id":"r${id}","body":{"model":"m","input":"${"x".repeat(1000)}"}}\n`
      const content = Array.from({ length: 2000 }, (_, id) => line(id)).join("")
      for (const packed of [content, zlib.gzipSync(content, { level: 0 })]) {
        const file = yield* opened(packed)
        yield* JobFile.scan(file)
        const reader = yield* JobFile.read(file)
        yield* reader.next
        fs.appendFileSync(file.name, line(2000))
        const during = yield* Effect.flip(Effect.forever(reader.next))
        assert.strictEqual(during.exitCode, 3)
        assert.match(during.message, /was written to while it was read; the same command continues/)
        assert.deepStrictEqual(yield* Effect.flip(reader.next), during)
        const between = yield* Effect.flip(Effect.flatMap(JobFile.read(file), ({ next }) => next))
        assert.strictEqual(between.exitCode, 2)
        assert.match(between.message, /was written to while it was read; start again/)
      }
    }))

  it.effect("reads the file it opened, even when another takes its name", () =>
    Effect.gen(function*() {
      const file = yield* opened(`${good(1)}\n`)
      yield* JobFile.scan(file)
      fs.writeFileSync(`${file.name}.new`, `${good(2)}\n`)
      fs.renameSync(`${file.name}.new`, file.name)
      assert.deepStrictEqual((yield* readAll(file)).map(({ customId }) => customId), ["r1"])
    }))

  it.effect("stays at the end after the last request", () =>
    Effect.gen(function*() {
      const reader = yield* JobFile.read(yield* opened(good(1)))
      assert.strictEqual((yield* reader.next)?.length, 1)
      assert.isUndefined(yield* reader.next)
      assert.isUndefined(yield* reader.next)
    }))

  it.effect("names the models of the job in order, up to a thousand", () =>
    Effect.gen(function*() {
      const line = (model: number) => `{"body":{"model":"m${model}"}}\n`
      const few = yield* JobFile.scan(yield* opened([2, 1, 2, 3].map(line).join("")))
      assert.deepStrictEqual(few, { requests: 4, models: ["m2", "m1", "m3"] })
      const many = yield* JobFile.scan(yield* opened(Array.from({ length: 1500 }, (_, model) => line(model)).join("")))
      assert.strictEqual(many.requests, 1500)
      assert.strictEqual(many.models.length, 1000)
    }))

  it.effect("scans and reads 200,000 lines in bounded memory", () =>
    Effect.gen(function*() {
      const place = yield* directory
      const file = path.join(place, "many.jsonl")
      const count = 200_000
      const out = fs.openSync(file, "w")
      for (let start = 0; start < count; start += 10_000) {
        const lines = Array.from({ length: 10_000 }, (_, index) =>
          `{"custom_id":"r${start + index}","body":{"model":"m","messages":[{"role":"user","content":"${
            "x".repeat(100)
          }"}]}}\n`)
        fs.writeSync(out, lines.join(""))
      }
      fs.closeSync(out)
      const before = process.memoryUsage().rss
      let peak = 0
      const look = () => {
        peak = Math.max(peak, process.memoryUsage().rss)
      }
      const job = yield* JobFile.open({ path: file, baseUrl })
      const { requests } = yield* JobFile.scan(job, {
        check: ({ lineNumber }) =>
          void (lineNumber % 1000 === 0 && look())
      })
      assert.strictEqual(requests, count)
      const reader = yield* JobFile.read(job)
      let read = 0
      for (let chunk = yield* reader.next; chunk !== undefined; chunk = yield* reader.next) {
        read += chunk.length
        look()
      }
      assert.strictEqual(read, count)
      assert.isAbove(peak, 0)
      assert.isBelow((peak - before) / 2 ** 20, 200)
    }), 60_000)

  it("sends each request of a file once, in order, as it was written", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ body: fc.dictionary(fc.string(), fc.jsonValue()), gap: fc.nat({ max: 2 }) }), {
          maxLength: 20
        }),
        fc.boolean(),
        (items, packed) => {
          const bodies = items.map(({ body }) => ({ ...body, model: "m", stream: false }))
          const text = items.map(({ gap }, index) => "\n".repeat(gap) + JSON.stringify({ body: bodies[index] })).join(
            "\n"
          )
          return Effect.runPromise(Effect.scoped(Effect.gen(function*() {
            const lines = yield* both(packed ? zlib.gzipSync(text) : text)
            assert.deepStrictEqual(lines.map(({ body }) => body), bodies.map((body) => JSON.stringify(body)))
          })))
        }
      ),
      { numRuns: 50 }
    ))

  it("cuts the same lines from a file however it is cut into pieces", () => {
    const byte = fc.constantFrom(0x0a, 0x0d, 0x41, 0xc3, 0xa9)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.array(byte), fc.array(fc.nat({ max: 9 })), (a, b, sizes) => {
        const bytes = Buffer.from([...b, ...a, ...b])
        const cutter = JobFile.lineCutter()
        const lines: Array<string> = []
        // All pieces lie in one buffer, as when a file is read.
        const shared = Buffer.alloc(10)
        let start = 0
        for (const size of [...sizes, ...Array.from({ length: bytes.length }, () => 10)]) {
          const length = bytes.copy(shared, 0, start, Math.min(bytes.length, start + size))
          for (const line of cutter.push(shared.subarray(0, length))) lines.push(line.toString("latin1"))
          start += length
        }
        const expected = bytes.toString("latin1").split("\n")
        assert.strictEqual(cutter.restBytes(), expected.at(-1)?.length)
        assert.deepStrictEqual([...lines, cutter.rest().toString("latin1")], expected)
      })
    )
  })
})

describe("JobFile.resolvePath", () => {
  const resolved = (base: string, url: string): string => {
    const path = JobFile.resolvePath(base, url)
    return Result.isSuccess(path) ? JobFile.urlOf(base, path.success) : `refused: it ${path.failure}`
  }

  it("joins the base URL and the path, a shared version once", () => {
    const cases: ReadonlyArray<readonly [string, string, string]> = [
      ["https://h/v1", "/v1/chat/completions", "https://h/v1/chat/completions"],
      ["https://h/v1/", "/v1/chat/completions", "https://h/v1/chat/completions"],
      ["https://h/v1", "/chat/completions", "https://h/v1/chat/completions"],
      ["https://h/v1", "chat/completions", "https://h/v1/chat/completions"],
      ["https://h/v1", "v1/chat/completions", "https://h/v1/chat/completions"],
      ["https://h", "/v1/x", "https://h/v1/x"],
      ["https://h/", "/v1/x", "https://h/v1/x"],
      ["https://h/api/v1", "/v1/x", "https://h/api/v1/x"],
      ["https://h/api/v1", "/api/v1/x", "https://h/api/v1/x"],
      ["https://h/v1beta/openai", "/v1/x", "https://h/v1beta/openai/v1/x"],
      ["https://h/v1", "/v10/x", "https://h/v1/v10/x"],
      ["https://h/v1", "/v1/x?api-version=1", "https://h/v1/x?api-version=1"],
      ["http://127.0.0.1:8080/v1", "/v1/x", "http://127.0.0.1:8080/v1/x"]
    ]
    for (const [base, url, expected] of cases) assert.strictEqual(resolved(base, url), expected)
  })

  it("refuses what could lead elsewhere", () => {
    const urls = [
      "https://evil.example/v1/x",
      "HTTPS:/x",
      "file:///etc/passwd",
      "javascript:1",
      "//evil.example/x",
      "/\\evil.example",
      "\\\\evil.example",
      "/v1//evil.example",
      "/../admin",
      "/v1/../../admin",
      "/v1/%2e%2E/admin",
      "/v1/.%2e%2fadmin",
      "/v1/..%5cadmin",
      "..",
      "/v1/.",
      "/x y",
      "/x\ty",
      "/x#y",
      "",
      "/",
      "/v1",
      "/v1/",
      "?x=1"
    ]
    for (const url of urls) assert.match(resolved("https://h/v1", url), /^refused: it /, url)
  })

  it("never leaves the base URL, whatever the line says", () => {
    const part = fc.constantFrom(
      "/",
      "\\",
      ".",
      "..",
      "%2e",
      "%2F",
      "v1",
      "x",
      "@",
      ":",
      "?",
      "#",
      "evil.example",
      "\t",
      "é",
      "http:"
    )
    const url = fc.oneof(fc.array(part).map((parts) => parts.join("")), fc.string(), fc.webUrl())
    const base = fc.constantFrom(
      "https://h",
      "https://h/",
      "https://h/v1",
      "https://h:8443/api/v1/",
      "https://h/openai"
    )
    fc.assert(
      fc.property(base, url, (base, url) => {
        const path = JobFile.resolvePath(base, url)
        if (Result.isFailure(path)) return
        const from = new URL(base)
        const to = new URL(JobFile.urlOf(base, path.success))
        assert.strictEqual(to.origin, from.origin)
        assert.strictEqual(to.username + to.password, "")
        assert.isTrue(to.pathname.startsWith(`${from.pathname.replace(/\/$/, "")}/`))
        assert.isTrue(path.success.startsWith("/") && !path.success.startsWith("//"))
      }),
      { numRuns: 1000 }
    )
  })
})
