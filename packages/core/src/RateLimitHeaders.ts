/**
 * Reads what servers say about limits in their headers, and writes the same.
 *
 * Here belongs the walk over the headers of a response. What a name tells is in `LimitNames`, how values are written in
 * `WireGrammar`; which units a provider means is its `Dialect`, which is data, and what its answer means belongs to
 * `ProviderProfile`. Nothing here decides or waits. It is pure, never throws, and gives no number that is negative, NaN or
 * infinite: what is absent or unreadable is unknown.
 *
 * **Source**
 *
 * RFC 9110 sections 5.6.7 and 10.2.3 for dates and `Retry-After`, draft-ietf-httpapi-ratelimit-headers 03 to 11, RFC 9651,
 * and the providers' own pages.
 */
import * as Predicate from "effect/Predicate"
import type { Dimension } from "./Demand.ts"
import * as ErrorBody from "./internal/ErrorBody.ts"
import * as IetfFields from "./internal/IetfFields.ts"
import * as LimitNames from "./internal/LimitNames.ts"
import * as WireGrammar from "./internal/WireGrammar.ts"
import { type LimitReading, nothingRead, type Policy, type Reading } from "./Outcome.ts"
import * as StructuredFields from "./StructuredFields.ts"

/** Response headers: lower-case names, several lines of one field joined by a comma. */
export type Headers = Readonly<Record<string, string | undefined>>

/**
 * How a bare number in a reset is to be read.
 *
 * **Shape**
 *
 * | form | means |
 * | --- | --- |
 * | `moment` | told by its looks: 10¹² or more is an epoch in milliseconds, 10⁹ or more in seconds, less is seconds from the response |
 * | `seconds` | seconds from the response, however many |
 * | `milliseconds` | milliseconds from the response |
 * | `duration` | nothing: its unit is not known |
 *
 * **Details**
 *
 * Durations (`6m0s`) and dates tell their unit themselves, in each form.
 */
export type Form = "moment" | "seconds" | "milliseconds" | "duration"

/**
 * What the names of a provider's headers do not tell, as data.
 *
 * **Units**
 *
 * `windows`: the span that a limit on a sum covers, seconds. `"arithmetic"` says a minute, unless limit, remaining and reset
 * together say a day; it is what a header that names its sum means by default. A bare header has no window by default.
 *
 * **Details**
 *
 * `refusals` are the statuses that may mean *limited*. `resetHint` names a reset that says how long to wait after a
 * refusal, whichever sum was limited. `spelling` is how limits are written: a name for each sum, with `{}` for the part.
 * `ietf` writes the fields of the IETF draft.
 */
export interface Dialect {
  readonly name: string
  readonly resetForm?: Form
  readonly windows?: Readonly<Partial<Record<Dimension, number | "arithmetic">>>
  readonly refusals: ReadonlyArray<number>
  readonly resetHint?: string
  readonly spelling?: Readonly<Partial<Record<Dimension, string>>> | "ietf"
}

/**
 * Reads all that one response says about limits.
 *
 * **Units**
 *
 * `nowMillis` is wall-clock time at receipt. Absolute times are measured against the response's own `Date` when it has
 * one.
 *
 * **Details**
 *
 * Every dialect's names are read, and the IETF's fields; `dialect` tells the units that names do not. `body` is that of an
 * error: parsed JSON, or text. `limited` is the sum that the body named, `refused` says that our traffic was refused (by
 * default: one of the dialect's `refusals`). The hint is the first of `retry-after-ms`, `x-ms-retry-after-ms`,
 * `retry-after`, the body, the reset of the limited sum that is there and above zero. Of a comma-joined field the most
 * careful readable member counts: least remaining, longest wait; of a list of policies the first, and the others stand
 * beside it. A negative remaining under a real limit is 0, a negative limit is unknown. What came from a cache (`Age`)
 * says nothing of now. At most 256 headers are looked at, 1,024 characters of a value, and 32 limits kept.
 *
 * **Gotchas**
 *
 * On a success the hint is for information only: providers send `Retry-After` with status 200.
 *
 * **Example** (One answer of a per-minute limit)
 *
 * ```ts
 * import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
 * import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
 *
 * const headers = {
 *   "x-ratelimit-limit-requests": "500",
 *   "x-ratelimit-remaining-requests": "499",
 *   "x-ratelimit-reset-requests": "120ms"
 * }
 * const { dialect } = ProviderProfile.openai
 * const reading = RateLimitHeaders.read(headers, { dialect, status: 200, nowMillis: 0 })
 *
 * reading.limits[0]?.resetSeconds // => 0.12
 * reading.limits[0]?.windowSeconds // => 60
 * ```
 */
export const read = (
  headers: Headers,
  options: {
    readonly dialect: Dialect
    readonly status: number
    readonly nowMillis: number
    readonly body?: unknown
    readonly limited?: Dimension | undefined
    readonly refused?: boolean | undefined
  }
): Reading => {
  const look: Look = {
    headers,
    dialect: options.dialect,
    clock: { nowMillis: options.nowMillis, dateHeader: headers["date"] },
    malformed: []
  }
  const { age } = headers
  const isCached = age !== undefined && (WireGrammar.parseNumber(age) ?? 0) > 0
  const found: Array<Found> = isCached ? [] : byName(look)
  const { limits: standard, policies } = isCached ? nothingRead : byStandard(look, found)
  const known = policies.length === 0 ? found : found.map((each) => ({ ...each, limit: joined(each.limit, policies) }))
  for (const limit of standard) known.push({ limit, resetName: "ratelimit" })
  const hint = toldWait(look) ??
    (options.status >= 400 || options.body !== undefined
      ? ErrorBody.waitOf(options.body) ?? resetWait(look, known, options)
      : undefined)
  if (known.length === 0 && policies.length === 0 && hint === undefined && look.malformed.length === 0) {
    return nothingRead
  }
  return {
    limits: known.map(({ limit }) => limit),
    policies,
    retryAfterSeconds: hint?.seconds,
    retryAfterSource: hint?.source,
    malformed: look.malformed
  }
}

/**
 * The limit that a sum is known by: the one of the shortest window that does not stand aside.
 */
export const primary = (reading: Reading, dimension: Dimension): LimitReading | undefined => {
  let best: LimitReading | undefined
  for (const limit of reading.limits) {
    if (limit.dimension !== dimension || limit.aside === true) continue
    if (best === undefined || (limit.windowSeconds ?? Infinity) < (best.windowSeconds ?? Infinity)) best = limit
  }
  return best
}

/**
 * The limit on one sum that binds soonest.
 *
 * **Details**
 *
 * The lowest `ratePerSecond` where rates are known, else the lowest `limit`. Limits whose policy is `dynamic` win over
 * the others on the same sum: they are what is enforced now.
 */
export const tightest = (reading: Reading, dimension: Dimension): LimitReading | undefined => {
  let best: LimitReading | undefined
  for (const limit of reading.limits) {
    if (limit.dimension === dimension && (best === undefined || binds(limit, best))) best = limit
  }
  return best
}

/** The one sum of which the response says that nothing is left; undefined when there is none or more than one. */
export const emptied = (reading: Reading): Dimension | undefined => {
  let found: Dimension | undefined
  for (const { dimension, remaining } of reading.limits) {
    if (remaining !== 0 || dimension === "other" || dimension === found) continue
    if (found !== undefined) return undefined
    found = dimension
  }
  return found
}

/**
 * Writes limits as headers, for the provider half.
 *
 * **Units**
 *
 * Figures are written as they are, to six decimals; the IETF's fields in whole numbers, limits rounded down and times up;
 * `retryAfterSeconds` as a whole number, rounded up, at least 1.
 *
 * **Details**
 *
 * What `write` wrote, `read` reads back. The dialects of Together, OpenAI and the IETF have names to write; with others
 * only `Retry-After` is written. A limit for which the dialect has no name is left out, and so is a figure of it that is
 * negative or not finite.
 *
 * **Example** (What a limiter tells)
 *
 * ```ts
 * import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
 * import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
 *
 * RateLimitHeaders.write(
 *   ProviderProfile.together.dialect,
 *   [{ dimension: "requests", limit: 2, remaining: 0, resetSeconds: 0.5 }],
 *   { retryAfterSeconds: 0.5 }
 * ) // => { "x-ratelimit-limit": "2", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "0.5", "retry-after": "1" }
 * ```
 */
export const write = (
  dialect: Dialect,
  limits: ReadonlyArray<LimitReading>,
  options?: { readonly retryAfterSeconds?: number | undefined }
): Record<string, string> => {
  const headers: Record<string, string> = dialect.spelling === "ietf" ? IetfFields.write(limits) : {}
  for (const limit of dialect.spelling === "ietf" ? [] : limits) spell(headers, dialect, limit)
  const wait = Math.max(1, Math.ceil(options?.retryAfterSeconds ?? NaN))
  if (isWritable(wait)) headers["retry-after"] = decimal(wait)
  return headers
}

/**
 * A plain decimal number, or undefined.
 *
 * **Details**
 *
 * Digits, a sign and a fraction; no exponent, no hexadecimal, no infinity, and nothing is not zero.
 *
 * **Example** (What is a number)
 *
 * ```ts
 * import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
 *
 * RateLimitHeaders.parseNumber("12.5") // => 12.5
 * RateLimitHeaders.parseNumber("1e3") // => undefined
 * RateLimitHeaders.parseNumber("") // => undefined
 * ```
 */
export const parseNumber: (text: string) => number | undefined = WireGrammar.parseNumber

/**
 * The seconds of a duration such as `6m0s`, or undefined.
 *
 * **Units**
 *
 * Seconds, fractions kept.
 *
 * **Details**
 *
 * Days, hours, minutes, seconds, milliseconds in this order, at least one of them; seconds and milliseconds may have a
 * fraction. A bare number is no duration: its unit is not known.
 *
 * **Example** (Minutes and milliseconds)
 *
 * ```ts
 * import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
 *
 * RateLimitHeaders.parseDurationSeconds("6m0s") // => 360
 * RateLimitHeaders.parseDurationSeconds("120ms") // => 0.12
 * RateLimitHeaders.parseDurationSeconds("4h17m") // => 15420
 * ```
 */
export const parseDurationSeconds: (text: string) => number | undefined = WireGrammar.parseDurationSeconds

/**
 * The usable wait of a `Retry-After` field, or undefined.
 *
 * **Units**
 *
 * Seconds, above zero. `nowMillis` is wall-clock time at receipt, used when `dateHeader` is absent or unreadable.
 *
 * **Details**
 *
 * Seconds (a fraction is tolerated), a duration, or a date in any of the three HTTP forms. Of several members the
 * longest wait counts. Zero, a negative number and a date that has passed are no wait.
 *
 * **Example** (A server whose clock differs from ours)
 *
 * ```ts
 * import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
 *
 * const dateHeader = "Mon, 05 Aug 2019 09:27:00 GMT"
 * RateLimitHeaders.parseRetryAfterSeconds("Mon, 05 Aug 2019 09:27:05 GMT", { nowMillis: 0, dateHeader }) // => 5
 * RateLimitHeaders.parseRetryAfterSeconds("0", { nowMillis: 0 }) // => undefined
 * ```
 */
export const parseRetryAfterSeconds = (
  value: string,
  clock: { readonly nowMillis: number; readonly dateHeader?: string | undefined }
): number | undefined => {
  const made: WireGrammar.Clock = { ...clock }
  const seconds = WireGrammar.most(value, (member) => WireGrammar.parseWaitSeconds(member, made))
  return seconds !== undefined && seconds > 0 ? seconds : undefined
}

interface Look {
  readonly headers: Headers
  readonly dialect: Dialect
  readonly clock: WireGrammar.Clock
  readonly malformed: Array<{ readonly name: string; readonly raw: string }>
}

/** A limit, and the header that told its reset. */
interface Found {
  readonly limit: LimitReading
  readonly resetName: string | undefined
}

interface Wait {
  readonly seconds: number
  readonly source: string
}

/** The figures of one limit as they are gathered, header by header. */
interface Gathered {
  readonly named: LimitNames.Named
  limit?: number
  remaining?: number
  used?: number
  resetSeconds?: number
  resetName?: string
  isDelta?: true
  windowSeconds?: number
  beside?: ReadonlyArray<LimitReading>
}

/** What the headers say whose names tell a limit. */
const byName = (look: Look): Array<Found> => {
  const limits: Array<Gathered> = []
  let looked = 0
  for (const name of Object.keys(look.headers)) {
    if (++looked > mostHeaders) break
    const named = LimitNames.nameOf(name)
    const raw = named === undefined ? undefined : look.headers[name]
    if (named === undefined || raw === undefined) continue
    let gathered = limits.find((each) => each.named.id === named.id)
    if (gathered === undefined) {
      if (limits.length >= mostLimits) continue
      limits.push(gathered = { named })
    }
    if (!gather(look, gathered, named, name, raw)) malformed(look, name, raw)
  }
  const found: Array<Found> = []
  for (const gathered of limits) {
    const limit = assemble(look.dialect, gathered, limits)
    if (limit !== undefined) found.push({ limit, resetName: gathered.resetName })
    for (const policy of gathered.beside ?? []) found.push({ limit: policy, resetName: undefined })
  }
  return found
}

/** Takes up one header; says whether it could be read. */
const gather = (
  look: Look,
  gathered: Gathered,
  named: LimitNames.Named,
  name: string,
  raw: string
): boolean => {
  switch (named.part) {
    case "limit":
      if (raw.includes(";")) return gatherPolicies(gathered, raw)
      return keep(gathered, "limit", WireGrammar.least(raw, WireGrammar.parseNumber))
    case "remaining":
      return keep(gathered, "remaining", WireGrammar.least(raw, WireGrammar.parseNumber))
    case "used":
      return keep(gathered, "used", WireGrammar.most(raw, WireGrammar.parseNumber))
    case "window":
      return keep(
        gathered,
        "windowSeconds",
        WireGrammar.most(raw, (text) => WireGrammar.parseNumber(text) ?? WireGrammar.parseDurationSeconds(text))
      )
    case "pair":
      return gatherPair(gathered, raw)
    case "json":
      return gatherJson(look, gathered, name, raw)
    case "resetAfter":
    case "reset": {
      if (gathered.isDelta === true) return true
      const form = named.part === "resetAfter" || named.isSeconds ? "seconds" : look.dialect.resetForm ?? "moment"
      const isRead = keep(
        gathered,
        "resetSeconds",
        WireGrammar.most(raw, (text) => resetSeconds(text, form, look.clock))
      )
      if (isRead) gathered.resetName = name
      // A span needs no clock, so it is trusted before an instant.
      if (isRead && named.part === "resetAfter") gathered.isDelta = true
      return isRead
    }
  }
}

const keep = (
  gathered: Gathered,
  part: "limit" | "remaining" | "used" | "resetSeconds" | "windowSeconds",
  figure: number | undefined
): boolean => {
  if (figure !== undefined) gathered[part] = figure
  return figure !== undefined
}

/** `10, 10;w=1;name="per-ip", 1000;w=3600`: the first is in force now, the others are what it comes from. */
const gatherPolicies = (gathered: Gathered, raw: string): boolean => {
  const [first, ...others] = (StructuredFields.parseList(raw) ?? []).slice(0, mostPolicies)
  if (first?._tag !== "Item" || first.bare._tag !== "Integer") return false
  gathered.limit = first.bare.value
  const beside = [first, ...others].flatMap((member): ReadonlyArray<LimitReading> => {
    const windowSeconds = member.parameters.get("w") ?? member.parameters.get("window")
    const isTold = member._tag === "Item" && member.bare._tag === "Integer" && windowSeconds?._tag === "Integer"
    if (!isTold || !(member.bare.value >= 0 && windowSeconds.value > 0)) return []
    const name = member.parameters.get("name")
    return [{
      dimension: gathered.named.dimension,
      policy: name?._tag === "String"
        ? name.value.slice(0, mostRawKept)
        : `${member.bare.value} per ${windowSeconds.value} s`,
      limit: member.bare.value,
      windowSeconds: windowSeconds.value,
      ratePerSecond: member.bare.value / windowSeconds.value,
      aside: true
    }]
  })
  gathered.beside = beside
  const same = beside.filter(({ limit }) => limit === gathered.limit)
  if (same.length === 1) gathered.windowSeconds = same[0]!.windowSeconds!
  return true
}

/** `32/40`: used of the limit. */
const gatherPair = (gathered: Gathered, raw: string): boolean => {
  const [used, limit, ...rest] = raw.split("/", 3).map(WireGrammar.parseNumber)
  if (used === undefined || limit === undefined || rest.length > 0) return false
  gathered.limit = limit
  gathered.remaining = limit - used
  return true
}

/** `{"period":10,"limit":50,"remaining":0,"until":"2016-01-01T12:00:20Z"}`. */
const gatherJson = (look: Look, gathered: Gathered, name: string, raw: string): boolean => {
  const json = raw.length > mostJson ? undefined : ErrorBody.parsed(raw)
  if (!Predicate.isObject(json)) return false
  const figures: Readonly<Record<string, unknown>> = { ...json }
  keep(gathered, "limit", ErrorBody.figureOf(figures["limit"]))
  keep(gathered, "remaining", ErrorBody.figureOf(figures["remaining"]))
  keep(gathered, "windowSeconds", ErrorBody.figureOf(figures["period"]))
  const until = figures["until"] ?? figures["reset"]
  if (typeof until !== "string" && typeof until !== "number") return true
  if (keep(gathered, "resetSeconds", WireGrammar.parseMomentSeconds(`${until}`, look.clock))) gathered.resetName = name
  return true
}

/** Makes a reading of what was gathered, where any figure was. */
const assemble = (
  dialect: Dialect,
  gathered: Gathered,
  all: ReadonlyArray<Gathered>
): LimitReading | undefined => {
  const { named, used } = gathered
  const limit = isZeroOrMore(gathered.limit) ? gathered.limit : undefined
  // Over by one, or by more, is nothing left.
  const left = limit === undefined || gathered.remaining === undefined
    ? gathered.remaining
    : Math.max(0, gathered.remaining)
  const remaining = isZeroOrMore(left) ? left : undefined
  const whole = limit ?? (remaining !== undefined && isZeroOrMore(used) ? remaining + used : undefined)
  if (whole === undefined && remaining === undefined && gathered.resetSeconds === undefined) return undefined
  const reading: { -readonly [K in keyof LimitReading]: LimitReading[K] } = { dimension: named.dimension }
  if (named.policy !== undefined) reading.policy = named.policy
  if (whole !== undefined) reading.limit = whole
  if (remaining !== undefined) reading.remaining = remaining
  if (gathered.resetSeconds !== undefined) reading.resetSeconds = Math.max(0, gathered.resetSeconds)
  const windowSeconds = windowOf(dialect, gathered, whole, remaining)
  if (windowSeconds !== undefined) {
    reading.windowSeconds = windowSeconds
    if (whole !== undefined) reading.ratePerSecond = whole / windowSeconds
  }
  if (named.isPart || (named.isDynamic && all.some((other) => isPlain(other, named)))) reading.aside = true
  return reading
}

const isPlain = ({ named }: Gathered, of: LimitNames.Named): boolean =>
  named.dimension === of.dimension && !named.isPart && !named.isDynamic

const windowOf = (
  dialect: Dialect,
  gathered: Gathered,
  limit: number | undefined,
  remaining: number | undefined
): number | undefined => {
  const { named, resetSeconds, windowSeconds } = gathered
  const told = named.windowSeconds ?? windowSeconds
  if (told !== undefined) return told > 0 ? told : undefined
  const { dimension } = named
  if (dimension === "other") return undefined
  const isUsual = named.isNamed && (dimension === "requests" || dimension === "tokens")
  const window = dialect.windows?.[dimension] ?? (isUsual ? "arithmetic" : undefined)
  if (window !== "arithmetic") return window
  return limit === undefined ? undefined : saysDay(limit, remaining, resetSeconds) ? daySeconds : 60
}

/** What the IETF's fields say. Where a sum is known by a header of its own already, they stand beside it. */
const byStandard = (
  look: Look,
  found: ReadonlyArray<Found>
): { readonly limits: ReadonlyArray<LimitReading>; readonly policies: ReadonlyArray<Policy> } => {
  const { ratelimit, "ratelimit-policy": policy } = look.headers
  if (ratelimit === undefined && policy === undefined) return nothingRead
  const told = IetfFields.read(ratelimit, policy)
  for (const name of told.malformed) malformed(look, name, look.headers[name] ?? "")
  const isKnown = ({ dimension }: LimitReading) =>
    found.some(({ limit }) => limit.dimension === dimension && limit.aside !== true)
  return {
    policies: told.policies,
    limits: told.limits.map((limit) => (isKnown(limit) ? { ...limit, aside: true } : limit))
  }
}

/** The trio of the older drafts has its window in the policy of the same figure. */
const joined = (limit: LimitReading, policies: ReadonlyArray<Policy>): LimitReading => {
  if (limit.dimension !== "requests" || limit.limit === undefined || limit.windowSeconds !== undefined) return limit
  return { ...limit, ...IetfFields.toldOfFigure(limit.limit, policies) }
}

const malformed = (look: Look, name: string, raw: string): void => {
  look.malformed.push({ name, raw: raw.slice(0, mostRawKept) })
}

const isZeroOrMore = (figure: number | undefined): figure is number => figure !== undefined && figure >= 0

/**
 * Do these figures speak of a day? A reset is the time until the limit is whole again, so that used slots ÷ (limit ÷
 * window), less what has passed of the youngest slot, gives the window away.
 */
const saysDay = (limit: number, remaining: number | undefined, reset: number | undefined): boolean => {
  if (remaining === undefined || reset === undefined || remaining >= limit) return false
  const used = limit - remaining
  const wholeInMinute = (used * 60) / limit
  // Written in milliseconds it may be rounded up by one, in seconds by nearly a second.
  if (reset <= (Number.isInteger(reset) ? Math.ceil(wholeInMinute) : wholeInMinute + 0.001)) return false
  const wholeInDay = (used * daySeconds) / limit
  if (reset > wholeInDay * 1.05) return false
  return reset > longestOfMinute || reset >= wholeInDay * 0.95 * Math.max(0.5, 1 - 1 / used)
}

/** What a header says of the wait, in the order of trust. */
const toldWait = (look: Look): Wait | undefined => {
  for (const name of millisHints) {
    const raw = look.headers[name]
    if (raw === undefined) continue
    const millis = WireGrammar.most(raw, WireGrammar.parseNumber)
    if (millis === undefined) malformed(look, name, raw)
    else if (millis > 0) return { seconds: millis / 1000, source: name }
  }
  const raw = look.headers["retry-after"]
  if (raw === undefined) return undefined
  const seconds = WireGrammar.most(raw, (member) => WireGrammar.parseWaitSeconds(member, look.clock))
  if (seconds === undefined) malformed(look, "retry-after", raw)
  return seconds !== undefined && seconds > 0 ? { seconds, source: "retry-after" } : undefined
}

/** The reset of what is limited: what the body named, else what is empty, else the only sum spoken of. */
const resetWait = (
  look: Look,
  found: ReadonlyArray<Found>,
  options: {
    readonly dialect: Dialect
    readonly status: number
    readonly limited?: Dimension | undefined
    readonly refused?: boolean | undefined
  }
): Wait | undefined => {
  const { dialect, limited, status } = options
  if (limited === undefined && !(options.refused ?? dialect.refusals.includes(status))) return undefined
  const named = limited === undefined ? found : found.filter(({ limit }) => limit.dimension === limited)
  const empty = named.filter(({ limit }) => limit.remaining === 0)
  const alone = limited !== undefined || (named.length === 1 && named[0]?.limit.remaining === undefined)
  let wait: Wait | undefined
  for (const { limit, resetName } of empty.length > 0 ? empty : alone ? named : []) {
    const seconds = limit.resetSeconds ?? 0
    if (resetName !== undefined && seconds > (wait?.seconds ?? 0)) wait = { seconds, source: resetName }
  }
  if (wait !== undefined || dialect.resetHint === undefined) return wait
  const raw = look.headers[dialect.resetHint]
  const form = dialect.resetForm ?? "moment"
  const seconds = raw === undefined ? undefined : WireGrammar.most(raw, (text) => resetSeconds(text, form, look.clock))
  return seconds !== undefined && seconds > 0 ? { seconds, source: dialect.resetHint } : undefined
}

const resetSeconds = (text: string, form: Form, clock: WireGrammar.Clock): number | undefined => {
  const number = form === "moment" ? undefined : WireGrammar.parseNumber(text)
  if (number === undefined) return WireGrammar.parseMomentSeconds(text, clock)
  return form === "duration" ? undefined : form === "milliseconds" ? number / 1000 : number
}

const binds = (one: LimitReading, other: LimitReading): boolean => {
  const says = (limit: LimitReading) => limit.policy === "dynamic" && limit.limit !== undefined
  if (says(one) !== says(other)) return says(one)
  if (one.ratePerSecond !== undefined || other.ratePerSecond !== undefined) {
    return (one.ratePerSecond ?? Infinity) < (other.ratePerSecond ?? Infinity)
  }
  return (one.limit ?? Infinity) < (other.limit ?? Infinity)
}

/** Adds the headers of one limit, in the names of the dialect. */
const spell = (headers: Record<string, string>, dialect: Dialect, limit: LimitReading): void => {
  const { dimension, policy } = limit
  const template = dialect.spelling === "ietf" || dimension === "other" ? undefined : dialect.spelling?.[dimension]
  if (template === undefined || (policy !== undefined && policy !== "dynamic")) return
  const figures = [["limit", limit.limit], ["remaining", limit.remaining], ["reset", limit.resetSeconds]] as const
  for (const [part, figure] of figures) {
    if (figure === undefined || !isWritable(figure)) continue
    const name = template.replace("{}", part) + (policy === undefined ? "" : `-${policy}`)
    const form = part === "reset" ? dialect.resetForm : undefined
    headers[name] = decimal(form === "milliseconds" ? figure * 1000 : figure) + (form === "duration" ? "s" : "")
  }
}

const isWritable = (figure: number): boolean => figure >= 0 && figure < mostWritten

/** Six decimals are microseconds, and a tenth of a call per day; no exponent, which no reader accepts. */
const decimal = (
  value: number
): string => (Number.isInteger(value) ? value.toString() : value.toFixed(6).replace(/\.?0+$/, ""))

const millisHints = ["retry-after-ms", "x-ms-retry-after-ms"]

const daySeconds = 86_400

/** A limit per minute is whole again within a minute; nobody shows one that takes an hour. */
const longestOfMinute = 3600

/** Headers of one response that are looked at; no response seen has a quarter of it. */
const mostHeaders = 256

/** Limits of one response that are kept; no response seen has more than six. */
const mostLimits = 32

/** Policies of one list that are kept. */
const mostPolicies = 8

/** Characters of a header that holds an object. */
const mostJson = 1024

/** Characters of an unreadable value, or of a name, that are kept. */
const mostRawKept = 200

/** Where a double stops counting by ones, and `toString` is still plain digits. */
const mostWritten = 2 ** 53
