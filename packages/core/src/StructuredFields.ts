/**
 * Reads and writes Structured Field Values for HTTP: items, lists and dictionaries, as `RateLimit` and
 * `RateLimit-Policy` are written.
 *
 * Here belongs the grammar. What a member of a field means never does: that is for `RateLimitHeaders`. It is pure,
 * imports nothing, never throws, and takes steps linear in the length of the text: it goes through the text once, and no
 * pattern has two ways to match the same characters, so that none goes back.
 *
 * **Source**
 *
 * RFC 9651, sections 4.1 (writing) and 4.2 (reading), to the letter.
 */

/**
 * One value without parameters.
 *
 * **Shape**
 *
 * | tag | written as |
 * | --- | --- |
 * | `Integer` | `42`, at most 15 digits |
 * | `Decimal` | `1.5`, at most 12 digits and 3 decimals |
 * | `String` | `"default"`, printable ASCII |
 * | `Token` | `sugar`, begins with a letter or `*` |
 * | `Bytes` | `:aGVsbG8=:` |
 * | `Boolean` | `?1`, `?0` |
 * | `Date` | `@1659578233` |
 * | `DisplayString` | `%"f%c3%bc"`, any Unicode |
 *
 * **Units**
 *
 * `epochSeconds` since 1970 in UTC, below zero before.
 *
 * **Details**
 *
 * `base64` is the text between the colons as it came: its padding may be missing, its last bits need not be zero.
 *
 * **Gotchas**
 *
 * A display string is what a stranger wrote: it may hold control characters, which a page or a terminal must escape.
 */
export type BareItem =
  | { readonly _tag: "Integer"; readonly value: number }
  | { readonly _tag: "Decimal"; readonly value: number }
  | { readonly _tag: "String"; readonly value: string }
  | { readonly _tag: "Token"; readonly value: string }
  | { readonly _tag: "Bytes"; readonly base64: string }
  | { readonly _tag: "Boolean"; readonly value: boolean }
  | { readonly _tag: "Date"; readonly epochSeconds: number }
  | { readonly _tag: "DisplayString"; readonly value: string }

/** What follows a value after semicolons, in order; a key without a value is true. */
export type Parameters = ReadonlyMap<string, BareItem>

/** One value and its parameters. */
export interface Item {
  readonly _tag: "Item"
  readonly bare: BareItem
  readonly parameters: Parameters
}

/** Items in parentheses, and the parameters of them all. */
export interface InnerList {
  readonly _tag: "InnerList"
  readonly items: ReadonlyArray<Item>
  readonly parameters: Parameters
}

/**
 * Reads a field that is one item, or undefined.
 *
 * **Details**
 *
 * Text that is not wholly an item is none, and so is text longer than 32,768 characters. Of a key that comes twice the
 * last value counts, in the place of the first.
 *
 * **Example** (A number with a unit)
 *
 * ```ts
 * import * as StructuredFields from "@evenkeel/core/StructuredFields"
 *
 * const item = StructuredFields.parseItem("12.5;unit=ms")
 * item?.bare // => { _tag: "Decimal", value: 12.5 }
 * item?.parameters.get("unit") // => { _tag: "Token", value: "ms" }
 *
 * StructuredFields.parseItem("12.5,") // => undefined
 * ```
 */
export const parseItem = (text: string): Item | undefined => parse(text, readItem)

/**
 * Reads a field that is a list, or undefined.
 *
 * **Details**
 *
 * Several lines of one field are to be joined by a comma first. One bad member spoils the list, as the standard asks; no
 * text is an empty list. Text longer than 32,768 characters is not read.
 *
 * **Example** (What is left of a limit)
 *
 * ```ts
 * import * as StructuredFields from "@evenkeel/core/StructuredFields"
 *
 * const list = StructuredFields.parseList("\"default\";r=50;t=30")
 * list?.[0]?.parameters.get("r") // => { _tag: "Integer", value: 50 }
 *
 * StructuredFields.parseList("\"default\";r=50;t=30,") // => undefined
 * ```
 */
export const parseList = (text: string): ReadonlyArray<Item | InnerList> | undefined => parse(text, readList)

/**
 * Reads a field that is a dictionary, or undefined.
 *
 * **Details**
 *
 * As for lists. Of a key that comes twice the last member counts, in the place of the first; a key without a value is
 * true.
 *
 * **Example** (`RateLimit` as its draft 07 wrote it)
 *
 * ```ts
 * import * as StructuredFields from "@evenkeel/core/StructuredFields"
 *
 * const dictionary = StructuredFields.parseDictionary("limit=100, remaining=50, reset=5")
 * const remaining = dictionary?.get("remaining")
 *
 * Array.from(dictionary?.keys() ?? []) // => ["limit", "remaining", "reset"]
 * remaining?._tag === "Item" && remaining.bare // => { _tag: "Integer", value: 50 }
 * ```
 */
export const parseDictionary = (text: string): ReadonlyMap<string, Item | InnerList> | undefined =>
  parse(text, readDictionary)

/**
 * Writes a list of items, or undefined where a value cannot be written.
 *
 * **Details**
 *
 * What it writes, `parseList` reads back. Decimals are rounded to three places, halves to even; bytes get their padding.
 * An integer of 16 digits, a decimal of 13 before the point, a string or token with other characters than its kind
 * allows, half a surrogate pair, a bad key and more than 32,768 characters cannot be written.
 *
 * **Gotchas**
 *
 * No members are written as no text; the standard asks to leave out such a field.
 *
 * **Example** (A policy)
 *
 * ```ts
 * import * as StructuredFields from "@evenkeel/core/StructuredFields"
 *
 * const parameters = new Map<string, StructuredFields.BareItem>([
 *   ["q", { _tag: "Integer", value: 100 }],
 *   ["w", { _tag: "Integer", value: 60 }]
 * ])
 * const policy: StructuredFields.Item = { _tag: "Item", bare: { _tag: "String", value: "minute" }, parameters }
 *
 * StructuredFields.serializeList([policy]) // => "\"minute\";q=100;w=60"
 * ```
 */
export const serializeList = (members: ReadonlyArray<Item>): string | undefined => {
  const written: Array<string> = []
  for (const member of members) {
    const text = writeItem(member)
    if (text === undefined) return undefined
    written.push(text)
  }
  const list = written.join(", ")
  return list.length > mostRead ? undefined : list
}

/** The text, and how far it is read. */
interface Input {
  readonly text: string
  at: number
}

const parse = <A>(text: string, read: (input: Input) => A | undefined): A | undefined => {
  if (text.length > mostRead) return undefined
  const input: Input = { text, at: 0 }
  take(input, spaces)
  const parsed = read(input)
  take(input, spaces)
  return ended(input) ? parsed : undefined
}

const ended = (input: Input): boolean => input.at === input.text.length

/** Goes past one character, if it is the next. */
const eat = (input: Input, character: string): boolean => {
  const found = input.text[input.at] === character
  if (found) input.at++
  return found
}

/** Goes past what the pattern, which is sticky, finds here, and gives it. */
const take = (input: Input, pattern: RegExp): string | undefined => {
  const start = input.at
  pattern.lastIndex = start
  if (!pattern.test(input.text)) return undefined
  input.at = pattern.lastIndex
  return input.text.slice(start, input.at)
}

const isWhole = (text: string, pattern: RegExp): boolean => take({ text, at: 0 }, pattern) === text

const readList = (input: Input): ReadonlyArray<Item | InnerList> | undefined => {
  const members: Array<Item | InnerList> = []
  const complete = readMembers(input, () => {
    const member = readMember(input)
    if (member !== undefined) members.push(member)
    return member !== undefined
  })
  return complete ? members : undefined
}

const readDictionary = (input: Input): ReadonlyMap<string, Item | InnerList> | undefined => {
  const members = new Map<string, Item | InnerList>()
  const complete = readMembers(input, () => {
    const key = take(input, keys)
    const member = key === undefined ? undefined : eat(input, "=") ? readMember(input) : withParameters(input, bareTrue)
    if (key !== undefined && member !== undefined) members.set(key, member)
    return member !== undefined
  })
  return complete ? members : undefined
}

/** Reads members with commas between them up to the end; a comma at the end is a mistake. */
const readMembers = (input: Input, readOne: () => boolean): boolean => {
  if (ended(input)) return true
  while (readOne()) {
    take(input, blanks)
    if (ended(input)) return true
    if (!eat(input, ",")) return false
    take(input, blanks)
  }
  return false
}

const readMember = (input: Input): Item | InnerList | undefined =>
  eat(input, "(") ? readInnerList(input) : readItem(input)

const readInnerList = (input: Input): InnerList | undefined => {
  const items: Array<Item> = []
  for (;;) {
    const spaced = take(input, spaces) !== ""
    if (eat(input, ")")) {
      const parameters = readParameters(input)
      return parameters === undefined ? undefined : { _tag: "InnerList", items, parameters }
    }
    const item = spaced || items.length === 0 ? readItem(input) : undefined
    if (item === undefined) return undefined
    items.push(item)
  }
}

const readItem = (input: Input): Item | undefined => withParameters(input, readBare(input))

const withParameters = (input: Input, bare: BareItem | undefined): Item | undefined => {
  const parameters = bare === undefined ? undefined : readParameters(input)
  return bare === undefined || parameters === undefined ? undefined : { _tag: "Item", bare, parameters }
}

const readParameters = (input: Input): Parameters | undefined => {
  const parameters = new Map<string, BareItem>()
  while (eat(input, ";")) {
    take(input, spaces)
    const key = take(input, keys)
    const value = key === undefined ? undefined : eat(input, "=") ? readBare(input) : bareTrue
    if (key === undefined || value === undefined) return undefined
    parameters.set(key, value)
  }
  return parameters
}

const readBare = (input: Input): BareItem | undefined => {
  if (eat(input, "\"")) return readString(input)
  if (eat(input, "?")) {
    return eat(input, "1")
      ? bareTrue
      : eat(input, "0")
      ? { _tag: "Boolean", value: false }
      : undefined
  }
  if (eat(input, ":")) return readBytes(input)
  if (eat(input, "%")) return readDisplayString(input)
  if (eat(input, "@")) {
    const date = readNumber(input)
    return date?._tag === "Integer" ? { _tag: "Date", epochSeconds: date.value } : undefined
  }
  const token = take(input, tokens)
  return token === undefined ? readNumber(input) : { _tag: "Token", value: token }
}

const readNumber = (input: Input): BareItem | undefined => {
  const sign = eat(input, "-") ? -1 : 1
  const whole = take(input, digits)
  if (whole === undefined) return undefined
  // Minus zero is zero.
  if (!eat(input, ".")) return whole.length > 15 ? undefined : { _tag: "Integer", value: sign * Number(whole) + 0 }
  const decimals = take(input, digits)
  if (whole.length > 12 || decimals === undefined || decimals.length > 3) return undefined
  return { _tag: "Decimal", value: sign * Number(`${whole}.${decimals}`) + 0 }
}

const readString = (input: Input): BareItem | undefined => {
  let value = ""
  for (;;) {
    value += take(input, unescaped) ?? ""
    if (eat(input, "\"")) return { _tag: "String", value }
    if (!eat(input, "\\")) return undefined
    if (eat(input, "\"")) value += "\""
    else if (eat(input, "\\")) value += "\\"
    else return undefined
  }
}

const readBytes = (input: Input): BareItem | undefined => {
  const base64 = take(input, bytes)
  return base64 !== undefined && eat(input, ":") && missing(base64) !== undefined
    ? { _tag: "Bytes", base64 }
    : undefined
}

/** How many `=` the text lacks to be base64, or undefined where no number of them would help. */
const missing = (base64: string): number | undefined => {
  const octets = base64.indexOf("=")
  const length = octets === -1 ? base64.length : octets
  const padded = Math.ceil(length / 4) * 4
  return length % 4 === 1 || base64.length > padded ? undefined : padded - base64.length
}

const readDisplayString = (input: Input): BareItem | undefined => {
  const quoted = eat(input, "\"") ? take(input, quotable) : undefined
  // Only lower-case hexadecimal digits are allowed.
  if (quoted === undefined || !eat(input, "\"") || /%(?![0-9a-f]{2})/.test(quoted)) return undefined
  return convert(quoted, (text) => ({ _tag: "DisplayString", value: decodeURIComponent(text) }))
}

/** What the conversion gives, or undefined where the text is not UTF-8, for which those of the language throw. */
const convert = <A>(text: string, conversion: (text: string) => A): A | undefined => {
  try {
    return conversion(text)
  } catch {
    return undefined
  }
}

const writeItem = ({ bare, parameters }: Item): string | undefined => {
  let text = writeBare(bare)
  for (const [key, value] of parameters) {
    const written = value._tag === "Boolean" && value.value ? "" : writeBare(value)
    if (text === undefined || written === undefined || !isWhole(key, keys)) return undefined
    text += written === "" ? `;${key}` : `;${key}=${written}`
  }
  return text
}

const writeBare = (bare: BareItem): string | undefined => {
  switch (bare._tag) {
    case "Integer":
      return writeInteger(bare.value)
    case "Decimal":
      return writeDecimal(bare.value)
    case "String":
      return isWhole(bare.value, printable) ? `"${bare.value.replace(/["\\]/g, "\\$&")}"` : undefined
    case "Token":
      return isWhole(bare.value, tokens) ? bare.value : undefined
    case "Bytes":
      return writeBytes(bare.base64)
    case "Boolean":
      return bare.value ? "?1" : "?0"
    case "Date": {
      const seconds = writeInteger(bare.epochSeconds)
      return seconds === undefined ? undefined : `@${seconds}`
    }
    case "DisplayString":
      return convert(
        bare.value,
        (text) => `%"${text.replace(escaped, (part) => encodeURIComponent(part).toLowerCase())}"`
      )
  }
}

const writeInteger = (value: number): string | undefined =>
  Number.isInteger(value) && Math.abs(value) <= mostInteger ? `${value}` : undefined

const writeDecimal = (value: number): string | undefined => {
  const exact = Math.abs(value * 1000)
  const up = Math.round(exact)
  const thousandths = up - exact === 0.5 && up % 2 === 1 ? up - 1 : up
  if (!(thousandths <= mostInteger)) return undefined
  const sign = value < 0 && thousandths > 0 ? "-" : ""
  const decimals = `${thousandths % 1000}`.padStart(3, "0").replace(/0{1,2}$/, "")
  return `${sign}${Math.floor(thousandths / 1000)}.${decimals}`
}

/** With its padding, and with zeros for the bits of the last digit that belong to no octet. */
const writeBytes = (base64: string): string | undefined => {
  const lacks = isWhole(base64, bytes) ? missing(base64) : undefined
  if (lacks === undefined) return undefined
  const padded = base64 + "=".repeat(lacks)
  const pads = padded.indexOf("=")
  if (pads === -1) return `:${padded}:`
  const unused = padded.endsWith("==") ? 16 : 4
  const last = base64Digits.indexOf(padded.charAt(pads - 1))
  return `:${padded.slice(0, pads - 1)}${base64Digits.charAt(last - (last % unused))}${padded.slice(pads)}:`
}

const bareTrue: BareItem = { _tag: "Boolean", value: true }

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

const spaces = / */y

const blanks = /[ \t]*/y

const keys = /[a-z*][a-z0-9_.*-]*/y

const tokens = /[A-Za-z*][\w!#$%&'*+.^`|~:/-]*/y

const digits = /\d+/y

const bytes = /[A-Za-z0-9+/]*=*/y

/** What stands for itself in a string. */
const unescaped = /[ !#-[\]-~]*/y

/** What may stand in a display string. */
const quotable = /[ !#-~]*/y

const printable = /[ -~]*/y

/** What does not stand for itself in a display string. */
const escaped = /[^ !#$&-~]+/g

/** Fifteen digits; as thousandths the largest decimal too. */
const mostInteger = 999_999_999_999_999

/**
 * Characters of one field that are read or written. The standard asks for 1,024 members and 16,384 octets (21,848
 * digits) at least; Node.js hands over no more than 16 kB of all headers together.
 */
const mostRead = 32_768
