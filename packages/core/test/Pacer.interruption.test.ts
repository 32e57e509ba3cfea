import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, fork, only, outcomeOf, paced, perSecond } = Bench

/** Nothing waits, nothing runs, nothing backs off. */
const empty = { waiting: 0, backingOff: 0, inFlight: 0 }

describe("Pacer interruption", () => {
  it.effect("of 90 of 100 waiting calls leaves neither their places nor their debt", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const calls: Array<Fiber.Fiber<void, unknown>> = []
      for (let i = 0; i < 101; i++) calls.push(yield* fork(pacer.run(demand(), attempt)))
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interruptAll(calls.slice(1, 91))
      assert.strictEqual((yield* only(pacer)).waiting, 10)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen.map(Math.round), Array.from({ length: 11 }, (_, i) => i * 1000))
      assert.deepInclude(yield* only(pacer), empty)
    }).pipe(Effect.provide(paced())))

  it.effect("of the call in front lets the next one start when it would have without it", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      yield* pacer.run(demand(), attempt)
      const large = yield* fork(pacer.run(demand({ cost: { requests: 50 }, startWithin: "1 minute" }), attempt))
      yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("999 millis")
      yield* Fiber.interrupt(large)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen.map(Math.round), [0, 1000])
    }).pipe(Effect.provide(paced())))

  it.effect("while backing off forgets the call", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const call = yield* fork(answering(pacer, demand({ startWithin: "1 hour" }), Outcome.overloaded()))
      yield* TestClock.adjust("100 millis")
      assert.deepInclude(yield* only(pacer), { ...empty, backingOff: 1 })
      yield* Fiber.interrupt(call)
      assert.deepInclude(yield* only(pacer), empty)
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* only(pacer)).counts.attempts, 1)
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.persistent }))))

  it.effect("in the middle of an attempt frees its place and teaches nothing", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const call = yield* fork(pacer.run(demand({ idempotent: true }), () => Effect.never))
      const next = yield* fork(pacer.run(demand(), () => Effect.void))
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(next.pollUnsafe())
      yield* Fiber.interrupt(call)
      yield* Fiber.join(next)
      const snapshot = yield* only(pacer)
      assert.deepInclude(snapshot, empty)
      assert.deepInclude(snapshot.counts, { attempts: 2, unknown: 1, accepted: 1, retries: 0 })
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard, controller: perSecond(1, { inFlight: 1 }) }))))

  it.effect("that arrives while an attempt may not be interrupted ends the call before its retry, once", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const call = yield* fork(pacer.run(
        demand(),
        () => Effect.uninterruptible(Effect.as(Effect.sleep("1 second"), Outcome.limited())),
        outcomeOf
      ))
      yield* TestClock.adjust("500 millis")
      call.interruptUnsafe()
      yield* TestClock.adjust("10 seconds")
      assert.isDefined(call.pollUnsafe())
      const snapshot = yield* only(pacer)
      assert.deepInclude(snapshot, empty)
      assert.strictEqual(snapshot.counts.attempts, 1)
    }).pipe(
      Effect.provide(paced({ policy: RetryPolicy.persistent, controller: RateController.fixed({ inFlight: 2 }) }))
    ))

  it.effect("at the instant of a call's turn leaks no place", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      for (let round = 0; round < 20; round++) {
        const first = yield* fork(pacer.run(demand(), () => Effect.sleep("100 millis")))
        const calls: Array<Fiber.Fiber<void, unknown>> = []
        for (let i = 0; i < 5; i++) {
          calls.push(yield* fork(pacer.run(demand(), () => Effect.sleep("100 millis"))))
        }
        // One sleeps until the very instant of the turn and races it, from before and from behind.
        const killers = yield* Effect.forEach(calls, (call, i) =>
          fork(Effect.delay(Effect.sync(() => call.interruptUnsafe()), 100 * (i % 3) + (round % 2) * 100)))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.joinAll(killers)
        yield* Fiber.join(first)
        assert.deepInclude(yield* only(pacer), empty)
      }
    }).pipe(Effect.provide(paced({ controller: perSecond(10, { inFlight: 1 }) }))))

  it.effect("by the call that its refusal let start leaks no place: of two that race, the loser is interrupted", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const refused = pacer.run(demand(), () => Effect.delay(Effect.succeed(Outcome.limited()), "1 second"), outcomeOf)
      const answered = answering(pacer, demand(), Outcome.accepted())
      const race = yield* fork(Effect.race(refused, answered))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(race))._tag, "Accepted")
      const snapshot = yield* only(pacer)
      assert.deepInclude(snapshot, empty)
      assert.deepInclude(snapshot.counts, { attempts: 2, limited: 1, accepted: 1 })
    }).pipe(
      Effect.provide(paced({ policy: RetryPolicy.persistent, controller: RateController.fixed({ inFlight: 1 }) }))
    ))

  it("at any instants leaves nothing behind, and the others are answered", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            gap: fc.constantFrom(0, 0, 10, 100, 333),
            takes: fc.constantFrom(0, 50, 100, 1000),
            protect: fc.boolean(),
            refusals: fc.nat(2),
            interruptAfter: fc.option(fc.constantFrom(0, 50, 100, 200, 250, 500, 1000, 1200), { freq: 2 })
          }),
          { minLength: 1, maxLength: 25 }
        ),
        fc.constantFrom(1, 2, 5),
        fc.constantFrom(1, 3, Infinity),
        (calls, rate, inFlight) =>
          Bench.runInVirtualTime(
            Effect.gen(function*() {
              const pacer = yield* Pacer.Pacer
              const kept: Array<Fiber.Fiber<Outcome.Outcome, unknown>> = []
              for (const { gap, interruptAfter, protect, refusals, takes } of calls) {
                yield* TestClock.adjust(gap)
                const call = yield* fork(pacer.run(demand(), (attempt) => {
                  const answer = attempt.number > refusals ? Outcome.accepted() : Outcome.limited()
                  const body = takes === 0 ? Effect.succeed(answer) : Effect.as(Effect.sleep(takes), answer)
                  return protect ? Effect.uninterruptible(body) : body
                }, outcomeOf))
                if (interruptAfter === null) kept.push(call)
                else if (interruptAfter === 0) call.interruptUnsafe()
                else yield* fork(Effect.delay(Effect.sync(() => call.interruptUnsafe()), interruptAfter))
                const { inFlight: running } = yield* only(pacer)
                assert.isTrue(running >= 0 && running <= inFlight)
              }
              yield* TestClock.adjust("5 minutes")
              for (const call of kept) assert.strictEqual(Bench.ended(call)._tag, "Success")
              assert.deepInclude(yield* only(pacer), empty)
              // And it still starts calls at once.
              yield* pacer.run(demand(), () => Effect.void)
            }),
            { policy: RetryPolicy.persistent, controller: perSecond(rate, { inFlight }) }
          )
      ),
      { numRuns: 150 }
    ))
})
