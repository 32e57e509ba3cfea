/**
 * What an answer means: the taxonomy, applied to what a provider's table and the body say.
 *
 * Here belongs the order in which it is told: what the provider's own signs say, then what the body names, then what the
 * status says. Shapes of bodies are `ErrorBody`'s, headers `RateLimitHeaders`', data that of `profiles`. Whatever a server
 * sends, nothing here throws.
 *
 * **Source**
 *
 * RFC 9110 and 6585 for the statuses, the providers' error pages and SDKs, and recorded and reported answers. An answer is
 * told by status, type, code and shape, never by words such as "billing": providers use the same sentence for a throttle
 * and for a spent budget. Sentences with a grammar of their own are read.
 */
import * as Predicate from "effect/Predicate"
import * as ApiError from "../ApiError.ts"
import type { Dimension } from "../Demand.ts"
import * as Outcome from "../Outcome.ts"
import type { Sign, Ways } from "../ProviderWays.ts"
import * as RateLimitHeaders from "../RateLimitHeaders.ts"
import * as ErrorBody from "./ErrorBody.ts"
import * as EventStream from "./EventStream.ts"

/** What came back from one attempt: see `ProviderProfile.Answer`. */
export interface Answer {
  readonly status: number
  readonly headers: RateLimitHeaders.Headers
  readonly body: unknown
  readonly nowMillis: number
  readonly stream?: boolean | undefined
}

/** An event of a stream, as far as it has been parsed. */
export interface Chunk {
  readonly name?: string | undefined
  readonly data: unknown
}

/** Signs with their kinds in the form in which kinds are compared. */
export const readSigns = (signs: ReadonlyArray<Sign>): ReadonlyArray<Sign> =>
  signs.map((sign) => (sign.kind === undefined ? sign : { ...sign, kind: ErrorBody.kindOf(sign.kind) }))

/** The verdict on an answer, with what it says of limits. `signs` are those that were read. */
export const classify = (ways: Ways, signs: ReadonlyArray<Sign>, answer: Answer): Outcome.Outcome => {
  if (answer.status < 400) {
    const trouble = troubleWithin(answer)
    if (trouble === undefined) return Outcome.accepted({ reading: readSuccess(ways, answer) })
    const within = { ...answer, body: trouble.json }
    const refusal = refusalOf(within)
    const reading = readRefusal(ways, within, refusal)
    const told = judge(ways, signs, refusal, reading)
    // Under a success it may have run, and where a part of an answer came with it, it has.
    const hasRun = told.outcome === Outcome.failed || trouble.hasPart
    const verdict = hasRun && told.outcome !== Outcome.ignored ? { ...told, outcome: Outcome.unknown } : told
    if (!trouble.begun) return outcomeOf(verdict, refusal, reading, trouble.isStream)
    // A part of it ran and was passed on, so that whoever sends it again pays twice.
    const outcome = outcomeOf({ ...verdict, retryable: false }, refusal, reading, true)
    return Outcome.unknown({ ...outcome, retryAfterMillis: undefined, final: true })
  }
  const refusal = refusalOf(answer)
  const reading = readRefusal(ways, answer, refusal)
  return outcomeOf(judge(ways, signs, refusal, reading), refusal, reading, false)
}

/** The error that one event of a stream carries. */
export const streamError = (
  ways: Ways,
  signs: ReadonlyArray<Sign>,
  chunk: Chunk,
  begun: boolean
): ApiError.ApiError | undefined => {
  const json = errorOfChunk(chunk)
  if (json === undefined) return undefined
  const refusal = refusalOf({ status: 200, headers: {}, body: json, nowMillis: 0 })
  const verdict = judge(ways, signs, refusal, Outcome.nothingRead)
  return errorOf({ ...verdict, retryable: verdict.retryable && !begun }, refusal, undefined, true)
}

/** An answer with an error, laid open. */
interface Refusal extends ErrorBody.ErrorBody {
  readonly httpStatus: number
  /** Of an error under a success, the status that it would have had. */
  readonly status: number
}

interface Verdict {
  readonly reason: ApiError.Reason["_tag"]
  readonly attribution: ApiError.Attribution
  readonly outcome: typeof Outcome.limited
  readonly retryable: boolean
  readonly dimension?: Dimension | undefined
  readonly closes?: Outcome.Closure
}

/** An error under a success: whether a part of the answer came before it in a stream, or beside it. */
interface Trouble {
  readonly json: unknown
  readonly begun: boolean
  readonly hasPart: boolean
  readonly isStream: boolean
}

const troubleWithin = ({ body, headers, stream }: Answer): Trouble | undefined => {
  if (body === undefined) return undefined
  if (typeof body === "string" && (stream ?? (headers["content-type"] ?? "").includes("text/event-stream"))) {
    let begun = false
    for (const event of EventStream.events(body)) {
      const json = errorOfChunk(event)
      // Where events have names, the first one is never an error: whoever sees one has lost the beginning.
      if (json !== undefined) return { json, begun: begun || event.name !== "", hasPart: false, isStream: true }
      begun = true
    }
    return undefined
  }
  const json = ErrorBody.parsed(body)
  if (!ErrorBody.isError(json, { isEvent: false })) return undefined
  const hasPart = ["choices", "usage"].some((name) => Predicate.isObject(ErrorBody.member(json, name)))
  return { json, begun: false, hasPart, isStream: false }
}

const errorOfChunk = ({ data, name }: Chunk): unknown => {
  // Most events are parts of an answer; only what speaks of an error is parsed.
  if (typeof data === "string" && !/error|exception/i.test(data) && name !== "error") return undefined
  const json = ErrorBody.parsed(data)
  if (json === undefined) return name === "error" ? data : undefined
  return ErrorBody.isError(json, { isEvent: true }) || name === "error" ? json : undefined
}

const refusalOf = (answer: Answer): Refusal => {
  const body = ErrorBody.open(answer.body, answer.headers)
  const { status } = answer
  return { ...body, httpStatus: status, status: status >= 400 ? status : statusWithin(body) }
}

/** An error under a success may tell the status that it stands for, as a number or by its type. */
const statusWithin = ({ code, isDenied, kinds }: ErrorBody.ErrorBody): number => {
  if (code !== undefined && /^[45]\d\d$/.test(code)) return Number(code)
  const named = kinds.map((kind) => statusOfKind.get(kind)).find((status) => status !== undefined)
  return named ?? (isDenied ? 400 : 500)
}

const readSuccess = (ways: Ways, { headers, nowMillis, status }: Answer): Outcome.Reading =>
  RateLimitHeaders.read(headers, { dialect: dialectFor(ways, headers), status, nowMillis })

const readRefusal = (ways: Ways, answer: Answer, refusal: Refusal): Outcome.Reading => {
  const { body, headers, nowMillis, status } = answer
  const dialect = dialectFor(ways, headers)
  const refused = refusal.kinds.some(isThrottle) || dialect.refusals.includes(status)
  const limited = refused ? refusal.dimension : undefined
  const told = RateLimitHeaders.read(headers, { dialect, status, nowMillis, body: body ?? "", limited, refused })
  const relayed = refusal.relayed === undefined
    ? Outcome.nothingRead
    : RateLimitHeaders.read(refusal.relayed, { dialect: relayedDialect, status: 429, nowMillis })
  const within = [...relayed.limits.map((limit) => withWindow(limit, refusal.windowSeconds)), ...refusal.limits]
  if (within.length === 0 && relayed.retryAfterSeconds === undefined) return told
  const isKnown = ({ dimension }: Outcome.LimitReading) =>
    dimension !== "other" && RateLimitHeaders.primary(told, dimension) !== undefined
  const isHinted = told.retryAfterSeconds === undefined && relayed.retryAfterSeconds !== undefined
  return {
    ...told,
    limits: [...told.limits, ...within.map((limit) => (isKnown(limit) ? { ...limit, aside: true as const } : limit))],
    ...(isHinted ? { retryAfterSeconds: relayed.retryAfterSeconds, retryAfterSource: "body:metadata.headers" } : {})
  }
}

/** What is relayed has no unit of its own; the body may name its window. */
const withWindow = (limit: Outcome.LimitReading, windowSeconds: number | undefined): Outcome.LimitReading =>
  windowSeconds === undefined || limit.windowSeconds !== undefined || limit.limit === undefined
    ? limit
    : { ...limit, windowSeconds, ratePerSecond: limit.limit / windowSeconds }

const dialectFor = (ways: Ways, headers: RateLimitHeaders.Headers): RateLimitHeaders.Dialect =>
  ways.dialectFor?.(headers) ?? ways.dialect

const outcomeOf = (
  verdict: Verdict,
  refusal: Refusal,
  reading: Outcome.Reading,
  midStream: boolean
): Outcome.Outcome => {
  const { closes, dimension, outcome } = verdict
  const { retryAfterSeconds } = reading
  const isFinal = outcome === Outcome.ignored
  return outcome({
    dimension: verdict.reason === "RateLimited" ? dimension : undefined,
    reading,
    retryAfterMillis: isFinal || retryAfterSeconds === undefined
      ? undefined
      : Math.min(retryAfterSeconds * 1000, Number.MAX_SAFE_INTEGER),
    closes,
    error: errorOf(verdict, refusal, retryAfterSeconds, midStream)
  })
}

const errorOf = (
  verdict: Verdict,
  refusal: Refusal,
  retryAfterSeconds: number | undefined,
  midStream: boolean
): ApiError.ApiError =>
  new ApiError.ApiError({
    reason: new ApiError[verdict.reason]({
      status: refusal.httpStatus,
      message: refusal.message,
      type: refusal.type,
      code: refusal.code,
      attribution: verdict.attribution,
      dimension: verdict.dimension,
      retryable: verdict.retryable,
      retryAfterSeconds,
      midStream
    })
  })

/** First what the provider's signs name, then what the body names, then what the status says: the provider's, or all's. */
const judge = (ways: Ways, signs: ReadonlyArray<Sign>, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const found = signs.filter((each) => applies(each, refusal))
  const named = found.find((sign) => sign.kind !== undefined || sign.message !== undefined)
  if (named !== undefined) return bySign(ways, named, refusal, reading)
  const told = byKind(ways, refusal, reading)
  if (told !== undefined) return told
  const [sign] = found
  return sign === undefined ? byStatus(ways, refusal, reading) : bySign(ways, sign, refusal, reading)
}

const applies = ({ kind, message, status }: Sign, refusal: Refusal): boolean => {
  if (status !== undefined && status !== refusal.status) return false
  if (kind !== undefined && !refusal.kinds.includes(kind)) return false
  if (message !== undefined && !message.test(refusal.message)) return false
  // What something in front of the provider wrote has the provider's statuses, not their meaning.
  return kind !== undefined || message !== undefined || !refusal.isEdge
}

const bySign = (ways: Ways, sign: Sign, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const { closes, ...usual } = usualVerdict(ways, sign.means, refusal, reading)
  return {
    ...usual,
    ...(closes === undefined || sign.closes === false ? {} : { closes }),
    attribution: sign.attribution ?? usual.attribution,
    retryable: sign.retryable ?? usual.retryable,
    dimension: sign.dimension ?? usual.dimension
  }
}

const usualVerdict = (
  ways: Ways,
  reason: ApiError.Reason["_tag"],
  refusal: Refusal,
  reading: Outcome.Reading
): Verdict => {
  switch (reason) {
    case "RateLimited":
      return limited(ways, refusal, reading)
    case "QuotaExhausted":
      return (reading.retryAfterSeconds ?? 0) >= shortestReset ? spent(reading, refusal.dimension) : payment
    case "Overloaded":
      return overloaded("platform")
    case "ServerError":
      return failed("ServerError", "platform")
    case "GatewayError":
      return unanswered("GatewayError", "edge")
    case "Timeout":
      return unanswered("Timeout", "platform")
    case "Unauthorized":
      return unauthorized
    case "RequestTooLarge":
      return { ...refused("RequestTooLarge"), dimension: refusal.dimension }
    default:
      return refused(reason)
  }
}

const byKind = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict | undefined => {
  const { kinds, message, status, upstream } = refusal
  const isThrottled = kinds.some(status < 429 ? isThrottleByName : isThrottle)
  if (kinds.some(isPeriod)) return spent(reading, refusal.dimension)
  if (status === 402 || kinds.some(isPayment)) return upstream === undefined ? payment : behindUs
  const period = status === 429 || isThrottled ? budget(refusal, reading) : undefined
  if (period !== undefined) return period
  const oversize = sizes.exec(message)
  if (status === 413 || (oversize !== null && Number(oversize[2]) > Number(oversize[1]))) {
    return { ...refused("RequestTooLarge"), dimension: refusal.dimension }
  }
  const isTooLong = kinds.includes("contextlengthexceeded") ||
    (status === 400 && /maximum context length/i.test(message))
  if (isTooLong) return refused("ContextLength")
  const isShort = !refusal.isEdge && (status < 429 ? tierSentence : shortSentence).test(message)
  if (isShort || kinds.some(status < 429 ? isCapacityByName : isCapacity)) {
    return overloaded(kinds.includes("slowdown") ? "caller" : "platform")
  }
  if (status === 429 && upstream !== undefined) return overloaded("upstream")
  return isThrottled ? limited(ways, refusal, reading) : undefined
}

/**
 * The limit of a day or longer is spent, by its headers or by the window that the body names. One that says that it comes
 * back within minutes is a throttle.
 */
const budget = (refusal: Refusal, reading: Outcome.Reading): Verdict | undefined => {
  const long = reading.limits.find((limit) => isSpent(limit) && !((limit.resetSeconds ?? Infinity) < soonSeconds))
  if (long === undefined && (refusal.windowSeconds ?? 0) < daySeconds) return undefined
  // A day that slides gives a place back with each of yesterday's calls, and says so.
  const isSliding = long === undefined && !refusal.isQuotaId && (reading.retryAfterSeconds ?? Infinity) < shortestReset
  if (isSliding) return undefined
  return spent(reading, refusal.dimension ?? (long?.dimension === "other" ? undefined : long?.dimension))
}

/** Closes the key for what is left of the period; for a day when nobody says, or only a hint that can be none of a day. */
const spent = (reading: Outcome.Reading, dimension: Dimension | undefined): Verdict => {
  const resets = reading.limits.filter(isSpent)
  const hint = reading.retryAfterSeconds ?? 0
  const reset = Math.max(0, ...resets.map((limit) => limit.resetSeconds ?? 0))
  const seconds = reset > 0 ? reset : hint >= shortestReset ? hint : daySeconds
  return { ...spentBudget, dimension, closes: { scope: "key", forMillis: seconds * 1000, reason: "quota" } }
}

/** Nothing is left of a limit of a day or longer. */
const isSpent = ({ remaining, windowSeconds }: Outcome.LimitReading): boolean =>
  remaining === 0 && (windowSeconds ?? 0) >= daySeconds

const byStatus = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const { isEdge, isJson, kinds, message, status, upstream } = refusal
  const isText = !isJson && message !== ""
  const behind = upstream === undefined ? "platform" : "upstream"
  const unknownModel = (status === 400 || status === 404) && kinds.some((kind) => modelKinds.includes(kind))
  const closes = { scope: "key", forMillis: Infinity, reason: "unknown model" } as const
  switch (status) {
    case 401:
      return upstream === undefined ? unauthorized : { ...refused("Unauthorized"), attribution: "upstream" }
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
      return isJson && !isEdge ? unanswered("ServerError", behind) : unanswered("GatewayError", "edge")
    case 503:
      return isEdge ? { ...overloaded("edge"), reason: "GatewayError" } : overloaded("platform")
    case 504:
      return unanswered("Timeout", isText || isEdge ? "edge" : "platform")
    case 524:
      return unanswered("Timeout", "edge")
  }
  if (status >= 520 && status <= 527) return unanswered("GatewayError", "edge")
  if (status < 500) return unknownModel ? { ...refused("InvalidRequest"), closes } : refused("InvalidRequest")
  return isText || isEdge ? failed("GatewayError", "edge") : failed("ServerError", behind)
}

/** 403 is a limit where the limits in its headers say so, and else not allowed. */
const forbidden = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  if (refusal.isEdge) return { ...refused("PermissionDenied"), attribution: "edge" }
  const isLimited = ways.dialect.refusals.includes(403) &&
    (RateLimitHeaders.emptied(reading) !== undefined ||
      (reading.limits.length > 0 && reading.retryAfterSeconds !== undefined))
  return isLimited ? limited(ways, refusal, reading) : refused("PermissionDenied")
}

const limited = (ways: Ways, refusal: Refusal, reading: Outcome.Reading): Verdict => {
  const { kinds } = refusal
  const dimension = refusal.dimension ?? RateLimitHeaders.emptied(reading)
  const isNamed = dimension !== undefined || reading.limits.length > 0 ||
    kinds.some((kind) => !opaqueKinds.includes(kind) && !/^\d+$/.test(kind)) ||
    (kinds.length > 0 && reading.retryAfterSeconds !== undefined)
  const attribution = refusal.isEdge ? "edge" : isNamed ? "caller" : ways.attributionOf429
  return { reason: "RateLimited", attribution, outcome: Outcome.limited, retryable: true, dimension }
}

const refused = (reason: Verdict["reason"]): Verdict => ({
  reason,
  attribution: "caller",
  outcome: Outcome.ignored,
  retryable: false
})

const unauthorized: Verdict = {
  reason: "Unauthorized",
  attribution: "caller",
  outcome: Outcome.ignored,
  retryable: false,
  closes: { scope: "credential", forMillis: Infinity, reason: "unauthorized" }
}

const spentBudget: Verdict = {
  reason: "QuotaExhausted",
  attribution: "account",
  outcome: Outcome.ignored,
  retryable: false
}

const payment: Verdict = {
  ...spentBudget,
  closes: { scope: "credential", forMillis: Infinity, reason: "payment" }
}

/** Whoever is behind the provider did not get paid, which is none of our doing and closes nothing of ours. */
const behindUs: Verdict = { ...spentBudget, attribution: "upstream" }

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

const isThrottle = (kind: string): boolean =>
  /ratelimit|throttl/.test(kind) || throttleKinds.includes(kind) || /^dynamic\w*limited$/.test(kind)

/** Below 429 a kind that only speaks of rate limits may be about a setting of that name. */
const isThrottleByName = (kind: string): boolean =>
  /^(?:ratelimit(?:ed|error|exceeded|reached)?|throttl(?:ed|ing|ingexception))$/.test(kind) ||
  throttleKinds.includes(kind) || /^dynamic\w*limited$/.test(kind)

const isCapacity = (kind: string): boolean => /overload|capacity/.test(kind) || capacityKinds.includes(kind)

const isCapacityByName = (kind: string): boolean =>
  /^(?:\w{0,12}overloaded(?:error)?|\w{0,12}capacityexhausted)$/.test(kind) || capacityKinds.includes(kind)

const isPayment = (kind: string): boolean =>
  paymentKinds.includes(kind) || /(?:spend|spending|usage)limit(?:exceeded|reached)$/.test(kind)

/** The limit of a period, which ends by itself. */
const isPeriod = (kind: string): boolean => periodKinds.includes(kind) || /^(?:daily|weekly|monthly)limit/.test(kind)

/** A subscription's own limits of hours and days; an organisation's is one of money. */
const periodKinds: ReadonlyArray<string> = ["usagelimitreached", "planusagelimitreached", "gousagelimiterror"]

/** Types and codes of a spent budget of money; nothing that waits helps. */
const paymentKinds: ReadonlyArray<string> = [
  "insufficientquota",
  "creditbalanceexhausted",
  "exceededcurrentquotaerror",
  "billinghardlimitreached",
  "billingnotactive"
]

const modelKinds: ReadonlyArray<string> = ["modelnotfound", "modelnotavailable"]

const throttleKinds: ReadonlyArray<string> = ["toomanyrequests", "resourceexhausted", "problemquotaexceeded"]

/** Names of a throttle under which providers also hide short capacity: they do not tell whose doing it is. */
const opaqueKinds: ReadonlyArray<string> = ["error", "ratelimiterror", "resourceexhausted", "toomanyrequests"]

const capacityKinds: ReadonlyArray<string> = ["slowdown", "modelnotreadyexception", "problemtemporaryreducedcapacity"]

/** Sentences of short capacity, which come under any type. */
const shortSentence = /\bmodel busy\b|\bcapacity exceeded\b|\bno capacity\b|\boverloaded\b/i

/** The one that comes under any status too; elsewhere "capacity exceeded" may be that of a disk. */
const tierSentence = /^Service tier capacity exceeded\b/i

/** Types of errors within a stream, and the statuses that the same errors have outside of one. */
const statusOfKind: ReadonlyMap<string, number> = new Map([
  ["invalidrequesterror", 400],
  ["validationexception", 400],
  ["authenticationerror", 401],
  ["billingerror", 402],
  ["permissionerror", 403],
  ["notfounderror", 404],
  ["requesttoolarge", 413],
  ["ratelimiterror", 429],
  ["throttlingexception", 429],
  ["serviceunavailableexception", 503],
  ["timeouterror", 504],
  ["modeltimeoutexception", 504]
])

const sizes = /\bLimit (\d{1,15}), (?:Used \d{1,15}, )?Requested (\d{1,15})/

/** Relayed headers are those of a provider that we do not know. */
const relayedDialect: RateLimitHeaders.Dialect = { name: "relayed", refusals: [429] }

const daySeconds = 86_400

/** Gemini tells 47 seconds with the quota of a day: a hint this short is of the minute that is spent as well. */
const shortestReset = 60

/** What comes back within this may be waited for. */
const soonSeconds = 600
