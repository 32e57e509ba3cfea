import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestConsole from "effect/testing/TestConsole"
import * as Net from "node:net"
import { providerCommand, readFlags } from "../src/cli/provider.ts"
import { UserError } from "../src/cli/UserError.ts"
import * as EchoBackend from "../src/echo/EchoBackend.ts"

interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** A request over a real socket; what goes wrong on the way is the error's code. */
const request = (url: string, init: RequestInit = {}): Effect.Effect<Reply, string> =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(url, { signal, ...init })
      return { status: response.status, headers: response.headers, text: await response.text() }
    },
    catch: (error) => codeOf(error)
  })

const codeOf = (error: unknown): string => {
  const cause = error instanceof Error ? error.cause : undefined
  const { code } = (cause ?? {}) as { readonly code?: string }
  return code ?? String(error)
}

const body = (content: string, rest: object = {}) =>
  JSON.stringify({ model: "m", messages: [{ role: "user", content }], ...rest })

const ask = (provider: { readonly url: string }, content = "hi", init: RequestInit = {}) =>
  request(`${provider.url}/chat/completions`, { method: "POST", body: body(content), ...init })

const errorOf = (reply: Reply) => JSON.parse(reply.text).error

const limitHeaders = (reply: Reply): Array<string> =>
  Array.from(reply.headers.keys()).filter((name) => /limit|retry/.test(name)).sort()

/** One call each ten seconds, so that the second call is refused. */
const slow = { floorPerSecond: 0.1, ceilingPerSecond: 0.1, latencyMillis: 0 } satisfies EchoProvider.Options

/** Never in the way. */
const fast = { floorPerSecond: 1000, ceilingPerSecond: 1000, latencyMillis: 0 } satisfies EchoProvider.Options

describe("EchoProvider", () => {
  it.live("answers a chat, and counts it", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...fast, latencyMillis: 30 })
      const start = performance.now()
      const reply = yield* ask(provider, "hello you")
      assert.isAtLeast(performance.now() - start, 29)
      assert.strictEqual(reply.status, 200)
      assert.strictEqual(reply.headers.get("content-type"), "application/json")
      const answer = JSON.parse(reply.text)
      assert.strictEqual(answer.choices[0].message.content, "hello you")
      assert.deepStrictEqual(answer.usage, { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 })
      assert.approximately(answer.created, Date.now() / 1000, 5)
      const stats = yield* provider.stats
      assert.strictEqual(stats.served, 1)
      assert.deepStrictEqual(JSON.parse((yield* request(`http://127.0.0.1:${provider.port}/-/stats`)).text), stats)
    }))

  it.live("streams a chat as server-sent events", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make(fast)
      const reply = yield* ask(provider, "", { body: body("hello you", { stream: true }) })
      assert.strictEqual(reply.headers.get("content-type"), "text/event-stream;charset=utf-8")
      const frames = reply.text.split("\n\n")
      assert.deepStrictEqual(frames.slice(-2), ["data: [DONE]", ""])
      const chunks = frames.slice(0, -2).map((frame) => JSON.parse(frame.slice("data: ".length)))
      assert.strictEqual(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "hello you")
      assert.strictEqual(chunks.at(-1).usage.total_tokens, 6)
    }))

  it.live("embeds, and lists its models", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...fast, models: ["small", "large"] })
      const embedded = yield* request(`${provider.url}/embeddings`, {
        method: "POST",
        body: JSON.stringify({ model: "small", input: ["a", "b", "a"] })
      })
      const { data } = JSON.parse(embedded.text)
      assert.strictEqual(data.length, 3)
      assert.deepStrictEqual(data[0].embedding, data[2].embedding)
      assert.notDeepEqual(data[0].embedding, data[1].embedding)
      const models = JSON.parse((yield* request(`${provider.url}/models`)).text)
      assert.deepStrictEqual(models.data.map((model: { id: string }) => model.id), ["small", "large"])
      const unknown = yield* ask(provider)
      assert.strictEqual(unknown.status, 404)
      assert.deepStrictEqual(errorOf(unknown), {
        message: "The model `m` does not exist",
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found"
      })
    }))

  it.live("refuses with 429 above the limit, each organisation and model for itself", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make(slow)
      const as = (key: string) => ask(provider, "hi", { headers: { authorization: `Bearer ${key}` } })
      assert.strictEqual((yield* as("one")).status, 200)
      const refused = yield* as("one")
      assert.strictEqual(refused.status, 429)
      assert.strictEqual(JSON.parse(refused.text).error_type, "dynamic_request_limited")
      assert.strictEqual(errorOf(refused).type, "dynamic_request_limited")
      assert.strictEqual(refused.headers.get("retry-after"), "10")
      assert.strictEqual((yield* as("two")).status, 200)
      assert.strictEqual((yield* ask(provider, "", { body: body("hi", { model: "other" }) })).status, 200)
      const stats = yield* provider.stats
      assert.deepStrictEqual([stats.served, stats.refused429, stats.keys.length], [3, 1, 3])
      assert.notInclude(JSON.stringify(stats), "one")
    }))

  it.live("limits tokens when told", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...fast, tokensPerSecond: 10 })
      const first = yield* ask(provider, "x".repeat(40))
      assert.strictEqual(first.status, 200)
      assert.strictEqual(first.headers.get("x-tokenlimit-limit"), "10")
      assert.strictEqual(errorOf(yield* ask(provider, "x".repeat(40))).type, "dynamic_token_limited")
    }))

  it.live("tells its limit as the header mode says", () =>
    Effect.gen(function*() {
      const full = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
      const expected = {
        "all": [full, ["retry-after", ...full]],
        "success": [full, []],
        "reset-on-429": [[], ["x-ratelimit-reset"]],
        "none": [[], []]
      } as const
      for (const [headers, told] of Object.entries(expected) as Array<[keyof typeof expected, unknown]>) {
        const provider = yield* EchoProvider.make({ ...slow, headers })
        const replies = [yield* ask(provider), yield* ask(provider)]
        assert.deepStrictEqual(replies.map((reply) => reply.status), [200, 429])
        assert.deepStrictEqual(replies.map(limitHeaders), told as Array<Array<string>>, headers)
        if (headers === "reset-on-429") assert.strictEqual(replies[1]?.headers.get("x-ratelimit-reset"), "10")
      }
    }))

  it.live("tells the limit per minute when told, and limits per second all the same", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...slow, unit: "minute" })
      assert.strictEqual((yield* ask(provider)).headers.get("x-ratelimit-limit"), "6")
      assert.strictEqual((yield* ask(provider)).status, 429)
    }))

  it.live("refuses with 503 when the platform is short, as a fault and in a scenario", () =>
    Effect.gen(function*() {
      const scenario = Scenario.make({ platform: { overloadProbability: 1 } })
      const options = [{ ...fast, faults: [{ kind: "503", probability: 1 }] }, { ...fast, scenario }] as const
      for (const one of options) {
        const provider = yield* EchoProvider.make(one)
        const reply = yield* ask(provider)
        assert.strictEqual(reply.status, 503)
        assert.strictEqual(errorOf(reply).type, "overloaded")
        assert.deepStrictEqual(limitHeaders(reply), ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"])
        const stats = yield* provider.stats
        assert.deepStrictEqual([stats.served, stats.refused503, stats.inFlight], [0, 1, 0])
      }
    }))

  it.live("fails as told, each kind of fault in its own way", () =>
    Effect.gen(function*() {
      const failing = (kind: "500" | "html" | "reset" | "truncate") =>
        EchoProvider.make({ ...fast, faults: [{ kind, probability: 1 }] })
      const server = yield* failing("500")
      const error = yield* ask(server)
      assert.strictEqual(error.status, 500)
      assert.strictEqual(errorOf(error).type, "server_error")
      const page = yield* ask(yield* failing("html"))
      assert.strictEqual(page.status, 502)
      assert.strictEqual(page.headers.get("content-type"), "text/html")
      assert.include(page.text, "<html>")
      assert.strictEqual(yield* Effect.flip(ask(yield* failing("reset"))), "ECONNRESET")
      const truncating = yield* failing("truncate")
      const half = yield* Effect.promise(async () => {
        const response = await fetch(`${truncating.url}/chat/completions`, { method: "POST", body: body("hi") })
        let bytes = 0
        try {
          for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) bytes += chunk.length
          return "whole"
        } catch {
          return { status: response.status, part: bytes / Number(response.headers.get("content-length")) }
        }
      })
      assert.notStrictEqual(half, "whole")
      assert.deepInclude(half, { status: 200 })
      assert.approximately((half as { part: number }).part, 0.5, 0.01)
      assert.strictEqual((yield* server.stats).faults["500"], 1)
      assert.strictEqual((yield* truncating.stats).faults.truncate, 1)
      assert.strictEqual((yield* truncating.stats).served, 0)
      assert.strictEqual(
        yield* Effect.flip(ask(truncating, "", { body: body("hi", { stream: true }) })),
        "UND_ERR_SOCKET"
      )
    }))

  it.live("draws the same faults from the same seed", () =>
    Effect.gen(function*() {
      const run = Effect.fnUntraced(function*(seed: number) {
        const provider = yield* EchoProvider.make({ ...fast, seed, faults: [{ kind: "500", probability: 0.5 }] })
        return yield* Effect.forEach(
          Array.from({ length: 40 }),
          () => Effect.map(ask(provider), (reply) => reply.status)
        )
      })
      const first = yield* run(7)
      assert.deepStrictEqual(yield* run(7), first)
      assert.notDeepEqual(yield* run(8), first)
      assert.sameMembers(Array.from(new Set(first)), [200, 500])
    }))

  it.live("is away in an outage, and back on the same port after it", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({
        ...fast,
        latencyMillis: 400,
        outages: [{ fromSeconds: 0.2, toSeconds: 0.7 }]
      })
      const caught = yield* Effect.flip(ask(provider))
      assert.include(["ECONNRESET", "UND_ERR_SOCKET"], caught)
      assert.strictEqual(yield* Effect.flip(ask(provider)), "ECONNREFUSED")
      yield* Effect.sleep("700 millis")
      assert.strictEqual((yield* ask(provider)).status, 200)
      // The call whose client was cut off was worked on to its end.
      assert.strictEqual((yield* provider.stats).served, 2)
    }))

  it.live("finishes the work of a client that left", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...fast, latencyMillis: 150 })
      const fiber = yield* Effect.forkChild(ask(provider))
      yield* Effect.sleep("75 millis")
      assert.strictEqual((yield* provider.stats).inFlight, 1)
      yield* Fiber.interrupt(fiber)
      yield* Effect.sleep("200 millis")
      const stats = yield* provider.stats
      assert.deepStrictEqual([stats.served, stats.inFlight], [1, 0])
    }))

  it.live("takes only the right key when it has one", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make({ ...fast, apiKey: Redacted.make("secret") })
      const as = (headers: HeadersInit) => ask(provider, "hi", { headers })
      assert.strictEqual((yield* as({ authorization: "Bearer secret" })).status, 200)
      for (const headers of [{}, { authorization: "Bearer secretly" }, { authorization: "Basic secret" }]) {
        const reply = yield* as(headers)
        assert.strictEqual(reply.status, 401)
        assert.strictEqual(errorOf(reply).code, "invalid_api_key")
      }
      assert.strictEqual((yield* request(`${provider.url}/models`)).status, 401)
    }))

  it.live("turns away what it cannot read, without a charge", () =>
    Effect.gen(function*() {
      const provider = yield* EchoProvider.make(slow)
      const broken = yield* ask(provider, "", { body: "{\"model\":" })
      assert.strictEqual(broken.status, 400)
      assert.strictEqual(errorOf(broken).type, "invalid_request_error")
      assert.strictEqual(errorOf(yield* ask(provider, "", { body: "{}" })).param, "model")
      const large = yield* ask(provider, "x".repeat(4 * 1024 * 1024))
      assert.strictEqual(large.status, 413)
      assert.strictEqual((yield* request(`${provider.url}/nowhere`)).status, 404)
      const wrongMethod = yield* request(`${provider.url}/chat/completions`)
      assert.strictEqual(wrongMethod.status, 405)
      assert.strictEqual(wrongMethod.headers.get("allow"), "POST")
      const stats = yield* provider.stats
      assert.deepStrictEqual([stats.invalid, stats.served, stats.keys.length], [5, 0, 0])
      assert.strictEqual((yield* ask(provider)).status, 200)
    }))

  it.live("frees its port and leaves no socket when its scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const provider = yield* Scope.provide(EchoProvider.make({ ...fast, latencyMillis: 60_000 }), scope)
      const idle = Net.connect(provider.port, "127.0.0.1")
      const gone = new Promise<void>((resolve) => idle.once("close", () => resolve()))
      const waiting = yield* Effect.forkChild(Effect.flip(ask(provider)))
      yield* Effect.sleep("50 millis")
      const active = (kind: string) => process.getActiveResourcesInfo().filter((name) => name === kind).length
      const before = { timers: active("Timeout"), listeners: active("TCPServerWrap") }
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(active("Timeout"), before.timers)
      yield* Effect.promise(() => gone)
      yield* Effect.sleep("20 millis")
      assert.isBelow(active("TCPServerWrap"), before.listeners)
      assert.include(["ECONNRESET", "UND_ERR_SOCKET"], yield* Fiber.join(waiting))
      assert.strictEqual(yield* Effect.flip(ask(provider)), "ECONNREFUSED")
      const again = yield* EchoProvider.make({ ...fast, port: provider.port })
      assert.strictEqual((yield* ask(again)).status, 200)
    }))

  it.live("says so when its port is in use", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoProvider.make(fast)
      const error = yield* Effect.flip(EchoProvider.make({ port }))
      assert.strictEqual(error.reason, "PortInUse")
      assert.include(error.message, String(port))
    }))

  it.live("calls options that cannot be a programmer's mistake", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<EchoProvider.Options> = [
        { latencyMillis: -1 },
        { memorySeconds: 0 },
        { faults: [{ kind: "500", probability: 0.6 }, { kind: "503", probability: 0.6 }] },
        { faults: [{ kind: "500", probability: -1 }] },
        { outages: [{ fromSeconds: 2, toSeconds: 1 }] }
      ]
      for (const options of wrong) {
        const cause = yield* Effect.flip(Effect.sandbox(Effect.scoped(EchoProvider.make(options))))
        assert.instanceOf(Cause.squash(cause), RangeError, JSON.stringify(options))
      }
    }))
})

describe("EchoBackend", () => {
  /** A backend in which nothing ends before `run` is called. */
  const still = (options: Partial<EchoBackend.Options> = {}) => {
    const waiting: Array<{ readonly delayMillis: number; readonly run: () => void }> = []
    const backend = EchoBackend.make({
      scenario: Scenario.make(),
      headers: undefined,
      latencyMillis: 0,
      faults: [],
      models: undefined,
      apiKey: undefined,
      random: { fault: () => 0, overload: () => 0, service: () => 0 },
      nowSeconds: () => 0,
      unixSeconds: () => 0,
      after: (delayMillis, run) => void waiting.push({ delayMillis, run }),
      onStart: () => {},
      ...options
    })
    const call = (model: string) =>
      backend.call({ route: "chat", authorization: undefined, body: body("hi", { model }) }, () => {})
    return { backend, call, waiting }
  }

  it("keeps 10,000 limits, and lets go of the idle one that was used least recently", () => {
    const { backend, call, waiting } = still()
    call("busy")
    for (let index = 0; index < 10_000; index++) {
      call(`model ${index}`)
      waiting.pop()?.run()
    }
    const models = backend.stats().keys.map((key) => key.model)
    assert.strictEqual(models.length, 10_000)
    assert.include(models, "busy")
    assert.notInclude(models, "model 0")
    assert.include(models, "model 1")
  })

  it.effect("draws the service times of a scenario: lognormal, within bounds, per token where tokens are limited", () =>
    Effect.gen(function*() {
      const random = yield* Random.Random
      const service = () => random.nextDoubleUnsafe()
      const delaysOf = (tokens: Scenario.Written["tokens"]) => {
        const { call, waiting } = still({
          scenario: Scenario.make({ tokens: tokens ?? null }),
          latencyMillis: undefined,
          random: { fault: service, overload: service, service }
        })
        for (let index = 0; index < 2000; index++) call(`model ${index}`)
        return waiting.map(({ delayMillis }) => delayMillis).sort((a, b) => a - b)
      }
      const requests = delaysOf(null)
      assert.approximately(requests[1000] ?? 0, 1500, 100)
      // One standard deviation up: the median times e to the power of 0.6.
      assert.approximately(requests[1682] ?? 0, 2733, 200)
      assert.isAtLeast(requests[0] ?? 0, 200)
      assert.isAtMost(requests.at(-1) ?? 0, 20_000)
      assert.approximately(delaysOf({ floorPerSecond: 1000, ceilingPerSecond: 1000 })[1000] ?? 0, 412, 20)
    }).pipe(Random.withSeed("service")))
})

describe("evenkeel provider", () => {
  const run = (...args: ReadonlyArray<string>) => Command.runWith(providerCommand, { version: "0" })(args)

  it.live("prints its URL, serves, and says what it served when it is interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(run("--latency", "0", "--floor", "50", "--fault", "500=0", "--port", "0"))
      yield* Effect.sleep("200 millis")
      const [line = "", rules] = (yield* TestConsole.logLines).map(String)
      const url = /^Evenkeel provider on (http:\/\/127\.0\.0\.1:\d+\/v1)$/.exec(line)?.[1]
      assert.isDefined(url, line)
      assert.match(String(rules), /^floor 50\/s, ceiling 100\/s/)
      assert.strictEqual((yield* ask({ url })).status, 200)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* TestConsole.logLines).at(-1), "Served 1, refused 0 with 429 and 0 with 503")
      assert.strictEqual(yield* Effect.flip(ask({ url })), "ECONNREFUSED")
    }).pipe(Effect.provide([TestConsole.layer, NodeServices.layer])))

  it.live("meets every mistake with one line that names the flag, and status 2", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoProvider.make()
      const mistakes: Record<string, ReadonlyArray<string>> = {
        "port": ["x", "70000", "1.5", "-1", String(port)],
        "floor": ["0", "-1", "1e3", "300", ""],
        "memory": ["0"],
        "latency": ["fast"],
        "seed": ["0.5"],
        "headers": ["some"],
        "unit": ["hour"],
        "fault": ["503", "503=2", "teapot=0.1", "500=0.1=2"],
        "outage": ["5", "5-1", "1-2-3"],
        "scenario": ["/nowhere/at/all.json", import.meta.filename],
        "api-key-env": ["EVENKEEL_NO_SUCH_VARIABLE"]
      }
      for (const [flag, values] of Object.entries(mistakes)) {
        for (const value of values) {
          const error = yield* Effect.flip(run(`--${flag}`, value))
          if (!(error instanceof UserError)) return assert.fail(`${flag} ${value}: ${error.message}`)
          assert.strictEqual(error.exitCode, 2)
          assert.isTrue(error.message.startsWith(`--${flag}: `), error.message)
          assert.notInclude(error.message, "\n")
        }
      }
    }).pipe(Effect.provide([TestConsole.layer, NodeServices.layer])))

  it.live("lets flags override the scenario", () =>
    Effect.gen(function*() {
      const options = yield* readFlags({
        ...nothingTyped,
        ceiling: Option.some("7"),
        fault: ["503=0.1", "reset=0.2"],
        outage: ["1-2.5"],
        model: ["m"]
      })
      const scenario = Scenario.make({ dynamicRate: { ceilingPerSecond: 3, cushion: 1.5 }, headers: { units: 60 } })
      const resolved = EchoProvider.scenarioOf({ ...options, scenario })
      assert.deepStrictEqual(resolved.dynamicRate.ceilingPerSecond, [[0, 7]])
      assert.strictEqual(resolved.dynamicRate.cushion, 1.5)
      assert.strictEqual(resolved.headers.units, 60)
      assert.deepStrictEqual(options.faults, [
        { kind: "503", probability: 0.1 },
        { kind: "reset", probability: 0.2 }
      ])
      assert.deepStrictEqual(options.outages, [{ fromSeconds: 1, toSeconds: 2.5 }])
      assert.deepStrictEqual(options.models, ["m"])
    }).pipe(Effect.provide(NodeServices.layer)))
})

const none = Option.none<string>()

const nothingTyped = {
  port: none,
  floor: none,
  ceiling: none,
  cushion: none,
  memory: none,
  burst: none,
  buffer: none,
  latency: none,
  tokens: none,
  seed: none,
  scenario: none,
  headers: none,
  unit: none,
  fault: [],
  outage: [],
  model: [],
  apiKeyEnv: none
}
