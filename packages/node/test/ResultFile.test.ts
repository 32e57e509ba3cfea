import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as fc from "fast-check"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as fsp from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { createInterface } from "node:readline"
import * as CanonicalJson from "../src/cli/CanonicalJson.ts"
import * as JobFile from "../src/cli/JobFile.ts"
import * as ResultFile from "../src/cli/ResultFile.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "evenkeel-test-"))),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true }))
)

const results = Effect.map(directory, (directory) => path.join(directory, "results.jsonl"))

const idOf = (text: string): string => CanonicalJson.requestId("POST", "/x", text)

const succeeded = (customId: string, body = `{"ok":true}`, request = customId): ResultFile.Row => ({
  id: idOf(request),
  customId,
  response: { statusCode: 200, requestId: "q", body },
  error: null
})

const failed = (customId: string, request = customId): ResultFile.Row => ({
  id: idOf(request),
  customId,
  response: { statusCode: 400, requestId: null, body: "no" },
  error: { code: "InvalidRequest", message: "no" }
})

/** Opens, appends and closes again. */
const session = (path: string, rows: ReadonlyArray<ResultFile.Row>) =>
  Effect.scoped(
    Effect.flatMap(ResultFile.open({ path }), (file) => Effect.forEach(rows, file.append, { discard: true }))
  )

/** What opening the file says is wrong, without the directory. */
const problemOf = (file: string) =>
  Effect.map(Effect.flip(Effect.scoped(ResultFile.open({ path: file }))), (error) => {
    assert.strictEqual(error.exitCode, 2)
    return error.message.replaceAll(`${path.dirname(file)}/`, "")
  })

/** A process number that nobody has any more. */
const deadPid = spawnSync(process.execPath, ["--eval", ""]).pid

const holder = (options: object): string =>
  JSON.stringify({ pid: deadPid, host: os.hostname(), started: "1", since: "then", nonce: "dead", ...options })

/** A process of its own that runs this text as a module of this package. */
const child = (code: string, ...args: ReadonlyArray<string>) =>
  spawn(process.execPath, ["--input-type=module", "--eval", code, "--", ...args], {
    cwd: path.resolve(import.meta.dirname, ".."),
    stdio: ["pipe", "pipe", "inherit"]
  })

describe("ResultFile", () => {
  it.effect("writes a row a line: a body that is JSON as it came, another as a string", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* session(path, [
        succeeded("a", `{"seed": 12345678901234567890,\r\n  "text": "é\\n"}`),
        succeeded("b", "<html>\n"),
        { ...failed("c \"\u2028\n"), response: null }
      ])
      assert.strictEqual(
        fs.readFileSync(path, "utf8"),
        `{"id":"${idOf("a")}","custom_id":"a","response":{"status_code":200,"request_id":"q",` +
          `"body":{"seed": 12345678901234567890,   "text": "é\\n"}},"error":null}\n` +
          `{"id":"${
            idOf("b")
          }","custom_id":"b","response":{"status_code":200,"request_id":"q","body":"<html>\\n"},"error":null}\n` +
          `{"id":"${idOf("c \"\u2028\n")}","custom_id":"c \\"\u2028\\n","response":null,` +
          `"error":{"code":"InvalidRequest","message":"no"}}\n`
      )
    }))

  it.effect("knows from the rows alone what is done, failed, changed and new", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* session(path, [
        succeeded("a"),
        failed("b"),
        { ...succeeded("s"), response: { statusCode: 500, requestId: null, body: "" } },
        { ...failed("t"), response: { statusCode: 200, requestId: null, body: "cut" } }
      ])
      const file = yield* ResultFile.open({ path })
      assert.isFalse(file.isEmpty)
      assert.deepStrictEqual(["a", "b", "s", "t", "n"].map((id) => file.stateOf(id, idOf(id))), [
        "done",
        "failed",
        "failed",
        "failed",
        "new"
      ])
      assert.strictEqual(file.stateOf("a", idOf("other")), "changed")
    }))

  it.effect("sends what is new; what failed with retryFailed, what changed with resendChanged, what is done never", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* session(path, [succeeded("done"), failed("failed"), succeeded("changed", "{}", "before")])
      const names = ["done", "failed", "changed", "new"]
      const sent = (options: { readonly retryFailed?: boolean; readonly resendChanged?: boolean }) =>
        Effect.scoped(
          Effect.map(ResultFile.open({ path, ...options }), (file) =>
            names.filter((name) => file.sends(name, idOf(name))))
        )
      assert.deepStrictEqual(yield* sent({}), ["new"])
      assert.deepStrictEqual(yield* sent({ retryFailed: true }), ["failed", "new"])
      assert.deepStrictEqual(yield* sent({ resendChanged: true }), ["changed", "new"])
    }))

  it.effect("refuses, in the first pass over the job, a line that changed since it was answered", () =>
    Effect.gen(function*() {
      const output = yield* results
      const input = path.join(path.dirname(output), "jobs.jsonl")
      const line = (text: string) => `{"custom_id":"a","body":{"model":"m","input":"${text}"}}\n`
      const job = Effect.suspend(() => JobFile.open({ path: input, baseUrl: "https://h/v1" }))
      fs.writeFileSync(input, line("one"))
      const reader = yield* Effect.flatMap(job, JobFile.read)
      const [first] = (yield* reader.next) ?? []
      yield* session(output, [failed("z"), { ...succeeded("a"), id: first?.id ?? "" }])
      const scanned = Effect.fnUntraced(function*(resendChanged: boolean) {
        const { check } = yield* ResultFile.open({ path: output, resendChanged })
        return yield* JobFile.scan(yield* job, { check })
      }, Effect.scoped)
      assert.strictEqual((yield* scanned(false)).requests, 1)
      fs.writeFileSync(input, `\n${line("two")}`)
      const error = yield* Effect.flip(scanned(false))
      assert.strictEqual(error.exitCode, 2)
      assert.match(
        error.message,
        /jobs\.jsonl:2: this line is not the one that was answered \(.*results\.jsonl:2\);.*--resend-changed$/
      )
      assert.strictEqual((yield* scanned(true)).requests, 1)
    }))

  it.effect("has every row on disk when append returns, rows that are ready together in few writes", () =>
    Effect.gen(function*() {
      const path = yield* results
      const file = yield* ResultFile.open({ path })
      const disk = yield* slowDisk
      const rows = Array.from({ length: 1000 }, (_, index) => succeeded(`r${index}`))
      yield* Effect.forEach(rows, (row) =>
        Effect.andThen(
          file.append(row),
          Effect.sync(() => assert.include(fs.readFileSync(path, "utf8"), `"custom_id":"${row.customId}"`))
        ), { concurrency: "unbounded", discard: true })
      assert.isBelow(disk.calls, 10)
      const order = fs.readFileSync(path, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line).custom_id)
      assert.deepStrictEqual(order, rows.map(({ customId }) => customId))
    }))

  it.effect("writes the row of a caller that is interrupted, before it closes", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* Effect.scoped(Effect.gen(function*() {
        const disk = yield* slowDisk
        disk.steps.push(1, 1, 1, 1, 1)
        const file = yield* ResultFile.open({ path })
        const fiber = yield* Effect.forkChild(file.append(succeeded("a")), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
      }))
      assert.match(fs.readFileSync(path, "utf8"), /"custom_id":"a".*\n$/)
    }))

  it.effect("goes on after a short write, and says so once the disk is full; the same file continues later", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* Effect.scoped(Effect.gen(function*() {
        const file = yield* ResultFile.open({ path })
        const disk = yield* slowDisk
        disk.steps.push(7)
        yield* file.append(succeeded("short"))
        assert.strictEqual(disk.calls, 2)
        disk.steps.push(30, Object.assign(new Error("full"), { code: "ENOSPC", errno: -os.constants.errno.ENOSPC }))
        const error = yield* Effect.flip(file.append(succeeded("torn")))
        assert.strictEqual(error.exitCode, 3)
        assert.match(
          error.message,
          /^cannot write results to .*: no space left on device; .*the same command continues$/
        )
        assert.strictEqual(file.stateOf("torn", idOf("torn")), "new")
        assert.strictEqual((yield* Effect.flip(file.append(succeeded("later")))).message, error.message)
      }))
      assert.isFalse(fs.readFileSync(path, "utf8").endsWith("\n"))
      yield* session(path, [succeeded("torn")])
      assert.strictEqual(fs.readFileSync(path, "utf8").split("\n").length, 3)
    }))

  it.effect("refuses a file of somebody else and leaves it as it was", () =>
    Effect.gen(function*() {
      const file = yield* results
      const cases: ReadonlyArray<readonly [string, RegExp]> = [
        [
          `{"id":"batch_req_1","custom_id":"a","response":null,"error":null}\n`,
          /^results\.jsonl:1: has no id of the form ek-…/
        ],
        [`{"custom_id":"a","body":{"model":"m"}}\n`, /^results\.jsonl:1: has no id/],
        [`{"custom_id":"a","body":{"model":"m"}}`, /^results\.jsonl:1: has no id/],
        [`a line of notes`, /^results\.jsonl:1: is not valid JSON, so this is not a results file of evenkeel/],
        [`{"custom_id":"a","body":`, /^results\.jsonl:1: is not valid JSON/],
        [`[1]\n`, /^results\.jsonl:1: is not a JSON object/],
        [`{"id":"${idOf("a")}","response":null,"error":null}\n`, /^results\.jsonl:1: has no custom_id/]
      ]
      for (const [content, problem] of cases) {
        fs.writeFileSync(file, content)
        assert.match(yield* problemOf(file), problem)
        assert.strictEqual(fs.readFileSync(file, "utf8"), content)
      }
    }))

  it.effect("names a line in the middle that is no row", () =>
    Effect.gen(function*() {
      const file = yield* results
      yield* session(file, [succeeded("a")])
      const row = fs.readFileSync(file, "utf8")
      const content = `${row}\n${row.slice(0, 40)}\n${row}`
      fs.writeFileSync(file, content)
      assert.match(yield* problemOf(file), /^results\.jsonl:3: is not valid JSON/)
      assert.strictEqual(fs.readFileSync(file, "utf8"), content)
    }))

  it.effect("cuts off a last line that was torn, by a kill or by zeros of a lost page, and keeps a whole one", () =>
    Effect.gen(function*() {
      const path = yield* results
      yield* session(path, [succeeded("a"), succeeded("b", `"é"`)])
      const whole = fs.readFileSync(path)
      for (const tail of ["{", `{"id":"ek-12`, `{"id":"${idOf("c")}","custom_id":"c","resp\n`, "\0\0\0\0", "\0\n"]) {
        fs.writeFileSync(path, Buffer.concat([whole, Buffer.from(tail)]))
        yield* session(path, [])
        assert.deepStrictEqual(fs.readFileSync(path), whole)
      }
      // Inside the two bytes of é.
      fs.writeFileSync(path, whole.subarray(0, whole.indexOf(0xc3) + 1))
      yield* session(path, [])
      assert.deepStrictEqual(fs.readFileSync(path), whole.subarray(0, whole.indexOf(0x0a) + 1))
      fs.writeFileSync(path, whole.subarray(0, -1))
      yield* session(path, [])
      assert.deepStrictEqual(fs.readFileSync(path), whole)
    }))

  it.effect("says why a file cannot be written, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const place = yield* directory
      assert.match(
        yield* problemOf(`${place}/none/results.jsonl`),
        /^cannot write results to results\.jsonl: no such file or directory$/
      )
      fs.mkdirSync(`${place}/results.jsonl`)
      assert.match(yield* problemOf(`${place}/results.jsonl`), /^cannot write results to results\.jsonl: .*directory/)
      assert.deepStrictEqual(fs.readdirSync(place), ["results.jsonl"])
    }))

  it.effect("leaves no empty file behind, and no lock", () =>
    Effect.gen(function*() {
      const file = yield* results
      yield* session(file, [])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), [])
      yield* session(file, [succeeded("a")])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl"])
      fs.writeFileSync(file, "")
      yield* session(file, [])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl"])
    }))

  it("never loses a success, whatever was written in whatever order and wherever the last run was cut", () => {
    const row = fc.record({
      customId: fc.constantFrom("a", "b", "é\n", "\ud800"),
      request: fc.constantFrom("one", "two"),
      ok: fc.boolean(),
      body: fc.oneof(fc.json(), fc.string())
    }).map(({ body, customId, ok, request }) =>
      ok ? succeeded(customId, body, request) : { ...failed(customId, request), response: null }
    )
    const sessions = fc.array(fc.array(row, { maxLength: 6 }), { maxLength: 4 })
    const expected = (rows: ReadonlyArray<ResultFile.Row>) => {
      const model = new Map<string, ResultFile.Row>()
      for (const row of rows) {
        const before = model.get(row.customId)
        if (row.error === null || before === undefined || before.error !== null) model.set(row.customId, row)
      }
      return model
    }
    const verify = Effect.fnUntraced(function*(path: string, rows: ReadonlyArray<ResultFile.Row>) {
      const file = yield* ResultFile.open({ path })
      const model = expected(rows)
      for (const customId of ["a", "b", "é\n", "\ud800", "\ud801"]) {
        const counted = model.get(customId)
        for (const request of ["one", "two"]) {
          const same = counted?.id === idOf(request)
          const state = counted === undefined ? "new" : !same ? "changed" : counted.error === null ? "done" : "failed"
          assert.strictEqual(file.stateOf(customId, idOf(request)), state)
        }
      }
    }, Effect.scoped)
    return fc.assert(
      fc.asyncProperty(
        sessions,
        sessions,
        fc.double({ min: 0, max: 1, noNaN: true }),
        (before, after, cut) =>
          Effect.runPromise(Effect.scoped(Effect.gen(function*() {
            const path = yield* results
            for (const rows of before) yield* session(path, rows)
            const bytes = fs.existsSync(path) ? fs.readFileSync(path) : Buffer.alloc(0)
            const kept = bytes.subarray(0, Math.round(bytes.length * cut))
            fs.writeFileSync(path, kept)
            // Whole rows: each line that ends in what is kept, or lacks the line feed only.
            const ends = [...bytes.keys()].filter((at) => bytes[at] === 0x0a && at <= kept.length)
            const whole = before.flat().slice(0, ends.length)
            yield* verify(path, whole)
            for (const rows of after) yield* session(path, rows)
            yield* verify(path, [...whole, ...after.flat()])
          })))
      ),
      { numRuns: 100 }
    )
  })
})

describe("the lock of a ResultFile", () => {
  it.effect("keeps a second run away, through another name of the file too, and says who holds it", () =>
    Effect.gen(function*() {
      const file = yield* results
      const link = path.join(path.dirname(file), "link.jsonl")
      yield* session(file, [succeeded("a")])
      fs.symlinkSync(file, link)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* ResultFile.open({ path: file })
        for (const name of [file, link]) {
          const message = yield* problemOf(name)
          assert.match(
            message,
            new RegExp(`process ${process.pid} on ${os.hostname()}, since .*; results\\.jsonl\\.lock`)
          )
        }
      }))
      yield* session(link, [succeeded("b")])
    }))

  it.effect("is taken over from a process that is dead", () =>
    Effect.gen(function*() {
      const file = yield* results
      fs.writeFileSync(`${file}.lock`, holder({}))
      yield* session(file, [succeeded("a")])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl"])
    }))

  it.effect("is taken over when the one who was taking it over died too", () =>
    Effect.gen(function*() {
      const file = yield* results
      fs.writeFileSync(`${file}.lock`, holder({}))
      fs.writeFileSync(`${file}.lock.dead`, holder({ nonce: "beef" }))
      yield* session(file, [succeeded("a")])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl"])
    }))

  it.effect("stays with a process of another machine, and with one that cannot be read", () =>
    Effect.gen(function*() {
      const file = yield* results
      for (const content of [holder({ host: "elsewhere" }), "", "{}", holder({ nonce: "../x" })]) {
        fs.writeFileSync(`${file}.lock`, content)
        assert.match(
          yield* problemOf(file),
          /results\.jsonl\.lock\)\. Wait for it; if it is gone for certain, remove that file/
        )
        assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl.lock"])
        assert.strictEqual(fs.readFileSync(`${file}.lock`, "utf8"), content)
      }
    }))

  it.effect.skipIf(process.platform !== "linux")(
    "is taken over when its process number belongs to a later process",
    () =>
      Effect.gen(function*() {
        const file = yield* results
        fs.writeFileSync(`${file}.lock`, holder({ pid: process.pid }))
        yield* session(file, [succeeded("a")])
        assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["results.jsonl"])
      })
  )

  it.effect("is not removed by one who does not hold it any more", () =>
    Effect.gen(function*() {
      const file = yield* results
      const other = holder({ host: "elsewhere" })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* ResultFile.open({ path: file })
        fs.writeFileSync(`${file}.lock`, other)
      }))
      assert.strictEqual(fs.readFileSync(`${file}.lock`, "utf8"), other)
    }))

  it.effect(
    "goes to exactly one of several processes that try at once, be it free, stale or stale twice",
    () =>
      Effect.gen(function*() {
        const place = yield* directory
        const rounds = 40
        for (let round = 0; round < rounds; round++) {
          if (round % 4 > 0) fs.writeFileSync(`${place}/${round}.lock`, holder({}))
          if (round % 4 > 1) fs.writeFileSync(`${place}/${round}.lock.dead`, holder({ nonce: "beef" }))
          if (round % 4 > 2) fs.writeFileSync(`${place}/${round}.lock.dead.beef`, holder({ nonce: "cafe" }))
        }
        // Each says when it is ready, waits for the go, and keeps what it wins until its input ends.
        const children = Array.from({ length: 4 }, () =>
          child(
            `import * as ResultFile from "./src/cli/ResultFile.ts"
           import * as Effect from "effect/Effect"
           const [place, rounds] = process.argv.slice(1)
           console.log("ready")
           process.stdin.once("data", () => Effect.runPromise(Effect.scoped(Effect.gen(function*() {
             const won = []
             for (let round = 0; round < Number(rounds); round++) {
               yield* Effect.match(ResultFile.open({ path: place + "/" + round }), {
                 onSuccess: () => won.push(round),
                 onFailure: (error) => { if (error.exitCode !== 2) throw error }
               })
             }
             console.log(JSON.stringify(won))
             yield* Effect.promise(() => new Promise((done) => process.stdin.once("end", done).resume()))
           }))))`,
            place,
            String(rounds)
          ))
        const won = yield* Effect.promise(async () => {
          const lines = children.map(({ stdout }) => createInterface(stdout)[Symbol.asyncIterator]())
          const told = () => Promise.all(lines.map(async (line) => String((await line.next()).value)))
          assert.deepStrictEqual(await told(), children.map(() => "ready"))
          for (const { stdin } of children) stdin.write("go")
          const won = (await told()).flatMap((line): ReadonlyArray<number> => JSON.parse(line))
          await Promise.all(children.map(async (child) => {
            const exit = once(child, "exit")
            child.stdin.end()
            assert.deepStrictEqual(await exit, [0, null])
          }))
          return won
        })
        assert.deepStrictEqual(won.sort((a, b) => a - b), Array.from({ length: rounds }, (_, round) => round))
        assert.deepStrictEqual(fs.readdirSync(place), [])
      }),
    60_000
  )

  it.effect("SIGKILL loses no row whose append returned, and the next run takes over", () =>
    Effect.gen(function*() {
      const path = yield* results
      const reported = yield* Effect.promise(async () => {
        const writer = child(
          `import * as ResultFile from "./src/cli/ResultFile.ts"
           import * as Effect from "effect/Effect"
           import * as fs from "node:fs"
           await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
             const file = yield* ResultFile.open({ path: process.argv[1] })
             yield* Effect.forEach(Array.from({ length: 1e5 }, (_, index) => index), (index) => Effect.map(
               file.append({ id: "ek-" + "0".repeat(32), customId: "r" + index,
                 response: { statusCode: 200, requestId: null, body: "x".repeat(5000) }, error: null }),
               () => fs.writeSync(1, "r" + index + "\\n")
             ), { concurrency: 20 })
           })))`,
          path
        )
        const lines: Array<string> = []
        for await (const line of createInterface(writer.stdout)) {
          lines.push(line)
          if (lines.length === 500) writer.kill("SIGKILL")
        }
        return lines
      })
      assert.isAtLeast(reported.length, 500)
      assert.isBelow(reported.length, 100_000)
      const file = yield* ResultFile.open({ path })
      const lost = reported.filter((customId) => file.stateOf(customId, `ek-${"0".repeat(32)}`) !== "done")
      assert.deepStrictEqual(lost, [])
    }), 60_000)
})

type Write = (this: fsp.FileHandle, bytes: Uint8Array, offset: number, length: number) => Promise<unknown>

/** Stands between file handles and the disk until the scope closes: each step shortens one write, or fails it. */
const slowDisk = Effect.acquireRelease(
  Effect.promise(async () => {
    const handle = await fsp.open(import.meta.filename, "r")
    const prototype = Object.getPrototypeOf(handle) as { write: Write }
    await handle.close()
    const write = prototype.write
    const disk = { calls: 0, steps: Array.of<number | Error>(), restore: () => void (prototype.write = write) }
    prototype.write = function(bytes, offset, length) {
      disk.calls += 1
      const step = disk.steps.shift() ?? length
      return step instanceof Error ? Promise.reject(step) : write.call(this, bytes, offset, Math.min(step, length))
    }
    return disk
  }),
  ({ restore }) => Effect.sync(restore)
)
