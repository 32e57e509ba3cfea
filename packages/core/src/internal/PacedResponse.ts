/**
 * A response whose place is given back when its body ends.
 *
 * Here belongs watching a body: end, error, abort and the usage that its last part tells. The response is otherwise the
 * one that the client returned. Which outcome it was has been decided before.
 */
import * as Effect from "effect/Effect"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Stream from "effect/Stream"
import type { Cost } from "../Demand.ts"
import type { Held } from "./PacerLoop.ts"

/**
 * The same response, watched.
 *
 * **Details**
 *
 * The copy inherits everything from the original and replaces only the ways to read the body, so that whatever a platform
 * adds to its responses stays there. `usage` reads what a body, or one event of a stream, tells of real usage.
 */
export const watch = (
  response: HttpClientResponse,
  held: Held,
  usage: (body: unknown) => Partial<Cost> | undefined
): HttpClientResponse => {
  if (hasNoBody(response)) {
    held.settle()
    return response
  }
  const settled = <A, E>(read: Effect.Effect<A, E>, usageIn: (body: A) => Partial<Cost> | undefined) =>
    Effect.onExit(
      read,
      (exit) => Effect.sync(() => held.settle(exit._tag === "Success" ? usageIn(exit.value) : undefined))
    )
  const text = (body: string) => usageOfText(body, usage)
  const define = (get: () => unknown): PropertyDescriptor => ({ configurable: true, get })
  return Object.create(response, {
    text: define(() => settled(response.text, text)),
    json: define(() => settled(response.json, usage)),
    arrayBuffer: define(() => settled(response.arrayBuffer, (body) => text(new TextDecoder().decode(body)))),
    urlParamsBody: define(() => settled(response.urlParamsBody, () => undefined)),
    formData: define(() => settled(response.formData, () => undefined)),
    stream: define(() => watchStream(response.stream, held, usage))
  })
}

const watchStream = <E>(
  stream: Stream.Stream<Uint8Array, E>,
  held: Held,
  usage: (body: unknown) => Partial<Cost> | undefined
): Stream.Stream<Uint8Array, E> =>
  Stream.suspend(() => {
    const decoder = new TextDecoder()
    let tail = ""
    return stream.pipe(
      Stream.tap((chunk) =>
        Effect.sync(() => {
          held.touch()
          tail = (tail + decoder.decode(chunk, { stream: true })).slice(-tailLength)
        })
      ),
      Stream.ensuring(Effect.sync(() => held.settle(usageOfText(tail, usage))))
    )
  })

/** Usage in a whole JSON body, or in the last event of a stream that has one. */
const usageOfText = (
  text: string,
  usage: (body: unknown) => Partial<Cost> | undefined
): Partial<Cost> | undefined => {
  if (text.length > maxParsed) return undefined
  const whole = parse(text)
  if (whole !== undefined) return usage(whole)
  const lines = text.split("\n")
  for (let i = lines.length - 1; i >= 0; i--) {
    const line = lines[i]!
    if (!line.startsWith("data:")) continue
    const found = usage(parse(line.slice("data:".length)))
    if (found !== undefined) return found
  }
  return undefined
}

/** The value of a JSON text; undefined when it is none. */
export const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const hasNoBody = (response: HttpClientResponse): boolean =>
  response.status === 204 || response.status === 304 || response.request.method === "HEAD" ||
  response.headers["content-length"] === "0"

/** Usage comes with the last events of a stream, which are short. */
const tailLength = 16_384

/** A longer body is not parsed a second time for its usage; the estimate stands. */
const maxParsed = 4_194_304
