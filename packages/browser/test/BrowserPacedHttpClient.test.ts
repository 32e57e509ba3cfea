/**
 * In a real Chromium: what a page adds to the paced client, and that it needs nothing which a page can not see. Times are
 * the page's own where the test is about them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as BrowserPacedHttpClient from "@evenkeel/browser/BrowserPacedHttpClient"
import * as Demand from "@evenkeel/core/Demand"
import * as Pace from "@evenkeel/core/Pace"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import * as Pacer from "@evenkeel/core/Pacer"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import { inject } from "vitest"
import * as HiddenLimit from "./fixtures/HiddenLimit.ts"

interface Parts {
  readonly fetch?: typeof globalThis.fetch
  readonly controller?: RateController.RateController
  readonly policy?: RetryPolicy.RetryPolicy
}

const perSecond = (rate: number) => RateController.fixed({ requests: Pace.rate(rate) })

/** A page's paced client: unlimited, trying again as libraries do, over the page's own fetch, unless told otherwise. */
const page = (parts: Parts = {}) =>
  BrowserPacedHttpClient.layer().pipe(
    Layer.provideMerge(Pacer.layerMemory),
    Layer.provide(Layer.mergeAll(
      Layer.succeed(FetchHttpClient.Fetch, parts.fetch ?? ((input, init) => globalThis.fetch(input, init))),
      Layer.succeed(RateController.Current, parts.controller ?? RateController.fixed({})),
      Layer.succeed(RetryPolicy.Current, parts.policy ?? RetryPolicy.standard)
    ))
  )

/** A fetch that answers at once, and keeps what it was called with. */
const answering = (answer: () => Response = () => Response.json({ text: "hello" })) => {
  const calls: Array<{ readonly url: string; readonly init: RequestInit }> = []
  const fetch = (url: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    calls.push({ url: url instanceof Request ? url.url : String(url), init })
    return Promise.resolve().then(answer)
  }
  return { calls, fetch }
}

/** The status, after the body is read. */
const call = (url: string, options?: HttpClientRequest.Options.NoUrl) =>
  Effect.tap(HttpClient.post(url, options), (response) => response.text).pipe(
    Effect.map((response) => response.status)
  )

const keys = Effect.flatMap(
  Effect.service(Pacer.Pacer),
  (pacer) => Effect.map(pacer.snapshot, (snapshot) => snapshot.keys)
)

/** Nothing waits, nothing runs, nothing backs off. */
const nothingLeft = { waiting: 0, backingOff: 0, inFlight: 0 }

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const elapsedSince = (startMillis: number): number => performance.now() - startMillis

const url = "https://api.example/chat"

describe("BrowserPacedHttpClient", () => {
  it.live("gets every call answered under a limit that it can not see, spaced and with few refusals", () => {
    const limit = HiddenLimit.make({ ratePerSecond: 40, burst: 4, overloadedEvery: 25, latencyMillis: 20 })
    return Effect.gen(function*() {
      const calls = Array.from({ length: 80 }, () => call(url))
      const statuses = yield* Effect.all(calls, { concurrency: "unbounded" })
      assert.deepStrictEqual([...new Set(statuses)], [200])
      const refused = limit.attempts.filter(({ status }) => status === 429)
      assert.isAtLeast(refused.length, 1, "the limit was never met, so that nothing was tested")
      assert.isAtMost(refused.length, 20)
      // Twice what the limit would take in a quarter of a second: no bunch.
      const most = Math.max(
        ...limit.attempts.map(({ atMillis: from }) =>
          limit.attempts.filter(({ atMillis }) => atMillis >= from && atMillis < from + 250).length
        )
      )
      assert.isAtMost(most, 2 * (4 + 40 / 4))
      assert.deepInclude((yield* keys)[0], { ...nothingLeft, told: [] })
    }).pipe(Effect.provide(page({ fetch: limit.fetch, controller: RateController.adaptive({ startPerSecond: 20 }) })))
  })

  it.effect("sends nothing for a call that was aborted while it waited, and the next leaves as if it had never been", () => {
    const { calls, fetch } = answering()
    return Effect.gen(function*() {
      yield* call(url)
      const abort = new AbortController()
      const context = yield* Effect.context<HttpClient.HttpClient>()
      const aborted = Effect.runPromiseExitWith(context)(call(url), { signal: abort.signal })
      const next = yield* fork(call(url))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual((yield* keys)[0]?.waiting, 2)
      abort.abort()
      assert.isTrue(Exit.hasInterrupts(yield* Effect.promise(() => aborted)))
      assert.deepInclude((yield* keys)[0], { ...nothingLeft, waiting: 1 })
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(yield* Fiber.join(next), 200)
      assert.lengthOf(calls, 2)
      assert.deepInclude((yield* keys)[0], nothingLeft)
    }).pipe(Effect.provide(page({ fetch, controller: perSecond(1) })))
  })

  it.live("aborts the page's fetch with the call that is in flight", () => {
    const signals: Array<AbortSignal | null | undefined> = []
    const fetch: typeof globalThis.fetch = (_, init) => {
      signals.push(init?.signal)
      return new Promise((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)))
    }
    return Effect.gen(function*() {
      const running = yield* fork(HttpClient.get(url))
      assert.deepInclude((yield* keys)[0], { ...nothingLeft, inFlight: 1 })
      assert.deepStrictEqual(signals.map((signal) => signal?.aborted), [false])
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(signals.map((signal) => signal?.aborted), [true])
      assert.deepInclude((yield* keys)[0], nothingLeft)
    }).pipe(Effect.provide(page({ fetch })))
  })

  it.live("keeps the place of a streaming answer until its end, and counts the usage that the last event tells", () => {
    const events = ["data: {\"text\":\"hel\"}\n\n", "data: {\"text\":\"lo\"}\n\n", usageEvent, "data: [DONE]\n\n"]
    const { fetch } = answering(() => new Response(new Blob(events).stream(), eventStream))
    return Effect.gen(function*() {
      const telemetry = yield* Telemetry.Telemetry
      const response = yield* HttpClient.post(url)
      assert.deepInclude((yield* keys)[0], { ...nothingLeft, inFlight: 1 })
      const text = yield* Stream.mkString(Stream.decodeText(response.stream))
      assert.strictEqual(text, events.join(""))
      assert.deepInclude((yield* keys)[0], nothingLeft)
      assert.deepInclude((yield* telemetry.usage)[0], { accepted: 1, inputTokens: 7, outputTokens: 5 })
    }).pipe(Effect.provide(page({ fetch })))
  })

  it.live("gives the place back and cancels the download when a streaming answer is left half read", () => {
    let cancelled = false
    const endless = () =>
      new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new TextEncoder().encode("data: {}\n\n")),
        cancel: () => {
          cancelled = true
        }
      })
    const { fetch } = answering(() => new Response(endless(), eventStream))
    return Effect.gen(function*() {
      const response = yield* HttpClient.post(url)
      yield* Stream.runDrain(Stream.take(response.stream, 2))
      assert.isTrue(cancelled)
      assert.deepInclude((yield* keys)[0], nothingLeft)
    }).pipe(Effect.provide(page({ fetch })))
  })

  it.live("calls fetch with the settings that the program provides", () => {
    const { calls, fetch } = answering()
    return Effect.gen(function*() {
      yield* Effect.provideService(call(url), FetchHttpClient.RequestInit, { redirect: "error" })
      yield* call(url)
      assert.deepStrictEqual(calls.map(({ init }) => init.redirect), ["error", undefined])
    }).pipe(Effect.provide(page({ fetch })))
  })

  it.live("does not repeat a call that may have run when all that the page learns is that fetch failed", () => {
    const { calls, fetch } = answering(() => {
      throw new TypeError("Failed to fetch")
    })
    return Effect.gen(function*() {
      const error = yield* Effect.flip(call(url))
      assert.instanceOf(error, HttpClientError.HttpClientError)
      assert.lengthOf(calls, 1)
      const harmless = Effect.provideService(PacedHttpClient.CurrentCall, { idempotent: true })
      yield* Effect.flip(harmless(call(url)))
      assert.lengthOf(calls, 1 + 3)
      assert.deepInclude((yield* keys)[0]?.counts, { unknown: 4, limited: 0, overloaded: 0 })
    }).pipe(Effect.provide(page({ fetch })))
  })

  it.effect("fails a call that can not start in time with the reason as the error's cause", () => {
    const { calls, fetch } = answering()
    return Effect.gen(function*() {
      yield* call(url)
      const soon = Effect.provideService(PacedHttpClient.CurrentCall, { startWithin: "500 millis" })
      const late = yield* fork(Effect.flip(soon(call(url))))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(late)
      assert.instanceOf(error, HttpClientError.HttpClientError)
      assert.strictEqual((error.cause as { readonly _tag?: string })._tag, "PaceError")
      assert.lengthOf(calls, 1)
    }).pipe(Effect.provide(page({ fetch, controller: perSecond(1) })))
  })
})

describe("an address in a page", () => {
  it.live("is the page's own when it is relative, and shares the pace of the absolute one", () => {
    const { calls, fetch } = answering()
    return Effect.gen(function*() {
      yield* call("/api/chat", { urlParams: { of: "page" } })
      yield* call(`${location.origin}/api/chat`)
      assert.deepStrictEqual((yield* keys).map((key) => key.origin), [location.origin])
      assert.deepStrictEqual(calls.map(({ url }) => url), [
        `${location.origin}/api/chat?of=page`,
        `${location.origin}/api/chat`
      ])
    }).pipe(Effect.provide(page({ fetch })))
  })

  it("is the one that Effect's own client would call, whatever the path and whatever is prepended", () =>
    fc.assert(
      fc.asyncProperty(
        fc.webPath(),
        fc.constantFrom("", "https://api.example/v1", "/v1"),
        async (path, prefix) => {
          const [unpaced, paced] = [answering(), answering()]
          // Some paths are no address (`//`): then neither client may call anything.
          const get = Effect.exit(Effect.flatMap(Effect.service(HttpClient.HttpClient), (client) =>
            HttpClient.mapRequest(client, HttpClientRequest.prependUrl(prefix)).get(path)))
          const bare = FetchHttpClient.layer.pipe(Layer.provide(Layer.succeed(FetchHttpClient.Fetch, unpaced.fetch)))
          await Effect.runPromise(Effect.provide(get, bare))
          await Effect.runPromise(Effect.provide(get, page({ fetch: paced.fetch })))
          assert.deepStrictEqual(
            paced.calls.map(({ url }) =>
              url
            ),
            unpaced.calls.map(({ url }) => url)
          )
        }
      ),
      { numRuns: 50, examples: [["//", ""]] }
    ))

  it.live("that can not be read is the client's error, and nothing is sent", () => {
    const { calls, fetch } = answering()
    return Effect.gen(function*() {
      const error = yield* Effect.flip(call("https://"))
      assert.instanceOf(error, HttpClientError.HttpClientError)
      assert.strictEqual(error.reason._tag, "InvalidUrlError")
      assert.lengthOf(calls, 0)
    }).pipe(Effect.provide(page({ fetch })))
  })
})

describe("a provider of another origin", () => {
  const server = inject("crossOrigin")
  const bearer = { headers: { authorization: "Bearer secret" } }

  it.live("shows a page its rate-limit headers only where it exposes them", () =>
    Effect.gen(function*() {
      const seen = (path: string) => Effect.map(HttpClient.post(`${server}${path}`), (response) => response.headers)
      assert.deepInclude(yield* seen("/exposed"), { "x-ratelimit-limit": "20", "retry-after": "60" })
      const hidden = yield* seen("/chat")
      assert.doesNotHaveAnyKeys(hidden, ["x-ratelimit-limit", "x-ratelimit-remaining", "retry-after"])
      assert.strictEqual(hidden["content-type"], "application/json")
    }).pipe(Effect.provide(page())))

  it.live("gets its calls answered over its refusals, whose hints nobody sees", () =>
    Effect.gen(function*() {
      const start = performance.now()
      const statuses = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => call(`${server}/chat`, bearer))
      assert.deepStrictEqual([...new Set(statuses)], [200])
      assert.isBelow(elapsedSince(start), 20_000)
      const [key] = yield* keys
      assert.deepInclude(key?.counts, { accepted: 6, ignored: 0, unknown: 0 })
      assert.isAtLeast(key?.counts.limited ?? 0, 2)
      assert.deepInclude(key, { ...nothingLeft, told: [] })
    }).pipe(Effect.provide(page({ controller: perSecond(20) }))))

  it.live("is sent no tracing headers, which its CORS rules do not allow, unless the program says so", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* call(`${server}/exposed`), 200)
      const traced = Effect.provideService(HttpClient.TracerPropagationEnabled, true)
      const error = yield* Effect.flip(traced(call(`${server}/exposed`)))
      assert.strictEqual(error.reason._tag, "TransportError")
    }).pipe(Effect.provide(page())))

  it.live("whose edge refuses without CORS headers leaves the page with no verdict, and with one attempt", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(call(`${server}/edge`))
      assert.strictEqual(error.reason._tag, "TransportError")
      assert.deepInclude((yield* keys)[0]?.counts, { attempts: 1, unknown: 1, limited: 0 })
    }).pipe(Effect.provide(page())))
})

describe("core's Pacer in a page", () => {
  it.live("spaces calls by the page's own clock", () => {
    const starts: Array<number> = []
    const demand = Demand.make({ key: Demand.key("https://api.example", "acme", "llama") })
    return Effect.gen(function*() {
      const pacer = yield* Pacer.Pacer
      const attempt = () => Effect.sync(() => void starts.push(performance.now()))
      yield* Effect.all(Array.from({ length: 10 }, () => pacer.run(demand, attempt)), { concurrency: "unbounded" })
      const [first = NaN] = starts
      // No start before its turn, but for what a burst lets ahead and the clock's own grain.
      starts.forEach((at, i) => assert.isAtLeast(at - first, (i - 1) * 50 - 5, `start ${i}`))
      assert.isBelow(starts[9]! - first, 5_000)
    }).pipe(Effect.provide(page({ controller: perSecond(20) })))
  })
})

const eventStream = { headers: { "content-type": "text/event-stream" } }

const usageEvent = "data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12}}\n\n"
