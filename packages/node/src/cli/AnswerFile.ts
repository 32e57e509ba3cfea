/**
 * The input of `evenkeel explain`: answers of providers as text, as `curl -i` prints them or written down as JSON.
 *
 * Here belongs all that is known of that text: which form it has, told by its looks, how an answer is read from it, and
 * what is wrong with it. What an answer means is core's to tell, what is said of it `Explanation`'s.
 *
 * **Source**
 *
 * RFC 9112 for status lines, header lines and line folding; the output of `curl` with `-i`, `-v` or `-D -`.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as fs from "node:fs"
import { getSystemErrorMessage } from "node:util"
import { UserError } from "./UserError.ts"

/**
 * One answer, as it was written down.
 *
 * **Units**
 *
 * `nowMillis` is wall-clock time at receipt; undefined when neither `now` nor a `Date` header tells it.
 *
 * **Details**
 *
 * Header names are in lower case, several lines of one field joined with `", "`. `body` is text or parsed JSON, undefined
 * when there is none.
 */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
  readonly nowMillis: number | undefined
  readonly provider: string | undefined
  readonly stream: boolean | undefined
}

/**
 * Reads a file of answers; `-` is standard input.
 *
 * **Errors**
 *
 * `UserError` (2) when it cannot be read, is larger than 64 MiB, or `parse` fails.
 */
export const read = Effect.fnUntraced(function*(options: {
  readonly path: string
  readonly stdin?: AsyncIterable<Buffer> | undefined
}): Effect.fn.Return<ReadonlyArray<Answer>, UserError> {
  const isStdin = options.path === "-"
  const name = isStdin ? "standard input" : printable(options.path)
  const text = yield* Effect.tryPromise({
    try: () => textOf(name, isStdin ? options.stdin ?? process.stdin : fs.createReadStream(options.path)),
    catch: (cause) => userError(name, cause)
  })
  return yield* Effect.fromResult(parse(name, text))
})

/**
 * Reads the answers of a text, all of them or none.
 *
 * **Shape**
 *
 * Text that begins with `{` or `[` is JSON: one answer, an array of answers, an object with such an array as `vectors`, or
 * one answer a line. All else is one answer as `curl` prints it.
 *
 * **Errors**
 *
 * `UserError` (2), in one line that says where: a line of `name`, or which one of several answers.
 */
export const parse = (name: string, text: string): Result.Result<ReadonlyArray<Answer>, UserError> =>
  Result.try({
    try: () => {
      const whole = text.startsWith("\uFEFF") ? text.slice(1) : text
      const first = /\S/.exec(whole)?.[0]
      if (first === undefined) throw wrong(name, `empty; ${forms}`)
      return first === "{" || first === "[" ? parseJson(name, whole) : [parseHttp(name, whole)]
    },
    catch: (cause) => userError(name, cause)
  })

/**
 * When a time of the input is: a date, or a date with a time and its zone.
 *
 * **Units**
 *
 * Milliseconds since 1970; undefined when the text is no such time.
 */
export const parseInstantMillis = (text: string): number | undefined => {
  if (!/^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/i.test(text)) {
    return undefined
  }
  const millis = Date.parse(text)
  return Number.isNaN(millis) ? undefined : millis
}

/** Text of a stranger as a terminal may show it, in one line: no control character stays what it is. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0)!
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`
  })

const textOf = async (name: string, chunks: AsyncIterable<Buffer>): Promise<string> => {
  const kept: Array<Buffer> = []
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > mostBytes) throw wrong(name, `larger than ${mostBytes / 2 ** 20} MiB; cut it in pieces`)
    kept.push(chunk)
  }
  return Buffer.concat(kept).toString("utf8")
}

/** The answer that `curl -i` prints, or `curl -v` within what it says beside. What comes before it is passed over. */
const parseHttp = (name: string, text: string): Answer => {
  const opening = /^(< )?HTTP\/\d/im.exec(text)
  if (opening === null) throw wrong(name, `neither JSON nor an HTTP answer; ${forms}`)
  const prefix = opening[1] ?? ""
  const isVerbose = prefix !== ""
  const lines = lineReader(text)
  let status: number | undefined
  let headers = new Map<string, string>()
  // An interim answer, a proxy's or a redirect comes before the answer itself: the last block of headers counts.
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    const next = statusOf(name, line, prefix)
    if (next !== undefined) {
      status = next
      headers = headersOf(name, lines, isVerbose)
    } else if (status !== undefined && !(isVerbose && isNote(line.text))) {
      lines.back(line)
      break
    }
  }
  const rest = lines.rest()
  const body = isVerbose ? rest.split("\n").filter((line) => !isNote(line)).join("\n") : rest
  const fields = Object.fromEntries(headers)
  return {
    status: validStatus(name, status),
    headers: fields,
    body: body === "" ? undefined : body,
    nowMillis: dateMillis(fields["date"]),
    provider: undefined,
    stream: undefined
  }
}

/** One block of header lines, and the blank line after it. */
const headersOf = (name: string, lines: LineReader, isVerbose: boolean): Map<string, string> => {
  const headers = new Map<string, string>()
  let last: string | undefined
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    if (isVerbose && !/^<(?: |$)/.test(line.text)) {
      if (isNote(line.text)) continue
      // Without the line that ends them, what follows is the body.
      lines.back(line)
      break
    }
    const text = isVerbose ? line.text.slice(2) : line.text
    if (text.trim() === "") break
    if (/^[ \t]/.test(text) && last !== undefined) {
      headers.set(last, `${headers.get(last) ?? ""} ${text.trim()}`.trim())
      continue
    }
    const colon = text.indexOf(":")
    const field = text.slice(0, colon).trim().toLowerCase()
    if (colon < 1 || !fieldName.test(field)) {
      throw wrong(`${name}:${line.number}`, "no header line (Name: value); an empty line ends the headers")
    }
    put(headers, field, text.slice(colon + 1).trim())
    last = field
  }
  return headers
}

/** The status of a status line; undefined when the line is none. */
const statusOf = (name: string, line: Line, prefix: string): number | undefined => {
  if (!line.text.startsWith(prefix)) return undefined
  const told = /^HTTP\/\d(?:\.\d)? +(\S*)/i.exec(line.text.slice(prefix.length))?.[1]
  return told === undefined
    ? undefined
    : validStatus(`${name}:${line.number}`, /^\d+$/.test(told) ? Number(told) : told)
}

/** What `curl -v` prints beside the answer: notes, what it sent, and how much it received. */
const isNote = (line: string): boolean => /^(?:[*>] |[*>]\r?$|[{}] \[\d+ bytes data\]\r?$)/.test(line)

const parseJson = (name: string, text: string): ReadonlyArray<Answer> => {
  const whole = parsed(text)
  if (whole === undefined) {
    const lines = text.split("\n")
    const first = lines.find((line) => line.trim() !== "") ?? ""
    if (parsed(first) === undefined) {
      throw wrong(`${name}:${brokenLine(text)}`, `not valid JSON; ${jsonForms}`)
    }
    return lines.flatMap((line, index) => {
      if (line.trim() === "") return []
      const where = `${name}:${index + 1}`
      const value = parsed(line)
      if (value === undefined) throw wrong(where, `not valid JSON; ${jsonForms}`)
      return [toAnswer(where, value.json)]
    })
  }
  const { json } = whole
  const many = Array.isArray(json)
    ? json
    : isRecord(json) && Array.isArray(json["vectors"])
    ? json["vectors"]
    : undefined
  if (many === undefined) return [toAnswer(name, json)]
  if (many.length === 0) throw wrong(name, "no answer in the array; put one there")
  return many.map((each, index) => toAnswer(`${name}: answer ${index + 1} of ${many.length}`, each))
}

const toAnswer = (where: string, value: unknown): Answer => {
  if (!isRecord(value)) throw wrong(where, `not a JSON object; ${shape}`)
  const status = validStatus(where, value["status"])
  const given = value["headers"]
  if (!isRecord(given)) {
    throw wrong(where, `headers must be an object of names and values; write {} when there are none`)
  }
  const headers = new Map<string, string>()
  for (const [field, told] of Object.entries(given)) {
    for (const line of Array.isArray(told) ? told : [told]) {
      if (typeof line !== "string" && typeof line !== "number") {
        throw wrong(where, `header ${quote(field)} must be a string, or an array of strings`)
      }
      put(headers, field.trim().toLowerCase(), `${line}`)
    }
  }
  const now = optional(where, value, "now", "string", Predicate.isString)
  const nowMillis = now === undefined ? undefined : parseInstantMillis(now)
  if (now !== undefined && nowMillis === undefined) {
    throw wrong(where, `now ${quote(now)} is not a date such as 2026-10-06T12:00:00Z`)
  }
  const fields = Object.fromEntries(headers)
  return {
    status,
    headers: fields,
    body: value["body"] ?? undefined,
    nowMillis: nowMillis ?? dateMillis(fields["date"]),
    provider: optional(where, value, "provider", "string", Predicate.isString),
    stream: optional(where, value, "stream", "boolean", Predicate.isBoolean)
  }
}

const optional = <A>(
  where: string,
  value: Readonly<Record<string, unknown>>,
  member: string,
  kind: string,
  is: (told: unknown) => told is A
): A | undefined => {
  const told = value[member] ?? undefined
  if (told === undefined || is(told)) return told
  throw wrong(where, `${member} must be a ${kind}, not ${quote(told)}`)
}

const validStatus = (where: string, status: unknown): number => {
  if (status === undefined) throw wrong(where, `no status; ${shape}`)
  if (typeof status === "number" && Number.isInteger(status) && status >= 100 && status <= 599) return status
  throw wrong(where, `status ${quote(status)} is not a whole number from 100 to 599`)
}

/** Adds one line of a field. */
const put = (headers: Map<string, string>, field: string, value: string): void => {
  const before = headers.get(field)
  headers.set(field, before === undefined ? value : `${before}, ${value}`)
}

/** What a `Date` header tells; what is no HTTP date tells nothing. */
const dateMillis = (date: string | undefined): number | undefined => {
  const millis = date === undefined || !date.endsWith(" GMT") ? NaN : Date.parse(date)
  return Number.isNaN(millis) ? undefined : millis
}

/** JSON in a box, since `null` is JSON as well; undefined when it is not valid. */
const parsed = (text: string): { readonly json: unknown } | undefined => {
  try {
    return { json: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** The line in which JSON breaks, the last one when it only ends too soon. Takes some 25 parses of a part. */
const brokenLine = (text: string): number => {
  let low = 0
  for (let high = text.length; low < high;) {
    const middle = (low + high) >> 1
    const newline = text.indexOf("\n", middle)
    const end = newline === -1 ? text.length : newline
    if (isBroken(text.slice(0, end + 1))) high = middle
    else low = end + 1
  }
  const stop = Math.min(low, text.trimEnd().length)
  let number = 1
  for (let at = text.indexOf("\n"); at !== -1 && at < stop; at = text.indexOf("\n", at + 1)) number++
  return number
}

/** Is this beginning of a text wrong already, whatever would follow? V8 tells: it names a token, or a place before the end. */
const isBroken = (beginning: string): boolean => {
  try {
    JSON.parse(beginning)
    return false
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : ""
    const position = /at position (\d+)/.exec(message)?.[1]
    return message.startsWith("Unexpected token") || (position !== undefined && Number(position) < beginning.length)
  }
}

interface Line {
  readonly number: number
  readonly start: number
  readonly text: string
}

interface LineReader {
  readonly next: () => Line | undefined
  /** Takes a line back, which is then the next one. */
  readonly back: (line: Line) => void
  readonly rest: () => string
}

/** The lines of a text, one after another, without cutting the body in lines. */
const lineReader = (text: string): LineReader => {
  let start = 0
  let number = 0
  return {
    next: () => {
      if (start >= text.length) return undefined
      const newline = text.indexOf("\n", start)
      const end = newline === -1 ? text.length : newline
      const line = { number: ++number, start, text: text.slice(start, end).replace(/\r$/, "") }
      start = end + 1
      return line
    },
    back: (line) => {
      start = line.start
      number = line.number - 1
    },
    rest: () => text.slice(start)
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** What went wrong as a `UserError`. What is no fault of the input is thrown on, as a defect. */
const userError = (name: string, cause: unknown): UserError => {
  if (cause instanceof UserError) return cause
  if (!(cause instanceof Error && "errno" in cause && typeof cause.errno === "number")) throw cause
  const reason = "code" in cause && cause.code === "EISDIR"
    ? "it is a directory, not a file"
    : getSystemErrorMessage(cause.errno)
  return new UserError({ message: `cannot read ${name}: ${reason}`, exitCode: 2 })
}

const wrong = (where: string, problem: string): UserError =>
  new UserError({ message: `${where}: ${problem}`, exitCode: 2 })

/** A value as a message shows it. */
const quote = (value: unknown): string => {
  const text = printable(JSON.stringify(value))
  return text.length <= mostQuoted ? text : `${text.slice(0, mostQuoted - 3)}...`
}

const shape = `an answer is {"status": 429, "headers": {...}, "body": ...}`
const jsonForms = "give one JSON object, an array of them, or one object a line"
const forms = `give it what curl -i prints, or JSON such as {"status": 429, "headers": {...}, "body": ...}`

/** RFC 9110's token. */
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/

/** All of a text this long is held in memory, several times over. */
const mostBytes = 64 * 2 ** 20

/** Characters of a value that a message shows. */
const mostQuoted = 60
