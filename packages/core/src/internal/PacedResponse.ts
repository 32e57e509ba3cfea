/**
 * A response whose place is given back when its body ends.
 *
 * Here belongs watching a body: end, error, abort, and what its events tell of usage and of errors; and reading the body of
 * an error to a bound. The response is otherwise the one that the client returned.
 */
import * as Effect from "effect/Effect"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Stream from "effect/Stream"
import type { Demand } from "../Demand.ts"
import type { ProviderProfile } from "../ProviderProfile.ts"
import * as EventStream from "./EventStream.ts"
import type { Held } from "./PacerLoop.ts"

/**
 * The same response, watched.
 *
 * **Details**
 *
 * The copy inherits everything from the original and replaces only the ways to read the body, so that whatever a platform
 * adds to its responses stays there.
 */
export const watch = (
  response: HttpClientResponse.HttpClientResponse,
  held: Held,
  profile: ProviderProfile,
  demand: Demand
): HttpClientResponse.HttpClientResponse => {
  if (hasNoBody(response)) {
    held.settle()
    return response
  }
  const take = (body: unknown) => {
    const usage = profile.usage(body)
    if (usage !== undefined) held.used(usage, profile.charged(demand.cost, usage))
  }
  const settled = <A, E>(read: Effect.Effect<A, E>, textOf: (body: A) => unknown) =>
    Effect.onExit(read, (exit) =>
      Effect.sync(() => {
        const body = exit._tag === "Success" ? textOf(exit.value) : undefined
        if (body !== undefined) take(body)
        held.settle()
      }))
  const short = (body: string) => body.length > mostParsed ? undefined : body
  return withBody(response, {
    text: () => settled(response.text, short),
    json: () => settled(response.json, (body) => body),
    arrayBuffer: () =>
      settled(
        response.arrayBuffer,
        (body) => body.byteLength > mostParsed ? undefined : new TextDecoder().decode(body)
      ),
    urlParamsBody: () => settled(response.urlParamsBody, () => undefined),
    formData: () => settled(response.formData, () => undefined),
    stream: () => watchStream(response.stream, held, profile, take)
  })
}

/**
 * The text of a body, of which no more than so many characters are read; and the response, which can be read again.
 *
 * **Details**
 *
 * A longer body is cut, and what follows is not waited for. One that breaks off, or takes longer than five seconds, is
 * what had come by then.
 */
export const readBounded = (
  response: HttpClientResponse.HttpClientResponse,
  mostBytes: number
): Effect.Effect<{ readonly text: string; readonly response: HttpClientResponse.HttpClientResponse }> =>
  Effect.suspend(() => {
    const parts: Array<Uint8Array> = []
    let length = 0
    const read = response.stream.pipe(
      Stream.takeUntil((chunk) => {
        const part = chunk.subarray(0, mostBytes - length)
        length += part.byteLength
        parts.push(part)
        return length >= mostBytes
      }),
      Stream.runDrain
    )
    return Effect.map(Effect.ignore(Effect.timeout(read, longestReadMillis)), () => {
      const bytes = new Uint8Array(length)
      let at = 0
      for (const part of parts) {
        bytes.set(part, at)
        at += part.byteLength
      }
      return { text: new TextDecoder().decode(bytes), response: withBytes(response, bytes) }
    })
  })

/** The same response with a body that is at hand. */
const withBytes = (
  response: HttpClientResponse.HttpClientResponse,
  bytes: Uint8Array<ArrayBuffer>
): HttpClientResponse.HttpClientResponse => {
  const read = HttpClientResponse.fromWeb(response.request, new Response(bytes))
  return withBody(response, {
    text: () => read.text,
    json: () => read.json,
    arrayBuffer: () => read.arrayBuffer,
    urlParamsBody: () => read.urlParamsBody,
    stream: () => read.stream
  })
}

const withBody = (
  response: HttpClientResponse.HttpClientResponse,
  body: Partial<Record<"text" | "json" | "arrayBuffer" | "urlParamsBody" | "formData" | "stream", () => unknown>>
): HttpClientResponse.HttpClientResponse =>
  Object.create(
    response,
    Object.fromEntries(Object.entries(body).map(([name, get]) => [name, { configurable: true, get }]))
  )

/** Watches a stream of events go by: its first one may tell the input, its last ones the output, or an error. */
const watchStream = <E>(
  stream: Stream.Stream<Uint8Array, E>,
  held: Held,
  profile: ProviderProfile,
  take: (body: unknown) => void
): Stream.Stream<Uint8Array, E> =>
  Stream.suspend(() => {
    const decoder = new TextDecoder()
    let head = ""
    const parts: Array<string> = []
    let length = 0
    const settle = Effect.sync(() => {
      // The tail may begin within an event, of which nothing can be made.
      const text = parts.join("")
      const tail = text.slice(Math.max(0, text.search(/^(?:event|data|:)/m)))
      take(head)
      take(tail)
      held.settle(errorWithin(tail, profile))
    })
    return stream.pipe(
      Stream.tap((chunk) =>
        Effect.sync(() => {
          held.touch()
          const text = decoder.decode(chunk, { stream: true })
          if (head.length < headLength) head += text.slice(0, headLength - head.length)
          parts.push(text)
          length += text.length
          while (length - parts[0]!.length >= tailLength) length -= parts.shift()!.length
        })
      ),
      Stream.ensuring(settle)
    )
  })

/** The reason of an error that came within a stream, which is the last of its events. */
const errorWithin = (text: string, profile: ProviderProfile): string | undefined => {
  for (const { data, name } of EventStream.events(text)) {
    const error = profile.streamError(data, { begun: true, name })
    if (error !== undefined) return error.reason._tag
  }
  return undefined
}

const hasNoBody = (response: HttpClientResponse.HttpClientResponse): boolean =>
  response.status === 204 || response.status === 304 || response.request.method === "HEAD" ||
  response.headers["content-length"] === "0"

/** An error is short, and comes at once; its status alone says most. */
const longestReadMillis = 5_000

/** Characters of the beginning of a stream that are kept, for the event that tells of the input. */
const headLength = 4_096

/** Usage and errors come with the last events of a stream, of which the last may repeat the whole answer. */
const tailLength = 65_536

/** A longer body is not parsed a second time for its usage; the estimate stands. */
const mostParsed = 4_194_304
