import { assert, describe, it } from "@effect/vitest"
import * as CallScheduler from "@evenkeel/core/CallScheduler"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pace from "@evenkeel/core/Pace"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, ended, fork, only, outcomeOf, paced, perSecond, reasonOf } = Bench

/** A constant pace that writes down what it is told. */
const recording = (pace: Partial<Pace.Pace> = {}) => {
  const events: Array<RateController.Event> = []
  const controller: RateController.RateController = {
    ...RateController.fixed(pace),
    step: (state, event) => {
      events.push(event)
      return { state, reason: undefined }
    }
  }
  return { controller, events, tags: () => events.map((event) => event._tag) }
}

describe("Pacer attempts", () => {
  it("a verdict at the headers teaches at once and only once, the body's end settles", () => {
    const { controller, events, tags } = recording({ inFlight: 1 })
    return Bench.runInVirtualTime(
      Effect.gen(function*() {
        const pacer = yield* Pacer.Pacer
        const asked = demand({ cost: { inputTokens: 10, outputTokens: 100 } })
        const call = yield* fork(pacer.run(asked, (attempt) =>
          Effect.gen(function*() {
            yield* Effect.sleep("1 second")
            attempt.verdict(Outcome.accepted())
            attempt.verdict(Outcome.limited())
            yield* Effect.sleep("1 second")
            attempt.used({ outputTokens: 7 })
          }), () => Outcome.overloaded()))
        yield* TestClock.adjust("1500 millis")
        assert.deepStrictEqual(tags(), ["Sent", "Verdict"])
        assert.deepInclude(events[1], { sentAtMillis: 0, cost: asked.cost })
        assert.strictEqual((yield* only(pacer)).inFlight, 1)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(call)
        assert.deepStrictEqual(tags(), ["Sent", "Verdict", "Settled"])
        assert.deepInclude(events[2], { used: { requests: 1, inputTokens: 10, outputTokens: 7 } })
        const { counts, inFlight } = yield* only(pacer)
        assert.deepStrictEqual([inFlight, counts.accepted, counts.limited, counts.overloaded], [0, 1, 0, 0])
      }),
      { controller }
    )
  })

  it.effect("what was reserved and not used is credited, what was used beyond it is owed", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const startOf = Effect.fnUntraced(function*(used: number, outcome = Outcome.accepted()) {
        yield* TestClock.adjust("1 minute")
        const from = yield* Bench.now
        yield* pacer.run(demand({ cost: { outputTokens: 1_000 } }), (attempt) =>
          Effect.sync(() => {
            attempt.used({ outputTokens: used })
            return outcome
          }), outcomeOf)
        const { attempt, seen } = Bench.starts()
        yield* fork(pacer.run(demand({ cost: { outputTokens: 1 } }), attempt))
        yield* TestClock.adjust("1 minute")
        return seen.map((millis) => Math.round(millis - from))
      })
      yield* pacer.run(demand(), () => Effect.void)
      // A hundred tokens a second, three of them saved up.
      assert.deepStrictEqual(yield* startOf(103), [1_000])
      assert.deepStrictEqual(yield* startOf(1_003), [10_000])
      assert.deepStrictEqual(yield* startOf(2_003), [20_000])
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({ tokens: Pace.rate(100) }) }))))

  it.effect("what was refused used no tokens", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      for (const refusal of [Outcome.limited(), Outcome.overloaded(), Outcome.failed(), Outcome.ignored()]) {
        const from = yield* Bench.now
        for (let i = 0; i < 3; i++) yield* answering(pacer, demand({ cost: { outputTokens: 1_000 } }), refusal)
        assert.strictEqual(yield* Bench.now, from)
      }
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({ tokens: Pace.rate(100) }) }))))

  it.effect("hold keeps the place and the reservation until the body has ended", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const held = yield* pacer.run(demand(), (attempt) => Effect.sync(attempt.hold))
      const next = yield* fork(pacer.run(demand(), () => Effect.void))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(next.pollUnsafe())
      assert.strictEqual((yield* only(pacer)).inFlight, 1)
      held.used({ outputTokens: 5 })
      held.settle()
      held.settle()
      yield* Fiber.join(next)
      assert.strictEqual((yield* only(pacer)).inFlight, 0)
    }).pipe(Effect.provide(paced({ controller: perSecond(10, { inFlight: 1 }) }))))

  it.effect("a body that nobody touches for five minutes is settled and reported", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const heard = yield* Bench.listen
      const settled = () => heard.flatMap((event) => event._tag === "CallSettled" ? [[event.call, event.unread]] : [])
      yield* pacer.run(demand(), (attempt) => Effect.sync(attempt.hold))
      const read = yield* pacer.run(demand(), (attempt) => Effect.sync(attempt.hold))
      yield* TestClock.adjust("4 minutes")
      read.touch()
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(settled(), [])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(settled(), [[0, true]])
      assert.strictEqual((yield* only(pacer)).inFlight, 1)
      yield* TestClock.adjust("4 minutes")
      assert.deepStrictEqual(settled(), [[0, true], [1, true]])
      read.settle()
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(settled(), 2)
      assert.strictEqual((yield* only(pacer)).inFlight, 0)
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({}) }))))

  it.effect("five minutes count from the headers, however long these took", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const slow = yield* fork(pacer.run(demand(), (attempt) => Effect.delay(Effect.sync(attempt.hold), "6 minutes")))
      yield* TestClock.adjust("1 minute")
      yield* pacer.run(demand(), (attempt) => Effect.sync(attempt.hold))
      yield* TestClock.adjust("5 minutes")
      assert.isDefined(slow.pollUnsafe())
      // The second body is forgotten at 6 minutes, the first, whose headers came then, at 11.
      yield* TestClock.adjust("4 minutes")
      assert.strictEqual((yield* only(pacer)).inFlight, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* only(pacer)).inFlight, 0)
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({}) }))))

  it.effect("an attempt that throws, fails or dies frees its place, and so does an interpretation that throws", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const exits = [
        yield* Effect.exit(pacer.run(demand(), (): Effect.Effect<void> => {
          throw new Error("thrown")
        })),
        yield* Effect.exit(pacer.run(demand(), () => Effect.fail("failed" as const))),
        yield* Effect.exit(pacer.run(demand(), () => Effect.die("died"))),
        yield* Effect.exit(pacer.run(demand(), () => Effect.void, () => {
          throw new Error("thrown")
        }))
      ]
      assert.deepStrictEqual(exits.map((exit) => exit._tag), ["Failure", "Failure", "Failure", "Failure"])
      assert.strictEqual((yield* only(pacer)).inFlight, 0)
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({ inFlight: 1 }) }))))
})

describe("Pacer retries", () => {
  it.effect("what is known not to have run is tried again, and the last exit returned as it was", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const last = Outcome.limited({ retryAfterMillis: 1 })
      const value = yield* fork(answering(pacer, demand(), Outcome.overloaded(), Outcome.limited(), last))
      const failure = yield* fork(Effect.exit(pacer.run(
        demand(),
        (attempt) => Effect.fail({ number: attempt.number }),
        () => Outcome.overloaded()
      )))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(value), last)
      assert.deepStrictEqual(yield* Fiber.join(failure), Exit.fail({ number: 3 }))
      const { counts } = yield* only(pacer)
      assert.deepInclude(counts, {
        calls: 2,
        attempts: 6,
        retries: 4,
        limited: 2,
        overloaded: 4,
        possiblyBilledTwice: 0
      })
    }).pipe(Effect.provide(paced({
      controller: perSecond(100),
      policy: { maxFailures: 2, maxRefusals: 2, retryUnknown: false }
    }))))

  it.effect("what may have run is tried again only where the policy or the demand allows it, and counted apart", () =>
    Effect.gen(function*() {
      const attemptsOf = Effect.fnUntraced(function*(policy: RetryPolicy.RetryPolicy, idempotent: boolean) {
        return yield* Effect.gen(function*() {
          const pacer = yield* Pacer.Pacer
          const call = yield* fork(answering(pacer, demand({ idempotent }), Outcome.unknown(), Outcome.accepted()))
          yield* TestClock.adjust("1 minute")
          yield* Fiber.join(call)
          const { counts } = yield* only(pacer)
          return [counts.attempts, counts.possiblyBilledTwice]
        }).pipe(Effect.provide(paced({ controller: perSecond(100), policy })))
      })
      assert.deepStrictEqual(yield* attemptsOf(RetryPolicy.standard, false), [1, 0])
      assert.deepStrictEqual(yield* attemptsOf(RetryPolicy.standard, true), [2, 1])
      assert.deepStrictEqual(yield* attemptsOf(RetryPolicy.persistent, false), [2, 1])
      assert.deepStrictEqual(yield* attemptsOf({ ...RetryPolicy.persistent, retryUnknown: false }, true), [1, 0])
    }))

  it.effect("a body cut off after acceptance teaches nothing more, and is tried again as unknown", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const call = yield* fork(pacer.run(demand({ idempotent: true }), (attempt) =>
        Effect.suspend(() => {
          attempt.verdict(Outcome.accepted())
          return attempt.number === 1 ? Effect.fail("cut off") : Effect.succeed(attempt.number)
        }), (exit) => Exit.isSuccess(exit) ? Outcome.accepted() : Outcome.unknown()))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(call), 2)
      const { counts } = yield* only(pacer)
      assert.deepInclude(counts, { attempts: 2, accepted: 2, unknown: 0, possiblyBilledTwice: 1 })
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard, controller: perSecond(100) }))))

  it.effect("a retry waits as long as the policy says, and goes before what came after it", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const seen: Array<readonly [name: string, attempt: number]> = []
      const call = (name: string, ...answers: ReadonlyArray<Outcome.Outcome>) =>
        fork(pacer.run(demand(), (attempt) =>
          Effect.sync(() => {
            seen.push([name, attempt.number])
            return answers[attempt.number - 1]!
          }), outcomeOf))
      yield* call("first", Outcome.limited({ retryAfterMillis: 2_500 }), Outcome.accepted())
      for (const name of ["second", "third", "fourth", "fifth"]) yield* call(name, Outcome.accepted())
      yield* TestClock.adjust("10 seconds")
      // The hint of 2.5 s, and up to a tenth more: it is back before the fourth second's turn.
      assert.deepStrictEqual(seen, [["first", 1], ["second", 1], ["third", 1], ["first", 2], ["fourth", 1], [
        "fifth",
        1
      ]])
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard }))))

  it.effect("each delay is the policy's: doubling, with jitter between half and whole", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const times: Array<number> = []
      const call = yield* fork(pacer.run(demand(), () =>
        Effect.map(Bench.now, (millis) => {
          times.push(millis)
          return Outcome.overloaded()
        }), outcomeOf))
      yield* TestClock.adjust("1 minute")
      assert.isDefined(call.pollUnsafe())
      assert.lengthOf(times, 5)
      for (const [i, at] of times.slice(1).entries()) {
        const gap = at - times[i]!
        assert.isAtLeast(gap, 250 * 2 ** i)
        assert.isAtMost(gap, 500 * 2 ** i + 0.001)
      }
    }).pipe(Effect.provide(paced({
      controller: RateController.fixed({}),
      policy: { ...RetryPolicy.standard, maxRefusals: 4 }
    }))))

  it.effect("a call that backs off holds no place and no tokens, even when its refusal's body is held", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const backs = yield* fork(pacer.run(demand({ cost: { outputTokens: 100 } }), (attempt) =>
        Effect.sync(() => {
          attempt.hold()
          return attempt.number === 1 ? Outcome.limited({ retryAfterMillis: 4_000 }) : Outcome.accepted()
        }), outcomeOf))
      assert.deepInclude(yield* only(pacer), { inFlight: 0, backingOff: 1 })
      yield* pacer.run(demand({ cost: { outputTokens: 1 } }), () => Effect.void)
      yield* TestClock.adjust("10 seconds")
      assert.isDefined(backs.pollUnsafe())
      assert.deepInclude(yield* only(pacer), { inFlight: 1, backingOff: 0 })
    }).pipe(Effect.provide(paced({
      controller: RateController.fixed({ inFlight: 1, tokens: Pace.rate(10) }),
      policy: RetryPolicy.standard
    }))))

  it.effect("a retry that could not start by the deadline is told so at once, and is no retry", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const refused = Outcome.limited({ retryAfterMillis: 3_000 })
      const call = yield* fork(answering(pacer, demand({ startWithin: "2 seconds" }), refused))
      assert.deepInclude(reasonOf(call), { _tag: "TooLate", waitedMillis: 0, last: refused })
      assert.deepInclude((yield* only(pacer)).counts, { retries: 0, unsent: 1, attempts: 1 })
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard }))))

  it.effect("a deadline ends a call that backs off", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const call = yield* fork(answering(pacer, demand({ startWithin: "5 seconds" }), Outcome.overloaded()))
      yield* TestClock.adjust("5001 millis")
      assert.strictEqual(reasonOf(call)._tag, "TooLate")
      assert.deepInclude(yield* only(pacer), { waiting: 0, backingOff: 0, inFlight: 0 })
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.persistent }))))

  it.effect("many synchronous calls behind one that frees them all at once do not exhaust the stack", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      yield* answering(pacer, demand(), Outcome.limited({ retryAfterMillis: 10_000 }))
      const calls: Array<Fiber.Fiber<Outcome.Outcome, unknown>> = []
      for (let i = 0; i < 20_000; i++) calls.push(yield* fork(answering(pacer, demand(), Outcome.accepted())))
      yield* TestClock.adjust("10 seconds")
      for (const call of calls) assert.strictEqual(ended(call)._tag, "Success")
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({}) }))))

  it.effect("the scheduler in force decides who goes next, age kept over retries", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const order: Array<number> = []
      for (const priority of [0, 0, 1, 5]) {
        yield* fork(pacer.run(demand({ priority }), () => Effect.sync(() => void order.push(priority))))
      }
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(order, [0, 5, 1, 0])
    }).pipe(
      Effect.provide(paced()),
      Effect.provideService(CallScheduler.Current, CallScheduler.priority())
    ))
})
