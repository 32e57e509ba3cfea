/**
 * One provider's ways: what its headers say, what its answers mean, what a call costs and whose limit it draws on.
 *
 * Here belong the profile that is made of a provider's table, and the choice of one. The tables are in `profiles`, in the
 * shapes of `ProviderWays`; the grammars of headers are in `RateLimitHeaders`, the taxonomy in `Verdict`. Nothing here
 * sends, waits or learns. It is pure, and whatever a server sends, nothing here throws.
 *
 * **Source**
 *
 * That of each table, in its file.
 */
import * as Context from "effect/Context"
import * as ApiError from "./ApiError.ts"
import { type Cost, type Dimension, type Key, key } from "./Demand.ts"
import * as CallCost from "./internal/CallCost.ts"
import { member, parsed } from "./internal/ErrorBody.ts"
import * as EventStream from "./internal/EventStream.ts"
import * as Verdict from "./internal/Verdict.ts"
import * as Outcome from "./Outcome.ts"
import * as Generic from "./profiles/generic.ts"
import * as Known from "./profiles/known.ts"
import type { Charging, Sign, Ways } from "./ProviderWays.ts"
import type { Dialect, Headers } from "./RateLimitHeaders.ts"

/**
 * What came back from one attempt.
 *
 * **Units**
 *
 * `nowMillis` is wall-clock time at receipt.
 *
 * **Details**
 *
 * `body` is text or parsed JSON, and of an error cut to a bound; undefined when it was not read. On a success it is looked
 * at for an error that comes under status 200. `stream` says that it is the text of an event stream; by default its content
 * type does.
 */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: unknown
  readonly nowMillis: number
  readonly stream?: boolean | undefined
}

/**
 * What a call did use.
 *
 * **Units**
 *
 * Tokens. `inputTokens` holds those that came from the provider's cache; `cachedInputTokens` says how many.
 */
export interface Usage extends Partial<Cost> {
  readonly cachedInputTokens?: number
}

/**
 * One provider's ways.
 *
 * **Shape**
 *
 * | member | tells |
 * | --- | --- |
 * | `origins` | host names that are one provider, `*` for any part |
 * | `limited` | the sums that it limits |
 * | `charging` | what of a call counts against its limits of tokens |
 * | `read` | what an answer says about limits |
 * | `classify` | the verdict on an answer |
 * | `streamError` | the error that an event of a stream with status 200 carries |
 * | `cost` | what a call will be charged, estimated from its body |
 * | `usage` | what a call did use, from its answer, its stream or one event of it |
 * | `charged` | what of that counts, where `reserved` was charged at first |
 * | `requestId` | the provider's name for the call |
 * | `keyOf` | whose limit a call draws on |
 *
 * **Units**
 *
 * `cost`, `usage` and `charged` in requests and tokens.
 *
 * **Details**
 *
 * Bodies are parsed JSON or text. `cost` takes four characters for a token; without a bound an answer counts 256 tokens,
 * and that of an embedding none. An event is its data, or its name and its data. `begun` says that a part of the answer has
 * been passed on: then nothing is retryable.
 */
export interface ProviderProfile {
  readonly name: string
  readonly aliases: ReadonlyArray<string>
  readonly origins: ReadonlyArray<string>
  readonly dialect: Dialect
  readonly limited: ReadonlyArray<Dimension>
  readonly charging: Charging
  readonly read: (answer: Answer) => Outcome.Reading
  readonly classify: (answer: Answer) => Outcome.Outcome
  readonly streamError: (
    event: unknown,
    options: { readonly begun: boolean; readonly name?: string | undefined }
  ) => ApiError.ApiError | undefined
  readonly cost: (requestBody: unknown) => Cost
  readonly usage: (responseBody: unknown) => Usage | undefined
  readonly charged: (reserved: Cost, used: Usage) => Partial<Cost>
  readonly requestId: (headers: Headers, body: unknown) => string | undefined
  readonly keyOf: (call: { readonly url: URL; readonly organisation: string; readonly body?: unknown }) => Key
  readonly idempotencyHeader: string | undefined
}

/**
 * Makes a profile of a provider's table.
 *
 * **Errors**
 *
 * Throws a `RangeError` for a window that is not above zero, and for a sentence whose pattern keeps its place (`g`, `y`).
 *
 * **Example** (A provider in four lines)
 *
 * ```ts
 * import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
 * import * as ProviderWays from "@evenkeel/core/ProviderWays"
 *
 * const acme = ProviderProfile.make(ProviderWays.usual("acme", ["api.acme.example"], {
 *   dialect: { windows: { requests: 60 } },
 *   signs: [{ status: 429, kind: "plan_used_up", means: "QuotaExhausted" }]
 * }))
 *
 * const answer = (type: string) => ({ status: 429, headers: {}, body: { error: { type } }, nowMillis: 0 })
 *
 * acme.classify(answer("too_fast"))._tag // => "Limited"
 * acme.classify(answer("plan_used_up")).closes?.reason // => "payment"
 * ```
 */
export const make = (ways: Ways): ProviderProfile => {
  for (const [dimension, window] of Object.entries(ways.dialect.windows ?? {})) {
    if (window !== "arithmetic" && !(window > 0 && window < Infinity)) {
      throw new RangeError(`ProviderProfile.make: windows.${dimension} of ${ways.name} must be > 0, got ${window}`)
    }
  }
  const placed = ways.signs?.find(({ message }) => message?.global === true || message?.sticky === true)
  if (placed !== undefined) {
    throw new RangeError(`ProviderProfile.make: ${placed.message} of ${ways.name} must have no flag g or y`)
  }
  return profileOf(ways, Verdict.readSigns(ways.signs ?? []))
}

const profileOf = (ways: Ways, signs: ReadonlyArray<Sign>): ProviderProfile => ({
  name: ways.name,
  aliases: ways.aliases ?? [],
  origins: ways.origins,
  dialect: ways.dialect,
  limited: ways.limited,
  charging: ways.charging,
  read: (answer) => Verdict.classify(ways, signs, answer).reading,
  classify: (answer) => Verdict.classify(ways, signs, answer),
  streamError: (event, { begun, name }) => Verdict.streamError(ways, signs, { name, data: event }, begun),
  cost: (requestBody) => CallCost.costOf(requestBody, ways.charging),
  usage: (responseBody) => usageOf(responseBody),
  charged: (reserved, used) => CallCost.chargedFor(ways.charging, reserved, used),
  requestId: (headers, body) => {
    const isName = (name: unknown) => typeof name === "string" && name !== ""
    // A body is parsed only where no header tells.
    const inBody = () => {
      const json = parsed(body)
      return [member(json, "request_id"), member(json, "id")].find(isName)
    }
    const id = ways.requestIdHeaders.map((name) => headers[name.toLowerCase()]).find(isName) ?? inBody()
    return typeof id === "string" ? id.slice(0, mostName) : undefined
  },
  keyOf: ({ body, organisation, url }) => {
    const [first = "*"] = ways.origins
    const told = member(parsed(body), "model")
    const model = typeof told === "string" ? told : ways.modelIn?.exec(url.pathname)?.[1] ?? ""
    const isOne = !first.includes("*") && isAmong(ways.origins, url.hostname)
    return key(isOne ? `https://${first}` : url.origin, organisation, model)
  },
  idempotencyHeader: ways.idempotencyHeader
})

/**
 * The providers that are known by name.
 *
 * **Details**
 *
 * Each is made of a table in `profiles`, and reads answers by it.
 */
export const all: ReadonlyArray<ProviderProfile> = Known.all.map(make)

/** The profile of this name, or that people also call so, in any case of letters. */
export const named = (name: string): ProviderProfile | undefined => {
  const wanted = name.toLowerCase()
  return wanted === generic.name ? generic : all.find((each) => each.name === wanted || each.aliases.includes(wanted))
}

/**
 * A provider that we do not know: units are told by the names it uses, and what kinds and sentences mean by all tables.
 */
export const generic: ProviderProfile = profileOf(Generic.ways, Verdict.readSigns(Known.sharedSigns))

/** Together AI. */
export const together: ProviderProfile = all.find(({ name }) => name === "together")!

/** OpenAI. */
export const openai: ProviderProfile = all.find(({ name }) => name === "openai")!

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
export const forHost = (host: string): ProviderProfile => all.find(({ origins }) => isAmong(origins, host)) ?? generic

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

/** Usage in a body, or in the events of a stream: what a later one says stands, and the first alone tells the input. */
const usageOf = (responseBody: unknown): Usage | undefined => {
  if (typeof responseBody !== "string" || !/^(?:event|data|:)/m.test(responseBody.slice(0, mostName))) {
    return CallCost.usageOf(responseBody)
  }
  let first: Usage | undefined
  let last: Usage | undefined
  for (const { data } of EventStream.events(responseBody)) {
    const usage = data.includes("sage") ? CallCost.usageOf(data) : undefined
    if (usage === undefined) continue
    first ??= usage
    last = usage
  }
  return first === undefined ? undefined : { ...first, ...last }
}

const isAmong = (origins: ReadonlyArray<string>, host: string): boolean => {
  const name = host.toLowerCase().replace(/:\d+$/, "")
  return origins.some((origin) => {
    const [before = "", after] = origin.split("*", 2)
    if (after === undefined) return name === origin
    return name.length > before.length + after.length && name.startsWith(before) && name.endsWith(after)
  })
}

/** Characters of a provider's message that are kept. */
const mostMessage = 500

/** Characters of a request id that are kept. */
const mostName = 200
