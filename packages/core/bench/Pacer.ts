/**
 * What an uncontended `Pacer.run` costs, beside Effect's own `RateLimiter.consume`, in one process and interleaved.
 *
 * Here belongs the measurement and its table; run it with `pnpm bench`. Ratios compare rows of one round, so that a
 * machine that speeds up or slows down moves both.
 */
import * as Demand from "@evenkeel/core/Demand"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RateLimiter from "effect/persistence/RateLimiter"

const rounds = 15

const calls = 20_000

const demand = Demand.make({ key: Demand.key("https://api.example", "acme", "llama") })

/** So fast a start that nothing ever waits: the cost of the loop itself. */
const controller = Layer.succeed(RateController.Current, RateController.adaptive({ startPerSecond: 1e9 }))

const program = Effect.gen(function*() {
  const pacer = yield* Pacer.Pacer
  const limiter = yield* RateLimiter.RateLimiter
  const paced = pacer.run(demand, () => Effect.void)
  const consumed = limiter.consume({ key: "k", window: "1 second", limit: 1e9, algorithm: "token-bucket" })
  const micros = Effect.fnUntraced(function*(call: Effect.Effect<unknown, unknown>) {
    const start = performance.now()
    for (let i = 0; i < calls; i++) yield* call
    return ((performance.now() - start) * 1000) / calls
  })
  yield* micros(paced)
  yield* micros(consumed)
  const rows: Array<{ readonly paced: number; readonly consumed: number }> = []
  for (let round = 0; round < rounds; round++) {
    rows.push({ paced: yield* micros(paced), consumed: yield* micros(consumed) })
  }
  const median = (values: ReadonlyArray<number>) =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
  const ratios = rows.map((row) => row.paced / row.consumed)
  console.log(
    `Pacer.run            ${median(rows.map((row) => row.paced)).toFixed(2)} µs a call (median of ${rounds} rounds)`
  )
  console.log(`RateLimiter.consume  ${median(rows.map((row) => row.consumed)).toFixed(2)} µs a call`)
  console.log(
    `ratio                ${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)} to ${
      Math.max(...ratios).toFixed(2)
    })`
  )
}).pipe(
  Effect.provide(Layer.merge(
    Pacer.layerMemory.pipe(Layer.provide(controller)),
    RateLimiter.layer.pipe(Layer.provide(RateLimiter.layerStoreMemory))
  ))
)

await Effect.runPromise(program)
