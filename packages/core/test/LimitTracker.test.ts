import { assert, describe, it } from "@effect/vitest"
import * as LimitTracker from "@evenkeel/core/LimitTracker"
import * as fc from "fast-check"

const { requestLaw, tokenLaw } = LimitTracker

type Step =
  | { readonly what: "sent"; readonly gap: number; readonly cost: number; readonly binding: boolean }
  | { readonly what: "refused"; readonly gap: number; readonly cost: number; readonly age: number }
  | { readonly what: "told"; readonly gap: number; readonly limit: number; readonly age: number }

const gap = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 3_000, noNaN: true }))
const age = fc.double({ min: 0, max: 4_000, noNaN: true })
const limit = fc.oneof(fc.constantFrom(1, 60, 100, 5_000), fc.double({ min: 1e-3, max: 1e9, noNaN: true }))
const cost = fc.constantFrom(1, 1, 1, 0, 0.5, 20, 4_000)

const sent = fc.record({ what: fc.constant("sent" as const), gap, cost, binding: fc.boolean() })
const refused = fc.record({ what: fc.constant("refused" as const), gap, cost, age })
const told = fc.record({ what: fc.constant("told" as const), gap, limit, age })
const histories = fc.array(fc.oneof<Array<fc.Arbitrary<Step>>>(sent, sent, sent, refused, told), { maxLength: 120 })
const laws = fc.constantFrom(requestLaw, tokenLaw)

const begin = (active = true) => LimitTracker.make(0, { active, ratePerSecond: 2 })

const apply = (self: LimitTracker.LimitTracker, law: LimitTracker.Law, step: Step, now: number) => {
  switch (step.what) {
    case "sent":
      return LimitTracker.sent(self, law, { cost: step.cost, unit: 1, binding: step.binding }, now)
    case "refused":
      return LimitTracker.refused(self, law, {
        cost: step.cost,
        unit: 1,
        sentAtMillis: now - step.age,
        delayMillis: 250
      }, now)[0]
    case "told":
      return LimitTracker.advertise(self, step.limit, now - step.age, now)
  }
}

/** A tracker that has lived, and the instant. */
const lived = (history: ReadonlyArray<Step>, law = requestLaw, active = true) => {
  let self = begin(active)
  let now = 0
  for (const step of history) self = apply(self, law, step, now += step.gap)
  return { self, now }
}

const rate = LimitTracker.ratePerSecond

/** Equal but for rounding. */
const same = (actual: number, expected: number) =>
  expected === Infinity
    ? assert.strictEqual(actual, Infinity)
    : assert.closeTo(actual, expected, 1e-9 * expected + 1e-12, `${actual}, expected ${expected}`)

/** An endless queue at the pace against a hard limit, refusals after 100 ms, for some seconds. */
const against = (
  start: LimitTracker.LimitTracker,
  options: { readonly from: number; readonly seconds: number; readonly limit: number; readonly header: boolean }
) => {
  let self = start
  let credit = 0
  let bucket = 1
  let at = options.from
  let accepted = 0
  let refusals = 0
  const answers: Array<{ readonly at: number; readonly sentAt: number; readonly ok: boolean }> = []
  const until = options.from + 1000 * options.seconds
  for (let now = options.from; now < until; now += 10) {
    bucket = Math.min(Math.max(1, options.limit), bucket + (now - at) / 1000 * options.limit)
    credit = Math.min(0.03 * rate(self), credit + (now - at) / 1000 * rate(self))
    at = now
    while (answers[0] !== undefined && answers[0].at <= now) {
      const { ok, sentAt } = answers.shift()!
      if (ok) {
        accepted++
        if (options.header) self = LimitTracker.advertise(self, options.limit, sentAt, now)
      } else {
        refusals++
        self =
          LimitTracker.refused(self, requestLaw, { cost: 1, unit: 1, sentAtMillis: sentAt, delayMillis: 130 }, now)[0]
      }
    }
    // No client sends more than 2,000 a second.
    for (let calls = 0; credit >= 0 && calls < 20; calls++) {
      credit -= 1
      const ok = bucket >= 1
      if (ok) bucket -= 1
      answers.push({ at: now + 100, sentAt: now, ok })
      self = LimitTracker.sent(self, requestLaw, { cost: 1, unit: 1, binding: true }, now)
    }
  }
  return { self, accepted, refusals }
}

describe("LimitTracker", () => {
  it("keeps a finite state of bounded size and a rate above the floor, whatever happens", () => {
    fc.assert(fc.property(histories, laws, fc.boolean(), (history, law, active) => {
      const { self } = lived(history, law, active)
      assert.isAtMost(self.window.length, 32)
      assert.isAtLeast(rate(self), LimitTracker.floorPerSecond)
      for (const field of ["advertised", "trim", "surplusSeconds", "mistrust", "quietUnits", "pilotBite"] as const) {
        assert.isTrue(Number.isFinite(self[field]), `${field} ${self[field]}`)
      }
      assert.isFalse(Number.isNaN(self.ceiling))
      if (self.active) assert.isBelow(rate(self), Infinity)
    }))
  })

  it("a rate that nothing ever refuses stays finite, however long it grows", () => {
    let self = begin()
    for (let second = 1; second <= 5_000; second++) {
      self = LimitTracker.sent(self, requestLaw, { cost: 1, unit: 1, binding: true }, second * 1000)
    }
    assert.isBelow(rate(self), Infinity)
    const [bitten] = LimitTracker.refused(self, requestLaw, {
      cost: 1,
      unit: 1,
      sentAtMillis: 4_999_900,
      delayMillis: 250
    }, 5_000_000)
    assert.isBelow(rate(bitten), rate(self))
  })

  it("of headers in any order of arrival, the one of the latest call stands", () => {
    const tellings = fc.uniqueArray(fc.record({ limit, sentAt: fc.nat(10_000) }), {
      selector: ({ sentAt }) => sentAt,
      minLength: 1
    })
    fc.assert(fc.property(tellings, fc.infiniteStream(fc.nat()), (headers, chances) => {
      const shuffled = [...headers].sort(() => chances.next().value! % 2 - 0.5)
      let self = begin()
      for (const header of shuffled) self = LimitTracker.advertise(self, header.limit, header.sentAt, 20_000)
      const latest = headers.reduce((a, b) => b.sentAt > a.sentAt ? b : a)
      assert.strictEqual(self.advertised, latest.limit)
    }))
  })

  it("the first header changes the rate by nothing, a later one by exactly new over old", () => {
    fc.assert(fc.property(histories, limit, limit, (history, first, second) => {
      const { now, self } = lived(history.filter(({ what }) => what !== "told"))
      const once = LimitTracker.advertise(self, first, now, now)
      same(rate(once), rate(self))
      const twice = LimitTracker.advertise(once, second, now + 1, now + 1)
      same(rate(twice), Math.max(LimitTracker.floorPerSecond, once.advertised * Math.exp(once.trim) * second / first))
    }))
  })

  it("the unit of the headers does not matter: all of them times any factor give the same rates", () => {
    const factors = fc.double({ min: 1e-3, max: 1e3, noNaN: true })
    fc.assert(fc.property(fc.array(limit, { minLength: 1, maxLength: 20 }), factors, (limits, factor) => {
      let plain = begin()
      let scaled = begin()
      for (const [i, told] of limits.entries()) {
        plain = LimitTracker.advertise(plain, told, i, i)
        scaled = LimitTracker.advertise(scaled, told * factor, i, i)
        same(rate(scaled), rate(plain))
      }
    }))
  })

  it("a limit that is none is not believed", () => {
    for (const told of [0, -1, NaN, Infinity, -Infinity]) {
      const self = begin()
      assert.strictEqual(LimitTracker.advertise(self, told, 1, 1), self)
    }
  })

  it("a sum that nobody has limited holds nothing back, until a header names it", () => {
    const self = begin(false)
    assert.strictEqual(rate(self), Infinity)
    assert.strictEqual(rate(LimitTracker.advertise(self, 700, 1, 1)), 700)
  })

  it("does not grow while the sum is not what held the calls back", () => {
    fc.assert(fc.property(histories, laws, fc.array(fc.tuple(gap, cost), { maxLength: 50 }), (history, law, calls) => {
      const { now, self } = lived(history, law)
      let next = self
      let at = now
      for (const [pause, units] of calls) {
        next = LimitTracker.sent(next, law, { cost: units, unit: 1, binding: false }, at += pause)
        assert.strictEqual(next.trim, self.trim)
        assert.strictEqual(next.ceiling, self.ceiling)
      }
    }))
  })

  it("grows past the advertised limit only as far as the probe reaches, while the header is trusted", () => {
    fc.assert(fc.property(histories, laws, fc.array(gap, { minLength: 1, maxLength: 50 }), (history, law, gaps) => {
      const { now, self } = lived(history, law)
      fc.pre(self.hasHeader)
      let next = self
      let at = now
      for (const pause of gaps) {
        const before = next
        next = LimitTracker.sent(next, law, { cost: 1, unit: 1, binding: true }, at += pause)
        if (next.surplusSeconds >= law.surplusSeconds || next.mistrust >= 0.25) return
        assert.isAtMost(next.trim, Math.max(before.trim, before.ceiling, 0, next.refused ? law.probe : 0.7) + 1e-12)
      }
    }))
  })

  it("a refusal never raises the rate, and takes no more than 1.8 e-folds", () => {
    fc.assert(fc.property(histories, laws, refused, (history, law, step) => {
      const { now, self } = lived(history, law)
      const next = apply(self, law, step, now + step.gap)
      assert.isAtMost(rate(next), rate(self) * (1 + 1e-12))
      const most = self.trim > 0 && self.hasHeader ? Infinity : 1.8
      assert.isAtMost(Math.log(rate(self) / rate(next)), most + 1e-9)
    }))
  })

  it("refusals leave as many calls of their size as keep learning alive, 1.8 a minute", () => {
    const units = fc.constantFrom(1, 600, 20_000)
    fc.assert(fc.property(units, fc.boolean(), fc.integer({ min: 10, max: 300 }), (unit, active, calls) => {
      let self = LimitTracker.make(0, { active, ratePerSecond: 100 * unit })
      for (let now = 0; now < calls * 100; now += 100) {
        self = LimitTracker.sent(self, tokenLaw, { cost: unit, unit, binding: true }, now)
        self =
          LimitTracker.refused(self, tokenLaw, { cost: unit, unit, sentAtMillis: now, delayMillis: 50 }, now + 90)[0]
      }
      assert.isTrue(self.active)
      assert.isAtLeast(rate(self), 0.03 * unit * (1 - 1e-9))
    }))
  })

  it("a refusal of a call that was sent before the last cut changes no rate", () => {
    fc.assert(fc.property(histories, laws, age, (history, law, early) => {
      const { now, self } = lived(history, law)
      fc.pre(Number.isFinite(self.lastCutAtMillis))
      const sentAtMillis = self.lastCutAtMillis - 1 - early
      const [next, correction] = LimitTracker.refused(
        self,
        law,
        { cost: 1, unit: 1, sentAtMillis, delayMillis: 250 },
        now
      )
      assert.strictEqual(correction, "already answered for")
      assert.deepStrictEqual({ ...next, window: [] }, { ...self, window: [] })
    }))
  })

  it("single refusals within one feedback delay bite no more together than one does at its most", () => {
    fc.assert(fc.property(fc.array(fc.nat(250), { minLength: 1, maxLength: 30 }), limit, (instants, told) => {
      let self = LimitTracker.advertise(begin(), told, 0, 0)
      const start = self.trim
      for (const at of [...instants].sort((a, b) => a - b)) {
        self = LimitTracker.refused(self, requestLaw, {
          cost: 1,
          unit: 1,
          sentAtMillis: 10_000 + at - 100,
          delayMillis: 250
        }, 10_000 + at)[0]
      }
      // Nothing was sent, so there is no storm; a start above the header confirms it once.
      if (self.lastCutAtMillis === -Infinity) assert.isAtMost(start - self.trim, 0.2 + 1e-9)
    }))
  })

  it("a refusal just above the advertised limit confirms it: half a percent below, and a while without probes", () => {
    let self = LimitTracker.advertise(LimitTracker.make(0, { active: true, ratePerSecond: 105 }), 100, 0, 0)
    const call = { cost: 1, unit: 1, sentAtMillis: 900, delayMillis: 250 }
    const [confirmed, correction] = LimitTracker.refused(self, requestLaw, call, 1_000)
    assert.strictEqual(correction, "agrees with the header")
    assert.closeTo(rate(confirmed), 99.4, 0.01)
    self = confirmed
    for (let now = 1_010; now < 5_000; now += 10) {
      self = LimitTracker.sent(self, requestLaw, { cost: 1, unit: 1, binding: true }, now)
      assert.isAtMost(rate(self), 99.41)
    }
    for (let now = 5_000; now < 60_000; now += 10) {
      self = LimitTracker.sent(self, requestLaw, { cost: 1, unit: 1, binding: true }, now)
    }
    assert.isAbove(rate(self), 100)
  })

  it("a lesson carries the rate to another tracker, and what is no lesson changes nothing", () => {
    fc.assert(fc.property(histories, histories, fc.boolean(), (history, other, active) => {
      const { self } = lived(history, requestLaw, active)
      const written = JSON.parse(JSON.stringify(LimitTracker.lesson(self))) as unknown
      same(rate(LimitTracker.adopt(lived(other).self, written)), rate(self))
    }))
    fc.assert(fc.property(histories, fc.anything(), (history, garbage) => {
      const { self } = lived(history)
      assert.strictEqual(LimitTracker.adopt(self, garbage), self)
    }))
    for (const advertised of [0, -1, NaN, Infinity, "1"]) {
      const self = begin()
      assert.strictEqual(LimitTracker.adopt(self, { active: true, advertised, trim: 0 }), self)
      assert.strictEqual(
        LimitTracker.adopt(self, { active: true, advertised: 1, trim: advertised === 0 ? NaN : null }),
        self
      )
    }
  })

  it("whatever it has lived through, it finds a limit that is hard and constant again, in a bounded time", () => {
    fc.assert(
      fc.property(histories, fc.constantFrom(2, 20, 100), fc.boolean(), (history, limit, header) => {
        // What a header told wrongly is off by a factor of sixty at most, as units are; by four where none ever corrects it.
        const wrong = header ? 60 : 4
        const off = (told: number) => limit * Math.min(wrong, Math.max(1 / wrong, told / limit))
        const { now, self } = lived(
          history.map((step) => step.what === "told" ? { ...step, limit: off(step.limit) } : step)
        )
        const settled = against(self, { from: now + 10_000, seconds: 600, limit, header })
        const { accepted, refusals } = against(settled.self, { from: now + 620_000, seconds: 60, limit, header })
        assert.isAtLeast(accepted, 0.85 * 60 * limit)
        // Below ten a second each probe is a large part of what is sent.
        assert.isAtMost(refusals, 0.15 * 60 * limit + 25)
      }),
      { numRuns: 50 }
    )
  })
})
