/**
 * One organisation's limit for one model under a scenario: verdicts and the headers that tell of them.
 *
 * Here belongs what a scenario adds to `DynamicLimit`: ceilings that change, the platform's own capacity, coins, header
 * dialect. It is driven with times and has no clock, so that a provider in virtual time and one on a socket play the
 * same scenario alike.
 *
 * **Source**
 *
 * The provider model of Evenkeel's control study, sections 1.1 and 1.3; the header names are Together AI's.
 */
import * as DynamicLimit from "../DynamicLimit.ts"
import * as Scenario from "./Scenario.ts"

/**
 * The limit as a machine with one owner: each call moves it.
 *
 * **Units**
 *
 * Seconds since the scenario began, which is this key's first arrival. They may not decrease: an earlier time counts as
 * the latest one seen. Rates are per second.
 *
 * **Details**
 *
 * `arrive` decides about a call and charges it; when it is admitted, it starts after `delaySeconds`. `complete` tells that
 * an admitted call has succeeded, which is what raises the rate. `ratePerSecond` is the request rate in force.
 */
export interface ScenarioLimit {
  readonly arrive: (nowSeconds: number, inputTokens: number) => Answer
  readonly complete: (nowSeconds: number, inputTokens: number, outputTokens: number) => void
  readonly ratePerSecond: (nowSeconds: number) => number
}

/** What becomes of a call: it runs, or it is refused. */
export type Answer = Admit | Refuse

/**
 * It runs, after a delay.
 *
 * **Units**
 *
 * Seconds, 0 or more.
 *
 * **Details**
 *
 * `headers` were stamped at arrival; they are sent when the call is answered.
 */
export interface Admit {
  readonly _tag: "Admit"
  readonly delaySeconds: number
  readonly headers: Headers
}

/**
 * It is refused: 429 for the organisation's own traffic, with the type that says which sum; 503 for the platform's.
 */
export interface Refuse {
  readonly _tag: "Refuse"
  readonly status: 429 | 503
  readonly errorType: "dynamic_request_limited" | "dynamic_token_limited" | undefined
  readonly message: string
  readonly headers: Headers
}

/** Response headers by their names in lower case. */
export type Headers = Readonly<Record<string, string>>

/**
 * Begins a scenario, with all buckets full.
 *
 * **Units**
 *
 * `coin` gives numbers in [0, 1); it is drawn only while the scenario overloads calls at random.
 *
 * **Details**
 *
 * | header | says |
 * | --- | --- |
 * | `x-ratelimit-limit`, `x-tokenlimit-limit` | the rate times `headers.units`; one significant digit when `coarse` |
 * | `x-ratelimit-remaining`, `x-tokenlimit-remaining` | whole requests and tokens left, after this call |
 * | `x-ratelimit-reset` | seconds until the request bucket is full: whole and at least 1 unless `fractionalReset` |
 * | `retry-after` | on a 429, whole seconds from 1 to 60 |
 *
 * The first five are those of `staleSeconds` ago. Without `onSuccess` no answer has them, without `onError` no refusal.
 *
 * **Example** (Sixty at once)
 *
 * ```ts
 * import * as Scenario from "@evenkeel/core/testing/Scenario"
 * import * as ScenarioLimit from "@evenkeel/core/testing/ScenarioLimit"
 *
 * const scenario = Scenario.make({ dynamicRate: { floorPerSecond: 1, ceilingPerSecond: 1 } })
 * const limit = ScenarioLimit.make(scenario, () => 0.5)
 * const tags = Array.from({ length: 60 }, () => limit.arrive(0, 0)._tag)
 *
 * tags.filter((tag) => tag === "Admit").length // => 1
 * ```
 */
export const make = (scenario: Scenario.Scenario, coin: () => number): ScenarioLimit => {
  const { overloadProbability } = scenario.platform
  const isStale = scenario.headers.staleSeconds > 0
  let moment = begin(scenario)
  let past: ReadonlyArray<Moment> = [moment]

  const moveTo = (nowSeconds: number) => {
    moment = advance(scenario, moment, nowSeconds)
  }

  const arrive = (nowSeconds: number, inputTokens: number): Answer => {
    moveTo(nowSeconds)
    const hasRoom = moment.platform >= 1
    const probability = Scenario.at(overloadProbability, moment.limit.atSeconds)
    const platformOk = hasRoom && !(probability > 0 && coin() < probability)
    const { state, verdict } = DynamicLimit.admit(moment.settings, moment.limit, {
      nowSeconds: moment.limit.atSeconds,
      inputTokens,
      platformOk
    })
    const isAdmitted = verdict._tag === "AdmitNow" || verdict._tag === "AdmitAfter"
    moment = { ...moment, limit: state, platform: moment.platform - (isAdmitted ? 1 : 0) }
    if (isStale) past = remember(scenario, past, moment)
    return answer(scenario, verdict, () => {
      const told = isStale ? recall(scenario, past, moment.limit.atSeconds - scenario.headers.staleSeconds) : moment
      return limitHeaders(scenario, told)
    })
  }

  return {
    arrive,
    complete: (nowSeconds, inputTokens, outputTokens) => {
      moveTo(nowSeconds)
      const done = { nowSeconds: moment.limit.atSeconds, inputTokens, outputTokens }
      moment = { ...moment, limit: DynamicLimit.settle(moment.settings, moment.limit, done) }
    },
    ratePerSecond: (nowSeconds) => {
      moveTo(nowSeconds)
      return DynamicLimit.rates(moment.settings, moment.limit).requestsPerSecond
    }
  }
}

/**
 * The terms of the limit at a moment of a scenario.
 *
 * **Units**
 *
 * Seconds since the scenario began.
 */
export const settingsAt = (scenario: Scenario.Scenario, seconds: number): DynamicLimit.Settings => ({
  ...scenario.enforcement,
  ...scenario.dynamicRate,
  ceilingPerSecond: Scenario.at(scenario.dynamicRate.ceilingPerSecond, seconds),
  tokens: scenario.tokens === null ? null : {
    ...scenario.tokens,
    ceilingPerSecond: Scenario.at(scenario.tokens.ceilingPerSecond, seconds)
  }
})

/**
 * What the platform can take at a moment of a scenario: `Infinity` when that is not limited.
 *
 * **Units**
 *
 * Requests per second; seconds since the scenario began.
 */
export const capacityAt = ({ platform }: Scenario.Scenario, seconds: number): number =>
  platform.capacityPerSecond === null ? Infinity : Scenario.at(platform.capacityPerSecond, seconds)

/**
 * When the terms or the platform's capacity change next: `Infinity` when never again.
 *
 * **Units**
 *
 * Seconds since the scenario began, always later than `seconds`.
 */
export const nextChange = (scenario: Scenario.Scenario, seconds: number): number =>
  Math.min(
    Scenario.nextStep(scenario.dynamicRate.ceilingPerSecond, seconds),
    scenario.tokens === null ? Infinity : Scenario.nextStep(scenario.tokens.ceilingPerSecond, seconds),
    scenario.platform.capacityPerSecond === null
      ? Infinity
      : Scenario.nextStep(scenario.platform.capacityPerSecond, seconds)
  )

/** The whole state at one time: the limit, the terms in force, and what the platform's bucket holds. */
interface Moment {
  readonly limit: DynamicLimit.State
  readonly settings: DynamicLimit.Settings
  readonly platform: number
  readonly capacityPerSecond: number
  /** When any trace changes next. */
  readonly untilSeconds: number
}

const begin = (scenario: Scenario.Scenario): Moment => {
  const settings = settingsAt(scenario, 0)
  const capacityPerSecond = capacityAt(scenario, 0)
  return {
    limit: DynamicLimit.make(settings, 0),
    settings,
    platform: platformDepth(capacityPerSecond),
    capacityPerSecond,
    untilSeconds: nextChange(scenario, 0)
  }
}

/** Through the steps of the traces, each stretch under its own terms. */
const advance = (scenario: Scenario.Scenario, from: Moment, nowSeconds: number): Moment => {
  let moment = from
  while (moment.untilSeconds <= nowSeconds) {
    const seconds = moment.untilSeconds
    const before = flow(moment, seconds)
    const capacityPerSecond = capacityAt(scenario, seconds)
    moment = {
      limit: before.limit,
      settings: settingsAt(scenario, seconds),
      platform: Math.min(platformDepth(capacityPerSecond), before.platform),
      capacityPerSecond,
      untilSeconds: nextChange(scenario, seconds)
    }
  }
  return flow(moment, nowSeconds)
}

const flow = (moment: Moment, nowSeconds: number): Moment => {
  const { capacityPerSecond, limit, platform, settings } = moment
  if (!(nowSeconds > limit.atSeconds)) return moment
  const gained = capacityPerSecond * (nowSeconds - limit.atSeconds)
  return {
    ...moment,
    limit: DynamicLimit.advance(settings, limit, nowSeconds),
    platform: Math.min(platformDepth(capacityPerSecond), platform + gained)
  }
}

/** The platform's bucket holds one second of its capacity, and one call at least unless it is shut. */
const platformDepth = (capacityPerSecond: number): number =>
  capacityPerSecond === 0 ? 0 : Math.max(1, capacityPerSecond)

const answer = (scenario: Scenario.Scenario, verdict: DynamicLimit.Verdict, told: () => Headers): Answer => {
  const { onError, onSuccess, retryAfter } = scenario.headers
  if (verdict._tag === "AdmitNow" || verdict._tag === "AdmitAfter") {
    const delaySeconds = verdict._tag === "AdmitNow" ? 0 : verdict.delaySeconds
    return { _tag: "Admit", delaySeconds, headers: onSuccess ? told() : noHeaders }
  }
  const headers = onSuccess && onError ? told() : noHeaders
  if (verdict._tag === "Overloaded") {
    const message = "The model is overloaded. Please try again later."
    return { _tag: "Refuse", status: 503, errorType: undefined, message, headers }
  }
  const isRequests = verdict._tag === "RequestLimited"
  const waitSeconds = Math.min(mostRetryAfterSeconds, Math.max(1, Math.ceil(verdict.retryAfterSeconds)))
  return {
    _tag: "Refuse",
    status: 429,
    errorType: isRequests ? "dynamic_request_limited" : "dynamic_token_limited",
    message: `You are sending ${isRequests ? "requests" : "tokens"} faster than your dynamic rate limit.`,
    headers: retryAfter ? { ...headers, "retry-after": String(waitSeconds) } : headers
  }
}

const limitHeaders = ({ headers, tokens }: Scenario.Scenario, { limit, settings }: Moment): Headers => {
  const rates = DynamicLimit.rates(settings, limit)
  const left = DynamicLimit.remaining(settings, limit)
  const resetSeconds = Math.min(mostResetSeconds, left.resetSeconds)
  const displayed = (ratePerSecond: number) => written(ratePerSecond * headers.units, headers.coarse ? 1 : digits)
  const requests = {
    "x-ratelimit-limit": displayed(rates.requestsPerSecond),
    "x-ratelimit-remaining": String(left.requests),
    "x-ratelimit-reset": headers.fractionalReset
      ? written(resetSeconds, digits)
      : String(Math.max(1, Math.ceil(resetSeconds)))
  }
  return tokens === null ? requests : {
    ...requests,
    "x-tokenlimit-limit": displayed(rates.tokensPerSecond),
    "x-tokenlimit-remaining": String(left.tokens)
  }
}

/** A decimal number without noise in its last digits, and never in exponent form for figures that occur. */
const written = (value: number, significant: number): string => String(Number(value.toPrecision(significant)))

/** Keeps a moment when the last one kept is old enough, and none that `recall` can no longer ask for. */
const remember = (
  { headers }: Scenario.Scenario,
  past: ReadonlyArray<Moment>,
  moment: Moment
): ReadonlyArray<Moment> => {
  const newest = past[past.length - 1]
  const spacingSeconds = headers.staleSeconds / momentsKept
  if (newest !== undefined && moment.limit.atSeconds - newest.limit.atSeconds < spacingSeconds) return past
  const askedSeconds = moment.limit.atSeconds - headers.staleSeconds
  const oldest = past.findLastIndex((kept) => kept.limit.atSeconds <= askedSeconds)
  return [...past.slice(Math.max(0, oldest)), moment]
}

/** How things stood then: the newest moment kept that is old enough, moved on to then; at first, how it began. */
const recall = (scenario: Scenario.Scenario, past: ReadonlyArray<Moment>, seconds: number): Moment => {
  const moment = past.findLast((kept) => kept.limit.atSeconds <= seconds) ?? past[0]
  return moment === undefined ? begin(scenario) : advance(scenario, moment, seconds)
}

const noHeaders: Headers = {}

/** How finely the past is kept for stale headers: within a sixty-fourth of their age, in at most 66 moments. */
const momentsKept = 64

/** The longest hint the provider gives. */
const mostRetryAfterSeconds = 60

/** A rate of zero never fills a bucket; a day stands for that. */
const mostResetSeconds = 86_400

/** Significant digits of a figure in a header: six tell every rate apart, and no rounding noise shows. */
const digits = 6
