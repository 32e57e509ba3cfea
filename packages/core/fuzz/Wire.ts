/**
 * The long fuzz of all that reads answers: random ones, and ones that were seen on the wire and then changed.
 *
 * Here belong drawing them, timing them and telling what went wrong; what must hold of each is in `WirePromises`, which
 * the tests share, and how the cost grows in `Growth`. Run it with `pnpm fuzz [--runs N] [--seed S]`. An answer that breaks a promise is printed in the form
 * that `evenkeel explain` takes, as small as it could be made, with the seed that leads to it.
 */
import * as fc from "fast-check"
import { parseArgs } from "node:util"
import * as WireArbitrary from "../test/fixtures/WireArbitrary.ts"
import * as WirePromises from "../test/fixtures/WirePromises.ts"
import * as Growth from "./Growth.ts"

const { values } = parseArgs({ options: { runs: { type: "string" }, seed: { type: "string" } } })
const runs = Number(values.runs ?? 1_000_000)
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)
if (!(Number.isInteger(runs) && runs > 0 && Number.isInteger(firstSeed))) {
  console.error("usage: Wire.ts [--runs N] [--seed S], whole numbers")
  process.exit(2)
}

/** Answers between two looks at the clock; each batch has the next seed, so that one can be run alone. */
const batch = 2000

/** Before the compiler has seen the code, times say nothing. */
const warmUp = Math.min(runs / 2, 2 * batch)

/** The longest that an answer may take that is not larger than a server can send, ms: generous, for it takes two. */
const mostMillis = 50

const mostHeaders = 256
const mostValue = 1024
const mostBody = 65_536

let done = 0
let slowest = { millis: 0, answer: "none" }

/** The verdict alone, at its best of three: what else the machine does is not its fault. */
const time = (sent: WireArbitrary.Sent): number => {
  const [profile, answer] = WireArbitrary.answerOf(sent)
  let best = Infinity
  for (let round = 0; round < 3 && best > slowest.millis; round++) {
    const start = performance.now()
    profile.classify(answer)
    best = Math.min(best, performance.now() - start)
  }
  return best
}

const isUsual = ({ body, headers }: WireArbitrary.Sent): boolean => {
  const fields = Object.entries(headers)
  return fields.length <= mostHeaders && (body?.length ?? 0) <= mostBody &&
    fields.every(([name, value]) => name.length + value.length <= mostValue)
}

const checkTimed = (sent: WireArbitrary.Sent): void => {
  WirePromises.check(sent)
  done++
  if (done < warmUp) return
  const millis = time(sent)
  if (millis > slowest.millis && Number.isFinite(millis)) slowest = { millis, answer: WireArbitrary.print(sent) }
  if (millis > mostMillis && isUsual(sent)) throw new Error(`took ${millis.toFixed(1)} ms`)
}

const fail = (sent: WireArbitrary.Sent, reason: string, seed: number): never => {
  console.log(`\nafter ${done} answers, in the batch of --runs ${batch} --seed ${seed}: ${reason}\n`)
  console.log(WireArbitrary.print(sent))
  process.exit(1)
}

const start = performance.now()
const perSecond = () => Math.round((done * 1000) / (performance.now() - start))
let toldAt = start

for (let first = 0; first < runs; first += batch) {
  const seed = firstSeed + first / batch
  const details = fc.check(fc.property(WireArbitrary.answer, checkTimed), {
    numRuns: Math.min(batch, runs - first),
    seed
  })
  if (details.failed) {
    const { errorInstance } = details
    const reason = errorInstance instanceof Error ? errorInstance.message : String(errorInstance)
    const sent = details.counterexample?.[0]
    if (sent === undefined) throw new Error(reason)
    fail(sent, reason, seed)
  }
  if (performance.now() - toldAt >= 5000) {
    toldAt = performance.now()
    console.log(`${done} of ${runs}, ${perSecond()} a second, slowest ${slowest.millis.toFixed(2)} ms`)
  }
}

for (const { most, of, what } of WireArbitrary.hostile) {
  const sent = of(most)
  const millis = time(sent)
  if (millis > slowest.millis) slowest = { millis, answer: what }
  if (millis > mostMillis) fail(sent, `${what} took ${millis.toFixed(1)} ms`, firstSeed)
}

const faults = Growth.faults()
if (faults.length > 0) {
  console.log(`\n${faults.join("\n")}`)
  process.exit(1)
}

console.log(
  `${done} answers from seed ${firstSeed}, ${perSecond()} a second, slowest ${slowest.millis.toFixed(2)} ms: ${
    slowest.answer.slice(0, 120)
  }`
)
