/**
 * Who may use how much of a key, and what was learned of it.
 *
 * Here belong the contract of a store and the store in memory. A store does arithmetic on shares and keeps what it is
 * given: what was learned is opaque to it. It is never called per call: a holder borrows a share for a while and paces
 * within it.
 *
 * **Source**
 *
 * Leases of shares by max-min fairness after Doorman (`FAIR_SHARE`); learning by compare-and-set on an epoch.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Key } from "./Demand.ts"
import type { PaceError } from "./PaceError.ts"
import type { Learned } from "./RateController.ts"

/** What was learned of a key, how old it is and which version it is. */
export interface Lesson {
  readonly learned: Learned | undefined
  readonly ageMillis: number
  readonly epoch: number
}

/**
 * What a holder asks for.
 *
 * **Units**
 *
 * `held` and `demand` are fractions of the key's rate; `demand` is what the holder could use until it asks again, and may
 * exceed 1.
 *
 * **Details**
 *
 * `recall` is called when the share should be asked for again before its lease ends; a store that cannot call may ignore
 * it and give short leases.
 */
export interface Request {
  readonly holder: string
  readonly held: number
  readonly demand: number
  readonly recall?: () => void
}

/**
 * What a holder may use.
 *
 * **Units**
 *
 * `share` a fraction from 0 to 1, `validForMillis` the length of the lease, `Infinity` for as long as nobody recalls it.
 */
export interface Loan extends Lesson {
  readonly share: number
  readonly holders: number
  readonly validForMillis: number
}

/** A publication was taken, or something newer stands. */
export type Published =
  | { readonly _tag: "Accepted"; readonly epoch: number }
  | { readonly _tag: "Newer"; readonly lesson: Lesson }

/**
 * The store of shares and lessons.
 *
 * **Details**
 *
 * Live shares of a key sum to at most 1. `publish` takes a lesson only when `epoch` is the one it stands at. `giveBack`
 * ends a loan at once.
 */
export class PaceStore extends Context.Service<PaceStore, {
  readonly borrow: (key: Key, request: Request) => Effect.Effect<Loan, PaceError>
  readonly publish: (key: Key, epoch: number, learned: Learned) => Effect.Effect<Published, PaceError>
  readonly giveBack: (key: Key, holder: string) => Effect.Effect<void>
}>()("@evenkeel/core/PaceStore") {}

/**
 * What each holder gets of a whole: nobody more than it demands, nobody less than an equal part unless it demands less.
 *
 * **Units**
 *
 * Fractions of the key's rate; demands may exceed 1.
 *
 * **Details**
 *
 * What is left when all demands are met is dealt out equally, so that nothing idles that somebody may come to need.
 *
 * **Example** (Doorman's first vector, scaled to a whole of 1)
 *
 * ```ts
 * import * as PaceStore from "@evenkeel/core/PaceStore"
 *
 * const shares = PaceStore.maxMin([1000 / 120, 60 / 120, 10 / 120])
 *
 * shares.map((share) => Math.round(share * 120)) // => [55, 55, 10]
 * ```
 */
export const maxMin = (demands: ReadonlyArray<number>): ReadonlyArray<number> => {
  const shares = demands.map(() => 0)
  const order = demands.map((_, i) => i).sort((a, b) => demands[a]! - demands[b]!)
  let left = 1
  for (const [rank, i] of order.entries()) {
    const share = Math.min(demands[i]!, left / (order.length - rank))
    shares[i] = share
    left -= share
  }
  return left > 0 ? shares.map((share) => share + left / demands.length) : shares
}

/**
 * A store for one process: the pacers in it share each key by demand; one alone has all of it, for ever.
 *
 * **Units**
 *
 * `ageMillis` of a lesson is how old it is when the layer is made. `maxKeys` bounds what is kept (10,000).
 *
 * **Details**
 *
 * `learned` is what to start from, by `Key.id`. Past `maxKeys` the key that was asked for longest ago and has no holder
 * is forgotten. A holder that joins recalls the shares of the others, so that no share is spent twice; who does not ask
 * again within a second of being recalled has lost its share. Only who can be recalled is lent to for ever.
 */
export const layerMemory = (options?: {
  readonly learned?: ReadonlyMap<string, { readonly learned: Learned; readonly ageMillis: number }> | undefined
  readonly maxKeys?: number | undefined
}): Layer.Layer<PaceStore> => Layer.effect(PaceStore, makeMemory(options))

const makeMemory = Effect.fnUntraced(function*(options?: Parameters<typeof layerMemory>[0]) {
  const maxKeys = options?.maxKeys ?? 10_000
  const clock = yield* Effect.clockWith(Effect.succeed)
  const nowMillis = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const startedAt = nowMillis()
  const entries = new Map<string, Entry>()

  const entryOf = (key: Key): Entry => {
    const found = entries.get(key.id)
    if (found !== undefined) {
      entries.delete(key.id)
      entries.set(key.id, found)
      return found
    }
    if (entries.size >= maxKeys) forgetOne(entries, nowMillis())
    const start = options?.learned?.get(key.id)
    const entry: Entry = {
      holders: new Map(),
      learned: start?.learned,
      learnedAtMillis: start === undefined ? startedAt : startedAt - start.ageMillis,
      epoch: 0
    }
    entries.set(key.id, entry)
    return entry
  }

  const lessonOf = (entry: Entry): Lesson => ({
    learned: entry.learned,
    ageMillis: nowMillis() - entry.learnedAtMillis,
    epoch: entry.epoch
  })

  return PaceStore.of({
    borrow: (key, request) =>
      Effect.sync(() => {
        const entry = entryOf(key)
        const now = nowMillis()
        for (const [name, holder] of entry.holders) if (holder.untilMillis <= now) entry.holders.delete(name)
        const mine: Holder = { share: 0, demand: request.demand, recall: request.recall, untilMillis: Infinity }
        entry.holders.set(request.holder, mine)
        const names = [...entry.holders.keys()]
        const fair = maxMin([...entry.holders.values()].map((holder) => holder.demand))
        if (!entry.recalling) {
          entry.recalling = true
          for (const [i, name] of names.entries()) {
            const holder = entry.holders.get(name)
            if (name !== request.holder && holder !== undefined && holder.share > fair[i]! + shareTolerance) {
              holder.untilMillis = Math.min(holder.untilMillis, now + leaseMillis)
              holder.recall?.()
            }
          }
          entry.recalling = false
        }
        let taken = 0
        for (const [name, holder] of entry.holders) if (name !== request.holder) taken += holder.share
        mine.share = Math.max(0, Math.min(fair[names.indexOf(request.holder)]!, 1 - taken))
        const endless = entry.holders.size === 1 && request.recall !== undefined
        if (!endless) mine.untilMillis = now + leaseMillis
        return {
          ...lessonOf(entry),
          share: mine.share,
          holders: entry.holders.size,
          validForMillis: endless ? Infinity : leaseMillis
        }
      }),
    publish: (key, epoch, learned) =>
      Effect.sync(() => {
        const entry = entryOf(key)
        if (entry.epoch !== epoch) return { _tag: "Newer", lesson: lessonOf(entry) }
        entry.learned = learned
        entry.learnedAtMillis = nowMillis()
        entry.epoch++
        return { _tag: "Accepted", epoch: entry.epoch }
      }),
    giveBack: (key, holder) =>
      Effect.sync(() => {
        entries.get(key.id)?.holders.delete(holder)
      })
  })
})

interface Holder {
  readonly demand: number
  readonly recall: (() => void) | undefined
  share: number
  untilMillis: number
}

interface Entry {
  readonly holders: Map<string, Holder>
  learned: Learned | undefined
  learnedAtMillis: number
  epoch: number
  recalling?: boolean
}

const forgetOne = (entries: Map<string, Entry>, now: number): void => {
  for (const [id, entry] of entries) {
    if ([...entry.holders.values()].every((holder) => holder.untilMillis <= now)) {
      entries.delete(id)
      return
    }
  }
}

/** Between holders of one process asking again is free, so shares follow demand quickly. */
const leaseMillis = 1_000

/** A share that is off by less is left alone, so that rounding recalls nobody. */
const shareTolerance = 1e-9
