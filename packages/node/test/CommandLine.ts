/**
 * The `evenkeel` command as a process of its own, as a person would start it.
 *
 * Here belong starting it, its folder and its files. What it is asked to do, and what must come of it, belong to each test.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

/** How a process ended, and all it said. */
export interface Ended {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
  readonly seconds: number
}

/** A process that was started. Its streams are told as far as they have come. */
export interface Started {
  readonly pid: number
  readonly hasReadAll: () => boolean
  readonly stderr: () => string
  readonly kill: (signal: NodeJS.Signals) => void
  readonly ended: Effect.Effect<Ended>
}

/** What a process gets beside its arguments. Standard input ends after `stdin`, unless that is `endless`. */
export interface Options {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly stdin?: string | Buffer | { readonly endless: string } | undefined
}

/** A folder for one test, which is the working directory of its processes and holds what they learn. */
export interface Folder {
  readonly path: string
  readonly at: (name: string) => string
  readonly write: (name: string, content: string | Buffer) => void
  readonly read: (name: string) => string
  readonly rows: (name: string) => Array<Row>
  readonly start: (args: ReadonlyArray<string>, options?: Options) => Effect.Effect<Started, never, Scope.Scope>
  readonly run: (args: ReadonlyArray<string>, options?: Options) => Effect.Effect<Ended>
}

/** A row of a results file, as it stands there. */
export interface Row {
  readonly id: string
  readonly custom_id: string
  readonly response: {
    readonly status_code: number
    readonly request_id: string | null
    // oxlint-disable-next-line typescript/no-explicit-any -- whatever the provider sent
    readonly body: any
  } | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** Makes a folder, which goes with its scope. */
export const folder: Effect.Effect<Folder, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "evenkeel-test-")))),
    (made) => Effect.sync(() => fs.rmSync(made, { recursive: true, force: true, maxRetries: 3 }))
  ),
  (made): Folder => {
    const at = (name: string) => path.join(made, name)
    const start = (args: ReadonlyArray<string>, options?: Options) =>
      Effect.acquireRelease(
        Effect.sync(() => spawn(made, args, options)),
        (process) => Effect.andThen(Effect.sync(() => process.kill("SIGKILL")), process.ended)
      )
    return {
      path: made,
      at,
      write: (name, content) => fs.writeFileSync(at(name), content),
      read: (name) => fs.readFileSync(at(name), "utf8"),
      rows: (name) =>
        fs.existsSync(at(name))
          ? fs.readFileSync(at(name), "utf8").split("\n").filter((line) => line !== "").map((line) => JSON.parse(line))
          : [],
      start,
      run: (args, options) => Effect.scoped(Effect.flatMap(start(args, options), (process) => process.ended))
    }
  }
)

/** A job of chats, a line each, whose ids are `c0`, `c1`, ... */
export const chats = (count: number, model = "m"): string =>
  Array.from({ length: count }, (_, index) => `${JSON.stringify(chat(`c${index}`, `question ${index}`, model))}\n`)
    .join("")

/** A line of a job. */
export const chat = (customId: string, content: string, model = "m") => ({
  custom_id: customId,
  method: "POST",
  url: "/v1/chat/completions",
  body: { model, messages: [{ role: "user", content }] }
})

/** The name of a request after the documented recipe, for a body whose keys need sorting on each level. */
export const digest = (pathname: string, body: unknown): string =>
  `ek-${
    crypto.createHash("sha256").update(`POST\n${pathname}\n${JSON.stringify(sorted(body))}`).digest("hex").slice(0, 32)
  }`

const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([key, member]) => [key, sorted(member)])
  )
}

/** Ends when `holds` does; the test's own timeout bounds it. */
export const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => holds() ? Effect.void : Effect.andThen(Effect.sleep(10), until(holds)))

const spawn = (cwd: string, args: ReadonlyArray<string>, options: Options = {}): Started => {
  const startedAtMillis = performance.now()
  const { HOME, PATH, TMPDIR } = process.env
  const child = ChildProcess.spawn(process.execPath, [executable, ...args], {
    cwd,
    env: {
      ...Object.fromEntries(Object.entries({ HOME, PATH, TMPDIR }).filter(([, value]) => value !== undefined)),
      XDG_STATE_HOME: path.join(cwd, "state"),
      ...options.env
    }
  })
  let stdout = ""
  let stderr = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
  // A process that ends before it has read its input is no fault of the test.
  child.stdin.on("error", () => {})
  if (typeof options.stdin === "object" && "endless" in options.stdin) child.stdin.write(options.stdin.endless)
  else child.stdin.end(options.stdin)
  const closed = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject)
    child.once(
      "close",
      (code, signal) => resolve({ code, signal, stdout, stderr, seconds: (performance.now() - startedAtMillis) / 1000 })
    )
  })
  return {
    pid: child.pid ?? -1,
    hasReadAll: () => child.stdin.writableLength === 0,
    stderr: () => stderr,
    kill: (signal) => {
      child.kill(signal)
    },
    ended: Effect.promise(() => closed)
  }
}

const executable = fileURLToPath(new URL("../src/bin.ts", import.meta.url))
