import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { afterEach, vi } from "vitest"
import * as Target from "../src/cli/Target.ts"

const read = (
  baseUrl?: string,
  rest: {
    readonly apiKeyEnv?: string
    readonly header?: ReadonlyArray<string>
    readonly provider?: string
  } = {}
) =>
  Target.read({
    baseUrl: Option.fromUndefinedOr(baseUrl),
    apiKeyEnv: Option.fromUndefinedOr(rest.apiKeyEnv),
    header: rest.header ?? [],
    provider: Option.fromUndefinedOr(rest.provider)
  })

const refusal = (...args: Parameters<typeof read>) =>
  Effect.map(Effect.flip(read(...args)), (error) => {
    assert.strictEqual(error.exitCode, 2)
    assert.notInclude(error.message, "sk-")
    assert.notInclude(error.message, "\n")
    return error.message
  })

describe("Target", () => {
  afterEach(() => void vi.unstubAllEnvs())

  it.effect("is Together with its own key unless told otherwise", () =>
    Effect.gen(function*() {
      vi.stubEnv("TOGETHER_API_KEY", "sk-one")
      assert.deepInclude(yield* read(), {
        baseUrl: "https://api.together.xyz/v1",
        headers: { authorization: "Bearer sk-one" },
        keyName: "TOGETHER_API_KEY"
      })
      assert.strictEqual((yield* read()).profile.name, "together")
    }))

  it.effect("sends Together's key to Together and to this machine, and to nobody else", () =>
    Effect.gen(function*() {
      vi.stubEnv("TOGETHER_API_KEY", "sk-one")
      for (
        const url of [
          "https://together.xyz/v1",
          "https://api.together.ai/v1",
          "https://a.b.together.xyz/v1",
          "http://127.0.0.1:1/v1",
          "http://127.9.9.9/v1",
          "http://localhost:1/v1",
          "http://[::1]:1/v1"
        ]
      ) assert.deepStrictEqual((yield* read(url)).headers, { authorization: "Bearer sk-one" }, url)
      for (
        const url of [
          "https://nottogether.xyz/v1",
          "https://together.xyz.evil.example/v1",
          "https://together.xyz@evil.example/v1",
          "https://localhost.evil.example/v1",
          "https://127.0.0.1.evil.example/v1",
          "https://0.0.0.0/v1",
          "https://api.openai.com/v1"
        ]
      ) assert.match(yield* refusal(url), /--api-key-env|--base-url/, url)
    }))

  it.effect("takes the key that is named, for any host, but never over plain http", () =>
    Effect.gen(function*() {
      vi.stubEnv("TOGETHER_API_KEY", "sk-one")
      vi.stubEnv("MINE", "sk-two")
      const named = { apiKeyEnv: "MINE" }
      assert.deepStrictEqual((yield* read("https://api.example/v1", named)).headers, { authorization: "Bearer sk-two" })
      assert.deepStrictEqual((yield* read(undefined, named)).headers, { authorization: "Bearer sk-two" })
      assert.deepStrictEqual((yield* read("http://127.0.0.1/v1", named)).headers, { authorization: "Bearer sk-two" })
      assert.match(yield* refusal("http://api.example/v1", named), /not sent over http to api\.example/)
      assert.match(yield* refusal("http://api.together.xyz/v1"), /not sent over http to api\.together\.xyz/)
    }))

  it.effect("needs no key on this machine, and none where a header has it", () =>
    Effect.gen(function*() {
      vi.stubEnv("TOGETHER_API_KEY", undefined)
      assert.deepStrictEqual((yield* read("http://127.0.0.1:1/v1/")).headers, {})
      assert.strictEqual((yield* read("http://127.0.0.1:1/v1/")).baseUrl, "http://127.0.0.1:1/v1")
      const given = yield* read("https://api.example/v1", { header: ["Authorization: Basic abc"] })
      assert.deepStrictEqual(given.headers, { authorization: "Basic abc" })
      assert.match(yield* refusal(), /TOGETHER_API_KEY is not set/)
      assert.match(yield* refusal("http://127.0.0.1:1/v1", { apiKeyEnv: "MINE" }), /MINE is not set/)
      vi.stubEnv("MINE", "")
      assert.match(yield* refusal(undefined, { apiKeyEnv: "MINE" }), /MINE is not set/)
    }))

  it.effect("refuses what is no base URL", () =>
    Effect.gen(function*() {
      for (const url of ["", "nonsense", "/v1", "ftp://x/v1", "file:///etc/passwd", "localhost:8080"]) {
        assert.match(yield* refusal(url), /--base-url: .*is not a URL/, url)
      }
      for (const url of ["http://127.0.0.1/?a=b", "http://127.0.0.1/#x", "http://me:sk-pw@127.0.0.1/"]) {
        assert.match(yield* refusal(url), /--base-url: .*no user, password, query or fragment/, url)
      }
    }))

  it.effect("speaks as its host does, or as a provider that is named", () =>
    Effect.gen(function*() {
      const url = "http://127.0.0.1:1/v1"
      assert.strictEqual((yield* read(url)).profile.name, "generic")
      assert.strictEqual((yield* read(url, { provider: "groq" })).profile.name, "groq")
      assert.strictEqual((yield* read(url, { provider: "gemini" })).profile.name, "google-gemini")
      assert.match(
        yield* refusal(url, { provider: "grok2" }),
        /--provider: "grok2" is not known; it is one of .*anthropic/
      )
    }))

  it.effect("refuses a key that no header can hold, without showing it", () =>
    Effect.gen(function*() {
      for (const key of ["sk-a b", "sk-a\n", "sk-ü", "sk-\u0000"]) {
        vi.stubEnv("TOGETHER_API_KEY", key.replace("\u0000", "\u007f"))
        assert.match(yield* refusal(), /TOGETHER_API_KEY holds characters/)
      }
    }))

  it.effect("reads headers as they are written, and refuses what could break out of one", () =>
    Effect.gen(function*() {
      const url = "http://127.0.0.1:1/v1"
      const { headers } = yield* read(url, { header: ["X-A:1", "x-b:  two: three ", "X-Empty:", "x-a: 2"] })
      assert.deepStrictEqual(headers, { "x-a": "2", "x-b": "two: three ", "x-empty": "" })
      for (const header of ["", ":", "x", "x y: 1", "x: a\nb: c", "x: a\r\nb: c", "x: \u0000", "x: ü", ": sk-value"]) {
        assert.match(yield* refusal(url, { header: [header] }), /--header: a header has the form Name: value/)
      }
      for (const name of ["Host", "Content-Length", "transfer-encoding", "Connection", "Content-Type"]) {
        assert.match(yield* refusal(url, { header: [`${name}: x`] }), /is set by the connection/)
      }
    }))
})
