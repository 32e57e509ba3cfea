/**
 * The input of `evenkeel explain`: answers of providers as text, as `curl -i` prints them or written down as JSON.
 *
 * Here belongs which form the text has, told by its looks, how an answer is read from JSON, and what is wrong with it. What
 * curl prints is `CurlText`'s, what an answer means is core's to tell, what is said of it `Explanation`'s.
 *
 * **Source**
 *
 * RFC 8259 for JSON, RFC 9110 for dates.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as fs from "node:fs"
import { getSystemErrorMessage } from "node:util"
import * as AnswerParts from "./AnswerParts.ts"
import * as CompressedBody from "./CompressedBody.ts"
import * as CurlText from "./CurlText.ts"
import * as StrangerText from "./StrangerText.ts"
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
 * when there is none; `unread` tells how it is compressed where it could not be read. `host` was asked, as `curl -v` says.
 */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
  readonly unread: string | undefined
  readonly nowMillis: number | undefined
  readonly provider: string | undefined
  readonly host: string | undefined
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
  const name = isStdin ? "standard input" : StrangerText.printable(options.path)
  const bytes = yield* Effect.tryPromise({
    try: () => bytesOf(name, isStdin ? options.stdin ?? process.stdin : fs.createReadStream(options.path)),
    catch: (cause) => userError(name, cause)
  })
  return yield* Effect.fromResult(parse(name, bytes))
})

/**
 * Reads the answers of a text, all of them or none.
 *
 * **Shape**
 *
 * Text that begins with `{` or `[` is JSON: one answer, an array of answers, an object with such an array as `vectors`, or
 * one answer a line. All else is what `curl` prints. Bytes are UTF-8, or UTF-16 that is marked so; a body may be
 * compressed.
 *
 * **Errors**
 *
 * `UserError` (2), in one line that says where: a line of `name`, or which one of several answers.
 */
export const parse = (name: string, input: string | Buffer): Result.Result<ReadonlyArray<Answer>, UserError> =>
  Result.try({
    try: () => {
      const bytes = unmarked(typeof input === "string" ? Buffer.from(input) : input)
      const opening = /\S[^\n]{0,20}/.exec(bytes.toString("latin1"))?.[0]
      if (opening === undefined) throw AnswerParts.wrong(name, `empty; ${AnswerParts.forms}`)
      // What `curl -v` says of the bytes that it received begins as JSON does.
      const isJson = /^(?:\{(?! \[\d)|\[)/.test(opening)
      return isJson ? parseJson(name, bytes.toString("utf8")) : parseCurl(name, bytes)
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
  const match = /^(\d{4})-(\d{2})-(\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/i.exec(text)
  const millis = match === null ? NaN : Date.parse(text)
  if (match === null || Number.isNaN(millis)) return undefined
  // JavaScript takes the 30th of February for the 2nd of March.
  const [, year, month, day] = match.map(Number)
  return new Date(Date.UTC(year!, month! - 1, day)).getUTCDate() === day ? millis : undefined
}

const bytesOf = async (name: string, chunks: AsyncIterable<Buffer>): Promise<Buffer> => {
  const kept: Array<Buffer> = []
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > mostBytes) throw AnswerParts.wrong(name, `larger than ${mostBytes / 2 ** 20} MiB; cut it in pieces`)
    kept.push(chunk)
  }
  return Buffer.concat(kept)
}

/** Bytes in UTF-8, without a mark of their order. PowerShell writes a file as UTF-16, and marks it so. */
const unmarked = (bytes: Buffer): Buffer => {
  const [first, second, third] = bytes
  if (first === 0xff && second === 0xfe) return Buffer.from(new TextDecoder("utf-16le").decode(bytes))
  if (first === 0xfe && second === 0xff) return Buffer.from(new TextDecoder("utf-16be").decode(bytes))
  return first === 0xef && second === 0xbb && third === 0xbf ? bytes.subarray(3) : bytes
}

const parseCurl = (name: string, bytes: Buffer): ReadonlyArray<Answer> =>
  CurlText.read(name, bytes).map(({ body, headers, host, status }) => {
    const fields = Object.fromEntries(headers)
    const read = CompressedBody.read(body, fields["content-encoding"])
    return {
      status,
      headers: fields,
      body: "unread" in read || read.text === "" ? undefined : read.text,
      unread: "unread" in read ? read.unread : undefined,
      nowMillis: dateMillis(fields["date"]),
      provider: undefined,
      host,
      stream: undefined
    }
  })

const parseJson = (name: string, text: string): ReadonlyArray<Answer> => {
  const whole = AnswerParts.parsed(text)
  if (whole === undefined) {
    const lines = text.split("\n")
    const first = lines.find((line) => line.trim() !== "") ?? ""
    if (AnswerParts.parsed(first) === undefined) {
      throw AnswerParts.wrong(`${name}:${brokenLine(text)}`, `not valid JSON; ${jsonForms}`)
    }
    return lines.flatMap((line, index) => {
      if (line.trim() === "") return []
      const where = `${name}:${index + 1}`
      const value = AnswerParts.parsed(line)
      if (value === undefined) throw AnswerParts.wrong(where, `not valid JSON; ${jsonForms}`)
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
  if (many.length === 0) throw AnswerParts.wrong(name, "no answer in the array; put one there")
  return many.map((each, index) => toAnswer(`${name}: answer ${index + 1} of ${many.length}`, each))
}

const toAnswer = (where: string, value: unknown): Answer => {
  if (!isRecord(value)) throw AnswerParts.wrong(where, `not a JSON object; ${AnswerParts.shape}`)
  const status = AnswerParts.status(where, value["status"])
  const given = value["headers"]
  if (!isRecord(given)) {
    throw AnswerParts.wrong(where, `headers must be an object of names and values; write {} when there are none`)
  }
  const headers = new Map<string, string>()
  for (const [field, told] of Object.entries(given)) {
    for (const line of Array.isArray(told) ? told : [told]) {
      if (typeof line !== "string" && typeof line !== "number") {
        throw AnswerParts.wrong(where, `header ${AnswerParts.quoted(field)} must be a string, or an array of strings`)
      }
      AnswerParts.put(headers, field.trim().toLowerCase(), `${line}`)
    }
  }
  const now = optional(where, value, "now", "string", Predicate.isString)
  const nowMillis = now === undefined ? undefined : parseInstantMillis(now)
  if (now !== undefined && nowMillis === undefined) {
    throw AnswerParts.wrong(where, `now ${AnswerParts.quoted(now)} is not a date such as 2026-10-06T12:00:00Z`)
  }
  const fields = Object.fromEntries(headers)
  return {
    status,
    headers: fields,
    body: value["body"] ?? undefined,
    unread: undefined,
    nowMillis: nowMillis ?? dateMillis(fields["date"]),
    provider: optional(where, value, "provider", "string", Predicate.isString),
    host: undefined,
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
  throw AnswerParts.wrong(where, `${member} must be a ${kind}, not ${AnswerParts.quoted(told)}`)
}

/** What a `Date` header tells; what is no HTTP date tells nothing. */
const dateMillis = (date: string | undefined): number | undefined => {
  const millis = date === undefined || !date.endsWith(" GMT") ? NaN : Date.parse(date)
  return Number.isNaN(millis) ? undefined : millis
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

const jsonForms = "give one JSON object, an array of them, or one object a line"

/** All of a text this long is held in memory, several times over. */
const mostBytes = 64 * 2 ** 20
