import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as PaceError from "@evenkeel/core/PaceError"
import * as Pacer from "@evenkeel/core/Pacer"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as RateController from "@evenkeel/core/RateController"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, fork, keyOf, only, paced, perSecond, reasonOf } = Bench

/** Pacers over one store, each with a scope of its own. */
const together = Effect.fnUntraced(function*(count: number, parts: Bench.Parts) {
  const store = Layer.succeedContext(yield* Layer.build(parts.store ?? PaceStore.layerMemory()))
  const join = Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(paced({ ...parts, store }), scope)
    return {
      pacer: Context.get(context, Pacer.Pacer),
      telemetry: Context.get(context, Telemetry.Telemetry),
      end: Scope.close(scope, Exit.void)
    }
  })
  const pacers: Array<Effect.Success<typeof join>> = []
  for (let i = 0; i < count; i++) pacers.push(yield* join)
  return { join, pacers }
})

/** Calls without end: as soon as one has started, another is offered. */
const endless = (pacer: Bench.Loop, attempt: () => Effect.Effect<void>) =>
  fork(Effect.forever(Effect.forEach([1, 2, 3], () => pacer.run(demand(), attempt), { concurrency: 3 })))

const shareOf = (pacer: Bench.Loop) => Effect.map(only(pacer), ({ share }) => share)

/** The store in memory, behind something that the test can slow down or break. */
const behind = (trouble: { latency: number; broken: boolean; asked: number }): Layer.Layer<PaceStore.PaceStore> =>
  Layer.effect(
    PaceStore.PaceStore,
    Effect.map(PaceStore.PaceStore, (inner) => {
      const through = <A>(answer: Effect.Effect<A, PaceError.PaceError>) =>
        Effect.suspend(() => {
          trouble.asked++
          const reason = new PaceError.StoreUnavailable({ cause: "broken" })
          return Effect.andThen(
            Effect.sleep(trouble.latency),
            trouble.broken ? Effect.fail(new PaceError.PaceError({ key: Bench.key, reason })) : answer
          )
        })
      return {
        borrow: (key: typeof Bench.key, request: PaceStore.Request) => through(inner.borrow(key, request)),
        publish: (key: typeof Bench.key, epoch: number, learned: RateController.Learned) =>
          through(inner.publish(key, epoch, learned)),
        giveBack: inner.giveBack
      }
    })
  ).pipe(Layer.provide(PaceStore.layerMemory()))

describe("Pacers over one store", () => {
  it.effect("two that are equally busy share the pace equally, and together use all of it, no more", () =>
    Effect.gen(function*() {
      const { pacers: [a, b] } = yield* together(2, { controller: perSecond(20) })
      const first = Bench.starts()
      const second = Bench.starts()
      yield* endless(a!.pacer, first.attempt)
      yield* endless(b!.pacer, second.attempt)
      for (let second = 0; second < 60; second++) {
        yield* TestClock.adjust("1 second")
        assert.isAtMost((yield* shareOf(a!.pacer)) + (yield* shareOf(b!.pacer)), 1 + 1e-9)
      }
      assert.closeTo(first.seen.length, 600, 30)
      assert.closeTo(second.seen.length, 600, 30)
      // Two bursts of 0.03 s and one on credit each.
      assert.isAtMost(first.seen.length + second.seen.length, 1200 + 2 * (0.6 + 1) + 20)
      assert.isAtLeast(first.seen.length + second.seen.length, 1180)
    }))

  it.effect("an idle one leaves nearly all to the busy one, and gets its part back when it needs it", () =>
    Effect.gen(function*() {
      const { pacers: [busy, idle] } = yield* together(2, { controller: perSecond(20) })
      const first = Bench.starts()
      const second = Bench.starts()
      yield* idle!.pacer.run(demand(), () => Effect.void)
      yield* endless(busy!.pacer, first.attempt)
      yield* TestClock.adjust("5 seconds")
      assert.isAtLeast(yield* shareOf(busy!.pacer), 0.9)
      yield* endless(idle!.pacer, second.attempt)
      yield* TestClock.adjust("3 seconds")
      assert.closeTo(yield* shareOf(idle!.pacer), 0.5, 0.01)
      assert.closeTo(yield* shareOf(busy!.pacer), 0.5, 0.01)
    }))

  it.effect("one that ends gives its share back at once", () =>
    Effect.gen(function*() {
      const { pacers: [a, b] } = yield* together(2, { controller: perSecond(20) })
      yield* endless(a!.pacer, () => Effect.void)
      yield* endless(b!.pacer, () => Effect.void)
      yield* TestClock.adjust("5 seconds")
      assert.closeTo(yield* shareOf(b!.pacer), 0.5, 0.01)
      yield* a!.end
      // Seen at the next renewal, half-way through a lease of one second; without it, after a whole lease.
      yield* TestClock.adjust("501 millis")
      assert.strictEqual(yield* shareOf(b!.pacer), 1)
    }))

  it("whoever joins, leaves, idles or works, shares sum to at most 1 and no window holds more than pace and bursts", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.constantFrom("join", "leave", "burst", "burst", "burst", "wait"), fc.nat(3), fc.nat(2_000)),
          { minLength: 3, maxLength: 25 }
        ),
        (steps) =>
          Effect.gen(function*() {
            const { join, pacers } = yield* together(1, { controller: perSecond(10) })
            const { attempt, seen } = Bench.starts()
            let most = 1
            for (const [what, which, gap] of steps) {
              const chosen = pacers[which % Math.max(1, pacers.length)]
              if (what === "join" && pacers.length < 4) pacers.push(yield* join)
              if (what === "leave" && chosen !== undefined) {
                pacers.splice(pacers.indexOf(chosen), 1)
                yield* chosen.end
              }
              if (what === "burst" && chosen !== undefined) {
                for (let i = 0; i < 5; i++) yield* fork(Effect.exit(chosen.pacer.run(demand(), attempt)))
              }
              most++
              yield* TestClock.adjust(gap)
              let sum = 0
              for (const { pacer } of pacers) {
                for (const one of (yield* pacer.snapshot).keys) if (one.inFlight + one.waiting > 0) sum += one.share
              }
              assert.isAtMost(sum, 1 + 1e-9)
            }
            yield* TestClock.adjust("1 minute")
            // Each holder that ever was may have one on credit and its part of the burst.
            for (const [i, from] of seen.entries()) {
              const within = seen.filter((at) => at >= from && at < from + 3_000).length
              assert.isAtMost(within, 30 + most + 1, `from the start ${i}`)
            }
          }).pipe(Effect.scoped, Effect.provide(TestClock.layer()), Effect.runPromise)
      ),
      { numRuns: 60 }
    ))

  it.effect("what one has learned, the other adopts when it asks again", () =>
    Effect.gen(function*() {
      const { pacers: [a, b] } = yield* together(2, { controller: RateController.adaptive({ startPerSecond: 1 }) })
      const told = Outcome.accepted({
        reading: { ...Outcome.nothingRead, limits: [{ dimension: "requests", limit: 40, ratePerSecond: 40 }] }
      })
      yield* answering(b!.pacer, demand(), Outcome.accepted())
      yield* fork(Effect.forever(answering(a!.pacer, demand(), told)))
      yield* TestClock.adjust("5 seconds")
      yield* fork(Effect.forever(b!.pacer.run(demand(), () => Effect.void)))
      yield* TestClock.adjust("2 seconds")
      const { requestsPerSecond, share } = yield* only(b!.pacer)
      assert.isAtLeast(requestsPerSecond! / share, 30)
    }))
})

describe("Pacer and its store", () => {
  it.effect("sends nothing before the store has lent a share, and then everything, in order", () =>
    Effect.gen(function*() {
      const trouble = { latency: 300, broken: false, asked: 0 }
      const { pacers: [only] } = yield* together(1, { controller: perSecond(10), store: behind(trouble) })
      const { attempt, seen } = Bench.starts()
      for (let i = 0; i < 3; i++) yield* fork(only!.pacer.run(demand(), attempt))
      yield* TestClock.adjust("5 seconds")
      // What was saved up meanwhile is a burst: 30 ms.
      assert.deepStrictEqual(seen.map(Math.round), [300, 370, 470])
      assert.strictEqual(trouble.asked, 1)
    }))

  it.effect("a store that never answered fails the calls that wait for it; the next call asks it again", () =>
    Effect.gen(function*() {
      const trouble = { latency: 100, broken: true, asked: 0 }
      const { pacers: [only] } = yield* together(1, { store: behind(trouble) })
      const first = yield* fork(only!.pacer.run(demand(), () => Effect.void))
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(reasonOf(first)._tag, "StoreUnavailable")
      trouble.broken = false
      const second = yield* fork(only!.pacer.run(demand(), () => Effect.void))
      yield* TestClock.adjust("100 millis")
      assert.isDefined(second.pollUnsafe())
    }))

  it.effect("a store that is slow to renew neither stops the calls nor is asked twice at a time", () =>
    Effect.gen(function*() {
      const trouble = { latency: 50, broken: false, asked: 0 }
      const { pacers: [a, b] } = yield* together(2, { controller: perSecond(20), store: behind(trouble) })
      const first = Bench.starts()
      yield* endless(a!.pacer, first.attempt)
      yield* endless(b!.pacer, () => Effect.void)
      yield* TestClock.adjust("2 seconds")
      first.seen.length = 0
      trouble.asked = 0
      yield* TestClock.adjust("10 seconds")
      assert.closeTo(first.seen.length, 100, 5)
      // Each of the two once in half a second and the latency, and when the other recalls a share.
      assert.isAtMost(trouble.asked, 60)
    }))

  it.effect("when the store is lost, a holder goes on with its share without a pause, and comes back with it", () =>
    Effect.gen(function*() {
      const trouble = { latency: 0, broken: false, asked: 0 }
      const { pacers: [a, b] } = yield* together(2, { controller: perSecond(20), store: behind(trouble) })
      const heard = yield* Bench.listen.pipe(Effect.provideService(Telemetry.Telemetry, a!.telemetry))
      const { attempt, seen } = Bench.starts()
      yield* endless(a!.pacer, attempt)
      yield* endless(b!.pacer, () => Effect.void)
      yield* TestClock.adjust("5 seconds")
      trouble.broken = true
      trouble.latency = 700
      yield* TestClock.adjust("5 seconds")
      seen.length = 0
      yield* TestClock.adjust("20 seconds")
      assert.closeTo(seen.length, 200, 10)
      for (const [i, at] of seen.slice(1).entries()) assert.isAtMost(at - seen[i]!, 200)
      trouble.broken = false
      trouble.latency = 0
      yield* b!.end
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* shareOf(a!.pacer), 1)
      const tags = heard.map((event) => event._tag).filter((tag) => tag.startsWith("Store"))
      assert.deepStrictEqual(tags, ["StoreLost", "StoreBack"])
    }))

  it.effect("starts from what the store remembers", () =>
    Effect.gen(function*() {
      const learner = yield* together(1, { controller: RateController.adaptive() })
      const told = Outcome.accepted({
        reading: { ...Outcome.nothingRead, limits: [{ dimension: "requests", limit: 50, ratePerSecond: 50 }] }
      })
      const pacer = learner.pacers[0]!.pacer
      yield* fork(Effect.forever(answering(pacer, demand(), told)))
      yield* TestClock.adjust("5 seconds")
      const { learned, requestsPerSecond } = yield* only(pacer)
      const start = Effect.fnUntraced(function*(ageMillis: number) {
        const store = PaceStore.layerMemory({ learned: new Map([[Bench.key.id, { learned: learned!, ageMillis }]]) })
        const { pacers } = yield* together(1, { controller: RateController.adaptive(), store })
        yield* pacers[0]!.pacer.run(demand(), () => Effect.void)
        yield* pacers[0]!.pacer.run(demand({ key: keyOf("other") }), () => Effect.void)
        const { keys } = yield* pacers[0]!.pacer.snapshot
        return keys.map((one) => one.requestsPerSecond! / requestsPerSecond!)
      })
      const [known, unknown] = yield* start(0)
      assert.isAtLeast(known!, 0.45)
      assert.isAtMost(known!, 1)
      assert.closeTo(unknown! * requestsPerSecond!, 2, 0.01)
      const [faded] = yield* start(600_000)
      assert.isBelow(faded!, known!)
    }))
})
