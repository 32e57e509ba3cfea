import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Measured, type Side, summary } from "../src/cli/demo.ts"

const bin = Path.join(import.meta.dirname, "../src/bin.ts")

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly error: string
  readonly millisAfterSignal: number
}

/** Runs the demo with a temporary folder and a home of its own; `interruptAfterMillis` presses Ctrl-C. */
const demo = (folder: string, flags: ReadonlyArray<string>, interruptAfterMillis?: number): Effect.Effect<Ended> =>
  Effect.callback<Ended>((resume) => {
    const env = {
      ...process.env,
      TMPDIR: folder,
      HOME: folder,
      XDG_STATE_HOME: folder,
      HTTP_PROXY: "http://127.0.0.1:9"
    }
    const child = spawn(process.execPath, [bin, "demo", ...flags], { env, stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    let error = ""
    let signalledAt = Infinity
    child.stdout.on("data", (data) => out += data)
    child.stderr.on("data", (data) => error += data)
    const timer = interruptAfterMillis === undefined ? undefined : setTimeout(() => {
      signalledAt = performance.now()
      child.kill("SIGINT")
    }, interruptAfterMillis)
    child.on(
      "close",
      (code) => resume(Effect.succeed({ code, out, error, millisAfterSignal: performance.now() - signalledAt }))
    )
    return Effect.sync(() => {
      clearTimeout(timer)
      child.kill("SIGKILL")
    })
  })

const emptyFolder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "demo-test-"))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
)

const escape = "\u001b"

describe("evenkeel demo", () => {
  it.live("measures both ways: paced, all is answered and less is refused", () =>
    Effect.gen(function*() {
      const folder = yield* emptyFolder
      const { code, error, out } = yield* demo(folder, ["--requests", "60", "--json"])
      assert.strictEqual(code, 0, error)
      assert.strictEqual(error, "")
      const measured: Measured = JSON.parse(out)
      const { evenkeel, fixedConcurrency } = measured
      assert.strictEqual(evenkeel.answered, 60)
      assert.strictEqual(evenkeel.lost, 0)
      assert.isBelow(evenkeel.refused429, fixedConcurrency.refused429)
      assert.isBelow(evenkeel.wastedTokens, fixedConcurrency.wastedTokens)
      for (const side of [evenkeel, fixedConcurrency]) {
        assert.strictEqual(side.inFlight, 0)
        assert.isAtLeast(side.attempts, 60)
        const inSeconds = (of: "sent" | "answered" | "refused") =>
          side.seconds.reduce((sum, second) => sum + second[of], 0)
        assert.strictEqual(inSeconds("sent"), side.attempts)
        assert.strictEqual(inSeconds("answered"), side.answered)
        assert.strictEqual(inSeconds("refused"), side.refused429 + side.refused503)
        // The wire and the two sides count apart: every attempt was answered or refused.
        assert.strictEqual(side.attempts, side.answered + side.refused429 + side.refused503)
        assert.isAtMost(side.lastAnswerSeconds, measured.seconds)
      }
      assert.strictEqual(fixedConcurrency.answered + fixedConcurrency.lost, 60)
      // The other side's three tries: a lost request cost three refusals.
      assert.isAtLeast(fixedConcurrency.refused429, 3 * fixedConcurrency.lost)
      assert.deepStrictEqual(Fs.readdirSync(folder), [])
    }))

  it.live("prints plain lines and a plain table where there is no terminal", () =>
    Effect.gen(function*() {
      const { code, error, out } = yield* demo(yield* emptyFolder, ["--requests", "40", "--concurrency", "2"])
      assert.strictEqual(code, 0)
      assert.match(
        error,
        /^5 s: Evenkeel \d+\/40, refused \d+, lost 0; Fixed concurrency \d+\/40, refused \d+, lost \d+$/m
      )
      assert.match(out, /^ {2}answered +40 /m)
      assert.match(out, /pnpm evenkeel run/)
      assert.notInclude(out + error, escape)
    }))

  it.live("ends within a second of Ctrl-C and leaves nothing behind", () =>
    Effect.gen(function*() {
      const folder = yield* emptyFolder
      const { code, error, millisAfterSignal, out } = yield* demo(folder, [], 3_000)
      assert.strictEqual(code, 130, error)
      assert.isBelow(millisAfterSignal, 1_000)
      assert.strictEqual(out, "")
      assert.deepStrictEqual(Fs.readdirSync(folder), [])
    }))

  it.live("says in a line what is wrong with a flag", () =>
    Effect.gen(function*() {
      const { code, error } = yield* demo(yield* emptyFolder, ["--requests", "0"])
      assert.strictEqual(code, 2)
      assert.strictEqual(error, "evenkeel: --requests: \"0\" is not a whole number above 0, at most 10000\n")
    }))

  it("keeps its table to the columns there are, from 50 to 80", () => {
    const count = fc.nat(10_000)
    const side = (name: string): fc.Arbitrary<Side> =>
      fc.record({
        name: fc.constant(name),
        ways: fc.constant("1000 at once, 100 retries"),
        answered: count,
        lost: count,
        attempts: fc.nat(1_000_000),
        refused429: fc.nat(1_000_000),
        refused503: count,
        wastedTokens: fc.nat(100_000_000),
        inFlight: count,
        lastAnswerSeconds: fc.nat(3_600),
        answeredPerSecond: fc.nat(100),
        pacePerSecond: fc.constant(null),
        seconds: fc.array(fc.record({ allowed: fc.nat(60), sent: count, answered: count, refused: count }))
      })
    const measured = fc.record({
      requests: count,
      seconds: fc.nat(3_600),
      evenkeel: side("Evenkeel"),
      fixedConcurrency: side("Fixed concurrency")
    })
    fc.assert(fc.property(measured, fc.integer({ min: 50, max: 200 }), (measured, columns) => {
      const plain = summary(measured, { columns, colour: false })
      const most = Math.min(80, columns)
      // The command is to be copied whole, so it is not cut.
      const lines = plain.split("\n").filter((line) => !line.includes("pnpm evenkeel run"))
      for (const line of lines) assert.isAtMost(line.length, most, line)
      assert.notInclude(plain, escape)
      // eslint-disable-next-line no-control-regex -- colours are all that is taken out
      const uncoloured = summary(measured, { columns, colour: true }).replaceAll(/\u001b\[\d+m/g, "")
      assert.deepStrictEqual(uncoloured.split("\n").map((line) => line.trimEnd()), plain.split("\n"))
    }))
  })
})
