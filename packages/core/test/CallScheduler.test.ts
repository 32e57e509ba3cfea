import { assert, describe, it } from "@effect/vitest"
import * as CallScheduler from "@evenkeel/core/CallScheduler"
import * as Demand from "@evenkeel/core/Demand"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"

const key = Demand.key("https://api.example", "acme", "llama")

const call = (sequence: number, arrivedAtMillis = 0, priority = 0): CallScheduler.WaitingCall => ({
  demand: Demand.make({ key, priority }),
  arrivedAtMillis,
  deadlineAtMillis: Infinity,
  sequence,
  place: -1
})

const drain = (queue: CallScheduler.Queue): ReadonlyArray<number> => {
  const order: Array<number> = []
  for (let taken = queue.take(); taken !== undefined; taken = queue.take()) order.push(taken.sequence)
  return order
}

const ageingMillis = 10_000

/** How a scheduler ought to choose, said as plainly as can be: the highest urgency now, then the first offered. */
const schedulers = [
  { scheduler: CallScheduler.fifo, urgency: () => 0 },
  {
    scheduler: CallScheduler.priority({ ageing: ageingMillis }),
    urgency: (call: CallScheduler.WaitingCall, now: number) =>
      call.demand.priority * ageingMillis + (now - call.arrivedAtMillis)
  }
]

/** A naive queue: an array, searched anew each time. */
interface Model {
  readonly urgency: (call: CallScheduler.WaitingCall, now: number) => number
  readonly left: Map<CallScheduler.WaitingCall, number>
  waiting: Array<CallScheduler.WaitingCall>
  backingOff: Array<CallScheduler.WaitingCall>
  offers: number
  sequence: number
  now: number
}

type Real = CallScheduler.Queue

type Command = fc.Command<Model, Real>

const next = ({ now, urgency, waiting }: Model): CallScheduler.WaitingCall | undefined => {
  let best: CallScheduler.WaitingCall | undefined
  for (const call of waiting) {
    const more = best === undefined ? 1 : urgency(call, now) - urgency(best, now)
    if (more > 0 || (more === 0 && call.sequence < best!.sequence)) best = call
  }
  return best
}

const leave = (model: Model, call: CallScheduler.WaitingCall): void => {
  model.waiting = model.waiting.filter((waiting) => waiting !== call)
  model.left.set(call, (model.left.get(call) ?? 0) + 1)
}

const check = (model: Model, queue: Real): void => {
  assert.strictEqual(queue.size(), model.waiting.length)
  assert.sameMembers([...queue.waiting()], model.waiting)
  assert.strictEqual(queue.first(), next(model))
}

const passed = fc.integer({ min: 0, max: 15_000 })

const command = (said: string, can: (model: Model) => boolean, run: (model: Model, queue: Real) => void): Command => ({
  check: can,
  run: (model, queue) => {
    run(model, queue)
    check(model, queue)
  },
  toString: () => said
})

const commands = fc.commands([
  fc.tuple(fc.integer({ min: -2, max: 3 }), passed).map(([priority, millis]) =>
    command(`offer ${priority} after ${millis} ms`, () => true, (model, queue) => {
      model.now += millis
      const offered = call(model.sequence++, model.now, priority)
      model.waiting.push(offered)
      model.offers++
      queue.offer(offered)
    })
  ),
  fc.boolean().map((retries) =>
    command(`take${retries ? ", to be tried again" : ""}`, () => true, (model, queue) => {
      const expected = next(model)
      const taken = queue.take()
      assert.strictEqual(taken, expected)
      if (taken === undefined) return
      leave(model, taken)
      if (retries) model.backingOff.push(taken)
    })
  ),
  fc.tuple(fc.nat(), passed).map(([pick, millis]) =>
    command(`offer a retry (${pick}) with its age`, (model) => model.backingOff.length > 0, (model, queue) => {
      model.now += millis
      const [back] = model.backingOff.splice(pick % model.backingOff.length, 1)
      model.waiting.push(back!)
      model.offers++
      queue.offer(back!)
    })
  ),
  fc.nat().map((pick) =>
    command(`interrupt ${pick}`, (model) => model.waiting.length > 0, (model, queue) => {
      const gone = model.waiting[pick % model.waiting.length]!
      assert.isTrue(queue.remove(gone))
      leave(model, gone)
    })
  ),
  fc.nat().map((pick) =>
    command(
      `interrupt one that does not wait (${pick})`,
      (model) => [...model.left.keys()].some((call) => !model.waiting.includes(call)),
      (model, queue) => {
        const gone = [...model.left.keys()].filter((call) => !model.waiting.includes(call))
        assert.isFalse(queue.remove(gone[pick % gone.length]!))
      }
    )
  )
], { maxCommands: 100 })

describe("every scheduler", () => {
  for (const { scheduler, urgency } of schedulers) {
    it(`${scheduler.name} does what a sorted list would do, and each call leaves once for each offer`, () => {
      fc.assert(
        fc.property(commands, (commands) => {
          const queue = scheduler.make()
          const model: Model = {
            urgency,
            left: new Map(),
            waiting: [],
            backingOff: [],
            offers: 0,
            sequence: 0,
            now: 0
          }
          fc.modelRun(() => ({ model, real: queue }), commands)
          for (let taken = queue.take(); taken !== undefined; taken = queue.take()) leave(model, taken)
          assert.isEmpty(model.waiting)
          assert.strictEqual([...model.left.values()].reduce((sum, times) => sum + times, 0), model.offers)
        }),
        { numRuns: 200 }
      )
    })
  }

  it("keeps the queues of two keys apart", () => {
    for (const { scheduler } of schedulers) {
      const one = scheduler.make()
      const other = scheduler.make()
      const waiting = call(0)
      one.offer(waiting)
      assert.deepStrictEqual([one.size(), other.size()], [1, 0])
      assert.isFalse(other.remove(waiting))
      assert.strictEqual(other.first(), undefined)
      assert.strictEqual(one.take(), waiting)
    }
  })
})

describe("first come, first served", () => {
  it("knows no rank", () => {
    const queue = CallScheduler.fifo.make()
    for (const [sequence, priority] of [0, 9, -9, 3].entries()) queue.offer(call(sequence, sequence, priority))
    assert.deepStrictEqual(drain(queue), [0, 1, 2, 3])
  })

  it("lets a retry go before everything that came after it", () => {
    const queue = CallScheduler.fifo.make()
    for (let sequence = 0; sequence < 5; sequence++) queue.offer(call(sequence, sequence))
    const first = queue.take()!
    const second = queue.take()!
    queue.offer(second)
    queue.offer(first)
    assert.deepStrictEqual(drain(queue), [0, 1, 2, 3, 4])
  })
})

describe("priority", () => {
  it("lets the higher rank go first, and the first come among equals", () => {
    const queue = CallScheduler.priority().make()
    for (const [sequence, priority] of [0, 2, 1, 2, 0, 1].entries()) queue.offer(call(sequence, 0, priority))
    assert.deepStrictEqual(drain(queue), [1, 3, 2, 5, 0, 4])
  })

  it("lets nothing starve: under a stream of higher rank a call waits as long as its ageing makes up for", () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1_000, max: 20_000 }), (rank, ageing) => {
      const queue = CallScheduler.priority({ ageing }).make()
      queue.offer(call(0, 0, 0))
      let sequence = 1
      for (let second = 0;; second++) {
        // Two arrive each second and one is served, so that those of higher rank alone would never be done.
        for (let i = 0; i < 2; i++) queue.offer(call(sequence++, second * 1000, rank))
        if (queue.take()!.sequence !== 0) continue
        // Before it go those that came less than rank * ageing after it, two for each second, one served each second.
        const overtaking = 2 * (Math.floor((rank * ageing - 1) / 1000) + 1)
        assert.strictEqual(second, overtaking)
        return
      }
    }))
  })

  it("ages by 30 seconds for a level of rank unless told", () => {
    const order = (gapMillis: number) => {
      const queue = CallScheduler.priority().make()
      queue.offer(call(0, 0, 0))
      queue.offer(call(1, gapMillis, 1))
      return drain(queue)
    }
    assert.deepStrictEqual(order(29_999), [1, 0])
    assert.deepStrictEqual(order(30_000), [0, 1])
  })

  it("is refused an ageing that is not above zero and finite", () => {
    for (const ageing of [0, -1, NaN, Infinity]) {
      assert.throws(() => CallScheduler.priority({ ageing }), RangeError, "ageing")
    }
  })
})

describe("the scheduler in force", () => {
  it.effect("is first come, first served unless a Layer says otherwise", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* CallScheduler.Current, CallScheduler.fifo)
      const ranked = CallScheduler.priority()
      const other = yield* Effect.provideService(CallScheduler.Current, CallScheduler.Current, ranked)
      assert.strictEqual(other, ranked)
    }))
})
