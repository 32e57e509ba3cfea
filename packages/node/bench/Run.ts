/**
 * The main job against the stand-in provider, on the cases that we hold ourselves to, as a table.
 *
 * Here belongs the measurement: real processes, real HTTP, each case scored against the fluid optimum. Run it with
 * `pnpm bench:run`; it takes about four minutes. Names of cases as arguments run only those.
 */
import * as FluidOptimum from "@evenkeel/core/testing/FluidOptimum"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

interface Case {
  readonly name: string
  readonly requests: number
  readonly options: EchoProvider.Options
}

interface Figures {
  readonly seconds: number
  readonly answered: number
  readonly attempts: number
  readonly refused429: number
  readonly possiblyBilledTwice: number
}

const ramp: EchoProvider.Options = { floorPerSecond: 10, ceilingPerSecond: 200, memorySeconds: 4, latencyMillis: 60 }

const cases: ReadonlyArray<Case> = [
  { name: "ramp", requests: 1500, options: ramp },
  { name: "one-per-second", requests: 60, options: { floorPerSecond: 1, ceilingPerSecond: 1, latencyMillis: 60 } },
  { name: "no-headers", requests: 1500, options: { ...ramp, headers: "none" } },
  { name: "reset-on-429", requests: 1500, options: { ...ramp, headers: "reset-on-429" } },
  { name: "per-minute", requests: 1500, options: { ...ramp, unit: "minute" } },
  { name: "slow-calls", requests: 1500, options: { ...ramp, latencyMillis: 2500 } },
  {
    name: "bad-day",
    requests: 1500,
    options: {
      ...ramp,
      faults: [
        { kind: "503", probability: 0.05 },
        { kind: "reset", probability: 0.02 },
        { kind: "500", probability: 0.02 },
        { kind: "html", probability: 0.01 },
        { kind: "truncate", probability: 0.01 }
      ]
    }
  },
  { name: "away-for-60-s", requests: 1500, options: { ...ramp, outages: [{ fromSeconds: 5, toSeconds: 65 }] } }
]

const bin = new URL("../src/bin.ts", import.meta.url).pathname

const measure = (one: Case) =>
  Effect.scoped(Effect.gen(function*() {
    const provider = yield* EchoProvider.make(one.options)
    const folder = mkdtempSync(join(tmpdir(), "evenkeel-bench-"))
    yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
    const input = join(folder, "requests.jsonl")
    const body = { model: "m", messages: [{ role: "user", content: "Hello, how are you today?" }] }
    writeFileSync(input, Array.from({ length: one.requests }, () => `${JSON.stringify({ body })}\n`).join(""))
    const report = yield* Effect.callback<Figures>((resume) => {
      const child = spawn(process.execPath, [bin, "run", input, "--base-url", provider.url, "--forget", "--json"])
      let out = ""
      child.stdout.on("data", (chunk) => {
        out += chunk
      })
      child.on("close", () => resume(Effect.sync(() => JSON.parse(out))))
    })
    const latencySeconds = (one.options.latencyMillis ?? 100) / 1000
    const optimum = FluidOptimum.seconds(EchoProvider.scenarioOf(one.options), {
      requests: one.requests,
      latencySeconds,
      outages: one.options.outages
    })
    const score = FluidOptimum.score(optimum, report.seconds, latencySeconds)
    console.log([
      one.name.padEnd(16),
      `${report.answered}/${one.requests}`.padStart(10),
      `${report.seconds.toFixed(1)} s`.padStart(8),
      `${optimum.toFixed(1)} s`.padStart(8),
      `${(100 * score).toFixed(1)} %`.padStart(8),
      `${(100 * report.refused429 / report.attempts).toFixed(2)} %`.padStart(8),
      String(report.possiblyBilledTwice).padStart(6)
    ].join("  "))
  }))

console.log("case               answered      time   optimum    score       429  unknown")
for (const one of cases) {
  if (process.argv.length === 2 || process.argv.includes(one.name)) await Effect.runPromise(measure(one))
}
