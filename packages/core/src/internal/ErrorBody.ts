/**
 * Lays the body of an error open: its names for the trouble, its sentence, its hint, the limits that it tells.
 *
 * Here belong the shapes that providers give to errors, and the few sentences with a grammar of their own (`Limit 30000,
 * Requested 342389`, `try again in 5.289s`). What it all means belongs to `Verdict`. Nothing here throws, and what is
 * looked at is bounded, however large or deep the body.
 *
 * **Source**
 *
 * The error pages and SDKs of the providers, recorded and reported answers, RFC 9457, google.rpc.
 */
import * as Predicate from "effect/Predicate"
import type { Dimension } from "../Demand.ts"
import type { LimitReading } from "../Outcome.ts"
import * as WireGrammar from "./WireGrammar.ts"

/**
 * A body, laid open.
 *
 * **Details**
 *
 * `kinds` are the names that it gives its trouble, most trusted first, in small letters and digits only. `windowSeconds` is
 * the span of the limit that refused, `relayed` the headers of a provider behind the provider, `upstream` its name.
 */
export interface ErrorBody {
  readonly kinds: ReadonlyArray<string>
  readonly type: string | undefined
  readonly code: string | undefined
  readonly message: string
  readonly dimension: Dimension | undefined
  readonly windowSeconds: number | undefined
  /** The window was told by google.rpc, beside which a short wait is of another quota. */
  readonly isQuotaId: boolean
  readonly limits: ReadonlyArray<LimitReading>
  readonly relayed: Readonly<Record<string, string>> | undefined
  readonly upstream: string | undefined
  /** It says `ok: false`, as Slack does of what the caller did wrong. */
  readonly isDenied: boolean
  /** The body is the provider's own JSON, even if it was cut off. */
  readonly isJson: boolean
  /** Something in front of the provider wrote it. */
  readonly isEdge: boolean
}

/**
 * Lays a body open.
 *
 * **Details**
 *
 * `body` is parsed JSON or text. `headers` are those that name the trouble as well.
 */
export const open = (body: unknown, headers: Readonly<Record<string, string | undefined>>): ErrorBody => {
  const text = typeof body === "string" ? body.slice(0, mostBody).trim() : ""
  const json = parsed(typeof body === "string" ? text : body)
  const root = rootOf(json)
  const error = errorIn(root)
  const named = namesIn(root, error)
  const message = messageOf(root, error, json === undefined ? text : "")
  const kinds = [...named, ...kindHeaders.map((name) => headers[name])].flatMap((name) =>
    typeof name === "string" && name !== "" && name.length <= mostName ? [kindOf(name)] : []
  )
  const quotas = quotasIn(error)
  return {
    kinds,
    type: nameOf([named[0], named[1], named[2], named[4]].find((type) => typeof type === "string")),
    code: nameOf(member(error, "code") ?? member(root, "code")),
    message,
    dimension: firstOf(kinds, (kind) => sumKinds.get(kind)) ?? quotas[0]?.dimension ?? sumSaid(message) ??
      (throttleStatus(root) === undefined ? undefined : "tokens"),
    windowSeconds: quotas.length > 0
      ? Math.max(...quotas.map((quota) => quota.windowSeconds ?? 0))
      : firstOf(kinds, windowOfKind) ?? windowSaid(message),
    isQuotaId: quotas.length > 0,
    limits: [...quotas.map(({ limit }) => limit).filter(Predicate.isNotUndefined), ...limitsSaid(message, root)],
    relayed: relayedIn(error),
    upstream: nameOf(member(member(error, "metadata"), "provider_name")),
    isDenied: member(root, "ok") === false,
    isJson: json !== undefined || text.startsWith("{") || text.startsWith("["),
    isEdge: member(root, "cloudflare_error") === true || text.startsWith("<") || edgeText.test(text) ||
      (headers["content-type"] ?? "").includes("text/html")
  }
}

/**
 * Is this the body of an error, though its status was a success?
 *
 * **Details**
 *
 * The record of a job (`id` with `object` or `status`, and no choices) holds what became of the job, and is no error of the
 * call that asked for it; an event of a stream is no record. An error without a word or a number in it is none, and so is
 * one item of several.
 */
export const isError = (json: unknown, options: { readonly isEvent: boolean }): boolean => {
  if (Array.isArray(json) && json.length !== 1) return false
  const root = rootOf(json)
  const error = member(root, "error")
  if (member(root, "type") === "error" || errorOfPart(root) !== undefined) return true
  if (exceptions.some((name) => Predicate.isObject(member(root, name)))) return true
  if (isTold(error)) return options.isEvent || !isRecord(root)
  if (typeof error === "string" && error !== "") {
    return Object.keys(Predicate.isObject(root) ? root : {}).every((name) => bareMembers.includes(name))
  }
  // What a query did wrong is in the answer that its caller reads; a throttle is for whoever sends.
  return Array.isArray(member(root, "errors")) &&
    namesIn(root, undefined).some((name) => typeof name === "string" && throttled.test(name))
}

const isTold = (error: unknown): boolean =>
  Predicate.isObject(error) &&
  ["message", "type", "code", "status", "error_type"].some((name) => {
    const told = member(error, name)
    return typeof told === "number" || (typeof told === "string" && told !== "")
  })

const isRecord = (root: unknown): boolean =>
  isPresent(member(root, "id")) && (isPresent(member(root, "object")) || isPresent(member(root, "status"))) &&
  !isPresent(member(root, "choices"))

/** What a body says of the wait: a member of its own, or a sentence. */
export const waitOf = (body: unknown): { readonly seconds: number; readonly source: string } | undefined => {
  const text = typeof body === "string" ? body.slice(0, mostBody) : ""
  const json = parsed(typeof body === "string" ? text : body)
  const root = rootOf(json ?? text)
  const error = errorIn(root)
  for (const name of waitMembers) {
    for (const holder of [root, error]) {
      const seconds = figureOf(member(holder, name))
      if (seconds !== undefined && seconds > 0) return { seconds, source: `body:${name}` }
    }
  }
  const said = waitSaid(messageOf(root, error, json === undefined ? text : ""))
  const info = detailsOf(error).find((detail) => typeNameOf(detail).endsWith("google.rpc.RetryInfo"))
  const delay = member(info, "retryDelay")
  const told = typeof delay === "string" ? WireGrammar.parseDurationSeconds(delay) : undefined
  // The delay is cut to whole seconds, the sentence is not.
  if (told !== undefined && told > 0 && told >= (said ?? 0)) return { seconds: told, source: "body:RetryInfo" }
  if (said !== undefined && said > 0) return { seconds: said, source: "body:message" }
  const bucket = throttleStatus(root)
  const lacking = bucket === undefined ? 0 : (bucket.requested - bucket.available) / bucket.perSecond
  return lacking > 0 && lacking < Infinity ? { seconds: lacking, source: "body:throttleStatus" } : undefined
}

/** JSON text parsed, as it stands alone or in one line of a stream; what is no text is as it was. */
export const parsed = (value: unknown): unknown => {
  if (typeof value !== "string") return value
  const text = value.trimStart().replace(/^data:/, "").trim()
  if (!/^[{["]/.test(text)) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A member of an object or an array, and undefined of anything else. */
export const member = (value: unknown, name: string | number): unknown =>
  Predicate.hasProperty(value, name) ? value[name] : undefined

/** A name in the form in which kinds are compared: `com.amazon#ThrottlingException:http://…` is `throttlingexception`. */
export const kindOf = (name: string): string => {
  const problem = name.indexOf(problemTypes)
  const after = problem === -1 ? name.slice(name.lastIndexOf("#") + 1) : name.slice(problem + problemTypes.length)
  const end = problem === -1 ? after.indexOf(":") : -1
  const plain = (end === -1 ? after : after.slice(0, end)).toLowerCase().replaceAll(/[^a-z0-9]/g, "")
  return problem === -1 ? plain : `problem${plain}`
}

/** Some send an array of one error, or an error as text inside the message of another. */
const rootOf = (json: unknown): unknown => {
  const root = Array.isArray(json) ? json[0] : json
  const inner = member(member(root, "error"), "message")
  const nested = typeof inner === "string" && /^\s*\{/.test(inner) ? parsed(inner.slice(0, mostBody)) : undefined
  return isPresent(member(nested, "error")) ? nested : root
}

const errorIn = (root: unknown): unknown => {
  const exception = exceptions.map((name) => member(root, name)).find(Predicate.isObject)
  return member(root, "error") ?? exception ?? errorOfPart(root) ?? member(member(root, "errors"), 0)
}

/** The error of the first choice, or of a response whose making is told event by event. */
const errorOfPart = (root: unknown): unknown =>
  [
    member(member(root, "choices"), 0),
    member(root, "type") === "response.failed" ? member(root, "response") : undefined
  ]
    .map((part) => member(part, "error"))
    .find(isTold)

/** The names of the trouble, in the order in which they are trusted. */
const namesIn = (root: unknown, error: unknown): ReadonlyArray<unknown> => {
  const first = member(member(root, "errors"), 0)
  return [
    member(root, "error_type"),
    member(error, "error_type"),
    member(error, "type"),
    member(error, "code"),
    member(root, "type"),
    member(root, "code"),
    member(root, "__type"),
    member(error, "status"),
    member(member(error, "details"), "error_code"),
    member(member(error, "metadata"), "limit_source"),
    ...detailsOf(error).map((detail) => member(detail, "reason")),
    ...[first, member(member(error, "errors"), 0)].flatMap((each) => [
      member(each, "type"),
      member(each, "code"),
      member(each, "reason"),
      member(member(each, "extensions"), "code")
    ]),
    member(root, "error_name"),
    exceptions.find((name) => Predicate.isObject(member(root, name))),
    // Slack and others name it, where others write a sentence.
    typeof error === "string" && /^\w+$/.test(error) ? error : undefined
  ]
}

const messageOf = (root: unknown, error: unknown, text: string): string => {
  const said = [
    member(error, "message"),
    error,
    member(root, "message"),
    member(root, "detail"),
    member(root, "title"),
    member(root, "error_description"),
    root
  ].find((each) => typeof each === "string" && each !== "")
  const message = typeof said === "string" ? said : /<title>([^<]*)/i.exec(text.slice(0, mostRead))?.[1] ?? text
  return message.slice(0, mostMessage).trim()
}

/** Limits that google.rpc.QuotaFailure names; of several, none is known to be the one. */
const quotasIn = (error: unknown): ReadonlyArray<{
  readonly dimension: Dimension | undefined
  readonly windowSeconds: number | undefined
  readonly limit: LimitReading | undefined
}> => {
  const failure = detailsOf(error).find((detail) => typeNameOf(detail).endsWith("google.rpc.QuotaFailure"))
  const violations = member(failure, "violations")
  const several = Array.isArray(violations) ? violations.slice(0, mostMembers) : []
  return several.map((violation: unknown) => {
    const id = `${nameOf(member(violation, "quotaId")) ?? ""} ${nameOf(member(violation, "quotaMetric")) ?? ""}`
    const dimension = sumOfQuota(id)
    const windowSeconds = windowOfKind(kindOf(id))
    const limit = figureOf(member(violation, "quotaValue"))
    const isOne = several.length === 1 && (windowSeconds ?? 0) < daySeconds
    return {
      dimension,
      windowSeconds,
      limit: dimension === undefined || limit === undefined || limit < 0 ? undefined : {
        dimension,
        limit,
        ...(windowSeconds === undefined ? {} : { windowSeconds, ratePerSecond: limit / windowSeconds }),
        ...(isOne ? {} : { aside: true as const, policy: nameOf(member(violation, "quotaId")) ?? "quota" })
      }
    }
  })
}

const sumOfQuota = (id: string): Dimension | undefined =>
  /input_?token/i.test(id)
    ? "inputTokens"
    : /output_?token/i.test(id)
    ? "outputTokens"
    : /token/i.test(id)
    ? "tokens"
    : /request/i.test(id)
    ? "requests"
    : undefined

/** Limits that a sentence or a cost report tells. They stand aside: a sentence is no header. */
const limitsSaid = (message: string, root: unknown): ReadonlyArray<LimitReading> => {
  const limits: Array<LimitReading> = []
  const bucket = throttleStatus(root)
  if (bucket !== undefined) {
    const { available, limit, perSecond } = bucket
    limits.push({ dimension: "tokens", limit, remaining: Math.max(0, available), ratePerSecond: perSecond })
  }
  const tell = (dimension: Dimension, limit: number, windowSeconds: number | undefined) => {
    if (!(limit > 0 && limit < Infinity) || windowSeconds === undefined) return
    const ratePerSecond = limit / windowSeconds
    limits.push({ dimension, policy: "message", limit, windowSeconds, ratePerSecond, aside: true })
  }
  for (const [, figure, sum] of message.matchAll(/\b(\d{1,12}(?:\.\d{1,6})?) (RPM|TPM)\b/g)) {
    tell(sum === "RPM" ? "requests" : "tokens", Number(figure), 60)
  }
  const dimension = sumSaid(message)
  const limit = /\bLimit:? (\d{1,15})\b/.exec(message) ??
    /\blimit (?:is|of|for this model is) ([\d,.]{1,15}\d)\b/.exec(message)
  if (limits.length === 0 && limit !== null && dimension !== undefined) {
    const said = message.slice(Math.max(0, limit.index - mostAround), limit.index + mostAround)
    tell(dimension, Number(limit[1]!.replaceAll(",", "")), windowIn(said))
  }
  return limits
}

/** Shopify's bucket of query cost, in points. */
const throttleStatus = (root: unknown): {
  readonly limit: number
  readonly available: number
  readonly perSecond: number
  readonly requested: number
} | undefined => {
  const cost = member(member(root, "extensions"), "cost")
  const status = member(cost, "throttleStatus")
  const limit = figureOf(member(status, "maximumAvailable"))
  const available = figureOf(member(status, "currentlyAvailable"))
  const perSecond = figureOf(member(status, "restoreRate"))
  const requested = figureOf(member(cost, "requestedQueryCost"))
  return limit === undefined || limit < 0 || available === undefined || perSecond === undefined || !(perSecond > 0)
    ? undefined
    : { limit, available, perSecond, requested: requested ?? 0 }
}

const relayedIn = (error: unknown): Readonly<Record<string, string>> | undefined => {
  const headers = member(member(error, "metadata"), "headers")
  if (!Predicate.isObject(headers)) return undefined
  return Object.fromEntries(
    Object.entries(headers).slice(0, mostMembers).flatMap(([name, value]: readonly [string, unknown]) =>
      typeof value === "string" || typeof value === "number" ? [[name.toLowerCase(), `${value}`]] : []
    )
  )
}

/** The sum of which a sentence speaks first. */
const sumSaid = (message: string): Dimension | undefined => {
  const said = sums.exec(message)
  if (said === null) return undefined
  const word = said[0].toLowerCase()
  if (word.includes("concurren")) return "concurrency"
  if (!word.includes("token")) return "requests"
  return /input|prompt/.test(word) ? "inputTokens" : /output|completion/.test(word) ? "outputTokens" : "tokens"
}

/**
 * The window that the first sentence names: what follows says what could be bought. Of several it is the shortest, for who
 * names a day beside a minute names a plan.
 */
const windowSaid = (message: string): number | undefined =>
  windowIn(message.replaceAll(/https?:\/\/\S{1,500}/g, "").split(/\.\s/, 1)[0] ?? "")

const windowIn = (text: string): number | undefined => {
  let shortest: number | undefined
  for (const [, seconds, unit, adverb, model] of text.matchAll(windows)) {
    const named = (unit ?? adverb ?? model ?? "").toLowerCase()
    const window = seconds === undefined ? spans.find(([name]) => named.startsWith(name))?.[1] : Number(seconds)
    if (window !== undefined && window > 0 && !(window >= (shortest ?? Infinity))) shortest = window
  }
  return shortest
}

const windowOfKind = (kind: string): number | undefined => {
  const said = /(?:per|modelby)(second|minute|hour|day|week|month)|(daily|weekly|monthly)/.exec(kind)
  return said === null ? undefined : spans.find(([name]) => (said[1] ?? said[2])!.startsWith(name))?.[1]
}

const waitSaid = (message: string): number | undefined => {
  const clock = /\breplenished in (\d{1,4}):(\d{2}):(\d{2})\b/i.exec(message)
  if (clock !== null) return Number(clock[1]) * 3600 + Number(clock[2]) * 60 + Number(clock[3])
  const said = waits.exec(message)
  if (said === null) return undefined
  const amount = said[1]!.trim().replace(/\.$/, "")
  const unit = said[2]?.toLowerCase()
  if (unit === undefined) return WireGrammar.parseDurationSeconds(amount.replaceAll(" ", ""))
  const number = WireGrammar.parseNumber(amount)
  const span = unit.startsWith("milli") ? 0.001 : spans.find(([name]) => unit.startsWith(name))?.[1] ?? 1
  return number === undefined ? undefined : number * span
}

const detailsOf = (error: unknown): ReadonlyArray<unknown> => {
  const details = member(error, "details")
  return Array.isArray(details) ? details.slice(0, mostMembers) : []
}

const typeNameOf = (detail: unknown): string => nameOf(member(detail, "@type")) ?? ""

const nameOf = (value: unknown): string | undefined =>
  typeof value === "string" || typeof value === "number" ? `${value}`.slice(0, mostName) : undefined

/** A figure that some limit or wait can have: neither so small nor so large that arithmetic with it fails. */
export const figureOf = (value: unknown): number | undefined => {
  const figure = typeof value === "string" ? WireGrammar.parseNumber(value) : value
  if (typeof figure !== "number") return undefined
  const size = Math.abs(figure)
  // Minus zero is zero.
  return size === 0 ? 0 : size >= leastFigure && size <= mostFigure ? figure : undefined
}

/** Is there anything? Providers also write nothing as null and as an empty text. */
export const isPresent = (value: unknown): boolean => value !== undefined && value !== null && value !== ""

const firstOf = <A, B>(values: ReadonlyArray<A>, pick: (value: A) => B | undefined): B | undefined => {
  for (const value of values) {
    const picked = pick(value)
    if (picked !== undefined) return picked
  }
  return undefined
}

/** Kinds that name the limited sum. */
const sumKinds: ReadonlyMap<string, Dimension> = new Map([
  ["dynamicrequestlimited", "requests"],
  ["dynamictokenlimited", "tokens"],
  ["requests", "requests"],
  ["tokens", "tokens"],
  ["inputtokens", "inputTokens"],
  ["outputtokens", "outputTokens"],
  ["globalrate", "requests"],
  ["endpointrate", "requests"],
  ["globalconcurrency", "concurrency"],
  ["endpointconcurrency", "concurrency"],
  ["deploymentratelimittoken", "tokens"],
  ["deploymentratelimitcall", "requests"],
  ["deploymentratelimitrequest", "requests"],
  ["requestquotaexceeded", "requests"],
  ["tokenquotaexceeded", "tokens"],
  ["toomanytokenserror", "tokens"]
])

/** Where RFC 9457's registry keeps the types of problems. */
const problemTypes = "/http-problem-types#"

const sums = new RegExp(
  [
    /\bconcurren(?:t|cy)\b/,
    /\b(?:(?:input|output|prompt|completion) )?tokens? (?:rate )?(?:limit|per (?:sec|min|hour|day|week|month))/,
    /\btoo many (?:(?:input|output|prompt) )?tokens\b/,
    /\btoo many requests, please wait before trying again/,
    /\bnumber of (?:\w+ )?(?:tokens|requests) has exceeded\b/,
    /\b(?:request|querie|call)s? (?:rate limit|per (?:sec|min|hour|day|week|month))/,
    /\b(?:call|request|querie)s? ?\/ ?(?:sec|min|hour|day|month)/,
    /\bfree-models-per-/,
    /\bUserByModelBy(?:Minute|Day|Hour)(?:Tokens?)?\b/
  ].map(({ source }) => source).join("|"),
  "i"
)

const windows =
  /\bper (\d{1,9})s\b|(?:\bper[ -]|\/ ?)(second|sec|minute|min|hour|day|week|month)s?\b|\b(daily|weekly|monthly)(?: \w{1,20}){0,2} (?:limit|quota|cap|budget|allowance)\b|\bByModelBy(Minute|Day|Hour)/gi

const waits =
  /\b(?:again in|retry in|retrying in|retry after|wait(?: for)?|resets in) (?:about )?(\d[\d.]{0,30}(?:[dhms]{1,2} ?[\d.]{0,20}){0,5})(?: ?(milliseconds?|seconds?|secs?|minutes?|mins?|hours?|days?|s)\b)?/i

const spans: ReadonlyArray<readonly [name: string, seconds: number]> = [
  ["sec", 1],
  ["min", 60],
  ["hour", 3600],
  ["da", 86_400],
  ["week", 604_800],
  ["month", 2_592_000]
]

const daySeconds = 86_400

const throttled = /^(?:rate_?limited|throttled|too_?many_?requests)$/i

/** Errors within the event streams of Amazon Bedrock are named by the member that holds them. */
const exceptions: ReadonlyArray<string> = [
  "throttlingException",
  "serviceUnavailableException",
  "internalServerException",
  "modelStreamErrorException",
  "modelTimeoutException",
  "validationException"
]

/** All that stands in a bare refusal whose error is a word or a sentence. */
const bareMembers: ReadonlyArray<string> =
  "error error_description error_type type message detail code status ok request_id retry_after".split(" ")

const waitMembers: ReadonlyArray<string> = ["retry_after_seconds", "retry_after", "resets_in_seconds"]

/** Headers that name the trouble, as those of Amazon, Stripe, Azure, GitHub Models and Discord do. */
const kindHeaders: ReadonlyArray<string> = [
  "x-amzn-errortype",
  "stripe-rate-limited-reason",
  "policy-id",
  "x-ratelimit-type",
  "x-ratelimit-scope"
]

/** How Cloudflare and Envoy speak when the provider does not. */
const edgeText = /^(?:error code: 1\d{3}|upstream connect error|no healthy upstream)/

const leastFigure = 1e-9

const mostFigure = Number.MAX_SAFE_INTEGER

/** Characters of a body that are looked at. */
const mostBody = 65_536

/** Characters of a provider's message that are kept and read. */
const mostMessage = 500

/** Characters before and after a limit in a sentence, among which its window is named. */
const mostAround = 100

/** Characters of a page in which its title is looked for. */
const mostRead = 4096

/** Characters of a type or a code that are kept. */
const mostName = 200

/** Members of a list within a body that are looked at. */
const mostMembers = 16
