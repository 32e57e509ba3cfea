/**
 * What Evenkeel makes of one answer: in plain words for a person, and as a line of JSON for a program.
 *
 * Here belong the words. What an answer means is decided by core's `ProviderProfile`, how it was written down is
 * `AnswerFile`'s. Nothing is shown of an answer but what it says of limits and of its error, and no text of it unescaped.
 */
import type * as ApiError from "@evenkeel/core/ApiError"
import type * as Outcome from "@evenkeel/core/Outcome"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import type * as AnswerFile from "./AnswerFile.ts"
import * as LimitTable from "./LimitTable.ts"
import * as StrangerText from "./StrangerText.ts"

/**
 * An answer, explained.
 *
 * **Details**
 *
 * `reader` says in words which profile read it and why that one; `isNamed` that somebody named it, and so knows. `usesClock`:
 * it tells a date, which was measured from the clock of this machine because nothing in it tells when it came. `remarks` say
 * what was passed over, and what is not there to read.
 */
export interface Explanation {
  readonly status: number
  readonly outcome: Outcome.Outcome
  readonly reader: string
  readonly isNamed: boolean
  readonly usesClock: boolean
  readonly remarks: ReadonlyArray<string>
}

/**
 * Explains an answer.
 *
 * **Units**
 *
 * `nowMillis` (of an answer that tells no time) and `clockMillis` (when that is not given either) are wall-clock time.
 *
 * **Details**
 *
 * A provider that the answer names counts more than `profile`, and that more than the host that was asked. One that is not
 * known is as if none was named.
 */
export const make = (
  answer: AnswerFile.Answer,
  options: {
    readonly profile?: ProviderProfile.ProviderProfile | undefined
    readonly nowMillis?: number | undefined
    readonly clockMillis: number
  }
): Explanation => {
  const { body, headers, status, stream } = answer
  const { isNamed, profile, reader } = readerOf(answer, options.profile)
  const classify = (nowMillis: number) => profile.classify({ status, headers, body, nowMillis, stream })
  const toldMillis = answer.nowMillis ?? options.nowMillis
  const nowMillis = toldMillis ?? options.clockMillis
  const outcome = classify(nowMillis)
  // A date that has passed is no figure any more; by an earlier clock it is one.
  const usesClock = toldMillis === undefined &&
    [options.clockMillis + hourMillis, 0].some((millis) =>
      JSON.stringify(classify(millis).reading) !== JSON.stringify(outcome.reading)
    )
  const remarks = [
    ...passedOver(headers, nowMillis, outcome.reading),
    ...(isFromCache(answer, profile)
      ? [`From a cache (age ${shown(headers["age"]!, mostName)}): its limits are not counted.`]
      : []),
    ...missing(answer, outcome)
  ]
  return { status, outcome, reader, isNamed, usesClock, remarks }
}

/**
 * The explanation as one line of JSON.
 *
 * **Shape**
 *
 * `classification`, `retryable`, `attribution`, `limitedDimension`, `retryAfterSeconds`, `retryAfterSource`, then those of
 * `requests`, `tokens`, `inputTokens` and `outputTokens` of which anything is known.
 *
 * **Units**
 *
 * Limits and what remains as the provider counts them, times in seconds. `null` is unknown.
 */
export const json = ({ outcome }: Explanation): string => {
  const { reading } = outcome
  const reason = outcome.error?.reason
  const told: Record<string, unknown> = {
    classification: classificationOf(reason),
    retryable: reason?.retryable ?? false,
    attribution: reason?.attribution ?? null,
    limitedDimension: reason?.dimension ?? null,
    retryAfterSeconds: reading.retryAfterSeconds ?? null,
    retryAfterSource: reading.retryAfterSource ?? null
  }
  for (const dimension of ["requests", "tokens", "inputTokens", "outputTokens"] as const) {
    const limit = RateLimitHeaders.primary(reading, dimension)
    if (limit === undefined) continue
    const { limit: most = null, remaining = null, resetSeconds = null } = limit
    told[dimension] = { limit: most, remaining, resetSeconds }
  }
  return JSON.stringify(told)
}

/**
 * The explanation in plain words, in lines of at most 80 columns.
 *
 * **Details**
 *
 * `label` begins the first line, where there is more than one answer. Who read it is left out where somebody named the
 * provider, unless `showsReader`.
 */
export const words = (
  self: Explanation,
  { label = "", showsReader = false }: { readonly label?: string; readonly showsReader?: boolean } = {}
): string => {
  const { isNamed, outcome, reader, remarks, status, usesClock } = self
  const { limits, malformed, policies } = outcome.reading
  const reason = outcome.error?.reason
  const paragraphs = [
    wrapped(label + headline(status, outcome)),
    wrapped(isNoAnswer(status, outcome) ? "" : action(outcome)),
    LimitTable.render(limits),
    wrapped(LimitTable.declared(policies, limits)),
    ...malformed.slice(0, mostMalformed).map(({ name, raw }) =>
      wrapped(`Not understood: ${shown(name, mostRaw)}: ${shown(raw, mostRaw)}`)
    ),
    ...remarks.map(wrapped),
    reason === undefined ? "" : saying(reason),
    wrapped((isNamed && !showsReader) || (limits.length === 0 && isNoAnswer(status, outcome)) ? "" : reader),
    wrapped(usesClock ? "Dates in it are measured from this machine's clock; --now sets another." : "")
  ]
  return paragraphs.filter((paragraph) => paragraph !== "").join("\n")
}

/** Which profile reads an answer, and why that one. */
const readerOf = (
  { host, provider }: AnswerFile.Answer,
  flag: ProviderProfile.ProviderProfile | undefined
): { readonly profile: ProviderProfile.ProviderProfile; readonly reader: string; readonly isNamed: boolean } => {
  const byHeaders = "read by the names of its headers."
  const as = (profile: ProviderProfile.ProviderProfile, how: string, isNamed: boolean) => ({
    profile,
    reader: `Read as ${profile.name}, ${how}.`,
    isNamed
  })
  if (provider !== undefined) {
    const profile = ProviderProfile.named(provider)
    if (profile !== undefined) return as(profile, "named in the input", true)
    const reader = `"${shown(provider, mostName)}" is no provider that Evenkeel knows: ${byHeaders}`
    return { profile: ProviderProfile.generic, reader, isNamed: false }
  }
  if (flag !== undefined) return as(flag, "named by --provider", true)
  const profile = host === undefined ? ProviderProfile.generic : ProviderProfile.forHost(host)
  if (host !== undefined && profile !== ProviderProfile.generic) {
    return as(profile, `by its host ${shown(host, mostRaw)}`, false)
  }
  return { profile, reader: `No provider is named: ${byHeaders}`, isNamed: false }
}

/** Hints that are there, and say no wait. Those that cannot be read are told as such. */
const passedOver = (
  headers: AnswerFile.Answer["headers"],
  nowMillis: number,
  { malformed, retryAfterSource }: Outcome.Reading
): ReadonlyArray<string> =>
  hintNames.flatMap((name) => {
    const value = headers[name]
    if (value === undefined || retryAfterSource === name || malformed.some((each) => each.name === name)) return []
    const isMillis = name !== "retry-after"
    const isWait = isMillis
      ? (RateLimitHeaders.parseNumber(value) ?? 1) > 0
      : RateLimitHeaders.parseRetryAfterSeconds(value, { nowMillis, dateHeader: headers["date"] }) !== undefined
    const why = /[a-z]{3}/i.test(value) ? "it has passed" : "no wait"
    return isWait ? [] : [`Passed over: ${name}: ${shown(value, mostRaw)} (${why}).`]
  })

/** Are there limits that do not count because of the answer's age? */
const isFromCache = (answer: AnswerFile.Answer, profile: ProviderProfile.ProviderProfile): boolean => {
  const { age, ...headers } = answer.headers
  if (age === undefined || !((RateLimitHeaders.parseNumber(age) ?? 0) > 0)) return false
  const { limits, policies } = profile.read({ ...answer, headers, nowMillis: 0 })
  return limits.length > 0 || policies.length > 0
}

/** What would be told by a body that is not there. */
const missing = ({ body, unread }: AnswerFile.Answer, { error }: Outcome.Outcome): ReadonlyArray<string> => {
  if (unread !== undefined) {
    return [`The body is compressed (${shown(unread, mostName)}) and was not read; curl --compressed shows it.`]
  }
  if (body !== undefined && !(typeof body === "string" && body.trim() === "")) return []
  switch (error?.reason._tag) {
    case "RateLimited":
      return ["No body was given, so a spent budget cannot be told from a throttle."]
    case "PermissionDenied":
      return ["No body was given, so a limit cannot be told from a lack of rights."]
    default:
      return []
  }
}

/** A status under which the provider has not answered the call. */
const isNoAnswer = (status: number, { error }: Outcome.Outcome): boolean =>
  error === undefined && (status < 200 || (status >= 300 && status < 400))

const headline = (status: number, outcome: Outcome.Outcome): string => {
  const { error, reading } = outcome
  const hint = reading.retryAfterSeconds === undefined
    ? undefined
    : `${LimitTable.span(reading.retryAfterSeconds)} (${shown(reading.retryAfterSource ?? "?", mostRaw)})`
  if (isNoAnswer(status, outcome)) {
    if (status === 304) return "304: not changed, no answer in it."
    return redirects.includes(status)
      ? `${status}: a redirect, no answer yet (curl -L follows it).`
      : `${status}: no answer yet.`
  }
  if (error === undefined) return `${status} ok.${hint === undefined ? "" : ` It asks to wait ${hint}.`}`
  const { reason } = error
  const sum = reason.dimension === undefined ? "" : ` (${LimitTable.sumName(reason.dimension)})`
  const asks = hint === undefined ? "" : `; it asks to wait ${hint}`
  const again = reason.retryable
    ? `May be sent again${hint === undefined ? "" : `, after ${hint}`}.`
    : outcome.final
    ? `Not to be sent again${asks}.`
    : `Sending it again seldom helps${asks}.`
  return `${status} ${classifications[reason._tag]}: ${doing(reason)}${sum}. ${again}`
}

const doing = ({ _tag, attribution }: ApiError.Reason): string =>
  attribution === "caller" && (_tag === "RateLimited" || _tag === "Overloaded") ? "our traffic" : doers[attribution]

/** What Evenkeel does on such an answer. */
const action = (outcome: Outcome.Outcome): string => {
  const { closes, error } = outcome
  if (closes !== undefined) return closing(closes)
  if (error === undefined) return learning(outcome.reading)
  if (error.reason.midStream && !error.reason.retryable) {
    return "The answer had begun: Evenkeel passes the error on, and does not send the call again."
  }
  if (outcome.final) return "Evenkeel hands the error to the caller. The pace stays as it is."
  const decision = RetryPolicy.decide(RetryPolicy.persistent, RetryPolicy.noAttempts, outcome, {
    idempotent: true,
    chance: 0
  })
  return decision._tag === "Stop"
    ? "That is longer than Evenkeel waits: it hands the error to the caller."
    : trying(outcome, error.reason)
}

/** How a call is tried again, and what that does to the pace. */
const trying = ({ _tag, dimension, retryAfterMillis }: Outcome.Outcome, { retryable }: ApiError.Reason): string => {
  const waits = retryAfterMillis === undefined ? "backs off" : `waits ${LimitTable.span(retryAfterMillis / 1000)}`
  const long = (retryAfterMillis ?? 0) >= hourMillis ? " (evenkeel run stops, and says when to continue)" : ""
  switch (_tag) {
    case "Limited": {
      // Fewer requests are also fewer calls in flight.
      const sum = dimension === undefined || dimension === "concurrency" ? "requests" : LimitTable.sumName(dimension)
      return `Evenkeel ${waits}${long}, sends it again, and lowers the pace of ${sum.replace(/^\w+put /, "")}.`
    }
    case "Overloaded":
      return `Evenkeel ${waits}${long} and sends it again. What was learned of the limits stays.`
    case "Unknown":
      return "It may have run and been billed: Evenkeel sends it again only where that is said to be harmless " +
        "(evenkeel run: unless --no-retry-unknown). The pace stays as it is."
    default: {
      const first = retryable || retryAfterMillis !== undefined ? `${waits} and ` : ""
      return `Evenkeel ${first}sends it again a few times${retryable ? "" : " all the same"}. The pace stays as it is.`
    }
  }
}

const closing = ({ forMillis, reason, scope }: Outcome.Closure): string => {
  const time = forMillis === Infinity ? "" : ` for ${LimitTable.span(forMillis / 1000)}`
  const whom = scope === "credential" ? "with this API key" : "to this model"
  return `Evenkeel sends nothing more ${whom}${time}: ${causes[reason]}.`
}

const learning = ({ limits, retryAfterSeconds }: Outcome.Reading): string => {
  const told = limits.filter(({ limit }) => limit !== undefined)
  const isPaced = ({ dimension, windowSeconds = 0 }: Outcome.LimitReading) =>
    (dimension === "requests" || dimension === "tokens") && windowSeconds < budgetSeconds
  const isSum = ({ dimension }: Outcome.LimitReading) => dimension !== "other" && dimension !== "concurrency"
  const pace = told.some(isPaced)
    ? "Evenkeel paces by its limits."
    : told.some(isSum)
    ? "Evenkeel does not pace by these limits (an hour or longer, or of input or output alone): it finds a rate by trying."
    : "It tells no rate to pace by: Evenkeel finds one by trying."
  return retryAfterSeconds === undefined ? pace : `On a success that stops nothing. ${pace}`
}

/** The words of whoever answered: the provider, or something in front of it. */
const saying = ({ attribution, code, message, type }: ApiError.Reason): string => {
  const names = Object.entries({ type, code }).flatMap(([name, told]) =>
    told === undefined || told === "" ? [] : [`${name} ${shown(told, mostRaw)}`]
  )
  const sentence = shown(message.replace(/\s+/g, " ").trim(), mostMessage)
  const parts = [sentence === "" ? "" : `"${sentence}"`, names.length === 0 ? "" : `(${names.join(", ")})`]
  const said = parts.filter((part) => part !== "").join(" ")
  return said === "" ? "" : wrapped(`The ${attribution === "edge" ? "answer" : "provider"} says: ${said}`)
}

const classificationOf = (reason: ApiError.Reason | undefined): string =>
  reason === undefined ? "ok" : classifications[reason._tag]

/** Lines of at most 80 columns, all but the first indented. A longer word is cut in two. */
const wrapped = (text: string): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ").flatMap((each) => each.match(longWord) ?? [])) {
    const room = columns - (lines.length === 0 ? 0 : 2)
    if (line !== "" && line.length + 1 + word.length > room) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line].join("\n  ")
}

/** Typed so that a new reason is an error here. */
const classifications: Readonly<Record<ApiError.Reason["_tag"], string>> = {
  RateLimited: "rate_limited",
  QuotaExhausted: "quota_exhausted",
  Overloaded: "overloaded",
  RequestTooLarge: "request_too_large",
  ContextLength: "context_length",
  Unauthorized: "auth",
  PermissionDenied: "permission",
  NotFound: "not_found",
  Conflict: "conflict",
  InvalidRequest: "invalid_request",
  ServerError: "server_error",
  GatewayError: "gateway_error",
  Timeout: "timeout"
}

const doers: Readonly<Record<ApiError.Attribution, string>> = {
  caller: "our request",
  account: "our account",
  platform: "the provider",
  upstream: "a provider behind this one",
  edge: "something in front of the provider",
  unknown: "nobody says whose doing"
}

const causes: Readonly<Record<Outcome.Closure["reason"], string>> = {
  "quota": "the quota is spent",
  "payment": "its money or spending limit is used up",
  "unauthorized": "it is not accepted",
  "unknown model": "the provider does not serve it to this key"
}

const shown = StrangerText.shown

/** Headers that say how long to wait, the most trusted last. */
const hintNames: ReadonlyArray<string> = ["retry-after", "x-ms-retry-after-ms", "retry-after-ms"]

/** Statuses that say where else to ask. */
const redirects: ReadonlyArray<number> = [301, 302, 303, 307, 308]

/** The width of a terminal that nobody has made wider. */
const columns = 80

/** A word, or as much of a long one as a line holds beside its indent. */
const longWord = /.{1,78}/gsu

/** Characters shown of the name of a provider or a coding. */
const mostName = 24

/** Limits of an hour or longer are budgets, which the controller does not pace by. */
const budgetSeconds = 3_600

/** Characters shown of what could not be read. */
const mostRaw = 60

/** Characters shown of the provider's message: three lines. */
const mostMessage = 240

/** Headers shown that could not be read. */
const mostMalformed = 20

/** A wait of an hour stops a run. An hour later, a figure that is measured from the clock is another. */
const hourMillis = 3_600_000
