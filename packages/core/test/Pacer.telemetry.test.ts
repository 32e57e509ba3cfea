import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as Bench from "./fixtures/pacer-bench.ts"

const { answering, demand, fork, keyOf, only, paced, perSecond } = Bench

const encode = Schema.encodeSync(Schema.fromJsonString(Telemetry.Event))
const decode = Schema.decodeSync(Schema.fromJsonString(Telemetry.Event))

const ofCall = (events: ReadonlyArray<Telemetry.Event>, call: number) =>
  events.filter((event) => "call" in event && event.call === call).map((event) => event._tag)

describe("Pacer telemetry", () => {
  it.effect("a listener sees each step of a call, in order", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const heard = yield* Bench.listen
      yield* answering(pacer, demand(), Outcome.accepted())
      const call = yield* fork(pacer.run(demand({ cost: { inputTokens: 5, outputTokens: 50 } }), (attempt) =>
        Effect.gen(function*() {
          yield* Effect.sleep("300 millis")
          attempt.used({ outputTokens: 20 })
          return attempt.number === 1 ? Outcome.overloaded() : Outcome.accepted()
        }), Bench.outcomeOf))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(call)
      assert.deepStrictEqual(ofCall(heard, 0), ["CallStarted", "Verdict", "CallSettled", "CallEnded"])
      assert.deepStrictEqual(ofCall(heard, 1), [
        "CallQueued",
        "CallStarted",
        "Verdict",
        "CallSettled",
        "RetryScheduled",
        "CallStarted",
        "Verdict",
        "CallSettled",
        "CallEnded"
      ])
      const second = heard.filter((event) =>
        "call" in event && event.call === 1
      )
      assert.deepInclude(second[0], { waiting: 1, key: Bench.key.id, atMillis: 0 })
      const started = second[1]!
      assert.deepInclude(started, { attempt: 1, binding: "requests" })
      assert.closeTo(started._tag === "CallStarted" ? started.waitedMillis : NaN, 1000, 0.01)
      assert.deepInclude(second[2], { outcome: "Overloaded", dimension: null, latencyMillis: 300 })
      assert.deepInclude(second[7], {
        reserved: { requests: 1, inputTokens: 5, outputTokens: 50 },
        used: { requests: 1, inputTokens: 5, outputTokens: 20 },
        unread: false
      })
      assert.deepInclude(second[8], { reason: "answered" })
      for (const [i, event] of heard.slice(1).entries()) assert.isAtLeast(event.atMillis, heard[i]!.atMillis)
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard }))))

  it.effect("a call that waited for nothing was bound by nothing, whoever else waited before it", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const heard = yield* Bench.listen
      const bindings = () => heard.flatMap((event) => event._tag === "CallStarted" ? [event.binding] : [])
      yield* answering(pacer, demand(), Outcome.accepted())
      const gone = yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* TestClock.adjust("10 millis")
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("1 minute")
      yield* answering(pacer, demand(), Outcome.accepted())
      yield* Effect.yieldNow
      assert.deepStrictEqual(bindings(), [null, null])
    }).pipe(Effect.provide(paced())))

  it.effect("every call that was offered leaves exactly once, however it ends", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const heard = yield* Bench.listen
      const shut = Outcome.limited({ closes: { scope: "key", forMillis: 60_000, reason: "quota" }, final: true })
      yield* answering(pacer, demand(), Outcome.ignored())
      yield* fork(answering(pacer, demand({ startWithin: "500 millis" }), Outcome.accepted()))
      yield* fork(answering(pacer, demand({ startWithin: "2 seconds" }), Outcome.limited({ retryAfterMillis: 3_000 })))
      const gone = yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* fork(answering(pacer, demand(), shut))
      yield* fork(answering(pacer, demand({ startWithin: "30 seconds" }), Outcome.accepted()))
      yield* fork(answering(pacer, demand(), Outcome.accepted()))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("5 minutes")
      const ends = heard.flatMap((event) => event._tag === "CallEnded" ? [event.call] : [])
      assert.deepStrictEqual(ends.sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7])
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard }))))

  it.effect("events are made only while somebody listens", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const telemetry = yield* Telemetry.Telemetry
      assert.isFalse(telemetry.isHeard())
      yield* answering(pacer, demand(), Outcome.accepted())
      const heard = yield* Bench.listen
      assert.isTrue(telemetry.isHeard())
      assert.deepStrictEqual(heard, [])
    }).pipe(Effect.provide(paced())))

  it("each event and each snapshot survives being written and read, whatever happened", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            outcome: fc.constantFrom("accepted", "limited", "overloaded", "unknown", "failed", "ignored"),
            dimension: fc.constantFrom("requests", "tokens", undefined),
            hint: fc.constantFrom(undefined, 0, 1_500, 7_000),
            closes: fc.constantFrom(undefined, undefined, undefined, "key", "credential"),
            forMillis: fc.constantFrom(100, 10_000, Infinity),
            limit: fc.constantFrom(undefined, 0, 3, 60),
            hold: fc.boolean(),
            model: fc.constantFrom("a", "b", "c"),
            startWithin: fc.constantFrom(undefined, 500, 20_000)
          }),
          { minLength: 1, maxLength: 15 }
        ),
        (calls) =>
          Bench.runInVirtualTime(
            Effect.gen(function*() {
              const pacer = yield* Pacer.Pacer
              const heard = yield* Bench.listen
              for (const { closes, dimension, forMillis, hint, hold, limit, model, outcome, startWithin } of calls) {
                const limits = limit === undefined ? [] : [{ dimension: dimension ?? "requests", limit }]
                const answer = Outcome[outcome as "accepted"]({
                  dimension,
                  retryAfterMillis: hint,
                  closes: closes === undefined ? undefined : { scope: closes as "key", forMillis, reason: "quota" },
                  reading: { ...Outcome.nothingRead, limits }
                })
                yield* fork(
                  Effect.exit(pacer.run(demand({ key: keyOf(model), startWithin, credential: model }), (attempt) =>
                    Effect.sync(() => {
                      if (hold) attempt.hold()
                      return answer
                    }), Bench.outcomeOf))
                )
                yield* TestClock.adjust("200 millis")
              }
              for (let round = 0; round < 3; round++) {
                const snapshot = yield* pacer.snapshot
                const text = Schema.encodeSync(Schema.fromJsonString(Telemetry.Snapshot))(snapshot)
                assert.deepStrictEqual(Schema.decodeSync(Schema.fromJsonString(Telemetry.Snapshot))(text), snapshot)
                yield* TestClock.adjust("4 minutes")
              }
              assert.isAbove(heard.length, 0)
              for (const event of heard) assert.deepStrictEqual({ ...decode(encode(event)) }, { ...event })
            }),
            { policy: RetryPolicy.standard, maxKeys: 2, controller: RateController.adaptive() }
          )
      ),
      { numRuns: 60 }
    ))

  it.effect("the snapshot says what is believed, who waits and for what", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const reading = {
        ...Outcome.nothingRead,
        limits: [{ dimension: "requests" as const, limit: 60, remaining: 12, windowSeconds: 60 }]
      }
      yield* answering(pacer, demand(), Outcome.accepted({ reading }))
      for (let i = 0; i < 3; i++) yield* fork(answering(pacer, demand(), Outcome.accepted()))
      const snapshot = yield* only(pacer)
      assert.deepInclude(snapshot, {
        key: Bench.key.id,
        model: "llama",
        requestsPerSecond: 1,
        tokensPerSecond: null,
        capacityPerSecond: null,
        share: 1,
        holders: 1,
        waiting: 3,
        waitingFor: "requests",
        told: [{ dimension: "requests", limit: 60, remaining: 12, resetSeconds: null, windowSeconds: 60 }]
      })
      yield* TestClock.adjust("10 seconds")
      const after = yield* only(pacer)
      assert.deepInclude(after, { waiting: 0, waitingFor: null })
      assert.closeTo(after.waitedSeconds["requests"]!, 1 + 2 + 3, 0.001)
    }).pipe(Effect.provide(paced({ controller: perSecond(1) }))))

  it.effect("usage is kept for each credential and workload: what was used, and what was wasted", () =>
    Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const telemetry = yield* Telemetry.Telemetry
      const asked = demand({ cost: { inputTokens: 10, outputTokens: 30 }, credential: "c", workload: "w" })
      const call = yield* fork(answering(pacer, asked, Outcome.limited(), Outcome.overloaded(), Outcome.accepted()))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(call)
      assert.deepStrictEqual(yield* telemetry.usage, [{
        origin: "https://api.example",
        organisation: "acme",
        model: "llama",
        credential: "c",
        workload: "w",
        attempts: 3,
        accepted: 1,
        refused: 2,
        possiblyBilled: 0,
        inputTokens: 10,
        outputTokens: 30,
        wastedTokens: 20
      }])
    }).pipe(Effect.provide(paced({ policy: RetryPolicy.standard }))))
})
