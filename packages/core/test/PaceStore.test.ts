import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as PaceStoreSuite from "@evenkeel/core/testing/PaceStoreSuite"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"

const keyOf = (model: string): Demand.Key => Demand.key("https://api.example", "acme", model)

const key = keyOf("llama")

type Store = PaceStore.PaceStore["Service"]

/** Runs a check while virtual time passes. */
const whileTimePasses = <A, E, R>(check: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(check)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.join(fiber)
  })

const memory = (options?: Parameters<typeof PaceStore.layerMemory>[0]) => Effect.provide(PaceStore.layerMemory(options))

describe("the store in memory keeps the law", () => {
  for (const { check, name } of PaceStoreSuite.laws) {
    it.effect(name, () => whileTimePasses(check).pipe(memory()))
  }
})

describe("the laws catch a store that", () => {
  /** A store with one fault, and the law that must see it. */
  const faults: ReadonlyArray<{
    readonly does: string
    readonly law: string
    readonly faulty: (store: Store) => Partial<Store>
    readonly clock?: "stopped"
  }> = [
    {
      does: "lends everything to everybody",
      law: "live shares sum to at most 1, whoever borrows and gives back in whatever order",
      faulty: (store) => ({ borrow: (key, request) => lending(store.borrow(key, request), () => ({ share: 1 })) })
    },
    {
      does: "lends a sole holder no more than it demands",
      law: "a sole holder has everything, whatever it demands",
      faulty: (store) => ({
        borrow: (key, request) =>
          lending(store.borrow(key, request), ({ share }) => ({ share: Math.min(share, request.demand) }))
      })
    },
    {
      does: "lends nobody more than an equal part, whatever others leave",
      law: "what one does not use goes to those who demand it",
      faulty: (store) => ({
        borrow: (key, request) =>
          lending(store.borrow(key, request), ({ holders, share }) => ({ share: Math.min(share, 1 / holders) }))
      })
    },
    {
      does: "lends in proportion to demand, so that who asks for more has more",
      law: "nobody goes short while another has more",
      faulty: proportional
    },
    {
      does: "lends nothing to whom demands too much",
      law: "nobody gets less than an equal part unless it demands less",
      faulty: (store) => ({
        borrow: (key, request) =>
          lending(store.borrow(key, request), ({ share }) => ({ share: request.demand > 1 ? 0 : share }))
      })
    },
    {
      does: "never lends a holder more than it held before",
      law: "a holder that demands less makes room, and one that demands more again gets it back",
      faulty: (store) => ({
        borrow: (key, request) =>
          lending(store.borrow(key, request), ({ holders, share }) => ({
            share: holders > 1 && request.held > 0 ? Math.min(share, request.held) : share
          }))
      })
    },
    {
      does: "takes nothing back",
      law: "a share given back is available at once",
      faulty: () => ({ giveBack: () => Effect.void })
    },
    {
      does: "takes back what another holds",
      law: "giving back what one does not hold changes nothing",
      faulty: (store) => ({
        giveBack: (key, holder) =>
          holder === "a stranger"
            ? Effect.ignore(store.borrow(key, { holder: "somebody else", held: 0, demand: 1 }))
            : store.giveBack(key, holder)
      })
    },
    {
      does: "recalls nobody",
      law: "a holder that joins gets its part, because the others are recalled or their leases end",
      faulty: (store) => ({ borrow: (key, request) => store.borrow(key, { ...request, recall: () => {} }) })
    },
    {
      does: "lends for ever",
      law: "a loan that cannot be recalled ends",
      faulty: (store) => ({
        borrow: (key, request) => lending(store.borrow(key, request), () => ({ validForMillis: Infinity }))
      })
    },
    {
      does: "forgets that time passes when leases end",
      law: "a holder that does not ask again loses its share when its lease ends, and not before",
      faulty: () => ({}),
      clock: "stopped"
    },
    {
      does: "forgets that time passes while lessons age",
      law: "a lesson's age counts from when it was published",
      faulty: () => ({}),
      clock: "stopped"
    },
    {
      does: "takes every lesson",
      law: "of two who publish on one epoch one wins, and the other is handed what the winner learned",
      faulty: takingAll
    },
    { does: "lets all win", law: "of many who publish at the same time exactly one wins", faulty: takingAll },
    {
      does: "does not say what the winner learned",
      law: "of two who publish on one epoch one wins, and the other is handed what the winner learned",
      faulty: (store) => ({
        publish: (key, epoch, learned) =>
          Effect.map(store.publish(key, epoch, learned), (published) =>
            published._tag === "Newer"
              ? { _tag: "Newer", lesson: { ...published.lesson, learned: undefined } }
              : published)
      })
    },
    {
      does: "forgets what a holder learned when it leaves",
      law: "what was learned outlives the holder who learned it",
      faulty: (store) => ({
        giveBack: (key, holder) =>
          Effect.flatMap(
            Effect.orDie(store.borrow(key, { holder, held: 0, demand: 0 })),
            ({ epoch }) => Effect.andThen(Effect.ignore(store.publish(key, epoch, {})), store.giveBack(key, holder))
          )
      })
    },
    {
      does: "takes all keys for one",
      law: "keys share nothing",
      faulty: (store) => ({
        borrow: (_, request) => store.borrow(key, request),
        publish: (_, epoch, learned) => store.publish(key, epoch, learned)
      })
    }
  ]

  for (const { clock, does, faulty, law } of faults) {
    it.effect(does, () => {
      const store = Layer.effect(
        PaceStore.PaceStore,
        Effect.map(PaceStore.PaceStore, (store) => PaceStore.PaceStore.of({ ...store, ...faulty(store) }))
      ).pipe(Layer.provide(clock === "stopped" ? stoppedMemory : PaceStore.layerMemory()))
      const { check } = PaceStoreSuite.laws.find(({ name }) => name === law)!
      return Effect.gen(function*() {
        const error = yield* Effect.flip(whileTimePasses(check))
        assert.instanceOf(error, PaceStoreSuite.LawBroken)
        assert.strictEqual(error.law, law)
        assert.include(error.message, law)
      }).pipe(Effect.provide(store))
    })
  }

  it("breaks any one of them", () => {
    assert.sameMembers([...new Set(faults.map(({ law }) => law))], PaceStoreSuite.laws.map(({ name }) => name))
  })
})

describe("the store in memory", () => {
  const borrow = (holder: string, demand: number, recall: () => void = () => {}, of: Demand.Key = key) =>
    Effect.flatMap(PaceStore.PaceStore, (store) => store.borrow(of, { holder, held: 0, demand, recall }))

  it.effect("lends to one alone for ever, and to one of several for a while", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* borrow("a", 1)).validForMillis, Infinity)
      yield* TestClock.adjust("30 days")
      const joined = yield* borrow("b", 1)
      assert.strictEqual(joined.share, 0)
      assert.strictEqual(joined.validForMillis, 1_000)
    }).pipe(memory()))

  it.effect("recalls whoever has more than its part when a holder joins, which then has its own at once", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<PaceStore.PaceStore>()
      const shares: Array<number> = []
      const again = () => {
        shares.push(Effect.runSyncWith(context)(borrow("a", 2, again)).share)
      }
      again()
      const joined = yield* borrow("b", 2)
      assert.deepStrictEqual([...shares, joined.share], [1, 0.5, 0.5])
      yield* borrow("b", 2)
      assert.lengthOf(shares, 2, "who has no more than its part is left alone")
    }).pipe(memory()))

  it.effect("lets the part of a holder go that was recalled and never asked again", () =>
    Effect.gen(function*() {
      yield* borrow("silent", 2)
      assert.strictEqual((yield* borrow("b", 2)).share, 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* borrow("b", 2)).share, 1)
    }).pipe(memory()))

  it.effect("starts from what was learned before, as old as it is by now", () => {
    const learned = new Map([[key.id, { learned: { rate: 7 }, ageMillis: 60_000 }]])
    return Effect.gen(function*() {
      yield* TestClock.adjust("5 seconds")
      const known = yield* borrow("a", 1)
      assert.deepStrictEqual(known.learned, { rate: 7 })
      assert.strictEqual(known.ageMillis, 65_000)
      const unknown = yield* borrow("a", 1, undefined, keyOf("another"))
      assert.strictEqual(unknown.learned, undefined)
      const store = yield* PaceStore.PaceStore
      assert.strictEqual((yield* store.publish(key, known.epoch, { rate: 8 }))._tag, "Accepted")
      const newer = yield* borrow("a", 1)
      assert.deepStrictEqual([newer.learned, newer.ageMillis], [{ rate: 8 }, 0])
    }).pipe(memory({ learned }))
  })

  it.effect("past its bound forgets the key asked for longest ago that nobody holds, and only such keys", () =>
    Effect.gen(function*() {
      const store = yield* PaceStore.PaceStore
      const learn = Effect.fnUntraced(function*(model: string) {
        const { epoch } = yield* borrow("a", 1, undefined, keyOf(model))
        yield* store.publish(keyOf(model), epoch, { model })
      })
      const known = (model: string) =>
        Effect.map(borrow("b", 1, undefined, keyOf(model)), ({ learned }) => learned !== undefined)
      for (const model of ["held", "newer", "oldest"]) yield* learn(model)
      yield* store.giveBack(keyOf("oldest"), "a")
      assert.isTrue(yield* known("newer"))
      for (const holder of ["a", "b"]) yield* store.giveBack(keyOf("newer"), holder)
      yield* learn("one too many")
      assert.isTrue(yield* known("held"))
      assert.isTrue(yield* known("newer"))
      assert.isTrue(yield* known("one too many"))
      assert.isFalse(yield* known("oldest"))
    }).pipe(memory({ maxKeys: 3 })))

  it.effect("past its bound forgets a key too whose holders let their leases end", () =>
    Effect.gen(function*() {
      const store = yield* PaceStore.PaceStore
      const { epoch } = yield* borrow("a", 1)
      yield* borrow("b", 1)
      yield* borrow("a", 1)
      yield* store.publish(key, epoch, { rate: 1 })
      yield* TestClock.adjust("1 second")
      yield* borrow("a", 1, undefined, keyOf("another"))
      assert.strictEqual((yield* borrow("a", 1)).learned, undefined)
    }).pipe(memory({ maxKeys: 1 })))

  it("never lends more than the whole, however holders come, go, fall silent and time passes", () => {
    const holder = fc.constantFrom("a", "b", "c", "d")
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          does: fc.constant("ask" as const),
          holder,
          demand: fc.double({ min: 0, max: 3, noNaN: true })
        })
      },
      { weight: 1, arbitrary: fc.record({ does: fc.constant("leave" as const), holder }) },
      {
        weight: 2,
        arbitrary: fc.record({
          does: fc.constant("pass" as const),
          millis: fc.oneof(fc.nat({ max: 1_500 }), fc.constantFrom(999, 1_000))
        })
      }
    )
    return fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, obeys) =>
        Effect.runPromise(
          Effect.gen(function*() {
            const store = yield* PaceStore.PaceStore
            const context = yield* Effect.context()
            const live = new Map<string, Live>()
            let now = 0
            const ask = (holder: string, demand: number): Effect.Effect<void> =>
              Effect.gen(function*() {
                const recall = () => {
                  if (obeys) Effect.runSyncWith(context)(ask(holder, demand))
                  else live.set(holder, ending(live.get(holder)!, now))
                }
                const loan = yield* Effect.orDie(store.borrow(key, { holder, held: 0, demand, recall }))
                live.set(holder, { share: loan.share, untilMillis: now + loan.validForMillis })
              })
            for (const step of steps) {
              if (step.does === "pass") {
                now += step.millis
                yield* TestClock.adjust(step.millis)
              }
              if (step.does === "ask") yield* ask(step.holder, step.demand)
              if (step.does === "leave") {
                live.delete(step.holder)
                yield* store.giveBack(key, step.holder)
              }
              const shares = [...live.values()].filter(({ untilMillis }) => untilMillis > now).map(({ share }) => share)
              assert.isAtMost(shares.reduce((sum, share) => sum + share, 0), 1 + 1e-9)
            }
          }).pipe(memory(), Effect.provide(TestClock.layer()))
        ))
    )
  })
})

describe("dealing by max-min", () => {
  const demands = fc.array(
    fc.oneof(fc.double({ min: 0, max: 3, noNaN: true }), fc.constant(0.25), fc.constant(Infinity)),
    {
      minLength: 1,
      maxLength: 12
    }
  )

  it("gives Doorman's shares", () => {
    // youtube/doorman algorithm_test.go, FairShare; its subclients are holders with an equal part of the wants.
    const vectors = [
      { capacity: 120, wants: [1000, 60, 10], clients: [1, 1, 1], gets: [55, 55, 10] },
      { capacity: 120, wants: [1000, 50, 10], clients: [1, 1, 1], gets: [60, 50, 10] },
      { capacity: 120, wants: [1000, 500, 200], clients: [6, 4, 2], gets: [60, 40, 20] },
      { capacity: 1000, wants: [2000, 500, 700], clients: [10, 10, 30], gets: [200, 200, 600] }
    ]
    for (const { capacity, clients, gets, wants } of vectors) {
      const owners = clients.flatMap((count, owner) => Array.from({ length: count }, () => owner))
      const shares = PaceStore.maxMin(owners.map((owner) => wants[owner]! / clients[owner]! / capacity))
      const got = wants.map((_, owner) => shares.reduce((sum, share, i) => owners[i] === owner ? sum + share : sum, 0))
      for (const [i, part] of got.entries()) assert.closeTo(part * capacity, gets[i]!, 1e-9)
    }
  })

  it("deals out exactly the whole", () => {
    fc.assert(fc.property(demands, (demands) => {
      const shares = PaceStore.maxMin(demands)
      assert.lengthOf(shares, demands.length)
      assert.closeTo(shares.reduce((sum, share) => sum + share, 0), 1, 1e-12)
      for (const share of shares) assert.isAtLeast(share, 0)
    }))
    assert.deepStrictEqual(PaceStore.maxMin([]), [])
  })

  it("gives nobody less than an equal part unless it demands less, and nobody more than it demands while any is short", () => {
    fc.assert(fc.property(demands, (demands) => {
      const shares = PaceStore.maxMin(demands)
      const short = shares.some((share, i) => share < demands[i]! - 1e-9)
      for (const [i, share] of shares.entries()) {
        assert.isAtLeast(share, Math.min(demands[i]!, 1 / demands.length) - 1e-12)
        if (short) assert.isAtMost(share, demands[i]! + 1e-9)
        if (share < demands[i]! - 1e-9) assert.closeTo(share, Math.max(...shares), 1e-9)
      }
    }))
  })

  it("deals what nobody demands equally", () => {
    assert.deepStrictEqual(PaceStore.maxMin([0, 0]), [0.5, 0.5])
    assert.deepStrictEqual(PaceStore.maxMin([0.25, 0.25]), [0.5, 0.5])
    const shares = PaceStore.maxMin([0.125, 0.375, 0])
    assert.deepStrictEqual(shares.map((share) => Math.round(share * 24e9) / 1e9), [7, 13, 4])
  })
})

/** The store in memory, for which no time ever passes. */
const stoppedMemory = Layer.unwrap(Effect.map(Clock.Clock, (clock) => {
  const stopped: Clock.Clock = Object.assign(Object.create(clock), { monotonicTimeNanosUnsafe: () => 0n })
  return PaceStore.layerMemory().pipe(Layer.provide(Layer.succeed(Clock.Clock, stopped)))
}))

interface Live {
  readonly share: number
  readonly untilMillis: number
}

/** What is recalled ends with the lease that one of several would have had. */
const ending = ({ share, untilMillis }: Live, now: number): Live => ({
  share,
  untilMillis: Math.min(untilMillis, now + 1_000)
})

function lending(
  loan: ReturnType<Store["borrow"]>,
  change: (loan: PaceStore.Loan) => Partial<PaceStore.Loan>
): ReturnType<Store["borrow"]> {
  return Effect.map(loan, (loan) => ({ ...loan, ...change(loan) }))
}

function takingAll(store: Store): Partial<Store> {
  return {
    publish: (key, epoch, learned) =>
      Effect.flatMap(
        store.publish(key, epoch, learned),
        (published) =>
          published._tag === "Newer" ? store.publish(key, published.lesson.epoch, learned) : Effect.succeed(published)
      )
  }
}

function proportional(): Partial<Store> {
  const demands = new Map<string, Map<string, number>>()
  return {
    borrow: (key, { demand, holder }) =>
      Effect.sync(() => {
        const all = demands.get(key.id) ?? new Map<string, number>()
        demands.set(key.id, all.set(holder, demand))
        const total = [...all.values()].reduce((sum, demand) => sum + demand, 0)
        // Only settled demands are lent to, so that the whole is never exceeded.
        const share = all.size > 1 && total > 0 ? demand / total : 0
        return { share, holders: all.size, validForMillis: 1_000, learned: undefined, ageMillis: 0, epoch: 0 }
      })
  }
}
