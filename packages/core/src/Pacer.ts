/**
 * The loop: order, spend, wait, run, observe, learn, settle.
 *
 * Here belongs all waiting of the client half. What may start is decided by `PacedKey`'s arithmetic, what is learned by
 * `RateController`, who goes next by `CallScheduler`, what is tried again by `RetryPolicy`; this module only drives them,
 * with one timer for each key. It knows no HTTP.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as CallScheduler from "./CallScheduler.ts"
import type { Demand } from "./Demand.ts"
import { type Attempt, type Held, PacerLoop } from "./internal/PacerLoop.ts"
import * as Outcome from "./Outcome.ts"
import type * as PaceError from "./PaceError.ts"
import * as PaceStore from "./PaceStore.ts"
import * as RateController from "./RateController.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import * as Telemetry from "./Telemetry.ts"

export type { Attempt, Held }

/**
 * Bounds of a pacer.
 *
 * **Units**
 *
 * `maxKeys` keys in use at once (10,000), `maxWaiting` calls waiting over all keys (1,000,000), `idleAfter` how long an
 * unused key is kept and an unread body is waited for.
 */
export interface Options {
  readonly maxKeys?: number | undefined
  readonly maxWaiting?: number | undefined
  readonly idleAfter?: Duration.Input | undefined
}

/**
 * Runs calls at the pace that each key allows.
 *
 * **Details**
 *
 * `run` starts the effect when the key's pace allows it, again after refusals as the policy says, and returns its last
 * exit as it was. An interrupted call leaves nothing behind: no place, no debt. `interpret` says which outcome an exit
 * is; without it success is *accepted* and every failure *ignored*.
 *
 * **Errors**
 *
 * `PaceError` when the call was not sent; the effect's own error passes through untouched.
 */
export class Pacer extends Context.Service<Pacer, {
  readonly run: <A, E, R>(
    demand: Demand,
    attempt: (attempt: Attempt) => Effect.Effect<A, E, R>,
    interpret?: (exit: Exit.Exit<A, E>) => Outcome.Outcome
  ) => Effect.Effect<A, E | PaceError.PaceError, R>
  readonly snapshot: Effect.Effect<Telemetry.Snapshot>
}>()("@evenkeel/core/Pacer") {}

/**
 * Makes a pacer, which ends with its scope: what waits then fails, and what was learned is published.
 *
 * **Example** (Ten calls at two per second, in virtual time)
 *
 * ```ts
 * import * as Demand from "@evenkeel/core/Demand"
 * import * as Pace from "@evenkeel/core/Pace"
 * import * as Pacer from "@evenkeel/core/Pacer"
 * import * as RateController from "@evenkeel/core/RateController"
 * import * as Clock from "effect/Clock"
 * import * as Effect from "effect/Effect"
 * import * as Fiber from "effect/Fiber"
 * import * as TestClock from "effect/testing/TestClock"
 *
 * const demand = Demand.make({ key: Demand.key("https://api.example", "acme", "llama") })
 *
 * const program = Effect.gen(function*() {
 *   const pacer = yield* Pacer.Pacer
 *   const calls = Effect.forEach(
 *     Array.from({ length: 10 }),
 *     () => pacer.run(demand, () => Clock.currentTimeMillis),
 *     { concurrency: "unbounded" }
 *   )
 *   const fiber = yield* Effect.forkChild(calls)
 *   yield* TestClock.adjust("10 seconds")
 *   return yield* Fiber.join(fiber)
 * }).pipe(
 *   Effect.provide(Pacer.layerMemory),
 *   Effect.provideService(RateController.Current, RateController.fixed({ requests: Pace.rate(2) })),
 *   Effect.provide(TestClock.layer()),
 *   Effect.scoped
 * )
 *
 * await Effect.runPromise(program) // => [0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500]
 * ```
 */
export const make = Effect.fnUntraced(function*(options?: Options) {
  const services = {
    store: yield* PaceStore.PaceStore,
    telemetry: yield* Telemetry.Telemetry,
    controller: yield* RateController.Current,
    scheduler: yield* CallScheduler.Current,
    policy: yield* RetryPolicy.Current,
    random: yield* Random.Random,
    clock: yield* Clock.Clock,
    fork: Effect.runForkWith(yield* Effect.context())
  }
  const loop = new PacerLoop(services, {
    maxKeys: options?.maxKeys ?? 10_000,
    maxWaiting: options?.maxWaiting ?? 1_000_000,
    idleMillis: Duration.toMillis(Duration.fromInputUnsafe(options?.idleAfter ?? "5 minutes"))
  })
  yield* Effect.addFinalizer(() => loop.end())
  return Pacer.of({
    run: (demand, attempt, interpret = interpretExit) => loop.run(demand, attempt, interpret),
    snapshot: loop.snapshot
  })
})

/** Provides a pacer with default bounds. */
export const layer: Layer.Layer<Pacer, never, PaceStore.PaceStore | Telemetry.Telemetry> = Layer.effect(Pacer, make())

/** Provides a pacer that shares nothing with other processes, and its telemetry. */
export const layerMemory: Layer.Layer<Pacer | Telemetry.Telemetry> = layer.pipe(
  Layer.provide(PaceStore.layerMemory()),
  Layer.provideMerge(Telemetry.layer)
)

/** Success is *accepted*; a failure says nothing about limits and is not tried again; an interruption leaves it open. */
export const interpretExit = (exit: Exit.Exit<unknown, unknown>): Outcome.Outcome =>
  Exit.isSuccess(exit) ? Outcome.accepted() : Exit.hasInterrupts(exit) ? Outcome.unknown() : Outcome.ignored()
