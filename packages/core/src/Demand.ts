/**
 * What a call asks for: which key it draws on, what it costs, how urgent it is.
 *
 * Here belong the words of the request side: `Demand`, `Cost`, `Key` and the names of the limited sums. Nothing here
 * decides, waits or reads a clock.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/**
 * The sums that a provider may limit.
 *
 * **Details**
 *
 * `tokens` is input plus output. `concurrency` counts calls in flight.
 */
export type Dimension = "requests" | "tokens" | "inputTokens" | "outputTokens" | "concurrency"

/**
 * What one call uses, as a vector over the limited sums. It also occupies one place in flight.
 *
 * **Units**
 *
 * Requests and tokens, both counts of zero or more.
 */
export interface Cost {
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
}

/** One request and no tokens. */
export const oneRequest: Cost = { requests: 1, inputTokens: 0, outputTokens: 0 }

/** What a cost adds to one limited sum. */
export const costIn = (cost: Cost, dimension: Dimension): number => {
  switch (dimension) {
    case "requests":
      return cost.requests
    case "inputTokens":
      return cost.inputTokens
    case "outputTokens":
      return cost.outputTokens
    case "tokens":
      return cost.inputTokens + cost.outputTokens
    case "concurrency":
      return 1
  }
}

/**
 * Whose limit a call draws on: one organisation's rate for one model at one origin.
 *
 * **Shape**
 *
 * `id` is the three parts joined, and what maps and stores are keyed by. It holds no secret: the organisation is a name
 * or a digest.
 */
export interface Key {
  readonly origin: string
  readonly organisation: string
  readonly model: string
  readonly id: string
}

/**
 * Makes a `Key` from its parts.
 *
 * **Details**
 *
 * Two keys are the same exactly when their `id`s are. Parts are escaped, so no choice of parts makes two keys collide.
 */
export const key = (origin: string, organisation: string, model: string): Key => ({
  origin,
  organisation,
  model,
  id: `${escapePart(origin)}|${escapePart(organisation)}|${escapePart(model)}`
})

/**
 * One call's request to be let through.
 *
 * **Units**
 *
 * `priority`: higher goes first, 0 by default. `startWithinMillis`: milliseconds from the offer to the latest start;
 * `Infinity` waits for ever.
 *
 * **Details**
 *
 * `tenant` names who shares the key (the unit of fairness), `credential` the secret used (by digest, never the secret
 * itself): a refused credential stops its calls, not the organisation's. `workload` labels usage records.
 * `idempotent` says that sending twice is harmless, which is what lets an *unknown* outcome be retried. `cachedInput` says
 * that a part of the input may come from the provider's cache and be free: then no input is too large for a limit.
 */
export interface Demand {
  readonly key: Key
  readonly cost: Cost
  readonly priority: number
  readonly tenant: string
  readonly credential: string
  readonly workload: string
  readonly startWithinMillis: number
  readonly idempotent: boolean
  readonly cachedInput: boolean
}

/**
 * Makes a `Demand`, filling in what is not given.
 *
 * **Errors**
 *
 * Throws a `RangeError` when a cost is negative or not finite, or `priority` or `startWithin` is not a number.
 *
 * **Example** (A call that must start within a minute)
 *
 * ```ts
 * import * as Demand from "@evenkeel/core/Demand"
 *
 * const demand = Demand.make({
 *   key: Demand.key("https://api.together.xyz", "acme", "llama"),
 *   cost: { inputTokens: 120, outputTokens: 300 },
 *   startWithin: "1 minute"
 * })
 *
 * demand.cost.requests // => 1
 * demand.startWithinMillis // => 60000
 * ```
 */
export const make = (options: {
  readonly key: Key
  readonly cost?: Partial<Cost> | undefined
  readonly priority?: number | undefined
  readonly tenant?: string | undefined
  readonly credential?: string | undefined
  readonly workload?: string | undefined
  readonly startWithin?: Duration.Input | undefined
  readonly idempotent?: boolean | undefined
  readonly cachedInput?: boolean | undefined
}): Demand => {
  const cost = options.cost === undefined ? oneRequest : { ...oneRequest, ...options.cost }
  for (const sum of ["requests", "inputTokens", "outputTokens"] as const) {
    if (!(cost[sum] >= 0 && cost[sum] < Infinity)) {
      throw new RangeError(`Demand.make: cost.${sum} must be a finite number >= 0, got ${cost[sum]}`)
    }
  }
  const priority = options.priority ?? 0
  if (!Number.isFinite(priority)) throw new RangeError(`Demand.make: priority must be finite, got ${priority}`)
  return {
    key: options.key,
    cost,
    priority,
    tenant: options.tenant ?? "",
    credential: options.credential ?? "",
    workload: options.workload ?? "",
    startWithinMillis: options.startWithin === undefined ? Infinity : millisOf(options.startWithin),
    idempotent: options.idempotent ?? false,
    cachedInput: options.cachedInput ?? false
  }
}

const escapePart = (part: string): string =>
  part.includes("|") || part.includes("%") ? part.replaceAll("%", "%25").replaceAll("|", "%7C") : part

/** Effect takes the duration NaN for zero, which would make a call too late as soon as it is offered. */
const millisOf = (startWithin: Duration.Input): number => {
  const duration = Duration.fromInput(startWithin)
  if (Number.isNaN(startWithin) || Option.isNone(duration)) {
    throw new RangeError("Demand.make: startWithin must be a duration")
  }
  return Duration.toMillis(duration.value)
}
