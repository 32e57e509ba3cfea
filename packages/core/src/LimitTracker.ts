/**
 * The law for one limited sum: what rate to send at, learned from headers, refusals and silence.
 *
 * Here belong the state of one tracked limit and its pure steps: a call was sent, a limit was read, a call was refused.
 * Requests and tokens are two instances. What short capacity (503) does belongs to `CapacityGuard`; putting the parts
 * together as a controller belongs to `RateController`.
 *
 * **Details**
 *
 * The rate is `advertised × e^trim`. `advertised` is the newest limit that a header told, in the server's own unit, or 1.
 * `trim` is what the header does not know (its unit, others who share the limit, staleness, softness): each refusal takes
 * a small bite from it, quiet raises it, and a storm cuts it to the rate that was accepted meanwhile.
 *
 * **Source**
 *
 * Feed-forward with a multiplicative feedback trim. The storm cut follows the policer model of BBR's `lt_bw` (Linux
 * `tcp_bbr.c`): what is delivered while some is refused *is* the limit. The bite of one over the root of the rate makes
 * equal senders converge to equal shares.
 */

/**
 * One limit as far as it is known.
 *
 * **Units**
 *
 * Instants in milliseconds on the pacing clock; `advertised` in the server's unit; `trim`, `ceiling` and their like are
 * natural logarithms of factors; `surplusSeconds` counts seconds' worth of the advertised limit accepted above it.
 *
 * **Shape**
 *
 * | field | says |
 * | --- | --- |
 * | `active` | is this sum limited at all, as far as we know |
 * | `ceiling` | the trim at which saturation was last seen |
 * | `refused` | was anything refused since the limit became known |
 * | `quietSinceMillis`, `quietUnits` | since when, and for how many units, nothing was refused |
 * | `mistrust` | share of refusals that came well below the advertised limit |
 * | `window` | what was sent and refused lately, by the instant of sending |
 * | `pilotAtMillis`, `pilotBite` | how much was bitten off in this feedback delay |
 */
export interface LimitTracker {
  readonly active: boolean
  readonly advertised: number
  readonly advertisedSentAtMillis: number
  readonly hasHeader: boolean
  readonly trim: number
  readonly ceiling: number
  readonly refused: boolean
  readonly surplusSeconds: number
  readonly lastRefusedAtMillis: number
  readonly quietSinceMillis: number
  readonly quietUnits: number
  readonly holdUntilMillis: number
  readonly lastSentAtMillis: number
  readonly lastCutAtMillis: number
  readonly mistrust: number
  readonly window: ReadonlyArray<Slot>
  readonly pilotAtMillis: number
  readonly pilotBite: number
}

interface Slot {
  readonly atMillis: number
  readonly sent: number
  readonly refused: number
}

/**
 * What differs between a sum whose cost is known at once (requests) and one that settles late (tokens).
 *
 * **Units**
 *
 * `firstProbe`, `probe` and `disagreement` are natural logarithms of factors of the advertised limit: how far past it to
 * go before and after the first refusal, and how far below it a refusal contradicts it. `surplusSeconds`: accepted above
 * the limit for so long, the limit is not believed. `holdMillis`: no probe for so long after a confirmation. `bite`: what
 * one refusal takes off at one call per second.
 */
export interface Law {
  readonly firstProbe: number
  readonly probe: number
  readonly surplusSeconds: number
  readonly holdMillis: number
  readonly bite: number
  readonly disagreement: number
  readonly settlesLate: boolean
}

/** Requests: the cost is known at the start, so probes may be bold: the first one up to a factor of two. */
export const requestLaw: Law = {
  firstProbe: 0.7,
  probe: 0.18,
  surplusSeconds: 4,
  holdMillis: 4_000,
  bite: 0.2,
  disagreement: 0.05,
  settlesLate: false
}

/** Tokens: outputs settle seconds later, so a probe looks accepted for longer than it is. */
export const tokenLaw: Law = {
  firstProbe: 0.05,
  probe: 0.05,
  surplusSeconds: 12,
  holdMillis: 30_000,
  bite: 0.15,
  disagreement: 0.15,
  settlesLate: true
}

/** The rate that nothing known starts from, requests per second. */
export const startPerSecond = 2

/** No pace goes below this, units per second, and no refusal takes it below as many calls: it keeps learning alive. */
export const floorPerSecond = 0.03

/**
 * A limit of which nothing is known.
 *
 * **Units**
 *
 * `ratePerSecond` to begin with; an inactive tracker holds nothing back until a header or a refusal names its sum.
 */
export const make = (now: number, options: {
  readonly active: boolean
  readonly ratePerSecond: number
}): LimitTracker => ({
  active: options.active,
  advertised: 1,
  advertisedSentAtMillis: -Infinity,
  hasHeader: false,
  trim: Math.log(options.ratePerSecond),
  ceiling: -Infinity,
  refused: false,
  surplusSeconds: 0,
  lastRefusedAtMillis: -Infinity,
  quietSinceMillis: now,
  quietUnits: 0,
  holdUntilMillis: -Infinity,
  lastSentAtMillis: now,
  lastCutAtMillis: -Infinity,
  mistrust: 0,
  window: [],
  pilotAtMillis: -Infinity,
  pilotBite: 0
})

/** The rate to send at, units per second; `Infinity` while the sum is not known to be limited. */
export const ratePerSecond = (self: LimitTracker): number =>
  self.active ? Math.max(floorPerSecond, self.advertised * Math.exp(self.trim)) : Infinity

/**
 * A call was sent.
 *
 * **Units**
 *
 * `cost` in units of the sum, `unit` the mean cost of a call.
 *
 * **Details**
 *
 * Grows the trim only when this sum is what held the call back (`binding`): whoever sends less than is allowed learns
 * nothing about more.
 */
export const sent = (
  self: LimitTracker,
  law: Law,
  call: { readonly cost: number; readonly unit: number; readonly binding: boolean },
  now: number
): LimitTracker => {
  const surplusSeconds = self.hasHeader
    ? Math.max(0, self.surplusSeconds + (call.cost / self.advertised) * (1 - Math.exp(-self.trim)))
    : 0
  const counted: LimitTracker = {
    ...self,
    surplusSeconds,
    quietUnits: self.quietUnits + call.cost / call.unit,
    lastSentAtMillis: now,
    window: recordSent(self.window, now, call.cost, slotMillis(self, call.unit))
  }
  if (!self.active || !call.binding) return counted
  const grown = grow(counted, law, now, self.lastSentAtMillis)
  return { ...grown, trim: Math.max(self.trim, Math.min(grown.trim, Math.log(mostPerSecond / self.advertised))) }
}

/** Raises the trim for the time since the last send: to the ceiling quickly, past it slowly, faster the longer it stays quiet. */
const grow = (self: LimitTracker, law: Law, now: number, lastSentAtMillis: number): LimitTracker => {
  const elapsed = Math.min(1, Math.max(0, now - lastSentAtMillis) / 1000)
  const ceiling = forget(self, now, lastSentAtMillis)
  if (!self.refused && !self.hasHeader) return { ...self, ceiling, trim: self.trim + slowStart * elapsed }
  if (self.trim < ceiling) {
    const slope = self.refused ? clamp(0.5 * (ceiling - self.trim), growthMin, approachMax) : approachMax
    const trim = Math.min(ceiling, self.trim + slope * elapsed)
    return trim < ceiling
      ? { ...self, ceiling, trim }
      : { ...self, ceiling, trim, quietSinceMillis: now, quietUnits: 0 }
  }
  if (now < self.holdUntilMillis) return { ...self, ceiling }
  const quiet = Math.min(
    (now - Math.max(self.quietSinceMillis, self.holdUntilMillis)) / 1000,
    quietSecondsPerUnit * self.quietUnits
  )
  const doubtful = self.surplusSeconds < law.surplusSeconds
  const slope = self.refused
    ? Math.min(growthMin * 2 ** (quiet / quietDoublingSeconds), growthMax)
    : doubtful
    ? firstProbeSlope
    : slowStart
  let trim = self.trim + slope * elapsed
  if (self.hasHeader && doubtful && self.mistrust < trusted) {
    trim = Math.min(trim, Math.max(ceiling, self.refused ? law.probe : law.firstProbe))
  }
  return { ...self, ceiling, trim: Math.max(trim, self.trim) }
}

/** A ceiling far below the advertised limit is forgotten in quiet, so that no lesson is kept for ever. */
const forget = (self: LimitTracker, now: number, lastSentAtMillis: number): number =>
  self.hasHeader && self.ceiling < -0.1 && self.quietUnits >= 5 && now - self.lastRefusedAtMillis > forgetAfterMillis
    ? self.ceiling * (1 - Math.min(1, Math.min(now - lastSentAtMillis, 5_000) / forgetMillis))
    : self.ceiling

/**
 * A response told the limit.
 *
 * **Details**
 *
 * The newest *sent* wins, not the newest received. The first header changes the rate by nothing at that instant; a later
 * one scales it by exactly new ÷ old. A limit of zero or less is not believed.
 */
export const advertise = (self: LimitTracker, limit: number, sentAtMillis: number, now: number): LimitTracker => {
  if (!(limit > 0) || limit === Infinity || sentAtMillis < self.advertisedSentAtMillis) return self
  if (self.hasHeader) {
    return limit === self.advertised && sentAtMillis === self.advertisedSentAtMillis
      ? self
      : { ...self, advertised: limit, advertisedSentAtMillis: sentAtMillis }
  }
  return {
    ...self,
    active: true,
    hasHeader: true,
    advertised: limit,
    advertisedSentAtMillis: sentAtMillis,
    trim: self.active ? Math.log(ratePerSecond(self) / limit) : 0,
    ceiling: 0,
    refused: false,
    surplusSeconds: 0,
    quietSinceMillis: now,
    quietUnits: 0
  }
}

/** What one holder tells the others of a limit. */
export const lesson = (self: LimitTracker): Readonly<Record<string, unknown>> => ({
  active: self.active,
  advertised: self.advertised,
  hasHeader: self.hasHeader,
  trim: self.trim,
  ceiling: Number.isFinite(self.ceiling) ? self.ceiling : null,
  refused: self.refused
})

/** Takes over what another holder has just learned; a lesson that is not one changes nothing. */
export const adopt = (self: LimitTracker, told: unknown): LimitTracker => {
  if (typeof told !== "object" || told === null) return self
  const { active, advertised, ceiling, hasHeader, refused, trim }: Readonly<Record<string, unknown>> = { ...told }
  return typeof advertised === "number" && advertised > 0 && advertised < Infinity &&
      typeof trim === "number" && Number.isFinite(trim)
    ? {
      ...self,
      active: active === true,
      advertised,
      hasHeader: hasHeader === true,
      trim,
      ceiling: typeof ceiling === "number" && Number.isFinite(ceiling) ? ceiling : -Infinity,
      refused: refused === true
    }
    : self
}

/** What a refusal did. */
export type Correction =
  | "already answered for"
  | "agrees with the header"
  | "cut to the accepted rate"
  | "bite"

/**
 * A call was refused for this sum.
 *
 * **Units**
 *
 * `delayMillis` is how long a refusal takes to come back; `cost` in units of the sum.
 *
 * **Details**
 *
 * Counts by the instant of *sending*: what was sent before the last cut has been answered for already.
 */
export const refused = (
  self: LimitTracker,
  law: Law,
  call: { readonly cost: number; readonly unit: number; readonly sentAtMillis: number; readonly delayMillis: number },
  now: number
): readonly [LimitTracker, Correction] => {
  const window = recordRefused(self.window, call.sentAtMillis, call.cost)
  if (call.sentAtMillis < self.lastCutAtMillis) return [{ ...self, window }, "already answered for"]
  const first = !self.refused
  const rate = (self.active ? ratePerSecond(self) : Infinity) / call.unit
  const next: LimitTracker = {
    ...self,
    window,
    refused: true,
    lastRefusedAtMillis: now,
    quietSinceMillis: now,
    quietUnits: 0,
    mistrust: self.hasHeader
      ? self.mistrust + mistrustGain * ((self.trim < -law.disagreement ? 1 : 0) - self.mistrust)
      : self.mistrust
  }
  if (
    next.hasHeader && next.trim > 0 && next.surplusSeconds < law.surplusSeconds &&
    next.ceiling <= law.disagreement && next.mistrust < trusted
  ) {
    // What settles late has been overdrawn by the surplus: until that is paid back, refusals say nothing new.
    const debtMillis = law.settlesLate ? next.surplusSeconds * 1000 : 0
    // At the advertised rate, unless that is far from what was sent: then the agreement is soon tried again.
    const holdSeconds = holdSends / Math.max(next.advertised / call.unit, rate / 2)
    const holdMillis = Math.max(law.holdMillis, holdSeconds * 1000)
    return [{
      ...next,
      trim: -agreementMargin,
      ceiling: -agreementMargin,
      surplusSeconds: 0,
      lastCutAtMillis: now + debtMillis,
      holdUntilMillis: now + holdMillis
    }, "agrees with the header"]
  }
  const ceiling = next.trim < next.ceiling
    ? next.trim
    : 0.1 * Math.max(next.ceiling, next.trim - 0.5) + 0.9 * next.trim
  const lesson: LimitTracker = { ...next, surplusSeconds: 0, ceiling }
  const cut = cutToAccepted(lesson, call, first, rate, now)
  return cut === undefined ? [bite(lesson, law, call, rate, now), "bite"] : [cut, "cut to the accepted rate"]
}

/** In a storm, the rate that was accepted meanwhile is the limit; at most one factor per cut, so that one bad second costs little. */
const cutToAccepted = (
  self: LimitTracker,
  call: { readonly unit: number; readonly delayMillis: number },
  first: boolean,
  rate: number,
  now: number
): LimitTracker | undefined => {
  const until = now - call.delayMillis
  const from = Math.max(self.lastCutAtMillis, until - windowMillis(rate))
  const seen = sumWindow(self.window, from, until)
  const length = (until - Math.max(from, seen.from)) / 1000
  if (seen.sent / call.unit < 6 || length < 0.3 || seen.refused / seen.sent <= 0.35) return undefined
  const accepted = Math.max(floorPerSecond * call.unit, 0.97 * (seen.sent - seen.refused) / length)
  const target = Math.log(accepted / self.advertised)
  if (!self.active) return { ...self, active: true, trim: target, ceiling: target, lastCutAtMillis: now }
  if (target >= self.trim) return undefined
  const trim = bounded(self, call.unit, Math.max(target, self.trim - (first ? 1.8 : 0.9)))
  return { ...self, trim, ceiling: trim, lastCutAtMillis: now }
}

/** A small step down for a single refusal, bounded within one feedback delay. */
const bite = (
  self: LimitTracker,
  law: Law,
  call: { readonly unit: number; readonly delayMillis: number },
  rate: number,
  now: number
): LimitTracker => {
  if (!self.active) return self
  const fresh = now - self.pilotAtMillis > call.delayMillis
  const size = Math.min(0.5, rate >= 1 ? law.bite / Math.sqrt(rate) : law.bite * rate ** 0.25)
  const left = Math.max(law.bite, size) - (fresh ? 0 : self.pilotBite)
  const taken = Math.max(0, Math.min(size, left))
  return {
    ...self,
    trim: bounded(self, call.unit, self.trim - taken),
    ceiling: bounded(self, call.unit, self.ceiling),
    pilotAtMillis: fresh ? now : self.pilotAtMillis,
    pilotBite: (fresh ? 0 : self.pilotBite) + taken
  }
}

/** Refusals take the rate to the floor of calls and no further; a limit that was told below that stands. */
const bounded = (self: LimitTracker, unit: number, trim: number): number =>
  Math.max(trim, Math.min(self.trim, Math.log((floorPerSecond * unit) / self.advertised)))

// The window: what was sent and refused, by the instant of sending, in a bounded number of slots.

const recordSent = (
  window: ReadonlyArray<Slot>,
  now: number,
  cost: number,
  width: number
): ReadonlyArray<Slot> => {
  const last = window[window.length - 1]
  if (last !== undefined && now - last.atMillis < width) {
    return window.with(-1, { atMillis: last.atMillis, sent: last.sent + cost, refused: last.refused })
  }
  const slot = { atMillis: now, sent: cost, refused: 0 }
  return window.length < slots ? [...window, slot] : [...window.slice(1 - slots), slot]
}

const recordRefused = (window: ReadonlyArray<Slot>, sentAtMillis: number, cost: number): ReadonlyArray<Slot> => {
  for (let i = window.length - 1; i >= 0; i--) {
    const slot = window[i]!
    if (slot.atMillis <= sentAtMillis) return window.with(i, { ...slot, refused: slot.refused + cost })
  }
  return window
}

const sumWindow = (
  window: ReadonlyArray<Slot>,
  from: number,
  until: number
): { readonly sent: number; readonly refused: number; readonly from: number } => {
  let sent = 0
  let refused = 0
  let start = until
  for (const slot of window) {
    if (slot.atMillis < from || slot.atMillis >= until) continue
    if (slot.atMillis < start) start = slot.atMillis
    sent += slot.sent
    refused += slot.refused
  }
  return { sent, refused, from: start }
}

/** Long enough to hold about twenty calls, so that a share of refusals means something. */
const windowMillis = (callsPerSecond: number): number => 1000 * clamp(20 / callsPerSecond, 0.8, 20)

const slotMillis = (self: LimitTracker, unit: number): number => windowMillis(ratePerSecond(self) / unit) / 8

const clamp = (value: number, min: number, max: number): number => Math.min(max, Math.max(min, value))

/** Four windows of eight slots each: a refusal up to three windows late still finds the slot of its sending. */
const slots = 32

/** No pace grows beyond this, units per second: past it nothing could bind, and the arithmetic must stay finite. */
const mostPerSecond = 1e9

// Slopes of the trim, per second.

/** Doubling every 0.63 s while nothing is known and nothing is refused. */
const slowStart = 1.1

/** Past the advertised limit for the first time. */
const firstProbeSlope = 0.3

/** Near a known saturation. */
const growthMin = 0.02

/** After long quiet. */
const growthMax = 1

/** Towards a known ceiling: a factor of 150 in a second. */
const approachMax = 5

/** The slope past the ceiling doubles with each such span of quiet, s. */
const quietDoublingSeconds = 3

/** Quiet counts for no more than this per call sent: silence of an idle client proves nothing. */
const quietSecondsPerUnit = 0.2

/** How far under the advertised limit to stay once refusals have confirmed it: 0.6 %. */
const agreementMargin = 0.006

/** After such a confirmation, sends before the next probe. */
const holdSends = 50

const mistrustGain = 0.2

/** Below this share of contradictions the header is believed. */
const trusted = 0.25

const forgetAfterMillis = 5_000

const forgetMillis = 10_000
