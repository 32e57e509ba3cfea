import { assert, describe, it } from "@effect/vitest"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import * as Pacer from "@evenkeel/core/Pacer"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const request = HttpClientRequest.post("https://api.example/v1/chat/completions").pipe(
  HttpClientRequest.bodyJsonUnsafe({ model: "m", max_tokens: 64, messages: [{ role: "user", content: "Hello" }] })
)

const persistent = Pacer.layerMemory.pipe(Layer.provide(Layer.succeed(RetryPolicy.Current, RetryPolicy.persistent)))

/** A client that gives these responses in turn, the last one for ever, and counts. */
const answering = (...responses: ReadonlyArray<() => Response>) => {
  const seen = { requests: 0 }
  const client = HttpClient.make((sent) =>
    Effect.sync(() => {
      const make = responses[Math.min(seen.requests++, responses.length - 1)]!
      return HttpClientResponse.fromWeb(sent, make())
    })
  )
  return { client, seen }
}

const json = (body: unknown, init?: ResponseInit) => () => Response.json(body, init)

const answer = { choices: [{ message: { content: "Hi" } }], usage: { prompt_tokens: 3, completion_tokens: 5 } }

/** Runs a call to its end in virtual time, which is less than what a body that nobody reads is waited for. */
const finish = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(call)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.join(fiber)
  })

describe("a success whose body is an error", () => {
  it.effect("is sent again where that can help, when the body is read within the call", () =>
    Effect.gen(function*() {
      const { client, seen } = answering(json({ error: { message: "gone", code: 502 } }), json(answer))
      const paced = yield* PacedHttpClient.make(client, { body: "json" })
      const response = yield* finish(
        paced.execute(request).pipe(Effect.provideService(PacedHttpClient.CurrentCall, { idempotent: true }))
      )
      assert.deepStrictEqual(yield* response.json, answer)
      assert.strictEqual(seen.requests, 2)
    }).pipe(Effect.provide(persistent)))

  it.effect("lowers the pace as any throttle does, and is counted as a refusal", () =>
    Effect.gen(function*() {
      const throttled = json({ errors: [{ type: "RATE_LIMITED", message: "slow down" }] }, {
        headers: { "retry-after": "7" }
      })
      const { client, seen } = answering(throttled, json(answer))
      const paced = yield* PacedHttpClient.make(client, { body: "json" })
      yield* finish(paced.execute(request))
      const { keys } = yield* (yield* Pacer.Pacer).snapshot
      assert.strictEqual(seen.requests, 2)
      assert.deepInclude(keys[0]?.counts, { attempts: 2, accepted: 1, limited: 1 })
      const [record] = yield* (yield* Telemetry.Telemetry).usage
      assert.deepInclude(record, { attempts: 2, accepted: 1, refused: 1 })
    }).pipe(Effect.provide(persistent)))

  it.effect("is returned as it is where that cannot help", () =>
    Effect.gen(function*() {
      const body = { error: { type: "invalid_request_error", message: "no such tool" } }
      const { client, seen } = answering(json(body))
      const paced = yield* PacedHttpClient.make(client, { body: "json" })
      assert.deepStrictEqual(yield* (yield* finish(paced.execute(request))).json, body)
      assert.strictEqual(seen.requests, 1)
    }).pipe(Effect.provide(persistent)))
})

describe("the body of a refusal", () => {
  it.effect("is read to 64 KiB, and what follows is not waited for", () =>
    Effect.gen(function*() {
      let pulled = 0
      let cancelled = false
      const endless = () =>
        new Response(
          new ReadableStream({
            pull: (controller) => {
              pulled++
              controller.enqueue(new TextEncoder().encode(`{"error":{"message":"${"x".repeat(8_192)}`))
            },
            cancel: () => {
              cancelled = true
            }
          }),
          { status: 400 }
        )
      const { client } = answering(endless)
      const paced = yield* PacedHttpClient.make(client)
      const response = yield* finish(paced.execute(request))
      assert.strictEqual((yield* response.text).length, 65_536)
      assert.isTrue(cancelled)
      assert.isAtMost(pulled, 12)
    }).pipe(Effect.provide(persistent)))

  it.effect("that never ends is waited for no longer than five seconds", () =>
    Effect.gen(function*() {
      const silent = () =>
        new Response(
          new ReadableStream({
            start: (controller) => controller.enqueue(new TextEncoder().encode(`{"error":{"message":"bad`))
          }),
          { status: 400 }
        )
      const { client, seen } = answering(silent)
      const paced = yield* PacedHttpClient.make(client)
      const response = yield* finish(paced.execute(request))
      assert.deepStrictEqual([response.status, yield* response.text], [400, `{"error":{"message":"bad`])
      assert.strictEqual(seen.requests, 1)
    }).pipe(Effect.provide(persistent)))

  it.effect("keeps its bytes, whatever they encode", () =>
    Effect.gen(function*() {
      const latin = new Uint8Array([0x66, 0xfc, 0x72])
      const { client } = answering(() => new Response(latin, { status: 400 }))
      const paced = yield* PacedHttpClient.make(client)
      const bytes = yield* (yield* finish(paced.execute(request))).arrayBuffer
      assert.deepStrictEqual(new Uint8Array(bytes), latin)
    }).pipe(Effect.provide(persistent)))

  it.effect("can be read again by the caller in each way", () =>
    Effect.gen(function*() {
      const body = { error: { message: "ünïcode", type: "invalid_request_error" } }
      const { client } = answering(json(body, { status: 400, headers: { "x-request-id": "r1" } }))
      const paced = yield* PacedHttpClient.make(client)
      const read = <A, E>(how: (response: HttpClientResponse.HttpClientResponse) => Effect.Effect<A, E>) =>
        Effect.flatMap(finish(paced.execute(request)), how)
      assert.deepStrictEqual(JSON.parse(yield* read(({ text }) => text)), body)
      assert.deepStrictEqual(yield* read((response) => response.json), body)
      const bytes = yield* read((response) => response.arrayBuffer)
      assert.deepStrictEqual(JSON.parse(new TextDecoder().decode(bytes)), body)
      assert.deepStrictEqual(
        JSON.parse(yield* read((response) => Stream.mkString(Stream.decodeText(response.stream)))),
        body
      )
      const response = yield* finish(paced.execute(request))
      assert.deepInclude(response.headers, { "x-request-id": "r1" })
      assert.strictEqual(response.status, 400)
    }).pipe(Effect.provide(persistent)))

  it.effect("that breaks off leaves the status to tell what it was", () =>
    Effect.gen(function*() {
      const broken = () =>
        new Response(
          new ReadableStream({
            start: (controller) => {
              controller.enqueue(new TextEncoder().encode(`{"error":{"mess`))
              controller.error(new Error("reset"))
            }
          }),
          { status: 404 }
        )
      const { client } = answering(broken)
      const exit = yield* Effect.exit(finish(PacedHttpClient.failRefusals(client).execute(request)))
      assert.include(String(Exit.findErrorOption(exit)), "404 NotFound (caller)")
    }))
})

describe("a stream of events", () => {
  const stream = (events: ReadonlyArray<string>) => () =>
    new Response(events.map((event) => `${event}\n\n`).join(""), { headers: { "content-type": "text/event-stream" } })

  const drained = Effect.fnUntraced(function*(events: ReadonlyArray<string>, profile?: string) {
    const heard: Array<Telemetry.Event> = []
    const telemetry = yield* Telemetry.Telemetry
    const listening = yield* Effect.forkChild(
      Stream.runForEach(telemetry.events, (event) => Effect.sync(() => heard.push(event)))
    )
    yield* Effect.yieldNow
    const { client } = answering(stream(events))
    const paced = yield* PacedHttpClient.make(client, {
      profile: profile === undefined ? undefined : ProviderProfile.named(profile)
    })
    const response = yield* finish(paced.execute(request))
    yield* Stream.runDrain(response.stream)
    yield* Effect.yieldNow
    yield* Fiber.interrupt(listening)
    const settled = heard.find((event) => event._tag === "CallSettled")
    const [record] = yield* telemetry.usage
    return { failure: settled?._tag === "CallSettled" ? settled.failure : undefined, record }
  })

  it.effect("books the input that its first event tells and the output that its last one tells", () =>
    Effect.gen(function*() {
      const middle = Array.from({ length: 2_000 }, () => `data: {"type":"content_block_delta","delta":{"text":"word"}}`)
      const { failure, record } = yield* drained([
        `event: message_start\ndata: ${
          JSON.stringify({
            type: "message_start",
            message: { usage: { input_tokens: 7, cache_read_input_tokens: 100, output_tokens: 1 } }
          })
        }`,
        ...middle,
        `event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":42}}`
      ], "anthropic")
      assert.include(record, { inputTokens: 107, outputTokens: 42 })
      assert.isNull(failure)
    }).pipe(Effect.provide(persistent)))

  it.effect("books its usage wherever the last part that is kept of it begins", () =>
    Effect.gen(function*() {
      for (const padding of [0, 1, 7, 100, 163, 164, 165, 327]) {
        const chunk = `data: {"choices":[{"delta":{"content":"${"x".repeat(280)}"}}],"usage":null}`
        const first = `data: {"padding":"${"x".repeat(padding)}"}`
        const { record } = yield* Effect.provide(
          drained([
            first,
            ...Array.from({ length: 400 }, () => chunk),
            `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":77}}`,
            "data: [DONE]"
          ]),
          Layer.fresh(persistent)
        )
        assert.include(record, { inputTokens: 3, outputTokens: 77 }, `${padding}`)
      }
    }).pipe(Effect.provide(persistent)))

  it.effect("is settled with the reason of an error that came within it, named or not", () =>
    Effect.gen(function*() {
      const first = `data: {"choices":[{"delta":{"content":"Hi"}}]}`
      const unnamed = yield* drained([first, `data: {"error":{"message":"x","type":"server_error"}}`, "data: [DONE]"])
      assert.strictEqual(unnamed.failure, "ServerError")
      const named = yield* Effect.provide(
        drained([first, `event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}`]),
        Layer.fresh(persistent)
      )
      assert.strictEqual(named.failure, "Overloaded")
    }).pipe(Effect.provide(persistent)))
})

describe("the events of an answer", () => {
  const read = (parts: ReadonlyArray<string>) => {
    const bytes = parts.map((part) => new TextEncoder().encode(part))
    const body = new ReadableStream({
      start: (controller) => {
        for (const part of bytes) controller.enqueue(part)
        controller.close()
      }
    })
    const events = PacedHttpClient.events(HttpClientResponse.fromWeb(request, new Response(body)))
    const seen: Array<string> = []
    const drained = Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event.data)))
    return Effect.map(Effect.exit(drained), (exit) => ({ seen, error: Exit.findErrorOption(exit) }))
  }
  const failure = `event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n`

  it.effect("are told one by one, however they were cut, with comments left out", () =>
    Effect.gen(function*() {
      const { error, seen } = yield* read([
        "da",
        "ta: 1\n\n: keep-alive\n\nretry: 5\n\ndata",
        ": 2\n",
        "\ndata: [DONE]\n\n"
      ])
      assert.deepStrictEqual(seen, ["1", "2", "[DONE]"])
      assert.isTrue(error._tag === "None")
    }))

  it.effect("are one where a server that was asked for a stream gives the whole", () =>
    Effect.gen(function*() {
      const events = PacedHttpClient.events(HttpClientResponse.fromWeb(request, Response.json(answer)))
      const seen = yield* Stream.runCollect(Stream.map(events, (event) => JSON.parse(event.data)))
      assert.deepStrictEqual(Array.from(seen), [answer])
    }))

  it.effect("are told to the last, though no blank line ends it", () =>
    Effect.gen(function*() {
      const { error, seen } = yield* read([`data: 1\n\ndata: {"error":{"type":"server_error"}}`])
      assert.deepStrictEqual(seen, ["1"])
      assert.isTrue(error._tag === "Some")
    }))

  it.effect("are a typed error where the answer is a refusal and no stream", () =>
    Effect.gen(function*() {
      for (const init of [{ status: 429 }, { status: 200 }]) {
        const answered = Response.json({ error: { type: "rate_limit_exceeded", message: "slow down" } }, init)
        const events = PacedHttpClient.events(HttpClientResponse.fromWeb(request, answered))
        const error = yield* Effect.flip(Stream.runDrain(events))
        assert.strictEqual(error._tag === "ApiError" && error.reason._tag, "RateLimited")
      }
    }))

  it.effect("end with a typed error at the one that carries it, after those that came before", () =>
    Effect.gen(function*() {
      const late = yield* read([`data: {"choices":[]}\n\n${failure}data: lost\n\n`])
      assert.deepStrictEqual(late.seen, [`{"choices":[]}`])
      const error = late.error._tag === "Some" ? late.error.value : undefined
      assert.strictEqual(error?._tag, "ApiError")
      assert.deepInclude(error?._tag === "ApiError" ? error.reason : {}, {
        _tag: "Overloaded",
        midStream: true,
        retryable: false
      })
      const early = yield* read([`data: {"error":{"message":"x","type":"server_error"}}\n\n`])
      const first = early.error._tag === "Some" ? early.error.value : undefined
      assert.isTrue(first?._tag === "ApiError" && first.reason.retryable)
    }))
})

describe("what counts against a limit of tokens", () => {
  const cost = { requests: 1, inputTokens: 100, outputTokens: 1_000 }
  const charged = (name: string, used: ProviderProfile.Usage) => ProviderProfile.named(name)!.charged(cost, used)

  it("is what was used, less what came from a cache where that is free", () => {
    const used = { inputTokens: 120, cachedInputTokens: 80, outputTokens: 30 }
    assert.deepStrictEqual(charged("together", used), { inputTokens: 120, outputTokens: 30 })
    assert.deepStrictEqual(charged("anthropic", used), { inputTokens: 40, outputTokens: 30 })
    assert.deepStrictEqual(charged("groq", { inputTokens: 5, cachedInputTokens: 9 }), { inputTokens: 0 })
  })

  it("is what was reserved, where the provider never corrects it", () => {
    assert.deepStrictEqual(charged("azure-openai", { inputTokens: 1, outputTokens: 1 }), {
      inputTokens: 100,
      outputTokens: 1_000
    })
  })

  it("is reserved as the provider reckons a bound", () => {
    const body = { messages: [{ content: "x".repeat(400) }], max_tokens: 1_000 }
    const reserved = (name: string) => ProviderProfile.named(name)!.cost(body)
    assert.deepStrictEqual(reserved("together"), { requests: 1, inputTokens: 100, outputTokens: 1_000 })
    assert.deepStrictEqual(reserved("openai"), { requests: 1, inputTokens: 100, outputTokens: 900 })
    assert.deepStrictEqual(reserved("anthropic"), { requests: 1, inputTokens: 100, outputTokens: 256 })
    assert.deepStrictEqual(
      ProviderProfile.named("google-gemini")!.cost({
        contents: [{ parts: [{ text: "x".repeat(400) }] }],
        generationConfig: { maxOutputTokens: 50 }
      }),
      { requests: 1, inputTokens: 100, outputTokens: 50 }
    )
  })
})
