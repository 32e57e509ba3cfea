import { assert, describe, it } from "@effect/vitest"
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as TestProvider from "@evenkeel/core/testing/TestProvider"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as TestClock from "effect/testing/TestClock"

interface Chat {
  readonly model?: string
  readonly key?: string
  readonly content?: string
  readonly max_tokens?: number
}

const chat = ({ content = "Hello there", key = "one", max_tokens = 64, model = "llama" }: Chat = {}) =>
  HttpClientRequest.post("https://api.together.xyz/v1/chat/completions").pipe(
    HttpClientRequest.bearerToken(key),
    HttpClientRequest.bodyJsonUnsafe({ model, messages: [{ role: "user", content }], max_tokens })
  )

type Provider = typeof TestProvider.TestProvider.Service

/** Sends `calls` evenly at a rate, and waits until all are answered. */
const sendEvenly = Effect.fnUntraced(function*(provider: Provider, calls: number, perSecond: number) {
  const fibers: Array<Fiber.Fiber<HttpClientResponse.HttpClientResponse, unknown>> = []
  for (let index = 0; index < calls; index++) {
    fibers.push(yield* Effect.forkChild(provider.client.execute(chat()), { startImmediately: true }))
    yield* TestClock.adjust(1000 / perSecond)
  }
  yield* TestClock.adjust("2 minutes")
  return yield* Fiber.joinAll(fibers)
})

/** One call, and its answer once a minute has passed. */
const send = Effect.fnUntraced(function*(provider: Provider, request: HttpClientRequest.HttpClientRequest) {
  const fiber = yield* Effect.forkChild(provider.client.execute(request), { startImmediately: true })
  yield* TestClock.adjust("1 minute")
  return yield* Fiber.join(fiber)
})

const constant = (perSecond: number, written: Scenario.Written = {}): Scenario.Scenario =>
  Scenario.make({ ...written, dynamicRate: { floorPerSecond: perSecond, ceilingPerSecond: perSecond } })

/** Without jitter on the way, so that what is sent evenly arrives evenly. */
const even = { latency: { rttSigma: 0 } }

const statuses = (responses: ReadonlyArray<HttpClientResponse.HttpClientResponse>) =>
  responses.map((response) => response.status)

describe("TestProvider", () => {
  it.effect("refuses nothing that is sent evenly at the limit", () =>
    Effect.gen(function*() {
      for (const perSecond of [0.5, 1, 7]) {
        const provider = yield* TestProvider.make(constant(perSecond, even))
        yield* sendEvenly(provider, 60, perSecond)
        assert.deepStrictEqual(yield* provider.stats, {
          served: 60,
          refused429: 0,
          refused503: 0,
          invalid: 0,
          keys: 1
        })
      }
    }))

  it.effect("refuses with 429 about what is sent above the limit, and says which limit", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(constant(5, even))
      const responses = yield* sendEvenly(provider, 200, 10)
      // Twenty seconds at 5 a second, the bucket's 5 and the buffer's 2.5.
      const { refused429, served } = yield* provider.stats
      assert.isAtLeast(served, 100)
      assert.isAtMost(served, 108)
      assert.strictEqual(refused429, 200 - served)
      const refused = responses.find((response) => response.status === 429)
      assert.isDefined(refused)
      assert.deepStrictEqual(yield* refused.json, {
        error: {
          message: "You are sending requests faster than your dynamic rate limit.",
          type: "dynamic_request_limited"
        },
        error_type: "dynamic_request_limited"
      })
      assert.strictEqual(refused.headers["retry-after"], "1")
      assert.strictEqual(refused.headers["x-ratelimit-limit"], "5")
      assert.strictEqual(refused.headers["x-ratelimit-remaining"], "0")
    }))

  it.effect("refuses with the token type what is over the token limit", () =>
    Effect.gen(function*() {
      const tokens = { floorPerSecond: 100, ceilingPerSecond: 100 }
      const provider = yield* TestProvider.make(constant(50, { ...even, tokens }))
      const request = chat({ content: "x".repeat(380) })
      const first = yield* Effect.forkChild(provider.client.execute(request), { startImmediately: true })
      const response = yield* send(provider, request)
      assert.strictEqual((yield* Fiber.join(first)).status, 200)
      assert.strictEqual(response.status, 429)
      const body = yield* response.json as Effect.Effect<{ readonly error_type: string }>
      assert.strictEqual(body.error_type, "dynamic_token_limited")
    }))

  it.effect("refuses with 503 by the scenario's coin, and with a body that says so", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(
        constant(20, { ...even, platform: { overloadProbability: 0.25 } })
      )
      const responses = yield* sendEvenly(provider, 400, 20)
      const { refused429, refused503, served } = yield* provider.stats
      assert.strictEqual(refused429, 0)
      assert.strictEqual(served + refused503, 400)
      // Four standard deviations around a hundred.
      assert.isAtLeast(refused503, 65)
      assert.isAtMost(refused503, 135)
      const refused = responses.find((response) => response.status === 503)
      assert.isDefined(refused)
      const body = yield* refused.json as Effect.Effect<{ readonly error: { readonly type: string } }>
      assert.strictEqual(body.error.type, "overloaded")
      assert.isUndefined(refused.headers["retry-after"])
    }))

  it.effect("answers a chat completion with its usage", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(constant(5))
      const response = yield* send(provider, chat({ content: "x".repeat(41), max_tokens: 7 }))
      assert.strictEqual(response.status, 200)
      const body = yield* response.json
      assert.deepInclude(body as object, {
        object: "chat.completion",
        model: "llama",
        usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 }
      })
    }))

  it.effect("repeats itself from the same seed, and differs from another", () =>
    Effect.gen(function*() {
      const platform = { overloadProbability: 0.2 }
      const run = Effect.fnUntraced(function*(seed: number) {
        const provider = yield* TestProvider.make(constant(8, { platform, seed }))
        return statuses(yield* sendEvenly(provider, 120, 12)).join(" ")
      })
      const first = yield* run(1)
      assert.strictEqual(yield* run(1), first)
      assert.notStrictEqual(yield* run(2), first)
      assert.include(first, "429")
      assert.include(first, "503")
    }))

  it.effect("takes the scenario's time for an answer, and little for a refusal", () =>
    Effect.gen(function*() {
      const latency = { rttSigma: 0, rttSeconds: 0.1, serviceSigma: 0, serviceMedianSeconds: 2 }
      const provider = yield* TestProvider.make(constant(1, { latency, enforcement: { bufferSeconds: 0 } }))
      const served = yield* Effect.forkChild(provider.client.execute(chat()), { startImmediately: true })
      const refused = yield* Effect.forkChild(provider.client.execute(chat()), { startImmediately: true })
      yield* TestClock.adjust(104)
      assert.isUndefined(refused.pollUnsafe())
      yield* TestClock.adjust(2)
      assert.isDefined(refused.pollUnsafe())
      yield* TestClock.adjust(1993)
      assert.isUndefined(served.pollUnsafe())
      yield* TestClock.adjust(2)
      assert.isDefined(served.pollUnsafe())
    }))

  it.effect("gives each key and model a limit of its own, that begins with its first call", () =>
    Effect.gen(function*() {
      const scenario = Scenario.make({
        dynamicRate: { floorPerSecond: 9, ceilingPerSecond: [[0, 1], [30, 9]] }
      })
      const provider = yield* TestProvider.make(scenario)
      const limits: Array<string | undefined> = []
      for (const options of [{}, { key: "two" }, { model: "qwen" }, {}]) {
        limits.push((yield* send(provider, chat(options))).headers["x-ratelimit-limit"])
      }
      assert.deepStrictEqual(limits, ["1", "1", "1", "9"])
      assert.strictEqual((yield* provider.stats).keys, 3)
    }))

  it.effect("forgets the key that called longest ago when there are too many", () =>
    Effect.gen(function*() {
      const scenario = Scenario.make({ dynamicRate: { floorPerSecond: 9, ceilingPerSecond: [[0, 1], [30, 9]] } })
      const provider = yield* TestProvider.make(scenario, { maxKeys: 2 })
      const limits: Array<string | undefined> = []
      for (const key of ["one", "two", "one", "three", "one", "two"]) {
        limits.push((yield* send(provider, chat({ key }))).headers["x-ratelimit-limit"])
      }
      assert.deepStrictEqual(limits, ["1", "1", "9", "1", "9", "1"])
      assert.strictEqual((yield* provider.stats).keys, 2)
    }))

  it.effect("serves nothing to a call that was interrupted", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(constant(1))
      const fiber = yield* Effect.forkChild(provider.client.execute(chat()), { startImmediately: true })
      yield* TestClock.adjust(100)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* provider.stats).served, 0)
    }))

  it.effect("answers 400 to what is not a chat completion, and charges nothing", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.make(constant(1))
      const response = yield* send(provider, HttpClientRequest.get("https://api.together.xyz/v1/models"))
      assert.strictEqual(response.status, 400)
      assert.deepInclude(yield* provider.stats, { invalid: 1, keys: 0 })
    }))

  it.effect("is an HttpClient for whoever asks for one", () =>
    Effect.gen(function*() {
      const provider = yield* TestProvider.TestProvider
      const client = yield* HttpClient.HttpClient
      assert.strictEqual((yield* send({ ...provider, client }, chat())).status, 200)
      assert.strictEqual((yield* provider.stats).served, 1)
    }).pipe(Effect.provide(TestProvider.layer(constant(1)))))
})
