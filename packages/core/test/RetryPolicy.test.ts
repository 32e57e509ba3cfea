import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as fc from "fast-check"

const longestTimerMillis = 2 ** 31 - 1

const makers = {
  Limited: Outcome.limited,
  Overloaded: Outcome.overloaded,
  Failed: Outcome.failed,
  Unknown: Outcome.unknown
} as const

const tag = fc.constantFrom<keyof typeof makers>("Limited", "Overloaded", "Failed", "Unknown")

const refusalTag = fc.constantFrom<"Limited" | "Overloaded">("Limited", "Overloaded")

const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

/** A policy that always goes on, so that the delay is what is looked at. */
const eager: RetryPolicy.RetryPolicy = { maxFailures: Infinity, maxRefusals: Infinity, retryUnknown: true }

const policies = fc.record({
  maxFailures: fc.oneof(fc.nat({ max: 6 }), fc.constant(Infinity)),
  maxRefusals: fc.oneof(fc.nat({ max: 12 }), fc.constant(Infinity)),
  retryUnknown: fc.constantFrom<boolean | "idempotent">(true, false, "idempotent")
})

const outcomes = fc.record({
  tag,
  retryAfterMillis: fc.option(fc.double({ min: 0, max: 4e9, noNaN: true }), { nil: undefined, freq: 3 }),
  final: fc.boolean()
}).map(({ final, retryAfterMillis, tag }) => makers[tag]({ retryAfterMillis, final }))

const again = (decision: RetryPolicy.Decision) => {
  if (decision._tag === "Stop") throw new Error(`stopped: ${decision.reason}`)
  return decision
}

/** The delay before the next attempt, after a number of ends of each kind. */
const delayAfter = (
  tag: keyof typeof makers,
  attempts: RetryPolicy.Attempts,
  chance: number,
  retryAfterMillis?: number
): number =>
  again(RetryPolicy.decide(eager, attempts, makers[tag]({ retryAfterMillis }), { idempotent: true, chance }))
    .delayMillis

describe("the delay before another attempt", () => {
  /** What each outcome begins with and ends at, in milliseconds. */
  const backoffs = { Limited: [100, 4_000], Overloaded: [500, 8_000], Failed: [500, 8_000], Unknown: [500, 8_000] }

  it("doubles with each end of the same kind until it is as long as it gets", () => {
    fc.assert(fc.property(tag, fc.nat({ max: 2_000 }), fc.nat({ max: 2_000 }), (tag, same, other) => {
      const isRefusal = tag === "Limited" || tag === "Overloaded"
      const attempts = isRefusal ? { refusals: same, failures: other } : { refusals: other, failures: same }
      const [first, longest] = backoffs[tag] as [number, number]
      // A chance of 1 never comes up, and is what the factor runs to.
      assert.strictEqual(delayAfter(tag, attempts, 1), Math.min(longest, first * 2 ** same))
    }))
  })

  it("is drawn from the upper half of that, evenly", () => {
    fc.assert(fc.property(tag, fc.nat({ max: 30 }), chance, (tag, count, chance) => {
      const attempts = { refusals: count, failures: count }
      const longest = delayAfter(tag, attempts, 1)
      assert.strictEqual(delayAfter(tag, attempts, 0), longest / 2)
      assert.closeTo(delayAfter(tag, attempts, chance), longest * (0.5 + chance / 2), 1e-9)
    }))
  })

  it("is never shorter than the hint, nor longer than a tenth more than the hint or the back-off", () => {
    const hint = fc.double({ min: 0, max: longestTimerMillis / 1.1, noNaN: true })
    fc.assert(fc.property(tag, fc.nat({ max: 30 }), chance, hint, (tag, count, chance, hint) => {
      const attempts = { refusals: count, failures: count }
      const delay = delayAfter(tag, attempts, chance, hint)
      const backoff = delayAfter(tag, attempts, chance)
      assert.isAtLeast(delay, hint)
      assert.isAtLeast(delay, backoff)
      assert.isAtMost(delay, Math.max(backoff, hint * 1.1))
    }))
  })

  it("spreads a crowd that was given one hint", () => {
    const delays = [0, 0.25, 0.5, 0.75].map((chance) => delayAfter("Limited", RetryPolicy.noAttempts, chance, 60_000))
    assert.deepStrictEqual(delays.map(Math.round), [60_000, 61_500, 63_000, 64_500])
  })

  it("is one that a timer can hold, or the tries end", () => {
    fc.assert(fc.property(outcomes, chance, (outcome, chance) => {
      const decision = RetryPolicy.decide(eager, RetryPolicy.noAttempts, outcome, { idempotent: true, chance })
      if (decision._tag === "Again") {
        assert.isAtLeast(decision.delayMillis, 0)
        assert.isAtMost(decision.delayMillis, longestTimerMillis)
      }
    }))
    for (const retryAfterMillis of [longestTimerMillis + 1, 1e15, Infinity]) {
      const decision = RetryPolicy.decide(eager, RetryPolicy.noAttempts, Outcome.limited({ retryAfterMillis }), {
        idempotent: true,
        chance: 0
      })
      assert.deepStrictEqual(decision, { _tag: "Stop", reason: "hint too far away" })
    }
  })
})

describe("whether an attempt is made again", () => {
  const decide = (policy: RetryPolicy.RetryPolicy, attempts: RetryPolicy.Attempts, outcome: Outcome.Outcome) =>
    RetryPolicy.decide(policy, attempts, outcome, { idempotent: false, chance: 0.5 })

  it("is settled for good by an answer, and by what cannot succeed, under every policy", () => {
    fc.assert(fc.property(policies, fc.nat(), outcomes, (policy, count, outcome) => {
      const attempts = { failures: count, refusals: count }
      assert.deepStrictEqual(decide(policy, attempts, Outcome.accepted()), { _tag: "Stop", reason: "answered" })
      const final = decide(policy, attempts, { ...outcome, final: true })
      assert.deepStrictEqual(final, { _tag: "Stop", reason: "cannot succeed" })
    }))
    assert.deepStrictEqual(decide(eager, RetryPolicy.noAttempts, Outcome.ignored()), {
      _tag: "Stop",
      reason: "cannot succeed"
    })
  })

  it("is no when what may have run must not run twice", () => {
    fc.assert(fc.property(policies, fc.boolean(), chance, (policy, idempotent, chance) => {
      const may = policy.retryUnknown === "idempotent" ? idempotent : policy.retryUnknown
      fc.pre(policy.maxFailures > 0)
      const options = { idempotent, chance }
      const unknown = RetryPolicy.decide(policy, RetryPolicy.noAttempts, Outcome.unknown(), options)
      assert.strictEqual(unknown._tag, may ? "Again" : "Stop")
      if (unknown._tag === "Stop") assert.strictEqual(unknown.reason, "may have run")
      // A provider that says it failed did not succeed, whoever repeats it.
      const failed = RetryPolicy.decide(policy, RetryPolicy.noAttempts, Outcome.failed(), options)
      assert.strictEqual(failed._tag, "Again")
    }))
  })

  it("counts refusals and failures apart, each up to its own bound", () => {
    fc.assert(fc.property(policies, fc.array(tag, { maxLength: 40 }), (policy, tags) => {
      let attempts = RetryPolicy.noAttempts
      const used = { failures: 0, refusals: 0 }
      for (const tag of tags) {
        const kind = tag === "Limited" || tag === "Overloaded" ? "refusals" : "failures"
        const bound = kind === "refusals" ? policy.maxRefusals : policy.maxFailures
        const decision = decide({ ...policy, retryUnknown: true }, attempts, makers[tag]())
        if (used[kind] >= bound) {
          assert.deepStrictEqual(decision, {
            _tag: "Stop",
            reason: kind === "refusals" ? "refusals spent" : "retries spent"
          })
          continue
        }
        used[kind]++
        const { attempts: next, reason } = again(decision)
        assert.strictEqual(reason, tag)
        assert.deepStrictEqual(next, used)
        attempts = next
      }
    }))
  })

  it("is always yes after a refusal for a job that must finish", () => {
    fc.assert(fc.property(refusalTag, fc.nat(), fc.nat(), (tag, refusals, failures) => {
      assert.strictEqual(decide(RetryPolicy.persistent, { refusals, failures }, makers[tag]())._tag, "Again")
    }))
  })

  it("is yes for a library as often as it says: ten refusals, two failures, unknown only where harmless", () => {
    const count = (outcome: Outcome.Outcome, idempotent: boolean): number => {
      let attempts = RetryPolicy.noAttempts
      for (let made = 0; made < 1_000; made++) {
        const decision = RetryPolicy.decide(RetryPolicy.standard, attempts, outcome, { idempotent, chance: 0 })
        if (decision._tag === "Stop") return made
        attempts = decision.attempts
      }
      return Infinity
    }
    assert.strictEqual(count(Outcome.limited(), false), 10)
    assert.strictEqual(count(Outcome.overloaded(), false), 10)
    assert.strictEqual(count(Outcome.failed(), false), 2)
    assert.strictEqual(count(Outcome.unknown(), false), 0)
    assert.strictEqual(count(Outcome.unknown(), true), 2)
  })

  it("is never yes where no retry is wanted", () => {
    fc.assert(fc.property(outcomes, fc.boolean(), chance, (outcome, idempotent, chance) => {
      const decision = RetryPolicy.decide(RetryPolicy.never, RetryPolicy.noAttempts, outcome, { idempotent, chance })
      assert.strictEqual(decision._tag, "Stop")
    }))
  })

  it.effect("is what the standard policy says unless a Layer says otherwise", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* RetryPolicy.Current, RetryPolicy.standard)
      const other = yield* Effect.provideService(RetryPolicy.Current, RetryPolicy.Current, RetryPolicy.never)
      assert.strictEqual(other, RetryPolicy.never)
    }))
})

describe("the retry allowance of a key", () => {
  const gap = fc.double({ min: 0, max: 20_000, noNaN: true })

  it("lets 500 retries go at once, then slows them down to ten a second, up to a delay of five seconds", () => {
    let allowance = RetryPolicy.allowance(0)
    const delays = Array.from({ length: 600 }, () => {
      const [next, delay] = RetryPolicy.draw(allowance, 0)
      allowance = next
      return delay
    })
    assert.deepStrictEqual(delays.slice(0, 500), delays.slice(0, 500).map(() => 0))
    const slowed = delays.slice(500).map((_, i) => Math.min(5_000, 100 * (i + 1)))
    assert.deepStrictEqual(delays.slice(500).map(Math.round), slowed)
  })

  it("never drops a call and never delays one by more than five seconds, however many there are", () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.constant(0), gap), { maxLength: 300 }), (gaps) => {
      let now = 0
      let allowance: RetryPolicy.Allowance = { retries: 20, atMillis: 0 }
      for (const gap of gaps) {
        now += gap
        const [next, delay] = RetryPolicy.draw(allowance, now)
        assert.isAtLeast(delay, 0)
        assert.isAtMost(delay, 5_000)
        allowance = next
      }
    }))
  })

  it("is earned by time and by success, and never held above 500", () => {
    const step = fc.oneof(fc.record({ earns: fc.constant(true) }), fc.record({ earns: fc.constant(false), gap }))
    fc.assert(fc.property(fc.array(step, { maxLength: 200 }), fc.nat({ max: 500 }), (steps, start) => {
      let now = 0
      let expected = start
      let allowance: RetryPolicy.Allowance = { retries: start, atMillis: 0 }
      for (const step of steps) {
        if (step.earns) {
          allowance = RetryPolicy.earn(allowance)
          expected = Math.min(500, expected + 0.5)
        } else {
          now += step.gap
          allowance = RetryPolicy.draw(allowance, now)[0]
          expected = Math.max(-50, Math.min(500, expected + step.gap / 100) - 1)
        }
        assert.isAtMost(allowance.retries, 500)
        assert.closeTo(allowance.retries, expected, 1e-6)
      }
    }))
  })

  it("is full again after a long silence, whatever was drawn", () => {
    let allowance = RetryPolicy.allowance(0)
    for (let i = 0; i < 10_000; i++) allowance = RetryPolicy.draw(allowance, 0)[0]
    const [full, delay] = RetryPolicy.draw(allowance, 1e12)
    assert.strictEqual(delay, 0)
    assert.strictEqual(full.retries, RetryPolicy.allowance(1e12).retries - 1)
  })

  it("earns nothing when time goes back", () => {
    fc.assert(fc.property(gap, gap, fc.nat({ max: 400 }), (now, back, retries) => {
      const [next] = RetryPolicy.draw({ retries, atMillis: now }, now - back)
      assert.strictEqual(next.retries, retries - 1)
    }))
  })
})

describe("the policy as a schedule", () => {
  const chances = Random.next.pipe(Effect.replicateEffect(60), Random.withSeed("schedule"))

  it("delays, counts and ends exactly as the decisions do", () =>
    fc.assert(fc.asyncProperty(
      policies,
      fc.boolean(),
      fc.array(outcomes, { minLength: 1, maxLength: 60 }),
      (policy, idempotent, outcomes) =>
        Effect.runPromise(Effect.gen(function*() {
          const drawn = yield* chances
          const step = yield* Schedule.toStep(RetryPolicy.schedule(policy, { idempotent }))
          let attempts = RetryPolicy.noAttempts
          const follow = Effect.gen(function*() {
            for (const [i, outcome] of outcomes.entries()) {
              const decision = RetryPolicy.decide(policy, attempts, outcome, { idempotent, chance: drawn[i]! })
              const exit = yield* Effect.exit(step(0, outcome))
              if (decision._tag === "Stop") {
                assert.isTrue(Exit.isFailure(exit))
                if (Exit.isFailure(exit)) {
                  const end: unknown = Cause.squash(exit.cause)
                  assert.isTrue(Cause.isDone(end))
                  if (Cause.isDone(end)) assert.deepStrictEqual(end.value, attempts)
                }
                return
              }
              if (Exit.isFailure(exit)) throw new Error("the schedule ended before the policy did")
              const [made, delay] = exit.value
              assert.deepStrictEqual(made, decision.attempts)
              assert.closeTo(Duration.toMillis(delay), decision.delayMillis, 1e-3)
              attempts = decision.attempts
            }
          })
          yield* Random.withSeed(follow, "schedule")
        }))
    )))

  it.effect("counts anew each time it is used", () =>
    Effect.gen(function*() {
      const schedule = RetryPolicy.schedule({ ...eager, maxRefusals: 1 }, { idempotent: true })
      for (let use = 0; use < 2; use++) {
        const step = yield* Schedule.toStep(schedule)
        assert.isTrue(Exit.isSuccess(yield* Effect.exit(step(0, Outcome.limited()))))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(step(0, Outcome.limited()))))
      }
    }))
})
