import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as FixedConcurrency from "../src/cli/FixedConcurrency.ts"

const nowMillis = Date.UTC(2026, 0, 1)

const delay = (headers: FixedConcurrency.Headers, retry = 0, random = 0) =>
  FixedConcurrency.delayMillis({ retry, headers, nowMillis, random })

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
}

/** Runs requests against scripted answers (`lost` is a lost connection), and says what was sent when. */
const play = Effect.fnUntraced(function*(
  answers: ReadonlyArray<Answer | "lost">,
  options?: { readonly requests?: number; readonly concurrency?: number; readonly maxRetries?: number }
) {
  const sentAtMillis: Array<number> = []
  const ends: Array<boolean> = []
  let inFlight = 0
  let mostInFlight = 0
  const client = HttpClient.make((request) =>
    Effect.gen(function*() {
      const answer = answers[sentAtMillis.length] ?? { status: 200 }
      sentAtMillis.push(yield* Clock.currentTimeMillis)
      mostInFlight = Math.max(mostInFlight, ++inFlight)
      yield* Effect.sleep(10)
      inFlight--
      if (answer === "lost") {
        return yield* new HttpClientError.HttpClientError({
          reason: new HttpClientError.TransportError({ request, description: "gone" })
        })
      }
      return HttpClientResponse.fromWeb(request, new Response("{}", answer))
    })
  )
  const requests = Array.from({ length: options?.requests ?? 1 }, () => HttpClientRequest.post("http://127.0.0.1/"))
  const settings = { concurrency: options?.concurrency ?? 1, maxRetries: options?.maxRetries ?? 2 }
  const fiber = yield* FixedConcurrency.run(requests, settings, (answered) => void ends.push(answered)).pipe(
    Effect.provideService(HttpClient.HttpClient, client),
    Random.withSeed("jitter"),
    Effect.forkChild
  )
  yield* TestClock.adjust("1 hour")
  yield* Fiber.join(fiber)
  return { sentAtMillis, ends, mostInFlight }
})

describe("FixedConcurrency", () => {
  it("retries what the SDKs retry, and what a server asks to retry", () => {
    const retried = [200, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]
      .filter((status) => FixedConcurrency.isRetried(status, {}))
    assert.deepStrictEqual(retried, [408, 409, 429, 500, 502, 503, 504, 529])
    assert.isTrue(FixedConcurrency.isRetried(400, { "x-should-retry": "true" }))
    assert.isFalse(FixedConcurrency.isRetried(429, { "x-should-retry": "false" }))
  })

  it("waits 0.5 s, twice as long each time up to 8 s, less at most a quarter", () => {
    assert.deepStrictEqual([0, 1, 2, 3, 4, 5, 50].map((retry) => delay({}, retry)), [500, 1e3, 2e3, 4e3, 8e3, 8e3, 8e3])
    assert.strictEqual(delay({}, 0, 1), 375)
    fc.assert(fc.property(fc.nat(100), fc.double({ min: 0, max: 1, noNaN: true }), (retry, random) => {
      const longest = delay({}, retry)
      const millis = delay({}, retry, random)
      return millis <= longest && millis >= 0.75 * longest
    }))
  })

  it("does as a header says: milliseconds before seconds before a date", () => {
    assert.strictEqual(delay({ "retry-after-ms": "1500", "retry-after": "9" }), 1500)
    assert.strictEqual(delay({ "retry-after-ms": "0", "retry-after": "9" }), 9000)
    assert.strictEqual(delay({ "retry-after": "2.5" }), 2500)
    assert.strictEqual(delay({ "retry-after": "Thu, 01 Jan 2026 00:00:07 GMT" }), 7000)
    assert.strictEqual(delay({ "retry-after": "Thu, 01 Jan 2020 00:00:00 GMT" }), 0)
    assert.strictEqual(delay({ "retry-after": "soon" }), 500)
    assert.strictEqual(delay({ "retry-after": "600" }), 600_000)
  })

  it.effect("gives a request up after its retries", () =>
    Effect.gen(function*() {
      const { ends, sentAtMillis } = yield* play(Array.from({ length: 5 }, () => ({ status: 503 })))
      assert.deepStrictEqual(ends, [false])
      assert.strictEqual(sentAtMillis.length, 3)
      const [first = 0, second = 0, third = 0] = sentAtMillis
      assert.isTrue(second - first >= 385 && second - first <= 510, `${second - first}`)
      assert.isTrue(third - second >= 760 && third - second <= 1010, `${third - second}`)
    }))

  it.effect("sends again after a lost connection and after what Retry-After says", () =>
    Effect.gen(function*() {
      const { ends, sentAtMillis } = yield* play(["lost", { status: 429, headers: { "retry-after": "3" } }])
      assert.deepStrictEqual(ends, [true])
      assert.approximately(sentAtMillis[2]! - sentAtMillis[1]!, 3010, 1e-6)
    }))

  it.effect("does not send again what is not retried", () =>
    Effect.gen(function*() {
      const { ends, sentAtMillis } = yield* play([{ status: 400 }])
      assert.deepStrictEqual(ends, [false])
      assert.strictEqual(sentAtMillis.length, 1)
    }))

  it.effect("has as many calls in flight as told, and tells the end of each", () =>
    Effect.gen(function*() {
      const { ends, mostInFlight } = yield* play([], { requests: 20, concurrency: 7 })
      assert.strictEqual(mostInFlight, 7)
      assert.deepStrictEqual(ends, Array.from({ length: 20 }, () => true))
    }))
})
