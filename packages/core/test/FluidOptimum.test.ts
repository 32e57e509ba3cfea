import { assert, describe, it } from "@effect/vitest"
import * as FluidOptimum from "@evenkeel/core/testing/FluidOptimum"
import * as Scenario from "@evenkeel/core/testing/Scenario"

const constant = (perSecond: number, written: Scenario.Written = {}): Scenario.Scenario =>
  Scenario.make({ ...written, dynamicRate: { floorPerSecond: perSecond, ceilingPerSecond: perSecond } })

const close = (actual: number, expected: number, share = 0.001) =>
  assert.closeTo(actual, expected, share * expected, `${actual}, expected ${expected}`)

describe("FluidOptimum", () => {
  it("is work divided by rate while the limit is constant", () => {
    for (const latencySeconds of [0, 0.2, 1.5, 30]) {
      close(FluidOptimum.seconds(constant(10), { requests: 600, latencySeconds }), 60)
      close(FluidOptimum.seconds(constant(0.1), { requests: 120, latencySeconds }), 1200)
    }
    assert.strictEqual(FluidOptimum.seconds(constant(10), { requests: 0, latencySeconds: 1 }), 0)
  })

  it("follows the analytic ramp from cold: the floor, then growth by (cushion - 1) / memory, then the ceiling", () => {
    const scenario = Scenario.make({ dynamicRate: { ceilingPerSecond: 200, memory: { seconds: 20 } } })
    const options = { latencySeconds: 0 }
    const onFloor = 20 * Math.log(2)
    const growing = 20 * Math.log(200)
    const workOf = (seconds: number) =>
      seconds < onFloor
        ? seconds
        : seconds < onFloor + growing
        ? onFloor + 20 * Math.expm1((seconds - onFloor) / 20)
        : onFloor + 20 * 199 + 200 * (seconds - onFloor - growing)
    for (const seconds of [5, 40, 100, 119, 130, 300]) {
      close(FluidOptimum.seconds(scenario, { ...options, requests: workOf(seconds) }), seconds)
    }
  })

  it("counts a success one latency later: growth solves the equation with delay", () => {
    // While D = 2 S grows as exp(k t): S' = (D(t - L) - S) / tau gives k tau + 1 = 2 exp(-k L).
    const scenario = Scenario.make({
      dynamicRate: { ceilingPerSecond: 1e6, floorPerSecond: 0.001, initialSuccessPerSecond: 1 }
    })
    const options = { latencySeconds: 3 }
    const [first, second] = [1e4, 1e5].map((requests) => FluidOptimum.seconds(scenario, { ...options, requests }))
    const growth = Math.log(10) / ((second ?? 0) - (first ?? 0))
    close(growth * 30 + 1, 2 * Math.exp(-growth * 3), 0.002)
  })

  it("follows the trace of the ceiling", () => {
    const scenario = Scenario.make({ dynamicRate: { floorPerSecond: 50, ceilingPerSecond: [[0, 10], [30, 20]] } })
    close(FluidOptimum.seconds(scenario, { requests: 700, latencySeconds: 1 }), 50)
  })

  it("loses an outage's length when the limit does not depend on traffic", () => {
    const outages = [{ fromSeconds: 10, toSeconds: 17.5 }]
    close(FluidOptimum.seconds(constant(10), { requests: 600, latencySeconds: 1, outages }), 67.5)
  })

  it("loses more than an outage's length when the earned limit decays meanwhile", () => {
    const scenario = Scenario.make({ dynamicRate: { ceilingPerSecond: 100, initialSuccessPerSecond: 50 } })
    const work = { requests: 6000, latencySeconds: 0 }
    close(FluidOptimum.seconds(scenario, work), 60)
    const outages = [{ fromSeconds: 20, toSeconds: 50 }]
    // At the outage S = 75.67 (from 50 towards 100); after it S = 27.84, so D = 55.68, which grows back by exp(t / 30).
    const before = 100 - 50 * Math.exp(-20 / 30)
    const after = 2 * before * Math.exp(-1)
    const regain = 30 * Math.log(100 / after)
    const lost = 100 * regain - 30 * (100 - after)
    close(FluidOptimum.seconds(scenario, { ...work, outages }), 90 + lost / 100)
  })

  it("takes the platform's capacity and coins into account", () => {
    const work = { requests: 600, latencySeconds: 1 }
    close(FluidOptimum.seconds(constant(10, { platform: { capacityPerSecond: 5 } }), work), 120)
    close(FluidOptimum.seconds(constant(10, { platform: { overloadProbability: 0.2 } }), work), 75)
    const outage = constant(10, { platform: { overloadProbability: [[0, 0], [20, 1], [30, 0]] } })
    close(FluidOptimum.seconds(outage, work), 70)
    const soft = constant(1, { platform: { capacityPerSecond: 20 }, enforcement: { soft: true } })
    close(FluidOptimum.seconds(soft, work), 30)
  })

  it("is infinite when the limit is zero", () => {
    assert.strictEqual(FluidOptimum.seconds(constant(0), { requests: 1, latencySeconds: 3 }), Infinity)
  })

  it("scores 1 at the optimum and less for what was lost", () => {
    assert.strictEqual(FluidOptimum.score(60, 61.5, 1.5), 1)
    assert.strictEqual(FluidOptimum.score(60, 121.5, 1.5), 0.5)
    assert.strictEqual(FluidOptimum.score(0.1, 1, 1.5), Infinity)
  })

  it("names the figure that it cannot work with", () => {
    assert.throws(() => FluidOptimum.seconds(constant(1), { requests: NaN, latencySeconds: 1 }), RangeError, /requests/)
    assert.throws(() => FluidOptimum.seconds(constant(1), { requests: 1, latencySeconds: -1 }), RangeError, /latency/)
    assert.throws(() => FluidOptimum.score(1, NaN, 1), RangeError, /measuredSeconds/)
  })
})
