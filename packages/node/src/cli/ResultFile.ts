/**
 * The output of `evenkeel run`: what each request came to, a line each, and all that is needed to continue.
 *
 * Here belongs the results file: its rows, the lock that keeps a second run away, what the rows of earlier runs say, and
 * the appending. What to send, and whether a failure is for good, belong to the command.
 *
 * **Source**
 *
 * The row is OpenAI's batch output. The lock is a file made by link(2), which is atomic; taking over the lock of a dead
 * process is a compare-and-set, made of a second lock named after the first (see `takeLock`).
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { isUtf8 } from "node:buffer"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as fsp from "node:fs/promises"
import * as os from "node:os"
import { getSystemErrorMessage } from "node:util"
import * as DigestTable from "./DigestTable.ts"
import { type CheckedLine, lineCutter } from "./JobFile.ts"
import { UserError } from "./UserError.ts"

/**
 * What one request came to.
 *
 * **Shape**
 *
 * `id` is `ek-` and 32 hex digits (`CanonicalJson.requestId`). `response.body` is the text that came: it is written as the
 * JSON value that it is, else as a string. A row is a success when it has no `error` and a status of 2xx.
 */
export interface Row {
  readonly id: string
  readonly customId: string
  readonly response: {
    readonly statusCode: number
    readonly requestId: string | null
    readonly body: string
  } | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/**
 * What the file says of a line of the job.
 *
 * **Shape**
 *
 * | state | the file has for the `custom_id` |
 * | --- | --- |
 * | `new` | nothing |
 * | `done` | a success of this request |
 * | `failed` | a failure of this request |
 * | `changed` | a row of another request |
 */
export type State = "new" | "done" | "failed" | "changed"

/**
 * A results file that is open and locked.
 *
 * **Details**
 *
 * `stateOf` sees the rows of earlier runs: for each `custom_id` the last success, else the last row. A run appends one row
 * for a `custom_id`, so its own are not kept: a million of them cost no memory. `sends`
 * says whether a line is to be sent: when it is new, when it failed and `retryFailed` is set, when it changed and
 * `resendChanged` is. `check` is for `JobFile.scan`: it refuses a changed line unless `resendChanged` is set.
 *
 * `append` returns when the row is with the operating system: whatever kills the process afterwards, the row stays. Rows
 * that are ready together go in one write, in the order of their calls.
 *
 * **Errors**
 *
 * `append` fails with a `UserError` (3) when the row cannot be written, and from then on always: after a torn row nothing
 * more may be added.
 *
 * **Gotchas**
 *
 * A success for a changed line, kept from before, wins over the failure of its new text, which `stateOf` therefore still
 * calls `changed`.
 */
export interface ResultFile {
  readonly path: string
  readonly isEmpty: boolean
  readonly stateOf: (customId: string, id: string) => State
  readonly sends: (customId: string, id: string) => boolean
  readonly check: (line: CheckedLine) => UserError | undefined
  readonly append: (row: Row) => Effect.Effect<void, UserError>
}

/**
 * Opens a results file, new or of earlier runs, and holds its lock (`PATH.lock`) until the scope closes.
 *
 * **Errors**
 *
 * `UserError` (2) when another run holds the lock, when the file cannot be written, and when a line of it is not a row of
 * ours.
 *
 * **Details**
 *
 * A last line that was torn is cut off; a whole row that only lacks its line feed gets one. The lock of a process that is
 * dead is taken over, when it died on this machine; of several that try, one wins. Closing waits for what is being
 * written, and removes a file that this run made and wrote nothing to. `isEmpty` is true when there were no rows.
 */
export const open = Effect.fnUntraced(function*(options: {
  readonly path: string
  readonly retryFailed?: boolean | undefined
  readonly resendChanged?: boolean | undefined
}): Effect.fn.Return<ResultFile, UserError, Scope.Scope> {
  // Two names of one file get one lock.
  const path = fs.existsSync(options.path) ? fs.realpathSync(options.path) : options.path
  const attempt = <A>(run: () => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: (cause) => cannotWrite(options.path, cause, 2) })
  yield* lock(path)
  const { handle } = yield* Effect.acquireRelease(
    attempt(() => openFile(path)),
    ({ handle, made }) => Effect.promise(() => closeFile(path, handle, made))
  )
  const rows: Rows = { table: DigestTable.make(), lines: 0 }
  yield* attempt(() => load(options.path, handle, rows))
  const isEmpty = rows.table.size === 0
  const append = yield* appender(options.path, handle)
  const entryOf = (customId: string) => DigestTable.get(rows.table, DigestTable.digestOf(customId))
  const stateOf = (customId: string, id: string): State => {
    const entry = entryOf(customId)
    if (entry === undefined) return "new"
    if (!DigestTable.equals(entry.digest, digestOfId(id))) return "changed"
    return entry.status === success ? "done" : "failed"
  }
  return {
    path: options.path,
    isEmpty,
    stateOf,
    sends: (customId, id) => {
      const state = stateOf(customId, id)
      return state === "new" || (state === "failed" && options.retryFailed === true) ||
        (state === "changed" && options.resendChanged === true)
    },
    check: ({ customId, id, where }) => {
      const entry = options.resendChanged === true ? undefined : entryOf(customId)
      return entry === undefined || DigestTable.equals(entry.digest, digestOfId(id))
        ? undefined
        : changedLine(where, `${options.path}:${entry.line}`)
    },
    append
  }
})

/** The line of a row, with its line feed. */
const lineOf = ({ customId, error, id, response }: Row): string => {
  if (!idShape.test(id)) throw new RangeError(`ResultFile.append: not an id of ours: ${id}`)
  const answer = response === null
    ? "null"
    : `{"status_code":${response.statusCode},"request_id":${JSON.stringify(response.requestId)},` +
      `"body":${bodyOf(response.body)}}`
  const problem = error === null ? "null" : JSON.stringify({ code: error.code, message: error.message })
  return `{"id":"${id}","custom_id":${JSON.stringify(customId)},"response":${answer},"error":${problem}}\n`
}

/** A body as a JSON value in one line. Its own text where that is JSON: numbers keep digits that JavaScript would not. */
const bodyOf = (text: string): string => {
  try {
    JSON.parse(text)
  } catch {
    return JSON.stringify(text)
  }
  // In JSON a line break can only stand between tokens.
  return text.replaceAll(/[\r\n]+/g, " ")
}

/** What the rows say, by digest of `custom_id`: digest = id, status = success or failure, line = line of the file. */
interface Rows {
  readonly table: DigestTable.DigestTable
  lines: number
}

const success = 1
const failure = 2

/** Takes the row of the next line into account: a success wins over a failure, else the later row counts. */
const noteRow = (rows: Rows, customId: string, id: string, status: number): void => {
  rows.lines += 1
  const key = DigestTable.digestOf(customId)
  if (status === failure && DigestTable.get(rows.table, key)?.status === success) return
  DigestTable.set(rows.table, key, { digest: digestOfId(id), status, line: rows.lines })
}

const digestOfId = (id: string): DigestTable.Digest => DigestTable.digestFromHex(id.slice(idPrefix.length))

const isSuccess = (statusCode: unknown, error: unknown): boolean =>
  error === null && typeof statusCode === "number" && statusCode >= 200 && statusCode < 300

const openFile = async (path: string): Promise<{ readonly handle: fsp.FileHandle; readonly made: boolean }> => {
  try {
    return { handle: await fsp.open(path, "ax+"), made: true }
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw cause
    return { handle: await fsp.open(path, "a+"), made: false }
  }
}

const closeFile = async (path: string, handle: fsp.FileHandle, made: boolean): Promise<void> => {
  const { size } = await handle.stat()
  await handle.close()
  if (made && size === 0) await fsp.rm(path, { force: true })
}

/** A line that does not parse. It is forgiven when nothing follows it: then a kill or a full disk tore it. */
interface Torn {
  readonly lineNumber: number
  readonly start: number
  readonly bytes: Buffer
}

/** Reads the rows that are there, and leaves the file ending in a line feed. */
const load = async (name: string, handle: fsp.FileHandle, rows: Rows): Promise<void> => {
  if (!(await handle.stat()).isFile()) throw new UserError({ message: `${name} is not a plain file`, exitCode: 2 })
  const cutter = lineCutter()
  const buffer = Buffer.allocUnsafeSlow(pieceBytes)
  let start = 0
  let torn: Torn | undefined
  const readLine = (bytes: Buffer): void => {
    const lineNumber = rows.lines + 1
    if (bytes.length > 0 && torn !== undefined) throw notARow(name, torn.lineNumber, "is not valid JSON")
    if (isBlank(bytes)) rows.lines += 1
    else if (!noteLine(name, rows, bytes)) {
      torn = { lineNumber, start, bytes: Buffer.from(bytes.subarray(0, rowStart.length)) }
    }
    start += bytes.length + 1
  }
  for (let position = 0;;) {
    const { bytesRead } = await handle.read(buffer, 0, pieceBytes, position)
    if (bytesRead === 0) break
    position += bytesRead
    for (const bytes of cutter.push(buffer.subarray(0, bytesRead))) readLine(bytes)
    if (cutter.restBytes() > maxRowBytes) throw notARow(name, rows.lines + 1, "is too long")
  }
  const rest = cutter.rest()
  if (rest.length > 0) readLine(rest)
  if (torn !== undefined) {
    // Only what can be the beginning of a row of ours: another file, named by mistake, must not be cut.
    const text = torn.bytes.toString("latin1")
    const ours = rowStart.startsWith(text) || text.startsWith(rowStart) || torn.bytes.every((byte) => byte === 0)
    if (!ours) throw notARow(name, torn.lineNumber, "is not valid JSON")
    await handle.truncate(torn.start)
  } else if (rest.length > 0) {
    await writeAll(handle, Buffer.from("\n"))
  }
}

/** Notes the row of a line. False when the line is not JSON, so may be torn; a `UserError` when it is no row of ours. */
const noteLine = (name: string, rows: Rows, bytes: Buffer): boolean => {
  const lineNumber = rows.lines + 1
  if (bytes.length > maxRowBytes) throw notARow(name, lineNumber, "is too long")
  if (!isUtf8(bytes)) return false
  let row: unknown
  try {
    row = JSON.parse(bytes.toString("utf8"))
  } catch {
    return false
  }
  if (!isRecord(row)) throw notARow(name, lineNumber, "is not a JSON object")
  const { custom_id: customId, error, id, response } = row
  if (typeof id !== "string" || !idShape.test(id)) throw notARow(name, lineNumber, `has no id of the form ${idPrefix}…`)
  if (typeof customId !== "string") throw notARow(name, lineNumber, "has no custom_id")
  if (rows.table.size === DigestTable.maxSize) throw notARow(name, lineNumber, "is one more than can be kept")
  const statusCode = isRecord(response) ? response["status_code"] : undefined
  noteRow(rows, customId, id, isSuccess(statusCode, error ?? null) ? success : failure)
  return true
}

/** Makes `append`. Its queue is bounded by the callers, each of which waits for its row. */
const appender = (name: string, handle: fsp.FileHandle) => {
  interface Waiting {
    readonly bytes: Buffer
    readonly resume: (exit: Effect.Effect<void, UserError>) => void
  }
  const waiting: Array<Waiting> = []
  let writing: Promise<void> | undefined
  let broken: Effect.Effect<never, UserError> | undefined
  const write = async (): Promise<void> => {
    while (waiting.length > 0) {
      let bytes = 0
      const full = waiting.findIndex((row) => (bytes += row.bytes.length) > batchBytes)
      const batch = waiting.splice(0, full === -1 ? waiting.length : full + 1)
      try {
        if (broken === undefined) await writeAll(handle, Buffer.concat(batch.map(({ bytes }) => bytes)))
      } catch (cause) {
        broken = Effect.suspend(() => Effect.fail(cannotWrite(name, cause, 3)))
      }
      for (const { resume } of batch) resume(broken ?? Effect.void)
    }
    writing = undefined
  }
  const append = (row: Row): Effect.Effect<void, UserError> =>
    Effect.suspend(() => {
      const bytes = Buffer.from(lineOf(row))
      if (bytes.length > maxRowBytes) return Effect.fail(answerTooLong(row.customId))
      return Effect.callback((resume) => {
        waiting.push({ bytes, resume })
        // Begins when the rows that are ready in this turn have joined. It goes on when a caller is interrupted.
        writing ??= Promise.resolve().then(write)
      })
    })
  return Effect.as(Effect.addFinalizer(() => Effect.promise(async () => writing)), append)
}

/** The handle appends (O_APPEND), so that a short write goes on where it stopped. */
const writeAll = async (handle: fsp.FileHandle, bytes: Buffer): Promise<void> => {
  for (let written = 0; written < bytes.length;) {
    written += (await handle.write(bytes, written, bytes.length - written)).bytesWritten
  }
}

/**
 * Who holds a lock.
 *
 * `started` is the start of the process as the kernel tells it, where it does: a number that is used again is then told
 * from the process that had it. `nonce` names this holding.
 */
interface Holder {
  readonly pid: number
  readonly host: string
  readonly started: string | null
  readonly since: string
  readonly nonce: string
}

const lock = (path: string): Effect.Effect<void, UserError, Scope.Scope> => {
  const file = `${path}.lock`
  const self: Holder = {
    pid: process.pid,
    host: os.hostname(),
    started: startOf(process.pid) ?? null,
    since: new Date().toISOString(),
    nonce: crypto.randomBytes(8).toString("hex")
  }
  return Effect.asVoid(Effect.acquireRelease(
    Effect.try({ try: () => takeLock(file, self), catch: (cause) => cannotWrite(path, cause, 2) }),
    () =>
      Effect.sync(() => {
        // Not ours any more when somebody removed the file by hand.
        if (holderOf(file)?.nonce === self.nonce) fs.rmSync(file, { force: true })
      })
  ))
}

/**
 * Takes a lock file, or throws.
 *
 * Who finds the lock of a dead process D first takes the lock `FILE.D`, so that at most one is here, and looks again: only
 * the holder of `FILE.D` may replace D, so if D is still there, it stays until it is replaced below. The dead holder of a
 * `FILE.D` is replaced in the same way.
 */
const takeLock = (file: string, self: Holder): void => {
  const own = `${file}.${self.nonce}.new`
  fs.writeFileSync(own, JSON.stringify(self), { flag: "wx" })
  try {
    for (let tries = 0; tries < maxLockTries; tries++) {
      if (placeLock(own, file)) return
      const holder = holderOf(file)
      if (holder === undefined) continue
      if (isAlive(holder)) throw isHeld(file, `process ${holder.pid} on ${holder.host}, since ${holder.since}`)
      const claim = `${file}.${holder.nonce}`
      takeLock(claim, self)
      try {
        if (holderOf(file)?.nonce === holder.nonce) return fs.renameSync(own, file)
      } finally {
        fs.rmSync(claim)
      }
    }
    throw isHeld(file, "it changes hands all the time")
  } finally {
    fs.rmSync(own, { force: true })
  }
}

/** Gives the written file its name, if that is free. */
const placeLock = (own: string, file: string): boolean => {
  try {
    fs.linkSync(own, file)
  } catch (cause) {
    const code = codeOf(cause)
    if (code === "EEXIST") return false
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "EOPNOTSUPP" && code !== "ENOSYS") throw cause
    return copyLock(own, file)
  }
  return true
}

/** For file systems without links. A reader may see the copy half written, which `holderOf` takes as held. */
const copyLock = (own: string, file: string): boolean => {
  try {
    fs.copyFileSync(own, file, fs.constants.COPYFILE_EXCL)
  } catch (cause) {
    if (codeOf(cause) === "EEXIST") return false
    throw cause
  }
  return true
}

/** Who holds the lock; undefined when nobody does any more. */
const holderOf = (file: string): Holder | undefined => {
  let holder: unknown
  try {
    holder = JSON.parse(fs.readFileSync(file, "utf8"))
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined
    if (!(cause instanceof SyntaxError)) throw cause
  }
  if (!isRecord(holder)) throw isHeld(file, "it does not say by whom")
  const { host, nonce, pid, since, started } = holder
  if (typeof pid !== "number" || typeof nonce !== "string" || !/^[0-9a-f]+$/.test(nonce)) {
    throw isHeld(file, "it does not say by whom")
  }
  return { pid, host: String(host), started: typeof started === "string" ? started : null, since: String(since), nonce }
}

/** On another machine nobody can tell. */
const isAlive = ({ host, pid, started }: Holder): boolean => {
  if (host !== os.hostname()) return true
  try {
    process.kill(pid, 0)
  } catch (cause) {
    if (codeOf(cause) === "ESRCH") return false
  }
  const now = startOf(pid)
  return now !== "dead" && (now === undefined || started === null || now === started)
}

/** When a process started, in ticks since the machine did; undefined where there is no /proc to tell. */
const startOf = (pid: number): string | undefined => {
  try {
    // The second field is the name, which may hold anything; state is the third field, the start the 22nd.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ")
    // Killed, but its parent has not asked yet.
    return fields[0] === "Z" || fields[0] === "X" ? "dead" : fields[19]
  } catch {
    return undefined
  }
}

const isHeld = (file: string, holder: string): UserError =>
  new UserError({
    message: `another run writes these results (${holder}; ${file}). Wait for it; ` +
      "if it is gone for certain, remove that file",
    exitCode: 2
  })

const changedLine = (where: string, answer: string): UserError =>
  new UserError({
    message: `${where}: this line is not the one that was answered (${answer}); ` +
      "put it back, or send it as it is now with --resend-changed",
    exitCode: 2
  })

const answerTooLong = (customId: string): UserError =>
  new UserError({
    message: `the answer to ${JSON.stringify(customId)} is longer than ${maxRowBytes / 2 ** 20} MiB, too long to keep`,
    exitCode: 3
  })

const notARow = (name: string, lineNumber: number, problem: string): UserError =>
  new UserError({
    message: `${name}:${lineNumber}: ${problem}, so this is not a results file of evenkeel, or somebody changed it; ` +
      "name another with --output",
    exitCode: 2
  })

const cannotWrite = (name: string, cause: unknown, exitCode: number): UserError => {
  if (cause instanceof UserError) return cause
  if (!(cause instanceof Error && "code" in cause)) throw cause
  const reason = "errno" in cause && typeof cause.errno === "number"
    ? getSystemErrorMessage(cause.errno)
    : cause.message
  const next = exitCode === 3 ? "; when that is put right, the same command continues" : ""
  return new UserError({ message: `cannot write results to ${name}: ${reason}${next}`, exitCode })
}

const codeOf = (cause: unknown): unknown => cause instanceof Error && "code" in cause ? cause.code : undefined

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Blank lines are nobody's, and harmless. */
const isBlank = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)

const idPrefix = "ek-"
const idShape = /^ek-[0-9a-f]{32}$/

/** How every row begins, for telling a torn one from other people's text. */
const rowStart = `{"id":"${idPrefix}`

/** One read. Larger ones are no faster. */
const pieceBytes = 256 * 1024

/** One write. Larger ones are no faster. */
const batchBytes = 2 ** 20

/** Half of the longest string in V8, so that each row can be read again. Answers are a thousand times smaller. */
const maxRowBytes = 256 * 2 ** 20

/** Each try but the first saw the lock change hands since the one before. */
const maxLockTries = 10
