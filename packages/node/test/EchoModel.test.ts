import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as EchoModel from "../src/echo/EchoModel.ts"

const stamp = { id: "echo-1", createdSeconds: 1_700_000_000 }

const chat = (content: unknown, rest: object = {}): EchoModel.Chat =>
  Result.getOrThrow(EchoModel.readChat({ model: "m", messages: [{ role: "user", content }], ...rest }))

const answered = (call: EchoModel.Call) => JSON.parse(EchoModel.answer(call, stamp).body)

const framesOf = (call: EchoModel.Call): Array<string> => EchoModel.answer(call, stamp).body.split("\n\n").slice(0, -1)

const chunksOf = (call: EchoModel.Call) => framesOf(call).slice(0, -1).map((frame) => JSON.parse(frame.slice(6)))

const refused = (result: Result.Result<unknown, EchoModel.Refusal>): EchoModel.Refusal =>
  Result.getOrThrow(Result.flip(result))

describe("EchoModel", () => {
  it("says back the last user message, with usage", () => {
    const call = Result.getOrThrow(EchoModel.readChat({
      model: "m",
      messages: [
        { role: "system", content: "be kind" },
        { role: "user", content: "first" },
        { role: "assistant", content: null },
        { role: "user", content: "hello you" },
        { role: "assistant", content: "…" }
      ]
    }))
    assert.deepStrictEqual(answered(call), {
      id: "echo-1",
      object: "chat.completion",
      created: 1_700_000_000,
      model: "m",
      choices: [{ index: 0, message: { role: "assistant", content: "hello you" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 6, completion_tokens: 3, total_tokens: 9 }
    })
  })

  it("reads content in parts, and the last message when no user spoke", () => {
    assert.strictEqual(
      chat([{ type: "text", text: "a" }, { type: "image_url", image_url: {} }, { type: "text", text: "b" }]).content,
      "ab"
    )
    const call = EchoModel.readChat({ model: "m", messages: [{ role: "system", content: "only this" }] })
    assert.strictEqual(Result.getOrThrow(call).content, "only this")
  })

  it("keeps to max_tokens and says that it was cut", () => {
    const call = chat("0123456789", { max_tokens: 2 })
    assert.strictEqual(call.content, "01234567")
    assert.strictEqual(call.finishReason, "length")
    assert.strictEqual(call.outputTokens, 2)
    assert.strictEqual(chat("0123456789", { max_tokens: 2, max_completion_tokens: 1 }).content, "0123")
    assert.strictEqual(chat("01234567", { max_tokens: 2 }).finishReason, "stop")
  })

  it("streams the same answer, no character torn, usage on the chunk with the finish reason", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 600 }), fc.integer({ min: 1, max: 99 }), (text, max) => {
        const call = chat(text, { stream: true, max_tokens: max })
        const chunks = chunksOf(call)
        const deltas = chunks.map((chunk) => chunk.choices[0].delta.content ?? "")
        assert.strictEqual(deltas.join(""), call.content)
        assert.isTrue(text.startsWith(call.content))
        assert.isAtMost(call.outputTokens, max)
        assert.isTrue(deltas.every((delta: string) => !/\p{Surrogate}/u.test(delta)))
        const last = chunks.at(-1)
        assert.strictEqual(last.choices[0].finish_reason, call.finishReason)
        assert.deepStrictEqual(last.usage, answered({ ...call, stream: false }).usage)
        assert.isTrue(
          chunks.slice(0, -1).every((chunk) => chunk.usage === null && chunk.choices[0].finish_reason === null)
        )
        assert.strictEqual(framesOf(call).at(-1), "data: [DONE]")
      })
    )
  })

  it("does not send a long answer as a million frames", () => {
    assert.isAtMost(framesOf(chat("x".repeat(1_000_000), { stream: true })).length, 68)
  })

  it("gives equal texts equal vectors of length one, in numbers or in base64", () => {
    fc.assert(fc.property(fc.string(), fc.integer({ min: 1, max: 256 }), (text, dimensions) => {
      const read = (rest: object) =>
        Result.getOrThrow(EchoModel.readEmbeddings({ model: "m", input: [text, text], dimensions, ...rest }))
      const { data } = answered(read({}))
      assert.deepStrictEqual(data[0].embedding, data[1].embedding)
      assert.strictEqual(data[0].embedding.length, dimensions)
      assert.approximately(Math.hypot(...data[0].embedding), 1, 1e-5)
      const bytes = Buffer.from(answered(read({ encoding_format: "base64" })).data[1].embedding, "base64")
      assert.deepStrictEqual(
        data[1].embedding.map((_: number, index: number) => bytes.readFloatLE(index * 4)),
        data[1].embedding
      )
    }))
    const texts = Array.from({ length: 200 }, (_, index) => `text ${index}`)
    const first = answered(Result.getOrThrow(EchoModel.readEmbeddings({ model: "m", input: texts }))).data
    assert.strictEqual(new Set(first.map((item: { embedding: unknown }) => JSON.stringify(item.embedding))).size, 200)
  })

  it("counts the tokens of embeddings and has no output", () => {
    const call = Result.getOrThrow(EchoModel.readEmbeddings({ model: "m", input: ["abcd", "efghi"] }))
    assert.deepStrictEqual(answered(call).usage, { prompt_tokens: 3, total_tokens: 3 })
    assert.strictEqual(call.outputTokens, 0)
  })

  it("names the field of a request that it cannot read", () => {
    const messages = [{ role: "user", content: "x" }]
    assert.strictEqual(refused(EchoModel.readChat([])).param, null)
    assert.strictEqual(refused(EchoModel.readChat({ messages })).param, "model")
    assert.strictEqual(refused(EchoModel.readChat({ model: "m" })).param, "messages")
    assert.strictEqual(refused(EchoModel.readChat({ model: "m", messages: [] })).param, "messages")
    assert.strictEqual(refused(EchoModel.readChat({ model: "m".repeat(257), messages })).param, "model")
    assert.strictEqual(refused(EchoModel.readChat({ model: "m", messages, max_tokens: 0 })).param, "max_tokens")
    assert.strictEqual(refused(EchoModel.readEmbeddings({ model: "m" })).param, "input")
    assert.strictEqual(refused(EchoModel.readEmbeddings({ model: "m", input: [] })).param, "input")
    assert.strictEqual(
      refused(EchoModel.readEmbeddings({ model: "m", input: "x", dimensions: 257 })).param,
      "dimensions"
    )
    const wrong = refused(EchoModel.readChat({ model: "m", messages: [{ role: "user", content: 5 }] }))
    assert.strictEqual(wrong.status, 400)
    assert.include(wrong.message, "messages.0.content")
  })

  it("reads any JSON at all without throwing", () => {
    fc.assert(fc.property(fc.jsonValue(), (body) => {
      const results: ReadonlyArray<Result.Result<EchoModel.Call, EchoModel.Refusal>> = [
        EchoModel.readChat(body),
        EchoModel.readEmbeddings(body)
      ]
      for (const result of results) assert.isTrue(Result.isSuccess(result) || result.failure.status === 400)
    }))
  })

  it("writes errors in Together's form", () => {
    const error = { message: "slow down", type: "dynamic_request_limited", param: null, code: null }
    assert.deepStrictEqual(JSON.parse(EchoModel.errorBody(error)), { error })
    assert.deepStrictEqual(
      JSON.parse(EchoModel.errorBody(error, { errorType: "dynamic_request_limited" })),
      { error, error_type: "dynamic_request_limited" }
    )
  })
})
