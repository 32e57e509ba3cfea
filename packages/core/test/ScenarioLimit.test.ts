import { assert, describe, it } from "@effect/vitest"
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as ScenarioLimit from "@evenkeel/core/testing/ScenarioLimit"
import * as fc from "fast-check"

const constant = (perSecond: number, written: Scenario.Written = {}): Scenario.Scenario =>
  Scenario.make({ ...written, dynamicRate: { floorPerSecond: perSecond, ceilingPerSecond: perSecond } })

const heads = () => 0
const tails = () => 0.999999

const verdict = (answer: ScenarioLimit.Answer) => answer._tag === "Admit" ? "Admit" : answer.errorType ?? answer.status

/** Drains the bucket at a moment: how many calls are let through before the first refusal. */
const through = (limit: ScenarioLimit.ScenarioLimit, nowSeconds: number): number => {
  let count = 0
  while (count < 10_000 && limit.arrive(nowSeconds, 0)._tag === "Admit") count++
  return count
}

describe("ScenarioLimit", () => {
  it("lets one call a second through at 60 a minute, but not sixty at once", () => {
    const limit = ScenarioLimit.make(constant(1), tails)
    for (let second = 0; second < 60; second++) assert.strictEqual(limit.arrive(second, 0)._tag, "Admit")
    assert.strictEqual(through(limit, 120), 1)
  })

  it("tells limit, remaining and reset as they are after the call", () => {
    const limit = ScenarioLimit.make(constant(10), tails)
    const first = limit.arrive(0, 0)
    assert.deepStrictEqual(first.headers, {
      "x-ratelimit-limit": "10",
      "x-ratelimit-remaining": "9",
      "x-ratelimit-reset": "1"
    })
    assert.strictEqual(limit.arrive(0, 0).headers["x-ratelimit-remaining"], "8")
  })

  it("tells the tokens where they are limited", () => {
    const tokens = { floorPerSecond: 5000, ceilingPerSecond: 5000 }
    const limit = ScenarioLimit.make(constant(10, { tokens }), tails)
    const { headers } = limit.arrive(0, 1200)
    assert.strictEqual(headers["x-tokenlimit-limit"], "5000")
    assert.strictEqual(headers["x-tokenlimit-remaining"], "3800")
    limit.complete(0, 1200, 3800)
    const next = limit.arrive(0, 4000)
    assert.strictEqual(verdict(next), "dynamic_token_limited")
    assert.strictEqual(next.headers["x-tokenlimit-remaining"], "0")
  })

  it("shows the limit in the scenario's units, and coarsely when asked", () => {
    const limitOf = (scenario: Scenario.Scenario) =>
      ScenarioLimit.make(scenario, tails).arrive(0, 0).headers["x-ratelimit-limit"]
    assert.strictEqual(limitOf(constant(10, { headers: { units: 60 } })), "600")
    assert.strictEqual(limitOf(constant(34.7, { headers: { coarse: true } })), "30")
    assert.strictEqual(limitOf(constant(0.1)), "0.1")
    assert.strictEqual(limitOf(constant(1 / 3)), "0.333333")
  })

  it("tells a fractional reset only when the scenario has one", () => {
    const resetOf = (fractionalReset: boolean) =>
      ScenarioLimit.make(constant(10, { headers: { fractionalReset } }), tails).arrive(0, 0)
        .headers["x-ratelimit-reset"]
    assert.strictEqual(resetOf(true), "0.1")
    assert.strictEqual(resetOf(false), "1")
    assert.strictEqual(ScenarioLimit.make(constant(0.1), tails).arrive(0, 0).headers["x-ratelimit-reset"], "10")
  })

  it("leaves headers out where the scenario does, each kind by itself", () => {
    const pair = (headers: Scenario.Written["headers"] & {}) => {
      const limit = ScenarioLimit.make(constant(1, { headers }), tails)
      return [limit.arrive(0, 0), limit.arrive(0, 0)].map(({ headers }) => Object.keys(headers).length)
    }
    assert.deepStrictEqual(pair({}), [3, 4])
    assert.deepStrictEqual(pair({ onError: false }), [3, 1])
    assert.deepStrictEqual(pair({ onSuccess: false }), [0, 1])
    assert.deepStrictEqual(pair({ retryAfter: false }), [3, 3])
    assert.deepStrictEqual(pair({ onSuccess: false, retryAfter: false }), [0, 0])
  })

  it("hints whole seconds from 1 to 60 on a 429", () => {
    const hint = (perSecond: number) => {
      const limit = ScenarioLimit.make(constant(perSecond), tails)
      through(limit, 0)
      return limit.arrive(0, 0).headers["retry-after"]
    }
    assert.deepStrictEqual([hint(10), hint(0.1), hint(0.001), hint(0)], ["1", "10", "60", "60"])
  })

  it("tells the headers of a while ago when they are stale", () => {
    const scenario = Scenario.make({
      dynamicRate: { floorPerSecond: 100, ceilingPerSecond: [[0, 10], [20, 40]] },
      headers: { staleSeconds: 5 }
    })
    const limit = ScenarioLimit.make(scenario, tails)
    const told: Array<string> = []
    for (const seconds of [0, 4, 6, 20, 24.9, 25, 26]) {
      const { headers } = limit.arrive(seconds, 0)
      told.push(`${headers["x-ratelimit-limit"]}/${headers["x-ratelimit-remaining"]}`)
    }
    // At 6 s those of 1 s (a full bucket again), from 25 s those under the new ceiling, whose bucket is yet to fill.
    assert.deepStrictEqual(told, ["10/10", "10/10", "10/10", "10/10", "10/10", "40/9", "40/40"])
  })

  it("tells stale headers within a sixty-fourth of their age, however many calls there are", () => {
    const scenario = Scenario.make({
      dynamicRate: { ceilingPerSecond: 500, initialSuccessPerSecond: 200 },
      headers: { staleSeconds: 8 }
    })
    const limit = ScenarioLimit.make(scenario, tails)
    for (let index = 0; index <= 30_000; index++) {
      const seconds = index / 1000
      const shown = Number(limit.arrive(seconds, 0).headers["x-ratelimit-limit"])
      const then = 400 * Math.exp(-Math.max(0, seconds - 8) / 30)
      assert.closeTo(shown, then, 0.001 * then)
    }
  })

  it("follows the trace of the ceiling, each stretch under its own terms", () => {
    const scenario = Scenario.make({
      dynamicRate: { floorPerSecond: 1000, ceilingPerSecond: [[0, 10], [1, 2], [2, 50]] },
      enforcement: { bufferSeconds: 0 }
    })
    const limit = ScenarioLimit.make(scenario, tails)
    assert.strictEqual(through(limit, 0), 10)
    assert.strictEqual(limit.ratePerSecond(1.5), 2)
    // By 2 s the bucket held 2 at most, and half a second at 50 a second brings 25 more.
    assert.strictEqual(through(limit, 2.5), 27)
  })

  it("raises the rate only by what completes", () => {
    const limit = ScenarioLimit.make(Scenario.make({ dynamicRate: { memory: { seconds: 20 } } }), tails)
    for (let index = 0; index < 50; index++) limit.arrive(0, 0)
    assert.strictEqual(limit.ratePerSecond(0), 1)
    for (let index = 0; index < 50; index++) limit.complete(0, 10, 10)
    assert.closeTo(limit.ratePerSecond(0), 5, 1e-9)
    assert.closeTo(limit.ratePerSecond(20), 5 / Math.E, 1e-9)
  })

  it("refuses with 503 what the platform has no room for, and by a coin", () => {
    const narrow = ScenarioLimit.make(constant(100, { platform: { capacityPerSecond: 3 } }), tails)
    const verdicts = Array.from({ length: 5 }, () => verdict(narrow.arrive(0, 0)))
    assert.deepStrictEqual(verdicts, ["Admit", "Admit", "Admit", 503, 503])
    assert.strictEqual(verdict(narrow.arrive(0.4, 0)), "Admit")
    assert.strictEqual(verdict(narrow.arrive(0.4, 0)), 503)

    const unlucky = constant(100, { platform: { overloadProbability: [[0, 0], [5, 0.2], [9, 1]] } })
    assert.strictEqual(verdict(ScenarioLimit.make(unlucky, heads).arrive(1, 0)), "Admit")
    for (const coin of [heads, tails]) {
      const limit = ScenarioLimit.make(unlucky, coin)
      limit.arrive(0, 0)
      assert.strictEqual(verdict(limit.arrive(6, 0)), coin === heads ? 503 : "Admit")
      assert.strictEqual(verdict(limit.arrive(9, 0)), 503)
    }
  })

  it("lets calls over the limit pass while the platform has room when enforcement is soft", () => {
    const scenario = constant(1, { platform: { capacityPerSecond: 20 }, enforcement: { soft: true } })
    const limit = ScenarioLimit.make(scenario, tails)
    assert.strictEqual(through(limit, 0), 20)
    assert.strictEqual(verdict(limit.arrive(0, 0)), "dynamic_request_limited")
  })

  it("never admits more than bucket, buffer and rate together allow", () => {
    fc.assert(fc.property(
      fc.constantFrom(0.5, 3, 40),
      fc.constantFrom(0.2, 1, 2),
      fc.constantFrom(0, 0.5, 2),
      fc.array(fc.double({ min: 0, max: 2, noNaN: true }), { maxLength: 60 }),
      (perSecond, burstSeconds, bufferSeconds, gaps) => {
        const limit = ScenarioLimit.make(constant(perSecond, { enforcement: { burstSeconds, bufferSeconds } }), tails)
        let now = 0
        let admitted = 0
        for (const gap of gaps) {
          now += gap
          for (let index = 0; index < 20; index++) if (limit.arrive(now, 0)._tag === "Admit") admitted++
          const held = Math.max(1, burstSeconds * perSecond) + bufferSeconds * perSecond
          assert.isAtMost(admitted, held + perSecond * now + 1e-6)
        }
      }
    ))
  })

  it("takes a time that runs backwards for the latest it has seen", () => {
    const limit = ScenarioLimit.make(constant(1), tails)
    limit.arrive(10, 0)
    assert.strictEqual(verdict(limit.arrive(3, 0)), "dynamic_request_limited")
    assert.strictEqual(limit.ratePerSecond(NaN), 1)
  })
})
