/**
 * The sockets of the stand-in provider: routes, bodies in, answers out, broken off where a fault says so, and outages.
 *
 * Here belongs what needs `node:http`. What is answered, and when, belongs to `EchoBackend`.
 */
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type * as EchoBackend from "./EchoBackend.ts"

/** A listener that can be away for a while. */
export interface EchoServer {
  readonly port: number
  /** Closes the listener and every connection; calls nest. */
  readonly leave: () => void
  /** Opens the listener again, on the same port, when each `leave` was answered. */
  readonly comeBack: () => void
  /** Leaves for good; ends when the port is free and no connection is open. */
  readonly close: Effect.Effect<void>
}

/** Where to listen and what to do. */
export interface Options {
  readonly host: string
  readonly port: number
  readonly backend: EchoBackend.EchoBackend
  /** Runs something later, unless the provider has ended. */
  readonly after: (delayMillis: number, run: () => void) => void
}

/**
 * Starts to listen.
 *
 * **Errors**
 *
 * Fails with the error of `node:net` when it cannot listen.
 */
export const listen = (options: Options): Effect.Effect<EchoServer, NodeJS.ErrnoException> =>
  Effect.callback((resume) => {
    const server = Http.createServer(bounds, (request, response) => route(options.backend, request, response))
    server.maxConnections = maxConnections
    const onError = (error: Error) => resume(Effect.fail(error))
    server.once("error", onError)
    server.listen(options.port, options.host, () => {
      server.off("error", onError)
      resume(Effect.succeed(attend(server, options)))
    })
  })

/** Keeps a listener that is open as it is wanted: open, away or closed for good. */
const attend = (server: Http.Server, options: Options): EchoServer => {
  const address = server.address()
  // A string only for a pipe, which `listen` never asks for.
  const port = typeof address === "object" && address !== null ? address.port : options.port
  let state: "open" | "opening" | "closing" | "closed" = "open"
  let absences = 0
  let onGone: (() => void) | undefined

  const update = (): void => {
    if (state === "open" && (absences > 0 || onGone !== undefined)) {
      state = "closing"
      server.close(() => {
        state = "closed"
        update()
      })
      server.closeAllConnections()
    } else if (state === "closed" && onGone !== undefined) {
      onGone()
    } else if (state === "closed" && absences === 0) {
      state = "opening"
      server.listen(port, options.host)
    }
  }

  server.on("listening", () => {
    state = "open"
    update()
  })
  server.on("error", () => {
    // A connection that could not be accepted is its client's loss alone. A port that someone took meanwhile is asked
    // for again until it is free.
    if (state !== "opening") return
    state = "closed"
    if (onGone === undefined) options.after(reopenMillis, update)
    else update()
  })

  return {
    port,
    leave: () => {
      absences++
      update()
    },
    comeBack: () => {
      absences--
      update()
    },
    close: Effect.callback<void>((resume) => {
      onGone = () => resume(Effect.void)
      update()
    })
  }
}

const route = (
  backend: EchoBackend.EchoBackend,
  request: Http.IncomingMessage,
  response: Http.ServerResponse
): void => {
  const path = request.url?.split("?", 1)[0] ?? "/"
  const found = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (found === undefined) {
    return send(response, backend.refuse(refusal(404, `No such path: ${path.slice(0, maxEcho)}`)))
  }
  if (request.method !== found.method && !(request.method === "HEAD" && found.method === "GET")) {
    response.setHeader("allow", found.method)
    return send(response, backend.refuse(refusal(405, `${path} takes ${found.method}`)))
  }
  const { authorization } = request.headers
  if (found.serves === "stats") return send(response, json(backend.stats()))
  if (found.serves === "models") return send(response, backend.models(authorization))
  const { serves } = found
  readBody(request, (body) =>
    body === undefined
      ? send(response, backend.refuse(refusal(413, `The request body is larger than ${maxBodyBytes} bytes`)))
      : backend.call({ route: serves, authorization, body }, (reply) => send(response, reply)))
}

/** Reads a body to its end; one that is too large is thrown away on the way, and read as `undefined`. */
const readBody = (request: Http.IncomingMessage, use: (body: string | undefined) => void): void => {
  const chunks: Array<Buffer> = []
  let bytes = 0
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= maxBodyBytes) chunks.push(chunk)
    else chunks.length = 0
  })
  request.on("end", () => use(bytes > maxBodyBytes ? undefined : Buffer.concat(chunks).toString("utf8")))
  // A client that leaves while it sends has asked for nothing.
  request.on("error", () => {})
}

/** Sends an answer; to a client that has left, nothing. */
const send = (response: Http.ServerResponse, reply: EchoBackend.Reply): void => {
  if (response.destroyed || response.socket === null) return
  if (reply.ending === "reset") {
    response.socket.resetAndDestroy()
    return
  }
  const body = Buffer.from(reply.body, "utf8")
  const isStream = reply.contentType.startsWith("text/event-stream")
  response.writeHead(reply.status, {
    "content-type": reply.contentType,
    ...reply.headers,
    ...(isStream ? { "cache-control": "no-cache" } : { "content-length": body.length })
  })
  if (reply.ending === "truncated") {
    response.write(body.subarray(0, body.length >> 1), () => response.destroy())
    return
  }
  response.end(body)
}

const json = (value: unknown): EchoBackend.Reply => ({
  status: 200,
  contentType: "application/json",
  headers: {},
  body: JSON.stringify(value),
  ending: "whole"
})

const refusal = (status: number, message: string) => ({
  status,
  message,
  type: "invalid_request_error",
  param: null,
  code: null
})

interface Route {
  readonly method: "GET" | "POST"
  readonly serves: "chat" | "embeddings" | "models" | "stats"
}

const routes: Readonly<Record<string, Route>> = {
  "/v1/chat/completions": { method: "POST", serves: "chat" },
  "/v1/embeddings": { method: "POST", serves: "embeddings" },
  "/v1/models": { method: "GET", serves: "models" },
  "/-/stats": { method: "GET", serves: "stats" }
}

/** A chat of about a million tokens. */
const maxBodyBytes = 4 * 1024 * 1024

/** More sockets than a test machine hands out to one process. */
const maxConnections = 10_000

/** How much of an unknown path is said back. */
const maxEcho = 200

/** How often a port that is taken is asked for again. */
const reopenMillis = 100

const bounds: Http.ServerOptions = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  // The two bounds above are checked this often.
  connectionsCheckingInterval: 1000,
  // Longer than clients keep an idle connection, so that it is they who close it and no request meets a closed one.
  keepAliveTimeout: 65_000,
  maxHeaderSize: 16 * 1024
}
