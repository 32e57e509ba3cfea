/**
 * Reads what servers say about limits in their headers, and writes the same.
 *
 * Here belong the grammars (numbers, durations, dates, lists) and the walk over a `Dialect`, which is data. Which dialect
 * a provider speaks, and what its answer means, belongs to `ProviderProfile`; nothing here decides or waits. It is pure,
 * never throws, and gives no number that is negative, NaN or infinite: what is absent or unreadable is unknown.
 *
 * **Source**
 *
 * RFC 9110 sections 5.6.7 and 10.2.3 for dates and `Retry-After`, RFC 3339, and the providers' own pages.
 */
import * as Predicate from "effect/Predicate"
import type { Dimension } from "./Demand.ts"
import { type LimitReading, nothingRead, type Reading } from "./Outcome.ts"

/** Response headers: lower-case names, several lines of one field joined by a comma. */
export type Headers = Readonly<Record<string, string | undefined>>

/**
 * How a reset is written.
 *
 * **Shape**
 *
 * | form | means |
 * | --- | --- |
 * | `seconds` | seconds from the response |
 * | `duration` | `6m0s`, `2m59.56s`, `172.799999ms` |
 * | `moment` | told by its looks: 10¹² or more is an epoch in milliseconds, 10⁹ or more in seconds, less is seconds from the response; else a duration, an RFC 3339 or an HTTP date |
 */
export type Form = "seconds" | "duration" | "moment"

/**
 * The header names of one limit.
 *
 * **Units**
 *
 * `windowSeconds` is the span that the limit covers, absent where it is not known. `"arithmetic"` says a minute, unless
 * limit, remaining and reset together say a day.
 */
export interface LimitFields {
  readonly dimension: Dimension
  readonly policy?: string
  readonly limit: string
  readonly remaining: string
  readonly reset?: string
  readonly resetForm: Form
  readonly windowSeconds?: number | "arithmetic"
}

/**
 * One provider's way of speaking of limits, as data.
 *
 * **Details**
 *
 * `refusals` are the statuses that may mean *limited*. `resetHint` names a reset that says how long to wait after a
 * refusal, whichever sum was limited.
 */
export interface Dialect {
  readonly name: string
  readonly limits: ReadonlyArray<LimitFields>
  readonly refusals: ReadonlyArray<number>
  readonly resetHint?: string
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
 * `body` is that of an error: parsed JSON, or text. `limited` is the sum that the body named. The hint is the first of
 * `retry-after-ms`, `x-ms-retry-after-ms`, `retry-after`, the body, the reset of the limited sum that is there and above
 * zero. Of a comma-joined field the most careful readable member counts: least remaining, longest wait. A negative
 * remaining under a real limit is 0, a negative limit is unknown. The steps are bounded by the dialect.
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
  }
): Reading => {
  const look: Look = { headers, clock: { nowMillis: options.nowMillis, dateHeader: headers["date"] }, malformed: [] }
  const found: Array<Found> = []
  for (const fields of options.dialect.limits) {
    const limit = readLimit(look, fields)
    if (limit !== undefined) found.push({ fields, limit })
  }
  const told = toldWait(look)
  const refused = options.status >= 400
  const hint = told ?? (refused ? bodyWait(options.body) ?? resetWait(look, found, options) : undefined)
  if (found.length === 0 && hint === undefined && look.malformed.length === 0) return nothingRead
  return {
    limits: found.map(({ limit }) => limit),
    retryAfterSeconds: hint?.seconds,
    retryAfterSource: hint?.source,
    malformed: look.malformed
  }
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
    if (remaining !== 0 || dimension === found) continue
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
 * Figures are written as they are, to six decimals; `retryAfterSeconds` as a whole number, rounded up, at least 1.
 *
 * **Details**
 *
 * What `write` wrote, `read` reads back. A limit for which the dialect has no names is left out, and so is a figure that
 * is negative or not finite.
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
  const headers: Record<string, string> = {}
  const put = (name: string | undefined, figure: number | undefined, unit: string): void => {
    if (name === undefined || figure === undefined || !(figure >= 0 && figure < mostWritten)) return
    headers[name] = decimal(figure) + unit
  }
  for (const limit of limits) {
    const fields = dialect.limits.find((each) => each.dimension === limit.dimension && each.policy === limit.policy)
    if (fields === undefined) continue
    put(fields.limit, limit.limit, "")
    put(fields.remaining, limit.remaining, "")
    put(fields.reset, limit.resetSeconds, fields.resetForm === "duration" ? "s" : "")
  }
  const wait = options?.retryAfterSeconds
  if (wait !== undefined && !Number.isNaN(wait)) put("retry-after", Math.max(1, Math.ceil(wait)), "")
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
export const parseNumber = (text: string): number | undefined => {
  const trimmed = text.trim()
  if (trimmed.length > mostDigits || !/^-?\d+(?:\.\d+)?$/.test(trimmed)) return undefined
  // Minus zero is zero.
  return Number(trimmed) + 0
}

/**
 * The seconds of a duration such as `6m0s`, or undefined.
 *
 * **Units**
 *
 * Seconds, fractions kept.
 *
 * **Details**
 *
 * Hours, minutes, seconds, milliseconds in this order, at least one of them; seconds and milliseconds may have a
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
export const parseDurationSeconds = (text: string): number | undefined => {
  const trimmed = text.trim()
  if (trimmed === "" || trimmed.length > mostDigits) return undefined
  const parts = /^(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/.exec(trimmed)
  if (parts === null) return undefined
  const [, hours, minutes, seconds, millis] = parts
  return Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0) + Number(millis ?? 0) / 1000
}

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
  const seconds = most(value, (member) => waitSeconds(member, clock))
  return seconds !== undefined && seconds > 0 ? seconds : undefined
}

/** When the response was made. */
interface Clock {
  readonly nowMillis: number
  readonly dateHeader?: string | undefined
}

interface Look {
  readonly headers: Headers
  readonly clock: Clock
  readonly malformed: Array<{ readonly name: string; readonly raw: string }>
}

interface Found {
  readonly fields: LimitFields
  readonly limit: LimitReading
}

interface Wait {
  readonly seconds: number
  readonly source: string
}

const readLimit = (look: Look, fields: LimitFields): LimitReading | undefined => {
  const told = figure(look, fields.limit, least, parseNumber)
  const limit = told === undefined || told >= 0 ? told : undefined
  const left = figure(look, fields.remaining, least, parseNumber)
  const reset = figure(look, fields.reset, most, (member) => resetSeconds(member, fields.resetForm, look.clock))
  const remaining = left === undefined || left >= 0 ? left : limit === undefined ? undefined : 0
  if (limit === undefined && remaining === undefined && reset === undefined) return undefined
  const reading: { -readonly [K in keyof LimitReading]: LimitReading[K] } = { dimension: fields.dimension }
  if (fields.policy !== undefined) reading.policy = fields.policy
  if (limit !== undefined) reading.limit = limit
  if (remaining !== undefined) reading.remaining = remaining
  if (reset !== undefined) reading.resetSeconds = Math.max(0, reset)
  if (limit !== undefined && fields.windowSeconds !== undefined) {
    reading.windowSeconds = fields.windowSeconds !== "arithmetic"
      ? fields.windowSeconds
      : saysDay(limit, remaining, reset)
      ? daySeconds
      : 60
    reading.ratePerSecond = limit / reading.windowSeconds
  }
  return reading
}

/** One header's figure, by the member that `pick` chooses; what cannot be read is kept as it came. */
const figure = (
  look: Look,
  name: string | undefined,
  pick: typeof least,
  parse: (member: string) => number | undefined
): number | undefined => {
  const raw = name === undefined ? undefined : look.headers[name]
  if (name === undefined || raw === undefined) return undefined
  const value = pick(raw, parse)
  if (value === undefined) malformed(look, name, raw)
  return value
}

const malformed = (look: Look, name: string, raw: string): void => {
  look.malformed.push({ name, raw: raw.slice(0, mostRawKept) })
}

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
    const millis = most(raw, parseNumber)
    if (millis === undefined) malformed(look, name, raw)
    else if (millis > 0) return { seconds: millis / 1000, source: name }
  }
  const raw = look.headers["retry-after"]
  if (raw === undefined) return undefined
  const seconds = most(raw, (member) => waitSeconds(member, look.clock))
  if (seconds === undefined) malformed(look, "retry-after", raw)
  return seconds !== undefined && seconds > 0 ? { seconds, source: "retry-after" } : undefined
}

/** What an error body says of the wait: a member of its own, or a sentence such as `try again in 5.289s`. */
const bodyWait = (body: unknown): Wait | undefined => {
  const root = member(body, 0) ?? body
  const error = member(root, "error")
  for (const name of ["retry_after_seconds", "retry_after"]) {
    for (const holder of [root, error]) {
      const seconds = member(holder, name)
      if (typeof seconds === "number" && seconds > 0 && seconds < Infinity) return { seconds, source: `body:${name}` }
    }
  }
  const message = [member(error, "message"), error, member(root, "message"), root].find((each) =>
    typeof each === "string"
  )
  if (typeof message !== "string") return undefined
  const said = /\b(?:again in|retry in|retry after|wait) ([0-9][0-9.hms]{0,30})( sec)?/i.exec(
    message.slice(0, mostRead)
  )
  const amount = said?.[1]?.replace(/\.$/, "") ?? ""
  const seconds = said?.[2] === undefined ? parseDurationSeconds(amount) : parseNumber(amount)
  return seconds !== undefined && seconds > 0 ? { seconds, source: "body:message" } : undefined
}

/** The reset of what is limited: what the body named, else what is empty, else the only sum spoken of. */
const resetWait = (
  look: Look,
  found: ReadonlyArray<Found>,
  options: { readonly dialect: Dialect; readonly status: number; readonly limited?: Dimension | undefined }
): Wait | undefined => {
  const { dialect, limited, status } = options
  if (limited === undefined && !dialect.refusals.includes(status)) return undefined
  const named = limited === undefined ? found : found.filter(({ limit }) => limit.dimension === limited)
  const empty = named.filter(({ limit }) => limit.remaining === 0)
  const alone = limited !== undefined || (named.length === 1 && named[0]?.limit.remaining === undefined)
  let wait: Wait | undefined
  for (const { fields, limit } of empty.length > 0 ? empty : alone ? named : []) {
    const seconds = limit.resetSeconds ?? 0
    if (fields.reset !== undefined && seconds > (wait?.seconds ?? 0)) wait = { seconds, source: fields.reset }
  }
  if (wait !== undefined || dialect.resetHint === undefined) return wait
  const raw = look.headers[dialect.resetHint]
  const seconds = raw === undefined ? undefined : most(raw, parseNumber)
  return seconds !== undefined && seconds > 0 ? { seconds, source: dialect.resetHint } : undefined
}

const binds = (one: LimitReading, other: LimitReading): boolean => {
  const says = (limit: LimitReading) => limit.policy === "dynamic" && limit.limit !== undefined
  if (says(one) !== says(other)) return says(one)
  if (one.ratePerSecond !== undefined || other.ratePerSecond !== undefined) {
    return (one.ratePerSecond ?? Infinity) < (other.ratePerSecond ?? Infinity)
  }
  return (one.limit ?? Infinity) < (other.limit ?? Infinity)
}

const resetSeconds = (member: string, form: Form, clock: Clock): number | undefined => {
  if (form === "duration") return parseDurationSeconds(member)
  const number = parseNumber(member)
  if (form === "seconds") return number
  if (number === undefined) {
    return parseDurationSeconds(member) ?? until(parseRfc3339(member) ?? httpDate(member, clock), clock)
  }
  return number >= 1e12 ? until(number, clock) : number >= 1e9 ? until(number * 1000, clock) : number
}

const waitSeconds = (member: string, clock: Clock): number | undefined =>
  parseNumber(member) ?? parseDurationSeconds(member) ?? until(httpDate(member, clock), clock)

/** Seconds from the response to an instant; below zero when it has passed. */
const until = (atMillis: number | undefined, clock: Clock): number | undefined => {
  if (atMillis === undefined) return undefined
  const base = (clock.dateHeader === undefined ? undefined : httpDate(clock.dateHeader, clock)) ?? clock.nowMillis
  return Number.isFinite(base) ? (atMillis - base) / 1000 : undefined
}

/** The three forms that RFC 9110 asks a recipient to accept, all in UTC. */
const httpDate = (text: string, clock: Clock): number | undefined => {
  const date = text.trim()
  // Longer than any of the forms.
  if (date.length > 40) return undefined
  const fixed = /^[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/.exec(date)
  if (fixed !== null) return instant(fixed[3], fixed[2], fixed[1], fixed.slice(4))
  const old = /^[A-Z][a-z]{5,8}, (\d{2})-([A-Z][a-z]{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) GMT$/.exec(date)
  if (old !== null) return instant(`${century(Number(old[3]), clock)}`, old[2], old[1], old.slice(4))
  const asctime = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})$/.exec(date)
  return asctime === null ? undefined : instant(asctime[6], asctime[1], asctime[2], asctime.slice(3, 6))
}

/** A two-digit year that would lie more than 50 years ahead is in the past. */
const century = (year: number, clock: Clock): number => {
  // The mean length of a year; years are all that matters here.
  const current = 1970 + clock.nowMillis / 31_556_952_000
  return 2000 + year > current + 50 ? 1900 + year : 2000 + year
}

const parseRfc3339 = (text: string): number | undefined => {
  const date = text.trim()
  // Longer than the form with nine decimals and an offset.
  if (date.length > 40) return undefined
  const parts = /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(\.\d+)?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/.exec(date)
  if (parts === null) return undefined
  const at = instant(parts[1], months[Number(parts[2]) - 1], parts[3], parts.slice(4, 7))
  const aheadMinutes = Number(`${parts[8] ?? ""}1`) * (Number(parts[9] ?? 0) * 60 + Number(parts[10] ?? 0))
  return at === undefined ? undefined : at + Number(`0${parts[7] ?? ""}`) * 1000 - aheadMinutes * 60_000
}

const instant = (
  year: string | undefined,
  monthName: string | undefined,
  day: string | undefined,
  time: ReadonlyArray<string | undefined>
): number | undefined => {
  const month = months.indexOf(monthName ?? "")
  const [hour = NaN, minute = NaN, second = NaN] = time.map(Number)
  if (month === -1 || !(hour < 24 && minute < 60 && second <= 60)) return undefined
  const start = Date.UTC(Number(year), month, 1)
  const days = (Date.UTC(Number(year), month + 1, 1) - start) / 86_400_000
  if (!(Number(day) >= 1 && Number(day) <= days)) return undefined
  return start + (Number(day) - 1) * 86_400_000 + ((hour * 60 + minute) * 60 + second) * 1000
}

/** The least readable member of a comma-joined field. */
const least = (raw: string, parse: (member: string) => number | undefined): number | undefined =>
  fold(raw, parse, Math.min)

/** The greatest readable member of a comma-joined field. */
const most = (raw: string, parse: (member: string) => number | undefined): number | undefined =>
  fold(raw, parse, Math.max)

const fold = (
  raw: string,
  parse: (member: string) => number | undefined,
  pick: (one: number, other: number) => number
): number | undefined => {
  if (raw.length > mostRead) return undefined
  if (!raw.includes(",")) return finite(parse(raw))
  const members = raw.split(",", mostMembers)
  let picked: number | undefined
  for (let index = 0; index < members.length; index++) {
    // HTTP dates have a comma of their own.
    const value = finite(parse(members[index]!)) ?? finite(parse(`${members[index]!},${members[index + 1] ?? ""}`))
    if (value !== undefined) picked = picked === undefined ? value : pick(picked, value)
  }
  return picked
}

const finite = (value: number | undefined): number | undefined => (Number.isFinite(value) ? value : undefined)

const member = (value: unknown, name: string | number): unknown =>
  Predicate.hasProperty(value, name) ? value[name] : undefined

/** Six decimals are microseconds, and a tenth of a call per day; no exponent, which no reader accepts. */
const decimal = (
  value: number
): string => (Number.isInteger(value) ? value.toString() : value.toFixed(6).replace(/\.?0+$/, ""))

const millisHints = ["retry-after-ms", "x-ms-retry-after-ms"]

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

const daySeconds = 86_400

/** A limit per minute is whole again within a minute; twice that leaves room for its bookkeeping. */
const longestOfMinute = 120

/** Digits beyond any double's meaning. */
const mostDigits = 64

/** Characters of one value that are read; no header seen comes near. */
const mostRead = 1024

/** Members of one list that are read. */
const mostMembers = 16

/** Characters of an unreadable value that are kept. */
const mostRawKept = 200

/** Where a double stops counting by ones, and `toString` is still plain digits. */
const mostWritten = 2 ** 53
