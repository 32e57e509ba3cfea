import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

const job = (provider: { readonly url: string }, ...more: ReadonlyArray<string>): Array<string> => [
  "run",
  "job.jsonl",
  "--base-url",
  provider.url,
  ...more
]

/** Each request has exactly one row, and it is a success. */
const assertAllAnswered = (folder: CommandLine.Folder, count: number): void => {
  const rows = folder.rows("job.results.jsonl").filter((row) => row.error === null)
  assert.strictEqual(rows.length, count)
  assert.strictEqual(new Set(rows.map((row) => row.custom_id)).size, count)
}

/** The headers of a provider that is not in the way. */
const roomy = { "x-ratelimit-limit": "500", "x-ratelimit-remaining": "499", "x-ratelimit-reset": "1" }

const answeredFast = (seen: FakeProvider.Seen): FakeProvider.Answer => ({
  ...FakeProvider.answered(seen),
  headers: roomy
})

describe.concurrent("evenkeel run, interrupted", () => {
  it.live("lets calls in flight end, says how to continue, and continues", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ floorPerSecond: 60, ceilingPerSecond: 60, latencyMillis: 400 })
      folder.write("job.jsonl", CommandLine.chats(200))
      const run = yield* folder.start(job(provider))
      let served = 0
      while (served < 40) served = (yield* Effect.delay(provider.stats, 20)).served
      const at = performance.now()
      run.kill("SIGINT")
      const ended = yield* run.ended
      assert.strictEqual(ended.code, 130, ended.stderr)
      assert.isBelow(performance.now() - at, 8_000)
      const rows = folder.rows("job.results.jsonl")
      // Nothing was in flight any more, so what the provider has served was kept.
      assert.strictEqual((yield* provider.stats).served, rows.length)
      assert.isBelow(rows.length, 200)
      assert.match(ended.stderr, new RegExp(`left open +${200 - rows.length}\\n`))
      assert.match(ended.stderr, /the same command continues/)
      assert.notInclude(ended.stderr, "    at ")
      const next = yield* folder.run(job(provider))
      assert.strictEqual(next.code, 0, next.stderr)
      assertAllAnswered(folder, 200)
      assert.strictEqual((yield* provider.stats).served, 200)
    }))

  it.live("waits no longer than five seconds for calls in flight", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(() => ({ hang: true }))
      folder.write("job.jsonl", CommandLine.chats(3))
      const run = yield* folder.start(job(provider, "--json"))
      yield* CommandLine.until(() => provider.seen.length > 0)
      const at = performance.now()
      run.kill("SIGINT")
      const ended = yield* run.ended
      assert.strictEqual(ended.code, 130, ended.stderr)
      assert.isBelow(performance.now() - at, 8_000)
      assert.deepInclude(JSON.parse(ended.stdout), { requests: 3, answered: 0, failed: 0, open: 3 })
      assert.deepStrictEqual(folder.rows("job.results.jsonl"), [])
    }))

  it.live("ends at once at the second Ctrl-C", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.number > 0 ? { hang: true } : FakeProvider.answered(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(3))
      const run = yield* folder.start(job(provider))
      yield* CommandLine.until(() => provider.seen.length > 1)
      run.kill("SIGINT")
      yield* Effect.sleep(300)
      const at = performance.now()
      run.kill("SIGINT")
      const ended = yield* run.ended
      assert.isBelow(performance.now() - at, 2_000)
      assert.strictEqual(ended.code, 130, ended.stderr)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 1)
    }))

  it.live("does not wait for calls that are waiting themselves, and takes SIGTERM as Ctrl-C", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("job.jsonl", CommandLine.chats(3))
      const provider = yield* FakeProvider.make(() => FakeProvider.refusal(503, { message: "no" }))
      const run = yield* folder.start(job(provider))
      yield* CommandLine.until(() => provider.seen.length > 0 && provider.inFlight() === 0)
      const at = performance.now()
      run.kill("SIGTERM")
      const ended = yield* run.ended
      assert.strictEqual(ended.code, 130, ended.stderr)
      // All back off, so that nothing needs waiting for.
      assert.isBelow(performance.now() - at, 4_000)
      assert.match(ended.stderr, /left open +3\n/)
    }))
})

describe.concurrent("evenkeel run, not yet begun", () => {
  it.live("ends at Ctrl-C while it still reads, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const run = yield* folder.start(
        ["run", "-", "--output", "out.jsonl", "--base-url", "http://127.0.0.1:9/v1"],
        // More than any pipe holds, so that it is read for certain.
        { stdin: { endless: CommandLine.chats(30_000) }, env: { TMPDIR: folder.path } }
      )
      yield* CommandLine.until(run.hasReadAll)
      run.kill("SIGINT")
      const ended = yield* run.ended
      assert.strictEqual(ended.code, 130, ended.stderr)
      assert.notInclude(ended.stderr, "    at ")
      assert.isBelow(ended.seconds, 8)
      assert.deepStrictEqual(fs.readdirSync(folder.path).filter((name) => !name.startsWith("node-")), [])
    }))
})

describe.concurrent("evenkeel run, stopped by the provider", () => {
  it.live("stops at a key that is refused, keeps what was answered, and continues with another", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      let accepted = "Bearer sk-first"
      const provider = yield* FakeProvider.make((seen) =>
        seen.number < 20 && seen.headers.authorization === accepted || seen.headers.authorization === "Bearer sk-second"
          ? answeredFast(seen)
          : FakeProvider.refusal(401, { message: "Invalid API key provided", code: "invalid_api_key" })
      )
      folder.write("job.jsonl", CommandLine.chats(200))
      const first = yield* folder.run(job(provider), { env: { TOGETHER_API_KEY: "sk-first" } })
      assert.strictEqual(first.code, 3, first.stderr)
      assert.isBelow(first.seconds, 15)
      assert.match(first.stderr, /Invalid API key provided/)
      assert.match(first.stderr, /key that is accepted, the same command continues/)
      assertAllAnswered(folder, 20)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 20)
      assert.isBelow(provider.seen.length, 100)
      accepted = ""
      const second = yield* folder.run(job(provider), { env: { TOGETHER_API_KEY: "sk-second" } })
      assert.strictEqual(second.code, 0, second.stderr)
      assertAllAnswered(folder, 200)
      for (const text of [first.stdout, first.stderr, second.stderr, folder.read("job.results.jsonl")]) {
        assert.notMatch(text, /sk-(first|second)/)
      }
    }))

  it.live("stops when there is no money left", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.number < 5
          ? answeredFast(seen)
          : FakeProvider.refusal(402, { message: "Credit limit exceeded", type: "credit_limit" })
      )
      folder.write("job.jsonl", CommandLine.chats(100))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.match(ended.stderr, /Credit limit exceeded/)
      assert.match(ended.stderr, /once paid, the same command continues/)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 5)
      assert.isBelow(provider.seen.length, 60)
    }))

  it.live("stops at the limit of a day, and says when to continue", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const daily = (remaining: number) => ({
        "x-ratelimit-limit-requests": "200",
        "x-ratelimit-remaining-requests": `${remaining}`,
        "x-ratelimit-reset-requests": "20h0m0s"
      })
      const provider = yield* FakeProvider.make((seen) =>
        seen.number < 10
          ? { ...FakeProvider.answered(seen), headers: daily(9 - seen.number) }
          : FakeProvider.refusal(429, {
            message:
              "Rate limit reached for m in organization o on requests per day (RPD): Limit 200, Used 200, Requested 1.",
            type: "requests",
            code: "rate_limit_exceeded"
          }, daily(0))
      )
      folder.write("job.jsonl", CommandLine.chats(100))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.match(ended.stderr, /in (20:00:00|19:59:\d\d), the same command continues/)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 10)
      assert.isBelow(provider.seen.length, 40)
    }))

  it.live("does not sleep through a hint of two hours, but says when to continue", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.number < 4
          ? answeredFast(seen)
          : FakeProvider.refusal(429, { message: "later" }, { "retry-after": "7200" })
      )
      folder.write("job.jsonl", CommandLine.chats(30))
      const ended = yield* folder.run(job(provider, "--json"))
      assert.strictEqual(ended.code, 3, ended.stderr)
      const report = JSON.parse(ended.stdout)
      assert.deepInclude(report, { answered: 4, failed: 0, open: 26 })
      assert.strictEqual(report.stopped.reason, "quota")
      assert.isAbove(report.stopped.continueAfterMillis, 7_100_000)
      assert.match(ended.stderr, /in (2:0\d:\d\d|1:59:\d\d), the same command continues/)
      assert.isBelow(provider.seen.length, 30)
    }))

  it.live("fails the lines of a model that the provider does not know, most of them unsent, and answers the others", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.body.model === "wrong"
          ? FakeProvider.refusal(404, { message: "The model `wrong` does not exist", code: "model_not_found" })
          : answeredFast(seen)
      )
      const mixed = Array.from(
        { length: 60 },
        (_, index) => `${JSON.stringify(CommandLine.chat(`c${index}`, "hi", index % 2 === 0 ? "wrong" : "right"))}\n`
      )
      folder.write("job.jsonl", mixed.join(""))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 1, ended.stderr)
      const rows = folder.rows("job.results.jsonl")
      assert.strictEqual(rows.length, 60)
      for (const row of rows) {
        const isWrong = Number(row.custom_id.slice(1)) % 2 === 0
        assert.strictEqual(row.error === null, !isWrong)
        if (isWrong) assert.match(row.error?.message ?? "", /The model `wrong` does not exist/)
        if (isWrong) assert.strictEqual(row.error?.code, "not_found")
      }
      assert.isBelow(provider.seen.filter(({ body }) => body.model === "wrong").length, 10)
      assert.match(ended.stderr, /30 of 60 requests failed for good; .*job\.results\.jsonl.*--retry-failed/)
      const same = yield* folder.run(job(provider))
      assert.strictEqual(same.code, 1)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 60)
    }))

  it.live("keeps a refusal as it came, and goes on with the others", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.body.messages[0].content === "question 1"
          ? FakeProvider.refusal(400, { message: "bad request", type: "invalid_request_error" }, {
            "x-request-id": "r-1"
          })
          : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(3))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 1, ended.stderr)
      const row = folder.rows("job.results.jsonl").find(({ custom_id }) => custom_id === "c1")
      assert.strictEqual(row?.error?.code, "invalid_request")
      assert.match(row?.error?.message ?? "", /bad request$/)
      assert.strictEqual(row?.response?.status_code, 400)
      assert.strictEqual(row?.response?.request_id, "r-1")
      assert.strictEqual(row?.response?.body.error.type, "invalid_request_error")
      assert.strictEqual(provider.seen.length, 3)
    }))
})

describe.concurrent("evenkeel run, in time", () => {
  it.live("begins nothing after --deadline, leaves what is left without rows, and continues", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ floorPerSecond: 20, ceilingPerSecond: 20, latencyMillis: 300 })
      folder.write("job.jsonl", CommandLine.chats(80))
      const first = yield* folder.run(job(provider, "--deadline", "2"))
      assert.strictEqual(first.code, 3, first.stderr)
      assert.isBelow(first.seconds, 12)
      const kept = folder.rows("job.results.jsonl")
      assert.isTrue(kept.every((row) => row.error === null))
      assert.isBelow(kept.length, 80)
      assert.strictEqual((yield* provider.stats).served, kept.length)
      assert.match(
        first.stderr,
        new RegExp(
          `nothing more can begin by the deadline; ${
            80 - kept.length
          } requests are left open; the same command continues`
        )
      )
      const second = yield* folder.run(job(provider, "--deadline", "1h"))
      assert.strictEqual(second.code, 0, second.stderr)
      assertAllAnswered(folder, 80)
      assert.strictEqual((yield* provider.stats).served, 80)
    }))

  it.live("lets what has begun by --deadline end after it", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({ ...FakeProvider.answered(seen), after: 6_000 }))
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(job(provider, "--deadline", "5s"))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 1)
    }))

  it.live("ends an attempt after --timeout, and the line after --retries", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.body.messages[0].content === "question 0" ? { hang: true } : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(3))
      const ended = yield* folder.run(job(provider, "--timeout", "1", "--retries", "1", "--json"))
      assert.strictEqual(ended.code, 1, ended.stderr)
      const rows = folder.rows("job.results.jsonl")
      assert.strictEqual(rows.length, 3)
      const row = rows.find(({ custom_id }) => custom_id === "c0")
      assert.strictEqual(row?.response, null)
      assert.strictEqual(row?.error?.code, "timeout")
      assert.match(row?.error?.message ?? "", /no answer within the timeout/)
      assert.strictEqual(provider.seen.length, 4)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 2, failed: 1, retries: 1, possiblyBilledTwice: 1 })
    }))

  it.live("counts the body into --timeout", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(() => ({ chunks: [`{"choices":`], open: true }))
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(job(provider, "--timeout", "500ms", "--retries", "0"))
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.strictEqual(folder.rows("job.results.jsonl")[0]?.error?.code, "timeout")
      assert.isBelow(ended.seconds, 15)
    }))
})
