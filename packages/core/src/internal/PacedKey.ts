/**
 * One key of a pacer: its credit, its queue and what it believes, with the synchronous steps that change them.
 *
 * Here belongs the bookkeeping that `Pacer` drives: may a call start, start it, take its verdict, settle it. Nothing here
 * waits, sets a timer or talks to a store; the time is an argument. All of it belongs to one pacer in one thread.
 */
import type { Queue, WaitingCall } from "../CallScheduler.ts"
import { type Cost, costIn, type Demand, type Key, oneRequest } from "../Demand.ts"
import type { LimitReading, Outcome } from "../Outcome.ts"
import * as Pace from "../Pace.ts"
import { Closed, LargerThanLimit, type Reason, type StoreUnavailable, TooLate } from "../PaceError.ts"
import type { AnyState, Binding, Event, RateController } from "../RateController.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { KeySnapshot } from "../Telemetry.ts"
import * as Heap from "./Heap.ts"

/**
 * A call on its way through the pacer.
 *
 * **Details**
 *
 * `phase`: `new` before the first offer, `waiting` in the queue, `backingOff` until `dueAtMillis`, `started` while an
 * attempt has its place, `ended` after. `resume` wakes the fiber that waits.
 */
export interface Call extends WaitingCall {
  phase: "new" | "waiting" | "backingOff" | "started" | "ended"
  attempts: RetryPolicy.Attempts
  attempt: number
  queuedAtMillis: number
  dueAtMillis: number
  deadlinePlace: number
  duePlace: number
  last: Outcome | undefined
  resume: ((refusal: Reason | undefined) => void) | undefined
}

/** A call that has just been offered. */
export const newCall = (demand: Demand, sequence: number, now: number): Call => ({
  demand,
  arrivedAtMillis: now,
  deadlineAtMillis: now + demand.startWithinMillis,
  sequence,
  place: -1,
  phase: "new",
  attempts: RetryPolicy.noAttempts,
  attempt: 0,
  queuedAtMillis: now,
  dueAtMillis: 0,
  deadlinePlace: -1,
  duePlace: -1,
  last: undefined,
  resume: undefined
})

/** What one attempt reserved, until it is settled. */
export interface Reservation {
  readonly call: Call
  readonly cost: Cost
  readonly sentAtMillis: number
  touchedAtMillis: number
  verdict: Outcome | undefined
  used: Partial<Cost> | undefined
  charged: Partial<Cost> | undefined
  settled: boolean
}

/** The sums whose rates a pace holds, in the order in which they are checked. */
const sums = ["requests", "tokens", "inputTokens", "outputTokens", "overload"] as const

const tokenSums = ["tokens", "inputTokens", "outputTokens"] as const

type Sum = typeof sums[number]

/** Credentials that were refused, with the refusal: shared by all keys of a pacer. */
export type RefusedCredentials = Map<string, Outcome>

/** A credential counts at one origin. */
export const credentialId = (key: Key, credential: string): string => `${key.origin}|${credential}`

/** One key of a pacer. */
export interface PacedKey {
  readonly key: Key
  readonly controller: RateController
  readonly queue: Queue<Call>
  readonly deadlines: Heap.Heap<Call>
  readonly backoffs: Heap.Heap<Call>
  readonly held: Set<Reservation>
  readonly credit: Record<Sum, Pace.Credit>
  readonly refused: RefusedCredentials
  readonly counts: { -readonly [K in keyof KeySnapshot["counts"]]: number }
  readonly waitedSeconds: Record<string, number>
  state: AnyState
  pace: Pace.Pace
  allowance: RetryPolicy.Allowance
  told: ReadonlyArray<LimitReading>
  binding: Binding | undefined
  waitingFor: string | undefined
  ready: boolean
  share: number
  holders: number
  epoch: number
  renewAtMillis: number
  leaseEndsAtMillis: number
  leaseEndsAtWallMillis: number
  inFlight: number
  lastCost: Cost
  gateUntilMillis: number
  closed: { readonly reason: string; readonly untilMillis: number; readonly last: Outcome } | undefined
  usedAtMillis: number
  learnedSomething: boolean
  storeFailure: StoreUnavailable | undefined
  pumping: boolean
  pumpAgain: boolean
}

/** A key that nobody has used yet; it is not `ready` until it has a share. */
export const make = (
  key: Key,
  controller: RateController,
  queue: Queue<Call>,
  refused: RefusedCredentials,
  now: number
): PacedKey => {
  const state = controller.start(now, undefined, 0)
  const credit: Pace.Credit = { units: 0, atMillis: now }
  return {
    key,
    controller,
    queue,
    deadlines: Heap.make<Call>({
      before: (a, b) => a.deadlineAtMillis < b.deadlineAtMillis,
      placeOf: (call) => call.deadlinePlace,
      setPlace: (call, place) => {
        call.deadlinePlace = place
      }
    }),
    backoffs: Heap.make<Call>({
      before: (a, b) => a.dueAtMillis < b.dueAtMillis,
      placeOf: (call) => call.duePlace,
      setPlace: (call, place) => {
        call.duePlace = place
      }
    }),
    held: new Set(),
    credit: { requests: credit, tokens: credit, inputTokens: credit, outputTokens: credit, overload: credit },
    refused,
    counts: {
      calls: 0,
      attempts: 0,
      accepted: 0,
      limited: 0,
      overloaded: 0,
      unknown: 0,
      failed: 0,
      ignored: 0,
      retries: 0,
      possiblyBilledTwice: 0,
      unsent: 0
    },
    waitedSeconds: {},
    state,
    pace: controller.pace(state),
    allowance: RetryPolicy.allowance(now),
    told: [],
    binding: undefined,
    waitingFor: undefined,
    ready: false,
    share: 0,
    holders: 0,
    epoch: 0,
    renewAtMillis: Infinity,
    leaseEndsAtMillis: Infinity,
    leaseEndsAtWallMillis: Infinity,
    inFlight: 0,
    lastCost: oneRequest,
    gateUntilMillis: -Infinity,
    closed: undefined,
    usedAtMillis: now,
    learnedSomething: false,
    storeFailure: undefined,
    pumping: false,
    pumpAgain: false
  }
}

/** Tells the controller; says whether it gave a reason. */
export const advance = (self: PacedKey, event: Event, now: number): string | undefined => {
  const step = self.controller.step(self.state, event, now)
  if (step.state !== self.state) {
    self.state = step.state
    const before = self.pace
    self.pace = self.controller.pace(step.state)
    for (const sum of tokenSums) if (self.pace[sum].ratePerSecond < before[sum].ratePerSecond) forgive(self, sum)
  }
  if (step.reason !== undefined) self.learnedSomething = true
  return step.reason
}

/**
 * Leaves one call's worth of debt at most. What was spent at a fast rate would take for ever to pay at a slow one, and the
 * slow rate is what the next calls pay already.
 */
const forgive = (self: PacedKey, sum: typeof tokenSums[number]): void => {
  const credit = self.credit[sum]
  const most = costIn(self.lastCost, sum)
  if (credit.units < -most) self.credit[sum] = { units: -most, atMillis: credit.atMillis }
}

/** Why a call can not be sent at all, whatever it waits, when `startMillis` is the earliest that it could start. */
export const refusal = (self: PacedKey, call: Call, now: number, startMillis = now): Reason | undefined => {
  const { demand } = call
  if (self.storeFailure !== undefined) return self.storeFailure
  const stopped = self.refused.size === 0
    ? undefined
    : self.refused.get(credentialId(self.key, demand.credential))
  if (stopped !== undefined) {
    return new Closed({
      scope: "credential",
      reason: stopped.closes?.reason ?? "closed",
      forMillis: Infinity,
      last: stopped
    })
  }
  if (
    self.closed !== undefined &&
    (self.closed.untilMillis === Infinity || self.closed.untilMillis > call.deadlineAtMillis)
  ) {
    return new Closed({
      scope: "key",
      reason: self.closed.reason,
      forMillis: self.closed.untilMillis - now,
      last: self.closed.last
    })
  }
  if (startMillis > call.deadlineAtMillis || self.gateUntilMillis > call.deadlineAtMillis) {
    return new TooLate({ waitedMillis: now - call.arrivedAtMillis, last: call.last })
  }
  for (const limit of demand.cachedInput ? [] : self.told) {
    // What stands aside may be of another pool, or was told in passing.
    if (limit.limit === undefined || limit.aside === true || (limit.windowSeconds ?? 0) < windowSeconds) continue
    if (limit.dimension !== "tokens" && limit.dimension !== "inputTokens") continue
    if (demand.cost.inputTokens > limit.limit) {
      return new LargerThanLimit({ dimension: limit.dimension, cost: demand.cost.inputTokens, limit: limit.limit })
    }
  }
  return undefined
}

/**
 * How long until a call may start.
 *
 * **Units**
 *
 * Milliseconds; 0 for now, `Infinity` when only an event can tell. `waitingFor` is left on the key.
 */
export const delayMillis = (self: PacedKey, call: Call, now: number): number => {
  if (!self.ready) return wait(self, "share", Infinity)
  if (self.gateUntilMillis > now) return wait(self, "gate", self.gateUntilMillis - now)
  if (self.inFlight >= self.pace.inFlight) return wait(self, "concurrency", Infinity)
  let longest = 0
  for (const sum of sums) {
    const rate = Pace.part(self.pace[sum], self.share)
    if (rate.ratePerSecond === Infinity) continue
    const need = needOf(sum, call.demand.cost, rate)
    const credit = Pace.refill(self.credit[sum], rate, now, need)
    self.credit[sum] = credit
    const delay = Pace.delayMillis(credit, rate, need)
    if (delay > longest) {
      longest = delay
      self.binding = sum
    }
  }
  return longest === 0 ? 0 : wait(self, self.binding ?? "requests", longest)
}

/** Starts an attempt: spends all sums in one step and takes a place. */
export const start = (self: PacedKey, call: Call, now: number): string | undefined => {
  const { cost } = call.demand
  charge(self, cost, 1)
  self.lastCost = cost
  const binding = self.binding
  self.binding = undefined
  self.inFlight++
  self.usedAtMillis = now
  call.phase = "started"
  call.attempt++
  self.counts.attempts++
  if (self.waitingFor !== undefined && call.queuedAtMillis < now) {
    self.waitedSeconds[self.waitingFor] = (self.waitedSeconds[self.waitingFor] ?? 0) +
      (now - call.queuedAtMillis) / 1000
  }
  return advance(self, { _tag: "Sent", cost, binding }, now)
}

/** Undoes a start that came to nothing, because the call was interrupted before its attempt began. */
export const unstart = (self: PacedKey, call: Call): void => {
  charge(self, call.demand.cost, -1)
  self.inFlight--
  self.counts.attempts--
  call.phase = "ended"
}

/** What an attempt has reserved. */
export const reserve = (call: Call, now: number): Reservation => ({
  call,
  cost: call.demand.cost,
  sentAtMillis: now,
  touchedAtMillis: now,
  verdict: undefined,
  used: undefined,
  charged: undefined,
  settled: false
})

/** Notes what an attempt really used, and what of that counts against the limit. */
export const use = (reservation: Reservation, cost: Partial<Cost>, charged: Partial<Cost> = cost): void => {
  reservation.used = { ...reservation.used, ...cost }
  reservation.charged = { ...reservation.charged, ...charged }
}

/** Takes the verdict of an attempt, once, or revises that it was accepted; says the controller's reason. */
export const takeVerdict = (
  self: PacedKey,
  reservation: Reservation,
  outcome: Outcome,
  now: number
): string | undefined => {
  if (reservation.verdict?._tag === "Accepted") self.counts.accepted--
  reservation.verdict = outcome
  reservation.call.last = outcome
  count(self, outcome)
  if (outcome.reading.limits.length > 0) self.told = outcome.reading.limits
  if (outcome._tag === "Accepted") self.allowance = RetryPolicy.earn(self.allowance)
  const refused = outcome._tag === "Limited" || outcome._tag === "Overloaded"
  const hint = outcome.retryAfterMillis
  if (refused && !outcome.final && hint !== undefined && (hint >= gateMillis || windowIsSpent(outcome))) {
    self.gateUntilMillis = Math.max(self.gateUntilMillis, now + hint)
  }
  return advance(
    self,
    { _tag: "Verdict", cost: reservation.cost, sentAtMillis: reservation.sentAtMillis, outcome },
    now
  )
}

/**
 * Settles an attempt, once: the estimate becomes real usage and the place is free.
 *
 * **Details**
 *
 * Returned is what was used, for the books; the pace is charged what counts against the limit, which a provider may reckon
 * otherwise. What was refused used no tokens. What was accepted and never said its usage keeps the estimate. A refusal for tokens
 * fills no credit: the provider's bucket is empty, and if ours were full the next calls would follow at once and be refused
 * as well. It leaves one call's worth of debt, which is the interval to the next.
 */
export const settle = (self: PacedKey, reservation: Reservation, now: number): Cost => {
  const { cost, verdict } = reservation
  const ran = verdict === undefined || verdict._tag === "Accepted" || verdict._tag === "Unknown"
  const base = ran ? cost : oneRequest
  const used: Cost = { ...base, ...reservation.used }
  const charged: Cost = { ...base, ...reservation.charged }
  reservation.settled = true
  self.held.delete(reservation)
  if (verdict?._tag === "Limited" && verdict.dimension !== undefined && verdict.dimension !== "requests") {
    for (const sum of tokenSums) forgive(self, sum)
  } else {
    charge(self, {
      requests: 0,
      inputTokens: charged.inputTokens - cost.inputTokens,
      outputTokens: charged.outputTokens - cost.outputTokens
    }, 1)
  }
  self.inFlight--
  self.usedAtMillis = now
  advance(self, { _tag: "Settled", reserved: cost, used: charged }, now)
  return used
}

/** Nothing waits, nothing is in flight, and no hint or reset is awaited: the key may be forgotten. */
export const isIdle = (self: PacedKey, now: number): boolean =>
  self.queue.size() === 0 && self.backoffs.size() === 0 && self.inFlight === 0 &&
  (self.gateUntilMillis === Infinity || self.gateUntilMillis <= now)

/** What the holder could use until it asks again, as a fraction of the key's rate. */
export const demandOf = (self: PacedKey, now: number): number =>
  self.queue.size() > 0 || self.backoffs.size() > 0
    ? 1
    : now - self.usedAtMillis < recentMillis
    ? Math.max(0.05, self.share * 0.5)
    : 0.01

/** The key as others may see it. */
export const snapshot = (self: PacedKey, now: number): KeySnapshot => ({
  key: self.key.id,
  origin: self.key.origin,
  organisation: self.key.organisation,
  model: self.key.model,
  requestsPerSecond: finite(self.pace.requests.ratePerSecond * self.share),
  tokensPerSecond: finite(self.pace.tokens.ratePerSecond * self.share),
  capacityPerSecond: finite(self.pace.overload.ratePerSecond * self.share),
  told: self.told.map((limit) => ({
    dimension: limit.dimension,
    limit: limit.limit ?? null,
    remaining: limit.remaining ?? null,
    resetSeconds: limit.resetSeconds ?? null,
    windowSeconds: limit.windowSeconds ?? null
  })),
  share: self.share,
  holders: self.holders,
  waiting: self.queue.size(),
  backingOff: self.backoffs.size(),
  inFlight: self.inFlight,
  waitingFor: self.queue.size() > 0 ? self.waitingFor ?? null : null,
  waitedSeconds: { ...self.waitedSeconds },
  closedForMillis: self.gateUntilMillis > now ? finite(self.gateUntilMillis - now) : null,
  closedReason: self.gateUntilMillis > now ? self.closed?.reason ?? "hint" : null,
  counts: { ...self.counts },
  learned: self.controller.learned(self.state) ?? null
})

const wait = (self: PacedKey, waitingFor: string, millis: number): number => {
  self.waitingFor = waitingFor
  return millis
}

const count = (self: PacedKey, outcome: Outcome): void => {
  switch (outcome._tag) {
    case "Accepted":
      self.counts.accepted++
      break
    case "Limited":
      self.counts.limited++
      break
    case "Overloaded":
      self.counts.overloaded++
      break
    case "Unknown":
      self.counts.unknown++
      break
    case "Failed":
      self.counts.failed++
      break
    case "Ignored":
      self.counts.ignored++
  }
}

/** Spends a cost, or gives it back; a sum that is not limited keeps no account. */
const charge = (self: PacedKey, cost: Cost, sign: 1 | -1): void => {
  for (const sum of sums) {
    const units = sum === "overload" ? cost.requests : costIn(cost, sum)
    if (units !== 0 && self.pace[sum].ratePerSecond !== Infinity) {
      self.credit[sum] = Pace.spend(self.credit[sum], sign * units)
    }
  }
}

/**
 * Credit that a call needs before it starts. Requests are paid afterwards, so that calls leave one interval apart. Input
 * is paid before, with half the prompt as reserve, or large prompts would be refused again and again; at most a second's
 * worth, so that a prompt larger than that still goes.
 */
const needOf = (sum: Sum, cost: Cost, rate: Pace.Rate): number =>
  sum === "tokens" || sum === "inputTokens" ? Math.min(1.5 * cost.inputTokens, rate.ratePerSecond) : 0

const windowIsSpent = (outcome: Outcome): boolean =>
  outcome.reading.limits.some((limit) => (limit.windowSeconds ?? 0) >= windowSeconds && limit.remaining === 0)

const finite = (value: number): number | null => Number.isFinite(value) ? value : null

/** A hint this long is about the key, a shorter one only about the call. */
const gateMillis = 5_000

/** A window this long is a budget; a shorter one is pacing, and each of its 429s carries `remaining: 0`. */
const windowSeconds = 10

/** A key used this lately still wants a part of its share. */
const recentMillis = 1_000
