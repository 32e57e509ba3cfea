import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import * as Net from "node:net"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

const open = { floorPerSecond: 1000, ceilingPerSecond: 1000, latencyMillis: 20 }

const roomy = { "x-ratelimit-limit": "500", "x-ratelimit-remaining": "499", "x-ratelimit-reset": "1" }

const job = (url: string, ...more: ReadonlyArray<string>): Array<string> => [
  "run",
  "job.jsonl",
  "--base-url",
  url,
  "--json",
  ...more
]

const assertAllAnswered = (folder: CommandLine.Folder, count: number): void => {
  const rows = folder.rows("job.results.jsonl").filter((row) => row.error === null)
  assert.strictEqual(rows.length, count)
  assert.strictEqual(new Set(rows.map((row) => row.custom_id)).size, count)
  for (const { response } of rows) assert.isArray(response?.body.choices)
}

describe.concurrent("evenkeel run, among faults", () => {
  it.live("answers everything, and counts what may be billed twice", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({
        ...open,
        seed: 7,
        faults: [
          { kind: "503", probability: 0.05 },
          { kind: "reset", probability: 0.02 },
          { kind: "500", probability: 0.02 },
          { kind: "html", probability: 0.03 },
          { kind: "truncate", probability: 0.03 }
        ]
      })
      folder.write("job.jsonl", CommandLine.chats(300))
      const ended = yield* folder.run(job(provider.url))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 300)
      const { faults } = yield* provider.stats
      for (const count of Object.values(faults)) assert.isAbove(count, 0)
      const report = JSON.parse(ended.stdout)
      assert.strictEqual(report.refused503, faults["503"])
      assert.strictEqual(report.possiblyBilledTwice, faults.reset + faults.html + faults.truncate)
      assert.strictEqual(report.retries, faults["503"] + faults["500"] + report.possiblyBilledTwice)
      assert.isAbove(report.wastedTokens, 0)
    }))

  it.live("does not send again what may have run with --no-retry-unknown, but for --retry-failed", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => {
        const earlier = provider_seen(seen.body.messages[0].content)
        if (earlier > 0) return { ...FakeProvider.answered(seen), headers: roomy }
        switch (Number(seen.body.messages[0].content.split(" ")[1])) {
          case 1:
            return { reset: true }
          case 2:
            return { status: 502, body: "<html>bad gateway</html>" }
          case 3:
            return { body: "<html>not what was asked for</html>" }
          case 4:
            return {
              headers: { "content-type": "application/json", "content-length": "1000" },
              body: `{"choices":`,
              reset: true
            }
          case 5:
            return FakeProvider.refusal(503, { message: "busy" })
          case 6:
            return FakeProvider.refusal(500, { message: "broken" })
        }
        return { ...FakeProvider.answered(seen), headers: roomy }
      })
      const provider_seen = (content: string): number =>
        provider.seen.filter(({ body }) => body.messages[0].content === content).length - 1
      folder.write("job.jsonl", CommandLine.chats(10))
      const first = yield* folder.run(job(provider.url, "--no-retry-unknown"))
      assert.strictEqual(first.code, 1, first.stderr)
      const failed = folder.rows("job.results.jsonl").filter((row) => row.error !== null)
      assert.deepStrictEqual(failed.map((row) => row.custom_id).sort(), ["c1", "c2", "c3", "c4"])
      assert.deepInclude(JSON.parse(first.stdout), { answered: 6, failed: 4, open: 0, possiblyBilledTwice: 0 })
      const sent = provider.seen.length

      const same = yield* folder.run(job(provider.url))
      assert.strictEqual(same.code, 1)
      assert.deepInclude(JSON.parse(same.stdout), { answeredBefore: 6, failedBefore: 4, attempts: 0 })
      assert.strictEqual(provider.seen.length, sent)

      const again = yield* folder.run(job(provider.url, "--retry-failed"))
      assert.strictEqual(again.code, 0, again.stderr)
      assertAllAnswered(folder, 10)
      assert.strictEqual(provider.seen.length, sent + 4)
      assert.strictEqual((yield* folder.run(job(provider.url))).code, 0)
    }))

  it.live("does not take a page for an answer, however often it comes", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(() => ({ body: "<html>Please log in</html>" }))
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(job(provider.url, "--retries", "1"))
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.strictEqual(provider.seen.length, 2)
      const [row] = folder.rows("job.results.jsonl")
      assert.strictEqual(row?.response?.status_code, 200)
      assert.match(row?.error?.message ?? "", /JSON/)
    }))

  it.live("does not count refusals and connections that were never made against --retries", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.number < 2
          ? FakeProvider.refusal(503, { message: "busy" })
          : seen.number < 4
          ? FakeProvider.refusal(429, { message: "slow down" })
          : FakeProvider.answered(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(job(provider.url, "--retries", "0"))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.deepInclude(JSON.parse(ended.stdout), { refused503: 2, refused429: 2, retries: 4, possiblyBilledTwice: 0 })
    }))

  it.live("waits while the provider is away, and answers everything", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ ...open, outages: [{ fromSeconds: 1, toSeconds: 5 }] })
      folder.write("job.jsonl", CommandLine.chats(300))
      const ended = yield* folder.run(job(provider.url, "--retries", "1", "--rpm", "3600"))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 300)
      const report = JSON.parse(ended.stdout)
      assert.isAbove(report.neverConnected, 0)
      assert.strictEqual(report.refused503, 0)
      assert.isBelow(ended.seconds, 28)
    }))

  it.live("gives up at --deadline when nobody is there, and says what was wrong", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("job.jsonl", CommandLine.chats(3))
      const port = yield* freePort
      const ended = yield* folder.run(job(`http://127.0.0.1:${port}/v1`, "--deadline", "2s"))
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.match(ended.stderr, /3 requests are left open; the same command continues/)
      const report = JSON.parse(ended.stdout)
      assert.isAbove(report.neverConnected, 0)
      assert.deepStrictEqual(folder.rows("job.results.jsonl"), [])
    }))
})

describe.concurrent("evenkeel run, on the way", () => {
  it.live("follows no redirect, so that no credential does", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const elsewhere = yield* FakeProvider.make(FakeProvider.answered)
      const provider = yield* FakeProvider.make(() => ({ status: 307, headers: { location: elsewhere.url } }))
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(job(provider.url), { env: { TOGETHER_API_KEY: "sk-secret" } })
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.strictEqual(elsewhere.seen.length, 0)
      // A redirect ran nothing, and sent again it would come again.
      assert.strictEqual(provider.seen.length, 1)
      const [row] = folder.rows("job.results.jsonl")
      assert.strictEqual(row?.response?.status_code, 307)
      assert.match(row?.error?.message ?? "", /307/)
      assert.deepInclude(JSON.parse(ended.stdout), { failed: 1, possiblyBilledTwice: 0 })
    }))

  it.live("goes through HTTP_PROXY, but to hosts of NO_PROXY", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const proxy = yield* makeProxy(provider.port)
      folder.write("job.jsonl", CommandLine.chats(2))
      const url = "http://provider.invalid/v1"
      const args = job(url, "--header", "Authorization: Bearer sk-mine")
      const through = yield* folder.run(args, { env: { HTTP_PROXY: proxy.url } })
      assert.strictEqual(through.code, 0, through.stderr)
      assert.strictEqual(provider.seen.length, 2)
      assert.isTrue(proxy.asked().every((host) => host.startsWith("provider.invalid")))
      assert.isAbove(proxy.asked().length, 0)
      const past = yield* folder.run([...args, "--output", "past.jsonl", "--deadline", "1"], {
        env: { HTTP_PROXY: proxy.url, NO_PROXY: "provider.invalid" }
      })
      assert.strictEqual(past.code, 3, past.stderr)
      assert.isAbove(JSON.parse(past.stdout).neverConnected, 0)
      assert.strictEqual(provider.seen.length, 2)
    }))

  it.live("counts no line as sent that a proxy did not let through", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      folder.write("job.jsonl", CommandLine.chats(1))
      const proxy = yield* refusingProxy
      const ended = yield* folder.run(
        job("https://provider.invalid/v1", "--api-key-env", "MINE", "--deadline", "2", "--retries", "0"),
        { env: { HTTPS_PROXY: proxy, MINE: "sk-mine" } }
      )
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.isAbove(JSON.parse(ended.stdout).neverConnected, 0)
    }))

  it.live("goes through HTTPS_PROXY to a host of its own key", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make(FakeProvider.answered)
      const proxy = yield* makeProxy(provider.port)
      folder.write("job.jsonl", CommandLine.chats(1))
      const ended = yield* folder.run(
        job("https://provider.invalid/v1", "--api-key-env", "MINE", "--deadline", "1"),
        { env: { HTTPS_PROXY: proxy.url, MINE: "sk-mine" } }
      )
      // The other end of the tunnel speaks no TLS, so nothing was ever sent.
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.isAbove(JSON.parse(ended.stdout).neverConnected, 0)
      assert.strictEqual(JSON.parse(ended.stdout).possiblyBilledTwice, 0)
      assert.strictEqual(proxy.asked()[0], "provider.invalid:443")
      assert.strictEqual(provider.seen.length, 0)
      assert.notInclude(ended.stdout + ended.stderr, "sk-mine")
    }))
})

/** A port where nobody listens. */
const freePort = Effect.scoped(Effect.map(FakeProvider.make(() => ({})), ({ port }) => port))

/** A proxy that opens no tunnel. */
const refusingProxy = Effect.map(
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = Http.createServer()
      server.on("connect", (_, socket: Net.Socket) => socket.end("HTTP/1.1 503 Service Unavailable\r\n\r\n"))
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      return server
    }),
    (server) => Effect.promise(() => new Promise<void>((resolve) => void server.close(() => resolve())))
  ),
  (server) => `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
)

/** A proxy that leads everybody to one port, by tunnel or by absolute URL, and remembers who was asked for. */
const makeProxy = (port: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const asked: Array<string> = []
        const server = Http.createServer((request, response) => {
          asked.push(new URL(request.url ?? "").host)
          const { pathname } = new URL(request.url ?? "")
          request.pipe(
            Http.request({ port, path: pathname, method: request.method, headers: request.headers }, (answer) => {
              response.writeHead(answer.statusCode ?? 0, answer.headers)
              answer.pipe(response)
            })
          )
        })
        const sockets = new Set<Net.Socket>()
        server.on("connect", (request, socket: Net.Socket, head) => {
          asked.push(request.url ?? "")
          const tunnel = Net.connect(port, "127.0.0.1", () => {
            socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
            tunnel.write(head)
            socket.pipe(tunnel)
            tunnel.pipe(socket)
          })
          for (const end of [socket, tunnel]) {
            sockets.add(end)
            end.on("error", () => {})
            end.on("close", () => (end === socket ? tunnel : socket).destroy())
          }
        })
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
        return { server, sockets, asked }
      }),
      ({ server, sockets }) =>
        Effect.promise(() => {
          for (const socket of sockets) socket.destroy()
          const closed = new Promise<void>((resolve) => server.close(() => resolve()))
          server.closeAllConnections()
          return closed
        })
    ),
    ({ asked, server }) => ({
      url: `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`,
      asked: (): ReadonlyArray<string> => asked
    })
  )
