/**
 * An `HttpClient` that flows through a `Pacer`.
 *
 * Here belongs the edge between HTTP and the loop: which key and cost a request has, which outcome a response or a failed
 * connection is, when its body has ended. Reading headers and bodies is `ProviderProfile`'s, waiting and retrying the
 * pacer's. It knows no platform: it wraps whatever client it is given.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { ApiError } from "./ApiError.ts"
import * as Credential from "./Credential.ts"
import * as Demand from "./Demand.ts"
import * as PacedResponse from "./internal/PacedResponse.ts"
import * as Outcome from "./Outcome.ts"
import type { PaceError } from "./PaceError.ts"
import * as Pacer from "./Pacer.ts"
import * as ProviderProfile from "./ProviderProfile.ts"

/**
 * How a client paces.
 *
 * **Units**
 *
 * `timeout` is for each attempt: to the headers, and with `buffer` to the end of the body.
 *
 * **Details**
 *
 * `profile`: the provider's ways; by default chosen by host. `organisation`: whose limit it is; by default a digest of the
 * credential. `body`: with `stream` the call ends at the headers and nothing is retried after; with `buffer` the whole
 * body is read inside the paced call, so that one that breaks off, or is JSON and can not be parsed, is *unknown* and may
 * be tried again. `json` is the same for who expects nothing else: any success that is not JSON is *unknown*.
 */
export interface Options {
  readonly profile?: ProviderProfile.ProviderProfile | undefined
  readonly organisation?: string | undefined
  readonly body?: "stream" | "buffer" | "json" | undefined
  readonly timeout?: Duration.Input | undefined
}

/**
 * What one call asks for beyond what its request tells, set for a region of a program.
 *
 * **Units**
 *
 * `cost` in requests and tokens; `priority`: higher goes first; `startWithin`: from now to the latest start.
 *
 * **Details**
 *
 * `requestBody` is the parsed body, for who has it at hand: it saves parsing it again. `model` is whose limit it draws on,
 * where the body does not say. `tenant` names who shares the key, `workload` labels usage records. `idempotent` says that
 * sending twice is harmless.
 */
export interface Call {
  readonly requestBody?: unknown
  readonly cost?: Partial<Demand.Cost> | undefined
  readonly model?: string | undefined
  readonly priority?: number | undefined
  readonly tenant?: string | undefined
  readonly workload?: string | undefined
  readonly startWithin?: Duration.Input | undefined
  readonly idempotent?: boolean | undefined
}

/**
 * What the calls in a region of a program ask for.
 *
 * **Example** (Interactive calls go first)
 *
 * ```ts
 * import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
 * import * as Effect from "effect/Effect"
 *
 * const urgent = Effect.provideService(PacedHttpClient.CurrentCall, { priority: 10, startWithin: "5 seconds" })
 *
 * const seen = urgent(Effect.gen(function*() {
 *   const call = yield* PacedHttpClient.CurrentCall
 *   return call.priority
 * }))
 *
 * Effect.runSync(seen) // => 10
 * ```
 */
export const CurrentCall = Context.Reference<Call>("@evenkeel/core/PacedHttpClient/CurrentCall", {
  defaultValue: () => ({})
})

/** What an `HttpClientError` says whose attempt took longer than `timeout`. */
export const timeoutDescription = "no answer within the timeout"

/**
 * Wraps a client so that its calls flow through the pacer in the context.
 *
 * **Errors**
 *
 * `PaceError` when a call was not sent. A final refusal is returned as the response it was, its body cut at 64 KiB.
 */
export const make = <E, R>(
  client: HttpClient.HttpClient.With<E, R>,
  options?: Options
): Effect.Effect<
  HttpClient.HttpClient.With<E | HttpClientError.HttpClientError | PaceError, R>,
  never,
  Pacer.Pacer
> =>
  Effect.map(
    Effect.service(Pacer.Pacer),
    (pacer) =>
      HttpClient.transform(client, (send, request) =>
        Effect.flatMap(demandOf(request, options), ({ demand, profile }) => {
          let outcome: Outcome.Outcome | undefined
          const conclude = (verdict: Outcome.Outcome) => {
            outcome = verdict
          }
          return pacer.run(
            demand,
            (attempt) => {
              outcome = undefined
              const sent = Effect.flatMap(send, (response) =>
                receive(response, { attempt, conclude, demand, options, profile }))
              return options?.timeout === undefined ? sent : Effect.timeoutOrElse(sent, {
                duration: options.timeout,
                orElse: () =>
                  timedOut(request, conclude)
              })
            },
            (exit) =>
              outcome ?? interpretFailure(exit)
          )
        }))
  )

/**
 * Provides a paced `HttpClient` over the one in the context, for code that wants a plain one.
 *
 * **Details**
 *
 * A `PaceError` becomes the cause of an `HttpClientError`.
 */
export const layer = (
  options?: Options
): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient | Pacer.Pacer> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function*() {
      const client = yield* HttpClient.HttpClient
      const paced = yield* make(client, options)
      const send = (request: HttpClientRequest) =>
        Effect.catchIf(
          paced.execute(request),
          (error): error is PaceError => error._tag === "PaceError",
          (cause) => Effect.fail(transportError(request, cause, cause.message))
        )
      return HttpClient.makeWith<HttpClientError.HttpClientError, never, HttpClientError.HttpClientError, never>(
        Effect.flatMap(send),
        Effect.succeed
      )
    })
  )

/**
 * Makes a client fail with a typed `ApiError` where it would return a refusal (status 400 or above).
 */
export const failRefusals = <E, R>(
  client: HttpClient.HttpClient.With<E, R>,
  options?: { readonly profile?: ProviderProfile.ProviderProfile | undefined }
): HttpClient.HttpClient.With<E | ApiError, R> =>
  HttpClient.transform(
    client,
    (send, request) =>
      Effect.flatMap(send, (response) =>
        response.status < 400 ? Effect.succeed(response) : Effect.flatMap(
          Effect.flatMap(profileFor(request, options), (profile) => readError(response, profile)),
          ({ outcome, response }) => outcome.error === undefined ? Effect.succeed(response) : Effect.fail(outcome.error)
        ))
  )

/**
 * The events of a streaming answer. It fails with a typed `ApiError` at the event that carries one, whether that event has
 * a name or not: the status of a stream is told before anything can go wrong.
 *
 * **Errors**
 *
 * `ApiError` with `midStream`, retryable only before the first event, and for an answer that is a refusal instead of a
 * stream; `SseError` for an event beyond 10 MiB.
 *
 * **Example** (An error under status 200)
 *
 * ```ts
 * import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
 * import * as Effect from "effect/Effect"
 * import * as HttpClientRequest from "effect/http/HttpClientRequest"
 * import * as HttpClientResponse from "effect/http/HttpClientResponse"
 * import * as Stream from "effect/Stream"
 *
 * const body = "data: {\"choices\":[]}\n\nevent: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n"
 * const request = HttpClientRequest.post("https://api.example/v1/messages")
 * const response = HttpClientResponse.fromWeb(request, new Response(body))
 *
 * const error = Effect.flip(Stream.runDrain(PacedHttpClient.events(response)))
 *
 * await Effect.runPromise(Effect.map(error, ({ message }) => message)) // => "200 Overloaded (platform)"
 * ```
 */
export const events = (
  response: HttpClientResponse,
  options?: { readonly profile?: ProviderProfile.ProviderProfile | undefined }
): Stream.Stream<Sse.Event, HttpClientError.HttpClientError | Sse.SseError | ApiError> =>
  Stream.unwrap(
    Effect.map(profileFor(response.request, options), (profile) =>
      response.status >= 400 || isJson(response)
        ? Stream.fromEffect(
          Effect.flatMap(
            readWhole(response, profile),
            ({ outcome, text }) =>
              outcome.error === undefined ? Effect.succeed(eventOf(text)) : Effect.fail(outcome.error)
          )
        )
        : decodeEvents(response, profile))
  )

/** What a server sends that was asked for a stream and gives the whole. */
const eventOf = (data: string): Sse.Event => ({ _tag: "Event", event: "message", id: undefined, data })

const readWhole = (response: HttpClientResponse, profile: ProviderProfile.ProviderProfile) =>
  response.status >= 400
    ? Effect.map(readError(response, profile), ({ outcome }) => ({ outcome, text: "" }))
    : Effect.flatMap(response.text, (text) =>
      Effect.map(classify(response, profile, text), (outcome) => ({ outcome, text })))

const decodeEvents = (response: HttpClientResponse, profile: ProviderProfile.ProviderProfile) =>
  Stream.suspend(() => {
    const parsed: Array<Sse.Event> = []
    // A server that asks to be asked again later asks an `EventSource`, not us.
    const parser = Sse.makeParser((event) => event._tag === "Event" && parsed.push(event))
    let begun = false
    const decode = (text: string): Stream.Stream<Sse.Event, ApiError | Sse.SseError> => {
      const tooLarge = parser.feed(text)
      const told: Array<Sse.Event> = []
      for (const event of parsed.splice(0)) {
        const name = event.event === "message" ? undefined : event.event
        const error = profile.streamError(event.data, { begun, name })
        if (error !== undefined) return Stream.concat(Stream.fromIterable(told), Stream.fail(error))
        told.push(event)
        begun = true
      }
      return Stream.concat(Stream.fromIterable(told), tooLarge === undefined ? Stream.empty : Stream.fail(tooLarge))
    }
    // A last event may lack the blank line that would have ended it.
    const ended = Stream.suspend(() => decode("\n\n"))
    return Stream.concat(Stream.flatMap(Stream.decodeText(response.stream), decode), ended)
  })

/** Whose call it is, what it costs and what it asks for. */
const demandOf = (
  request: HttpClientRequest,
  options: Options | undefined
): Effect.Effect<{ readonly demand: Demand.Demand; readonly profile: ProviderProfile.ProviderProfile }> =>
  Effect.withFiber((fiber) => {
    const call = fiber.getRef(CurrentCall)
    const profile = profileIn(fiber, request, options)
    const body = call.requestBody ?? (call.cost === undefined || call.model === undefined ? bodyOf(request) : undefined)
    const credential = Credential.digest(secretOf(request))
    const key = profile.keyOf({
      url: urlOf(request),
      organisation: options?.organisation ?? credential,
      body: call.model === undefined ? body : { model: call.model }
    })
    const demand = Demand.make({
      ...call,
      key,
      cost: { ...profile.cost(body), ...call.cost },
      credential,
      cachedInput: profile.charging.cachedInput === "free",
      idempotent: call.idempotent ?? safeMethods.has(request.method)
    })
    return Effect.succeed({ demand, profile })
  })

/** An attempt whose response is being received. */
interface Receiving {
  readonly attempt: Pacer.Attempt
  readonly profile: ProviderProfile.ProviderProfile
  readonly demand: Demand.Demand
  readonly options: Options | undefined
  readonly conclude: (outcome: Outcome.Outcome) => void
}

/** Takes the verdict as soon as the headers are there; what follows is the body. */
const receive = (
  response: HttpClientResponse,
  receiving: Receiving
): Effect.Effect<HttpClientResponse, HttpClientError.HttpClientError> => {
  const { attempt, conclude, demand, options, profile } = receiving
  if (response.status >= 400) {
    return Effect.map(readError(response, profile), (read) => {
      conclude(read.outcome)
      return read.response
    })
  }
  return Effect.flatMap(classify(response, profile, undefined), (outcome) => {
    attempt.verdict(outcome)
    if (options?.body === "buffer" || options?.body === "json") return buffered(response, receiving, outcome)
    conclude(outcome)
    return Effect.succeed(PacedResponse.watch(response, attempt.hold(), profile, demand))
  })
}

/** Reads the whole body of a success, which may break off, be no JSON, or be an error after all. */
const buffered = (
  response: HttpClientResponse,
  { attempt, conclude, demand, options, profile }: Receiving,
  accepted: Outcome.Outcome
): Effect.Effect<HttpClientResponse, HttpClientError.HttpClientError> =>
  Effect.flatMap(response.text, (text) => {
    // A redirect, which is not followed, is an answer without one.
    const isWanted = response.status < 300 && (options?.body === "json" || isJson(response))
    const json = isWanted ? parse(text) : null
    if (json === undefined) {
      conclude(notJson(response))
      return Effect.succeed(response)
    }
    // A stream that was read to its end is told by its events.
    const body = json ?? (isEvents(response) ? text : undefined)
    const usage = profile.usage(body)
    if (usage !== undefined) attempt.used(usage, profile.charged(demand.cost, usage))
    return Effect.map(classify(response, profile, body), (outcome) => {
      if (Outcome.neverRan(outcome)) attempt.revise(outcome)
      conclude(outcome.error === undefined ? accepted : outcome)
      return response
    })
  })

/** What a response says, by its headers and what has been read of its body. */
const classify = (
  response: HttpClientResponse,
  profile: ProviderProfile.ProviderProfile,
  body: unknown
): Effect.Effect<Outcome.Outcome> =>
  Effect.map(
    Clock.currentTimeMillis,
    (nowMillis) => profile.classify({ status: response.status, headers: response.headers, body, nowMillis })
  )

/** What a refusal says, and the response, of which no more than a bound has been read. */
const readError = (
  response: HttpClientResponse,
  profile: ProviderProfile.ProviderProfile
): Effect.Effect<{ readonly outcome: Outcome.Outcome; readonly response: HttpClientResponse }> =>
  Effect.flatMap(
    PacedResponse.readBounded(response, maxErrorBody),
    (read) =>
      Effect.map(classify(read.response, profile, read.text), (outcome) => ({ outcome, response: read.response }))
  )

/**
 * The outcome of an attempt that brought no response.
 *
 * **Details**
 *
 * A connection that was never made (refused, DNS, TLS) is *overloaded*, one that broke is *unknown*, a request that could
 * not even be written is *ignored*.
 */
export const interpretFailure = (exit: Exit.Exit<unknown, unknown>): Outcome.Outcome => {
  if (Exit.isSuccess(exit) || Exit.hasInterrupts(exit)) return Outcome.unknown()
  const error = Exit.findErrorOption(exit)
  const failure = error._tag === "Some" ? error.value : undefined
  if (!HttpClientError.isHttpClientError(failure)) return Outcome.ignored()
  const reason = failure.reason
  if (reason._tag === "EncodeError" || reason._tag === "InvalidUrlError") return Outcome.ignored()
  return ProviderProfile.connectionFailed(neverConnected(reason) ? "never connected" : "sent", failure.message)
}

const timedOut = (
  request: HttpClientRequest,
  conclude: (outcome: Outcome.Outcome) => void
): Effect.Effect<never, HttpClientError.HttpClientError> =>
  Effect.suspend(() => {
    const error = transportError(request, undefined, timeoutDescription)
    conclude(ProviderProfile.connectionFailed("sent", timeoutDescription))
    return Effect.fail(error)
  })

const notJson = (response: HttpClientResponse): Outcome.Outcome =>
  ProviderProfile.connectionFailed("sent", `status ${response.status} with a body that is not whole JSON`)

const transportError = (
  request: HttpClientRequest,
  cause: unknown,
  description: string
): HttpClientError.HttpClientError =>
  new HttpClientError.HttpClientError({
    reason: new HttpClientError.TransportError({ request, cause, description })
  })

const profileFor = (
  request: HttpClientRequest,
  options: { readonly profile?: ProviderProfile.ProviderProfile | undefined } | undefined
): Effect.Effect<ProviderProfile.ProviderProfile> =>
  Effect.withFiber((fiber) => Effect.succeed(profileIn(fiber, request, options)))

/** The profile that was given, else the one in force, else that of the host. */
const profileIn = (
  fiber: Fiber.Fiber<unknown, unknown>,
  request: HttpClientRequest,
  options: { readonly profile?: ProviderProfile.ProviderProfile | undefined } | undefined
): ProviderProfile.ProviderProfile =>
  options?.profile ?? fiber.getRef(ProviderProfile.CurrentProfile) ??
    ProviderProfile.forHost(urlOf(request).hostname)

const urlOf = (request: HttpClientRequest): URL => URL.canParse(request.url) ? new URL(request.url) : nowhere

/** The part of a request that says whose it is, and is the same for each of theirs: Amazon signs every one anew. */
const secretOf = ({ headers }: HttpClientRequest): string => {
  const { authorization } = headers
  const signed = authorization === undefined ? null : /^AWS4-HMAC-SHA256 Credential=([^/]+)\//.exec(authorization)
  return signed?.[1] ?? authorization?.replace(/^Bearer /i, "") ?? headers["x-api-key"] ?? headers["api-key"] ??
    headers["x-goog-api-key"] ?? ""
}

const bodyOf = (request: HttpClientRequest): unknown =>
  request.body._tag === "Uint8Array" && request.body.body.byteLength <= maxRequestBody
    ? parse(new TextDecoder().decode(request.body.body))
    : undefined

/** The value of a JSON text; undefined when it is none. */
const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const isEvents = (response: HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/event-stream")

const isJson = (response: HttpClientResponse): boolean => (response.headers["content-type"] ?? "").includes("json")

/** Looks for an error that says so down the chain of causes. */
const neverConnected = (error: unknown): boolean => {
  let cause = error
  for (let depth = 0; depth < 8 && typeof cause === "object" && cause !== null; depth++) {
    const { code, message, syscall } = cause as { readonly [K in "code" | "message" | "syscall"]?: unknown }
    if (syscall === "connect" || (typeof message === "string" && connectionMessages.test(message))) return true
    if (typeof code === "string" && (connectionCodes.has(code) || /^(?:ERR_TLS|ERR_SSL|CERT_)/.test(code))) return true
    const errors = (cause as { readonly errors?: unknown }).errors
    cause = Array.isArray(errors) ? errors[0] : (cause as { readonly cause?: unknown }).cause
  }
  return false
}

/** What operating systems, DNS, TLS and undici call a connection that was never made. */
const connectionCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_FAIL",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_PRX_CONN",
  "UND_ERR_PRX_TLS",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"
])

/** How Node.js and undici tell of a handshake that broke off and a tunnel that a proxy refused: their codes say less. */
const connectionMessages = /before secure TLS connection was established|!== 200 when HTTP Tunneling/

const safeMethods = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"])

/** A request whose URL can not be read fails in the client; until then it belongs to no origin. */
const nowhere = new URL("invalid:")

/** Bytes of an error body that are read; what follows is not waited for. */
const maxErrorBody = 65_536

/** A larger request body is not parsed for its cost. */
const maxRequestBody = 16_777_216
