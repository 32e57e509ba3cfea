import { assert, describe, it } from "@effect/vitest"
import type * as Telemetry from "@evenkeel/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Progress from "../src/cli/Progress.ts"

const counts: Telemetry.Counts = {
  calls: 0,
  attempts: 0,
  accepted: 0,
  limited: 0,
  overloaded: 0,
  unknown: 0,
  failed: 0,
  ignored: 0,
  retries: 0,
  possiblyBilledTwice: 0,
  unsent: 0
}

const key = (rest: Partial<Telemetry.KeySnapshot> = {}): Telemetry.KeySnapshot => ({
  key: "https://api.example|anonymous|m",
  origin: "https://api.example",
  organisation: "anonymous",
  model: "m",
  requestsPerSecond: 98.23,
  tokensPerSecond: null,
  capacityPerSecond: null,
  told: [{ dimension: "requests", limit: 100, remaining: 1, resetSeconds: 1, windowSeconds: 1 }],
  share: 1,
  holders: 1,
  waiting: 10,
  backingOff: 0,
  inFlight: 7,
  waitingFor: "requests",
  waitedSeconds: {},
  closedForMillis: null,
  closedReason: null,
  counts,
  learned: null,
  ...rest
})

const moment = (
  keys: ReadonlyArray<Telemetry.KeySnapshot>,
  tally: Partial<Progress.Moment["tally"]> = {}
): Progress.Moment => ({
  tally: {
    requests: 100,
    answeredBefore: 10,
    failedBefore: 1,
    answered: 20,
    failed: 2,
    neverConnected: 0,
    connectionTrouble: undefined,
    startedAtMillis: 0,
    ...tally
  },
  snapshot: { atMillis: 0, keys },
  usage: [],
  nowMillis: 0
})

/** A screen that remembers what is written on it. */
const screen = (animated: boolean, columns = 80) => {
  const written: Array<string> = []
  return { screen: { write: (text: string) => void written.push(text), columns: () => columns, animated }, written }
}

describe("Progress", () => {
  it("tells what is done, failed, in flight and waiting, the pace against the limit, refusals, tokens and time left", () => {
    const used = { ...moment([key({ counts: { ...counts, limited: 3, overloaded: 5 } })], { neverConnected: 1 }) }
    const record = { inputTokens: 1_000, outputTokens: 234 } as Telemetry.UsageRecord
    const [first, second, third] = Progress.describe({ ...used, usage: [record] }, 10)
    assert.strictEqual(first, "33/100 done · 3 failed · 7 in flight · 60 waiting")
    assert.strictEqual(second, "pace 98/s of 100/s told · 429 3 · 503 4 · 1,234 tokens")
    assert.strictEqual(third, "about 6.7 s left · waits for the request rate")
  })

  it("says when it is paused, and when there is no connection and why", () => {
    const paused = Progress.describe(moment([key({ closedForMillis: 90_000 })]), 0).at(-1)
    assert.strictEqual(paused, "paused for 1:30")
    const away = Progress.describe(moment([key()], { connectionTrouble: "connect ECONNREFUSED 127.0.0.1:9" }), 0).at(-1)
    assert.strictEqual(away, "no connection: connect ECONNREFUSED 127.0.0.1:9; trying on")
  })

  it("shows the unit of a limit only where it is known, and nothing of a limit that nobody told", () => {
    const told = (windowSeconds: number | null) => [
      { dimension: "requests", limit: 600, remaining: 1, resetSeconds: 1, windowSeconds }
    ]
    const pace = (rest: Partial<Telemetry.KeySnapshot>) => Progress.describe(moment([key(rest)]), 0)[1]?.split(" · ")[0]
    assert.strictEqual(pace({ told: told(60) }), "pace 98/s of 600/min told")
    assert.strictEqual(pace({ told: told(null) }), "pace 98/s of 600 told")
    assert.strictEqual(pace({ told: [] }), "pace 98/s")
    assert.strictEqual(pace({ told: [], capacityPerSecond: 3.456 }), "pace 3.5/s")
    assert.strictEqual(pace({ told: [], requestsPerSecond: null }), "pace free")
    assert.strictEqual(Progress.describe(moment([key(), key()]), 0)[1]?.split(" · ")[0], "2 models")
  })

  it("stays within 80 columns for a million requests", () => {
    const busy = key({
      inFlight: 1_024,
      requestsPerSecond: 123.4,
      told: [{ dimension: "requests", limit: 1_200, remaining: 1, resetSeconds: 1, windowSeconds: 60 }],
      counts: { ...counts, limited: 12_345, overloaded: 1_234 },
      closedForMillis: 3_000
    })
    const large = moment([busy], { requests: 1_000_000, answered: 123_456, failed: 1_234 })
    const record = { inputTokens: 123_456_789, outputTokens: 12_345_678 } as Telemetry.UsageRecord
    for (const line of Progress.describe({ ...large, usage: [record] }, 98.7)) assert.isAtMost(line.length, 80, line)
  })

  it.effect("on a terminal redraws its lines, cut to the width, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const { screen: narrow, written } = screen(true, 40)
      const fiber = yield* Effect.forkChild(Progress.show(narrow, Effect.succeed(moment([key()]))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      const text = written.join("")
      assert.strictEqual(text.split("\u001b[3A\u001b[J").length - 1, 5 + 1)
      assert.isTrue(text.endsWith("\u001b[3A\u001b[J"))
      // eslint-disable-next-line no-control-regex -- the codes are what is looked for
      for (const line of text.replaceAll(/\u001b\[\w+/g, "").split("\n")) assert.isBelow(line.length, 40)
    }))

  it.effect("elsewhere adds a plain line every ten seconds", () =>
    Effect.gen(function*() {
      const { screen: plain, written } = screen(false)
      const fiber = yield* Effect.forkChild(Progress.show(plain, Effect.succeed(moment([key()]))))
      yield* TestClock.adjust("35 seconds")
      yield* Fiber.interrupt(fiber)
      const lines = written.filter((text) => text !== "")
      assert.strictEqual(lines.length, 3)
      for (const line of lines) assert.match(line, /^33\/100 done · .*\n$/)
      assert.notInclude(written.join(""), "\u001b")
    }))

  it.effect("reckons the time left from what was answered lately", () =>
    Effect.gen(function*() {
      const { screen: plain, written } = screen(false)
      let answered = 0
      let nowMillis = 0
      const running = Effect.sync(() => {
        nowMillis += 10_000
        answered += 50
        return {
          ...moment([key()], { requests: 1_000, answeredBefore: 0, failedBefore: 0, failed: 0, answered }),
          nowMillis
        }
      })
      const fiber = yield* Effect.forkChild(Progress.show(plain, running))
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.interrupt(fiber)
      // 900 are left, at 5 a second.
      assert.match(written[1] ?? "", /about 3:00 left/)
    }))
})
