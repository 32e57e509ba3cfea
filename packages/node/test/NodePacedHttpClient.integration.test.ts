import { assert, describe, it } from "@effect/vitest"
import type * as ApiError from "@evenkeel/core/ApiError"
import * as CallScheduler from "@evenkeel/core/CallScheduler"
import * as Pace from "@evenkeel/core/Pace"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import { PaceError } from "@evenkeel/core/PaceError"
import * as Pacer from "@evenkeel/core/Pacer"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as NodePacedHttpClient from "@evenkeel/node/NodePacedHttpClient"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

const open = { floorPerSecond: 1000, ceilingPerSecond: 1000, latencyMillis: 5 }

/** A paced client over a pacer of its own, with that pacer's telemetry. */
const client = (options?: NodePacedHttpClient.Options, idleAfter?: string) => {
  const pacer = Layer.effect(Pacer.Pacer, Pacer.make({ idleAfter: idleAfter as "1 second" | undefined })).pipe(
    Layer.provide(PaceStore.layerMemory()),
    Layer.provideMerge(Telemetry.layer)
  )
  return Layer.provideMerge(NodePacedHttpClient.layer(options), pacer)
}

/** Nothing but the provider holds anything back. */
const unpaced = Effect.provideService(RateController.Current, RateController.fixed({}))

const perSecond = (rate: number) =>
  Effect.provideService(RateController.Current, RateController.fixed({ requests: Pace.rate(rate) }))

const chat = (provider: { readonly url: string }, content = "hi there", rest: object = {}) =>
  HttpClientRequest.post(`${provider.url}/chat/completions`).pipe(
    HttpClientRequest.bodyText(
      JSON.stringify({ model: "m", messages: [{ role: "user", content }], ...rest }),
      "application/json"
    )
  )

const snapshot = Effect.map(Effect.flatMap(Pacer.Pacer, (pacer) => pacer.snapshot), ({ keys }) => keys[0]!)

const usage = Effect.map(Effect.flatMap(Telemetry.Telemetry, (telemetry) => telemetry.usage), (records) => records[0]!)

const settled = Effect.gen(function*() {
  while ((yield* snapshot).inFlight > 0) yield* Effect.sleep(10)
})

describe("NodePacedHttpClient", () => {
  it.live("holds a place until a stream of events has ended, and books what its last event tells", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make(open)
      yield* Effect.gen(function*() {
        const response = yield* HttpClient.execute(chat(provider, "one two three", { stream: true }))
        assert.strictEqual(response.status, 200)
        assert.strictEqual((yield* snapshot).inFlight, 1)
        const text = yield* Stream.mkString(Stream.decodeText(response.stream))
        assert.match(text, /data: \[DONE\]\n\n$/)
        const key = yield* snapshot
        assert.strictEqual(key.inFlight, 0)
        assert.strictEqual(key.counts.accepted, 1)
        const told = /"usage":(\{[^}]*\})/.exec(text)?.[1] ?? "{}"
        const { completion_tokens: outputTokens, prompt_tokens: inputTokens } = JSON.parse(told)
        assert.isAbove(outputTokens, 0)
        assert.deepInclude(yield* usage, { attempts: 1, accepted: 1, inputTokens, outputTokens, wastedTokens: 0 })
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("leaves the other ways to read a body as they are, and books their usage", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      yield* Effect.gen(function*() {
        const json = yield* HttpClient.execute(chat(provider))
        assert.deepInclude((yield* json.json) as object, { id: "chatcmpl-0" })
        const text = yield* HttpClient.execute(chat(provider))
        assert.match(yield* text.text, /"chatcmpl-1"/)
        // Read again, it is the same, and settles nothing twice.
        assert.match(yield* text.text, /"chatcmpl-1"/)
        const buffer = yield* HttpClient.execute(chat(provider))
        assert.isAbove((yield* buffer.arrayBuffer).byteLength, 10)
        assert.strictEqual(buffer.headers["x-request-id"], "fake-2")
        assert.strictEqual((yield* snapshot).inFlight, 0)
        assert.deepInclude(yield* usage, { attempts: 3, inputTokens: 9, outputTokens: 15 })
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("gives the place back when a body is read only in part", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(() => ({ chunks: ["data: {}\n\n"], open: true }))
      yield* Effect.gen(function*() {
        const partial = yield* HttpClient.execute(chat(provider))
        yield* Stream.runDrain(Stream.take(partial.stream, 1))
        assert.strictEqual((yield* snapshot).inFlight, 0)
        const interrupted = yield* HttpClient.execute(chat(provider))
        const reading = yield* Effect.forkChild(Stream.runDrain(interrupted.stream))
        yield* Effect.sleep(50)
        assert.strictEqual((yield* snapshot).inFlight, 1)
        yield* Fiber.interrupt(reading)
        assert.strictEqual((yield* snapshot).inFlight, 0)
        // The connections are gone as well.
        yield* CommandLine.until(() => provider.inFlight() === 0)
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("gives the place back of a body that nobody reads, and of one that has none", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) =>
        seen.number === 0 ? { status: 204, headers: { "content-length": "0" } } : FakeProvider.answered(seen)
      )
      yield* Effect.gen(function*() {
        yield* HttpClient.execute(chat(provider))
        assert.strictEqual((yield* snapshot).inFlight, 0)
        yield* HttpClient.execute(chat(provider))
        assert.strictEqual((yield* snapshot).inFlight, 1)
        yield* settled
      }).pipe(Effect.provide(client(undefined, "200 millis")), unpaced)
    }))

  it.live("interrupted while it waits or is sent, leaves nothing behind", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(() => ({ hang: true }))
      yield* Effect.gen(function*() {
        const calls = yield* Effect.forkChild(Effect.all(
          Array.from({ length: 3 }, () => HttpClient.execute(chat(provider))),
          { concurrency: "unbounded" }
        ))
        yield* CommandLine.until(() => provider.seen.length === 1)
        assert.deepInclude(yield* snapshot, { inFlight: 1, waiting: 2 })
        yield* Fiber.interrupt(calls)
        assert.deepInclude(yield* snapshot, { inFlight: 0, waiting: 0, backingOff: 0 })
        yield* CommandLine.until(() => provider.inFlight() === 0)
      }).pipe(Effect.provide(client()), perSecond(0.1))
    }))

  it.live("tries refusals again, and returns the last one as the response that it was", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) =>
        seen.number === 1
          ? FakeProvider.answered(seen)
          : FakeProvider.refusal(429, { message: "slow down" }, { "retry-after": "0.1" })
      )
      yield* Effect.gen(function*() {
        assert.strictEqual((yield* HttpClient.execute(chat(provider))).status, 200)
        const refused = yield* HttpClient.execute(chat(provider))
        assert.strictEqual(refused.status, 429)
        assert.match(yield* refused.text, /slow down/)
        assert.strictEqual(provider.seen.length, 2 + 2)
        assert.strictEqual((yield* snapshot).counts.limited, 3)
      }).pipe(
        Effect.provide(client()),
        unpaced,
        Effect.provideService(RetryPolicy.Current, { ...RetryPolicy.standard, maxRefusals: 1 })
      )
    }))

  it.live("does not send again what may have run, unless that is harmless", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) =>
        seen.number % 2 === 0 ? { reset: true } : FakeProvider.answered(seen)
      )
      yield* Effect.gen(function*() {
        const error = yield* Effect.flip(HttpClient.execute(chat(provider)))
        assert.strictEqual(error._tag, "HttpClientError")
        assert.strictEqual(provider.seen.length, 1)
        yield* HttpClient.execute(chat(provider))
        const harmless = HttpClient.execute(chat(provider)).pipe(
          Effect.provideService(PacedHttpClient.CurrentCall, { idempotent: true })
        )
        assert.strictEqual((yield* harmless).status, 200)
        assert.strictEqual((yield* HttpClient.get(`${provider.url}/models`)).status, 200)
        assert.strictEqual(provider.seen.length, 6)
        assert.strictEqual((yield* snapshot).counts.possiblyBilledTwice, 1)
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("reads a whole body within the paced call when told to, so that half of one is tried again", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) =>
        seen.number === 0
          ? { headers: { "content-type": "application/json" }, body: `{"half":` }
          : seen.number === 1
          ? { headers: { "content-length": "999" }, body: { half: 1 }, reset: false }
          : FakeProvider.answered(seen)
      )
      yield* Effect.gen(function*() {
        const response = yield* HttpClient.execute(chat(provider)).pipe(
          Effect.provideService(PacedHttpClient.CurrentCall, { idempotent: true })
        )
        assert.deepInclude((yield* response.json) as object, { id: "chatcmpl-2" })
        assert.deepInclude(yield* snapshot, { inFlight: 0 })
        assert.deepInclude(yield* usage, { attempts: 3 })
      }).pipe(Effect.provide(client({ body: "buffer", timeout: "2 seconds" })), unpaced)
    }))

  it.live("ends an attempt at its timeout", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(() => ({ hang: true }))
      yield* Effect.gen(function*() {
        const error = yield* Effect.flip(HttpClient.execute(chat(provider)))
        assert.match(String(error), /no answer within the timeout/)
        assert.deepInclude(yield* snapshot, { inFlight: 0 })
        assert.strictEqual((yield* snapshot).counts.unknown, 1)
        yield* CommandLine.until(() => provider.inFlight() === 0)
      }).pipe(Effect.provide(client({ timeout: "200 millis" })), unpaced)
    }))

  it.live("takes a connection that was never made for short capacity, and tries again", () =>
    Effect.gen(function*() {
      const { url } = yield* Effect.scoped(FakeProvider.make(FakeProvider.answered))
      yield* Effect.gen(function*() {
        const error = yield* Effect.flip(HttpClient.execute(chat({ url })))
        assert.strictEqual(error._tag, "HttpClientError")
        const { counts, inFlight } = yield* snapshot
        assert.strictEqual(inFlight, 0)
        assert.deepInclude(counts, { attempts: 2, overloaded: 2, unknown: 0, possiblyBilledTwice: 0 })
      }).pipe(
        Effect.provide(client()),
        unpaced,
        Effect.provideService(RetryPolicy.Current, { ...RetryPolicy.standard, maxFailures: 0, maxRefusals: 1 })
      )
    }))

  it.live("knows a TLS connection that was never made from one that broke", () =>
    Effect.gen(function*() {
      const plain = yield* FakeProvider.make(FakeProvider.answered)
      const dropping = yield* closingServer
      yield* Effect.gen(function*() {
        for (const port of [plain.port, dropping]) {
          yield* Effect.flip(HttpClient.execute(chat({ url: `https://127.0.0.1:${port}` })))
        }
        yield* Effect.flip(HttpClient.execute(chat({ url: `http://127.0.0.1:${dropping}` })))
        const { keys } = yield* Effect.flatMap(Pacer.Pacer, (pacer) => pacer.snapshot)
        assert.deepStrictEqual(keys.map(({ counts }) => [counts.overloaded, counts.unknown]), [[1, 0], [1, 0], [0, 1]])
      }).pipe(Effect.provide(client()), unpaced, Effect.provideService(RetryPolicy.Current, RetryPolicy.never))
    }))

  it.live("fails with what kept a call from being sent, typed by `make` and as a cause in `layer`", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const now = Effect.provideService(PacedHttpClient.CurrentCall, { startWithin: 0 })
      yield* Effect.gen(function*() {
        yield* HttpClient.execute(chat(provider))
        const wrapped = yield* Effect.flip(now(HttpClient.execute(chat(provider))))
        const cause = wrapped.reason.cause
        assert.instanceOf(cause, PaceError)
        assert.strictEqual(cause.reason._tag, "TooLate")
        assert.match(wrapped.message, /not sent: it could not start by its deadline/)
        const typed = yield* PacedHttpClient.make(yield* HttpClient.HttpClient)
        const error = yield* Effect.flip(now(typed.execute(chat(provider))))
        assert.strictEqual(error._tag, "PaceError")
        assert.strictEqual(provider.seen.length, 1)
        assert.strictEqual((yield* snapshot).counts.unsent, 2)
      }).pipe(Effect.provide(client()), perSecond(0.01))
    }))

  it.live("makes refusals typed errors for who wants them", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) =>
        seen.number === 0
          ? FakeProvider.answered(seen)
          : FakeProvider.refusal(400, { message: "no such parameter", type: "invalid_request_error", code: "bad" })
      )
      yield* Effect.gen(function*() {
        const strict = PacedHttpClient.failRefusals(yield* HttpClient.HttpClient)
        assert.strictEqual((yield* strict.execute(chat(provider))).status, 200)
        const error = (yield* Effect.flip(strict.execute(chat(provider)))) as ApiError.ApiError
        assert.strictEqual(error._tag, "ApiError")
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.deepInclude(error.reason, { status: 400, message: "no such parameter", code: "bad" })
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("lets calls of a higher priority go first", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      yield* Effect.gen(function*() {
        const send = (content: string, priority: number) =>
          HttpClient.execute(chat(provider, content)).pipe(
            Effect.provideService(PacedHttpClient.CurrentCall, { priority })
          )
        yield* Effect.all([send("a", 0), send("b", 0), send("c", 0), send("urgent", 9)], { concurrency: "unbounded" })
        assert.deepStrictEqual(
          provider.seen.map(({ body }) => body.messages[0].content),
          ["a", "urgent", "b", "c"]
        )
      }).pipe(
        Effect.provide(client()),
        perSecond(10),
        Effect.provideService(CallScheduler.Current, CallScheduler.priority())
      )
    }))

  it.live("paces each credential and each model for itself, and shows no secret", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      yield* Effect.gen(function*() {
        const as = (secret: string, model: string) =>
          HttpClient.execute(HttpClientRequest.bearerToken(chat(provider, "hi", { model }), secret))
        yield* as("sk-one", "a")
        yield* as("sk-two", "a")
        yield* as("sk-one", "b")
        yield* as("sk-one", "a")
        const { keys } = yield* Effect.flatMap(Pacer.Pacer, (pacer) => pacer.snapshot)
        assert.deepStrictEqual(keys.map((key) => key.counts.calls), [2, 1, 1])
        const records = yield* Effect.flatMap(Telemetry.Telemetry, (telemetry) => telemetry.usage)
        assert.notInclude(JSON.stringify([keys, records]), "sk-")
        assert.strictEqual(provider.seen[0]?.headers.authorization, "Bearer sk-one")
      }).pipe(Effect.provide(client()), unpaced)
    }))

  it.live("follows no redirect", () =>
    Effect.gen(function*() {
      const elsewhere = yield* FakeProvider.make(FakeProvider.answered)
      const provider = yield* FakeProvider.make(() => ({ status: 302, headers: { location: elsewhere.url } }))
      for (const body of ["stream", "buffer", "json"] as const) {
        const response = yield* HttpClient.execute(chat(provider)).pipe(Effect.provide(client({ body })), unpaced)
        assert.strictEqual(response.status, 302)
      }
      assert.strictEqual(provider.seen.length, 3)
      assert.strictEqual(elsewhere.seen.length, 0)
    }))

  it.live("opens no more connections than maxConnections", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make((seen) => ({ ...FakeProvider.answered(seen), after: 50 }))
      const calls = Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.flatMap(HttpClient.execute(chat(provider)), (response) => response.text),
        { concurrency: "unbounded" }
      )
      yield* calls.pipe(Effect.provide(client({ maxConnections: 2 })), unpaced)
      assert.strictEqual(provider.mostInFlight(), 2)
      yield* calls.pipe(Effect.provide(client()), unpaced)
      assert.strictEqual(provider.mostInFlight(), 8)
    }))

  it.live("takes its options from the configuration", () =>
    Effect.gen(function*() {
      const provider = yield* FakeProvider.make(() => ({ hang: true }))
      const layer = Layer.provideMerge(NodePacedHttpClient.layerConfig, Pacer.layerMemory)
      const configured = (env: Record<string, string>) =>
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
      const organisation = yield* Effect.gen(function*() {
        yield* Effect.flip(HttpClient.execute(chat(provider)))
        return (yield* snapshot).organisation
      }).pipe(
        Effect.provide(layer),
        configured({ EVENKEEL_ORGANISATION: "acme", EVENKEEL_TIMEOUT: "100 millis", EVENKEEL_MAX_CONNECTIONS: "3" }),
        unpaced
      )
      assert.strictEqual(organisation, "acme")
      const wrong = yield* Effect.flip(
        HttpClient.HttpClient.pipe(Effect.provide(layer), configured({ EVENKEEL_MAX_CONNECTIONS: "many" }))
      )
      assert.strictEqual(wrong._tag, "ConfigError")
    }))
})

/** A server that closes each connection once something has come over it; its port. */
const closingServer = Effect.map(
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        socket.on("error", () => {})
        socket.once("data", () => socket.destroy())
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  ),
  (server) => (server.address() as Net.AddressInfo).port
)
