/**
 * One provider's ways: what its headers say, what its answers mean, what a call costs and whose limit it draws on.
 *
 * Here belongs telling an answer's meaning: the taxonomy, applied to a provider's data. The data of each provider is in
 * `profiles`, the grammars of headers in `RateLimitHeaders`; nothing here sends, waits or learns. It is pure, and whatever
 * a server sends, nothing here throws.
 *
 * **Source**
 *
 * RFC 9110 and 6585 for the statuses, the providers' error pages and SDKs, and recorded and reported answers. An answer is
 * told by status, type, code and shape, never by words such as "billing": providers use the same sentence for a throttle
 * and for a spent budget. Sentences with a grammar of their own (`Limit 30000, Requested 342389`) are read.
 */
import * as Context from "effect/Context"
import * as Predicate from "effect/Predicate"
import * as ApiError from "./ApiError.ts"
import { type Cost, type Dimension, type Key, key } from "./Demand.ts"
import * as Outcome from "./Outcome.ts"
import * as Generic from "./profiles/generic.ts"
import * as OpenAi from "./profiles/openai.ts"
import * as Together from "./profiles/together.ts"
import * as RateLimitHeaders from "./RateLimitHeaders.ts"

/**
 * What came back from one attempt.
 *
 * **Units**
 *
 * `nowMillis` is wall-clock time at receipt.
 *
 * **Details**
 *
 * `body` is the text of an error, cut to a bound; undefined when it was not read, and on success.
 */
export interface Answer {
  readonly status: number
  readonly headers: RateLimitHeaders.Headers
  readonly body: string | undefined
  readonly nowMillis: number
}

/**
 * One provider's ways.
 *
 * **Shape**
 *
 * | member | tells |
 * | --- | --- |
 * | `origins` | host names that are one provider, `*.` for any subdomain; keys use the first |
 * | `read` | what an answer says about limits |
 * | `classify` | the verdict on an answer |
 * | `streamError` | the error that a chunk of a stream with status 200 carries |
 * | `cost` | what a call will use, estimated from its body |
 * | `usage` | what a call did use, from its answer or one chunk of it |
 * | `requestId` | the provider's name for the call |
 * | `keyOf` | whose limit a call draws on |
 *
 * **Units**
 *
 * `cost` and `usage` in requests and tokens.
 *
 * **Details**
 *
 * Bodies are parsed JSON or text. `cost` takes four characters for a token; without a bound an answer counts 256 tokens,
 * and that of an embedding none. `begun` says that a part of the answer has been passed on: then nothing is retryable.
 */
export interface ProviderProfile {
  readonly name: string
  readonly origins: ReadonlyArray<string>
  readonly dialect: RateLimitHeaders.Dialect
  readonly read: (answer: Answer) => Outcome.Reading
  readonly classify: (answer: Answer) => Outcome.Outcome
  readonly streamError: (chunk: unknown, options: { readonly begun: boolean }) => ApiError.ApiError | undefined
  readonly cost: (requestBody: unknown) => Cost
  readonly usage: (responseBody: unknown) => Partial<Cost> | undefined
  readonly requestId: (headers: RateLimitHeaders.Headers, body: unknown) => string | undefined
  readonly keyOf: (call: { readonly url: URL; readonly organisation: string; readonly body?: unknown }) => Key
  readonly idempotencyHeader: string | undefined
}

/**
 * What a profile is made from.
 *
 * **Details**
 *
 * `sniff` chooses a dialect by the names that a response carries. `attributionOf429` is whose doing a 429 is that says
 * nothing more. `contextLengthStatus` is a status that means *too long for the model*, `doubtfulStatuses` are failures
 * that are not called retryable.
 */
export interface Ways {
  readonly name: string
  readonly origins: ReadonlyArray<string>
  readonly dialect: RateLimitHeaders.Dialect
  readonly sniff?: (headers: RateLimitHeaders.Headers) => RateLimitHeaders.Dialect
  readonly attributionOf429: ApiError.Attribution
  readonly contextLengthStatus?: number
  readonly doubtfulStatuses?: ReadonlyArray<number>
  readonly requestIdHeaders: ReadonlyArray<string>
  readonly idempotencyHeader: string | undefined
}

/**
 * Makes a profile from a provider's ways.
 *
 * **Example** (A throttle and a spent budget under one type)
 *
 * ```ts
 * import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
 *
 * const body = JSON.stringify({ error: { message: "Credit limit exceeded.", type: "credit_limit" } })
 * const answer = (status: number) => ({ status, headers: {}, body, nowMillis: 0 })
 *
 * ProviderProfile.together.classify(answer(429))._tag // => "Limited"
 * ProviderProfile.together.classify(answer(402)).closes?.reason // => "payment"
 * ```
 */
export const make = (ways: Ways): ProviderProfile => ({
  name: ways.name,
  origins: ways.origins,
  dialect: ways.dialect,
  read: (answer) => readAnswer(ways, answer, answer.status < 400 ? undefined : refusalOf(answer)),
  classify: (answer) => {
    if (answer.status < 400) return Outcome.accepted({ reading: readAnswer(ways, answer, undefined) })
    const refusal = refusalOf(answer)
    const reading = readAnswer(ways, answer, refusal)
    return outcomeOf(judge(ways, refusal, reading), refusal, reading)
  },
  streamError: (chunk, { begun }) => {
    const json = parsed(chunk)
    if (!isPresent(member(json, "error")) && member(json, "type") !== "error") return undefined
    const refusal = describe({ status: 200, headers: {}, nowMillis: 0 }, json, "")
    const verdict = byKind(ways, refusal, Outcome.nothingRead) ?? failed("ServerError", "platform")
    const retryable = verdict.retryable && !begun
    return errorOf({ ...verdict, retryable }, refusal, { retryAfterSeconds: undefined, midStream: true })
  },
  cost: (requestBody) => costOf(requestBody),
  usage: (responseBody) => usageOf(responseBody),
  requestId: (headers, body) => {
    const isName = (name: unknown) => typeof name === "string" && name !== ""
    // A body is parsed only where no header tells.
    const inBody = () => {
      const json = parsed(body)
      return [member(json, "request_id"), member(json, "id")].find(isName)
    }
    const id = ways.requestIdHeaders.map((name) => headers[name]).find(isName) ?? inBody()
    return typeof id === "string" ? id.slice(0, mostName) : undefined
  },
  keyOf: ({ body, organisation, url }) => {
    const [first] = ways.origins
    const model = member(parsed(body), "model")
    const origin = first !== undefined && isAmong(ways.origins, url.hostname) ? `https://${first}` : url.origin
    return key(origin, organisation, typeof model === "string" ? model : "")
  },
  idempotencyHeader: ways.idempotencyHeader
})

/** Together AI. */
export const together: ProviderProfile = make(Together.ways)

/** OpenAI. */
export const openai: ProviderProfile = make(OpenAi.ways)

/** A provider that we do not know: its dialect is told by the names it uses. */
export const generic: ProviderProfile = make(Generic.ways)

/**
 * The profile for a host.
 *
 * **Example** (Two hosts, one provider)
 *
 * ```ts
 * import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
 *
 * const url = new URL("https://api.together.ai/v1/chat/completions")
 * const profile = ProviderProfile.forHost(url.host)
 *
 * profile.name // => "together"
 * profile.keyOf({ url, organisation: "acme", body: { model: "llama" } }).origin // => "https://api.together.xyz"
 * ```
 */
export const forHost = (host: string): ProviderProfile =>
  [together, openai].find(({ origins }) => isAmong(origins, host)) ?? generic

/** The profile in force; undefined, the default, chooses by the host of each call. */
export const CurrentProfile: Context.Reference<ProviderProfile | undefined> = Context.Reference<
  ProviderProfile | undefined
>("@evenkeel/core/ProviderProfile/CurrentProfile", { defaultValue: () => undefined })

/**
 * The verdict on an attempt that brought no answer.
 *
 * **Details**
 *
 * `never connected` (refused, DNS, TLS) is certain not to have run: overloaded. `sent` may have run: unknown. The error
 * has status 0.
 */
export const connectionFailed = (kind: "never connected" | "sent", message: string): Outcome.Outcome => {
  const connected = kind === "sent"
  const details = {
    status: 0,
    message: message.slice(0, mostMessage),
    type: undefined,
    code: undefined,
    attribution: "unknown",
    dimension: undefined,
    retryable: true,
    retryAfterSeconds: undefined,
    midStream: false
  } as const
  const reason = connected ? new ApiError.Timeout(details) : new ApiError.Overloaded(details)
  const error = new ApiError.ApiError({ reason })
  return connected ? Outcome.unknown({ error }) : Outcome.overloaded({ connected, error })
}

/** An answer of 400 or above, laid open. `kinds` are the names it gives its trouble, most trusted first. */
interface Refusal {
  readonly status: number
  readonly kinds: ReadonlyArray<string>
  readonly type: string | undefined
  readonly code: string | undefined
  readonly message: string
  /** The parsed body, or its text. */
  readonly body: unknown
  readonly isJson: boolean
  /** Something in front of the provider wrote it. */
  readonly isEdge: boolean
}

interface Verdict {
  readonly reason: ApiError.Reason["_tag"]
  readonly attribution: ApiError.Attribution
  readonly outcome: typeof Outcome.limited
  readonly retryable: boolean
  readonly dimension?: Dimension | undefined
  readonly closes?: Outcome.Closure
}

const readAnswer = (ways: Ways, answer: Answer, refusal: Refusal | undefined): Outcome.Reading => {
  const dialect = ways.sniff?.(answer.headers) ?? ways.dialect
  const { headers, nowMillis, status } = answer
  if (refusal === undefined) return RateLimitHeaders.read(headers, { dialect, status, nowMillis })
  const mayBeLimited = refusal.kinds.some(isThrottle) || dialect.refusals.includes(status)
  const limited = mayBeLimited ? namedSum(refusal) : undefined
  return RateLimitHeaders.read(headers, { dialect, status, nowMillis, body: refusal.body, limited })
}

const outcomeOf = (verdict: Verdict, refusal: Refusal, reading: Outcome.Reading): Outcome.Outcome => {
  const { closes, dimension, outcome } = verdict
  const { retryAfterSeconds } = reading
  const isFinal = outcome === Outcome.ignored
  return outcome({
    dimension: verdict.reason === "RateLimited" ? dimension : undefined,
    reading,
    retryAfterMillis: isFinal || retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000,
    closes,
    error: errorOf(verdict, refusal, { retryAfterSeconds, midStream: false })
  })
}

const errorOf = (
  verdict: Verdict,
  refusal: Refusal,
  told: Pick<ApiError.Details, "retryAfterSeconds" | "midStream">
): ApiError.ApiError =>
  new ApiError.ApiError({
    reason: new ApiError[verdict.reason]({
      status: refusal.status,
      message: refusal.message,
      type: refusal.type,
      code: refusal.code,
      attribution: verdict.attribution,
      dimension: verdict.dimension,
      retryable: verdict.retryable,
      ...told
    })
  })

/** First what the body names, then what the status says. */
const judge = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict =>
  byKind(ways, refusal, reading) ?? byStatus(ways, refusal, reading)

const byKind = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict | undefined => {
  const { kinds, message, status } = refusal
  const quota = spent(refusal, reading)
  if (quota !== undefined) return quota
  const oversize = sizes.exec(message)
  if (status === 413 || (oversize !== null && Number(oversize[2]) > Number(oversize[1]))) {
    return { ...refused("RequestTooLarge"), dimension: namedSum(refusal) }
  }
  const isTooLong = kinds.includes("context_length_exceeded") ||
    (status === 400 && /maximum context length/i.test(message))
  if (isTooLong) return refused("ContextLength")
  if (kinds.some(isCapacity)) return overloaded(kinds.includes("slow_down") ? "caller" : "platform")
  return kinds.some(isThrottle) ? limited(ways, refusal, reading) : undefined
}

/** A budget is spent: money, or the limit of a day. */
const spent = (refusal: Refusal, reading: Outcome.Reading): Verdict | undefined => {
  const verdict = {
    reason: "QuotaExhausted",
    attribution: "account",
    outcome: Outcome.ignored,
    retryable: false
  } as const
  if (refusal.status === 402 || refusal.kinds.some((kind) => quotaKinds.includes(kind))) {
    return { ...verdict, closes: { scope: "credential", forMillis: Infinity, reason: "payment" } }
  }
  if (refusal.status !== 429) return undefined
  const days = reading.limits.filter((limit) => limit.remaining === 0 && (limit.windowSeconds ?? 0) >= daySeconds)
  const named = perDay.test(refusal.message)
  if (days.length === 0 && !named) return undefined
  // What is left of the day; all of it when nobody says.
  const seconds = Math.max(0, ...days.map((limit) => limit.resetSeconds ?? 0)) || reading.retryAfterSeconds ||
    daySeconds
  const dimension = namedSum(refusal) ?? days[0]?.dimension
  return { ...verdict, dimension, closes: { scope: "key", forMillis: seconds * 1000, reason: "quota" } }
}

const byStatus = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const { isEdge, isJson, kinds, status } = refusal
  const isText = !isJson && refusal.message !== ""
  const unknownModel = (status === 400 || status === 404) && kinds.some((kind) => modelKinds.includes(kind))
  const closes = { scope: "key", forMillis: Infinity, reason: "unknown model" } as const
  switch (status) {
    case 401:
      return {
        ...refused("Unauthorized"),
        closes: { scope: "credential", forMillis: Infinity, reason: "unauthorized" }
      }
    case 403:
      return forbidden(ways, refusal, reading)
    case 404:
      return unknownModel ? { ...refused("NotFound"), closes } : refused("NotFound")
    case 408:
      return unanswered("Timeout", isEdge ? "edge" : "platform")
    case 409:
      return refused("Conflict")
    case 429:
      return limited(ways, refusal, reading)
    case 502:
      return unanswered("GatewayError", isJson ? "platform" : "edge")
    case 503:
      return isEdge ? { ...overloaded("edge"), reason: "GatewayError" } : overloaded("platform")
    case 504:
      return unanswered("Timeout", isText || isEdge ? "edge" : "platform")
    case 524:
      return unanswered("Timeout", "edge")
  }
  if (status >= 520 && status <= 527) return unanswered("GatewayError", "edge")
  if (status < 500) return unknownModel ? { ...refused("InvalidRequest"), closes } : refused("InvalidRequest")
  if (isText || isEdge) return failed("GatewayError", "edge")
  const verdict = failed("ServerError", "platform")
  return ways.doubtfulStatuses?.includes(status) === true ? { ...verdict, retryable: false } : verdict
}

/** 403 is too long for the model (where the provider says so), a limit (where limits say so), or not allowed. */
const forbidden = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  if (refusal.isEdge) return { ...refused("PermissionDenied"), attribution: "edge" }
  if (ways.contextLengthStatus === refusal.status) return refused("ContextLength")
  const isLimited = ways.dialect.refusals.includes(refusal.status) &&
    (RateLimitHeaders.emptied(reading) !== undefined ||
      (reading.limits.length > 0 && reading.retryAfterSeconds !== undefined))
  return isLimited ? limited(ways, refusal, reading) : refused("PermissionDenied")
}

const limited = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const dimension = namedSum(refusal) ?? RateLimitHeaders.emptied(reading)
  const isNamed = dimension !== undefined || refusal.kinds.length > 0 || reading.limits.length > 0
  const attribution = refusal.isEdge ? "edge" : isNamed ? "caller" : ways.attributionOf429
  return { reason: "RateLimited", attribution, outcome: Outcome.limited, retryable: true, dimension }
}

const refused = (reason: Verdict["reason"]): Verdict => ({
  reason,
  attribution: "caller",
  outcome: Outcome.ignored,
  retryable: false
})

const overloaded = (attribution: ApiError.Attribution): Verdict => ({
  reason: "Overloaded",
  attribution,
  outcome: Outcome.overloaded,
  retryable: true
})

const unanswered = (reason: Verdict["reason"], attribution: ApiError.Attribution): Verdict => ({
  reason,
  attribution,
  outcome: Outcome.unknown,
  retryable: true
})

const failed = (reason: Verdict["reason"], attribution: ApiError.Attribution): Verdict => ({
  reason,
  attribution,
  outcome: Outcome.failed,
  retryable: true
})

/** The sum that a refusal says was limited. */
const namedSum = ({ kinds, message }: Refusal): Dimension | undefined => {
  for (const kind of kinds) {
    const sum = sumKinds.get(kind)
    if (sum !== undefined) return sum
  }
  const said = sums.exec(message)?.[1]?.toLowerCase()
  return said === undefined ? undefined : said.startsWith("token") ? "tokens" : "requests"
}

const isThrottle = (kind: string): boolean =>
  kind.startsWith("rate_limit") || throttleKinds.includes(kind) ||
  (kind.startsWith("dynamic_") && kind.endsWith("_limited"))

const isCapacity = (kind: string): boolean =>
  kind === "overloaded_error" || kind === "slow_down" || kind.endsWith("#temporary-reduced-capacity")

const refusalOf = (answer: Answer): Refusal => {
  const text = (answer.body ?? "").slice(0, mostBody).trim()
  return describe(answer, parsed(text), text)
}

const describe = (answer: Omit<Answer, "body">, json: unknown, text: string): Refusal => {
  // Some send an array of one error.
  const root = Array.isArray(json) ? json[0] : json
  const error = member(root, "error")
  const named = [
    member(root, "error_type"),
    member(error, "error_type"),
    member(error, "type"),
    member(error, "code"),
    member(root, "type"),
    member(root, "code")
  ]
  const message = [member(error, "message"), error, member(root, "message"), member(root, "title"), root]
    .find((each) => typeof each === "string" && each !== "")
  const code = member(error, "code") ?? member(root, "code")
  return {
    status: answer.status,
    kinds: named.flatMap((kind) => (typeof kind === "string" && kind !== "" ? [kind.toLowerCase()] : [])),
    type: nameOf([...named.slice(0, 3), named[4]].find((type) => typeof type === "string")),
    code: nameOf(code),
    message: (typeof message === "string" ? message : json === undefined ? text : "").slice(0, mostMessage),
    body: json ?? text,
    // A body that was cut off is still the provider's own.
    isJson: json !== undefined || text.startsWith("{") || text.startsWith("["),
    isEdge: text.startsWith("<") || edgeText.test(text) || (answer.headers["content-type"] ?? "").includes("text/html")
  }
}

const nameOf = (value: unknown): string | undefined =>
  typeof value === "string" || typeof value === "number" ? `${value}`.slice(0, mostName) : undefined

/** What a call will use, on the high side. */
const costOf = (requestBody: unknown): Cost => {
  const body = parsed(requestBody)
  const size = { units: 0, visits: 0 }
  for (const name of textMembers) measure(member(body, name), size, 0)
  const bound = boundMembers.map((name) => member(body, name)).find((each) => isCount(each))
  // A body with only an input and no sign of generation asks for embeddings.
  const isEmbedding = isPresent(member(body, "input")) &&
    !generationMembers.some((name) => isPresent(member(body, name)))
  const outputTokens = isCount(bound) ? bound : isEmbedding ? 0 : usualOutputTokens
  return { requests: 1, inputTokens: Math.ceil(size.units / charactersPerToken), outputTokens }
}

/** Adds up the characters of all text in a request; a number in an input is one token. */
const measure = (value: unknown, size: { units: number; visits: number }, depth: number): void => {
  if (++size.visits > mostVisits || depth > mostDepth) return
  if (typeof value === "string") size.units += value.length
  else if (typeof value === "number") size.units += charactersPerToken
  else if (Array.isArray(value)) { for (const each of value) measure(each, size, depth + 1) }
  else if (isPresent(value)) { for (const name of partMembers) measure(member(value, name), size, depth + 1) }
}

/** What a call did use, where its answer or a chunk of it says so. */
const usageOf = (responseBody: unknown): Partial<Cost> | undefined => {
  const said = member(parsed(responseBody), "usage")
  const inputTokens = member(said, "prompt_tokens") ?? member(said, "input_tokens")
  const outputTokens = member(said, "completion_tokens") ?? member(said, "output_tokens")
  if (!isCount(inputTokens) && !isCount(outputTokens)) return undefined
  return { ...(isCount(inputTokens) ? { inputTokens } : {}), ...(isCount(outputTokens) ? { outputTokens } : {}) }
}

const isAmong = (origins: ReadonlyArray<string>, host: string): boolean => {
  const name = host.toLowerCase().replace(/:\d+$/, "")
  return origins.some((origin) => (origin.startsWith("*.") ? name.endsWith(origin.slice(1)) : name === origin))
}

/** JSON text parsed, as it stands alone or in one line of a stream; what is no text is as it was. */
const parsed = (value: unknown): unknown => {
  if (typeof value !== "string") return value
  const text = value.trimStart().replace(/^data:/, "").trim()
  if (!/^[{["]/.test(text)) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const member = (value: unknown, name: string): unknown => Predicate.hasProperty(value, name) ? value[name] : undefined

const isPresent = (value: unknown): boolean => value !== undefined && value !== null && value !== ""

const isCount = (value: unknown): value is number => typeof value === "number" && value >= 0 && value < Infinity

/** Types and codes of a spent budget of money; nothing that waits helps. */
const quotaKinds: ReadonlyArray<string> = [
  "insufficient_quota",
  "credit_balance_exhausted",
  "organization_spend_limit_exceeded",
  "project_spend_limit_exceeded",
  "organization_usage_limit_exceeded",
  "enforced_spend_limit_reached"
]

const modelKinds: ReadonlyArray<string> = ["model_not_found", "model_not_available"]

const throttleKinds: ReadonlyArray<string> = ["throttled", "ratelimited"]

/** Types that name the limited sum. */
const sumKinds: ReadonlyMap<string, Dimension> = new Map([
  ["dynamic_request_limited", "requests"],
  ["dynamic_token_limited", "tokens"],
  ["requests", "requests"],
  ["tokens", "tokens"]
])

/** `queries per minute`, `request rate limiting`, `tokens per min (TPM)`. */
const sums = /\b(request|querie|token)s?(?: rate limit| per (?:sec|min|hour|day))/i

const sizes = /\bLimit (\d{1,15}), (?:Used \d{1,15}, )?Requested (\d{1,15})/

const perDay = /\bon (?:requests|tokens) per day\b/

/** How Cloudflare and Envoy speak when the provider does not. */
const edgeText = /^(?:error code: 1\d{3}|upstream connect error|no healthy upstream)/

const textMembers: ReadonlyArray<string> = ["messages", "prompt", "input", "instructions", "system"]

const partMembers: ReadonlyArray<string> = ["content", "text", "arguments", "output", "tool_calls", "function"]

const boundMembers: ReadonlyArray<string> = ["max_tokens", "max_completion_tokens", "max_output_tokens"]

const generationMembers: ReadonlyArray<string> = [
  "messages",
  "prompt",
  "instructions",
  "stream",
  "tools",
  "temperature",
  "reasoning",
  "previous_response_id"
]

const daySeconds = 86_400

/** The usual rule of thumb for English text; other scripts take more tokens, which usage corrects. */
const charactersPerToken = 4

/** A short answer; real usage corrects it at the end. */
const usualOutputTokens = 256

/** Characters of an error body that are looked at. */
const mostBody = 65_536

/** Characters of a provider's message that are kept. */
const mostMessage = 500

/** Characters of a type, a code or a request id that are kept. */
const mostName = 200

/** Values of a request body that are measured; a conversation has a few hundred. */
const mostVisits = 100_000

/** Nesting of a request body; messages, content, parts and tool calls take eight. */
const mostDepth = 16
