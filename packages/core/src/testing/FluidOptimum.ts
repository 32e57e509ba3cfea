/**
 * The *fluid optimum*: the shortest time in which a provider would let a number of requests through, and how close a run
 * came to it.
 *
 * Here belongs the yardstick of a run: calls are a fluid that is sent exactly at the limit, with perfect knowledge and
 * without a burst. What real single calls can reach, with their latencies and coins, is the oracle's question, not this
 * one's.
 *
 * **Source**
 *
 * The provider model of Evenkeel's control study, sections 1.2 and 2 (a success never hurts, so to send whenever it is
 * admissible is the best).
 */
import * as DynamicLimit from "../DynamicLimit.ts"
import * as Scenario from "./Scenario.ts"
import * as ScenarioLimit from "./ScenarioLimit.ts"

/**
 * The work, and what stands in its way.
 *
 * **Units**
 *
 * `requests` is a count. `latencySeconds` from the sending of a call to its success, which raises the limit only then.
 * `outages` are spans in which nothing can be sent, in seconds since the scenario began.
 */
export interface Options {
  readonly requests: number
  readonly latencySeconds: number
  readonly outages?: ReadonlyArray<{ readonly fromSeconds: number; readonly toSeconds: number }> | undefined
}

/**
 * The smallest time in which the integral of the admissible rate equals the work.
 *
 * **Units**
 *
 * Seconds from the first sending to the last; the answers come one latency later. `Infinity` when the work is not done
 * within a day.
 *
 * **Errors**
 *
 * Throws a `RangeError` when `requests` or `latencySeconds` is negative or not finite.
 *
 * **Details**
 *
 * The admissible rate is that of `DynamicLimit` under the scenario's traces, or less where the platform's capacity is
 * less. Random overloads thin it out (and only delay, where they are not charged). Where the limit is `soft` it is the
 * platform's capacity. Tokens are not counted. The step is at most 5 ms, and the last one is cut where the work is done.
 *
 * **Example** (A constant limit)
 *
 * ```ts
 * import * as FluidOptimum from "@evenkeel/core/testing/FluidOptimum"
 * import * as Scenario from "@evenkeel/core/testing/Scenario"
 *
 * const scenario = Scenario.make({ dynamicRate: { floorPerSecond: 10, ceilingPerSecond: 10 } })
 *
 * Math.round(FluidOptimum.seconds(scenario, { requests: 600, latencySeconds: 1.5 })) // => 60
 * ```
 */
export const seconds = (scenario: Scenario.Scenario, options: Options): number => {
  const { latencySeconds, outages = [], requests } = options
  check("requests", requests)
  check("latencySeconds", latencySeconds)
  const stepsInFlight = Math.max(1, Math.ceil(latencySeconds / longestStepSeconds))
  const stepSeconds = Math.max(latencySeconds / stepsInFlight, shortestStepSeconds)
  const inFlight = new Float64Array(stepsInFlight)
  let settings = ScenarioLimit.settingsAt(scenario, 0)
  let state = DynamicLimit.make(settings, 0)
  let changesAt = ScenarioLimit.nextChange(scenario, 0)
  let sent = 0
  if (requests === 0) return 0
  for (let step = 0; step * stepSeconds < mostSeconds; step++) {
    const nowSeconds = step * stepSeconds
    state = DynamicLimit.advance(settings, state, nowSeconds)
    if (nowSeconds >= changesAt) {
      settings = ScenarioLimit.settingsAt(scenario, nowSeconds)
      changesAt = ScenarioLimit.nextChange(scenario, nowSeconds)
    }
    const landed = inFlight[step % stepsInFlight] ?? 0
    if (landed > 0) {
      state = DynamicLimit.settle(settings, state, { nowSeconds, inputTokens: 0, outputTokens: 0, requests: landed })
    }
    const isOut = outages.some((outage) => outage.fromSeconds <= nowSeconds && nowSeconds < outage.toSeconds)
    const limit = DynamicLimit.rates(settings, state).requestsPerSecond
    const ratePerSecond = isOut ? 0 : admissible(scenario, limit, nowSeconds)
    if (ratePerSecond === 0 && !isOut && isLast(scenario, nowSeconds)) return Infinity
    if (sent + ratePerSecond * stepSeconds >= requests) {
      return nowSeconds + (requests - sent) / ratePerSecond
    }
    inFlight[step % stepsInFlight] = ratePerSecond * stepSeconds
    sent += ratePerSecond * stepSeconds
  }
  return Infinity
}

/**
 * How close a run came: 1 is the fluid optimum.
 *
 * **Units**
 *
 * Seconds; `measuredSeconds` from the first sending to the last answer, of which the last call's latency is nobody's
 * loss: one median latency is taken off.
 *
 * **Errors**
 *
 * Throws a `RangeError` when a time is negative or not a number.
 *
 * **Gotchas**
 *
 * The optimum has no burst, so a short run can score above 1; one that took no longer than a latency scores `Infinity`.
 *
 * **Example** (One second lost in a minute)
 *
 * ```ts
 * import * as FluidOptimum from "@evenkeel/core/testing/FluidOptimum"
 *
 * FluidOptimum.score(59, 61.5, 1.5).toFixed(3) // => "0.983"
 * ```
 */
export const score = (optimumSeconds: number, measuredSeconds: number, latencySeconds: number): number => {
  for (const [name, value] of Object.entries({ optimumSeconds, measuredSeconds, latencySeconds })) {
    if (!(value >= 0)) throw new RangeError(`FluidOptimum.score: ${name} must be >= 0, got ${value}`)
  }
  return measuredSeconds > latencySeconds ? optimumSeconds / (measuredSeconds - latencySeconds) : Infinity
}

const admissible = (scenario: Scenario.Scenario, limit: number, seconds: number): number => {
  const { overloadConsumes, soft } = scenario.enforcement
  const passing = 1 - Scenario.at(scenario.platform.overloadProbability, seconds)
  if (passing === 0) return 0
  const granted = soft ? Infinity : overloadConsumes ? limit * passing : limit
  return Math.min(granted, ScenarioLimit.capacityAt(scenario, seconds))
}

/** Will nothing change any more? Then a rate of zero stays zero. */
const isLast = (scenario: Scenario.Scenario, seconds: number): boolean =>
  ScenarioLimit.nextChange(scenario, seconds) === Infinity &&
  Scenario.nextStep(scenario.platform.overloadProbability, seconds) === Infinity

const check = (name: string, value: number): void => {
  if (!(value >= 0 && value < Infinity)) {
    throw new RangeError(`FluidOptimum.seconds: ${name} must be a finite number >= 0, got ${value}`)
  }
}

/** A three-hundredth of the usual latency: the rate grows by some percent a second, so a step loses next to nothing. */
const longestStepSeconds = 0.005

/** So that a latency of nothing still makes progress. */
const shortestStepSeconds = 0.001

/** A day: work that takes longer is taken for work that never ends. */
const mostSeconds = 86_400
