/**
 * A provider that answers as a test scripts it, for what `EchoProvider` never says: other statuses, headers and manners.
 *
 * Here belong the socket and what came over it. No limit, no law and no model: each answer is the test's own.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type * as Net from "node:net"

/** A request as it came. `atMillis` on a clock that never goes back. */
export interface Seen {
  readonly number: number
  readonly method: string
  readonly url: string
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever was sent
  readonly body: any
  readonly atMillis: number
}

/**
 * What is answered.
 *
 * **Details**
 *
 * `after` waits first, in milliseconds. `body` is sent as JSON unless it is text. `hang` never answers, `reset` breaks the
 * connection, `chunks` come one after another with `after` between them, and then an end unless `open` is set.
 */
export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly after?: number
  readonly hang?: boolean
  readonly reset?: boolean
  readonly chunks?: ReadonlyArray<string>
  readonly open?: boolean
}

/** A provider that runs. */
export interface FakeProvider {
  readonly url: string
  readonly port: number
  readonly seen: ReadonlyArray<Seen>
  readonly mostInFlight: () => number
  readonly inFlight: () => number
}

/** Starts a provider, which ends with the scope. */
export const make = (answer: (seen: Seen) => Answer): Effect.Effect<FakeProvider, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => listen(answer)),
      ({ server }) =>
        Effect.promise(() => {
          const closed = new Promise<void>((resolve) => server.close(() => resolve()))
          server.closeAllConnections()
          return closed
        })
    ),
    ({ provider }) => provider
  )

/** A whole answer to a chat. */
export const answered = (seen: Seen): Answer => ({
  headers: { "x-request-id": `fake-${seen.number}` },
  body: {
    id: `chatcmpl-${seen.number}`,
    object: "chat.completion",
    model: seen.body?.model,
    choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: `answer ${seen.number}` } }],
    usage: { prompt_tokens: 3, completion_tokens: 5, total_tokens: 8 }
  }
})

/** An error in the form that OpenAI and Together share. */
export const refusal = (
  status: number,
  error: { readonly message: string; readonly type?: string; readonly code?: string },
  headers: Readonly<Record<string, string>> = {}
): Answer => ({ status, headers, body: { error: { type: null, param: null, code: null, ...error } } })

const listen = async (answer: (seen: Seen) => Answer) => {
  const seen: Array<Seen> = []
  let inFlight = 0
  let mostInFlight = 0
  const server = Http.createServer((request, response) => {
    const chunks: Array<Buffer> = []
    inFlight++
    mostInFlight = Math.max(mostInFlight, inFlight)
    response.once("close", () => inFlight--)
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("error", () => {})
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString("utf8")
      const one: Seen = {
        number: seen.length,
        method: request.method ?? "",
        url: request.url ?? "",
        headers: request.headers,
        text,
        body: parse(text),
        atMillis: performance.now()
      }
      seen.push(one)
      void reply(response, answer(one))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as Net.AddressInfo
  const provider: FakeProvider = {
    url: `http://127.0.0.1:${port}/v1`,
    port,
    seen,
    mostInFlight: () => mostInFlight,
    inFlight: () => inFlight
  }
  return { server, provider }
}

const reply = async (response: Http.ServerResponse, answer: Answer): Promise<void> => {
  const { after = 0, body, chunks, hang, headers, reset, status = 200 } = answer
  if (hang === true) return
  if (after > 0) await pause(after)
  if (reset === true) return response.socket?.resetAndDestroy() as void
  const isText = typeof body === "string"
  const type = chunks !== undefined ? "text/event-stream" : isText ? "text/html" : "application/json"
  response.writeHead(status, { "content-type": type, ...headers })
  if (chunks === undefined) return void response.end(body === undefined ? "" : isText ? body : JSON.stringify(body))
  for (const chunk of chunks) {
    response.write(chunk)
    await pause(Math.max(1, after))
  }
  if (answer.open !== true) response.end()
}

const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
