import { assert, describe, it } from "@effect/vitest"
import type * as Telemetry from "@evenkeel/core/Telemetry"
import * as fc from "fast-check"
import * as Report from "../src/cli/Report.ts"

const tally: Report.Tally = {
  requests: 100,
  answeredBefore: 10,
  failedBefore: 1,
  answered: 60,
  failed: 4,
  neverConnected: 3,
  connectionTrouble: undefined,
  startedAtMillis: 1_000
}

const key = (counts: Partial<Telemetry.Counts>, waitedSeconds: Record<string, number> = {}) =>
  ({
    counts: { attempts: 0, limited: 0, overloaded: 0, retries: 0, possiblyBilledTwice: 0, ...counts },
    waitedSeconds
  }) as Telemetry.KeySnapshot

const record = (inputTokens: number, outputTokens: number, wastedTokens: number) =>
  ({ inputTokens, outputTokens, wastedTokens }) as Telemetry.UsageRecord

const report = (rest: Partial<Parameters<typeof Report.make>[0]> = {}): Report.Report =>
  Report.make({
    tally,
    snapshot: {
      atMillis: 0,
      keys: [
        key({ attempts: 70, limited: 2, overloaded: 5, retries: 6, possiblyBilledTwice: 1 }, { requests: 3, gate: 1 }),
        key({ attempts: 10, limited: 1, overloaded: 1, retries: 1 }, { requests: 1 })
      ]
    },
    usage: [record(100, 200, 7), record(1, 2, 3)],
    nowMillis: 31_000,
    stopped: undefined,
    ...rest
  })

const stop = (reason: Report.Stop["reason"]): Report.Stop => ({ reason, message: "", continueAfterMillis: undefined })

describe("Report", () => {
  it("adds up all keys and all users", () => {
    assert.deepStrictEqual(report(), {
      requests: 100,
      answered: 60,
      answeredBefore: 10,
      failed: 4,
      failedBefore: 1,
      open: 25,
      attempts: 80,
      refused429: 3,
      refused503: 3,
      neverConnected: 3,
      retries: 7,
      possiblyBilledTwice: 1,
      inputTokens: 101,
      outputTokens: 202,
      wastedTokens: 10,
      seconds: 30,
      requestsPerSecond: 2,
      waitedSeconds: { requests: 4, gate: 1 },
      stopped: undefined
    })
  })

  it("stands for the exit status that is promised", () => {
    const all = { ...tally, answered: 89, failed: 0, failedBefore: 0, answeredBefore: 11 }
    const exit = (rest: Partial<Report.Tally>, stopped?: Report.Stop) =>
      Report.exitCode(report({ tally: { ...all, ...rest }, stopped }))
    assert.strictEqual(exit({}), 0)
    assert.strictEqual(exit({ answered: 88, failed: 1 }), 1)
    assert.strictEqual(exit({ answered: 88, failedBefore: 1 }), 1)
    assert.strictEqual(exit({ answered: 88 }), 3)
    assert.strictEqual(exit({ answered: 80, failed: 1 }), 3)
    for (const reason of ["unauthorized", "payment", "quota", "deadline"] as const) {
      assert.strictEqual(exit({ answered: 80 }, stop(reason)), 3)
    }
    assert.strictEqual(exit({ answered: 80 }, stop("interrupted")), 130)
  })

  it("sums up in words all that was promised, within 80 columns", () => {
    const text = Report.summary(report(), "out.jsonl")
    for (
      const row of [
        /answered +70 of 100 \(10 in earlier runs\)$/m,
        /failed +5$/m,
        /left open +25$/m,
        /refused 429 +3 \(3\.8 %\)$/m,
        /refused 503 +3 \(3\.8 %\)$/m,
        /no connection +3$/m,
        /retries +7$/m,
        /possibly billed twice +1$/m,
        /tokens +101 in, 202 out$/m,
        /wasted tokens +10$/m,
        /time +30\.0 s, 2\.0 answered per second$/m,
        /waited for +the request rate 80 %, the provider's reset 20 %$/m,
        /results +out\.jsonl$/m
      ]
    ) assert.match(text, row)
    const large = Report.summary(
      report({ tally: { ...tally, requests: 1_000_000, answeredBefore: 500_000, answered: 400_000 } }),
      "out.jsonl"
    )
    for (const line of large.split("\n")) assert.isAtMost(line.length, 80)
  })

  it("divides by no time and by no attempt", () => {
    const nothing = report({
      tally: { ...tally, answered: 0, startedAtMillis: 31_000 },
      snapshot: { atMillis: 0, keys: [] },
      usage: []
    })
    assert.strictEqual(nothing.requestsPerSecond, 0)
    assert.match(Report.summary(nothing, "o"), /refused 429 +0\n/)
    assert.match(Report.summary(nothing, "o"), /waited for +nothing\n/)
  })

  it("writes times as people do", () => {
    assert.deepStrictEqual([0, 12.34, 59.94, 59.96, 60, 90.4, 3_599.6, 4_000, 72_000].map(Report.clock), [
      "0.0 s",
      "12.3 s",
      "59.9 s",
      "1:00",
      "1:00",
      "1:30",
      "1:00:00",
      "1:06:40",
      "20:00:00"
    ])
    fc.assert(fc.property(fc.double({ min: 0, max: 1e7, noNaN: true }), (seconds) => {
      const text = Report.clock(seconds)
      assert.match(text, /^(?:[0-5]?\d\.\d s|[0-5]?\d:[0-5]\d|\d+:[0-5]\d:[0-5]\d)$/, text)
    }))
  })
})
