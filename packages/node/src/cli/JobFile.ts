/**
 * The input of `evenkeel run`: a file of requests, one a line, read in two passes.
 *
 * Here belongs all that is known of a job file: how its bytes become lines, its lines requests, and what is wrong with
 * them. The first pass (`scan`) checks every line before anything is sent; the second (`read`) hands the requests out as
 * fast as they are asked for. Sending belongs to the command, what was answered to `ResultFile`.
 *
 * **Source**
 *
 * OpenAI's batch input `{custom_id, method, url, body}` and Together's `{custom_id, body}`.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { isUtf8 } from "node:buffer"
import * as fs from "node:fs"
import * as fsp from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { getSystemErrorMessage } from "node:util"
import * as zlib from "node:zlib"
import * as CanonicalJson from "./CanonicalJson.ts"
import * as DigestTable from "./DigestTable.ts"
import { UserError } from "./UserError.ts"

/**
 * A job file that is open for its two passes.
 *
 * **Details**
 *
 * `name` is what messages call it. `handle` stays open in between, so that both passes read the same file, whatever its
 * name comes to mean; `stamp` tells whether that file was written to.
 */
export interface JobFile {
  readonly name: string
  readonly baseUrl: string
  readonly model: string | undefined
  readonly gzip: boolean
  readonly handle: fsp.FileHandle
  readonly stamp: string
}

/**
 * One request.
 *
 * **Shape**
 *
 * `path` is relative to the base URL. `body` is the text to send, in the caller's order of keys, and `requestBody` the
 * same as a value; both with `--model` and `stream` applied. `id` is the name of the request that results are kept under.
 */
export interface JobLine {
  readonly lineNumber: number
  readonly customId: string
  readonly method: "POST"
  readonly path: string
  readonly body: string
  readonly model: string
  readonly requestBody: Readonly<Record<string, unknown>>
  readonly id: string
}

/** What a check sees of a line. `where` is file and line number, to begin a message with. */
export interface CheckedLine {
  readonly where: string
  readonly lineNumber: number
  readonly customId: string
  readonly id: string
}

/**
 * What the first pass found.
 *
 * **Details**
 *
 * `requests` may be 0: an empty file is answered already. `models` in order of appearance, the first 1,000 of them.
 */
export interface Scan {
  readonly requests: number
  readonly models: ReadonlyArray<string>
}

/**
 * The second pass.
 *
 * **Details**
 *
 * `next` hands out the next 1 to 256 requests, all of one piece of the file (256 KiB and at most one line of 16 MiB), and
 * `undefined` after the last. Nothing is read ahead of it. A failure is repeated by every later `next`.
 */
export interface Reader {
  readonly next: Effect.Effect<ReadonlyArray<JobLine> | undefined, UserError>
}

/**
 * Opens a job file, plain or gzip (told by its first bytes, not by its name).
 *
 * **Errors**
 *
 * `UserError` (2) when it cannot be read. Dies with a `RangeError` when `baseUrl` is not a URL.
 *
 * **Details**
 *
 * `-` is standard input. What can be read only once (that, or a pipe) is first copied to a temporary file that only this
 * user may read and that has no name any more when the copying begins: no kind of end leaves it behind.
 */
export const open = Effect.fnUntraced(function*(options: {
  readonly path: string
  readonly baseUrl: string
  readonly model?: string | undefined
  readonly stdin?: Readable | undefined
}): Effect.fn.Return<JobFile, UserError, Scope.Scope> {
  const name = options.path === "-" ? "standard input" : options.path
  const attempt = <A>(run: (signal: AbortSignal) => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: (cause) => userError(name, cause, 2) })
  if (!URL.canParse(options.baseUrl)) throw new RangeError(`JobFile.open: not a URL: ${options.baseUrl}`)
  const isFile = options.path !== "-" && (yield* attempt(async () => {
    const stat = await fsp.stat(options.path)
    if (stat.isDirectory()) throw new UserError({ message: `${name} is a directory, not a file`, exitCode: 2 })
    return stat.isFile()
  }))
  const handle = yield* Effect.acquireRelease(
    attempt(() => isFile ? fsp.open(options.path, "r") : namelessFile()),
    (handle) => Effect.promise(() => handle.close())
  )
  if (!isFile) {
    const source = options.path === "-" ? options.stdin ?? process.stdin : fs.createReadStream(options.path)
    yield* attempt((signal) => pipeline(source, (chunks) => handle.writeFile(chunks), { signal }))
  }
  return yield* attempt(async () => {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0)
    const gzip = bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b
    const stamp = await stampOf(handle)
    return { name, baseUrl: options.baseUrl, model: options.model, gzip, handle, stamp }
  })
})

/**
 * The first pass: checks every line, and sends nothing.
 *
 * **Errors**
 *
 * `UserError` (2) with file and line number for the first line that is wrong: not UTF-8, longer than 16 MiB, not JSON, of
 * another shape, without a model, with a `custom_id` that an earlier line has, or refused by `check`.
 *
 * **Details**
 *
 * `check` is asked about each line in turn, with the id of its request; without it ids are not computed. A file of a
 * million lines takes a few seconds and about 50 MB, which are free again afterwards.
 */
export const scan = (
  file: JobFile,
  options?: { readonly check?: ((line: CheckedLine) => UserError | undefined) | undefined }
): Effect.Effect<Scan, UserError> =>
  Effect.tryPromise({
    try: (signal) => scanLines(file, options?.check, signal),
    catch: (cause) => userError(file.name, cause, 2)
  })

/**
 * The second pass.
 *
 * **Errors**
 *
 * `next` fails with a `UserError` when the file is not what `scan` saw: exit status 2 before the first request, and 3, stopped
 * before the end, after it.
 */
export const read = (file: JobFile): Effect.Effect<Reader, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => requestsOf(file)),
      (requests) => Effect.promise(() => requests.return(undefined))
    ),
    (requests) => {
      let begun = false
      let failure: { readonly cause: unknown } | undefined
      const next = async () => {
        if (failure !== undefined) throw failure.cause
        try {
          const { value } = await requests.next()
          begun = true
          return value
        } catch (cause) {
          failure = { cause }
          throw cause
        }
      }
      // Not interruptible: requests that nobody took would be left out of the job.
      return {
        next: Effect.uninterruptible(
          Effect.tryPromise({ try: next, catch: (cause) => userError(file.name, cause, begun ? 3 : 2) })
        )
      }
    }
  )

/**
 * Where a line's `url` leads, as a path relative to the base URL; or, as failure, why nothing is sent there.
 *
 * **Details**
 *
 * A version that ends the base URL and begins the path is not doubled (`/v1` and `/v1/chat/completions`). What could lead
 * to another host, or out of the base URL's path, is refused: absolute URLs, `//`, backslashes, `.` and `..` in any
 * spelling. A missing first slash is put there. A query is kept.
 *
 * **Errors**
 *
 * Throws a `RangeError` when `baseUrl` is not a URL.
 */
export const resolvePath = (baseUrl: string, url: string): Result.Result<string, string> => {
  if (!URL.canParse(baseUrl)) throw new RangeError(`JobFile.resolvePath: not a URL: ${baseUrl}`)
  if (/^(?:[a-z][a-z0-9+.-]*:|[/\\]{2})/i.test(url)) return Result.fail("is not a path; the host comes from --base-url")
  // eslint-disable-next-line no-control-regex -- these are what must not be there
  if (/[\u0000-\u0020\u007f\\#]/.test(url)) return Result.fail("holds a character that no path holds")
  const queryAt = url.indexOf("?")
  const query = queryAt === -1 ? "" : url.slice(queryAt)
  const pathname = queryAt === -1 ? url : url.slice(0, queryAt)
  if (pathname.replaceAll(/%2e/gi, ".").split(/[/]|%2f|%5c/i).some((part) => part === "." || part === "..")) {
    return Result.fail("holds a . or .. that could lead out of --base-url")
  }
  if (pathname.includes("//")) return Result.fail("holds an empty part")
  const base = new URL(baseUrl).pathname.split("/").filter((part) => part !== "")
  const parts = pathname.split("/").slice(pathname.startsWith("/") ? 1 : 0)
  const shared = /^v\d/.test(base.at(-1) ?? "")
    ? base.map((_, start) => base.slice(start)).find((end) => end.every((part, index) => part === parts[index]))
    : undefined
  const rest = parts.slice(shared?.length ?? 0)
  return rest.join("") === "" ? Result.fail("names no endpoint") : Result.succeed(`/${rest.join("/")}${query}`)
}

/** The URL of a path that `resolvePath` gave, under the same base URL. */
export const urlOf = (baseUrl: string, path: string): string => `${baseUrl.replace(/\/+$/, "")}${path}`

/**
 * Cuts pieces of a file into lines.
 *
 * **Shape**
 *
 * `push` returns the lines that end in this piece, without their line feed; they may be views of it. `rest` is what came
 * after the last line feed. `restBytes` is its length, for the caller to bound.
 */
export interface LineCutter {
  push(piece: Buffer): ReadonlyArray<Buffer>
  rest(): Buffer
  restBytes(): number
}

/** Makes a cutter. It keeps a copy of the unfinished line only, so pieces may share one buffer. */
export const lineCutter = (): LineCutter => {
  let kept: Array<Buffer> = []
  let keptBytes = 0
  const take = (end: Buffer): Buffer => {
    if (keptBytes === 0) return end
    const line = Buffer.concat([...kept, end])
    kept = []
    keptBytes = 0
    return line
  }
  return {
    push(piece) {
      const lines: Array<Buffer> = []
      let start = 0
      for (let end = piece.indexOf(lineFeed); end !== -1; end = piece.indexOf(lineFeed, start)) {
        lines.push(take(piece.subarray(start, end)))
        start = end + 1
      }
      if (start < piece.length) {
        kept.push(Buffer.from(piece.subarray(start)))
        keptBytes += piece.length - start
      }
      return lines
    },
    rest: () => take(Buffer.alloc(0)),
    restBytes: () => keptBytes
  }
}

const scanLines = async (
  file: JobFile,
  check: ((line: CheckedLine) => UserError | undefined) | undefined,
  signal: AbortSignal
): Promise<Scan> => {
  const toRequest = requestReader(file)
  const seen = DigestTable.make()
  const models = new Set<string>()
  for await (const lines of linesOf(file)) {
    signal.throwIfAborted()
    for (const line of lines) {
      const request = toRequest(line)
      if (request === undefined) continue
      const where = whereOf(file, line.lineNumber)
      const key = DigestTable.digestOf(request.customId)
      const earlier = DigestTable.get(seen, key)
      if (earlier !== undefined) {
        const given = request.customIdGiven ? "" : " (which a line without one gets)"
        throw badLine(where, `custom_id ${quote(request.customId)}${given} is taken by line ${earlier.line}`)
      }
      if (seen.size === DigestTable.maxSize) {
        throw badLine(where, `no more than ${DigestTable.maxSize} lines; cut it in two`)
      }
      DigestTable.set(seen, key, { digest: nothing, status: 0, line: line.lineNumber })
      if (models.size < maxModels) models.add(request.model)
      if (check !== undefined) {
        const { customId, path, requestBody } = request
        const id = CanonicalJson.requestId("POST", path, requestBody)
        const refusal = check({ where, lineNumber: line.lineNumber, customId, id })
        if (refusal !== undefined) throw refusal
      }
    }
  }
  return { requests: seen.size, models: [...models] }
}

async function* requestsOf(file: JobFile): AsyncGenerator<ReadonlyArray<JobLine>, undefined> {
  const toRequest = requestReader(file)
  for await (const lines of linesOf(file)) {
    for (let start = 0; start < lines.length; start += chunkLines) {
      const chunk: Array<JobLine> = []
      for (const line of lines.slice(start, start + chunkLines)) {
        const request = toRequest(line)
        if (request === undefined) continue
        const { customId, model, path, requestBody } = request
        const id = CanonicalJson.requestId("POST", path, requestBody)
        const body = JSON.stringify(requestBody)
        chunk.push({ lineNumber: line.lineNumber, customId, method: "POST", path, body, model, requestBody, id })
      }
      if (chunk.length > 0) yield chunk
    }
  }
  return undefined
}

interface Line {
  readonly lineNumber: number
  readonly bytes: Buffer
}

/** The lines of each piece of the file in turn. They are views of a buffer that the next piece overwrites. */
async function* linesOf(file: JobFile): AsyncGenerator<ReadonlyArray<Line>, undefined> {
  const cutter = lineCutter()
  let lineNumber = 0
  const numbered = (bytes: Buffer): Line => ({ lineNumber: ++lineNumber, bytes })
  for await (const piece of file.gzip ? unzipped(piecesOf(file)) : piecesOf(file)) {
    const lines = cutter.push(piece)
    yield lines.map(numbered)
    if (cutter.restBytes() > maxLineBytes) throw tooLong(file, lineNumber + 1)
  }
  yield [numbered(cutter.rest())]
  return undefined
}

/** The file's bytes, each piece in the same buffer. Checked for change after each read, before anybody sees it. */
async function* piecesOf(file: JobFile): AsyncGenerator<Buffer, undefined> {
  const buffer = Buffer.allocUnsafeSlow(pieceBytes)
  for (let position = 0;;) {
    const { bytesRead } = await file.handle.read(buffer, 0, pieceBytes, position)
    await verifyUnchanged(file)
    if (bytesRead === 0) return undefined
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

async function* unzipped(pieces: AsyncGenerator<Buffer, undefined>): AsyncGenerator<Buffer, undefined> {
  // Copied, since what waits inside the stream must not change.
  const copies = async function*() {
    for await (const piece of pieces) yield Buffer.from(piece)
  }
  const gunzip = zlib.createGunzip({ chunkSize: pieceBytes })
  const fed = pipeline(Readable.from(copies(), { highWaterMark: 1 }), gunzip)
  // A failure also ends the loop below, which throws it; nobody else needs to hear of it.
  fed.catch(() => {})
  for await (const piece of gunzip) yield piece
  return undefined
}

interface Request {
  readonly customId: string
  readonly customIdGiven: boolean
  readonly path: string
  readonly model: string
  readonly requestBody: Readonly<Record<string, unknown>>
}

/** Makes what reads one line after another: a request, or `undefined` for a blank line. It throws `UserError`. */
const requestReader = (file: JobFile): (line: Line) => Request | undefined => {
  let lastUrl = ""
  let lastPath: Result.Result<string, string> = Result.fail("is empty")
  const pathOf = (url: string) => {
    // Files name one url a million times.
    if (url !== lastUrl) {
      lastPath = resolvePath(file.baseUrl, url)
      lastUrl = url
    }
    return lastPath
  }
  return (line) => {
    const where = whereOf(file, line.lineNumber)
    if (line.bytes.length > maxLineBytes) throw tooLong(file, line.lineNumber)
    if (!isUtf8(line.bytes)) throw badLine(where, "not UTF-8 text")
    const text = line.bytes.toString("utf8", line.lineNumber === 1 && line.bytes.indexOf(byteOrderMark) === 0 ? 3 : 0)
    if (text.trim() === "") return undefined
    const value = parse(where, text)
    const given = value["custom_id"] ?? undefined
    const customId = given ?? `line-${line.lineNumber}`
    if (typeof customId !== "string") throw badLine(where, "custom_id must be a string; put quotes around it")
    if (customId === "") throw badLine(where, "custom_id is empty; leave it out, or give the line one of its own")
    const method = value["method"] ?? "POST"
    if (method !== "POST") throw badLine(where, `method ${quote(method)} is not sent; only "POST" is`)
    const url = value["url"] ?? undefined
    if (url !== undefined && typeof url !== "string") throw badLine(where, "url must be a string")
    const path = url === undefined ? Result.succeed("/chat/completions") : pathOf(url)
    if (Result.isFailure(path)) throw badLine(where, `url ${quote(url)} ${path.failure}`)
    const { model, requestBody } = applied(where, value["body"], file.model)
    return { customId, customIdGiven: given !== undefined, path: path.success, model, requestBody }
  }
}

const parse = (where: string, text: string): Record<string, unknown> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    // V8 appends a line and column of its own, which is not a place in the file.
    const reason = cause instanceof Error ? cause.message.replace(/ \(line \d+ column \d+\)$/, "") : String(cause)
    throw badLine(where, `not valid JSON (${reason}); each line is one whole JSON object`)
  }
  if (!isRecord(value)) throw badLine(where, `not a JSON object; ${shape}`)
  const unknown = Object.keys(value).find((key) => !members.has(key))
  // Not ignored: a misspelt url would send the line to another endpoint.
  if (unknown !== undefined) throw badLine(where, `unknown member ${quote(unknown)}; ${shape}`)
  return value
}

/** The body with `--model` filled in and streaming off. Changes the value, which was parsed for this. */
const applied = (where: string, body: unknown, model: string | undefined) => {
  if (body === undefined) throw badLine(where, `no body; ${shape}`)
  if (!isRecord(body)) throw badLine(where, `body must be a JSON object; ${shape}`)
  body["model"] ??= model
  const named = body["model"]
  if (named === undefined) throw badLine(where, "no model; name one in the body, or for all such lines with --model")
  if (typeof named !== "string" || named === "") throw badLine(where, "model must be a string that is not empty")
  if (body["stream"] === true) {
    body["stream"] = false
    delete body["stream_options"]
  }
  try {
    CanonicalJson.verify(body)
  } catch (cause) {
    throw cause instanceof RangeError ? badLine(where, `the body cannot be sent: ${cause.message}`) : cause
  }
  return { model: named, requestBody: body }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A temporary file for this user alone, of which only the handle is left. */
const namelessFile = async (): Promise<fsp.FileHandle> => {
  const directory = await fsp.mkdtemp(path.join(os.tmpdir(), "evenkeel-"))
  try {
    return await fsp.open(path.join(directory, "input"), "wx+", 0o600)
  } finally {
    await fsp.rm(directory, { recursive: true })
  }
}

const stampOf = async (handle: fsp.FileHandle): Promise<string> => {
  const { mtimeNs, size } = await handle.stat({ bigint: true })
  return `${size} ${mtimeNs}`
}

const verifyUnchanged = async (file: JobFile): Promise<void> => {
  if (await stampOf(file.handle) !== file.stamp) throw new Changed()
}

/** Its exit status depends on who was reading, so it becomes a `UserError` in `userError`. */
class Changed extends Error {}

/** What went wrong as a `UserError`. What is no fault of the file is thrown on, as a defect. */
const userError = (name: string, cause: unknown, exitCode: number): UserError => {
  if (cause instanceof UserError) return exitCode === 2 ? cause : new UserError({ message: cause.message, exitCode })
  if (cause instanceof Changed) {
    const next = exitCode === 2 ? "start again" : "the same command continues with what it holds now"
    return new UserError({ message: `${name} was written to while it was read; ${next}`, exitCode })
  }
  if (!(cause instanceof Error && "code" in cause)) throw cause
  if (typeof cause.code === "string" && cause.code.startsWith("Z_")) {
    return new UserError({ message: `${name}: not a whole gzip file (${cause.message})`, exitCode })
  }
  const reason = "errno" in cause && typeof cause.errno === "number"
    ? getSystemErrorMessage(cause.errno)
    : cause.message
  return new UserError({ message: `cannot read ${name}: ${reason}`, exitCode })
}

const whereOf = (file: JobFile, lineNumber: number): string => `${file.name}:${lineNumber}`

const badLine = (where: string, problem: string): UserError =>
  new UserError({ message: `${where}: ${problem}`, exitCode: 2 })

const tooLong = (file: JobFile, lineNumber: number): UserError =>
  badLine(whereOf(file, lineNumber), `longer than ${maxLineBytes / 2 ** 20} MiB, which is all that a line may hold`)

/** A value as a message shows it. */
const quote = (value: unknown): string => {
  const text = JSON.stringify(value)
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`
}

const shape = `a line is {"custom_id", "method", "url", "body"} or {"custom_id", "body"}`
const members: ReadonlySet<string> = new Set(["custom_id", "method", "url", "body"])

const lineFeed = 0x0a
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/** The first pass needs no digest beside its line numbers. */
const nothing = new Uint32Array(4)

/** Requests of one `next`: enough that a reader seldom waits, few enough that they are soon sent. */
const chunkLines = 256

/** One read. Larger ones are no faster. */
const pieceBytes = 256 * 1024

/** No provider takes bodies of this size, and a file without line feeds must not fill the memory. */
const maxLineBytes = 16 * 2 ** 20

/** The models named in the scan: far more than a job has, when they are not made up by mistake. */
const maxModels = 1000
