/**
 * The law for short capacity: what 503s, and connections that were never made, do to the rate of sending.
 *
 * Here belong the state of one key's guard and its pure steps. It never touches what was learned about the limit: that
 * is `LimitTracker`'s. Who waits for a probe belongs to `Pacer`.
 *
 * **Details**
 *
 * Overload is not about us, so its answer is a question: does sending less help? A guard that is *open* holds nothing
 * back. When overloads become significantly more frequent than is usual here, it *tests* a lower rate; if that halves
 * them, they are ours and the guard stays *on*, growing back; if not, their share is noted as usual and the guard opens.
 * When nearly everything is refused it *probes*: single calls leave, ever more rarely, until one is not refused.
 */

/**
 * One key's guard.
 *
 * **Units**
 *
 * Instants in milliseconds on the pacing clock, `usual` a share from 0 to 1, rates per second.
 *
 * **Details**
 *
 * Refusals come back before answers do, so that a share of verdicts would begin near one. `sent` therefore counts calls
 * that left long enough ago to have been refused; `fresh` and `older` are those of the last two half delays, which are
 * not counted yet.
 */
export interface CapacityGuard {
  readonly mode: "open" | "testing" | "on" | "probing"
  readonly ratePerSecond: number
  readonly grownAtMillis: number
  readonly usual: number
  readonly usualAtMillis: number
  readonly before: number
  readonly testUntilMillis: number
  readonly sinceMillis: number
  readonly sent: number
  readonly fresh: number
  readonly older: number
  readonly agedAtMillis: number
  readonly overloaded: number
  readonly inARow: number
  readonly gapMillis: number
  readonly probeSentAtMillis: number
  readonly delayMillis: number
}

/** A guard that holds nothing back. */
export const make = (now: number): CapacityGuard => ({
  mode: "open",
  ratePerSecond: Infinity,
  grownAtMillis: now,
  usual: 0,
  usualAtMillis: now,
  before: 0,
  ...nothingCounted(now),
  gapMillis: firstGapMillis,
  probeSentAtMillis: Infinity,
  delayMillis: 250
})

/** The rate that the guard allows, calls per second. */
export const ratePerSecond = (self: CapacityGuard): number =>
  self.mode === "probing" ? 1000 / self.gapMillis : self.ratePerSecond

/**
 * When the guard changes by itself, milliseconds on the pacing clock; `Infinity` for never.
 *
 * **Details**
 *
 * A refusal comes back fast and an answer slowly, so a probe that was not refused soon has passed.
 */
export const wakeAtMillis = (self: CapacityGuard): number =>
  self.mode === "probing" ? self.probeSentAtMillis + 3 * self.delayMillis + 100 : Infinity

/** A call was sent; `paceRate` is what the limit allows, calls per second. */
export const sent = (self: CapacityGuard, paceRate: number, now: number): CapacityGuard => {
  const probe = self.mode === "probing" && self.probeSentAtMillis === Infinity ? now : self.probeSentAtMillis
  const aged = now - self.agedAtMillis >= self.delayMillis / 2
  const old = self.mode === "open" && self.sent >= spanCalls
  const counted: CapacityGuard = {
    ...self,
    probeSentAtMillis: probe,
    fresh: aged ? 1 : self.fresh + 1,
    older: aged ? self.fresh : self.older,
    sent: aged ? (old ? self.sent / 2 : self.sent) + self.older : self.sent,
    overloaded: aged && old ? self.overloaded / 2 : self.overloaded,
    agedAtMillis: aged ? now : self.agedAtMillis
  }
  if (self.mode === "testing" && aged) return judge(counted, paceRate, now)
  if (self.mode !== "on") return counted
  const elapsed = Math.min(1, Math.max(0, now - self.grownAtMillis) / 1000)
  const grown = self.ratePerSecond * Math.exp((self.before === 1 ? recoveryPerSecond : growthPerSecond) * elapsed)
  return grown > 1.3 * paceRate
    ? { ...open(counted, now), usual: self.usual, usualAtMillis: self.usualAtMillis }
    : { ...counted, ratePerSecond: grown, grownAtMillis: now }
}

/** Time passed: a probe that nobody refused has passed. */
export const woke = (self: CapacityGuard, paceRate: number, now: number): CapacityGuard =>
  now >= wakeAtMillis(self) ? resume(self, paceRate, now) : self

/**
 * A call was answered with something other than an overload.
 */
export const answered = (self: CapacityGuard, sentAtMillis: number, paceRate: number, now: number): CapacityGuard => {
  if (self.mode === "probing") return sentAtMillis >= self.sinceMillis ? resume(self, paceRate, now) : self
  return judge(counted(self, sentAtMillis, 0, now), paceRate, now)
}

/**
 * A call was refused for capacity, or never connected.
 *
 * **Units**
 *
 * `sentAtMillis` is when it left; the difference to `now` is how long such a refusal takes.
 */
export const overloaded = (self: CapacityGuard, sentAtMillis: number, paceRate: number, now: number): CapacityGuard => {
  const delayMillis = self.delayMillis + delayGain * (1.3 * (now - sentAtMillis) - self.delayMillis)
  if (self.mode === "probing") {
    return sentAtMillis >= self.sinceMillis
      ? { ...self, delayMillis, gapMillis: Math.min(1.6 * self.gapMillis, maxGapMillis), probeSentAtMillis: Infinity }
      : { ...self, delayMillis }
  }
  const bitten = self.mode === "on" && sentAtMillis >= self.sinceMillis
    ? Math.max(floorPerSecond, self.ratePerSecond * (1 - 0.2 / Math.sqrt(Math.max(1, self.ratePerSecond))))
    : self.ratePerSecond
  return judge({ ...counted(self, sentAtMillis, 1, now), delayMillis, ratePerSecond: bitten }, paceRate, now)
}

/** Counts one verdict, in spans that are forgotten in halves, so that a share is always a recent one. */
const counted = (self: CapacityGuard, sentAtMillis: number, overloads: number, now: number): CapacityGuard => {
  if (sentAtMillis < self.sinceMillis) return self
  return {
    ...self,
    overloaded: self.overloaded + overloads,
    inARow: overloads === 1 ? self.inARow + 1 : 0,
    usual: self.usual * Math.exp(-Math.max(0, now - self.usualAtMillis) / usualMillis),
    usualAtMillis: now
  }
}

const judge = (self: CapacityGuard, paceRate: number, now: number): CapacityGuard => {
  const share = Math.min(1, self.overloaded / Math.max(1, self.sent))
  if (self.inARow >= 6 && self.sent >= 6 && share > 0.9) return probe(self, now)
  if (self.mode === "open") {
    const noise = 3 * Math.sqrt((share * (1 - share)) / Math.max(1, self.sent))
    return self.sent >= 30 && self.overloaded >= 4 && share > self.usual + 0.05 + noise
      ? test(self, share, paceRate, now)
      : self
  }
  if (self.mode === "testing") {
    if (now < self.testUntilMillis || self.sent < 6) return self
    if (share > 0.8) return probe(self, now)
    return share > self.before / 2
      ? { ...open(self, now), usual: Math.min(share, 0.6), usualAtMillis: now }
      : { ...restart(self, now), mode: "on", before: self.before, grownAtMillis: now }
  }
  if (self.sent < 60 || now - self.sinceMillis < 2_000) return self
  return share > Math.max(self.before / 2, 0.08)
    ? { ...open(self, now), usual: Math.min(share, 0.6), usualAtMillis: now }
    : restart(self, now)
}

const test = (self: CapacityGuard, share: number, paceRate: number, now: number): CapacityGuard => {
  const rate = Math.max(floorPerSecond, 0.97 * paceRate * (1 - share))
  return {
    ...restart(self, now),
    mode: "testing",
    before: share,
    ratePerSecond: rate,
    testUntilMillis: now + self.delayMillis + 1000 * Math.min(20, Math.max(1, 15 / rate))
  }
}

const probe = (self: CapacityGuard, now: number): CapacityGuard => ({
  ...restart(self, now),
  mode: "probing",
  gapMillis: firstGapMillis,
  probeSentAtMillis: Infinity
})

/** Back from probing: a quarter of the pace at once, and all of it within a second. */
const resume = (self: CapacityGuard, paceRate: number, now: number): CapacityGuard => ({
  ...restart(self, now),
  mode: "on",
  before: 1,
  ratePerSecond: Math.max(2, 0.25 * paceRate),
  grownAtMillis: now,
  probeSentAtMillis: Infinity
})

const open = (self: CapacityGuard, now: number): CapacityGuard => ({
  ...restart(self, now),
  mode: "open",
  ratePerSecond: Infinity
})

const restart = (self: CapacityGuard, now: number): CapacityGuard => ({ ...self, ...nothingCounted(now) })

/** A span that begins now. */
const nothingCounted = (now: number) => ({
  sinceMillis: now,
  sent: 0,
  fresh: 0,
  older: 0,
  agedAtMillis: now,
  overloaded: 0,
  inARow: 0,
  testUntilMillis: Infinity
})

/** Verdicts in a span before older ones count half. */
const spanCalls = 60

/** Growth after an outage, e-folds per second: full pace 0.3 s after a quarter of it. */
const recoveryPerSecond = 5

/** Growth of a guard that holds back because that helps, e-folds per second. */
const growthPerSecond = 0.1

/** What is usual is forgotten with this time constant. */
const usualMillis = 60_000

const firstGapMillis = 400

/** The longest pause between probes: it bounds how late the end of an outage is noticed. */
const maxGapMillis = 3_000

const delayGain = 0.1

/** Calls per second that a test never goes below. */
const floorPerSecond = 0.3
