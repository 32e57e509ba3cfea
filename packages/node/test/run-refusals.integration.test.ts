import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as CommandLine from "./CommandLine.ts"
import * as FakeProvider from "./FakeProvider.ts"

const job = (provider: { readonly url: string }, ...more: ReadonlyArray<string>): Array<string> => [
  "run",
  "job.jsonl",
  "--base-url",
  provider.url,
  "--json",
  ...more
]

/** The headers of a provider that is not in the way. */
const roomy = { "x-ratelimit-limit": "500", "x-ratelimit-remaining": "499", "x-ratelimit-reset": "1" }

const answeredFast = (seen: FakeProvider.Seen): FakeProvider.Answer => ({
  ...FakeProvider.answered(seen),
  headers: roomy
})

/** The number of the question that a line asks. */
const questionOf = ({ body }: FakeProvider.Seen): number => Number(body.messages[0].content.split(" ")[1])

/** How often each question came. */
const attemptsOf = (provider: FakeProvider.FakeProvider, question: number): number =>
  provider.seen.filter((seen) => questionOf(seen) === question).length

/** A provider that knows how often it was asked a question before. */
const scripted = (answer: (question: number, earlier: number, seen: FakeProvider.Seen) => FakeProvider.Answer) => {
  const asked = new Map<number, number>()
  return FakeProvider.make((seen) => {
    const question = questionOf(seen)
    const earlier = asked.get(question) ?? 0
    asked.set(question, earlier + 1)
    return answer(question, earlier, seen)
  })
}

const rowOf = (folder: CommandLine.Folder, customId: string): CommandLine.Row | undefined =>
  folder.rows("job.results.jsonl").find(({ custom_id }) => custom_id === customId)

/** Each request has exactly one row, and it is a success. */
const assertAllAnswered = (folder: CommandLine.Folder, count: number): void => {
  const rows = folder.rows("job.results.jsonl")
  assert.deepStrictEqual(rows.filter(({ error }) => error !== null), [])
  assert.deepStrictEqual(
    rows.map(({ custom_id }) => custom_id).sort(),
    Array.from({ length: count }, (_, index) => `c${index}`).sort()
  )
}

/** The pace that a run left behind for the next, requests per second. */
const learnedPace = (folder: CommandLine.Folder): number => {
  const paces = Object.values<{ readonly learned: { readonly requestsPerSecond: number } }>(
    JSON.parse(folder.read("state/evenkeel/learned.json")).keys
  )
  assert.strictEqual(paces.length, 1)
  return paces[0]!.learned.requestsPerSecond
}

/** A provider that a fifth call makes refuse everything, in a run that has at most four calls in flight. */
const stopping = Effect.fnUntraced(function*(refusal: FakeProvider.Answer) {
  const folder = yield* CommandLine.folder
  let refuses = true
  const provider = yield* FakeProvider.make((seen) => refuses && seen.number >= 5 ? refusal : answeredFast(seen))
  folder.write("job.jsonl", CommandLine.chats(60))
  const ended = yield* folder.run(job(provider, "--max-in-flight", "4"))
  assert.strictEqual(ended.code, 3, ended.stderr)
  const report = JSON.parse(ended.stdout)
  assert.deepInclude(report, { answered: 5, failed: 0, open: 55 })
  assertAllAnswered(folder, 5)
  // The refusal that stopped it, and whatever was in flight with it.
  assert.isAtMost(provider.seen.length, 5 + 4)
  assert.match(ended.stderr, /55 requests are left open; .*the same command continues/)
  return {
    ended,
    report,
    continues: Effect.gen(function*() {
      refuses = false
      const next = yield* folder.run(job(provider))
      assert.strictEqual(next.code, 0, next.stderr)
      assertAllAnswered(folder, 60)
    })
  }
})

describe.concurrent("evenkeel run, refused for good", () => {
  it.live("stops when the money is spent, says why, and continues once it is not", () =>
    Effect.gen(function*() {
      const { continues, ended, report } = yield* stopping(FakeProvider.refusal(429, {
        message: "You exceeded your current quota, please check your plan and billing details.",
        type: "insufficient_quota",
        code: "insufficient_quota"
      }))
      assert.match(ended.stderr, /You exceeded your current quota, please check your plan and billing details/)
      assert.match(ended.stderr, /once paid, the same command continues/)
      assert.deepInclude(report, { retries: 0 })
      assert.strictEqual(report.stopped.reason, "payment")
      yield* continues
    }))

  it.live("stops when the money is spent and the refusal comes with status 200", () =>
    Effect.gen(function*() {
      const { ended } = yield* stopping(FakeProvider.refusal(200, {
        message: "You have no credit left.",
        type: "insufficient_quota",
        code: "insufficient_quota"
      }))
      assert.match(ended.stderr, /You have no credit left/)
      assert.match(ended.stderr, /once paid, the same command continues/)
    }))

  it.live("does not send again what is larger than the limit, and answers the others", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const sizes =
        "Limit 30000, Requested 342389. The input or output tokens must be reduced in order to run successfully."
      const provider = yield* scripted((question, _earlier, seen) =>
        question === 1
          ? FakeProvider.refusal(429, {
            message: `Request too large for m in organization o on tokens per min (TPM): ${sizes}`,
            type: "tokens",
            code: "rate_limit_exceeded"
          })
          : question === 3
          ? FakeProvider.refusal(413, {
            message: `Request too large for model m in organization o on tokens per minute (TPM): ${sizes}`,
            type: "tokens",
            code: "rate_limit_exceeded"
          })
          : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(6))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 4, failed: 2, open: 0, retries: 0 })
      for (const [customId, status] of [["c1", 429], ["c3", 413]] as const) {
        const row = rowOf(folder, customId)
        assert.strictEqual(row?.error?.code, "request_too_large")
        assert.match(row?.error?.message ?? "", /^Request too large .*Requested 342389/)
        assert.strictEqual(row?.response?.status_code, status)
        assert.strictEqual(row?.response?.body.error.code, "rate_limit_exceeded")
      }
      for (const question of [0, 1, 2, 3, 4, 5]) assert.strictEqual(attemptsOf(provider, question), 1)
    }))

  it.live("keeps what is not allowed as an error, and does not ask again", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* scripted((question, _earlier, seen) =>
        question === 1
          ? FakeProvider.refusal(403, { message: "Your key may not use this model.", type: "permission_error" })
          : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(4))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 1, ended.stderr)
      const row = rowOf(folder, "c1")
      assert.deepStrictEqual(row?.error, { code: "permission_denied", message: "Your key may not use this model." })
      assert.strictEqual(row?.response?.status_code, 403)
      assert.strictEqual(provider.seen.length, 4)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 3, failed: 1, open: 0, refused429: 0 })
    }))
})

describe.concurrent("evenkeel run, at the end of a day's budget", () => {
  it.live("stops at a header that names the day, and says until when", () =>
    Effect.gen(function*() {
      const { continues, ended, report } = yield* stopping(
        FakeProvider.refusal(429, { message: "Rate limit exceeded" }, {
          "x-ratelimit-limit-requests-day": "5",
          "x-ratelimit-remaining-requests-day": "0",
          "x-ratelimit-reset-requests-day": "4h17m"
        })
      )
      assert.match(ended.stderr, /in 4:1[67]:\d\d, the same command continues/)
      assert.strictEqual(report.stopped.reason, "quota")
      assert.isAbove(report.stopped.continueAfterMillis, 4 * 3_600_000)
      yield* continues
    }))

  it.live("stops at a sentence that names the day, even for minutes", () =>
    Effect.gen(function*() {
      const { ended, report } = yield* stopping(FakeProvider.refusal(429, {
        message: "Rate limit reached for m in organization o on requests per day (RPD): Limit 200, Used 200, " +
          "Requested 1. Please try again in 7m12s.",
        type: "requests",
        code: "rate_limit_exceeded"
      }))
      assert.match(ended.stderr, /Stopped: .*requests per day \(RPD\): Limit 200, Used 200/)
      assert.match(ended.stderr, /in [67]:\d\d, the same command continues/)
      assert.strictEqual(report.stopped.reason, "quota")
    }))

  it.live("answers the lines of another model before it stops", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) =>
        seen.body.model === "spent"
          ? FakeProvider.refusal(429, {
            message: "Rate limit reached for spent on tokens per day (TPD): Limit 100, Used 100, Requested 9. " +
              "Please try again in 10m0s.",
            code: "rate_limit_exceeded"
          })
          : answeredFast(seen)
      )
      const mixed = Array.from(
        { length: 20 },
        (_, index) => `${JSON.stringify(CommandLine.chat(`c${index}`, "hi", index % 2 === 0 ? "spent" : "other"))}\n`
      )
      folder.write("job.jsonl", mixed.join(""))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 3, ended.stderr)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 10, failed: 0, open: 10 })
      assert.match(ended.stderr, /tokens per day \(TPD\).* in (10:00|9:5\d), the same command continues/)
    }))
})

/** A run against a told limit of 20 a second, where each fourth call after the first 40 is refused so. */
const amongRefusals = Effect.fnUntraced(function*(refusal: FakeProvider.Answer) {
  const folder = yield* CommandLine.folder
  // The names of Together's token limits tell that both are per second.
  const told = {
    "x-ratelimit-limit": "20",
    "x-ratelimit-remaining": "19",
    "x-tokenlimit-limit": "1000000",
    "x-tokenlimit-remaining": "999999"
  }
  let refused = 0
  const provider = yield* FakeProvider.make((seen) => {
    if (seen.number < 40 || seen.number % 4 !== 0) return { ...FakeProvider.answered(seen), headers: told }
    refused++
    return { ...refusal, headers: told }
  })
  folder.write("job.jsonl", CommandLine.chats(90))
  const ended = yield* folder.run(job(provider))
  assert.strictEqual(ended.code, 0, ended.stderr)
  assertAllAnswered(folder, 90)
  assert.isAbove(refused, 10)
  const report = JSON.parse(ended.stdout)
  assert.deepInclude(report, { attempts: 90 + refused, retries: refused, failed: 0, possiblyBilledTwice: 0 })
  return { learned: learnedPace(folder), refused, report }
})

describe.concurrent("evenkeel run, refused for a while", () => {
  it.live("does not go slower for a model that is busy, though it says 429", () =>
    Effect.gen(function*() {
      const { learned, refused, report } = yield* amongRefusals(
        FakeProvider.refusal(429, { message: "Model busy, retry later" })
      )
      assert.isAtLeast(learned, 20)
      assert.deepInclude(report, { refused429: 0, refused503: refused })
    }))

  it.live("goes slower than the header says when it is our own traffic that is refused", () =>
    Effect.gen(function*() {
      const { learned, refused, report } = yield* amongRefusals(
        FakeProvider.refusal(429, { message: "Rate limit reached", code: "rate_limit_exceeded" })
      )
      assert.isBelow(learned, 20)
      assert.deepInclude(report, { refused429: refused, refused503: 0 })
    }))

  it.live("waits out a 403 that is a throttle, as GitHub's are", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* scripted((question, earlier, seen) => {
        if (earlier > 0) return answeredFast(seen)
        switch (question) {
          case 1:
            return {
              status: 403,
              headers: {
                "x-ratelimit-limit": "60",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": `${Math.floor(Date.now() / 1000) + 2}`
              },
              body: { message: "API rate limit exceeded for user ID 1.", documentation_url: "https://docs.example" }
            }
          case 2:
            return {
              status: 403,
              headers: { "retry-after": "1" },
              body: {
                message: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
              }
            }
        }
        return answeredFast(seen)
      })
      folder.write("job.jsonl", CommandLine.chats(4))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 4)
      assert.deepInclude(JSON.parse(ended.stdout), { refused429: 2, retries: 2, possiblyBilledTwice: 0 })
      for (const question of [1, 2]) {
        const [first, second, ...more] = provider.seen.filter((seen) => questionOf(seen) === question)
        assert.strictEqual(more.length, 0)
        // Not before it was asked for: the reset lies more than a second ahead.
        assert.isAtLeast((second?.atMillis ?? 0) - (first?.atMillis ?? 0), 950)
      }
    }))

  it.live("waits for no hint that comes with an answer", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* FakeProvider.make((seen) => ({
        ...FakeProvider.answered(seen),
        headers: { "retry-after": "60", "x-ratelimit-reset": "60" }
      }))
      folder.write("job.jsonl", CommandLine.chats(20))
      // Its 60 seconds are twice the time that this test has.
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 20)
      assert.strictEqual(provider.seen.length, 20)
      assert.notProperty(JSON.parse(ended.stdout).waitedSeconds, "gate")
    }))
})

describe.concurrent("evenkeel run, errors with status 200", () => {
  it.live("sends again what a gateway could not answer, and keeps the answer", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* scripted((question, earlier, seen) =>
        question === 1 && earlier === 0
          ? { headers: roomy, body: { error: { message: "Provider returned error", code: 502 } } }
          : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(3))
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 0, ended.stderr)
      assertAllAnswered(folder, 3)
      assert.strictEqual(attemptsOf(provider, 1), 2)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 3, retries: 1, possiblyBilledTwice: 1 })
    }))

  it.live("counts no error as an answer, however often it comes", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* scripted((question, _earlier, seen) => {
        switch (question) {
          case 1:
            return FakeProvider.refusal(200, { message: "messages is missing", type: "invalid_request_error" }, {
              "x-request-id": "r-1"
            })
          case 3:
            return FakeProvider.refusal(200, { message: "broken", type: "server_error" })
        }
        // Many say so themselves that there is none.
        return { headers: roomy, body: { ...answerOf(seen), error: null, errors: [] } }
      })
      const answerOf = (seen: FakeProvider.Seen): object => ({ ...Object(FakeProvider.answered(seen).body) })
      folder.write("job.jsonl", CommandLine.chats(5))
      const ended = yield* folder.run(job(provider, "--retries", "1"))
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 3, failed: 2, open: 0 })
      const row = rowOf(folder, "c1")
      assert.deepStrictEqual(row?.error, { code: "invalid_request", message: "messages is missing" })
      assert.strictEqual(row?.response?.status_code, 200)
      assert.strictEqual(row?.response?.request_id, "r-1")
      assert.strictEqual(row?.response?.body.error.type, "invalid_request_error")
      assert.strictEqual(attemptsOf(provider, 1), 1)
      assert.deepStrictEqual(rowOf(folder, "c3")?.error, { code: "server_error", message: "broken" })
      assert.strictEqual(attemptsOf(provider, 3), 2)

      const again = yield* folder.run(job(provider, "--retries", "0"))
      assert.strictEqual(again.code, 1)
      assert.deepInclude(JSON.parse(again.stdout), { answeredBefore: 3, failedBefore: 2, attempts: 0 })
    }))
})

describe.concurrent("evenkeel run, errors without an end", () => {
  it.live("reads no more than the beginning of an endless error", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      // Four megabytes, and then silence on an open connection.
      const endless = { chunks: Array.from({ length: 64 }, () => "x".repeat(65_536)), open: true }
      const provider = yield* scripted((question, earlier, seen) =>
        question === 1
          ? { status: 400, ...endless }
          : question === 2 && earlier === 0
          ? { status: 500, ...endless }
          : question === 3 && earlier === 0
          ? { status: 429, ...endless }
          : answeredFast(seen)
      )
      folder.write("job.jsonl", CommandLine.chats(5))
      // The attempts have ten minutes, which the test has not.
      const ended = yield* folder.run(job(provider))
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.deepInclude(JSON.parse(ended.stdout), { answered: 4, failed: 1, open: 0, retries: 2, refused429: 1 })
      assert.strictEqual(attemptsOf(provider, 1), 1)
      const row = rowOf(folder, "c1")
      assert.strictEqual(row?.error?.code, "invalid_request")
      assert.isAtMost(row?.error?.message.length ?? Infinity, 500)
      assert.strictEqual(row?.response?.status_code, 400)
      assert.match(row?.response?.body, /^x+$/)
      assert.isAtMost(row?.response?.body.length, 65_536)
    }))
})
