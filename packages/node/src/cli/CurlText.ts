/**
 * Answers as `curl` prints them with `-i`, `-v` or `-D -`, with all that it says beside.
 *
 * Here belongs the grammar of that text: where an answer begins, where its headers and its body end, what is no part of
 * it. Where that cannot be told it is refused: two answers are never mixed. What the bytes of a body are is
 * `CompressedBody`'s to tell.
 *
 * **Details**
 *
 * Bytes are held as text with one character for each, so that a length in bytes is one in characters.
 *
 * **Source**
 *
 * RFC 9112 for status lines, header lines, line folding and trailers; the output of curl 7.88.
 */
import * as AnswerParts from "./AnswerParts.ts"
import * as CompressedBody from "./CompressedBody.ts"

/**
 * One answer that was printed.
 *
 * **Details**
 *
 * Header names are in lower case. `body` is as it was printed, without trailers. `host` is the one that `-v` says it was
 * asked of.
 */
export interface Printed {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
  readonly host: string | undefined
}

/**
 * Reads the answers of a text, in their order.
 *
 * **Details**
 *
 * What comes before the first is passed over. A block of headers without a body is none where another follows it that
 * answers the same call: an interim answer, a redirect, a proxy's.
 *
 * **Errors**
 *
 * Throws a `UserError` (2) that says where it is wrong, or where it cannot be told whose a part is.
 */
export const read = (name: string, bytes: Buffer): ReadonlyArray<Printed> => {
  const text = withoutMeter(bytes.toString("latin1"))
  const opening = /^(< )?HTTP\/\d/im.exec(text)
  if (opening === null) throw AnswerParts.wrong(name, `neither JSON nor an HTTP answer; ${AnswerParts.forms}`)
  return opening[1] === undefined ? readPlain(name, text, opening.index) : readVerbose(name, withoutGlue(text))
}

/** A status line with the header lines that follow it. */
interface Block {
  readonly status: number
  readonly headers: Map<string, string>
  /** Where what follows begins. */
  readonly end: number
  /** Is it the answer of a proxy to `CONNECT`? It has no content, and HTTP/2 has no such block. */
  readonly opensTunnel: boolean
}

const readPlain = (name: string, text: string, first: number): ReadonlyArray<Printed> => {
  const printed: Array<Printed> = []
  for (let at: number | undefined = first; at !== undefined;) {
    const block = blockAt(name, text, at)
    const next = nextAnswer(name, text, block)
    const body = text.slice(block.end, next)
    if (next === undefined || body.trim() !== "" || !isPassedOver(block)) {
      printed.push(printedOf(block, body, undefined))
    }
    at = next
  }
  return printed
}

/** Where the next answer begins, as far as that can be told; undefined when all of the rest is the body. */
const nextAnswer = (name: string, text: string, block: Block): number | undefined => {
  const { end, headers } = block
  const after = lengthEnd(text, block)
  if (after === text.length) return undefined
  if (after !== undefined && startsAt(text, after)) return after
  const first = statusLine.test(text.slice(end, end + mostStatus)) ? end : startFrom(text, end)
  if (first === undefined || text.slice(end, first).trim() === "") return first
  const jsonEnd = endOfJson(text, end)
  if (jsonEnd !== undefined) {
    const next = startFrom(text, jsonEnd)
    if (next === undefined || isTrailer(text.slice(jsonEnd, next))) return next
  }
  const before = text.slice(end, first)
  const encoding = headers.get("content-encoding")
  const isStream = headers.get("content-type")?.includes("text/event-stream") === true
  const isWhole = isStream && before.endsWith("\n") ||
    /<\/html>\s*$/i.test(before.slice(-mostStatus)) ||
    CompressedBody.isWhole(Buffer.from(before, "latin1"), encoding)
  if (isWhole) return first
  throw AnswerParts.wrong(
    `${name}:${lineOf(text, first)}`,
    "another answer begins here, or the body before it goes on; give each answer in a file of its own"
  )
}

/** Where the body ends by its own length, and the line end that may follow it; undefined when that cannot be. */
const lengthEnd = (text: string, { end, headers }: Block): number | undefined => {
  const told = headers.get("content-length")
  if (told === undefined || !/^\d{1,10}$/.test(told) || told === "0") return undefined
  const after = end + Number(told)
  if (after > text.length) return undefined
  const rest = /^[\r\n]*/.exec(text.slice(after, after + mostStatus))![0]
  return after + rest.length
}

/** A block whose headers are no answer's, where another block follows at once. */
const isPassedOver = ({ opensTunnel, status }: Block): boolean =>
  status < 200 || (status >= 300 && status < 400 && status !== 304) || status === 407 || opensTunnel

/** The block of header lines at a place. `-v` puts `< ` before each, and notes between them. */
const blockAt = (name: string, text: string, at: number, isVerbose = false): Block => {
  const skipped = isVerbose ? 2 : 0
  const opening = lineAt(text, at)
  const told = statusLine.exec(opening.text.slice(skipped))?.[1] ?? ""
  const status = /^[1-5]\d\d$/.test(told)
    ? Number(told)
    : AnswerParts.status(`${name}:${lineOf(text, at)}`, /^\d+$/.test(told) ? Number(told) : told)
  const headers = new Map<string, string>()
  let last: string | undefined
  let end = opening.end
  while (end < text.length) {
    const line = lineAt(text, end)
    const isHeader = !isVerbose || /^<(?: |$)/.test(line.text)
    // Without the line that ends them, what follows is the body.
    if (!isHeader && !isNote(line.text)) break
    const start = end
    end = line.end
    if (!isHeader) continue
    if (line.text.slice(skipped).trim() === "") break
    last = putLine(headers, last, line.text.slice(skipped), () => `${name}:${lineOf(text, start)}`)
  }
  return { status, headers, end, opensTunnel: opensTunnel(opening.text.slice(skipped), status, headers) }
}

/** Takes up one header line; says of which field it is. */
const putLine = (
  headers: Map<string, string>,
  last: string | undefined,
  text: string,
  where: () => string
): string => {
  if (/^[ \t]/.test(text) && last !== undefined) {
    headers.set(last, `${headers.get(last) ?? ""} ${text.trim()}`.trim())
    return last
  }
  const colon = text.indexOf(":")
  const field = text.slice(0, colon).trim().toLowerCase()
  if (colon < 1 || !fieldName.test(field)) {
    throw AnswerParts.wrong(where(), "no header line (Name: value); an empty line ends the headers")
  }
  AnswerParts.put(headers, field, text.slice(colon + 1).trim())
  return field
}

const opensTunnel = (opening: string, status: number, headers: ReadonlyMap<string, string>): boolean =>
  status === 200 && /^HTTP\/1/i.test(opening) &&
  !["content-type", "content-length", "transfer-encoding"].some((field) => headers.has(field))

/** An answer within what `-v` says, as it is gathered. */
interface Gathered {
  readonly block: Block
  readonly host: string | undefined
  readonly body: Array<string>
  /** curl says that it left the body out, because it asks again. */
  isIgnored: boolean
}

const readVerbose = (name: string, text: string): ReadonlyArray<Printed> => {
  const all: Array<Gathered> = []
  let host: string | undefined
  let isAsked = false
  for (let at = 0; at <= text.length;) {
    const line = lineAt(text, at)
    const current = all.at(-1)
    const isFree = current === undefined || isAsked || current.body.every((each) => each.trim() === "")
    if (isFree && /^< HTTP\/\d/i.test(line.text)) {
      const block = blockAt(name, text, at, true)
      all.push({ block, host, body: [], isIgnored: false })
      isAsked = false
      at = block.end
      continue
    }
    if (isNote(line.text)) {
      host = hostOf(line.text) ?? host
      isAsked ||= line.text.startsWith("> ")
      if (current !== undefined && /^\* (?:Ignoring the response-body|Issue another request)/.test(line.text)) {
        current.isIgnored = true
      }
    } else current?.body.push(text.slice(at, line.end - (line.isLast ? 0 : 1)))
    if (line.isLast) break
    at = line.end
  }
  const blocks = all.map(({ block }) => block)
  return all.flatMap(({ block, body, host, isIgnored }, index) => {
    const rest = withoutRepeated(name, body.join("\n"), blocks)
    const isLast = index === all.length - 1
    if (!isLast && rest.trim() === "" && (isIgnored || isPassedOver(block))) return []
    return [printedOf(block, rest, host)]
  })
}

/** With `-i` as well, curl prints before the body the same headers once more. */
const withoutRepeated = (name: string, body: string, blocks: ReadonlyArray<Block>): string => {
  let rest = body
  while (startsAt(rest, 0)) {
    const block = blockAt(name, rest, 0)
    if (!blocks.some((each) => isSame(each, block))) break
    rest = rest.slice(block.end)
  }
  return rest
}

const isSame = (one: Block, other: Block): boolean =>
  one.status === other.status && JSON.stringify([...one.headers]) === JSON.stringify([...other.headers])

/** What `curl -v` prints beside the answer: notes, what it sent, and how much it received. */
const isNote = (line: string): boolean => /^(?:[*>] |[*>]$|[{}] \[\d+ bytes data\]$)/.test(line)

const hostOf = (note: string): string | undefined =>
  /^> host: *([\w.:[\]-]+)$/i.exec(note)?.[1] ?? /^\* Connected to ([\w.:[\]-]+) /.exec(note)?.[1]

const printedOf = ({ headers, status }: Block, body: string, host: string | undefined): Printed => {
  const end = isJson(body) ? undefined : endOfJson(body, 0)
  const isTrailed = end !== undefined && isTrailer(body.slice(end))
  return { status, headers, host, body: Buffer.from(isTrailed ? body.slice(0, end) : body, "latin1") }
}

const isTrailer = (text: string): boolean => text.length <= mostBlock && trailers.test(text)

/** Where the JSON ends with which a text begins at a place; undefined when it begins with none. */
const endOfJson = (text: string, from: number): number | undefined => {
  const start = from + /^\s*/.exec(text.slice(from, from + mostStatus))![0].length
  if (text[start] !== "{" && text[start] !== "[") return undefined
  const mark = /["{}[\]]/g
  mark.lastIndex = start
  let depth = 0
  for (let found = mark.exec(text); found !== null; found = mark.exec(text)) {
    if (found[0] === "\"") {
      const end = endOfString(text, mark.lastIndex)
      if (end === undefined) return undefined
      mark.lastIndex = end
    } else if (found[0] === "{" || found[0] === "[") depth++
    else if (--depth === 0) return isJson(text.slice(start, mark.lastIndex)) ? mark.lastIndex : undefined
  }
  return undefined
}

/** Where a string of JSON ends whose inside begins at a place: at a quote after an even number of backslashes. */
const endOfString = (text: string, from: number): number | undefined => {
  for (let quote = text.indexOf("\"", from); quote !== -1; quote = text.indexOf("\"", quote + 1)) {
    let before = quote
    while (text[before - 1] === "\\") before--
    if ((quote - before) % 2 === 0) return quote + 1
  }
  return undefined
}

const isJson = (text: string): boolean => AnswerParts.parsed(text) !== undefined

/** Is there a status line at this place, with header lines and the line that ends them? */
const startsAt = (text: string, at: number): boolean => {
  answerHere.lastIndex = at
  return answerHere.test(text)
}

/** The next place of that kind. It may stand in the midst of a line, since a body needs no line end. */
const startFrom = (text: string, from: number): number | undefined => {
  answerStart.lastIndex = from
  return answerStart.exec(text)?.index
}

interface Line {
  readonly text: string
  /** Where the next line begins. */
  readonly end: number
  readonly isLast: boolean
}

/** A line without its end, as text: names of headers are ASCII, values may be UTF-8. */
const lineAt = (text: string, at: number): Line => {
  const newline = text.indexOf("\n", at)
  const bytes = text.slice(at, newline === -1 ? text.length : newline).replace(/\r$/, "")
  return {
    text: Buffer.from(bytes, "latin1").toString("utf8"),
    end: newline === -1 ? text.length : newline + 1,
    isLast: newline === -1
  }
}

const lineOf = (text: string, at: number): number => text.slice(0, at).split("\n").length

/** Without the rows by which curl shows its progress, each of which begins with a return to the line's beginning. */
const withoutMeter = (text: string): string =>
  meterTitle.test(text) ? text.replace(meterTitles, "").replace(meterRow, "") : text

/** What `-v` says may come right after a body that does not end its line, or after how much of it was received. */
const withoutGlue = (text: string): string => text.replace(received, "").replace(glued, "\n")

const statusLine = /^HTTP\/\d(?:\.\d)? +(\S*)/i

/** RFC 9110's token. */
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/

/** What comes after a body of JSON in the same answer: nothing, or lines of a trailer, or what curl says of its exit. */
const trailers = /^[ \t]*(?:(?:< )?[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\n]*(?:\n|$)|(?:< ?)?\r?\n)*$/

/** A status line, header lines, and the empty line; or a status line alone, and the next. No answer has as many lines. */
const answerStart =
  /HTTP\/\d(?:\.\d)? [1-5]\d\d(?: [^\r\n]*)?\r?\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\n]*(?:\n|$)(?:(?:[ \t]|[!#$%&'*+\-.^_`|~0-9A-Za-z]+:)[^\n]*(?:\n|$)){0,256}(?:\r?\n|$)|\r?\n(?=HTTP\/\d))/g

const answerHere = new RegExp(answerStart.source, "y")

const meterTitle = /% Total {1,8}% Received/

const meterTitles = / {0,2}% Total {1,8}% Received[^\n]{0,100}\n(?:[^\n]{0,60}Dload[^\n]{0,100}\n)?/g

const meterRow =
  /\r?^ *\d+ +[\d.]+[kMGTP]? +\d+ +[\d.]+[kMGTP]? +\d+ +[\d.]+[kMGTP]? +[\d.]+[kMGTP]? +[\d.]+[kMGTP]?(?: +(?:[\d:-]{7,9}|\d+d(?: \d+h)?)){3} +[\d.]+[kMGTP]?(?:\r?\n)?/gm

const received = /[{}] \[\d+ bytes data\]\r?\n/g

const glued =
  /(?<=[^\n])(?=\* (?:Connection #\d|Found bundle for|Re-using existing|Reusing existing|Closing connection)|> [A-Z]+ \S+ HTTP\/|< HTTP\/\d)/gi

/** Characters in which a status line is told. */
const mostStatus = 1_024

/** Characters of a block of headers; servers take no more, and curl as many. */
const mostBlock = 300 * 1_024
