/**
 * Folds what happens into a pace: the rate at which a key should be sent to.
 *
 * Here belong the contract of a controller (pure steps, each with its reason), the controllers themselves and the
 * reference that chooses one by Layer. The laws for one limited sum and for short capacity are `LimitTracker` and
 * `CapacityGuard`; waiting, sharing and sending are not here.
 *
 * **Source**
 *
 * `LimitTracker` says where the adaptive law comes from.
 */
import * as Context from "effect/Context"
import * as CapacityGuard from "./CapacityGuard.ts"
import type { Cost, Dimension } from "./Demand.ts"
import * as LimitTracker from "./LimitTracker.ts"
import type { Outcome, Reading } from "./Outcome.ts"
import * as Pace from "./Pace.ts"
import * as RateLimitHeaders from "./RateLimitHeaders.ts"

/** The sum that held a call back, `overload` for short capacity. */
export type Binding = Dimension | "overload"

/**
 * What a controller is told.
 *
 * **Details**
 *
 * `Sent`: a call left; `binding` is the sum for which it had to wait, if it did. `Verdict`: headers came or failed to,
 * once for each call that left, and again where the body of a success was a refusal after all. `Settled`: its body ended; `reserved` is what was charged at the start. `Woke`:
 * the instant that `wakeAtMillis` asked for.
 */
export type Event =
  | { readonly _tag: "Sent"; readonly cost: Cost; readonly binding: Binding | undefined }
  | { readonly _tag: "Verdict"; readonly cost: Cost; readonly sentAtMillis: number; readonly outcome: Outcome }
  | { readonly _tag: "Settled"; readonly reserved: Cost; readonly used: Cost }
  | { readonly _tag: "Woke" }

/** Why a step changed what it changed; `undefined` when it changed nothing worth telling. */
export type Reason =
  | "limit told"
  | "limit confirmed"
  | "refused"
  | "storm"
  | "capacity short"
  | "capacity back"

/** A state and the reason for it. */
export interface Step<State> {
  readonly state: State
  readonly reason: Reason | undefined
}

/**
 * What was learned of a key, as it is stored and shared: JSON, versioned by its maker.
 *
 * **Details**
 *
 * Opaque to every store. A controller that cannot read it starts from nothing.
 */
export type Learned = Readonly<Record<string, unknown>>

/** The state of a controller whose kind is not known here: each controller reads only what it made itself. */
// oxlint-disable-next-line typescript/no-explicit-any
export type AnyState = any

/**
 * A controller: pure functions of (state, event, now).
 *
 * **Units**
 *
 * `now` in milliseconds on the pacing clock. `ageMillis` is how old what was learned is.
 *
 * **Details**
 *
 * `start` begins with what was learned some time ago; `adopt` takes over what another holder of the same key has just
 * learned. `wakeAtMillis` asks for a `Woke` event, `Infinity` for none.
 */
export interface RateController<in out State = AnyState> {
  readonly name: string
  readonly start: (now: number, learned: Learned | undefined, ageMillis: number) => State
  readonly step: (state: State, event: Event, now: number) => Step<State>
  readonly pace: (state: State) => Pace.Pace
  readonly wakeAtMillis: (state: State) => number
  readonly learned: (state: State) => Learned | undefined
  readonly adopt: (state: State, learned: Learned, now: number) => State
}

/**
 * A pace that never changes.
 *
 * **Example** (60 per minute is 1 per second)
 *
 * ```ts
 * import * as Pace from "@evenkeel/core/Pace"
 * import * as RateController from "@evenkeel/core/RateController"
 *
 * const controller = RateController.fixed({ requests: Pace.perMinute(60) })
 *
 * controller.pace(controller.start(0, undefined, 0)).requests.ratePerSecond // => 1
 * ```
 */
export const fixed = (pace: Partial<Pace.Pace>): RateController => {
  const whole: Pace.Pace = { ...Pace.unbounded, ...pace }
  return {
    name: "fixed",
    start: () => undefined,
    step: () => ({ state: undefined, reason: undefined }),
    pace: () => whole,
    wakeAtMillis: () => Infinity,
    learned: () => undefined,
    adopt: (state) => state
  }
}

/** What `adaptive` knows of a key. */
export interface AdaptiveState {
  readonly requests: LimitTracker.LimitTracker
  readonly tokens: LimitTracker.LimitTracker
  readonly capacity: CapacityGuard.CapacityGuard
  readonly tokensPerCall: number
  readonly refusalMillis: number
}

/**
 * Finds an unknown, moving limit: from headers where there are any, from refusals and silence where there are none.
 *
 * **Units**
 *
 * `startPerSecond` requests per second to begin with (2), `burstSeconds` seconds of the rate that may be saved up (0.03).
 *
 * **Details**
 *
 * A 429 lowers the pace of the sum it names and no other. A 503 never changes what was learned. An unknown outcome
 * teaches nothing. What is learned is stored as a rate, and starts the next run at that rate, halved with each ten
 * minutes of its age.
 */
export const adaptive = (options?: {
  readonly startPerSecond?: number | undefined
  readonly burstSeconds?: number | undefined
}): RateController<AdaptiveState> => {
  const startPerSecond = options?.startPerSecond ?? LimitTracker.startPerSecond
  const burstSeconds = options?.burstSeconds ?? Pace.defaultBurstSeconds
  if (!(startPerSecond > 0 && startPerSecond < Infinity)) {
    throw new RangeError(`RateController.adaptive: startPerSecond must be finite and > 0, got ${startPerSecond}`)
  }
  // The floor is one of calls: in tokens it is that many calls' worth, or one call would take for ever.
  const rate = (tracker: LimitTracker.LimitTracker, unit: number): Pace.Rate =>
    Pace.rate(Math.max(LimitTracker.ratePerSecond(tracker), LimitTracker.floorPerSecond * unit), burstSeconds)
  return {
    name: "adaptive",
    start: (now, learned, ageMillis) => ({
      requests: LimitTracker.make(now, { active: true, ratePerSecond: warmStart(startPerSecond, learned, ageMillis) }),
      tokens: LimitTracker.make(now, { active: false, ratePerSecond: 1 }),
      capacity: CapacityGuard.make(now),
      tokensPerCall: 0,
      refusalMillis: 250
    }),
    step: (state, event, now) => {
      switch (event._tag) {
        case "Sent":
          return { state: onSent(state, event.cost, event.binding, now), reason: undefined }
        case "Verdict":
          return onVerdict(state, event, now)
        case "Settled":
          return { state: onSettled(state, event.used), reason: undefined }
        case "Woke":
          return guarded(state, CapacityGuard.woke(state.capacity, paceRate(state), now))
      }
    },
    pace: (state) => ({
      ...Pace.unbounded,
      requests: rate(state.requests, 1),
      tokens: rate(state.tokens, state.tokensPerCall),
      overload: { ratePerSecond: CapacityGuard.ratePerSecond(state.capacity), burst: 0 }
    }),
    wakeAtMillis: (state) => CapacityGuard.wakeAtMillis(state.capacity),
    learned: (state) =>
      state.requests.hasHeader || state.requests.refused
        ? {
          version: learnedVersion,
          requestsPerSecond: LimitTracker.ratePerSecond(state.requests),
          requests: LimitTracker.lesson(state.requests),
          tokens: LimitTracker.lesson(state.tokens)
        }
        : undefined,
    adopt: (state, learned) =>
      learned["version"] === learnedVersion
        ? {
          ...state,
          requests: LimitTracker.adopt(state.requests, learned["requests"]),
          tokens: LimitTracker.adopt(state.tokens, learned["tokens"])
        }
        : state
  }
}

/**
 * The slower of a controller and a cap that the caller sets.
 *
 * **Details**
 *
 * The controller still learns underneath. A call that waited for the cap proves nothing about the provider's limit, so
 * the controller is not told that its own pace was binding.
 */
export const capped = <State>(self: RateController<State>, cap: Partial<Pace.Pace>): RateController<State> => {
  const limit: Pace.Pace = { ...Pace.unbounded, ...cap }
  const isCap = (state: State, binding: Binding): boolean =>
    binding !== "concurrency" && self.pace(state)[binding].ratePerSecond >= limit[binding].ratePerSecond
  return {
    ...self,
    name: `${self.name}, capped`,
    step: (state, event, now) =>
      self.step(
        state,
        event._tag === "Sent" && event.binding !== undefined && isCap(state, event.binding)
          ? { ...event, binding: undefined }
          : event,
        now
      ),
    pace: (state) => {
      const pace = self.pace(state)
      return {
        requests: Pace.slower(pace.requests, limit.requests),
        tokens: Pace.slower(pace.tokens, limit.tokens),
        inputTokens: Pace.slower(pace.inputTokens, limit.inputTokens),
        outputTokens: Pace.slower(pace.outputTokens, limit.outputTokens),
        overload: Pace.slower(pace.overload, limit.overload),
        inFlight: Math.min(pace.inFlight, limit.inFlight)
      }
    }
  }
}

/**
 * The controller in force, `adaptive` unless a Layer says otherwise.
 *
 * **Example** (Choosing one by Layer)
 *
 * ```ts
 * import * as Pace from "@evenkeel/core/Pace"
 * import * as RateController from "@evenkeel/core/RateController"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * const chosen = Layer.succeed(RateController.Current, RateController.fixed({ requests: Pace.rate(5) }))
 *
 * const name = Effect.gen(function*() {
 *   const controller = yield* RateController.Current
 *   return controller.name
 * })
 *
 * Effect.runSync(Effect.provide(name, chosen)) // => "fixed"
 * ```
 */
export const Current = Context.Reference<RateController>("@evenkeel/core/RateController", {
  defaultValue: () => adaptive()
})

const onSent = (state: AdaptiveState, cost: Cost, binding: Binding | undefined, now: number): AdaptiveState => {
  const tokens = cost.inputTokens + cost.outputTokens
  const tokensPerCall = state.tokensPerCall === 0 ? tokens : state.tokensPerCall
  return {
    ...state,
    tokensPerCall,
    requests: LimitTracker.sent(state.requests, LimitTracker.requestLaw, {
      cost: cost.requests,
      unit: 1,
      binding: binding === "requests"
    }, now),
    tokens: tokens === 0 ? state.tokens : LimitTracker.sent(state.tokens, LimitTracker.tokenLaw, {
      cost: tokens,
      unit: Math.max(1, tokensPerCall),
      binding: binding === "tokens"
    }, now),
    capacity: CapacityGuard.sent(state.capacity, paceRate(state), now)
  }
}

const onVerdict = (
  state: AdaptiveState,
  event: Extract<Event, { readonly _tag: "Verdict" }>,
  now: number
): Step<AdaptiveState> => {
  const { cost, outcome, sentAtMillis } = event
  const told = onReading(state, outcome.reading, sentAtMillis, now)
  if (outcome._tag === "Unknown") return told
  if (outcome._tag === "Overloaded") {
    return guarded(
      told.state,
      CapacityGuard.overloaded(told.state.capacity, sentAtMillis, paceRate(told.state), now)
    )
  }
  const answered = guarded(
    told.state,
    CapacityGuard.answered(told.state.capacity, sentAtMillis, paceRate(told.state), now)
  )
  if (outcome._tag !== "Limited") return { state: answered.state, reason: answered.reason ?? told.reason }
  const refusalMillis = state.refusalMillis + 0.1 * (1.3 * (now - sentAtMillis) - state.refusalMillis)
  // Fewer requests are also fewer calls in flight, and fewer points where calls cost no tokens.
  const isTokens = outcome.dimension !== undefined && outcome.dimension !== "requests" &&
    outcome.dimension !== "concurrency" && cost.inputTokens + cost.outputTokens > 0
  const [tracker, correction] = isTokens
    ? LimitTracker.refused(answered.state.tokens, LimitTracker.tokenLaw, {
      cost: cost.inputTokens + cost.outputTokens,
      unit: Math.max(1, state.tokensPerCall),
      sentAtMillis,
      delayMillis: refusalMillis
    }, now)
    : LimitTracker.refused(answered.state.requests, LimitTracker.requestLaw, {
      cost: cost.requests,
      unit: 1,
      sentAtMillis,
      delayMillis: refusalMillis
    }, now)
  return {
    state: { ...answered.state, refusalMillis, [isTokens ? "tokens" : "requests"]: tracker },
    reason: correction === "cut to the accepted rate"
      ? "storm"
      : correction === "agrees with the header"
      ? "limit confirmed"
      : correction === "bite"
      ? "refused"
      : undefined
  }
}

const onReading = (state: AdaptiveState, reading: Reading, sentAtMillis: number, now: number): Step<AdaptiveState> => {
  if (reading.limits.length === 0) return { state, reason: undefined }
  const requests = advertise(state.requests, reading, "requests", sentAtMillis, now)
  const tokens = advertise(state.tokens, reading, "tokens", sentAtMillis, now)
  if (requests === state.requests && tokens === state.tokens) return { state, reason: undefined }
  const changed = isNews(state.requests, requests) || isNews(state.tokens, tokens)
  return { state: { ...state, requests, tokens }, reason: changed ? "limit told" : undefined }
}

const isNews = (before: LimitTracker.LimitTracker, after: LimitTracker.LimitTracker): boolean =>
  after.advertised !== before.advertised || after.hasHeader !== before.hasHeader

/** Per second where the unit is known; else the bare figure, whose unit the trim learns. */
const advertise = (
  tracker: LimitTracker.LimitTracker,
  reading: Reading,
  dimension: Dimension,
  sentAtMillis: number,
  now: number
): LimitTracker.LimitTracker => {
  const limits = reading.limits.filter((limit) =>
    (limit.windowSeconds ?? 0) < budgetSeconds &&
    // A sentence counts where no header does; what stands aside only with its unit.
    (limit.aside !== true || (limit.ratePerSecond !== undefined && !(limit.policy === "message" && tracker.hasHeader)))
  )
  const limit = RateLimitHeaders.tightest({ ...reading, limits }, dimension)
  const told = limit?.ratePerSecond ?? limit?.limit
  return told === undefined ? tracker : LimitTracker.advertise(tracker, told, sentAtMillis, now)
}

const onSettled = (state: AdaptiveState, used: Cost): AdaptiveState => {
  const tokens = used.inputTokens + used.outputTokens
  return tokens === 0 ? state : {
    ...state,
    tokensPerCall: state.tokensPerCall === 0 ? tokens : state.tokensPerCall + 0.05 * (tokens - state.tokensPerCall)
  }
}

const guarded = (state: AdaptiveState, capacity: CapacityGuard.CapacityGuard): Step<AdaptiveState> => {
  if (capacity === state.capacity) return { state, reason: undefined }
  const short = (mode: CapacityGuard.CapacityGuard["mode"]): boolean => mode === "testing" || mode === "probing"
  const was = short(state.capacity.mode)
  const is = short(capacity.mode)
  return {
    state: { ...state, capacity },
    reason: is === was ? undefined : is ? "capacity short" : "capacity back"
  }
}

const paceRate = (state: AdaptiveState): number => LimitTracker.ratePerSecond(state.requests)

/** A provider forgets recent success with time, so what was learned counts for less the older it is. */
const warmStart = (startPerSecond: number, learned: Learned | undefined, ageMillis: number): number => {
  const rate = learned?.["version"] === learnedVersion ? learned["requestsPerSecond"] : undefined
  return typeof rate === "number" && rate > 0 && rate < Infinity
    ? Math.max(startPerSecond, rate * 0.5 ** (1 + Math.max(0, ageMillis) / halfLifeMillis))
    : startPerSecond
}

/** Of what is learned: raised whenever its meaning changes, so that nobody reads it wrong. */
const learnedVersion = 1

/** A window this long is a budget to spend, not a rate to keep: it closes the key when it is spent. */
const budgetSeconds = 3_600

const halfLifeMillis = 10 * 60_000
