/**
 * The provider's law: how much one organisation may send to one model, and the verdict on each call.
 *
 * The rate follows the successful traffic: it is a cushion times the recent successful rate, between a floor and a
 * ceiling. A bucket holds a moment's worth of it, a buffer delays what comes a little too fast, and the rest is refused.
 *
 * Here belongs the arithmetic of one limit. It knows no clock, no organisation's name and no header: `ScenarioLimit`
 * gives it ceilings that change, `ServerLimiter` one limit for each organisation.
 *
 * **Source**
 *
 * Together AI's description of dynamic rate limits, and the provider model of Evenkeel's control study, sections 1.2
 * and 1.3. There the state moves in small steps; here between two events it is integrated exactly.
 */

/**
 * How long a success is remembered.
 *
 * **Units**
 *
 * `seconds`: the time constant of the exponential average, or the length of the boxcar window.
 */
export interface Memory {
  readonly kind: "ewma" | "boxcar"
  readonly seconds: number
}

/**
 * The terms of one limit.
 *
 * **Units**
 *
 * Rates per second; `burstSeconds` and `bufferSeconds` are seconds of the current rate; `rejectCost` is requests.
 *
 * **Details**
 *
 * - The rate is `min(ceiling, max(floor, cushion * recent successful rate))`, for requests and, unless `tokens` is null,
 *   for tokens.
 * - `burstSeconds`: depth of the bucket, never less than one request. `bufferSeconds`: how far a call may overdraw it
 *   and be delayed instead of refused.
 * - `oneSecondWindows`: requests are counted in whole seconds; then no request is delayed.
 * - `soft`: a call over the limit still passes while the platform has room, and costs nothing.
 * - `rejectCost`: what a refused call takes from the bucket. `overloadConsumes`: a call within the limit that the
 *   platform could not take is charged all the same.
 */
export interface Settings {
  readonly floorPerSecond: number
  readonly ceilingPerSecond: number
  readonly cushion: number
  readonly memory: Memory
  readonly initialSuccessPerSecond: number
  readonly burstSeconds: number
  readonly bufferSeconds: number
  readonly oneSecondWindows: boolean
  readonly soft: boolean
  readonly rejectCost: number
  readonly overloadConsumes: boolean
  readonly tokens: TokenSettings | null
}

/** The terms of the token limit, in tokens (input plus output) per second. */
export interface TokenSettings {
  readonly floorPerSecond: number
  readonly ceilingPerSecond: number
  readonly initialSuccessPerSecond: number
}

/**
 * What one limit remembers.
 *
 * **Units**
 *
 * `atSeconds` is the time it has been advanced to, on the caller's clock.
 *
 * **Shape**
 *
 * Immutable. About a hundred bytes, and with a boxcar memory two rings of 360 numbers, which states share until a slot
 * ends.
 */
export interface State {
  readonly atSeconds: number
  /** The recent successful rates: what is earned. */
  readonly successPerSecond: number
  readonly successTokensPerSecond: number
  /** What the buckets hold; below zero is owed. */
  readonly requests: number
  readonly tokens: number
  /** The whole second that `windowCount` counts. */
  readonly window: number
  readonly windowCount: number
  readonly boxcar: Boxcar | undefined
}

/** Successes by slot: the sums of the running slot are still outside the rings. */
interface Boxcar {
  readonly slot: number
  readonly requests: Float32Array
  readonly tokens: Float32Array | undefined
  readonly slotRequests: number
  readonly slotTokens: number
}

/** It starts at once. */
export interface AdmitNow {
  readonly _tag: "AdmitNow"
  readonly reason: "within the rate" | "over the rate, and the platform has room"
}

/**
 * It starts a little later: the buffer smooths it.
 *
 * **Units**
 *
 * Seconds, more than 0 and at most `bufferSeconds`.
 */
export interface AdmitAfter {
  readonly _tag: "AdmitAfter"
  readonly delaySeconds: number
  readonly reason: "smoothed by the buffer"
}

/**
 * Refused: more requests than the rate.
 *
 * **Units**
 *
 * Seconds until the bucket holds the call again; `Infinity` while the rate is zero.
 */
export interface RequestLimited {
  readonly _tag: "RequestLimited"
  readonly retryAfterSeconds: number
  readonly reason: "more requests than the rate and its buffer"
}

/**
 * Refused: more tokens than the rate.
 *
 * **Units**
 *
 * Seconds until the bucket holds the call again; `Infinity` while the rate is zero.
 */
export interface TokenLimited {
  readonly _tag: "TokenLimited"
  readonly retryAfterSeconds: number
  readonly reason: "more tokens than the rate and its buffer"
}

/** Refused within the rate: the platform has no room. */
export interface Overloaded {
  readonly _tag: "Overloaded"
  readonly reason: "within the rate, and the platform has no room"
}

/** What becomes of a call. */
export type Verdict = AdmitNow | AdmitAfter | RequestLimited | TokenLimited | Overloaded

/**
 * The control study's limit: 1 request/s at first, up to 100, twice what succeeded in the last half minute.
 *
 * **Details**
 *
 * Together's published figures differ in the memory: a boxcar of 3600 s.
 */
export const defaults: Settings = {
  floorPerSecond: 1,
  ceilingPerSecond: 100,
  cushion: 2,
  memory: { kind: "ewma", seconds: 30 },
  initialSuccessPerSecond: 0,
  burstSeconds: 1,
  bufferSeconds: 0.5,
  oneSecondWindows: false,
  soft: false,
  rejectCost: 0,
  overloadConsumes: true,
  tokens: null
}

/**
 * A limit whose buckets are full.
 *
 * **Units**
 *
 * `nowSeconds` on any clock that does not run backwards; the whole seconds of `oneSecondWindows` are that clock's.
 *
 * **Errors**
 *
 * Throws a `RangeError` that names the field when a number is negative or not finite, or the memory is not above zero.
 *
 * **Example** (60 a minute is one a second, not sixty at once)
 *
 * ```ts
 * import * as DynamicLimit from "@evenkeel/core/DynamicLimit"
 *
 * const settings = { ...DynamicLimit.defaults, floorPerSecond: 1, ceilingPerSecond: 1 }
 * const call = { inputTokens: 0, platformOk: true }
 * const first = DynamicLimit.admit(settings, DynamicLimit.make(settings, 0), { ...call, nowSeconds: 0 })
 * const second = DynamicLimit.admit(settings, first.state, { ...call, nowSeconds: 0 })
 * const later = DynamicLimit.admit(settings, second.state, { ...call, nowSeconds: 1 })
 *
 * first.verdict._tag // => "AdmitNow"
 * second.verdict._tag // => "RequestLimited"
 * later.verdict._tag // => "AdmitNow"
 * ```
 */
export const make = (settings: Settings, nowSeconds: number): State => {
  validate(settings)
  if (!Number.isFinite(nowSeconds)) {
    throw new RangeError(`DynamicLimit.make: nowSeconds must be finite, got ${nowSeconds}`)
  }
  const { initialSuccessPerSecond, memory, tokens } = settings
  const slotSeconds = memory.seconds / boxcarSlots
  const state: State = {
    atSeconds: nowSeconds,
    successPerSecond: initialSuccessPerSecond,
    successTokensPerSecond: tokens === null ? 0 : tokens.initialSuccessPerSecond,
    requests: 0,
    tokens: 0,
    window: Math.floor(nowSeconds),
    windowCount: 0,
    boxcar: memory.kind === "ewma" ? undefined : {
      slot: Math.floor(nowSeconds / slotSeconds),
      requests: new Float32Array(boxcarSlots).fill(initialSuccessPerSecond * slotSeconds),
      tokens: tokens === null
        ? undefined
        : new Float32Array(boxcarSlots).fill(tokens.initialSuccessPerSecond * slotSeconds),
      slotRequests: 0,
      slotTokens: 0
    }
  }
  return {
    ...state,
    requests: requestDepth(settings, requestRate(settings, state.successPerSecond)),
    tokens: tokenDepth(settings, tokenRate(settings, state.successTokensPerSecond))
  }
}

/**
 * The state at a later time, nothing having happened in between.
 *
 * **Units**
 *
 * Seconds on the clock of `make`. An earlier time, or one that is not finite, changes nothing.
 *
 * **Details**
 *
 * Exact, and its work is bounded however long the gap: between successes the rate only falls, so the bucket at the end is
 * the smaller of its depth then and what it held plus the integral of the rate; that has at most three pieces (ceiling,
 * exponential, floor), or at most 361 slots of a boxcar.
 *
 * Between calls only the two ceilings may change: advance to the moment of the change with the old settings, and use the
 * new ones from there.
 */
export const advance = (settings: Settings, state: State, nowSeconds: number): State => {
  if (!(nowSeconds > state.atSeconds && nowSeconds < Infinity)) return state
  return settings.memory.kind === "ewma"
    ? advanceEwma(settings, state, nowSeconds)
    : advanceBoxcar(settings, state, nowSeconds)
}

/**
 * Decides about one call, and charges it.
 *
 * **Units**
 *
 * `nowSeconds` on the clock of `make`, `inputTokens` 0 or more (anything else counts as 0).
 *
 * **Details**
 *
 * `platformOk` says whether the platform could take the call now. Requests are asked first, so a call over both limits is
 * `RequestLimited`. A prompt larger than the bucket needs a (nearly) full one. No call is refused for its rate while the
 * bucket holds it, or the buffer can wait for it.
 */
export const admit = (
  settings: Settings,
  state: State,
  call: { readonly nowSeconds: number; readonly inputTokens: number; readonly platformOk: boolean }
): { readonly state: State; readonly verdict: Verdict } => {
  const now = advance(settings, state, call.nowSeconds)
  const rate = requestRate(settings, now.successPerSecond)
  const second = Math.floor(now.atSeconds)
  const counted = now.window === second ? now.windowCount : 0
  const requests = settings.oneSecondWindows
    ? windowDelay(now.requests, rate, counted)
    : bucketDelay(1 - now.requests, rate, settings.bufferSeconds)
  const inputTokens = amount(call.inputTokens)
  const tokens = tokenDelay(settings, now, inputTokens)

  if (requests === Infinity || tokens === Infinity) {
    if (settings.soft && call.platformOk) return { state: now, verdict: passedOver }
    const least = Math.min(now.requests, -requestDepth(settings, rate) - settings.bufferSeconds * rate)
    return {
      state: { ...now, requests: Math.max(least, now.requests - settings.rejectCost) },
      verdict: requests === Infinity
        ? {
          _tag: "RequestLimited",
          retryAfterSeconds: requestRetrySeconds(settings, now, rate),
          reason: "more requests than the rate and its buffer"
        }
        : {
          _tag: "TokenLimited",
          retryAfterSeconds: tokenShortfallSeconds(settings, now, inputTokens),
          reason: "more tokens than the rate and its buffer"
        }
    }
  }
  if (!call.platformOk && !settings.overloadConsumes) return { state: now, verdict: overloaded }
  const charged = {
    ...now,
    requests: now.requests - 1,
    tokens: settings.tokens === null ? 0 : now.tokens - inputTokens,
    window: second,
    windowCount: counted + 1
  }
  if (!call.platformOk) return { state: charged, verdict: overloaded }
  const delaySeconds = Math.max(requests, tokens)
  return {
    state: charged,
    verdict: delaySeconds === 0
      ? admitNow
      : { _tag: "AdmitAfter", delaySeconds, reason: "smoothed by the buffer" }
  }
}

/**
 * A call has succeeded: the rate is earned, and its output is paid for.
 *
 * **Units**
 *
 * `nowSeconds` on the clock of `make`, tokens 0 or more (anything else counts as 0). `requests` is how many calls this
 * stands for, 1 unless given.
 *
 * **Details**
 *
 * Outputs are known only now: the token bucket may go below zero for them.
 */
export const settle = (
  settings: Settings,
  state: State,
  done: {
    readonly nowSeconds: number
    readonly inputTokens: number
    readonly outputTokens: number
    readonly requests?: number | undefined
  }
): State => {
  const now = advance(settings, state, done.nowSeconds)
  const requests = done.requests === undefined ? 1 : amount(done.requests)
  const outputTokens = settings.tokens === null ? 0 : amount(done.outputTokens)
  const tokens = settings.tokens === null ? 0 : amount(done.inputTokens) + outputTokens
  return {
    ...now,
    successPerSecond: now.successPerSecond + requests / settings.memory.seconds,
    successTokensPerSecond: now.successTokensPerSecond + tokens / settings.memory.seconds,
    tokens: now.tokens - outputTokens,
    boxcar: now.boxcar === undefined ? undefined : {
      ...now.boxcar,
      slotRequests: now.boxcar.slotRequests + requests,
      slotTokens: now.boxcar.slotTokens + tokens
    }
  }
}

/** What may be sent. **Units**: per second. `tokensPerSecond` is `Infinity` when tokens are not limited. */
export interface Rates {
  readonly requestsPerSecond: number
  readonly tokensPerSecond: number
}

/** The rates in force at the state's own time. **Units**: per second. */
export const rates = (settings: Settings, state: State): Rates => ({
  requestsPerSecond: requestRate(settings, state.successPerSecond),
  tokensPerSecond: tokenRate(settings, state.successTokensPerSecond)
})

/**
 * What is left in the buckets.
 *
 * **Units**
 *
 * Whole requests and tokens (`tokens` is `Infinity` when they are not limited). `resetSeconds` until the request bucket
 * is full, 0 when it is, `Infinity` when it never will be.
 */
export interface Remaining {
  readonly requests: number
  readonly tokens: number
  readonly resetSeconds: number
}

/** What is left at the state's own time. **Units**: requests, tokens, seconds. */
export const remaining = (settings: Settings, state: State): Remaining => {
  const rate = requestRate(settings, state.successPerSecond)
  const missing = requestDepth(settings, rate) - state.requests
  return {
    requests: Math.floor(Math.max(0, state.requests)),
    tokens: settings.tokens === null ? Infinity : Math.floor(Math.max(0, state.tokens)),
    resetSeconds: missing > 0 ? missing / rate : 0
  }
}

const requestRate = (settings: Settings, successPerSecond: number): number =>
  Math.min(settings.ceilingPerSecond, Math.max(settings.floorPerSecond, settings.cushion * successPerSecond))

const tokenRate = ({ cushion, tokens }: Settings, successPerSecond: number): number =>
  tokens === null
    ? Infinity
    : Math.min(tokens.ceilingPerSecond, Math.max(tokens.floorPerSecond, cushion * successPerSecond))

/** A bucket holds at least the one request that a slow rate grants. */
const requestDepth = (settings: Settings, rate: number): number => Math.max(1, settings.burstSeconds * rate)

const tokenDepth = (settings: Settings, rate: number): number =>
  settings.tokens === null ? 0 : rate * Math.max(settings.burstSeconds, leastTokenBurstSeconds)

/** How long to wait for what is missing: `Infinity` when it is more than the buffer smooths. */
const bucketDelay = (missing: number, rate: number, bufferSeconds: number): number =>
  missing <= rounding ? 0 : missing <= bufferSeconds * rate ? missing / rate : Infinity

/** Below one request a second a window cannot count, so the bucket decides, without its buffer. */
const windowDelay = (requests: number, rate: number, counted: number): number =>
  counted + 1 <= Math.max(1, Math.floor(rate)) && (rate >= 1 || requests >= 1 - rounding) ? 0 : Infinity

const requestRetrySeconds = (settings: Settings, state: State, rate: number): number => {
  const missing = Math.max(0, 1 - state.requests)
  const bucketSeconds = missing === 0 ? 0 : missing / rate
  if (!settings.oneSecondWindows) return bucketSeconds
  const windowSeconds = Math.floor(state.atSeconds) + 1 - state.atSeconds
  return rate >= 1 ? windowSeconds : Math.max(windowSeconds, bucketSeconds)
}

const tokenDelay = (settings: Settings, state: State, inputTokens: number): number =>
  settings.tokens === null
    ? 0
    : bucketDelay(
      missingTokens(settings, state, inputTokens),
      tokenRate(settings, state.successTokensPerSecond),
      settings.bufferSeconds
    )

const tokenShortfallSeconds = (settings: Settings, state: State, inputTokens: number): number => {
  const missing = missingTokens(settings, state, inputTokens)
  return missing / tokenRate(settings, state.successTokensPerSecond)
}

const missingTokens = (settings: Settings, state: State, inputTokens: number): number => {
  const depth = tokenDepth(settings, tokenRate(settings, state.successTokensPerSecond))
  return Math.min(inputTokens, fullEnough * depth) - state.tokens
}

/** The buckets once `requests` and `tokens` have flowed in; the rates are those at the end. */
const filled = (settings: Settings, state: State, requests: number, tokens: number): State => ({
  ...state,
  requests: Math.min(requestDepth(settings, requestRate(settings, state.successPerSecond)), state.requests + requests),
  tokens: settings.tokens === null
    ? 0
    : Math.min(tokenDepth(settings, tokenRate(settings, state.successTokensPerSecond)), state.tokens + tokens)
})

const advanceEwma = (settings: Settings, state: State, nowSeconds: number): State => {
  const { cushion, memory, tokens } = settings
  const seconds = nowSeconds - state.atSeconds
  const kept = Math.exp(-seconds / memory.seconds)
  return filled(
    settings,
    {
      ...state,
      atSeconds: nowSeconds,
      successPerSecond: state.successPerSecond * kept,
      successTokensPerSecond: state.successTokensPerSecond * kept
    },
    fadingIntegral(settings, cushion * state.successPerSecond, memory.seconds, seconds),
    tokens === null ? 0 : fadingIntegral(tokens, cushion * state.successTokensPerSecond, memory.seconds, seconds)
  )
}

/** The integral over `seconds` of `earned * exp(-t / tau)`, kept between floor and ceiling. */
const fadingIntegral = (
  between: { readonly floorPerSecond: number; readonly ceilingPerSecond: number },
  earned: number,
  tauSeconds: number,
  seconds: number
): number => {
  const high = between.ceilingPerSecond
  const low = Math.min(between.floorPerSecond, high)
  const leavesHigh = earned > high ? Math.min(seconds, tauSeconds * Math.log(earned / high)) : 0
  const meetsLow = earned > low ? Math.min(seconds, tauSeconds * Math.log(earned / low)) : 0
  const start = earned * Math.exp(-leavesHigh / tauSeconds)
  const fading = meetsLow > leavesHigh ? -start * tauSeconds * Math.expm1((leavesHigh - meetsLow) / tauSeconds) : 0
  return high * leavesHigh + fading + low * (seconds - meetsLow)
}

const advanceBoxcar = (settings: Settings, state: State, nowSeconds: number): State => {
  const { boxcar } = state
  const slotSeconds = settings.memory.seconds / boxcarSlots
  const slot = Math.floor(nowSeconds / slotSeconds)
  if (boxcar === undefined || slot <= boxcar.slot) {
    const seconds = nowSeconds - state.atSeconds
    const now = rates(settings, state)
    return filled(
      settings,
      { ...state, atSeconds: nowSeconds },
      now.requestsPerSecond * seconds,
      settings.tokens === null ? 0 : now.tokensPerSecond * seconds
    )
  }
  const span = { fromSeconds: state.atSeconds, toSeconds: nowSeconds, slot, slotSeconds, boxcar }
  const requests = turn(boxcar.requests, boxcar.slotRequests, span, (success) => requestRate(settings, success))
  const tokens = boxcar.tokens === undefined
    ? undefined
    : turn(boxcar.tokens, boxcar.slotTokens, span, (success) => tokenRate(settings, success))
  return filled(
    settings,
    {
      ...state,
      atSeconds: nowSeconds,
      successPerSecond: requests.successPerSecond,
      successTokensPerSecond: tokens?.successPerSecond ?? 0,
      boxcar: { slot, requests: requests.ring, tokens: tokens?.ring, slotRequests: 0, slotTokens: 0 }
    },
    requests.integral,
    tokens?.integral ?? 0
  )
}

/** Turns a ring to a later slot: drops what has left the window, and integrates the rate meanwhile. */
const turn = (
  before: Float32Array,
  running: number,
  span: {
    readonly fromSeconds: number
    readonly toSeconds: number
    readonly slot: number
    readonly slotSeconds: number
    readonly boxcar: Boxcar
  },
  rateOf: (successPerSecond: number) => number
): { readonly ring: Float32Array; readonly successPerSecond: number; readonly integral: number } => {
  const windowSeconds = span.slotSeconds * boxcarSlots
  const ring = before.slice()
  const current = place(span.boxcar.slot)
  ring[current] = (ring[current] ?? 0) + running
  let successes = sum(ring)
  let integral = 0
  let from = span.fromSeconds
  const last = Math.min(span.slot, span.boxcar.slot + boxcarSlots)
  for (let slot = span.boxcar.slot + 1; slot <= last; slot++) {
    const until = slot * span.slotSeconds
    integral += rateOf(successes / windowSeconds) * Math.max(0, until - from)
    from = Math.max(from, until)
    successes -= ring[place(slot)] ?? 0
    ring[place(slot)] = 0
  }
  // Summed anew, so that no rounding is left behind by the subtractions.
  const successPerSecond = sum(ring) / windowSeconds
  return { ring, successPerSecond, integral: integral + rateOf(successPerSecond) * Math.max(0, span.toSeconds - from) }
}

const place = (slot: number): number => ((slot % boxcarSlots) + boxcarSlots) % boxcarSlots

const sum = (ring: Float32Array): number => {
  let total = 0
  for (const value of ring) total += value
  return total
}

const amount = (value: number): number => value > 0 && value < Infinity ? value : 0

const validate = (settings: Settings): void => {
  const check = (field: string, value: number, least = 0) => {
    if (!(value >= least && value < Infinity)) {
      throw new RangeError(`DynamicLimit.make: ${field} must be a finite number >= ${least}, got ${value}`)
    }
  }
  check("floorPerSecond", settings.floorPerSecond)
  check("ceilingPerSecond", settings.ceilingPerSecond)
  check("cushion", settings.cushion)
  check("memory.seconds", settings.memory.seconds, leastMemorySeconds)
  check("initialSuccessPerSecond", settings.initialSuccessPerSecond)
  check("burstSeconds", settings.burstSeconds)
  check("bufferSeconds", settings.bufferSeconds)
  check("rejectCost", settings.rejectCost)
  if (settings.tokens !== null) {
    check("tokens.floorPerSecond", settings.tokens.floorPerSecond)
    check("tokens.ceilingPerSecond", settings.tokens.ceilingPerSecond)
    check("tokens.initialSuccessPerSecond", settings.tokens.initialSuccessPerSecond)
  }
}

/** As fine as the published window of an hour in slots of ten seconds. */
const boxcarSlots = 360

/** Shorter than any round trip: a millisecond keeps the slot numbers of a wall clock exact. */
const leastMemorySeconds = 0.001

/** Without any burst a token bucket still holds a twentieth of a second, or no prompt would ever fit. */
const leastTokenBurstSeconds = 0.05

/** A prompt larger than the bucket needs it full; this leaves room for rounding. */
const fullEnough = 0.999

/** Requests or tokens that differ by less are the same: ten times 0.1 s at 1 request/s is one request. */
const rounding = 1e-9

const admitNow: AdmitNow = { _tag: "AdmitNow", reason: "within the rate" }

const passedOver: AdmitNow = { _tag: "AdmitNow", reason: "over the rate, and the platform has room" }

const overloaded: Overloaded = { _tag: "Overloaded", reason: "within the rate, and the platform has no room" }
