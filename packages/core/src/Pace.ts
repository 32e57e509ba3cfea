/**
 * What we believe a key allows, and the arithmetic of spending it evenly.
 *
 * Here belong `Pace` (a rate and a burst per limited sum) and `Credit` (how much of one rate is saved up), with the pure
 * steps refill, spend and wait. How a pace is learned belongs to `RateController`; who waits, to `Pacer`.
 *
 * **Source**
 *
 * A credit that grows at the rate, is spent by each call and may go below zero is the virtual scheduling form of the
 * generic cell rate algorithm (ITU-T I.371, annex A), with the burst set apart from the rate.
 */

/**
 * One limited sum's rate.
 *
 * **Units**
 *
 * `ratePerSecond` in units of the sum per second, `Infinity` for no limit. `burst` in units of the sum: how much unused
 * rate may be saved up.
 */
export interface Rate {
  readonly ratePerSecond: number
  readonly burst: number
}

/** No limit. */
export const unlimited: Rate = { ratePerSecond: Infinity, burst: Infinity }

/**
 * What a key allows: a rate for each sum, and places in flight.
 *
 * **Details**
 *
 * `requests` and `tokens` are always there; `inputTokens` and `outputTokens` only where the provider limits them apart.
 * `overload` is the rate of requests that the platform's own capacity takes: short capacity bounds what is sent, and
 * never changes what was learned of the limit.
 */
export interface Pace {
  readonly requests: Rate
  readonly tokens: Rate
  readonly inputTokens: Rate
  readonly outputTokens: Rate
  readonly overload: Rate
  readonly inFlight: number
}

/** A pace that holds nothing back. */
export const unbounded: Pace = {
  requests: unlimited,
  tokens: unlimited,
  inputTokens: unlimited,
  outputTokens: unlimited,
  overload: unlimited,
  inFlight: Infinity
}

/** Seconds of a rate that may be saved up, unless told otherwise: enough to absorb timer jitter, no more. */
export const defaultBurstSeconds = 0.03

/**
 * A rate with the default burst, or one of `burstSeconds` of the rate.
 *
 * **Errors**
 *
 * Throws a `RangeError` unless `ratePerSecond` is above 0 and `burstSeconds` is 0 or more.
 */
export const rate = (ratePerSecond: number, burstSeconds: number = defaultBurstSeconds): Rate => {
  if (!(ratePerSecond > 0)) throw new RangeError(`Pace.rate: ratePerSecond must be > 0, got ${ratePerSecond}`)
  if (!(burstSeconds >= 0)) throw new RangeError(`Pace.rate: burstSeconds must be >= 0, got ${burstSeconds}`)
  return ratePerSecond === Infinity ? unlimited : { ratePerSecond, burst: ratePerSecond * burstSeconds }
}

/**
 * A quoted per-minute figure as the per-second rate it is: 60 RPM is 1 RPS, evenly, never the window at once.
 *
 * **Errors**
 *
 * Throws a `RangeError` unless `perMinute` is above 0.
 */
export const perMinute = (perMinute: number, burstSeconds?: number): Rate => rate(perMinute / 60, burstSeconds)

/**
 * Part of a rate: what one holder of a share may use.
 *
 * **Units**
 *
 * `share` is a fraction from 0 to 1.
 */
export const part = (self: Rate, share: number): Rate =>
  share >= 1 || self.ratePerSecond === Infinity
    ? self
    : { ratePerSecond: self.ratePerSecond * share, burst: self.burst * share }

/** The slower of two rates. */
export const slower = (self: Rate, that: Rate): Rate => (that.ratePerSecond < self.ratePerSecond ? that : self)

/**
 * How much of one rate is saved up at an instant.
 *
 * **Units**
 *
 * `units` of the sum; below zero after a spend, which is the debt that the next call waits off. `atMillis` on the pacing
 * clock.
 */
export interface Credit {
  readonly units: number
  readonly atMillis: number
}

/**
 * Credit at `now`.
 *
 * **Details**
 *
 * Never above the burst or `reserve`, whichever is larger: a gap of any length (idleness, sleep of the machine) is worth
 * one burst. `reserve` lets a call that needs more than the burst save up for itself.
 * A `now` before `credit.atMillis` earns nothing.
 */
export const refill = (credit: Credit, rate: Rate, now: number, reserve = 0): Credit => {
  if (rate.ratePerSecond === Infinity) return { units: 0, atMillis: now }
  const elapsed = Math.max(0, now - credit.atMillis) / 1000
  const cap = Math.max(rate.burst, reserve)
  return { units: Math.min(cap, credit.units + elapsed * rate.ratePerSecond), atMillis: now }
}

/**
 * Milliseconds until credit reaches `need`; 0 when it is there, `Infinity` where the rate is 0.
 *
 * **Details**
 *
 * A call may start when credit is at or above its need. With a need of zero that is the instant at which all that went
 * before is paid off, so that calls leave one interval apart. The tolerance forgives the rounding of doubles, so that a
 * timer set for this delay finds the credit there.
 */
export const delayMillis = (credit: Credit, rate: Rate, need: number): number =>
  rate.ratePerSecond === Infinity || (rate.ratePerSecond > 0 && credit.units >= need - tolerance(rate))
    ? 0
    : rate.ratePerSecond === 0
    ? Infinity
    : ((need - credit.units) / rate.ratePerSecond) * 1000

/** Spends units, into debt if need be. A negative number gives back. */
export const spend = (credit: Credit, units: number): Credit => ({
  units: credit.units - units,
  atMillis: credit.atMillis
})

/** Ten nanoseconds' worth: far below a timer's resolution, above a clock's and the rounding of sums of doubles. */
const tolerance = (rate: Rate): number => rate.ratePerSecond * 1e-8
