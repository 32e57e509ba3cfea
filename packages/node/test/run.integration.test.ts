import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

/** Limited, as the main job is: it needs to find a limit that follows its successes. */
const limited = { floorPerSecond: 20, ceilingPerSecond: 200, memorySeconds: 2, latencyMillis: 30 }

/** Never in the way. */
const open = { floorPerSecond: 1000, ceilingPerSecond: 1000, latencyMillis: 20 }

const successes = (rows: ReadonlyArray<CommandLine.Row>): Array<string> =>
  rows.filter((row) => row.error === null).map((row) => row.custom_id)

const ids = (count: number): Array<string> => Array.from({ length: count }, (_, index) => `c${index}`)

/** The most that came within any one second. */
const mostPerSecond = (seen: ReadonlyArray<FakeProvider.Seen>): number =>
  Math.max(
    ...seen.map((first) =>
      seen.filter(({ atMillis }) => atMillis >= first.atMillis && atMillis < first.atMillis + 1000).length
    )
  )

describe.concurrent("evenkeel run", () => {
  it.live("answers every request once, and the same command again sends nothing", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make(limited)
      folder.write("job.jsonl", CommandLine.chats(300))
      const args = ["run", "job.jsonl", "--base-url", provider.url, "--json"]

      const first = yield* folder.run(args)
      assert.strictEqual(first.code, 0, first.stderr)
      const rows = folder.rows("job.results.jsonl")
      assert.deepStrictEqual(successes(rows).sort(), ids(300).sort())
      assert.strictEqual(rows.length, 300)
      for (const row of rows) {
        assert.deepStrictEqual(Object.keys(row), ["id", "custom_id", "response", "error"])
        assert.deepStrictEqual(Object.keys(row.response ?? {}), ["status_code", "request_id", "body"])
        const { body } = CommandLine.chat(row.custom_id, `question ${row.custom_id.slice(1)}`)
        assert.strictEqual(row.id, CommandLine.digest("/chat/completions", body))
        assert.strictEqual(row.response?.status_code, 200)
        assert.match(row.response?.request_id ?? "", /^echo-\d+$/)
        assert.strictEqual(row.response?.body.choices[0].message.content, `question ${row.custom_id.slice(1)}`)
      }
      const stats = yield* provider.stats
      assert.strictEqual(stats.served, 300)
      const report = JSON.parse(first.stdout)
      assert.strictEqual(report.refused429, stats.refused429)
      assert.strictEqual(report.attempts, 300 + stats.refused429)
      assert.isAtMost(report.refused429, 0.02 * report.attempts + 2)
      assert.deepInclude(report, { requests: 300, answered: 300, answeredBefore: 0, failed: 0, open: 0 })
      assert.isAbove(report.inputTokens, 0)

      const second = yield* folder.run(args)
      assert.strictEqual(second.code, 0, second.stderr)
      assert.deepInclude(JSON.parse(second.stdout), { answered: 0, answeredBefore: 300, attempts: 0, open: 0 })
      const spoken = yield* folder.run(args.filter((arg) => arg !== "--json"))
      assert.strictEqual(spoken.code, 0, spoken.stderr)
      assert.match(spoken.stderr, /300 of 300 \(300 in earlier runs\)/)
      assert.strictEqual((yield* provider.stats).served, 300)
      assert.strictEqual(folder.rows("job.results.jsonl").length, 300)
    }))

  it.live("killed three times and started again, loses nothing and keeps no answer twice", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ ...open, latencyMillis: 60 })
      const lines = 400
      const inFlight = 20
      folder.write("job.jsonl", CommandLine.chats(lines))
      const args = [
        "run",
        "job.jsonl",
        "--base-url",
        provider.url,
        "--max-in-flight",
        `${inFlight}`,
        "--rpm",
        "7200",
        "--json"
      ]
      for (let kill = 1; kill <= 3; kill++) {
        const before = folder.rows("job.results.jsonl").length
        const run = yield* folder.start(args)
        yield* CommandLine.until(() => rowsIn(folder) >= before + 60)
        run.kill("SIGKILL")
        assert.strictEqual((yield* run.ended).signal, "SIGKILL")
      }
      assert.isBelow(folder.rows("job.results.jsonl").length, lines)
      const last = yield* folder.run(args)
      assert.strictEqual(last.code, 0, last.stderr)
      const answered = successes(folder.rows("job.results.jsonl"))
      assert.deepStrictEqual([...answered].sort(), ids(lines).sort())
      assert.isAtMost((yield* provider.stats).served, lines + 3 * inFlight)
    }))

  it.live("prints one JSON object and nothing else with --json, and nothing at all with --quiet", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make(open)
      folder.write("job.jsonl", CommandLine.chats(3))
      const base = ["run", "job.jsonl", "--base-url", provider.url]
      const json = yield* folder.run([...base, "--output", "a.jsonl", "--json"])
      assert.strictEqual(json.code, 0)
      assert.strictEqual(json.stderr, "")
      assert.deepInclude(JSON.parse(json.stdout), { answered: 3, output: "a.jsonl" })
      const quiet = yield* folder.run([...base, "--output", "b.jsonl", "--quiet"])
      assert.deepStrictEqual([quiet.code, quiet.stdout, quiet.stderr], [0, "", ""])
      assert.strictEqual(folder.rows("b.jsonl").length, 3)
      const plain = yield* folder.run([...base, "--output", "c.jsonl"])
      assert.strictEqual(plain.code, 0)
      assert.strictEqual(plain.stdout, "")
      for (const told of ["answered", "refused 429", "refused 503", "retries", "possibly billed twice"]) {
        assert.include(plain.stderr, told)
      }
      for (const told of ["wasted tokens", "answered per second", "waited for", "c.jsonl"]) {
        assert.include(plain.stderr, told)
      }
      assert.notInclude(plain.stderr, "\u001b")
    }))

  it.live("has nothing to do for an empty file", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("job.jsonl", "")
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", "http://127.0.0.1:9/v1"])
      assert.strictEqual(ended.code, 0, ended.stderr)
    }))

  it.live("sends at most --rpm, spread over the seconds", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({
        ...FakeProvider.answered(seen),
        // A limit that it is told, so that only the cap holds it back.
        headers: { "x-ratelimit-limit": "1000", "x-ratelimit-remaining": "999", "x-ratelimit-reset": "1" }
      }))
      folder.write("job.jsonl", CommandLine.chats(50))
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", provider.url, "--rpm", "600", "--json"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(provider.seen.length, 50)
      assert.isAtMost(mostPerSecond(provider.seen), 10 + 2)
      assert.isBelow(ended.seconds, 20)
    }))

  it.live("sends at most --tpm, by what answers really used", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({
        ...FakeProvider.answered(seen),
        body: { choices: [], usage: { prompt_tokens: 40, completion_tokens: 60, total_tokens: 100 } }
      }))
      folder.write("job.jsonl", CommandLine.chats(30))
      // 500 tokens a second are 5 calls.
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", provider.url, "--tpm", "30000", "--json"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      const sent = provider.seen.map(({ atMillis }) => atMillis)
      assert.isAbove((sent.at(-1) ?? 0) - (sent[0] ?? 0), 3_500)
      assert.isAtMost(mostPerSecond(provider.seen.slice(10)), 5 + 3)
      assert.deepInclude(JSON.parse(ended.stdout), { inputTokens: 30 * 40, outputTokens: 30 * 60 })
    }))

  it.live("never has more than --max-in-flight calls in flight", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({
        ...FakeProvider.answered(seen),
        headers: { "x-ratelimit-limit": "1000", "x-ratelimit-remaining": "999", "x-ratelimit-reset": "1" },
        after: 100
      }))
      folder.write("job.jsonl", CommandLine.chats(40))
      const ended = yield* folder.run(["run", "job.jsonl", "--base-url", provider.url, "--max-in-flight", "3"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(provider.mostInFlight(), 3)
    }))

  it.live("labels what it used, and sends headers as asked for", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(
        [
          "run",
          "job.jsonl",
          "--base-url",
          provider.url,
          "--workload",
          "nightly",
          "--header",
          "X-One: 1",
          "--header",
          "x-two:a: b"
        ],
        { env: { TOGETHER_API_KEY: "sk-secret" } }
      )
      assert.strictEqual(ended.code, 0, ended.stderr)
      const [seen] = provider.seen
      assert.strictEqual(seen?.headers["x-one"], "1")
      assert.strictEqual(seen?.headers["x-two"], "a: b")
      assert.strictEqual(seen?.headers["authorization"], "Bearer sk-secret")
      assert.strictEqual(seen?.headers["content-type"], "application/json")
      assert.notInclude(ended.stdout + ended.stderr + folder.read("job.results.jsonl"), "sk-secret")
    }))
})

const rowsIn = (folder: CommandLine.Folder): number => {
  try {
    return folder.read("job.results.jsonl").split("\n").length - 1
  } catch {
    return 0
  }
}
