/**
 * How servers write numbers, durations and dates, and lists of them.
 *
 * Here belong the grammars. Which field is written in which form belongs to `RateLimitHeaders`, what a sentence means to
 * `ErrorBody`. Nothing here throws, or gives a number that is NaN or infinite; the steps are linear in a bounded text.
 *
 * **Source**
 *
 * RFC 9110 sections 5.6.7 and 10.2.3, RFC 3339, and recorded headers.
 */

/**
 * When a response was made: by its own `Date` where it has one, else by our clock at receipt. It is found out when it is
 * first asked for, and then kept: an answer may tell a dozen dates.
 */
export interface Clock {
  readonly nowMillis: number
  readonly dateHeader?: string | undefined
  madeAtMillis?: number
}

/** A plain decimal number: digits, a sign and a fraction. Nothing is not zero. */
export const parseNumber = (text: string): number | undefined => {
  const trimmed = text.trim()
  if (trimmed.length > mostDigits || !isDecimal(trimmed)) return undefined
  // Minus zero is zero.
  return Number(trimmed) + 0
}

/** Goes through the characters: this is asked for each header, most of which are a few digits, and patterns cost more. */
const isDecimal = (text: string): boolean => {
  let digits = 0
  let hasPoint = false
  for (let at = text.startsWith("-") ? 1 : 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code >= zero && code <= nine) digits++
    else if (code !== point || hasPoint || digits === 0) return false
    else {
      hasPoint = true
      digits = 0
    }
  }
  return digits > 0
}

/** The seconds of a duration such as `6m0s` or `4h17m`; a bare number is none. */
export const parseDurationSeconds = (text: string): number | undefined => {
  const trimmed = text.trim()
  // Most of what is no duration is a number or a date, and ends otherwise.
  if (trimmed.length > mostDigits || !/[dhms]$/.test(trimmed)) return undefined
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/.exec(trimmed)
  if (parts === null) return undefined
  const [, days, hours, minutes, seconds, millis] = parts
  return Number(days ?? 0) * 86_400 + Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0) +
    Number(millis ?? 0) / 1000
}

/**
 * Seconds from the response to a moment that is told by its looks, below zero when it has passed.
 *
 * **Details**
 *
 * A number of 10¹² or more is an epoch in milliseconds, of 10⁹ or more in seconds, less is seconds from the response; else
 * a duration, an RFC 3339 date, an HTTP date or a date as JavaScript prints it.
 */
export const parseMomentSeconds = (text: string, clock: Clock): number | undefined => {
  const number = parseNumber(text)
  if (number !== undefined) {
    return number >= 1e12 ? until(number, clock) : number >= 1e9 ? until(number * 1000, clock) : number
  }
  return parseDurationSeconds(text) ?? until(dateMillis(text, clock), clock)
}

/** Seconds to wait: a number of them, a duration or a date; zero or less when it is over. */
export const parseWaitSeconds = (text: string, clock: Clock): number | undefined =>
  parseNumber(text) ?? parseDurationSeconds(text) ?? until(dateMillis(text, clock), clock)

/** The least readable member of a comma-joined field. */
export const least = (raw: string, parse: (member: string) => number | undefined): number | undefined =>
  fold(raw, parse, Math.min)

/** The greatest readable member of a comma-joined field. */
export const most = (raw: string, parse: (member: string) => number | undefined): number | undefined =>
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

/** Seconds from the response to an instant; below zero when it has passed. */
const until = (atMillis: number | undefined, clock: Clock): number | undefined => {
  if (atMillis === undefined) return undefined
  clock.madeAtMillis ??= (clock.dateHeader === undefined ? undefined : httpDate(clock.dateHeader, clock)) ??
    clock.nowMillis
  return Number.isFinite(clock.madeAtMillis) ? (atMillis - clock.madeAtMillis) / 1000 : undefined
}

const dateMillis = (text: string, clock: Clock): number | undefined => {
  const date = text.trim()
  return date.length > mostDate ? undefined : rfc3339(date) ?? httpDate(date, clock) ?? printedDate(date)
}

/** The three forms that RFC 9110 asks a recipient to accept, all in UTC. */
const httpDate = (text: string, clock: Clock): number | undefined => {
  const date = text.trim()
  if (date.length > mostDate) return undefined
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

/** `2025-06-23T10:26:53.5+02:00`; the part up to the seconds has a fixed width. */
const rfc3339 = (date: string): number | undefined => {
  const isShaped = date[4] === "-" && date[7] === "-" && date[13] === ":" && date[16] === ":" &&
    (date[10] === "T" || date[10] === "t" || date[10] === " ")
  if (!isShaped) return undefined
  const at = utcMillis(
    fixed(date, 0, 4),
    fixed(date, 5, 7) - 1,
    fixed(date, 8, 10),
    fixed(date, 11, 13),
    fixed(date, 14, 16),
    fixed(date, 17, 19)
  )
  const rest = date.slice(19)
  if (at === undefined || rest === "Z") return at
  const parts = /^(\.\d+)?(?:[Zz]|([+-])(\d{2}):?(\d{2}))$/.exec(rest)
  return parts === null
    ? undefined
    : at + Number(`0${parts[1] ?? ""}`) * 1000 - aheadMillis(parts[2], parts[3], parts[4])
}

/** A number of so many digits, or NaN. */
const fixed = (text: string, from: number, to: number): number => {
  let number = 0
  for (let at = from; at < to; at++) {
    const digit = text.charCodeAt(at) - zero
    if (!(digit >= 0 && digit <= 9)) return NaN
    number = number * 10 + digit
  }
  return number
}

/** `Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)`. */
const printedDate = (date: string): number | undefined => {
  const parts = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT([+-])(\d{2})(\d{2})/
    .exec(date)
  if (parts === null) return undefined
  const at = instant(parts[3], parts[1], parts[2], parts.slice(4, 7))
  return at === undefined ? undefined : at - aheadMillis(parts[7], parts[8], parts[9])
}

const aheadMillis = (sign: string | undefined, hours: string | undefined, minutes: string | undefined): number =>
  Number(`${sign ?? ""}1`) * (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60_000

const instant = (
  year: string | undefined,
  monthName: string | undefined,
  day: string | undefined,
  time: ReadonlyArray<string | undefined>
): number | undefined => {
  const [hour = NaN, minute = NaN, second = NaN] = time.map(Number)
  return utcMillis(Number(year), months.indexOf(monthName ?? ""), Number(day), hour, minute, second)
}

/** Undefined where there is no such instant; a leap second is the one after. */
const utcMillis = (
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number
): number | undefined => {
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  const days = month === 1 && isLeap ? 29 : monthDays[month] ?? 0
  return year >= 100 && day >= 1 && day <= days && hour < 24 && minute < 60 && second <= 60
    ? Date.UTC(year, month, day, hour, minute, second)
    : undefined
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

const [zero, nine, point] = [48, 57, 46]

const monthDays = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Digits beyond any double's meaning. */
const mostDigits = 64

/** Longer than any form of a date, with the name of its time zone. */
const mostDate = 80

/** Characters of one value that are read; no header seen comes near. */
const mostRead = 1024

/** Members of one list that are read. */
const mostMembers = 16
