/**
 * What happened: events, the state of each key at an instant, and who used how much.
 *
 * Here belong the schemas of all three, so that a page, a file or another process can decode them, and the service that
 * carries them. Nothing here decides, and no secret is ever part of it: credentials are digests.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Cost, Demand } from "./Demand.ts"
import type { Outcome } from "./Outcome.ts"

const common = { atMillis: Schema.Number, key: Schema.String }

const aboutCall = { ...common, call: Schema.Int }

/** A rate per second; null for no limit. */
const PerSecond = Schema.NullOr(Schema.Number)

const CostSchema = Schema.Struct({
  requests: Schema.Number,
  inputTokens: Schema.Number,
  outputTokens: Schema.Number
})

/**
 * One thing that happened.
 *
 * **Shape**
 *
 * | event | when |
 * | --- | --- |
 * | `CallQueued` | a call could not start at once; `waiting` counts those in front and itself |
 * | `CallStarted` | an attempt left; `binding` is the sum that it waited for |
 * | `Verdict` | headers came, or failed to |
 * | `CallSettled` | the body ended; `unread` says that nobody read it in time, `failure` which error it carried |
 * | `RetryScheduled` | the call will be tried again |
 * | `CallEnded` | the call left the pacer |
 * | `PaceChanged` | what we believe the key allows changed, with the reason |
 * | `KeyClosed`, `KeyOpened` | nothing is sent for a while |
 * | `KeyEvicted` | an idle key was forgotten; what it learned is in the store |
 * | `ShareChanged` | this pacer's part of the key's pace changed |
 * | `StoreLost`, `StoreBack` | the store stopped answering, or answers again |
 *
 * **Units**
 *
 * `atMillis` on the pacing clock, whose origin is arbitrary; rates per second, null for no limit.
 */
export const Event = Schema.Union([
  Schema.TaggedStruct("CallQueued", { ...aboutCall, waiting: Schema.Int }),
  Schema.TaggedStruct("CallStarted", {
    ...aboutCall,
    attempt: Schema.Int,
    waitedMillis: Schema.Number,
    binding: Schema.NullOr(Schema.String)
  }),
  Schema.TaggedStruct("Verdict", {
    ...aboutCall,
    outcome: Schema.String,
    dimension: Schema.NullOr(Schema.String),
    latencyMillis: Schema.Number
  }),
  Schema.TaggedStruct("CallSettled", {
    ...aboutCall,
    reserved: CostSchema,
    used: CostSchema,
    unread: Schema.Boolean,
    failure: Schema.NullOr(Schema.String)
  }),
  Schema.TaggedStruct("RetryScheduled", { ...aboutCall, delayMillis: Schema.Number, reason: Schema.String }),
  Schema.TaggedStruct("CallEnded", { ...aboutCall, reason: Schema.String }),
  Schema.TaggedStruct("PaceChanged", {
    ...common,
    requestsPerSecond: PerSecond,
    tokensPerSecond: PerSecond,
    capacityPerSecond: PerSecond,
    reason: Schema.String
  }),
  Schema.TaggedStruct("KeyClosed", {
    ...common,
    scope: Schema.Literals(["key", "credential"]),
    reason: Schema.String,
    forMillis: Schema.NullOr(Schema.Number)
  }),
  Schema.TaggedStruct("KeyOpened", common),
  Schema.TaggedStruct("KeyEvicted", common),
  Schema.TaggedStruct("ShareChanged", { ...common, share: Schema.Number, holders: Schema.Int }),
  Schema.TaggedStruct("StoreLost", common),
  Schema.TaggedStruct("StoreBack", common)
])

/** One thing that happened. */
export type Event = typeof Event.Type

/**
 * Attempts and calls of one key since the pacer began with it.
 *
 * **Details**
 *
 * Outcomes count attempts, by the verdict at the headers. `possiblyBilledTwice` counts attempts sent again after one whose
 * end is unknown, `unsent` calls that failed with a `PaceError`.
 */
export const Counts = Schema.Struct({
  calls: Schema.Int,
  attempts: Schema.Int,
  accepted: Schema.Int,
  limited: Schema.Int,
  overloaded: Schema.Int,
  unknown: Schema.Int,
  failed: Schema.Int,
  ignored: Schema.Int,
  retries: Schema.Int,
  possiblyBilledTwice: Schema.Int,
  unsent: Schema.Int
})

/** Attempts and calls of one key since the pacer began with it. */
export type Counts = typeof Counts.Type

/**
 * One key at an instant.
 *
 * **Units**
 *
 * Rates per second, null for no limit; `told` is the newest limit that the provider told, as it told it.
 *
 * **Details**
 *
 * `waitingFor` is the sum that the next call waits for. `waitedSeconds` is what calls spent waiting for each sum so far. `learned` is what a `PaceStore` starts from next time.
 */
export const KeySnapshot = Schema.Struct({
  key: Schema.String,
  origin: Schema.String,
  organisation: Schema.String,
  model: Schema.String,
  requestsPerSecond: PerSecond,
  tokensPerSecond: PerSecond,
  capacityPerSecond: PerSecond,
  told: Schema.Array(Schema.Struct({
    dimension: Schema.String,
    limit: Schema.NullOr(Schema.Number),
    remaining: Schema.NullOr(Schema.Number),
    resetSeconds: Schema.NullOr(Schema.Number),
    windowSeconds: Schema.NullOr(Schema.Number)
  })),
  share: Schema.Number,
  holders: Schema.Int,
  waiting: Schema.Int,
  backingOff: Schema.Int,
  inFlight: Schema.Int,
  waitingFor: Schema.NullOr(Schema.String),
  waitedSeconds: Schema.Record(Schema.String, Schema.Number),
  closedForMillis: Schema.NullOr(Schema.Number),
  closedReason: Schema.NullOr(Schema.String),
  counts: Counts,
  learned: Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown))
})

/** One key at an instant. */
export type KeySnapshot = typeof KeySnapshot.Type

/** A pacer at an instant. */
export const Snapshot = Schema.Struct({
  atMillis: Schema.Number,
  keys: Schema.Array(KeySnapshot)
})

/** A pacer at an instant. */
export type Snapshot = typeof Snapshot.Type

/**
 * Who used how much: one record for each credential, organisation, model and workload.
 *
 * **Units**
 *
 * Counts of attempts and tokens. `wastedTokens` are input tokens of attempts that were not accepted. `possiblyBilled`
 * counts attempts whose outcome is unknown.
 */
export const UsageRecord = Schema.Struct({
  origin: Schema.String,
  organisation: Schema.String,
  model: Schema.String,
  credential: Schema.String,
  workload: Schema.String,
  attempts: Schema.Int,
  accepted: Schema.Int,
  refused: Schema.Int,
  possiblyBilled: Schema.Int,
  inputTokens: Schema.Number,
  outputTokens: Schema.Number,
  wastedTokens: Schema.Number
})

/** Who used how much. */
export type UsageRecord = typeof UsageRecord.Type

/**
 * Carries events and keeps usage.
 *
 * **Details**
 *
 * `isHeard` is false while nobody listens, so that an event that nobody reads is never made. A listener that falls more
 * than 16,384 events behind loses the oldest. Usage is kept for 10,000 combinations; what comes after is added to one
 * record whose names are `(other)`.
 */
export class Telemetry extends Context.Service<Telemetry, {
  readonly isHeard: () => boolean
  readonly emit: (event: Event) => void
  readonly events: Stream.Stream<Event>
  readonly attempted: (demand: Demand, outcome: Outcome, revises?: boolean) => void
  readonly used: (demand: Demand, used: Cost) => void
  readonly usage: Effect.Effect<ReadonlyArray<UsageRecord>>
}>()("@evenkeel/core/Telemetry") {}

/** Makes a `Telemetry`. */
export const make: Effect.Effect<Telemetry["Service"]> = Effect.gen(function*() {
  const pubsub = yield* PubSub.sliding<Event>(eventCapacity)
  let listeners = 0
  const records = new Map<string, Mutable<UsageRecord>>()

  const recordOf = (demand: Demand): Mutable<UsageRecord> => {
    // The length keeps "a|b" with "c" apart from "a" with "b|c".
    const id = `${demand.key.id}|${demand.credential.length}|${demand.credential}|${demand.workload}`
    const found = records.get(id) ?? (records.size < usageCapacity ? undefined : records.get(otherId))
    if (found !== undefined) return found
    const other = records.size >= usageCapacity
    const name = (text: string): string => other ? "(other)" : text
    const record: Mutable<UsageRecord> = {
      origin: name(demand.key.origin),
      organisation: name(demand.key.organisation),
      model: name(demand.key.model),
      credential: name(demand.credential),
      workload: name(demand.workload),
      attempts: 0,
      accepted: 0,
      refused: 0,
      possiblyBilled: 0,
      inputTokens: 0,
      outputTokens: 0,
      wastedTokens: 0
    }
    records.set(other ? otherId : id, record)
    return record
  }

  return Telemetry.of({
    isHeard: () => listeners > 0,
    emit: (event) => {
      if (listeners === 0) return
      // When full, `publishUnsafe` would lose this event, the newest; `publish` lets go of the oldest and never waits.
      if (!PubSub.publishUnsafe(pubsub, event)) Effect.runSync(PubSub.publish(pubsub, event))
    },
    events: Stream.unwrap(Effect.acquireRelease(
      Effect.sync(() => {
        listeners++
        return Stream.fromPubSub(pubsub)
      }),
      () =>
        Effect.sync(() => {
          listeners--
        })
    )),
    attempted: (demand, outcome, revises) => {
      const record = recordOf(demand)
      if (revises === true) record.accepted--
      else record.attempts++
      if (outcome._tag === "Accepted") {
        record.accepted++
        return
      }
      if (outcome._tag === "Limited" || outcome._tag === "Overloaded") record.refused++
      if (outcome._tag === "Unknown") record.possiblyBilled++
      record.wastedTokens += demand.cost.inputTokens
    },
    used: (demand, used) => {
      const record = recordOf(demand)
      record.inputTokens += used.inputTokens
      record.outputTokens += used.outputTokens
    },
    usage: Effect.sync(() => [...records.values()].map((record) => ({ ...record })))
  })
})

/** Provides a `Telemetry`. */
export const layer: Layer.Layer<Telemetry> = Layer.effect(Telemetry, make)

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

/** Events a listener may fall behind before it loses the oldest. */
const eventCapacity = 16_384

/** Combinations of credential, organisation, model and workload that are kept apart. */
const usageCapacity = 10_000

const otherId = "(other)"
