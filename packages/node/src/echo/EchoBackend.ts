/**
 * The stand-in provider without its sockets: who may call, what the limit says, how long the work takes, what goes wrong.
 *
 * Here belong the limits per organisation and model, the faults that are drawn, and the counts of what was answered.
 * What an answer says belongs to `EchoModel`, the law of the limit to `ScenarioLimit`, connections to `EchoServer`.
 */
import type * as Scenario from "@evenkeel/core/testing/Scenario"
import * as ScenarioLimit from "@evenkeel/core/testing/ScenarioLimit"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import * as EchoModel from "./EchoModel.ts"

/**
 * What can go wrong with a call that the limit admitted.
 *
 * **Details**
 *
 * - `503`: the platform is overloaded; nothing ran.
 * - `500`: a server error, told in JSON, after the work.
 * - `html`: 502 with a page of a gateway, after the work.
 * - `reset`: the connection is reset after the work and before the first byte of the answer.
 * - `truncate`: half of a good answer, then the connection is closed.
 */
export type FaultKind = "503" | "500" | "reset" | "html" | "truncate"

/** Every kind of fault. */
export const faultKinds: ReadonlyArray<FaultKind> = ["503", "500", "reset", "html", "truncate"]

/** A kind of fault and how often it befalls an admitted call, from 0 to 1. */
export interface Fault {
  readonly kind: FaultKind
  readonly probability: number
}

/**
 * Which headers tell a client about its limit.
 *
 * **Details**
 *
 * - `all`: on every answer, refusals with `Retry-After`.
 * - `success`: on successes only.
 * - `reset-on-429`: none but `x-ratelimit-reset`, the seconds to wait, on a 429.
 * - `none`: none at all.
 */
export type HeaderMode = "all" | "success" | "reset-on-429" | "none"

/** Every header mode. */
export const headerModes: ReadonlyArray<HeaderMode> = ["all", "success", "reset-on-429", "none"]

/** How calls have ended, and how many are at work. */
export interface Counts {
  /** Work done and answered with 200, to clients that had left as well. */
  readonly served: number
  readonly refused429: number
  /** Faults of kind `503` included. */
  readonly refused503: number
  readonly inFlight: number
}

/** Counts of one organisation's use of one model. */
export interface KeyCounts extends Counts {
  /** The beginning of a digest of the key that was sent, or `anonymous`. */
  readonly organisation: string
  readonly model: string
}

/** What the provider has done since it started. */
export interface Stats extends Counts {
  /** Requests with an answer of 400 to 499 that is not a 429: they met no limit. */
  readonly invalid: number
  /** Calls that met a fault; but for `503`, all of them after the work. */
  readonly faults: Readonly<Record<FaultKind, number>>
  readonly keys: ReadonlyArray<KeyCounts>
}

/** An answer on its way to a socket. */
export interface Reply {
  readonly status: number
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly ending: "whole" | "reset" | "truncated"
}

/** A request as the backend needs it. */
export interface Incoming {
  readonly route: "chat" | "embeddings"
  readonly authorization: string | undefined
  readonly body: string
}

/** What a backend is made of. */
export interface Options {
  readonly scenario: Scenario.Scenario
  /** Without a mode the scenario's own headers are sent. */
  readonly headers: HeaderMode | undefined
  /** Without it the scenario's service times are drawn. */
  readonly latencyMillis: number | undefined
  readonly faults: ReadonlyArray<Fault>
  /** Without them every name is a model. */
  readonly models: ReadonlyArray<string> | undefined
  readonly apiKey: Redacted.Redacted | undefined
  /** Numbers from 0 to 1, each use its own so that one does not shift the other. */
  readonly random: { readonly fault: () => number; readonly overload: () => number; readonly service: () => number }
  /** A clock that never goes back, in seconds. */
  readonly nowSeconds: () => number
  readonly unixSeconds: () => number
  /** Runs something later. */
  readonly after: (delayMillis: number, run: () => void) => void
  /** Called as the first call meets its limit: the scenario's second 0. */
  readonly onStart: () => void
}

/** The provider behind the sockets. */
export interface EchoBackend {
  /** Answers a call, later and exactly once. */
  readonly call: (incoming: Incoming, reply: (reply: Reply) => void) => void
  /** Answers at once with a refusal that is not about limits, and counts it. */
  readonly refuse: (refusal: EchoModel.Refusal) => Reply
  /** The list of models, for those who may call. */
  readonly models: (authorization: string | undefined) => Reply
  readonly stats: () => Stats
}

/**
 * Makes a backend.
 *
 * **Details**
 *
 * An organisation is known by its key, of which only a digest is kept. Each organisation and model has a limit of its
 * own. All limits share the scenario's clock, which starts at the first call that meets one. At most 10,000 limits are
 * kept: the one that was used least recently, and has no call at work, gives way and starts anew if it returns.
 */
export const make = (options: Options): EchoBackend => {
  const state: State = {
    options,
    apiKeyDigest: options.apiKey === undefined ? undefined : digest(Redacted.value(options.apiKey)),
    keys: new Map(),
    total: { served: 0, refused429: 0, refused503: 0, inFlight: 0 },
    faults: { "503": 0, "500": 0, reset: 0, html: 0, truncate: 0 },
    startSeconds: undefined,
    invalid: 0,
    admitted: 0
  }
  return {
    refuse: (refusal) => refuse(state, refusal),
    call: (incoming, reply) => {
      const organisation = organisationOf(state, incoming.authorization)
      if (Result.isFailure(organisation)) return reply(refuse(state, organisation.failure))
      const call = Result.flatMap(parseJson(incoming.body), readers[incoming.route])
      if (Result.isFailure(call)) return reply(refuse(state, call.failure))
      const { model } = call.success
      if (options.models?.includes(model) === false) return reply(refuse(state, unknownModel(model)))
      return meetLimit(state, keyOf(state, organisation.success, model), call.success, reply)
    },
    models: (authorization) => {
      const organisation = organisationOf(state, authorization)
      return Result.isFailure(organisation)
        ? refuse(state, organisation.failure)
        : replyWith(200, EchoModel.modelList(options.models ?? [anyModel]))
    },
    stats: () => ({
      ...state.total,
      invalid: state.invalid,
      faults: { ...state.faults },
      keys: Array.from(state.keys.values(), ({ inFlight, model, organisation, refused429, refused503, served }) => ({
        organisation,
        model,
        served,
        refused429,
        refused503,
        inFlight
      }))
    })
  }
}

interface State {
  readonly options: Options
  readonly apiKeyDigest: Buffer | undefined
  /** Least recently used first. */
  readonly keys: Map<string, Key>
  readonly total: { -readonly [Name in keyof Counts]: Counts[Name] }
  readonly faults: Record<FaultKind, number>
  startSeconds: number | undefined
  invalid: number
  admitted: number
}

type Send = (reply: Reply) => void

/** The limit's verdict, and what follows from it. */
const meetLimit = (state: State, key: Key, call: EchoModel.Call, send: Send): void => {
  const { after, headers: mode } = state.options
  const verdict = key.limit.arrive(elapsedSeconds(state), call.inputTokens)
  if (verdict._tag === "Admit") return work(state, key, call, verdict, send)
  if (verdict.status === 503) return overloaded(state, key, visible(mode, "error", verdict.headers), send)
  count(state, key, "refused429", 1)
  const errorType = verdict.errorType ?? "dynamic_request_limited"
  const body = EchoModel.errorBody({ message: verdict.message, type: errorType, param: null, code: null }, {
    errorType
  })
  after(refusalMillis, () => send(replyWith(429, body, visible(mode, "429", verdict.headers))))
}

/** The work of an admitted call, to its end whether or not anybody still waits for it; or its fault. */
const work = (state: State, key: Key, call: EchoModel.Call, admitted: ScenarioLimit.Admit, send: Send): void => {
  const { after, faults, headers: mode, latencyMillis, random, scenario, unixSeconds } = state.options
  const fault = drawFault(faults, random.fault)
  const errorHeaders = scenario.headers.onError ? visible(mode, "error", admitted.headers) : {}
  if (fault !== undefined) state.faults[fault]++
  if (fault === "503") return overloaded(state, key, errorHeaders, send)
  const serviceMillis = latencyMillis ?? serviceSeconds(scenario, call.outputTokens, random.service) * 1000
  const id = `echo-${++state.admitted}`
  count(state, key, "inFlight", 1)
  after(admitted.delaySeconds * 1000 + serviceMillis, () => {
    count(state, key, "inFlight", -1)
    if (fault === "500") return send(replyWith(500, EchoModel.errorBody(serverError), errorHeaders))
    if (fault === "html") return send({ ...replyWith(502, gatewayPage), contentType: "text/html" })
    key.limit.complete(elapsedSeconds(state), call.inputTokens, call.outputTokens)
    if (fault === undefined) count(state, key, "served", 1)
    const answer = EchoModel.answer(call, { id, createdSeconds: Math.floor(unixSeconds()) })
    return send({
      ...replyWith(200, answer.body, { ...visible(mode, "success", admitted.headers), "x-request-id": id }),
      contentType: answer.contentType,
      ending: fault === "reset" ? "reset" : fault === "truncate" ? "truncated" : "whole"
    })
  })
}

const overloaded = (state: State, key: Key, headers: Reply["headers"], send: Send): void => {
  count(state, key, "refused503", 1)
  state.options.after(overloadMillis, () => send(replyWith(503, EchoModel.errorBody(overload), headers)))
}

const refuse = (state: State, refusal: EchoModel.Refusal): Reply => {
  state.invalid++
  return replyWith(refusal.status, EchoModel.errorBody(refusal))
}

/** The organisation that a header speaks for, or why it may not call. */
const organisationOf = (
  { apiKeyDigest }: State,
  authorization: string | undefined
): Result.Result<string, EchoModel.Refusal> => {
  const token = authorization === undefined ? undefined : bearer.exec(authorization)?.[1]
  if (apiKeyDigest === undefined) return Result.succeed(token === undefined ? anonymous : shortDigest(digest(token)))
  return token !== undefined && Crypto.timingSafeEqual(digest(token), apiKeyDigest)
    ? Result.succeed(shortDigest(apiKeyDigest))
    : Result.fail(wrongKey)
}

const elapsedSeconds = (state: State): number => {
  if (state.startSeconds === undefined) {
    state.startSeconds = state.options.nowSeconds()
    state.options.onStart()
  }
  return state.options.nowSeconds() - state.startSeconds
}

const keyOf = ({ keys, options }: State, organisation: string, model: string): Key => {
  const id = `${organisation} ${model}`
  const known = keys.get(id)
  const key = known ?? {
    organisation,
    model,
    served: 0,
    refused429: 0,
    refused503: 0,
    inFlight: 0,
    limit: ScenarioLimit.make(options.scenario, options.random.overload)
  }
  if (known !== undefined) keys.delete(id)
  else if (keys.size >= maxKeys) evict(keys)
  keys.set(id, key)
  return key
}

const count = (state: State, key: Key, what: keyof Counts, by: 1 | -1): void => {
  key[what] += by
  state.total[what] += by
}

/** One organisation's use of one model. */
type Key = { -readonly [Name in keyof KeyCounts]: KeyCounts[Name] } & { readonly limit: ScenarioLimit.ScenarioLimit }

const replyWith = (status: number, body: string, headers: Reply["headers"] = {}): Reply => ({
  status,
  contentType: "application/json",
  headers,
  body,
  ending: "whole"
})

/** The headers that a mode lets through. */
const visible = (
  mode: HeaderMode | undefined,
  answer: "success" | "429" | "error",
  headers: Readonly<Record<string, string>>
): Readonly<Record<string, string>> => {
  if (mode === undefined || mode === "all" || (mode === "success" && answer === "success")) return headers
  if (mode !== "reset-on-429" || answer !== "429") return {}
  // Here the reset says when to try again, which the full set says in `Retry-After`.
  const waitSeconds = headers["retry-after"] ?? headers["x-ratelimit-reset"]
  return waitSeconds === undefined ? {} : { "x-ratelimit-reset": waitSeconds }
}

/** One number decides, so that each kind has its own probability whatever stands before it. */
const drawFault = (faults: ReadonlyArray<Fault>, random: () => number): FaultKind | undefined => {
  if (faults.length === 0) return undefined
  let rest = random()
  for (const fault of faults) {
    if (rest < fault.probability) return fault.kind
    rest -= fault.probability
  }
  return undefined
}

/** The service time of a scenario: per call, or per token of output where tokens are limited. */
const serviceSeconds = (scenario: Scenario.Scenario, outputTokens: number, random: () => number): number => {
  const { firstTokenSeconds, perTokenSeconds, serviceMedianSeconds, serviceSigma } = scenario.latency
  return scenario.tokens === null
    ? Math.min(20, Math.max(minServiceSeconds, serviceMedianSeconds * Math.exp(serviceSigma * gaussian(random))))
    : Math.min(
      60,
      Math.max(
        minServiceSeconds,
        firstTokenSeconds * Math.exp(firstTokenSigma * gaussian(random)) + perTokenSeconds * outputTokens
      )
    )
}

/** The Box-Muller transform; 1 - u keeps the logarithm finite. */
const gaussian = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** Lets go of the least recently used key that is idle; of the very oldest when the first hundred are all at work. */
const evict = (keys: Map<string, Key>): void => {
  let oldest: string | undefined
  let looked = 0
  for (const [id, key] of keys) {
    oldest ??= id
    if (key.inFlight === 0 || ++looked >= maxLooks) {
      keys.delete(key.inFlight === 0 ? id : oldest)
      return
    }
  }
}

const readers: Record<Incoming["route"], (body: unknown) => Result.Result<EchoModel.Call, EchoModel.Refusal>> = {
  chat: EchoModel.readChat,
  embeddings: EchoModel.readEmbeddings
}

const parseJson = (body: string): Result.Result<unknown, EchoModel.Refusal> =>
  Result.try({
    try: (): unknown => JSON.parse(body),
    catch: () => EchoModel.invalid("The request body is not valid JSON")
  })

const digest = (token: string): Buffer => Crypto.createHash("sha256").update(token).digest()

/** 16 hex digits tell organisations apart and give no key away. */
const shortDigest = (bytes: Buffer): string => bytes.toString("hex", 0, 8)

const bearer = /^Bearer +(\S+)$/i
const anonymous = "anonymous"

/** What the list of models names when every name is a model. */
const anyModel = "echo"

const wrongKey: EchoModel.Refusal = {
  status: 401,
  message: "Invalid API key provided. You can find your API key at https://api.together.xyz/settings/api-keys.",
  type: "invalid_request_error",
  param: null,
  code: "invalid_api_key"
}

const unknownModel = (model: string): EchoModel.Refusal => ({
  status: 404,
  message: `The model \`${model}\` does not exist`,
  type: "invalid_request_error",
  param: "model",
  code: "model_not_found"
})

const serverError = { message: "Internal server error", type: "server_error", param: null, code: null }
const overload = {
  message: "The model is overloaded. Please try again later.",
  type: "overloaded",
  param: null,
  code: null
}
const gatewayPage = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"

/** How soon the model of section 1.3 of the control study answers a refusal, and an overload. */
const refusalMillis = 5
const overloadMillis = 20

/** The bounds and the spread of service times in section 1.1 of the control study. */
const minServiceSeconds = 0.2
const firstTokenSigma = 0.3

/** Bounds the memory of a provider that is called with ever new keys or models, near 10 MB. */
const maxKeys = 10_000

/** How many busy keys eviction looks at before it takes a busy one. */
const maxLooks = 100
