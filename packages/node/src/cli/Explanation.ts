/**
 * What Evenkeel makes of one answer: in plain words for a person, and as a line of JSON for a program.
 *
 * Here belong the words. What an answer means is decided by core's `ProviderProfile`, how it was written down is
 * `AnswerFile`'s. Nothing is shown of an answer but what it says of limits and of its error, and no text of it unescaped.
 */
import type * as ApiError from "@evenkeel/core/ApiError"
import type { Dimension } from "@evenkeel/core/Demand"
import type * as Outcome from "@evenkeel/core/Outcome"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as AnswerFile from "./AnswerFile.ts"

/**
 * An answer, explained.
 *
 * **Details**
 *
 * `reader` says in words which profile read it, and why that one. `usesClock`: it tells a date, which was measured from
 * the clock of this machine because nothing in it tells when it came.
 */
export interface Explanation {
  readonly status: number
  readonly outcome: Outcome.Outcome
  readonly reader: string
  readonly usesClock: boolean
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
 * A provider that the answer names counts more than `profile`. One that is not known is as if none was named.
 */
export const make = (
  answer: AnswerFile.Answer,
  options: {
    readonly profile?: ProviderProfile.ProviderProfile | undefined
    readonly nowMillis?: number | undefined
    readonly clockMillis: number
  }
): Explanation => {
  const { body, headers, provider, status, stream } = answer
  const named = provider === undefined ? undefined : ProviderProfile.named(provider)
  const profile = named ?? (provider === undefined ? options.profile : undefined) ?? ProviderProfile.generic
  const classify = (nowMillis: number) => profile.classify({ status, headers, body, nowMillis, stream })
  const toldMillis = answer.nowMillis ?? options.nowMillis
  const outcome = classify(toldMillis ?? options.clockMillis)
  const reader = provider !== undefined && named === undefined
    ? `"${cut(provider, mostName)}" is no provider that Evenkeel knows: read by the names of its headers.`
    : provider === undefined && options.profile === undefined
    ? "No provider is named: read by the names of its headers."
    : `Read as ${profile.name}, named ${named === undefined ? "by --provider" : "in the input"}.`
  const usesClock = toldMillis === undefined &&
    JSON.stringify(classify(options.clockMillis + hourMillis).reading) !== JSON.stringify(outcome.reading)
  return { status, outcome, reader, usesClock }
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
 * `label` begins the first line, where there is more than one answer.
 */
export const words = (self: Explanation, label = ""): string => {
  const { outcome, reader, status, usesClock } = self
  const { limits, malformed, policies } = outcome.reading
  const reason = outcome.error?.reason
  const paragraphs = [
    wrapped(label + headline(status, outcome)),
    wrapped(action(outcome)),
    table(limits),
    declared(policies, limits),
    ...malformed.slice(0, mostRows).map(({ name, raw }) =>
      wrapped(`Not understood: ${cut(name, mostRaw)}: ${cut(raw, mostRaw)}`)
    ),
    reason === undefined ? "" : saying(reason),
    wrapped(usesClock ? `${reader} Dates in it are measured from this machine's clock; --now sets another.` : reader)
  ]
  return paragraphs.filter((paragraph) => paragraph !== "").join("\n")
}

const headline = (status: number, { error, reading }: Outcome.Outcome): string => {
  const hint = reading.retryAfterSeconds === undefined
    ? undefined
    : `${span(reading.retryAfterSeconds)} (${cut(reading.retryAfterSource ?? "?", mostRaw)})`
  if (error === undefined) return `${status} ok.${hint === undefined ? "" : ` It asks to wait ${hint}.`}`
  const { reason } = error
  const sum = reason.dimension === undefined ? "" : ` (${sumName(reason.dimension)})`
  const again = reason.retryable
    ? `May be sent again${hint === undefined ? "" : `, after ${hint}`}.`
    : `Not to be sent again${hint === undefined ? "" : `; it asks to wait ${hint}`}.`
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
  const waits = retryAfterMillis === undefined ? "backs off" : `waits ${span(retryAfterMillis / 1000)}`
  const long = (retryAfterMillis ?? 0) >= hourMillis ? " (evenkeel run stops, and says when to continue)" : ""
  switch (_tag) {
    case "Limited": {
      // Fewer requests are also fewer calls in flight.
      const sum = dimension === undefined || dimension === "concurrency" ? "requests" : sumName(dimension)
      return `Evenkeel ${waits}${long}, sends it again, and lowers the pace of ${sum.replace(/^\w+put /, "")}.`
    }
    case "Overloaded":
      return `Evenkeel ${waits}${long} and sends it again. ` +
        "It is short capacity, no limit: what was learned of the limits stays."
    case "Unknown":
      return "It may have run and been billed: Evenkeel sends it again only where that is said to be harmless " +
        "(evenkeel run: unless --no-retry-unknown). The pace stays as it is."
    default: {
      const doubt = retryable ? "" : ", though that seldom helps"
      return `Evenkeel ${waits} and sends it again, a few times${doubt}. The pace stays as it is.`
    }
  }
}

const closing = ({ forMillis, reason, scope }: Outcome.Closure): string => {
  const time = forMillis === Infinity ? "" : ` for ${span(forMillis / 1000)}`
  const whom = scope === "credential" ? "with this API key" : "to this model"
  return `Evenkeel sends nothing more ${whom}${time}: ${causes[reason]}.`
}

const learning = ({ limits, retryAfterSeconds }: Outcome.Reading): string => {
  const paces = limits.some(({ dimension, limit, windowSeconds = 0 }) =>
    limit !== undefined && (dimension === "requests" || dimension === "tokens") && windowSeconds < budgetSeconds
  )
  const pace = paces ? "Evenkeel paces by its limits." : "It tells no rate to pace by: Evenkeel finds one by trying."
  return retryAfterSeconds === undefined ? pace : `On a success that stops nothing. ${pace}`
}

/** One row for each limit, first those that the sums are known by; no column of which nothing is known. */
const table = (limits: ReadonlyArray<Outcome.LimitReading>): string => {
  if (limits.length === 0) return ""
  const ordered = [...limits].sort((one, other) => rank(one) - rank(other))
  const rows = ordered.slice(0, mostRows).map((limit) => [
    rowName(limit),
    limit.limit === undefined ? "-" : figure(limit.limit) + perWindow(limit.windowSeconds),
    limit.ratePerSecond === undefined ? "-" : figure(limit.ratePerSecond),
    limit.remaining === undefined ? "-" : figure(limit.remaining),
    limit.resetSeconds === undefined ? "-" : span(limit.resetSeconds)
  ])
  const known = [0, 1, 2, 3, 4].filter((column) => rows.some((row) => row[column] !== "-"))
  const all = [["sum", "limit", "per second", "remaining", "reset"], ...rows].map((row) =>
    known.map((column) => row[column]!)
  )
  const longest = known.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  const room = columns - longest.slice(1).reduce((width, each) => width + 2 + each, 2)
  for (const row of all) row[0] = shortened(row[0]!, Math.max(mostName, room))
  const widths = known.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  const lines = all.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd())
  const left = limits.length - rows.length
  return [...lines, ...(left > 0 ? [`  and ${left} more`] : [])].join("\n")
}

const rank = ({ aside, dimension }: Outcome.LimitReading): number =>
  dimensions.indexOf(dimension) + (aside === true ? dimensions.length : 0)

const rowName = ({ aside, dimension, policy }: Outcome.LimitReading): string => {
  if (dimension === "other") return cut(policy ?? "other", mostName)
  const beside = policy === undefined ? (aside === true ? " (beside)" : "") : ` (${cut(policy, mostName)})`
  return sumName(dimension) + beside
}

/** Limits that are declared, and not in the table. */
const declared = (policies: ReadonlyArray<Outcome.Policy>, limits: ReadonlyArray<Outcome.LimitReading>): string => {
  const untold = policies.filter(({ limit, name }) =>
    !limits.some((each) => each.limit === limit && (name === undefined || each.policy === name))
  )
  if (untold.length === 0) return ""
  const list = untold.slice(0, mostRows).map(({ limit, name, unit, windowSeconds }) =>
    `${figure(limit)} ${cut(unit ?? "requests", mostName)}${perWindow(windowSeconds)}` +
    (name === undefined ? "" : ` (${cut(name, mostName)})`)
  )
  return wrapped(`Also declared: ${list.join(", ")}.`)
}

/** The provider's own words. */
const saying = ({ code, message, type }: ApiError.Reason): string => {
  const names = Object.entries({ type, code }).flatMap(([name, told]) =>
    told === undefined || told === "" ? [] : [`${name} ${cut(told, mostRaw)}`]
  )
  const sentence = cut(masked(message.replace(/\s+/g, " ").trim()), mostMessage)
  const parts = [sentence === "" ? "" : `"${sentence}"`, names.length === 0 ? "" : `(${names.join(", ")})`]
  const said = parts.filter((part) => part !== "").join(" ")
  return said === "" ? "" : wrapped(`The provider says: ${said}`)
}

const classificationOf = (reason: ApiError.Reason | undefined): string =>
  reason === undefined ? "ok" : classifications[reason._tag]

const sumName = (dimension: Dimension): string =>
  dimension === "inputTokens" ? "input tokens" : dimension === "outputTokens" ? "output tokens" : dimension

const perWindow = (seconds: number | undefined): string =>
  seconds === undefined ? "" : ` per ${windowNames.get(seconds) ?? span(seconds)}`

const figure = (value: number): string =>
  value > 0 && value < 0.001 ? "<0.001" : String(Math.round(value * 1000) / 1000)

/** 90 as `90 s`, 903 as `15 min 3 s`, 15420 as `4 h 17 min`, 200000 as `2 d 8 h`. */
const span = (seconds: number): string => {
  if (seconds < 120) return `${figure(seconds)} s`
  const whole = Math.round(seconds)
  const [size, name, partSize, partName] = whole < 7_200
    ? [60, "min", 1, "s"] as const
    : whole < 172_800
    ? [3_600, "h", 60, "min"] as const
    : [86_400, "d", 3_600, "h"] as const
  const part = Math.floor((whole % size) / partSize)
  return `${Math.floor(whole / size)} ${name}${part === 0 ? "" : ` ${part} ${partName}`}`
}

/** Text of the answer, cut and made harmless. */
const cut = (text: string, most: number): string => shortened(AnswerFile.printable(text.slice(0, 2 * most)), most)

const shortened = (text: string, most: number): string => {
  if (text.length <= most) return text
  // No half of a character that takes two.
  return `${text.slice(0, most - 3).replace(/[\uD800-\uDBFF]$/, "")}...`
}

/** Some providers repeat the key that they refuse. */
const masked = (text: string): string =>
  text.replace(/\b(?:bearer \S+|(?:sk|pk|gsk|tgp|xai|hf|ghp)[-_][\w*-]{6,}|AIza[\w*-]{8,})/gi, "[key]")

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
  "payment": "there is no money left",
  "unauthorized": "it is not accepted",
  "unknown model": "the provider does not know it"
}

const windowNames: ReadonlyMap<number, string> = new Map([[1, "s"], [60, "min"], [3_600, "h"], [86_400, "day"]])

/** The width of a terminal that nobody has made wider. */
const columns = 80

/** A word, or as much of a long one as a line holds beside its indent. */
const longWord = /.{1,78}/gsu

/** Characters shown of the name of a limit, a unit or a provider. */
const mostName = 24

/** The order of the rows. */
const dimensions: ReadonlyArray<Outcome.LimitReading["dimension"]> = [
  "requests",
  "tokens",
  "inputTokens",
  "outputTokens",
  "concurrency",
  "other"
]

/** Limits of an hour or longer are budgets, which the controller does not pace by. */
const budgetSeconds = 3_600

/** Characters shown of what could not be read. */
const mostRaw = 60

/** Characters shown of the provider's message: three lines. */
const mostMessage = 240

/** Rows of a table; no answer seen has as many. */
const mostRows = 20

/** A wait of an hour stops a run. An hour later, a figure that is measured from the clock is another. */
const hourMillis = 3_600_000
