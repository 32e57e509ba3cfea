import { assert, describe, it } from "@effect/vitest"
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { readFileSync } from "node:fs"

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`fixtures/scenario-${name}.json`, import.meta.url), "utf8"))

const problem = (json: unknown) => Effect.flip(Scenario.decode(json))

describe("Scenario", () => {
  it.effect("reads a file as it stands", () =>
    Effect.gen(function*() {
      for (const name of ["cold-ramp", "rpm-units", "on-off", "tokens-stale"]) {
        const json = fixture(name)
        assert.deepStrictEqual(yield* Scenario.decode(json), json as Scenario.Scenario)
      }
    }))

  it.effect("gives the documented defaults to what a file leaves out", () =>
    Effect.gen(function*() {
      const scenario = yield* Scenario.decode({})
      assert.deepStrictEqual(scenario, {
        id: "scenario",
        seed: 1,
        horizonSeconds: 300,
        clients: 1,
        dynamicRate: {
          floorPerSecond: 1,
          ceilingPerSecond: [[0, 100]],
          cushion: 2,
          memory: { kind: "ewma", seconds: 30 },
          initialSuccessPerSecond: 0
        },
        tokens: null,
        enforcement: {
          burstSeconds: 1,
          bufferSeconds: 0.5,
          oneSecondWindows: false,
          soft: false,
          rejectCost: 0,
          overloadConsumes: true
        },
        platform: { capacityPerSecond: null, overloadProbability: [[0, 0]] },
        headers: {
          onSuccess: true,
          onError: true,
          staleSeconds: 0,
          coarse: false,
          units: 1,
          fractionalReset: false,
          retryAfter: true
        },
        latency: {
          serviceMedianSeconds: 1.5,
          serviceSigma: 0.6,
          firstTokenSeconds: 0.4,
          perTokenSeconds: 0.012,
          rttSeconds: 0.08,
          rttSigma: 0.2
        },
        workload: { kind: "backlog" }
      })
      assert.deepStrictEqual(Scenario.make(), scenario)
    }))

  it("keeps what is given beside the defaults, and takes a number for a trace", () => {
    const scenario = Scenario.make({ dynamicRate: { ceilingPerSecond: 5, memory: { kind: "boxcar" } } })
    assert.deepStrictEqual(scenario.dynamicRate.ceilingPerSecond, [[0, 5]])
    assert.deepStrictEqual(scenario.dynamicRate.memory, { kind: "boxcar", seconds: 30 })
    assert.strictEqual(scenario.dynamicRate.cushion, 2)
  })

  it.effect("says what is wrong and where", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<[unknown, RegExp]> = [
        [null, /object/],
        [{ dynamicRate: { cushion: "two" } }, /\["dynamicRate"\]\["cushion"\]/],
        [{ dynamicRate: { memory: { kind: "median" } } }, /\["memory"\]\["kind"\]/],
        [{ dynamicRate: { ceilingPerSecond: [[5, 1]] } }, /start at second 0[^]*\["ceilingPerSecond"\]/],
        [{ dynamicRate: { ceilingPerSecond: [[0, 1], [0, 2]] } }, /\["ceilingPerSecond"\]/],
        [{ dynamicRate: { ceilingPerSecond: [] } }, /\["ceilingPerSecond"\]/],
        [{ platform: { overloadProbability: 1.5 } }, /\["overloadProbability"\]/],
        [{ tokens: { floorPerSecond: 1 } }, /\["tokens"\]\["ceilingPerSecond"\]/],
        [{ workload: { kind: "open", sloSeconds: 4 } }, /\["workload"\]\["arrivalsPerSecond"\]/],
        [{ clients: 1.5 }, /\["clients"\]/]
      ]
      for (const [json, message] of wrong) {
        const error = yield* problem(json)
        assert.strictEqual(error._tag, "ScenarioError")
        assert.match(error.message, message)
      }
    }))

  it("throws at a mistake in a program", () => {
    assert.throws(() => Scenario.make({ headers: { units: 0 } }), RangeError, /\["headers"\]\["units"\]/)
  })

  it("reads a trace as its steps say, at every moment", () => {
    const traces = fc.uniqueArray(fc.integer({ min: 1, max: 1000 }), { maxLength: 40 }).map((seconds) =>
      [0, ...seconds.sort((left, right) => left - right)].map((second, index) => [second, index] as const)
    )
    fc.assert(fc.property(traces, fc.double({ min: -1, max: 1100, noNaN: true }), (trace, seconds) => {
      const passed = trace.filter(([from]) => from <= seconds)
      assert.strictEqual(Scenario.at(trace, seconds), passed[passed.length - 1]?.[1] ?? 0)
      const next = trace.find(([from]) => from > seconds)
      assert.strictEqual(Scenario.nextStep(trace, seconds), next?.[0] ?? Infinity)
    }))
  })
})
