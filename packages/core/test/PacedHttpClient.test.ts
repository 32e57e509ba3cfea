import { assert, describe, it } from "@effect/vitest"
import * as CallScheduler from "@evenkeel/core/CallScheduler"
import * as Pace from "@evenkeel/core/Pace"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as FluidOptimum from "@evenkeel/core/testing/FluidOptimum"
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as TestProvider from "@evenkeel/core/testing/TestProvider"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"

const request = HttpClientRequest.post("https://api.together.xyz/v1/chat/completions").pipe(
  HttpClientRequest.bodyJsonUnsafe({ model: "llama", max_tokens: 64, messages: [{ role: "user", content: "Hello" }] })
)

const persistent = Pacer.layerMemory.pipe(Layer.provide(Layer.succeed(RetryPolicy.Current, RetryPolicy.persistent)))

/** Latencies of a quick model, without spread, so that the optimum can be stated. */
const latency = { serviceMedianSeconds: 0.2, serviceSigma: 0, rttSeconds: 0.002, rttSigma: 0 }

const ramp = {
  dynamicRate: {
    floorPerSecond: 10,
    ceilingPerSecond: [[0, 200]] as const,
    memory: { kind: "ewma" as const, seconds: 4 }
  },
  latency
}

/** Sends so many calls at once through the client, and says how it went and when the last answer came. */
const job = Effect.fnUntraced(function*(written: Parameters<typeof Scenario.make>[0], requests: number) {
  const provider = yield* TestProvider.make(Scenario.make(written))
  const client = yield* PacedHttpClient.make(provider.client, { body: "json" })
  const began = yield* Clock.currentTimeMillis
  const fiber = yield* Effect.forkChild(Effect.forEach(
    Array.from({ length: requests }),
    () => Effect.andThen(client.execute(request), Clock.currentTimeMillis),
    { concurrency: "unbounded" }
  ))
  yield* TestClock.adjust("10 minutes")
  const ends = yield* Fiber.join(fiber)
  const { refused429, refused503, served } = yield* provider.stats
  const { keys } = yield* (yield* Pacer.Pacer).snapshot
  return { served, refused429, refused503, keys, seconds: (Math.max(...ends) - began) / 1000 }
})

describe("PacedHttpClient against the provider's law, in virtual time", () => {
  it.effect("answers 1,500 calls on a ramp near the fluid optimum, with hardly a refusal", () =>
    Effect.gen(function*() {
      const done = yield* job(ramp, 1_500)
      assert.strictEqual(done.served, 1_500)
      assert.isAtMost(done.refused429 / (done.served + done.refused429), 0.02)
      const optimum = FluidOptimum.seconds(Scenario.make(ramp), { requests: 1_500, latencySeconds: 0.202 })
      assert.isAtLeast(FluidOptimum.score(optimum, done.seconds, 0.202), 0.9)
    }).pipe(Effect.provide(persistent)))

  it.effect("keeps to one call a second from the first", () =>
    Effect.gen(function*() {
      const done = yield* job({ dynamicRate: { floorPerSecond: 1, ceilingPerSecond: 1 }, latency }, 60)
      assert.strictEqual(done.served, 60)
      assert.isAtMost(done.refused429, 2)
      assert.isAtMost(done.seconds, 66)
    }).pipe(Effect.provide(persistent)))

  it.effect("finds a limit that no header tells", () =>
    Effect.gen(function*() {
      const silent = { onSuccess: false, onError: false, retryAfter: false }
      const done = yield* job({ ...ramp, headers: silent }, 1_500)
      assert.strictEqual(done.served, 1_500)
      assert.isAtMost(done.refused429 / (done.served + done.refused429), 0.1)
      assert.isAtMost(done.seconds, 40)
    }).pipe(Effect.provide(persistent)))

  it.effect("sends again what met a platform without room, and does not slow down for it", () =>
    Effect.gen(function*() {
      const calm = yield* job(ramp, 1_500)
      const coins = { overloadProbability: [[0, 0.05]] as const }
      const busy = yield* Effect.provide(job({ ...ramp, platform: coins }, 1_500), Layer.fresh(persistent))
      assert.strictEqual(busy.served, 1_500)
      assert.isAtLeast(busy.refused503, 30)
      assert.isAtMost(busy.seconds, 1.35 * calm.seconds)
    }).pipe(Effect.provide(persistent)))

  it.effect("uses the token limit when tokens are what is short", () =>
    Effect.gen(function*() {
      const tokens = { floorPerSecond: 1_000, ceilingPerSecond: [[0, 1_000]] as const, initialSuccessPerSecond: 0 }
      const done = yield* job({ dynamicRate: { floorPerSecond: 100 }, tokens, latency }, 300)
      const usage = yield* (yield* Telemetry.Telemetry).usage
      assert.strictEqual(done.served, 300)
      assert.isAtMost(done.refused429 / (done.served + done.refused429), 0.02)
      const tokensUsed = usage.reduce((sum, record) => sum + record.inputTokens + record.outputTokens, 0)
      assert.isAtLeast(tokensUsed / done.seconds, 850)
    }).pipe(Effect.provide(persistent)))

  it.effect("lets an urgent call go before those that came first", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(Scenario.make({ dynamicRate: { floorPerSecond: 100 }, latency }))
      const client = yield* PacedHttpClient.make(provider.client)
      const ends: Array<string> = []
      const call = (name: string, priority: number) =>
        client.execute(request).pipe(
          Effect.andThen(Effect.sync(() => ends.push(name))),
          Effect.provideService(PacedHttpClient.CurrentCall, { priority })
        )
      yield* Effect.forkChild(
        Effect.forEach(["a", "b", "c", "d"], (name) => call(name, 0), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 millis")
      yield* Effect.forkChild(call("urgent", 5))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(ends, ["a", "urgent", "b", "c", "d"])
    }).pipe(
      Effect.provide(
        Pacer.layerMemory.pipe(Layer.provide(Layer.mergeAll(
          Layer.succeed(CallScheduler.Current, CallScheduler.priority()),
          Layer.succeed(RateController.Current, RateController.fixed({ requests: Pace.rate(1) }))
        )))
      )
    ))

  it.effect("books what calls used by organisation, model and workload, and keeps no secret", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(Scenario.make({ latency }))
      const client = yield* PacedHttpClient.make(provider.client, { body: "buffer" })
      const call = client.execute(HttpClientRequest.bearerToken(request, "a-secret")).pipe(
        Effect.provideService(PacedHttpClient.CurrentCall, { workload: "nightly" })
      )
      const fiber = yield* Effect.forkChild(call)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      const usage = yield* (yield* Telemetry.Telemetry).usage
      assert.strictEqual(usage.length, 1)
      assert.include(usage[0], { model: "llama", workload: "nightly", attempts: 1, accepted: 1 })
      assert.isAbove(usage[0]!.outputTokens, 0)
      assert.strictEqual(usage[0]!.organisation, usage[0]!.credential)
      assert.notInclude(JSON.stringify([usage, yield* (yield* Pacer.Pacer).snapshot]), "a-secret")
    }).pipe(Effect.provide(persistent)))
})
