import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pacer from "@evenkeel/core/Pacer"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, ended, fork, keyOf, only, paced, perSecond, reasonOf } = Bench

const closing = (scope: "key" | "credential", forMillis: number): Outcome.Outcome =>
  Outcome.ignored({ closes: { scope, forMillis, reason: scope === "key" ? "quota" : "unauthorized" } })

describe("Pacer gate", () => {
  it.effect("a hint of two seconds delays its call, and the others go on", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const hinted = yield* fork(answering(
        pacer,
        demand(),
        Outcome.limited({ retryAfterMillis: 2_000 }),
        Outcome.accepted()
      ))
      for (let i = 0; i < 30; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(hinted.pollUnsafe())
      assert.lengthOf(seen, 20)
      yield* TestClock.adjust("400 millis")
      assert.isDefined(hinted.pollUnsafe())
    }).pipe(Effect.provide(paced({ controller: perSecond(10), policy: RetryPolicy.standard }))))

  it.effect("a model that is not known closes its key, and not the key of calls without a model", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const unknown = Outcome.ignored({ closes: { scope: "key", forMillis: Infinity, reason: "unknown model" } })
      for (const [model, starts] of [["nope", 0], ["", 1]] as const) {
        const one = demand({ key: Demand.key("https://api.example", "acme", model) })
        const { attempt, seen } = Bench.starts()
        yield* answering(pacer, one, unknown)
        yield* fork(Effect.ignore(pacer.run(one, attempt)))
        yield* TestClock.adjust("1 second")
        assert.lengthOf(seen, starts, model)
      }
    }).pipe(Effect.provide(paced({ controller: perSecond(10) }))))

  it.effect("a hint of ten seconds closes the key for all, and afterwards they leave paced, never together", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      yield* answering(pacer, demand(), Outcome.limited({ retryAfterMillis: 10_000 }))
      for (let i = 0; i < 50; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("9999 millis")
      assert.lengthOf(seen, 0)
      yield* TestClock.adjust("10 seconds")
      assert.lengthOf(seen, 50)
      for (const [i, millis] of seen.slice(1).entries()) assert.isAtLeast(millis - seen[i]!, i === 0 ? 69 : 99)
      assert.closeTo(seen[0]!, 10_000, 0.01)
    }).pipe(Effect.provide(paced({ controller: perSecond(10) }))))

  it.effect("a hint of a window that is spent closes the key, that of a short window does not", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const told = (windowSeconds: number, remaining: number) =>
        Outcome.limited({
          retryAfterMillis: 2_000,
          reading: { ...Outcome.nothingRead, limits: [{ dimension: "requests", limit: 60, remaining, windowSeconds }] }
        })
      const delayAfter = Effect.fnUntraced(function*(refusal: Outcome.Outcome) {
        yield* TestClock.adjust("1 minute")
        const from = yield* Bench.now
        yield* answering(pacer, demand(), refusal)
        const { attempt, seen } = Bench.starts()
        yield* fork(pacer.run(demand(), attempt))
        yield* TestClock.adjust("1 minute")
        return Math.round(seen[0]! - from)
      })
      assert.strictEqual(yield* delayAfter(told(60, 0)), 2_000)
      assert.strictEqual(yield* delayAfter(told(60, 1)), 0)
      assert.strictEqual(yield* delayAfter(told(1, 0)), 0)
    }).pipe(Effect.provide(paced({ controller: perSecond(100) }))))

  it.effect("is checked at the start: a call that was queued before the hint came waits for it", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const refusal = Outcome.limited({ retryAfterMillis: 6_000 })
      yield* fork(pacer.run(demand(), () => Effect.delay(Effect.succeed(refusal), "500 millis"), Bench.outcomeOf))
      for (let i = 0; i < 3; i++) yield* fork(pacer.run(demand(), attempt))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(seen.map(Math.round), [6500, 7470, 8470])
    }).pipe(Effect.provide(paced())))

  it.effect("a call whose deadline is before the gate opens is told so at once", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      yield* answering(pacer, demand(), Outcome.overloaded({ retryAfterMillis: 30_000 }))
      const late = yield* fork(pacer.run(demand({ startWithin: "29 seconds" }), () => Effect.void))
      const fine = yield* fork(pacer.run(demand({ startWithin: "31 seconds" }), () => Effect.void))
      assert.strictEqual(reasonOf(late)._tag, "TooLate")
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual(ended(fine)._tag, "Success")
    }).pipe(Effect.provide(paced())))
})

describe("Pacer closing", () => {
  it.effect("a refused credential fails its calls, waiting and later, over all keys of its origin; others go on", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const bad = (model: string) => demand({ key: keyOf(model), credential: "bad" })
      yield* pacer.run(demand(), () => Effect.void)
      yield* pacer.run(demand({ key: keyOf("other") }), () => Effect.void)
      const refused = closing("credential", Infinity)
      const first = yield* fork(answering(pacer, bad("llama"), refused))
      const waiting = [
        yield* fork(answering(pacer, bad("llama"), refused)),
        yield* fork(answering(pacer, bad("other"), refused))
      ]
      const good = yield* fork(pacer.run(demand({ credential: "good" }), () => Effect.void))
      yield* TestClock.adjust("1 second")
      // The first of either key finds out; nobody else has to.
      assert.isDefined(first.pollUnsafe())
      const later = yield* fork(answering(pacer, bad("third"), refused))
      for (const call of [waiting[0]!, later]) {
        assert.deepInclude(reasonOf(call), {
          _tag: "Closed",
          scope: "credential",
          reason: "unauthorized",
          last: refused
        })
      }
      yield* TestClock.adjust("1 second")
      assert.strictEqual(ended(good)._tag, "Success")
      assert.isDefined(waiting[1]!.pollUnsafe())
    }).pipe(Effect.provide(paced())))

  it.effect("a key closed for ever fails what waits, what backs off and what comes", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const backs = yield* fork(answering(pacer, demand(), Outcome.overloaded()))
      const closes = yield* fork(answering(pacer, demand(), closing("key", Infinity)))
      const waits = yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* TestClock.adjust("250 millis")
      assert.isDefined(closes.pollUnsafe())
      const later = yield* fork(answering(pacer, demand(), Outcome.accepted()))
      for (const call of [backs, waits, later]) {
        assert.deepInclude(reasonOf(call), { _tag: "Closed", scope: "key", reason: "quota", forMillis: Infinity })
      }
      assert.deepInclude(yield* only(pacer), { waiting: 0, backingOff: 0, inFlight: 0 })
    }).pipe(Effect.provide(paced({ controller: perSecond(4), policy: RetryPolicy.persistent }))))

  it.effect("a refusal that closes a key gives its place to no other call", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const slow = () => Effect.sleep("1 second")
      yield* fork(pacer.run(demand(), slow, () => closing("key", Infinity)))
      yield* fork(Effect.ignore(pacer.run(demand(), attempt)))
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(seen, 0)
    }).pipe(Effect.provide(paced({ controller: perSecond(10, { inFlight: 1 }) }))))

  it.effect("a key closed for an hour keeps its queue, which leaves paced; earlier deadlines fail at once", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const { attempt, seen } = Bench.starts()
      const closes = fork(answering(pacer, demand(), closing("key", 3_600_000)))
      yield* pacer.run(demand(), () => Effect.void)
      yield* closes
      for (let i = 0; i < 5; i++) yield* fork(pacer.run(demand(), attempt))
      const short = yield* fork(pacer.run(demand({ startWithin: "30 minutes" }), attempt))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(reasonOf(short), { _tag: "Closed", scope: "key", forMillis: 3_600_000 })
      assert.deepInclude(yield* only(pacer), { waiting: 5, closedForMillis: 3_600_000, closedReason: "quota" })
      const later = yield* fork(pacer.run(demand({ startWithin: "59 minutes" }), attempt))
      assert.strictEqual(reasonOf(later)._tag, "Closed")
      yield* TestClock.adjust("1 hour")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen.map((millis) => Math.round(millis) - 3_601_000), [0, 970, 1970, 2970, 3970])
      assert.deepInclude(yield* only(pacer), { waiting: 0, closedForMillis: null, closedReason: null })
    }).pipe(Effect.provide(paced())))

  it("of keys for a time, at random, never lets two calls leave closer than the pace", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(0, 0, 0, 700, 2_500, 5_000, 9_000), { minLength: 5, maxLength: 40 }),
        (closures) =>
          Bench.runInVirtualTime(
            Effect.gen(function*() {
              const pacer = yield* Pacer.Pacer
              const times: Array<number> = []
              for (const forMillis of closures) {
                yield* fork(pacer.run(demand(), () =>
                  Effect.map(Bench.now, (millis) => {
                    times.push(millis)
                    return forMillis === 0 ? Outcome.accepted() : closing("key", forMillis)
                  }), Bench.outcomeOf))
              }
              yield* TestClock.adjust("20 minutes")
              assert.lengthOf(times, closures.length)
              for (const [i, at] of times.slice(1).entries()) {
                assert.isAtLeast(at - times[i]!, Math.max(closures[i]!, 500 - 30 - 0.01))
              }
            }),
            { controller: perSecond(2) }
          )
      ),
      { numRuns: 40 }
    ))
})

describe("Pacer's end", () => {
  /** A pacer whose scope the test ends, and what its store was asked meanwhile. */
  const ending = Effect.fnUntraced(function*(parts: Bench.Parts) {
    const asked: Array<string> = []
    const store = Layer.effect(
      PaceStore.PaceStore,
      Effect.map(PaceStore.PaceStore, (inner) => ({
        borrow: (key: typeof Bench.key, request: PaceStore.Request) => {
          asked.push(`borrow ${key.model}`)
          return inner.borrow(key, request)
        },
        publish: (key: typeof Bench.key, epoch: number, learned: RateController.Learned) => {
          asked.push(`publish ${key.model}`)
          return inner.publish(key, epoch, learned)
        },
        giveBack: (key: typeof Bench.key, holder: string) => {
          asked.push(`give back ${key.model}`)
          return inner.giveBack(key, holder)
        }
      }))
    ).pipe(Layer.provide(PaceStore.layerMemory()))
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(paced({ ...parts, store }), scope)
    return { asked, end: Scope.close(scope, Exit.void), pacer: Context.get(context, Pacer.Pacer) }
  })

  it.effect("fails what waits and what comes, publishes what was learned and gives the share back", () =>
    Effect.gen(function*() {
      const { asked, end, pacer } = yield* ending({ controller: RateController.adaptive({ startPerSecond: 1 }) })
      const told = Outcome.accepted({
        reading: { ...Outcome.nothingRead, limits: [{ dimension: "requests", limit: 1, ratePerSecond: 1 }] }
      })
      yield* answering(pacer, demand(), told)
      const waits = yield* fork(answering(pacer, demand(), told))
      yield* end
      const later = yield* fork(answering(pacer, demand(), told))
      for (const call of [waits, later]) assert.deepInclude(reasonOf(call), { _tag: "Closed", scope: "pacer" })
      assert.deepStrictEqual(asked, ["borrow llama", "publish llama", "give back llama"])
    }))

  it.effect("fails a call that backs off, and one whose running attempt would be tried again", () =>
    Effect.gen(function*() {
      const { end, pacer } = yield* ending({ controller: perSecond(100), policy: RetryPolicy.persistent })
      const backs = yield* fork(answering(pacer, demand(), Outcome.overloaded()))
      const answer = (outcome: Outcome.Outcome) =>
        fork(pacer.run(demand(), () => Effect.delay(Effect.succeed(outcome), "5 seconds"), Bench.outcomeOf))
      const refused = yield* answer(Outcome.overloaded())
      const accepted = yield* answer(Outcome.accepted())
      yield* TestClock.adjust("100 millis")
      yield* end
      assert.deepInclude(reasonOf(backs), { _tag: "Closed", scope: "pacer" })
      yield* TestClock.adjust("1 minute")
      assert.deepInclude(reasonOf(refused), { _tag: "Closed", scope: "pacer" })
      assert.strictEqual(ended(accepted)._tag, "Success")
      assert.deepInclude(yield* only(pacer), { waiting: 0, backingOff: 0, inFlight: 0 })
    }))

  it.effect("leaves no timer behind", () =>
    Effect.gen(function*() {
      const real = yield* Effect.clockWith(Effect.succeed)
      let sleeping = 0
      const counting: typeof real = Object.assign(Object.create(real), {
        sleep: (duration: Parameters<typeof real.sleep>[0]) =>
          Effect.acquireUseRelease(
            Effect.sync(() => void sleeping++),
            () => real.sleep(duration),
            () => Effect.sync(() => void sleeping--)
          )
      })
      const { end, pacer } = yield* ending({ policy: RetryPolicy.persistent }).pipe(
        Effect.provideService(Clock.Clock, counting)
      )
      yield* answering(pacer, demand(), Outcome.accepted())
      yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* fork(answering(pacer, demand({ key: keyOf("other") }), Outcome.overloaded()))
      yield* pacer.run(demand({ key: keyOf("held") }), (attempt) => Effect.sync(attempt.hold))
      assert.strictEqual(sleeping, 3)
      yield* end
      assert.strictEqual(sleeping, 0)
    }))
})
