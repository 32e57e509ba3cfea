import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pace from "@evenkeel/core/Pace"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { demand, fork, keyOf, only, paced, perSecond, reasonOf } = Bench

describe("Pacer paces", () => {
  it.effect("ten thousand calls start one interval apart, in order, and all are answered", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const seen: Array<readonly [index: number, atMillis: number]> = []
      const all = yield* fork(Effect.forEach(
        Array.from({ length: 10_000 }, (_, index) => index),
        (index) => pacer.run(demand(), () => Effect.map(Bench.now, (millis) => (seen.push([index, millis]), index))),
        { concurrency: "unbounded" }
      ))
      yield* TestClock.adjust("100 seconds")
      assert.deepStrictEqual(yield* Fiber.join(all), Array.from({ length: 10_000 }, (_, index) => index))
      for (const [place, [index, millis]] of seen.entries()) {
        assert.strictEqual(index, place)
        assert.closeTo(millis, place * 10, 0.1)
      }
      const { counts, inFlight, waiting } = yield* only(pacer)
      assert.deepStrictEqual([counts.calls, counts.attempts, counts.accepted], [10_000, 10_000, 10_000])
      assert.deepStrictEqual([inFlight, waiting], [0, 0])
    }).pipe(Effect.provide(paced({ controller: perSecond(100) }))))

  it("a window of any length holds no more than the rate and the burst allow", () =>
    fc.assert(
      fc.asyncProperty(
        fc.double({ min: 0.2, max: 200, noNaN: true }),
        fc.double({ min: 0, max: 0.2, noNaN: true }),
        fc.array(fc.double({ min: 0, max: 900, noNaN: true }), { minLength: 5, maxLength: 40 }),
        (rate, burstSeconds, gaps) =>
          Bench.runInVirtualTime(
            Effect.gen(function*() {
              const pacer = yield* Pacer.Pacer
              const { attempt, seen } = Bench.starts()
              for (const gap of gaps) {
                yield* fork(pacer.run(demand(), attempt))
                yield* TestClock.adjust(gap)
              }
              yield* TestClock.adjust("10 minutes")
              assert.lengthOf(seen, gaps.length)
              for (const [i, from] of seen.entries()) {
                for (const [j, until] of seen.slice(i).entries()) {
                  const allowed = rate * ((until - from) / 1000) * (1 + 1e-6) + rate * burstSeconds + 1 + 1e-6
                  assert.isAtMost(j + 1, allowed + 1e-3, `${j + 1} starts from ${from} to ${until}`)
                }
              }
            }),
            { controller: perSecond(1, { requests: Pace.rate(rate, burstSeconds) }) }
          )
      ),
      { numRuns: 40 }
    ))

  it.effect("an idle hour is worth one burst", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      yield* pacer.run(demand(), attempt)
      yield* TestClock.adjust("1 hour")
      seen.length = 0
      for (let i = 0; i < 10; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("1 second")
      // Three saved up and one on credit leave at once, then one each 10 ms.
      assert.deepStrictEqual(seen.map((millis) => Math.round(millis - 3_600_000)), [0, 0, 0, 0, 10, 20, 30, 40, 50, 60])
    }).pipe(Effect.provide(paced({ controller: perSecond(100) }))))

  it.effect("all sums or none: a call that waits for tokens spends no request meanwhile", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      for (let i = 0; i < 5; i++) {
        yield* fork(pacer.run(demand({ cost: { inputTokens: 40, outputTokens: 60 } }), attempt))
      }
      yield* TestClock.adjust("10 seconds")
      // 100 tokens each at 100 tokens a second; the first saves up its prompt and half of it again.
      assert.deepStrictEqual(seen.map(Math.round), [600, 1600, 2600, 3600, 4600])
      const before = seen.length
      // Nothing else was spent: at ten requests a second and 0.3 saved up, calls without tokens leave 100 ms apart.
      for (let i = 0; i < 3; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("1 second")
      const free = seen.slice(before)
      assert.deepStrictEqual(free.map((millis) => Math.round(millis - free[0]!)), [0, 70, 170])
    }).pipe(Effect.provide(paced({ controller: perSecond(10, { tokens: Pace.rate(100) }) }))))

  it.effect("a call larger than a second's worth of tokens still goes, and those behind it wait off its debt", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      yield* fork(pacer.run(demand({ cost: { inputTokens: 1_000 } }), attempt))
      yield* fork(pacer.run(demand({ cost: { inputTokens: 20 } }), attempt))
      yield* TestClock.adjust("1 minute")
      // After a second's worth it goes, 900 in debt; 9 s later that is paid, and 0.3 s more is the small call's prompt.
      assert.deepStrictEqual(seen.map(Math.round), [1000, 10_300])
    }).pipe(Effect.provide(paced({ controller: perSecond(10, { tokens: Pace.rate(100) }) }))))

  it.effect("a call larger than a window's limit can ever grant fails at once, once the limit is known", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const told = Outcome.accepted({
        reading: {
          ...Outcome.nothingRead,
          limits: [
            { dimension: "inputTokens", limit: 500, windowSeconds: 60 },
            { dimension: "inputTokens", policy: "another pool", limit: 5, windowSeconds: 60, aside: true }
          ]
        }
      })
      yield* Bench.answering(pacer, demand(), told)
      const large = yield* fork(Bench.answering(pacer, demand({ cost: { inputTokens: 501 } }), told))
      assert.deepInclude(reasonOf(large), { _tag: "LargerThanLimit", cost: 501, limit: 500 })
      const cached = demand({ cost: { inputTokens: 501 }, cachedInput: true })
      for (const one of [cached, demand({ cost: { inputTokens: 500 } })]) {
        const fits = yield* fork(Bench.answering(pacer, one, told))
        yield* TestClock.adjust("1 second")
        assert.isTrue(Exit.isSuccess(fits.pollUnsafe()!))
      }
    }).pipe(Effect.provide(paced())))

  it.effect("no more calls are in flight than there are places", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      let running = 0
      let most = 0
      const attempt = () =>
        Effect.gen(function*() {
          most = Math.max(most, ++running)
          yield* Effect.sleep("1 second")
          running--
        })
      for (let i = 0; i < 20; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("6999 millis")
      assert.strictEqual(most, 3)
      assert.strictEqual((yield* only(pacer)).counts.accepted, 18)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* only(pacer)).counts.accepted, 20)
    }).pipe(Effect.provide(paced({ controller: RateController.fixed({ inFlight: 3 }) }))))

  it.effect("a key that is blocked never blocks another", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const shut = Outcome.limited({ closes: { scope: "key", forMillis: 3_600_000, reason: "quota" }, final: true })
      yield* Bench.answering(pacer, demand({ key: keyOf("spent") }), shut)
      for (let i = 0; i < 3; i++) yield* fork(pacer.run(demand({ key: keyOf("spent") }), attempt))
      for (let i = 0; i < 3; i++) yield* fork(pacer.run(demand({ key: keyOf("slow") }), () => Effect.never))
      for (let i = 0; i < 4; i++) yield* fork(pacer.run(demand({ key: keyOf("free") }), attempt))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen.map(Math.round), [0, 1000, 2000, 3000])
    }).pipe(Effect.provide(paced())))
})

describe("Pacer bounds", () => {
  it.effect("a call that cannot start by its deadline is told so at the deadline, and frees its place", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      for (let i = 0; i < 3; i++) yield* pacer.run(demand(), attempt).pipe(fork)
      const late = yield* fork(pacer.run(demand({ startWithin: "1500 millis" }), attempt))
      const after = yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("1499 millis")
      assert.isUndefined(late.pollUnsafe())
      yield* TestClock.adjust("2 millis")
      assert.deepInclude(reasonOf(late), { _tag: "TooLate", last: undefined })
      const reason = reasonOf(late)
      assert.isAtMost(reason._tag === "TooLate" ? reason.waitedMillis : NaN, 1501)
      assert.strictEqual((yield* only(pacer)).waiting, 2)
      yield* TestClock.adjust("10 seconds")
      assert.isDefined(after.pollUnsafe())
      assert.deepStrictEqual(seen.map(Math.round), [0, 1000, 2000, 3000])
    }).pipe(Effect.provide(paced())))

  it.effect("a call may start at its deadline exactly", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      yield* pacer.run(demand(), attempt)
      const close = yield* fork(pacer.run(demand({ startWithin: "1 second" }), attempt))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(Bench.ended(close)._tag, "Success")
      assert.deepStrictEqual(seen.map(Math.round), [0, 1000])
    }).pipe(Effect.provide(paced())))

  it("whatever the deadlines, each call starts by its own or fails at it, and nothing stays behind", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(2_000), fc.nat(8_000)), { minLength: 1, maxLength: 30 }),
        (calls) =>
          Bench.runInVirtualTime(Effect.gen(function*() {
            const pacer = yield* Pacer.Pacer
            const results: Array<readonly [deadline: number, started: number, ended: number]> = []
            for (const [gap, within] of calls) {
              yield* TestClock.adjust(gap)
              const deadline = (yield* Bench.now) + within
              let started = Infinity
              const call = pacer.run(
                demand({ startWithin: within }),
                () => Effect.map(Bench.now, (millis) => void (started = millis))
              )
              yield* fork(Effect.flatMap(Effect.exit(call), () =>
                Effect.map(Bench.now, (millis) => results.push([deadline, started, millis]))))
            }
            yield* TestClock.adjust("1 minute")
            assert.lengthOf(results, calls.length)
            for (const [deadline, started, end] of results) {
              if (started === Infinity) {
                assert.closeTo(end, deadline, 1)
              } else assert.isAtMost(started, deadline)
            }
            const { counts, inFlight, waiting } = yield* only(pacer)
            assert.deepStrictEqual([inFlight, waiting, counts.attempts + counts.unsent], [0, 0, calls.length])
          }))
      ),
      { numRuns: 50 }
    ))

  it.effect("one call more than the queue holds is turned away, over all keys together", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      for (const model of ["a", "b"]) yield* pacer.run(demand({ key: keyOf(model) }), attempt)
      for (const model of ["a", "b", "a"]) yield* fork(pacer.run(demand({ key: keyOf(model) }), attempt))
      const full = yield* fork(pacer.run(demand({ key: keyOf("b") }), attempt))
      assert.deepInclude(reasonOf(full), { _tag: "QueueFull", capacity: 3 })
      // A call that need not wait is not turned away.
      yield* pacer.run(demand({ key: keyOf("c") }), attempt)
      yield* TestClock.adjust("1 second")
      const next = yield* fork(pacer.run(demand({ key: keyOf("b") }), attempt))
      yield* TestClock.adjust("5 seconds")
      assert.isDefined(next.pollUnsafe())
      assert.lengthOf(seen, 7)
    }).pipe(Effect.provide(paced({ maxWaiting: 3 }))))

  it.effect("an idle key makes room for a new one, a busy one does not", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const models = Effect.map(pacer.snapshot, ({ keys }) => keys.map((one) => one.model))
      const busy = yield* fork(pacer.run(demand({ key: keyOf("busy") }), () => Effect.never))
      yield* pacer.run(demand({ key: keyOf("first") }), () => Effect.void)
      yield* TestClock.adjust("1 second")
      yield* pacer.run(demand({ key: keyOf("second") }), () => Effect.void)
      yield* pacer.run(demand({ key: keyOf("third") }), () => Effect.void)
      assert.deepStrictEqual(yield* models, ["busy", "second", "third"])
      for (const model of ["second", "third"]) {
        yield* TestClock.adjust("1 second")
        yield* fork(pacer.run(demand({ key: keyOf(model) }), () => Effect.never))
      }
      const refused = yield* fork(pacer.run(demand({ key: keyOf("fourth") }), () => Effect.void))
      assert.deepInclude(reasonOf(refused), { _tag: "TooManyKeys", capacity: 3 })
      yield* Fiber.interrupt(busy)
      yield* pacer.run(demand({ key: keyOf("fourth") }), () => Effect.void)
      assert.deepStrictEqual(yield* models, ["second", "third", "fourth"])
    }).pipe(Effect.provide(paced({ maxKeys: 3 }))))

  it.effect("making room for a new key forgets no gate that a hint closed", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const hinted = demand({ key: keyOf("hinted") })
      yield* Bench.answering(pacer, hinted, Outcome.limited({ retryAfterMillis: 60_000 }))
      const other = yield* fork(pacer.run(demand({ key: keyOf("other") }), () => Effect.void))
      assert.deepInclude(reasonOf(other), { _tag: "TooManyKeys" })
      yield* TestClock.adjust("61 seconds")
      yield* pacer.run(demand({ key: keyOf("other") }), () => Effect.void)
    }).pipe(Effect.provide(paced({ maxKeys: 1, policy: RetryPolicy.never }))))

  it.effect("a timeout around a call ends it while it waits and while it runs, and its place is free", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const slow = yield* fork(Effect.timeoutOption(pacer.run(demand(), () => Effect.never), "10 seconds"))
      const waits = yield* fork(Effect.timeoutOption(pacer.run(demand(), () => Effect.void), "500 millis"))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual((yield* Fiber.join(waits))._tag, "None")
      assert.strictEqual((yield* only(pacer)).waiting, 0)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(slow))._tag, "None")
      const { counts, inFlight } = yield* only(pacer)
      assert.deepStrictEqual([inFlight, counts.attempts, counts.unknown], [0, 1, 1])
      yield* pacer.run(demand(), () => Effect.void)
    }).pipe(Effect.provide(paced({ controller: perSecond(1, { inFlight: 1 }) }))))
})
