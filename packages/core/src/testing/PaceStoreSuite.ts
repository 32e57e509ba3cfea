/**
 * The laws that every `PaceStore` keeps, as data, so that any test runner can hold any store to them.
 *
 * Here belong the laws and the pretended holders that they are tried with. What one store alone promises (its bounds, how
 * it goes through an outage) belongs to that store's own tests.
 *
 * **Source**
 *
 * The contract of `PaceStore`. Fairness is that of Doorman's `FAIR_SHARE`, with the demands of its test vectors.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Random from "effect/Random"
import * as Demand from "../Demand.ts"
import type { PaceError } from "../PaceError.ts"
import * as PaceStore from "../PaceStore.ts"

/**
 * A law, and how to try a store by it.
 *
 * **Errors**
 *
 * `check` fails with `LawBroken`, also when the store itself fails.
 *
 * **Details**
 *
 * Each check uses keys that nobody used before, so laws can be tried in any order, together, and against a store that is
 * kept from run to run. Some sleep on the Clock, for little more than the longest lease that the store gives to one of
 * several holders: in virtual time, let it pass while the check runs.
 */
export interface Law {
  readonly name: string
  readonly check: Effect.Effect<void, LawBroken, PaceStore.PaceStore>
}

/** A store broke a law; `found` says what it did. */
export class LawBroken extends Data.TaggedError("LawBroken")<{ readonly law: string; readonly found: string }> {
  override get message(): string {
    return `a store must keep the law "${this.law}", but ${this.found}`
  }
}

/**
 * All laws.
 *
 * **Example** (A store in virtual time)
 *
 * ```ts
 * import * as PaceStore from "@evenkeel/core/PaceStore"
 * import * as PaceStoreSuite from "@evenkeel/core/testing/PaceStoreSuite"
 * import * as Effect from "effect/Effect"
 * import * as Fiber from "effect/Fiber"
 * import * as Layer from "effect/Layer"
 * import * as TestClock from "effect/testing/TestClock"
 *
 * const kept = Effect.forEach(PaceStoreSuite.laws, ({ check, name }) =>
 *   Effect.gen(function*() {
 *     const fiber = yield* Effect.forkChild(check)
 *     yield* TestClock.adjust("1 minute")
 *     yield* Fiber.join(fiber)
 *     return name
 *   }))
 *
 * const names = await Effect.runPromise(
 *   Effect.provide(kept, PaceStore.layerMemory().pipe(Layer.provideMerge(TestClock.layer())))
 * )
 * names.length === PaceStoreSuite.laws.length // => true
 * ```
 */
export const laws: ReadonlyArray<Law> = [
  law(
    "a sole holder has everything, whatever it demands",
    Effect.fnUntraced(function*(table: Table) {
      for (const demand of [0.01, 5, 1, 0]) {
        const loan = yield* ask(table, "a", demand)
        yield* expectShare(table, "a sole holder", loan.share, 1)
        yield* expect(table, loan.holders === 1, `it counts ${loan.holders} holders where there is one`)
      }
    })
  ),
  law(
    "live shares sum to at most 1, whoever borrows and gives back in whatever order",
    Effect.fnUntraced(function*(table: Table) {
      // The same steps each time, so that a store that fails fails again.
      const steps = yield* Random.withSeed(
        Effect.replicateEffect(Effect.all([Random.next, Random.next, Random.next]), 300),
        table.law
      )
      for (const [who, what, howMuch] of steps) {
        const holder = `holder ${Math.floor(who * 6)}`
        if (what < 0.2) yield* leave(table, holder)
        else yield* ask(table, holder, demandsTried[Math.floor(howMuch * demandsTried.length)]!)
      }
    })
  ),
  law(
    "nobody gets less than an equal part unless it demands less",
    forEachDeal(Effect.fnUntraced(function*(table, demands, shares) {
      for (const [i, share] of shares.entries()) {
        const least = Math.min(demands[i]!, 1 / demands.length)
        yield* expect(
          table,
          share >= least - tolerance,
          `of demands ${demands.join(", ")} the one for ${demands[i]} got ${share}`
        )
      }
    }))
  ),
  law(
    "what one does not use goes to those who demand it",
    forEachDeal(Effect.fnUntraced(function*(table, demands, shares) {
      const dealt = sum(shares)
      const used = Math.min(1, sum(demands))
      yield* expect(table, dealt >= used - tolerance, `of demands ${demands.join(", ")} only ${dealt} was dealt out`)
    }))
  ),
  law(
    "nobody goes short while another has more",
    forEachDeal(Effect.fnUntraced(function*(table, demands, shares) {
      const most = Math.max(...shares)
      for (const [i, share] of shares.entries()) {
        yield* expect(
          table,
          share >= demands[i]! - tolerance || share >= most - tolerance,
          `of demands ${demands.join(", ")} the one for ${demands[i]} got ${share}, and another ${most}`
        )
      }
    }))
  ),
  law(
    "a holder that demands less makes room, and one that demands more again gets it back",
    Effect.fnUntraced(function*(table: Table) {
      yield* settle(table, [2, 2])
      const [modest, eager] = yield* settle(table, [0.1, 2])
      yield* expectShare(table, "who still demands all", eager!.share, 0.9)
      yield* expectShare(table, "who demands a tenth", modest!.share, 0.1)
      for (const loan of yield* settle(table, [2, 2])) yield* expectShare(table, "one of two", loan.share, 0.5)
    })
  ),
  law(
    "a share given back is available at once",
    Effect.fnUntraced(function*(table: Table) {
      const [first] = yield* settle(table, [2, 2])
      yield* expect(table, first!.holders === 2, `it counts ${first!.holders} holders where there are two`)
      yield* leave(table, nameOf(1))
      const rest = yield* ask(table, nameOf(0), 2)
      yield* expectShare(table, "the holder who stayed", rest.share, 1)
      yield* expect(table, rest.holders === 1, `it counts ${rest.holders} holders where one is left`)
    })
  ),
  law(
    "giving back what one does not hold changes nothing",
    Effect.fnUntraced(function*(table: Table) {
      yield* leave(table, "a stranger")
      yield* settle(table, [2, 2])
      yield* leave(table, "a stranger")
      const [first, second] = yield* settle(table, [2, 2])
      yield* expectShare(table, "the first holder", first!.share, 0.5)
      yield* expectShare(table, "the second holder", second!.share, 0.5)
    })
  ),
  law(
    "a holder that joins gets its part, because the others are recalled or their leases end",
    Effect.fnUntraced(function*(table: Table) {
      const alone = yield* ask(table, "first", 2)
      yield* ask(table, "second", 2)
      for (let i = 0; i < 20 && alone.validForMillis === Infinity && !table.recalled.has("first"); i++) {
        yield* Effect.sleep(graceMillis)
      }
      yield* expect(
        table,
        alone.validForMillis < Infinity || table.recalled.has("first"),
        "a holder with an endless lease was not recalled when another joined"
      )
      yield* ask(table, "first", 2)
      const joined = yield* ask(table, "second", 2)
      yield* expectShare(table, "the holder who joined", joined.share, 0.5)
    })
  ),
  law(
    "a loan that cannot be recalled ends",
    Effect.fnUntraced(function*(table: Table) {
      const loan = yield* answer(table, table.store.borrow(table.key, { holder: "a", held: 0, demand: 1 }))
      yield* expect(table, loan.validForMillis < Infinity, "it lent for ever to a holder that it cannot recall")
    })
  ),
  law(
    "a holder that does not ask again loses its share when its lease ends, and not before",
    Effect.fnUntraced(function*(table: Table) {
      const loans = yield* settle(table, [2, 2])
      const leaseMillis = loans[1]!.validForMillis
      yield* expect(table, leaseMillis < Infinity, "it lent for ever to one of two holders")
      // Each `ask` sees to it that the silent holder's share is not lent twice before its lease ends.
      for (const pause of [leaseMillis / 2, leaseMillis / 2 - graceMillis, 2 * graceMillis]) {
        yield* ask(table, nameOf(0), 2)
        yield* Effect.sleep(pause)
      }
      const rest = yield* ask(table, nameOf(0), 2)
      yield* expectShare(table, "the holder who asked again", rest.share, 1)
      yield* expect(table, rest.holders === 1, `it counts ${rest.holders} holders where one is left`)
      yield* ask(table, nameOf(1), 2)
    })
  ),
  law(
    "of two who publish on one epoch one wins, and the other is handed what the winner learned",
    Effect.fnUntraced(function*(table: Table) {
      const { epoch } = yield* ask(table, "a", 1)
      const won = yield* publish(table, epoch, { by: "first", rates: [1, { perSecond: 2.5 }] })
      if (won._tag !== "Accepted") return yield* broken(table, "it refused the newest lesson")
      yield* expect(table, won.epoch !== epoch, "a lesson was taken, and the epoch stayed")
      const lost = yield* publish(table, epoch, { by: "second" })
      if (lost._tag !== "Newer") return yield* broken(table, "it took a lesson that was made of an older one")
      yield* expectLesson(table, lost.lesson, { by: "first", rates: [1, { perSecond: 2.5 }] }, won.epoch)
      const next = yield* publish(table, lost.lesson.epoch, { by: "second" })
      yield* expect(table, next._tag === "Accepted", "it refused a lesson that was made of the newest one")
    })
  ),
  law(
    "of many who publish at the same time exactly one wins",
    Effect.fnUntraced(function*(table: Table) {
      const { epoch } = yield* ask(table, "a", 1)
      const answers = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, by) => by),
        (by) => Effect.map(publish(table, epoch, { by }), (published) => ({ by, published })),
        { concurrency: "unbounded" }
      )
      const won = answers.flatMap(({ by, published }) => published._tag === "Accepted" ? [{ by, published }] : [])
      yield* expect(table, won.length === 1, `${won.length} of 8 won`)
      for (const { published } of answers) {
        if (published._tag === "Newer") {
          yield* expectLesson(table, published.lesson, { by: won[0]!.by }, won[0]!.published.epoch)
        }
      }
    })
  ),
  law(
    "what was learned outlives the holder who learned it",
    Effect.fnUntraced(function*(table: Table) {
      const fresh = yield* ask(table, "a", 1)
      yield* expect(table, fresh.learned === undefined, "it knew something of a key that nobody had used")
      const published = yield* publish(table, fresh.epoch, { rate: 12.5 })
      yield* leave(table, "a")
      const loan = yield* ask(table, "b", 1)
      yield* expectLesson(table, loan, { rate: 12.5 }, published._tag === "Accepted" ? published.epoch : NaN)
    })
  ),
  law(
    "a lesson's age counts from when it was published",
    Effect.fnUntraced(function*(table: Table) {
      const { epoch } = yield* ask(table, "a", 1)
      const before = yield* nowMillis
      yield* publish(table, epoch, { rate: 1 })
      yield* Effect.sleep(ageMillis)
      const { ageMillis: found } = yield* ask(table, "a", 1)
      const most = (yield* nowMillis) - before
      yield* expect(
        table,
        found >= ageMillis - graceMillis && found <= most + graceMillis,
        `after ${ageMillis} to ${most} ms it gave the age ${found} ms`
      )
    })
  ),
  law(
    "keys share nothing",
    Effect.fnUntraced(function*(table: Table) {
      const other = elsewhere(table, "other")
      const one = yield* ask(table, "a", 2)
      const two = yield* ask(other, "b", 2)
      yield* expectShare(table, "the only holder of the first key", one.share, 1)
      yield* expectShare(table, "the only holder of the second key", two.share, 1)
      yield* publish(table, one.epoch, { rate: 1 })
      const untouched = yield* ask(other, "b", 2)
      yield* expect(
        table,
        untouched.learned === undefined && untouched.epoch === two.epoch,
        "what was learned of one key changed another"
      )
    })
  )
]

/** One key under trial, with what its holders hold as they see it: a lease runs from the moment they asked. */
interface Table {
  readonly law: string
  readonly store: PaceStore.PaceStore["Service"]
  readonly key: Demand.Key
  readonly loans: Map<string, { readonly share: number; readonly untilMillis: number }>
  readonly recalled: Set<string>
}

function law(name: string, body: (table: Table) => Effect.Effect<void, LawBroken>): Law {
  return {
    name,
    check: Effect.gen(function*() {
      const store = yield* PaceStore.PaceStore
      const run = yield* Random.nextInt
      const key = Demand.key("https://pace-store-suite.invalid", `run ${run}`, name)
      yield* body({ law: name, store, key, loans: new Map(), recalled: new Set() })
    })
  }
}

/** Deals a key out among the holders of each set of demands, and judges the shares once all have settled. */
function forEachDeal(
  judge: (
    table: Table,
    demands: ReadonlyArray<number>,
    shares: ReadonlyArray<number>
  ) => Effect.Effect<void, LawBroken>
): (table: Table) => Effect.Effect<void, LawBroken> {
  return Effect.fnUntraced(function*(table) {
    for (const demands of deals) {
      const deal = elsewhere(table, demands.join(" "))
      const loans = yield* settle(deal, demands)
      yield* judge(deal, demands, loans.map(({ share }) => share))
    }
  })
}

const elsewhere = (table: Table, name: string): Table => ({
  ...table,
  key: Demand.key(table.key.origin, table.key.organisation, `${table.key.model}, ${name}`),
  loans: new Map(),
  recalled: new Set()
})

/** One holder asks; after each answer, what is live sums to at most 1. */
const ask = Effect.fnUntraced(function*(table: Table, holder: string, demand: number) {
  const askedAt = yield* nowMillis
  const before = table.loans.get(holder)
  const held = before !== undefined && before.untilMillis > askedAt ? before.share : 0
  table.recalled.delete(holder)
  const loan = yield* answer(
    table,
    table.store.borrow(table.key, { holder, held, demand, recall: () => table.recalled.add(holder) })
  )
  table.loans.set(holder, { share: loan.share, untilMillis: askedAt + loan.validForMillis })
  yield* expect(table, loan.share >= 0 && loan.share <= 1 + rounding, `it lent the share ${loan.share}`)
  yield* expect(table, loan.validForMillis > 0, `it lent for ${loan.validForMillis} ms`)
  const now = yield* nowMillis
  const live = [...table.loans].filter(([, { untilMillis }]) => untilMillis > now)
  const total = sum(live.map(([, { share }]) => share))
  yield* expect(
    table,
    total <= 1 + rounding,
    `the shares ${live.map(([name, { share }]) => `${name}: ${share}`).join(", ")} sum to ${total}`
  )
  return loan
})

/** The holders ask in turn, until a store that answers each request for itself has come to rest. */
const settle = Effect.fnUntraced(function*(table: Table, demands: ReadonlyArray<number>) {
  let loans: ReadonlyArray<PaceStore.Loan> = []
  for (let round = 0; round < roundsToSettle; round++) {
    loans = yield* Effect.forEach(demands, (demand, i) => ask(table, nameOf(i), demand))
  }
  return loans
})

const leave = (table: Table, holder: string): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => table.loans.delete(holder)),
    table.store.giveBack(table.key, holder)
  )

const publish = (table: Table, epoch: number, learned: Readonly<Record<string, unknown>>) =>
  answer(table, table.store.publish(table.key, epoch, learned))

const answer = <A>(table: Table, answered: Effect.Effect<A, PaceError>): Effect.Effect<A, LawBroken> =>
  Effect.catch(answered, (error) => broken(table, `it failed: ${error.message}`))

const broken = (table: Table, found: string): Effect.Effect<never, LawBroken> =>
  Effect.fail(new LawBroken({ law: table.law, found }))

const expect = (table: Table, holds: boolean, found: string): Effect.Effect<void, LawBroken> =>
  holds ? Effect.void : broken(table, found)

const expectShare = (table: Table, who: string, share: number, expected: number): Effect.Effect<void, LawBroken> =>
  expect(table, Math.abs(share - expected) <= tolerance, `${who} got ${share} and not ${expected}`)

const expectLesson = (
  table: Table,
  lesson: PaceStore.Lesson,
  learned: Readonly<Record<string, unknown>>,
  epoch: number
): Effect.Effect<void, LawBroken> =>
  expect(
    table,
    Equal.equals(lesson.learned, learned) && lesson.epoch === epoch,
    `it handed ${JSON.stringify(lesson.learned)} of epoch ${lesson.epoch} ` +
      `and not ${JSON.stringify(learned)} of epoch ${epoch}`
  )

const nowMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const nameOf = (i: number): string => `holder ${i}`

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

/** Demands that are dealt out: the first three are Doorman's, of a capacity of 120. */
const deals: ReadonlyArray<ReadonlyArray<number>> = [
  [1000 / 120, 60 / 120, 10 / 120],
  [1000 / 120, 50 / 120, 10 / 120],
  [60 / 120, 60 / 120, 10 / 120],
  [2, 2],
  [0.1, 5],
  [5, 0.1],
  [0.05, 0.3, 0.3, 3, 3],
  [2, 2, 2, 2, 2, 2, 2, 2]
]

const demandsTried = [0, 0.05, 0.3, 0.5, 1, 4] as const

/** In the first round early holders have too much, in the second they shrink, in the third the late ones have grown. */
const roundsToSettle = 3

/** What a share may be off: a store may round to keep its numbers short. */
const tolerance = 0.01

/** What shares may sum to above 1: the rounding of doubles, and no more. */
const rounding = 1e-6

/** How late a timer and a store's answer may be, ms. */
const graceMillis = 50

/** How long a lesson is left to age, ms. */
const ageMillis = 200
