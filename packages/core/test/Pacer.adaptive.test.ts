import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, fork, only, paced } = Bench

const answers = fc.record({
  kind: fc.constantFrom("accepted", "limited", "limited", "overloaded", "overloaded", "unknown", "failed", "cut off"),
  takes: fc.constantFrom(0, 100, 2_000),
  hint: fc.constantFrom(undefined, undefined, 1_000, 6_000),
  dimension: fc.constantFrom(undefined, "requests", "tokens"),
  limit: fc.constantFrom(undefined, undefined, 0, 0.5, 20, 1e6),
  times: fc.integer({ min: 1, max: 40 })
})

const outcomeOf = ({ dimension, hint, kind, limit }: Parameters<Parameters<typeof answers.map>[0]>[0]) =>
  Outcome[kind === "cut off" ? "unknown" : kind as "limited"]({
    dimension: dimension as "tokens",
    retryAfterMillis: kind === "limited" || kind === "overloaded" ? hint : undefined,
    reading: {
      ...Outcome.nothingRead,
      // In tokens of calls of 600.
      limits: limit === undefined
        ? []
        : dimension === "tokens"
        ? [{ dimension, ratePerSecond: 600 * limit }]
        : [{ dimension: "requests", ratePerSecond: limit }]
    }
  })

describe("Pacer with the adaptive controller", () => {
  it("never stops deciding: after any history, calls that are all accepted keep leaving", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(answers, { minLength: 1, maxLength: 10 }),
        fc.constantFrom<Partial<Parameters<typeof demand>[0]>>({}, { cost: { inputTokens: 500, outputTokens: 100 } }),
        (history, options) =>
          Bench.runInVirtualTime(
            Effect.gen(function*() {
              const pacer = yield* Pacer.Pacer
              for (const answer of history) {
                for (let i = 0; i < answer.times; i++) {
                  yield* fork(Effect.exit(pacer.run(demand({ ...options, startWithin: "20 seconds" }), (attempt) =>
                    Effect.gen(function*() {
                      if (answer.kind === "cut off") attempt.verdict(Outcome.accepted())
                      yield* Effect.sleep(answer.takes)
                      return outcomeOf(answer)
                    }), Bench.outcomeOf)))
                }
                yield* TestClock.adjust("3 seconds")
              }
              yield* TestClock.adjust("30 seconds")
              const { attempt, seen } = Bench.starts()
              const from = yield* Bench.now
              const accepted = () =>
                Effect.delay(Effect.void, "500 millis")
              for (let i = 0; i < 3; i++) {
                const call = pacer.run(demand(options), () =>
                  Effect.andThen(attempt(), accepted()))
                yield* fork(Effect.forever(call))
              }
              yield* TestClock.adjust("2 minutes")
              assert.isAtLeast(seen.length, 2)
              // A rate at the floor of 0.03 a second is a call in 34 s.
              for (const [i, at] of seen.entries()) assert.isAtMost(at - (seen[i - 1] ?? from), 40_000)
              const { requestsPerSecond } = yield* only(pacer)
              assert.isTrue(Number.isFinite(requestsPerSecond) && requestsPerSecond! > 0)
            }),
            { controller: RateController.adaptive(), policy: RetryPolicy.standard }
          )
      ),
      { numRuns: 30 }
    ))

  it.effect("429s lower the pace of requests, while 503s and unknown ends leave it", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const rateAfter = Effect.fnUntraced(function*(outcome: Outcome.Outcome, options: { readonly times: number }) {
        for (let i = 0; i < options.times; i++) {
          yield* fork(answering(pacer, demand(), outcome))
          yield* TestClock.adjust("2 seconds")
        }
        return (yield* only(pacer)).requestsPerSecond!
      })
      const start = yield* rateAfter(Outcome.accepted(), { times: 3 })
      assert.strictEqual(yield* rateAfter(Outcome.overloaded(), { times: 3 }), start)
      assert.strictEqual(yield* rateAfter(Outcome.unknown(), { times: 10 }), start)
      assert.isBelow(yield* rateAfter(Outcome.limited(), { times: 3 }), 0.9 * start)
    }).pipe(Effect.provide(paced({ controller: RateController.adaptive() }))))
})
