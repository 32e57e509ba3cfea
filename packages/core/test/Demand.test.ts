import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as fc from "fast-check"

const key = Demand.key("https://api.example", "acme", "llama")

/** Text that is rich in what separates and escapes parts. */
const part = fc.oneof(
  fc.array(fc.constantFrom("|", "%", "%25", "%7C", "a", "7C", "25", ""), { maxLength: 5 }).map((all) => all.join("")),
  fc.string()
)

const parts = fc.tuple(part, part, part)

describe("a key", () => {
  it("has the same id as another exactly when all three parts are the same", () => {
    fc.assert(
      fc.property(parts, parts, (one, other) => {
        const same = one.every((text, i) => text === other[i])
        assert.strictEqual(Demand.key(...one).id === Demand.key(...other).id, same)
      }),
      { numRuns: 1000 }
    )
  })

  it("does not confuse parts that hold the separator or its escape", () => {
    const ids = [
      Demand.key("a|b", "c", "d"),
      Demand.key("a", "b|c", "d"),
      Demand.key("a", "b", "c|d"),
      Demand.key("a%7Cb", "c", "d"),
      Demand.key("a%257Cb", "c", "d"),
      Demand.key("a", "b%7Cc", "d"),
      Demand.key("", "a|b|c", "d"),
      Demand.key("a|b|c", "", "d")
    ].map(({ id }) => id)
    assert.strictEqual(new Set(ids).size, ids.length)
  })

  it("keeps its parts as they were, and an id that a reader knows again", () => {
    fc.assert(fc.property(parts, ([origin, organisation, model]) => {
      const made = Demand.key(origin, organisation, model)
      assert.deepStrictEqual([made.origin, made.organisation, made.model], [origin, organisation, model])
    }))
    assert.strictEqual(key.id, "https://api.example|acme|llama")
  })
})

describe("a cost", () => {
  const counts = fc.nat({ max: 1_000_000 })

  it("counts tokens as input and output together, and one place in flight whatever it is", () => {
    fc.assert(fc.property(counts, counts, counts, (requests, inputTokens, outputTokens) => {
      const cost: Demand.Cost = { requests, inputTokens, outputTokens }
      assert.strictEqual(Demand.costIn(cost, "requests"), requests)
      assert.strictEqual(Demand.costIn(cost, "inputTokens"), inputTokens)
      assert.strictEqual(Demand.costIn(cost, "outputTokens"), outputTokens)
      assert.strictEqual(Demand.costIn(cost, "tokens"), inputTokens + outputTokens)
      assert.strictEqual(Demand.costIn(cost, "concurrency"), 1)
    }))
  })

  it("is one request and no tokens unless told, sum by sum", () => {
    assert.deepStrictEqual(Demand.make({ key }).cost, { requests: 1, inputTokens: 0, outputTokens: 0 })
    assert.deepStrictEqual(Demand.make({ key, cost: { outputTokens: 7 } }).cost, {
      requests: 1,
      inputTokens: 0,
      outputTokens: 7
    })
    assert.deepStrictEqual(Demand.make({ key, cost: { requests: 0 } }).cost, {
      requests: 0,
      inputTokens: 0,
      outputTokens: 0
    })
  })

  it("is refused when a sum is negative or not finite", () => {
    for (const sum of ["requests", "inputTokens", "outputTokens"] as const) {
      for (const wrong of [-1, -0.001, NaN, Infinity, -Infinity]) {
        assert.throws(() => Demand.make({ key, cost: { [sum]: wrong } }), RangeError, `cost.${sum}`)
      }
    }
  })
})

describe("a demand", () => {
  it("is plain, patient and careful unless told", () => {
    assert.deepStrictEqual(Demand.make({ key }), {
      key,
      cost: Demand.oneRequest,
      priority: 0,
      tenant: "",
      credential: "",
      workload: "",
      startWithinMillis: Infinity,
      idempotent: false,
      cachedInput: false
    })
  })

  it("keeps what it is told", () => {
    const told = { priority: -2, tenant: "t", credential: "c", workload: "w", idempotent: true }
    const demand = Demand.make({ key, ...told })
    assert.deepStrictEqual(demand, { ...Demand.make({ key }), ...told })
  })

  it("takes its latest start as any duration", () => {
    const millis = (startWithin: Parameters<typeof Demand.make>[0]["startWithin"]) =>
      Demand.make({ key, startWithin }).startWithinMillis
    assert.strictEqual(millis("1 minute"), 60_000)
    assert.strictEqual(millis(250), 250)
    assert.strictEqual(millis(0), 0)
    assert.strictEqual(millis({ seconds: 1.5 }), 1_500)
    assert.strictEqual(millis(Infinity), Infinity)
    assert.strictEqual(millis(undefined), Infinity)
  })

  it("is refused when its priority is not a finite number", () => {
    for (const wrong of [NaN, Infinity, -Infinity]) {
      assert.throws(() => Demand.make({ key, priority: wrong }), RangeError, "priority")
    }
  })

  it("is refused when its latest start is not a number, instead of being too late at once", () => {
    assert.throws(() => Demand.make({ key, startWithin: NaN }), RangeError, "startWithin")
    assert.throws(() => Demand.make({ key, startWithin: "soon" as "1 minute" }), RangeError, "startWithin")
  })
})
