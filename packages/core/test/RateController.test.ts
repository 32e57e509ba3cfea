import { assert, describe, it } from "@effect/vitest"
import type * as Demand from "@evenkeel/core/Demand"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pace from "@evenkeel/core/Pace"
import * as RateController from "@evenkeel/core/RateController"
import * as fc from "fast-check"

const adaptive = RateController.adaptive()

type State = RateController.AdaptiveState

const one: Demand.Cost = { requests: 1, inputTokens: 100, outputTokens: 200 }

const reading = (dimension: Demand.Dimension, ratePerSecond: number): Outcome.Reading => ({
  ...Outcome.nothingRead,
  limits: [{ dimension, ratePerSecond }]
})

const readings = fc.oneof(
  fc.constant(Outcome.nothingRead),
  fc.record({
    dimension: fc.constantFrom<Demand.Dimension>("requests", "tokens", "inputTokens"),
    limit: fc.oneof(fc.constantFrom(0, -1, NaN, Infinity, 60), fc.double({ min: 1e-3, max: 1e7, noNaN: true })),
    windowSeconds: fc.constantFrom(0, 1, 60, 86_400)
  }).map((limit): Outcome.Reading => ({ ...Outcome.nothingRead, limits: [limit] }))
)

const outcomes = fc.record({
  tag: fc.constantFrom("accepted", "accepted", "limited", "limited", "overloaded", "unknown", "failed", "ignored"),
  dimension: fc.constantFrom(undefined, "requests", "tokens", "inputTokens", "concurrency"),
  read: readings
}).map(({ dimension, read, tag }) =>
  Outcome[tag as "limited"]({ dimension: dimension as Demand.Dimension, reading: read })
)

const gap = fc.oneof(fc.constant(0), fc.nat(2_000), fc.nat(100_000))

const costs = fc.constantFrom<Demand.Cost>(
  one,
  { requests: 1, inputTokens: 0, outputTokens: 0 },
  { requests: 0, inputTokens: 0, outputTokens: 0 },
  { requests: 1, inputTokens: 1e6, outputTokens: 1e6 }
)

const events = fc.oneof(
  fc.record({
    kind: fc.constant("Sent" as const),
    gap,
    cost: costs,
    binding: fc.constantFrom(undefined, "requests", "requests", "tokens", "overload", "concurrency")
  }),
  fc.record({ kind: fc.constant("Verdict" as const), gap, cost: costs, age: fc.nat(20_000), outcome: outcomes }),
  fc.record({ kind: fc.constant("Settled" as const), gap, cost: costs }),
  fc.record({ kind: fc.constant("Woke" as const), gap })
)

type Happening = Parameters<Parameters<typeof events.map>[0]>[0]

const eventOf = (happening: Happening, now: number): RateController.Event => {
  switch (happening.kind) {
    case "Sent":
      return { _tag: "Sent", cost: happening.cost, binding: happening.binding as RateController.Binding }
    case "Verdict":
      return { _tag: "Verdict", cost: happening.cost, sentAtMillis: now - happening.age, outcome: happening.outcome }
    case "Settled":
      return { _tag: "Settled", reserved: one, used: happening.cost }
    case "Woke":
      return { _tag: "Woke" }
  }
}

const live = (happenings: ReadonlyArray<Happening>, controller: RateController.RateController<State> = adaptive) => {
  let state = controller.start(0, undefined, 0)
  let now = 0
  for (const happening of happenings) {
    now += happening.gap
    state = controller.step(state, eventOf(happening, now), now).state
  }
  return { state, now }
}

const histories = fc.array(events, { maxLength: 100 })

const verdict = (
  state: State,
  outcome: Outcome.Outcome,
  now: number,
  controller: RateController.RateController<State> = adaptive
) => controller.step(state, { _tag: "Verdict", cost: one, sentAtMillis: now - 200, outcome }, now)

/** What was learned of the limits themselves. */
const trims = ({ requests, tokens }: State) => [requests.trim, requests.ceiling, tokens.trim, tokens.ceiling]

const rates = (state: State, controller: RateController.RateController<State> = adaptive) => {
  const { overload, requests, tokens } = controller.pace(state)
  return [requests, tokens, overload].map((rate) => rate.ratePerSecond)
}

describe("RateController.adaptive", () => {
  it("keeps a usable pace whatever happens: above nothing, never NaN, the requests' always finite", () => {
    fc.assert(fc.property(histories, (history) => {
      const { state } = live(history)
      for (const rate of rates(state)) assert.isAbove(rate, 0)
      const { inFlight, requests } = adaptive.pace(state)
      assert.isBelow(requests.ratePerSecond, Infinity)
      assert.isAbove(requests.burst, 0)
      assert.strictEqual(inFlight, Infinity)
      assert.isFalse(Number.isNaN(adaptive.wakeAtMillis(state)))
      assert.isTrue(Number.isFinite(state.refusalMillis) && Number.isFinite(state.tokensPerCall))
    }))
  })

  it("503s and connections never made change nothing of what was learned of the limits", () => {
    fc.assert(fc.property(histories, fc.array(gap, { minLength: 1, maxLength: 60 }), (history, gaps) => {
      const { now, state } = live(history)
      let next = state
      let at = now
      for (const pause of gaps) {
        next = verdict(next, Outcome.overloaded({ connected: pause % 2 === 0 }), at += pause).state
      }
      assert.deepStrictEqual(trims(next), trims(state))
      assert.deepStrictEqual(rates(next).slice(0, 2), rates(state).slice(0, 2))
    }))
  })

  it("an unknown outcome teaches nothing at all; failures and other answers nothing of the limits", () => {
    fc.assert(fc.property(histories, (history) => {
      const { now, state } = live(history)
      assert.strictEqual(verdict(state, Outcome.unknown(), now).state, state)
      for (const outcome of [Outcome.failed(), Outcome.ignored(), Outcome.accepted()]) {
        assert.deepStrictEqual(trims(verdict(state, outcome, now).state), trims(state))
      }
    }))
  })

  it("a 429 for requests changes nothing of the tokens, and one for tokens nothing of the requests", () => {
    fc.assert(fc.property(histories, (history) => {
      const { now, state } = live(history)
      for (const dimension of [undefined, "requests"] as const) {
        assert.strictEqual(verdict(state, Outcome.limited({ dimension }), now).state.tokens, state.tokens)
      }
      for (const dimension of ["tokens", "inputTokens", "outputTokens"] as const) {
        assert.strictEqual(verdict(state, Outcome.limited({ dimension }), now).state.requests, state.requests)
      }
    }))
  })

  it("a 429 for calls in flight lowers the requests, and says nothing of tokens", () => {
    const start = adaptive.start(0, undefined, 0)
    const { state } = verdict(start, Outcome.limited({ dimension: "concurrency" }), 1_000)
    assert.strictEqual(state.tokens, start.tokens)
    assert.isBelow(rates(state)[0]!, rates(start)[0]!)
  })

  it("a 429 lowers the pace, with a reason", () => {
    const start = adaptive.start(0, undefined, 0)
    const { reason, state } = verdict(start, Outcome.limited(), 1_000)
    assert.strictEqual(reason, "refused")
    assert.isBelow(rates(state)[0]!, rates(start)[0]!)
  })

  it("a limit on tokens is unknown until a header tells it, and then paces", () => {
    const start = adaptive.start(0, undefined, 0)
    assert.strictEqual(rates(start)[1], Infinity)
    const { reason, state } = verdict(start, Outcome.accepted({ reading: reading("tokens", 5_000) }), 1_000)
    assert.strictEqual(reason, "limit told")
    assert.strictEqual(rates(state)[1], 5_000)
    assert.strictEqual(rates(state)[0], rates(start)[0])
  })

  it("a rate is taken before a figure, a figure without a rate as the trim finds it, and a daily budget not at all", () => {
    const told = (limit: Omit<Outcome.LimitReading, "dimension">) =>
      verdict(
        adaptive.start(0, undefined, 0),
        Outcome.accepted({ reading: { ...Outcome.nothingRead, limits: [{ dimension: "requests", ...limit }] } }),
        1_000
      ).state.requests
    assert.strictEqual(told({ limit: 600, windowSeconds: 60, ratePerSecond: 10 }).advertised, 10)
    assert.strictEqual(told({ limit: 600 }).advertised, 600)
    assert.isFalse(told({ limit: 86_400, windowSeconds: 86_400, ratePerSecond: 1 }).hasHeader)
  })

  it("a sentence counts where no header does, and what stands aside only with its unit", () => {
    const told = (state: State, ...limits: ReadonlyArray<Omit<Outcome.LimitReading, "dimension">>) =>
      verdict(
        state,
        Outcome.limited({
          reading: { ...Outcome.nothingRead, limits: limits.map((limit) => ({ dimension: "requests", ...limit })) }
        }),
        1_000
      ).state
    const start = adaptive.start(0, undefined, 0)
    const sentence = { policy: "message", limit: 600, windowSeconds: 60, ratePerSecond: 10, aside: true } as const
    assert.strictEqual(told(start, sentence).requests.advertised, 10)
    assert.strictEqual(told(told(start, { limit: 600 }), sentence).requests.advertised, 600)
    assert.isFalse(told(start, { limit: 20, aside: true }).requests.hasHeader)
  })

  it("a refusal for points, of a call that costs no tokens, lowers the requests", () => {
    const start = adaptive.start(0, undefined, 0)
    const event = { sentAtMillis: 900, outcome: Outcome.limited({ dimension: "tokens" }) }
    const cost = { requests: 1, inputTokens: 0, outputTokens: 0 }
    const { state } = adaptive.step(start, { _tag: "Verdict", cost, ...event }, 1_000)
    assert.isBelow(rates(state)[0]!, rates(start)[0]!)
  })

  it("what was learned starts the next run at half its rate, less the older it is, and never below a fresh start", () => {
    let state = adaptive.start(0, undefined, 0)
    state = verdict(state, Outcome.accepted({ reading: reading("requests", 80) }), 500).state
    for (let now = 500; now < 10_000; now += 20) {
      state = adaptive.step(state, { _tag: "Sent", cost: one, binding: "requests" }, now).state
    }
    const rate = rates(state)[0]!
    assert.isAtLeast(rate, 80)
    const learned = JSON.parse(JSON.stringify(adaptive.learned(state))) as RateController.Learned
    const startRate = (ageMillis: number) => rates(adaptive.start(5, learned, ageMillis))[0]!
    assert.closeTo(startRate(0), rate / 2, 1e-6)
    assert.closeTo(startRate(600_000), rate / 4, 1e-6)
    assert.closeTo(startRate(1e12), 2, 1e-6)
    assert.closeTo(startRate(-5), rate / 2, 1e-6)
    const adopted = adaptive.adopt(adaptive.start(0, undefined, 0), learned, 10_000)
    assert.closeTo(rates(adopted)[0]!, rate, 1e-6)
  })

  it("nothing is learned from acceptance alone", () => {
    const { state } = verdict(adaptive.start(0, undefined, 0), Outcome.accepted(), 1_000)
    assert.isUndefined(adaptive.learned(state))
  })

  it("learned garbage is as good as nothing", () => {
    const garbage = fc.dictionary(
      fc.constantFrom("version", "requestsPerSecond", "requests", "tokens", "x"),
      fc.oneof(fc.constantFrom<unknown>(1, 2, -1, 0, NaN, Infinity, null, "1"), fc.anything())
    )
    fc.assert(fc.property(garbage, fc.double(), (learned, age) => {
      const state = adaptive.start(0, learned, age)
      const [requests] = rates(state)
      assert.isTrue(requests! >= 2 * (1 - 1e-12) && requests! < Infinity, `${requests}`)
      for (const rate of rates(adaptive.adopt(state, learned, 0))) assert.isAbove(rate, 0)
    }))
  })

  it("a start rate that is none is a programmer's mistake", () => {
    for (const startPerSecond of [0, -1, NaN, Infinity]) {
      assert.throws(() => RateController.adaptive({ startPerSecond }), RangeError, /startPerSecond/)
    }
  })
})

describe("RateController.capped", () => {
  const cap = { requests: Pace.rate(5), tokens: Pace.rate(1_000), overload: Pace.rate(20), inFlight: 3 }
  const capped = RateController.capped(adaptive, cap)

  it("never paces above the cap, nor above the controller underneath", () => {
    fc.assert(fc.property(histories, (history) => {
      const { state } = live(history, capped)
      const [requests, tokens, overload] = rates(state, capped)
      const [below, belowTokens, belowOverload] = rates(state)
      assert.strictEqual(requests, Math.min(5, below!))
      assert.strictEqual(tokens, Math.min(1_000, belowTokens!))
      assert.strictEqual(overload, Math.min(20, belowOverload!))
      assert.strictEqual(capped.pace(state).inFlight, 3)
    }))
  })

  it("a call that waited for the cap does not raise what is believed of the provider", () => {
    const start = adaptive.adopt(adaptive.start(0, undefined, 0), {
      version: 1,
      requests: { active: true, advertised: 10, hasHeader: true, trim: 0, ceiling: 0, refused: false }
    }, 0)
    let state = start
    for (let now = 200; now < 60_000; now += 200) {
      state = capped.step(state, { _tag: "Sent", cost: one, binding: "requests" }, now).state
    }
    assert.strictEqual(rates(state)[0], rates(start)[0])
    // Below the cap it is the controller's own pace that binds, and it does grow.
    const slow = adaptive.start(0, undefined, 0)
    const { state: grown } = capped.step(slow, { _tag: "Sent", cost: one, binding: "requests" }, 500)
    assert.isAbove(rates(grown)[0]!, rates(slow)[0]!)
  })
})

describe("RateController.fixed", () => {
  it("never changes, whatever happens, and remembers nothing", () => {
    const fixed = RateController.fixed({ requests: Pace.perMinute(90), inFlight: 4 })
    fc.assert(fc.property(histories, (history) => {
      let state = fixed.start(0, { version: 1 }, 0)
      let now = 0
      for (const happening of history) state = fixed.step(state, eventOf(happening, now += happening.gap), now).state
      assert.deepStrictEqual(fixed.pace(state), { ...Pace.unbounded, requests: Pace.rate(1.5), inFlight: 4 })
      assert.isUndefined(fixed.learned(state))
      assert.strictEqual(fixed.wakeAtMillis(state), Infinity)
    }))
  })
})
