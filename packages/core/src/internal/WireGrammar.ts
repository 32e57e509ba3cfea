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

/** When a response was made: by its own `Date` where it has one, else by our clock at receipt. */
export interface Clock {
  readonly nowMillis: number
  readonly dateHeader?: string | undefined
}

/** A plain decimal number: digits, a sign and a fraction. Nothing is not zero. */
export const parseNumber = (text: string): number | undefined => {
  const trimmed = text.trim()
  if (trimmed.length > mostDigits || !/^-?\d+(?:\.\d+)?$/.test(trimmed)) return undefined
  // Minus zero is zero.
  return Number(trimmed) + 0
}

/** The seconds of a duration such as `6m0s` or `4h17m`; a bare number is none. */
export const parseDurationSeconds = (text: string): number | undefined => {
  const trimmed = text.trim()
  if (trimmed === "" || trimmed.length > mostDigits) return undefined
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
  const base = (clock.dateHeader === undefined ? undefined : httpDate(clock.dateHeader, clock)) ?? clock.nowMillis
  return Number.isFinite(base) ? (atMillis - base) / 1000 : undefined
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

const rfc3339 = (date: string): number | undefined => {
  const parts = /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(\.\d+)?(?:[Zz]|([+-])(\d{2}):?(\d{2}))$/
    .exec(date)
  if (parts === null) return undefined
  const at = instant(parts[1], months[Number(parts[2]) - 1], parts[3], parts.slice(4, 7))
  return at === undefined
    ? undefined
    : at + Number(`0${parts[7] ?? ""}`) * 1000 - aheadMillis(parts[8], parts[9], parts[10])
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
  const month = months.indexOf(monthName ?? "")
  const [hour = NaN, minute = NaN, second = NaN] = time.map(Number)
  if (month === -1 || !(hour < 24 && minute < 60 && second <= 60)) return undefined
  const start = Date.UTC(Number(year), month, 1)
  const days = (Date.UTC(Number(year), month + 1, 1) - start) / 86_400_000
  if (!(Number(day) >= 1 && Number(day) <= days)) return undefined
  return start + (Number(day) - 1) * 86_400_000 + ((hour * 60 + minute) * 60 + second) * 1000
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

/** Digits beyond any double's meaning. */
const mostDigits = 64

/** Longer than any form of a date, with the name of its time zone. */
const mostDate = 80

/** Characters of one value that are read; no header seen comes near. */
const mostRead = 1024

/** Members of one list that are read. */
const mostMembers = 16
