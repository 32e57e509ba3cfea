import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

/** What Together's headers say, with names that only Together uses. */
const together = {
  "x-ratelimit-limit": "60",
  "x-ratelimit-remaining": "59",
  "x-ratelimit-reset": "1",
  "x-tokenlimit-limit": "5000",
  "x-tokenlimit-remaining": "4990"
}

/** The cells of each line of a table. */
const cells = (text: string): Array<Array<string>> => text.trimEnd().split("\n").map((line) => line.split(/ {2,}/))

describe.concurrent("evenkeel limits", () => {
  it.live("makes one cheap call, and prints limit, remaining and reset, per second and per minute", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({ ...FakeProvider.answered(seen), headers: together }))
      const ended = yield* folder.run(["limits", "--base-url", provider.url, "--model", "llama"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(ended.stderr, "")
      assert.strictEqual(provider.seen.length, 1)
      assert.deepInclude(provider.seen[0]?.body, { model: "llama", max_tokens: 1 })
      const [title, head, ...rows] = cells(ended.stdout)
      assert.include(title?.[0], "llama")
      assert.deepStrictEqual(head, ["sum", "limit", "per second", "per minute", "remaining", "reset"])
      const requests = rows.find(([sum]) => sum === "requests")
      assert.deepStrictEqual(requests?.slice(2), ["60", "3600", "59", "1 s"])
      const tokens = rows.find(([sum]) => sum === "tokens")
      assert.deepStrictEqual(tokens?.slice(2, 5), ["5000", "300000", "4990"])
    }))

  it.live("asks for a model when none is named, and prints one JSON object with --json", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({
        floorPerSecond: 7,
        ceilingPerSecond: 7,
        latencyMillis: 0,
        models: ["first", "second"],
        apiKey: Redacted.make("sk-right")
      })
      const args = ["limits", "--base-url", provider.url, "--json"]
      const ended = yield* folder.run(args, { env: { TOGETHER_API_KEY: "sk-right" } })
      assert.strictEqual(ended.code, 0, ended.stderr)
      const told = JSON.parse(ended.stdout)
      assert.deepInclude(told, { model: "first", status: 200 })
      const requests = told.limits.find((limit: { dimension: string }) => limit.dimension === "requests")
      assert.strictEqual(requests.limit, 7)
      assert.notInclude(ended.stdout, "sk-right")

      const refused = yield* folder.run(args, { env: { TOGETHER_API_KEY: "sk-wrong" } })
      assert.strictEqual(refused.code, 3)
      assert.match(refused.stderr, /^evenkeel: [^\n]*(401|key)[^\n]*\n$/)
      assert.notInclude(refused.stderr, "sk-wrong")
      const named = yield* folder.run([...args, "--model", "second"], { env: { TOGETHER_API_KEY: "sk-wrong" } })
      assert.strictEqual(named.code, 3)
      assert.match(named.stderr, /^evenkeel: [^\n]*Invalid API key provided[^\n]*\n$/)
      const unknown = yield* folder.run([...args, "--model", "third"], { env: { TOGETHER_API_KEY: "sk-right" } })
      assert.strictEqual(unknown.code, 3)
      assert.match(unknown.stderr, /^evenkeel: [^\n]*`third` does not exist[^\n]*\n$/)
    }))

  it.live("prints what a refusal tells, too", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(() =>
        FakeProvider.refusal(429, { message: "slow down" }, {
          ...together,
          "x-ratelimit-remaining": "0",
          "retry-after": "3"
        })
      )
      const ended = yield* folder.run(["limits", "--base-url", provider.url, "--model", "m"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.match(ended.stdout, /status 429/)
      assert.match(ended.stdout, /It asks to wait 3 s\./)
    }))

  it.live("says so when the provider tells no limit", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const ended = yield* folder.run(["limits", "--base-url", provider.url, "--model", "m"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.match(ended.stdout, /told no limit/)
    }))

  it.live("says so in one line when nobody answers, or nobody was asked", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const { url } = yield* Effect.scoped(FakeProvider.make(FakeProvider.answered))
      const away = yield* folder.run(["limits", "--base-url", url, "--model", "m"])
      assert.strictEqual(away.code, 3)
      assert.match(away.stderr, /^evenkeel: [^\n]*does not answer[^\n]*\n$/)
      const keyless = yield* folder.run(["limits"])
      assert.strictEqual(keyless.code, 2)
      assert.match(keyless.stderr, /^evenkeel: [^\n]*TOGETHER_API_KEY is not set[^\n]*\n$/)
    }))
})
