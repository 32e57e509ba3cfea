/**
 * A model that says back what it was told: the answers of the stand-in provider.
 *
 * Here belong the reading of chat and embedding requests and the making of answers, error bodies included, as pure
 * functions of the request. When an answer is sent, and whether, belongs to `EchoProvider`; sockets never come in here.
 *
 * **Source**
 *
 * The OpenAI API reference for chat completions and embeddings; Together's stream puts `usage` on the chunk that carries
 * `finish_reason`, and sends no chunk without choices after it.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"

/** A request for a chat completion, as far as an echo needs it. */
export interface Chat {
  readonly _tag: "Chat"
  readonly model: string
  /** What the answer says: the last user message, cut to `max_tokens`. */
  readonly content: string
  readonly finishReason: "stop" | "length"
  readonly stream: boolean
  readonly inputTokens: number
  readonly outputTokens: number
}

/** A request for embeddings. */
export interface Embeddings {
  readonly _tag: "Embeddings"
  readonly model: string
  readonly texts: ReadonlyArray<string>
  readonly dimensions: number
  readonly base64: boolean
  readonly inputTokens: number
  readonly outputTokens: 0
}

/** What the echo model can be asked. */
export type Call = Chat | Embeddings

/** A request that is answered with an error and never ran. */
export interface Refusal {
  readonly status: number
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string | null
}

/** A whole answer. */
export interface Answer {
  readonly contentType: string
  readonly body: string
}

/**
 * Tokens of a text: a quarter of its characters, rounded up.
 *
 * **Units**
 *
 * Characters are UTF-16 code units.
 */
export const tokens = (characters: number): number => Math.ceil(characters / charactersPerToken)

/**
 * Reads the body of `POST /v1/chat/completions`.
 *
 * **Details**
 *
 * The answer is the text of the last message whose role is `user`, or of the last message when there is none. With
 * `max_tokens` (or `max_completion_tokens`) it is cut to that many tokens and ends with `length`.
 *
 * **Errors**
 *
 * A body of another shape is a refusal with status 400 that names the field.
 */
export const readChat = (body: unknown): Result.Result<Chat, Refusal> =>
  Result.map(Result.mapError(parseChat(body), refusalOf), (request): Chat => {
    const texts = request.messages.map((message) => textOf(message.content))
    const asked = texts[request.messages.findLastIndex((message) => message.role === "user")] ?? texts.at(-1) ?? ""
    const maxTokens = request.max_completion_tokens ?? request.max_tokens ?? Infinity
    const content = cut(asked, maxTokens * charactersPerToken)
    return {
      _tag: "Chat",
      model: request.model,
      content,
      finishReason: content.length < asked.length ? "length" : "stop",
      stream: request.stream ?? false,
      inputTokens: tokens(texts.reduce((sum, text) => sum + text.length, 0)),
      outputTokens: tokens(content.length)
    }
  })

/**
 * Reads the body of `POST /v1/embeddings`.
 *
 * **Errors**
 *
 * A body of another shape is a refusal with status 400 that names the field.
 */
export const readEmbeddings = (body: unknown): Result.Result<Embeddings, Refusal> =>
  Result.map(Result.mapError(parseEmbeddings(body), refusalOf), (request): Embeddings => {
    const texts = typeof request.input === "string" ? [request.input] : request.input
    return {
      _tag: "Embeddings",
      model: request.model,
      texts,
      dimensions: request.dimensions ?? defaultDimensions,
      base64: request.encoding_format === "base64",
      inputTokens: tokens(texts.reduce((sum, text) => sum + text.length, 0)),
      outputTokens: 0
    }
  })

/**
 * The answer to a call.
 *
 * **Units**
 *
 * `createdSeconds` is Unix time.
 *
 * **Details**
 *
 * The same call with the same `id` and time has the same answer, byte for byte. The deltas of a stream, put together,
 * are the content of the answer without a stream.
 */
export const answer = (call: Call, options: { readonly id: string; readonly createdSeconds: number }): Answer => {
  if (call._tag === "Embeddings") return { contentType: json, body: JSON.stringify(embeddings(call)) }
  return call.stream
    ? { contentType: eventStream, body: frames(call, options).join("") }
    : { contentType: json, body: JSON.stringify(completion(call, options)) }
}

/**
 * The body of an error, in Together's form.
 *
 * **Details**
 *
 * `errorType` puts the type at the top level too, where Together's documentation names it for dynamic limits.
 */
export const errorBody = (
  error: Omit<Refusal, "status">,
  options?: { readonly errorType?: string }
): string =>
  JSON.stringify({
    error: { message: error.message, type: error.type, param: error.param, code: error.code },
    ...(options?.errorType === undefined ? {} : { error_type: options.errorType })
  })

/** The list behind `GET /v1/models`. */
export const modelList = (models: ReadonlyArray<string>): string =>
  JSON.stringify({
    object: "list",
    data: models.map((id) => ({ id, object: "model", created: 0, owned_by: "evenkeel" }))
  })

/** The refusal of a request that the model cannot read. */
export const invalid = (message: string, param: string | null = null): Refusal => ({
  status: 400,
  message,
  type: "invalid_request_error",
  param,
  code: null
})

/**
 * A text as a point on the unit sphere, which depends on the text alone.
 *
 * **Details**
 *
 * Equal texts have equal vectors. Nothing else is promised: nearness of vectors says nothing about nearness of texts.
 */
export const vector = (text: string, dimensions: number): ReadonlyArray<number> => {
  let hash = fnvOffset
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), fnvPrime)
  const raw = Array.from({ length: dimensions }, () => {
    hash = Math.imul(hash ^ (hash >>> 15), mixFirst) + weyl | 0
    const mixed = Math.imul(hash ^ (hash >>> 13), mixSecond)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 31 - 1
  })
  const norm = Math.hypot(...raw) || 1
  return raw.map((value) => Math.fround(value / norm))
}

const completion = (call: Chat, options: { readonly id: string; readonly createdSeconds: number }) => ({
  id: options.id,
  object: "chat.completion",
  created: options.createdSeconds,
  model: call.model,
  choices: [{ index: 0, message: { role: "assistant", content: call.content }, finish_reason: call.finishReason }],
  usage: usage(call)
})

const frames = (call: Chat, options: { readonly id: string; readonly createdSeconds: number }): Array<string> => {
  const frame = (delta: object, finishReason: string | null): string =>
    `data: ${
      JSON.stringify({
        id: options.id,
        object: "chat.completion.chunk",
        created: options.createdSeconds,
        model: call.model,
        choices: [{ index: 0, delta, finish_reason: finishReason }],
        usage: finishReason === null ? null : usage(call)
      })
    }\n\n`
  return [
    frame({ role: "assistant", content: "" }, null),
    ...pieces(call.content).map((content) => frame({ content }, null)),
    frame({}, call.finishReason),
    "data: [DONE]\n\n"
  ]
}

const embeddings = (call: Embeddings) => ({
  object: "list",
  model: call.model,
  data: call.texts.map((text, index) => {
    const embedding = vector(text, call.dimensions)
    return { object: "embedding", index, embedding: call.base64 ? encodeFloats(embedding) : embedding }
  }),
  usage: { prompt_tokens: call.inputTokens, total_tokens: call.inputTokens }
})

const usage = (call: Call) => ({
  prompt_tokens: call.inputTokens,
  completion_tokens: call.outputTokens,
  total_tokens: call.inputTokens + call.outputTokens
})

/** The float32 form, least significant byte first, that SDKs ask for by default. */
const encodeFloats = (values: ReadonlyArray<number>): string => {
  const view = new DataView(new ArrayBuffer(values.length * 4))
  values.forEach((value, index) => view.setFloat32(index * 4, value, true))
  return Base64.encode(new Uint8Array(view.buffer))
}

/** A text in at most `maxPieces` pieces of at least one token each, no character torn. */
const pieces = (text: string): Array<string> => {
  const length = Math.max(charactersPerToken, Math.ceil(text.length / maxPieces))
  const found: Array<string> = []
  let rest = text
  while (rest !== "") {
    const piece = cut(rest, length)
    found.push(piece)
    rest = rest.slice(piece.length)
  }
  return found
}

/** The beginning of a text; one code unit shorter where a surrogate pair would be torn. */
const cut = (text: string, length: number): string => {
  if (text.length <= length) return text
  const last = text.charCodeAt(length - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length)
}

const textOf = (content: typeof Content.Type | null | undefined): string =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("")

const refusalOf = (issue: SchemaIssue.Issue): Refusal => {
  const first = formatIssue(issue).issues[0]
  const path = (first?.path ?? []).map((part) => String(typeof part === "object" ? part.key : part))
  return path.length === 0
    ? invalid(`Invalid request body: ${first?.message}`)
    : invalid(`Invalid value for ${path.join(".")}: ${first?.message}`, path[0])
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** A name longer than this is no model; names are kept, so their length is bounded. */
const maxNameLength = 256

const Name = Schema.String.check(Schema.isBetweenLength(1, maxNameLength))

const Content = Schema.Union([Schema.String, Schema.Array(Schema.Struct({ text: Schema.optionalKey(Schema.String) }))])

const Maximum = Schema.optionalKey(Schema.NullOr(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))))

const parseChat = SchemaParser.decodeUnknownResult(
  Schema.Struct({
    model: Name,
    messages: Schema.Array(
      Schema.Struct({ role: Schema.String, content: Schema.optionalKey(Schema.NullOr(Content)) })
    ).check(Schema.isMinLength(1)),
    stream: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
    max_tokens: Maximum,
    max_completion_tokens: Maximum
  })
)

/** OpenAI's bound on the texts of one request. */
const maxTexts = 2048

/** Wide enough to try code with; the largest answer stays near 10 MB. */
const maxDimensions = 256

/** Enough to see that vectors differ. */
const defaultDimensions = 8

const parseEmbeddings = SchemaParser.decodeUnknownResult(
  Schema.Struct({
    model: Name,
    input: Schema.Union([
      Schema.String,
      Schema.Array(Schema.String).check(Schema.isBetweenLength(1, maxTexts))
    ]),
    dimensions: Schema.optionalKey(
      Schema.NullOr(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxDimensions })))
    ),
    encoding_format: Schema.optionalKey(Schema.NullOr(Schema.Literals(["float", "base64"])))
  })
)

const json = "application/json"
const eventStream = "text/event-stream;charset=utf-8"

/** The usual rule of thumb for English. */
const charactersPerToken = 4

/** A long answer is not sent as a million frames. */
const maxPieces = 64

/** FNV-1a, 32 bits. */
const fnvOffset = 0x811c9dc5 | 0
const fnvPrime = 0x01000193

/** Odd multipliers and the golden ratio's increment, as in splitmix32. */
const mixFirst = 0x21f0aaad
const mixSecond = 0x735a2d97
const weyl = 0x9e3779b9
