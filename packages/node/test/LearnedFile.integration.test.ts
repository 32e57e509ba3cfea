import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

const learned = "state/evenkeel/learned.json"

/** Calls of which the first run learns. */
const lesson = 40

describe.concurrent("what a run learned", () => {
  it.live("is kept for the next run, in a file for this user alone that holds no secret", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ floorPerSecond: 50, ceilingPerSecond: 50, latencyMillis: 10 })
      folder.write("job.jsonl", CommandLine.chats(40, "llama"))
      const env = { TOGETHER_API_KEY: "sk-secret" }
      const args = ["run", "job.jsonl", "--base-url", provider.url, "--quiet"]
      const first = yield* folder.run([...args, "--output", "a.jsonl"], { env })
      assert.strictEqual(first.code, 0, first.stderr)
      const text = folder.read(learned)
      const [key] = Object.keys(JSON.parse(text).keys)
      assert.include(key, `http://127.0.0.1:${provider.port}`)
      assert.include(key, "llama")
      assert.notInclude(text, "sk-secret")
      assert.strictEqual(fs.statSync(folder.at(learned)).mode & 0o777, 0o600)
      assert.deepStrictEqual(fs.readdirSync(folder.at("state/evenkeel")), ["learned.json"])
    }))

  it.live("starts the next run at the pace that was found, unless --forget says otherwise", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const told = { "x-ratelimit-limit": "100", "x-ratelimit-remaining": "99", "x-ratelimit-reset": "1" }
      const provider = yield* FakeProvider.make((seen) => ({
        ...FakeProvider.answered(seen),
        headers: seen.number < lesson ? told : {}
      }))
      folder.write("lesson.jsonl", CommandLine.chats(lesson))
      folder.write("job.jsonl", CommandLine.chats(10))
      const base = ["--base-url", provider.url, "--quiet"]
      assert.strictEqual((yield* folder.run(["run", "lesson.jsonl", ...base])).code, 0)
      const warm = yield* folder.run(["run", "job.jsonl", "--output", "warm.jsonl", ...base])
      assert.strictEqual(warm.code, 0, warm.stderr)
      const cold = yield* folder.run(["run", "job.jsonl", "--output", "cold.jsonl", "--forget", ...base])
      assert.strictEqual(cold.code, 0, cold.stderr)
      const spanMillis = (first: number) => provider.seen[first + 9]!.atMillis - provider.seen[first]!.atMillis
      assert.strictEqual(provider.seen.length, lesson + 20)
      assert.isBelow(spanMillis(lesson), 0.6 * spanMillis(lesson + 10))
    }))

  for (
    const [is, spoil] of [
      ["is not JSON", (path: string) => fs.writeFileSync(path, "{{{")],
      ["is of another version", (path: string) => fs.writeFileSync(path, `{"version":99,"keys":{}}`)],
      ["is a folder", (path: string) => fs.mkdirSync(path)]
    ] as const
  ) {
    it.live(`costs nothing when the file ${is}`, () =>
      Effect.gen(function*() {
        const folder = yield* CommandLine.folder
        const provider = yield* EchoProvider.make({ floorPerSecond: 50, ceilingPerSecond: 50, latencyMillis: 10 })
        folder.write("job.jsonl", CommandLine.chats(3))
        fs.mkdirSync(folder.at("state/evenkeel"), { recursive: true })
        spoil(folder.at(learned))
        const ended = yield* folder.run(["run", "job.jsonl", "--base-url", provider.url, "--quiet"])
        assert.deepStrictEqual([ended.code, ended.stdout, ended.stderr], [0, "", ""])
        if (is !== "is a folder") assert.strictEqual(Object.keys(JSON.parse(folder.read(learned)).keys).length, 1)
        assert.deepStrictEqual(fs.readdirSync(folder.at("state/evenkeel")), ["learned.json"])
      }))
  }
})
