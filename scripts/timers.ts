/**
 * How late a sleep of Effect ends on this machine: what pacing must expect of timers. `pnpm exec node scripts/timers.ts`.
 *
 * The figures are kept, with what follows from them, in `docs/decisions/0005-time.md`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Enough for a steady 99th percentile in a few seconds. */
const sleeps = 300

const quantile = (sorted: ReadonlyArray<number>, part: number): string =>
  sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!.toFixed(2)

/** Milliseconds by which `count` sleeps of `millis` ended after they were due, in order of size; negative is early. */
const lateness = (millis: number, count: number) =>
  Effect.gen(function*() {
    const late: Array<number> = []
    while (late.length < count) {
      const start = yield* Clock.monotonicTimeNanos
      yield* Effect.sleep(millis)
      late.push(Number((yield* Clock.monotonicTimeNanos) - start) / 1e6 - millis)
    }
    return late.sort((a, b) => a - b)
  })

const program = Effect.gen(function*() {
  console.log(`Node.js ${process.version}, ${sleeps} sleeps each; how late, in ms`)
  console.log("asked    least   median      p90      p99     most")
  for (const millis of [0.4, 1, 1.6, 5, 20]) {
    const late = yield* lateness(millis, sleeps)
    const cells = [0, 0.5, 0.9, 0.99, 1].map((part) => quantile(late, part).padStart(7))
    console.log(`${String(millis).padEnd(5)}  ${cells.join("  ")}`)
  }
})

await Effect.runPromise(program)
