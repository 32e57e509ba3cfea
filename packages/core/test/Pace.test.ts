import { assert, describe, it } from "@effect/vitest"
import * as Pace from "@evenkeel/core/Pace"
import * as fc from "fast-check"

const double = (min: number, max: number) => fc.double({ min, max, noNaN: true })

const rates = fc.record({ perSecond: double(0.05, 5_000), burstSeconds: double(0, 3) })
  .map(({ burstSeconds, perSecond }) => Pace.rate(perSecond, burstSeconds))

const full = (rate: Pace.Rate, atMillis = 0): Pace.Credit => ({ units: rate.burst, atMillis })

/** Starts a call as soon as it may: when it started, and the credit after it. */
const startNext = (
  credit: Pace.Credit,
  rate: Pace.Rate,
  from: number,
  units: number
): readonly [number, Pace.Credit] => {
  const asked = Pace.refill(credit, rate, from)
  const at = from + Pace.delayMillis(asked, rate, 0)
  return [at, Pace.spend(Pace.refill(asked, rate, at), units)]
}

describe("a pace", () => {
  it("spaces calls that always wait exactly one interval apart, from the first on", () => {
    fc.assert(fc.property(rates, double(0, 1e9), fc.integer({ min: 2, max: 50 }), (rate, now, calls) => {
      let credit: Pace.Credit = { units: 0, atMillis: now }
      for (let call = 0; call < calls; call++) {
        const [at, next] = startNext(credit, rate, credit.atMillis, 1)
        const due = (call * 1000) / rate.ratePerSecond
        // A hundredth of a microsecond of tolerance for each call, and the rounding of large instants.
        assert.closeTo(at - now, due, 1e-4 + due * 1e-9)
        credit = next
      }
    }))
  })

  it("starts at most r*T + burst + 1 calls in any T seconds, whatever the gaps before them", () => {
    const gaps = fc.array(fc.oneof(fc.constant(0), double(0, 20), double(0, 5_000)), { minLength: 2, maxLength: 60 })
    fc.assert(fc.property(rates, gaps, (rate, idle) => {
      let credit = full(rate)
      let now = 0
      const starts = idle.map((gap) => {
        const [at, next] = startNext(credit, rate, now + gap, 1)
        credit = next
        now = at
        return at
      })
      for (const [first, from] of starts.entries()) {
        for (const [last, to] of starts.entries()) {
          if (last < first) continue
          const most = rate.ratePerSecond * (to - from) / 1000 + rate.burst + 1
          assert.isAtMost(last - first + 1, most + rate.ratePerSecond * 2e-8 + 1e-6)
        }
      }
    }))
  })

  it("lets a whole burst and one call go at once after a pause, and then one interval each", () => {
    const rate: Pace.Rate = { ratePerSecond: 2, burst: 3 }
    let credit = full(rate)
    const starts = Array.from({ length: 6 }, () => {
      const [at, next] = startNext(credit, rate, credit.atMillis, 1)
      credit = next
      return at
    })
    assert.deepStrictEqual(starts, [0, 0, 0, 0, 500, 1000])
  })

  it("makes each call wait for the cost of the one before it", () => {
    // google/guava RateLimiterTest: weights 1, 1, 2, 4, 8, 1 at one per second.
    const rate = Pace.rate(1, 0)
    let credit: Pace.Credit = { units: 0, atMillis: 0 }
    const waits = [1, 1, 2, 4, 8, 1].map((weight) => {
      const before = credit.atMillis
      const [at, next] = startNext(credit, rate, before, weight)
      credit = next
      return (at - before) / 1000
    })
    assert.deepStrictEqual(waits, [0, 1, 1, 2, 4, 8])
  })
})

describe("the delay", () => {
  const cases = fc.record({
    rate: rates,
    units: double(-5_000, 500),
    need: double(0, 5_000),
    now: double(0, 1e10)
  })

  it("is enough", () => {
    fc.assert(fc.property(cases, ({ need, now, rate, units }) => {
      const credit = Pace.refill({ units, atMillis: now }, rate, now, need)
      const there = now + Pace.delayMillis(credit, rate, need)
      assert.strictEqual(Pace.delayMillis(Pace.refill(credit, rate, there, need), rate, need), 0)
    }))
  })

  it("is not longer than needed: a hundredth less, and the call still waits", () => {
    fc.assert(fc.property(cases, ({ need, now, rate, units }) => {
      const credit = Pace.refill({ units, atMillis: now }, rate, now, need)
      const delay = Pace.delayMillis(credit, rate, need)
      fc.pre(delay > 0.01)
      assert.isAbove(Pace.delayMillis(Pace.refill(credit, rate, now + delay * 0.99, need), rate, need), 0)
    }))
  })

  it("is zero for any need without a limit, and for ever where the rate is zero", () => {
    fc.assert(fc.property(cases, ({ need, now, rate, units }) => {
      const credit: Pace.Credit = { units, atMillis: now }
      assert.strictEqual(Pace.delayMillis(Pace.refill(credit, Pace.unlimited, now), Pace.unlimited, need), 0)
      const nothing = Pace.part(rate, 0)
      const later = Pace.refill(credit, nothing, now + 1e9, need)
      assert.strictEqual(Pace.delayMillis(later, nothing, need), Infinity)
    }))
  })

  it("refuses and allows as governor does at two per second", () => {
    // boinkor-net/governor tests/direct.rs: a call is paid before it starts, so it needs its unit.
    const rate: Pace.Rate = { ratePerSecond: 2, burst: 2 }
    let credit = full(rate)
    const verdicts = [0, 1, 2, 1002, 1002, 1003].map((now) => {
      credit = Pace.refill(credit, rate, now)
      if (Pace.delayMillis(credit, rate, 1) > 0) return "reject"
      credit = Pace.spend(credit, 1)
      return "ok"
    })
    assert.deepStrictEqual(verdicts, ["ok", "ok", "reject", "ok", "ok", "reject"])
  })

  it("is what redis-cell answers, row for row", () => {
    const rate: Pace.Rate = { ratePerSecond: 1, burst: 5 }
    let credit = full(rate)
    for (const [now, volume, remaining, resetMillis, retryMillis, limited] of redisCell) {
      credit = Pace.refill(credit, rate, now)
      const delay = Pace.delayMillis(credit, rate, volume)
      assert.strictEqual(delay > 0, limited)
      // -1: allowed, or more than can ever be saved up.
      if (limited && retryMillis >= 0) assert.closeTo(delay, retryMillis, 1e-6)
      if (!limited) credit = Pace.spend(credit, volume)
      assert.strictEqual(Math.floor(credit.units + 1e-9), remaining)
      assert.closeTo(Pace.delayMillis(credit, rate, rate.burst), resetMillis, 1e-6)
    }
  })
})

describe("credit", () => {
  it("is worth one burst, or what the next call needs, after a gap of any length", () => {
    const gap = fc.oneof(double(0, 1e4), double(0, 1e15))
    fc.assert(fc.property(rates, double(-100, 20_000), gap, double(0, 100), (rate, units, millis, reserve) => {
      const { units: saved } = Pace.refill({ units, atMillis: 0 }, rate, millis, reserve)
      assert.isAtMost(saved, Math.max(rate.burst, reserve))
      const earned = Math.min(Math.max(rate.burst, reserve), units + rate.ratePerSecond * millis / 1000)
      assert.closeTo(saved, earned, 1e-9 * Math.max(1, Math.abs(units)))
    }))
  })

  it("saves up for a call that needs more than the burst only as its reserve", () => {
    // governor, a quota of 5: six at once are never there, however long one waits.
    const rate: Pace.Rate = { ratePerSecond: 5, burst: 5 }
    const aDayLater = (reserve: number) => Pace.refill(full(rate), rate, 86_400_000, reserve)
    for (const need of [6, 7, 15]) {
      assert.isAbove(Pace.delayMillis(aDayLater(0), rate, need), 0)
      assert.strictEqual(Pace.delayMillis(aDayLater(need), rate, need), 0)
    }
  })

  it("earns nothing when time goes back, and waits no longer for it", () => {
    fc.assert(fc.property(rates, double(-100, 0), double(1, 1e8), double(0, 1), (rate, units, now, back) => {
      const credit: Pace.Credit = { units, atMillis: now }
      const earlier = Pace.refill(credit, rate, now * back)
      assert.strictEqual(earlier.units, units)
      const delay = Pace.delayMillis(earlier, rate, 0)
      assert.strictEqual(delay, Pace.delayMillis(credit, rate, 0))
      assert.strictEqual(Pace.delayMillis(Pace.refill(earlier, rate, now * back + delay), rate, 0), 0)
    }))
  })

  it("is earned the same in one step or in many", () => {
    fc.assert(fc.property(rates, double(-100, 0), fc.array(double(0, 500), { maxLength: 20 }), (rate, units, gaps) => {
      let stepwise: Pace.Credit = { units, atMillis: 0 }
      for (const gap of gaps) stepwise = Pace.refill(stepwise, rate, stepwise.atMillis + gap)
      const once = Pace.refill({ units, atMillis: 0 }, rate, stepwise.atMillis)
      assert.closeTo(stepwise.units, once.units, 1e-6)
    }))
  })

  it("is as before once what was spent is given back", () => {
    fc.assert(fc.property(double(-100, 100), double(0, 1e6), (units, cost) => {
      const credit: Pace.Credit = { units, atMillis: 7 }
      const spent = Pace.spend(credit, cost)
      assert.strictEqual(spent.units, units - cost)
      const back = Pace.spend(spent, -cost)
      assert.closeTo(back.units, units, 1e-9)
      assert.strictEqual(back.atMillis, 7)
    }))
  })
})

describe("a rate", () => {
  it("of 60 per minute is one per second, not sixty at once", () => {
    assert.deepStrictEqual(Pace.perMinute(60, 0), { ratePerSecond: 1, burst: 0 })
    assert.deepStrictEqual(Pace.perMinute(60), Pace.rate(1))
    assert.isBelow(Pace.perMinute(60).burst, 1)
  })

  it("saves up the seconds it is told, 0.03 unless told", () => {
    assert.deepStrictEqual(Pace.rate(10, 2), { ratePerSecond: 10, burst: 20 })
    assert.deepStrictEqual(Pace.rate(100), { ratePerSecond: 100, burst: 3 })
    assert.strictEqual(Pace.rate(Infinity), Pace.unlimited)
  })

  it("is refused when it makes no sense", () => {
    for (const wrong of [0, -1, NaN, -Infinity]) {
      assert.throws(() => Pace.rate(wrong), RangeError, "ratePerSecond")
      assert.throws(() => Pace.perMinute(wrong), RangeError, "ratePerSecond")
    }
    for (const wrong of [-0.1, NaN]) assert.throws(() => Pace.rate(1, wrong), RangeError, "burstSeconds")
  })

  it("is whole again when all its parts are put together", () => {
    const shares = fc.array(double(0.001, 1), { minLength: 1, maxLength: 8 })
    fc.assert(fc.property(rates, shares, (rate, weights) => {
      const whole = weights.reduce((sum, weight) => sum + weight, 0)
      const parts = weights.map((weight) => Pace.part(rate, weight / whole))
      for (const name of ["ratePerSecond", "burst"] as const) {
        assert.closeTo(parts.reduce((sum, part) => sum + part[name], 0), rate[name], 1e-9 * Math.max(1, rate[name]))
      }
    }))
  })

  it("without a limit stays so in every part", () => {
    assert.strictEqual(Pace.part(Pace.unlimited, 0.1), Pace.unlimited)
    assert.strictEqual(Pace.part(Pace.unlimited, 0), Pace.unlimited)
  })

  it("is the lower of two, with its own burst", () => {
    const slow: Pace.Rate = { ratePerSecond: 1, burst: 50 }
    const fast: Pace.Rate = { ratePerSecond: 2, burst: 0 }
    assert.strictEqual(Pace.slower(slow, fast), slow)
    assert.strictEqual(Pace.slower(fast, slow), slow)
    assert.strictEqual(Pace.slower(Pace.unlimited, fast), fast)
  })

  it("of nothing known holds nothing back", () => {
    const { inFlight, ...sums } = Pace.unbounded
    assert.strictEqual(inFlight, Infinity)
    for (const rate of Object.values(sums)) {
      assert.strictEqual(Pace.delayMillis({ units: -1e9, atMillis: 0 }, rate, 1e9), 0)
    }
  })
})

/** brandur/redis-cell src/cell/mod.rs, limit 5, one per second: now, volume, remaining, reset, retry, limited. */
const redisCell: ReadonlyArray<readonly [number, number, number, number, number, boolean]> = [
  [0, 6, 5, 0, -1, true],
  [0, 1, 4, 1000, -1, false],
  [0, 1, 3, 2000, -1, false],
  [0, 1, 2, 3000, -1, false],
  [0, 1, 1, 4000, -1, false],
  [0, 1, 0, 5000, -1, false],
  [0, 1, 0, 5000, 1000, true],
  [3000, 1, 2, 3000, -1, false],
  [3100, 1, 1, 3900, -1, false],
  [4000, 1, 1, 4000, -1, false],
  [8000, 1, 4, 1000, -1, false],
  [9500, 1, 4, 1000, -1, false],
  [9500, 0, 4, 1000, -1, false],
  [9500, 2, 2, 3000, -1, false],
  [9500, 5, 2, 3000, 3000, true]
]
