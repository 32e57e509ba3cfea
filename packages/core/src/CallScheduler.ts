/**
 * Which waiting call goes next.
 *
 * Here belong the contract of a scheduler, the schedulers themselves and the reference that chooses one by Layer. A
 * scheduler only orders: when a call may start belongs to `Pacer`, what it costs to `Demand`.
 *
 * **Source**
 *
 * Priority with ageing as a static key: since all calls age at the same speed, the order of two never changes while they
 * wait, so that a heap keeps it (the argument of virtual clocks, L. Zhang, SIGCOMM 1990).
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type { Demand } from "./Demand.ts"
import * as Heap from "./internal/Heap.ts"

/**
 * A call that waits for its turn.
 *
 * **Units**
 *
 * `arrivedAtMillis` on the pacing clock, kept over retries: that is its age. `deadlineAtMillis` is its latest start.
 *
 * **Details**
 *
 * `sequence` counts offers and breaks ties. `place` belongs to the queue that holds the call.
 */
export interface WaitingCall {
  readonly demand: Demand
  readonly arrivedAtMillis: number
  readonly deadlineAtMillis: number
  readonly sequence: number
  place: number
}

/**
 * The calls that wait for one key, in order.
 *
 * **Details**
 *
 * `first` is who goes next and stays until taken. `remove` forgets a call that was interrupted, at the cost of taking one.
 * Every offered call leaves exactly once, through `take` or `remove`. A queue holds what it is offered: the bound on how
 * many may wait is the pacer's, so that a retry never loses its place.
 */
export interface Queue<Call extends WaitingCall = WaitingCall> {
  readonly size: () => number
  readonly offer: (call: Call) => void
  readonly first: () => Call | undefined
  readonly take: () => Call | undefined
  readonly remove: (call: Call) => boolean
  readonly waiting: () => ReadonlyArray<Call>
}

/** Makes the queue of each key. */
export interface CallScheduler {
  readonly name: string
  readonly make: <Call extends WaitingCall>() => Queue<Call>
}

/**
 * First come, first served. A retry comes back with its age, so it goes before everything that came after it.
 */
export const fifo: CallScheduler = {
  name: "fifo",
  make: () => ordered((call) => call.sequence)
}

/**
 * Higher priority first, and nothing starves: waiting for `ageing` is worth one level of priority.
 *
 * **Units**
 *
 * `ageing` 30 seconds unless told otherwise.
 *
 * **Errors**
 *
 * Throws a `RangeError` unless `ageing` is above zero and finite.
 *
 * **Example** (Waiting makes up for rank)
 *
 * ```ts
 * import * as CallScheduler from "@evenkeel/core/CallScheduler"
 * import * as Demand from "@evenkeel/core/Demand"
 *
 * const key = Demand.key("https://api.example", "acme", "llama")
 * const call = (priority: number, arrivedAtMillis: number, sequence: number) => ({
 *   demand: Demand.make({ key, priority }),
 *   arrivedAtMillis,
 *   deadlineAtMillis: Infinity,
 *   sequence,
 *   place: -1
 * })
 *
 * const queue = CallScheduler.priority({ ageing: "10 seconds" }).make<CallScheduler.WaitingCall>()
 * queue.offer(call(0, 0, 0))
 * queue.offer(call(1, 9_000, 1))
 * queue.offer(call(1, 11_000, 2))
 *
 * const order = [queue.take(), queue.take(), queue.take()].map((taken) => taken?.sequence)
 * order // => [1, 0, 2]
 * ```
 */
export const priority = (options?: { readonly ageing?: Duration.Input | undefined }): CallScheduler => {
  const ageingMillis = Duration.toMillis(Duration.fromInputUnsafe(options?.ageing ?? defaultAgeing))
  if (!(ageingMillis > 0 && ageingMillis < Infinity)) {
    throw new RangeError(`CallScheduler.priority: ageing must be above zero and finite, got ${ageingMillis} ms`)
  }
  return {
    name: "priority",
    make: () => ordered((call) => call.arrivedAtMillis - call.demand.priority * ageingMillis)
  }
}

/** The scheduler in force, `fifo` unless a Layer says otherwise. */
export const Current = Context.Reference<CallScheduler>("@evenkeel/core/CallScheduler", {
  defaultValue: () => fifo
})

const ordered = <Call extends WaitingCall>(rank: (call: Call) => number): Queue<Call> => {
  const heap = Heap.make<Call>({
    before: (a, b) => {
      const difference = rank(a) - rank(b)
      return difference === 0 ? a.sequence < b.sequence : difference < 0
    },
    placeOf: (call) => call.place,
    setPlace: (call, place) => {
      call.place = place
    }
  })
  return {
    size: heap.size,
    offer: heap.add,
    first: heap.first,
    take: () => {
      const call = heap.first()
      if (call !== undefined) heap.remove(call)
      return call
    },
    remove: heap.remove,
    waiting: heap.elements
  }
}

/** Long beside any reasonable wait of an interactive call, short beside a job. */
const defaultAgeing: Duration.Input = "30 seconds"
