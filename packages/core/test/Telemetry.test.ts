import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as Outcome from "@evenkeel/core/Outcome"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"

type Service = Telemetry.Telemetry["Service"]

const opened = (atMillis: number): Telemetry.Event => ({ _tag: "KeyOpened", atMillis, key: "k" })

const times = (events: ReadonlyArray<Telemetry.Event>): ReadonlyArray<number> => events.map(({ atMillis }) => atMillis)

const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < 1_000; i++) {
      if (holds()) return
      yield* Effect.yieldNow
    }
    assert.fail("it did not happen")
  })

/** Collects a number of events; returns once the listener is heard of. */
const listen = Effect.fnUntraced(function*(telemetry: Service, count: number) {
  const fiber = yield* Effect.forkChild(Stream.runCollect(Stream.take(telemetry.events, count)))
  yield* until(telemetry.isHeard)
  return fiber
})

describe("events", () => {
  it.effect("reach whoever listens, in order, from the moment that the listener is heard of", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.Telemetry
      const fiber = yield* listen(telemetry, 3)
      for (const atMillis of [1, 2, 3]) telemetry.emit(opened(atMillis))
      assert.deepStrictEqual(times(yield* Fiber.join(fiber)), [1, 2, 3])
    }).pipe(Effect.provide(Telemetry.layer)))

  it.effect("reach every listener", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      const one = yield* listen(telemetry, 2)
      const other = yield* Effect.forkChild(Stream.runCollect(Stream.take(telemetry.events, 1)))
      telemetry.emit(opened(1))
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow
      telemetry.emit(opened(2))
      assert.deepStrictEqual(times(yield* Fiber.join(one)), [1, 2])
      assert.deepStrictEqual(times(yield* Fiber.join(other)), [2])
    }))

  it.effect("are not asked for while nobody listens, and none is kept for later", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      assert.isFalse(telemetry.isHeard())
      telemetry.emit(opened(1))
      const fiber = yield* listen(telemetry, 1)
      telemetry.emit(opened(2))
      assert.deepStrictEqual(times(yield* Fiber.join(fiber)), [2])
    }))

  it.effect("are no longer asked for once the last listener has ended, failed or been interrupted", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      const done = yield* listen(telemetry, 1)
      const interrupted = yield* listen(telemetry, 1_000)
      const failing = yield* Effect.forkChild(
        Effect.flip(Stream.runForEach(telemetry.events, () => Effect.fail("cannot go on")))
      )
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow
      telemetry.emit(opened(1))
      yield* Fiber.join(done)
      assert.strictEqual(yield* Fiber.join(failing), "cannot go on")
      assert.isTrue(telemetry.isHeard())
      yield* Fiber.interrupt(interrupted)
      assert.isFalse(telemetry.isHeard())
    }))

  it.effect("keep their newest 16,384 for a listener that has fallen behind, and lose the oldest", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      const stalled = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const heard: Array<number> = []
      const last = 20_000
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(telemetry.events, ({ atMillis }) =>
          Effect.gen(function*() {
            heard.push(atMillis)
            if (atMillis > 0) return
            yield* Deferred.succeed(stalled, undefined)
            yield* Deferred.await(goOn)
          }))
      )
      yield* until(telemetry.isHeard)
      telemetry.emit(opened(0))
      yield* Deferred.await(stalled)
      for (let atMillis = 1; atMillis <= last; atMillis++) telemetry.emit(opened(atMillis))
      yield* Deferred.succeed(goOn, undefined)
      for (let i = 0; i < 2_000; i++) yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      const kept = Array.from({ length: 16_384 }, (_, i) => last - 16_383 + i)
      assert.deepStrictEqual(heard, [0, ...kept])
    }))
})

const cost: Demand.Cost = { requests: 1, inputTokens: 100, outputTokens: 50 }

const demandOf = (options: {
  readonly origin?: string
  readonly organisation?: string
  readonly model?: string
  readonly credential?: string
  readonly workload?: string
}): Demand.Demand =>
  Demand.make({
    key: Demand.key(options.origin ?? "https://api.example", options.organisation ?? "acme", options.model ?? "llama"),
    cost,
    credential: options.credential,
    workload: options.workload
  })

describe("usage", () => {
  it.effect("is kept apart by credential, organisation, model, origin and workload", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      const ways = [
        {},
        { origin: "https://other.example" },
        { organisation: "umbrella" },
        { model: "qwen" },
        { credential: "c2" },
        { workload: "nightly" }
      ]
      for (const [i, way] of ways.entries()) {
        for (let attempt = 0; attempt <= i; attempt++) telemetry.attempted(demandOf(way), Outcome.accepted())
      }
      const records = yield* telemetry.usage
      assert.deepStrictEqual(records.map(({ attempts }) => attempts), [1, 2, 3, 4, 5, 6])
      assert.deepStrictEqual(records.at(-1), {
        origin: "https://api.example",
        organisation: "acme",
        model: "llama",
        credential: "",
        workload: "nightly",
        attempts: 6,
        accepted: 6,
        refused: 0,
        possiblyBilled: 0,
        inputTokens: 0,
        outputTokens: 0,
        wastedTokens: 0
      })
    }))

  it("never takes two combinations for one, whatever their names", () => {
    const name = fc.oneof(fc.constantFrom("", "|", "a", "a|b", "1|", "(other)"), fc.string({ maxLength: 4 }))
    const names = fc.tuple(name, name, name)
    fc.assert(
      fc.property(names, names, (one, other) => {
        const telemetry = Effect.runSync(Telemetry.make)
        for (const [model, credential, workload] of [one, other]) {
          telemetry.attempted(demandOf({ model, credential, workload }), Outcome.accepted())
        }
        const same = one.every((text, i) => text === other[i])
        assert.lengthOf(Effect.runSync(telemetry.usage), same ? 1 : 2)
      }),
      { numRuns: 100 }
    )
    const telemetry = Effect.runSync(Telemetry.make)
    telemetry.attempted(demandOf({ credential: "a|b", workload: "c" }), Outcome.accepted())
    telemetry.attempted(demandOf({ credential: "a", workload: "b|c" }), Outcome.accepted())
    assert.lengthOf(Effect.runSync(telemetry.usage), 2)
  })

  it.effect("counts each attempt once, by what became of it, and the input of those that came to nothing", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      const demand = demandOf({})
      const outcomes = [
        Outcome.accepted(),
        Outcome.accepted(),
        Outcome.limited(),
        Outcome.overloaded(),
        Outcome.unknown(),
        Outcome.failed(),
        Outcome.ignored()
      ]
      for (const outcome of outcomes) telemetry.attempted(demand, outcome)
      telemetry.used(demand, { requests: 1, inputTokens: 90, outputTokens: 400 })
      telemetry.used(demand, { requests: 1, inputTokens: 110, outputTokens: 0 })
      const [record, ...others] = yield* telemetry.usage
      assert.isEmpty(others)
      assert.deepInclude(record, {
        attempts: 7,
        accepted: 2,
        refused: 2,
        possiblyBilled: 1,
        inputTokens: 200,
        outputTokens: 400,
        wastedTokens: 5 * cost.inputTokens
      })
    }))

  it.effect("past 10,000 combinations goes to one record of the others, and those known are still kept apart", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      for (let i = 0; i < 10_050; i++) {
        telemetry.attempted(demandOf({ credential: `c${i}`, workload: "w" }), Outcome.accepted())
      }
      telemetry.attempted(demandOf({ credential: "c9999", workload: "w" }), Outcome.accepted())
      telemetry.used(demandOf({ credential: "c10049", workload: "w" }), cost)
      const records = yield* telemetry.usage
      assert.lengthOf(records, 10_001)
      const byName = new Map(records.map((record) => [record.credential, record]))
      assert.deepInclude(byName.get("c0"), { attempts: 1, workload: "w" })
      assert.deepInclude(byName.get("c9999"), { attempts: 2, inputTokens: 0 })
      assert.deepInclude(byName.get("(other)"), {
        origin: "(other)",
        organisation: "(other)",
        model: "(other)",
        workload: "(other)",
        attempts: 50,
        inputTokens: cost.inputTokens
      })
    }))

  it.effect("is a copy: what is read does not change afterwards", () =>
    Effect.gen(function*() {
      const telemetry = yield* Telemetry.make
      telemetry.attempted(demandOf({}), Outcome.accepted())
      const before = yield* telemetry.usage
      telemetry.attempted(demandOf({}), Outcome.accepted())
      assert.strictEqual(before[0]!.attempts, 1)
      assert.strictEqual((yield* telemetry.usage)[0]!.attempts, 2)
    }))
})

const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0)

const count = fc.nat()

const text = fc.string()

/** A name that an object can hold as any other. */
const name = text.filter((name) => name !== "__proto__")

const costs = fc.record({ requests: finite, inputTokens: finite, outputTokens: finite })

const nullable = <A>(of: fc.Arbitrary<A>) => fc.option(of, { nil: null })

/** What each event carries beside its instant and key. Typed, so that a new event must come here too. */
const fields: { readonly [Tag in Telemetry.Event["_tag"]]: Record<string, fc.Arbitrary<unknown>> } = {
  CallQueued: { call: count, waiting: count },
  CallStarted: { call: count, attempt: count, waitedMillis: finite, binding: nullable(text) },
  Verdict: { call: count, outcome: text, dimension: nullable(text), latencyMillis: finite },
  CallSettled: { call: count, reserved: costs, used: costs, unread: fc.boolean(), failure: fc.option(fc.string()) },
  RetryScheduled: { call: count, delayMillis: finite, reason: text },
  CallEnded: { call: count, reason: text },
  PaceChanged: {
    requestsPerSecond: nullable(finite),
    tokensPerSecond: nullable(finite),
    capacityPerSecond: nullable(finite),
    reason: text
  },
  KeyClosed: { scope: fc.constantFrom("key", "credential"), reason: text, forMillis: nullable(finite) },
  KeyOpened: {},
  KeyEvicted: {},
  ShareChanged: { share: finite, holders: count },
  StoreLost: {},
  StoreBack: {}
}

const counts = fc.record({
  calls: count,
  attempts: count,
  accepted: count,
  limited: count,
  overloaded: count,
  unknown: count,
  failed: count,
  ignored: count,
  retries: count,
  possiblyBilledTwice: count,
  unsent: count
})

const told = fc.record({
  dimension: text,
  limit: nullable(finite),
  remaining: nullable(finite),
  resetSeconds: nullable(finite),
  windowSeconds: nullable(finite)
})

const keySnapshots: fc.Arbitrary<Telemetry.KeySnapshot> = fc.record({
  key: text,
  origin: text,
  organisation: text,
  model: text,
  requestsPerSecond: nullable(finite),
  tokensPerSecond: nullable(finite),
  capacityPerSecond: nullable(finite),
  told: fc.array(told, { maxLength: 3 }),
  share: finite,
  holders: count,
  waiting: count,
  backingOff: count,
  inFlight: count,
  waitingFor: nullable(text),
  waitedSeconds: fc.dictionary(name, finite, { maxKeys: 3, noNullPrototype: true }),
  closedForMillis: nullable(finite),
  closedReason: nullable(text),
  counts,
  learned: nullable(
    fc.dictionary(name, fc.oneof(finite, text, fc.boolean(), fc.constant(null)), { noNullPrototype: true })
  )
})

const usageRecords: fc.Arbitrary<Telemetry.UsageRecord> = fc.record({
  origin: text,
  organisation: text,
  model: text,
  credential: text,
  workload: text,
  attempts: count,
  accepted: count,
  refused: count,
  possiblyBilled: count,
  inputTokens: finite,
  outputTokens: finite,
  wastedTokens: finite
})

/** The way to a page and back. */
const overTheWire = <A>(schema: Schema.Codec<A, unknown>) => {
  const encode = Schema.encodeSync(Schema.fromJsonString(schema))
  const decode = Schema.decodeUnknownSync(Schema.fromJsonString(schema))
  return (value: A): A => decode(encode(value))
}

describe("what is told", () => {
  const event = overTheWire(Telemetry.Event)

  for (const [tag, carried] of Object.entries(fields)) {
    it(`of ${tag} reads the same after JSON, and nothing of it may be left out`, () => {
      const events = fc.record({ _tag: fc.constant(tag), atMillis: finite, key: text, ...carried })
      fc.assert(
        fc.property(events, (told) => {
          assert.deepStrictEqual(event(told as Telemetry.Event), told as Telemetry.Event)
          for (const field of Object.keys(told)) {
            const { [field]: _, ...rest } = told as Record<string, unknown>
            assert.throws(() => Schema.decodeUnknownSync(Telemetry.Event)(rest))
          }
        }),
        { numRuns: 30 }
      )
    })
  }

  it("of a pacer reads the same after JSON", () => {
    const snapshot = overTheWire(Telemetry.Snapshot)
    const snapshots = fc.record({ atMillis: finite, keys: fc.array(keySnapshots, { maxLength: 3 }) })
    fc.assert(fc.property(snapshots, (told) => assert.deepStrictEqual(snapshot(told), told)))
  })

  it("of usage reads the same after JSON", () => {
    const record = overTheWire(Telemetry.UsageRecord)
    fc.assert(fc.property(usageRecords, (told) => assert.deepStrictEqual(record(told), told)))
  })

  it("is refused when it is no event", () => {
    for (
      const wrong of [{}, { _tag: "Nothing", atMillis: 0, key: "k" }, { _tag: "KeyOpened", atMillis: "0", key: "k" }]
    ) {
      assert.throws(() => Schema.decodeUnknownSync(Telemetry.Event)(wrong))
    }
  })
})
