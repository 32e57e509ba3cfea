/**
 * Sends the lines of a job through a paced client and keeps each answer.
 *
 * Here belongs the way of one line: from the job file through the client to its row, and when a whole run stops. Reading
 * and keeping are `JobFile`'s and `ResultFile`'s, pacing and retrying the client's, words and figures `Report`'s.
 */
import type * as Outcome from "@evenkeel/core/Outcome"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"
import type { PaceError } from "@evenkeel/core/PaceError"
import * as Pacer from "@evenkeel/core/Pacer"
import type * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Semaphore from "effect/Semaphore"
import * as JobFile from "./JobFile.ts"
import type * as Report from "./Report.ts"
import type * as ResultFile from "./ResultFile.ts"
import type { UserError } from "./UserError.ts"

/**
 * A job, ready to run.
 *
 * **Details**
 *
 * `answeredBefore` and `failedBefore` are its lines that earlier runs ended and that are not sent again.
 *
 * **Units**
 *
 * `timeoutMillis` for each attempt; `deadlineAtMillis` on the pacing clock, `Infinity` for none.
 */
export interface Job {
  readonly requests: number
  readonly answeredBefore: number
  readonly failedBefore: number
  readonly reader: JobFile.Reader
  readonly results: ResultFile.ResultFile
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
  readonly profile: ProviderProfile.ProviderProfile
  readonly organisation: string | undefined
  readonly workload: string
  readonly maxInFlight: number
  readonly timeoutMillis: number
  readonly deadlineAtMillis: number
}

/** A run under way. */
export interface Running {
  readonly tally: () => Report.Tally
  readonly done: Effect.Effect<Report.Stop | undefined, UserError>
  readonly drain: (patienceMillis: number) => Effect.Effect<void>
}

/**
 * Starts a job.
 *
 * **Details**
 *
 * `done` ends when every line has its row, or with the reason for which the run stopped: also when nothing is in flight and
 * all that waits is of a spent day, or was asked to wait for an hour or more. It may be interrupted, and `drain` then ends
 * what is left: calls that wait are let go, calls in flight have `patienceMillis` to end. Lines without a row stay open
 * for the next run. At most `maxInFlight` and 256 lines are held at a time, and no more than 128 MB of them (or 1 KB each,
 * where more are asked for).
 *
 * **Errors**
 *
 * `UserError` when the job file changed, or a row can not be written.
 */
export const start = Effect.fnUntraced(function*(
  job: Job,
  client: HttpClient.HttpClient
): Effect.fn.Return<Running, never, Pacer.Pacer> {
  const pacer = yield* Pacer.Pacer
  const state = new Run(job, yield* Clock.Clock)
  const paced = yield* PacedHttpClient.make(HttpClient.transform(client, state.watch), {
    profile: job.profile,
    organisation: job.organisation,
    body: "json",
    timeout: job.timeoutMillis
  })
  const stopped = yield* Deferred.make<Report.Stop | undefined, UserError>()
  const slots = yield* Semaphore.make(slotCount(job))
  const feeder = yield* Effect.forkDetach(
    Effect.onExit(feed(state, paced, slots, stopped), (exit) =>
      Exit.isFailure(exit) && !Exit.hasInterrupts(exit)
        ? Deferred.done(stopped, Exit.failCause(exit.cause))
        : Effect.void)
  )
  return {
    tally: () => state.tally(),
    done: Effect.raceFirst(Deferred.await(stopped), standstill(state, pacer)),
    drain: (patienceMillis) =>
      Effect.gen(function*() {
        feeder.interruptUnsafe()
        const until = state.now() + patienceMillis
        while (state.open.size > 0) {
          for (const line of state.open) {
            if (!line.inFlight || state.now() >= until) line.fiber?.interruptUnsafe()
          }
          yield* Effect.sleep(drainStepMillis)
        }
      })
  }
})

/** A line that has no row yet. */
interface OpenLine {
  inFlight: boolean
  fiber: Fiber.Fiber<void, UserError> | undefined
}

/** The line for which an attempt is made, for the client underneath. */
const CurrentLine = Context.Reference<OpenLine | undefined>("@evenkeel/node/cli/Runner/CurrentLine", {
  defaultValue: () => undefined
})

type PacedClient = HttpClient.HttpClient.With<HttpClientError | PaceError>

/** The state of a run: what is open, and what was counted. */
class Run {
  readonly job: Job
  readonly clock: Clock.Clock
  readonly open = new Set<OpenLine>()
  fed = false
  answered = 0
  failed = 0
  neverConnected = 0
  connectionTrouble: string | undefined
  startedAtMillis = Infinity
  quota: Report.Stop | undefined

  constructor(job: Job, clock: Clock.Clock) {
    this.job = job
    this.clock = clock
  }

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  tally(): Report.Tally {
    return {
      requests: this.job.requests,
      answeredBefore: this.job.answeredBefore,
      failedBefore: this.job.failedBefore,
      answered: this.answered,
      failed: this.failed,
      neverConnected: this.neverConnected,
      connectionTrouble: this.connectionTrouble,
      startedAtMillis: Math.min(this.startedAtMillis, this.now())
    }
  }

  /** Notes when a call is in flight, so that stopping can tell it from one that waits, and why there is no connection. */
  readonly watch = <E, R>(send: Effect.Effect<HttpClientResponse, E, R>): Effect.Effect<HttpClientResponse, E, R> =>
    Effect.withFiber((fiber) => {
      const line = fiber.getRef(CurrentLine)
      if (line !== undefined) line.inFlight = true
      this.startedAtMillis = Math.min(this.startedAtMillis, this.now())
      return Effect.onExit(send, (exit) =>
        Effect.sync(() => {
          if (line !== undefined && (Exit.isFailure(exit) || exit.value.status >= 400)) line.inFlight = false
          if (Exit.isSuccess(exit)) this.connectionTrouble = undefined
          else if (!PacedHttpClient.interpretFailure(exit).connected) {
            this.neverConnected++
            this.connectionTrouble = rootCause(Cause.squash(exit.cause))
          }
        }))
    })
}

type Stopped = Deferred.Deferred<Report.Stop | undefined, UserError>

/** Hands out the lines, as many as are held at a time, and waits for the last. */
const feed = Effect.fnUntraced(function*(run: Run, client: PacedClient, slots: Semaphore.Semaphore, stopped: Stopped) {
  const { reader, results } = run.job
  while (run.now() < run.job.deadlineAtMillis) {
    const lines = yield* reader.next
    if (lines === undefined) break
    for (const line of lines) {
      if (!results.sends(line.customId, line.id)) continue
      const weight = Math.min(slotCount(run.job), 1 + Math.floor(line.body.length / slotBytes(run.job)))
      yield* slots.take(weight)
      yield* Effect.uninterruptible(begin(run, client, line, stopped, slots.release(weight)))
    }
  }
  run.fed = true
  if (run.open.size === 0) yield* finish(run, stopped)
})

/** Starts a line in a fiber of its own. Whatever becomes of the fiber, even if it never began, the line is let go. */
const begin = Effect.fnUntraced(function*(
  run: Run,
  client: PacedClient,
  line: JobFile.JobLine,
  stopped: Stopped,
  release: Effect.Effect<unknown>
) {
  const open: OpenLine = { inFlight: false, fiber: undefined }
  run.open.add(open)
  const send = sendLine(run, client, line, stopped).pipe(Effect.provideService(CurrentLine, open))
  const fiber = yield* Effect.forkDetach(send)
  open.fiber = fiber
  fiber.addObserver((exit) => {
    run.open.delete(open)
    const failed = Exit.isFailure(exit) && !Exit.hasInterrupts(exit)
    const last = run.fed && run.open.size === 0
    Effect.runFork(
      failed ? Deferred.done(stopped, Exit.failCause(exit.cause)) : last ? finish(run, stopped) : release
    )
  })
})

/** All lines have their row, or are left for a later run. */
const finish = (run: Run, stopped: Stopped): Effect.Effect<void> => {
  const { answered, answeredBefore, failed, failedBefore, requests } = run.tally()
  const complete = answered + failed + answeredBefore + failedBefore >= requests
  return Effect.asVoid(Deferred.succeed(stopped, run.quota ?? (complete ? undefined : deadlineStop)))
}

/** Ends when all that is left waits for what a run does not wait for. */
const standstill = Effect.fnUntraced(function*(run: Run, pacer: Pacer.Pacer["Service"]): Effect.fn.Return<Report.Stop> {
  while (true) {
    yield* Effect.sleep(standstillCheckMillis)
    const { keys } = yield* pacer.snapshot
    const busy = keys.filter((key) => key.waiting + key.backingOff + key.inFlight > 0)
    const waits = busy.map((key) => key.closedForMillis ?? 0)
    const stands = busy.every((key, index) =>
      key.inFlight === 0 && (key.closedReason === "quota" || waits[index]! >= longPauseMillis)
    )
    if (busy.length === 0 || !stands) continue
    return {
      reason: "quota",
      message: run.quota?.message ?? "the provider takes no more requests for now",
      continueAfterMillis: Math.min(...waits)
    }
  }
})

/** One line on its way to its row. */
const sendLine = Effect.fnUntraced(function*(run: Run, client: PacedClient, line: JobFile.JobLine, stopped: Stopped) {
  const { job } = run
  const request = HttpClientRequest.post(JobFile.urlOf(job.baseUrl, line.path)).pipe(
    HttpClientRequest.setHeaders(job.headers),
    HttpClientRequest.bodyText(line.body, "application/json")
  )
  const call: PacedHttpClient.Call = {
    requestBody: line.requestBody,
    workload: job.workload,
    idempotent: true,
    startWithin: Math.max(0, job.deadlineAtMillis - run.now())
  }
  const exit = yield* client.execute(request).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => ({ response, text }))),
    Effect.provideService(PacedHttpClient.CurrentCall, call),
    Effect.exit
  )
  if (Exit.isSuccess(exit)) return yield* keepResponse(run, line, exit.value.response, exit.value.text, stopped)
  const failure = Exit.findErrorOption(exit)
  if (failure._tag === "None") {
    return yield* Exit.hasInterrupts(exit) ? Effect.interrupt : Effect.die(Cause.squash(exit.cause))
  }
  const error = failure.value
  if (error._tag === "PaceError") return yield* keepUnsent(run, line, error)
  return yield* keepRow(run, line, null, failureOf(error, PacedHttpClient.interpretFailure(exit)))
})

/** An answer, or a refusal that is final; some providers send theirs with status 200. */
const keepResponse = Effect.fnUntraced(function*(
  run: Run,
  line: JobFile.JobLine,
  response: HttpClientResponse,
  text: string,
  stopped: Stopped
) {
  const { headers, status } = response
  const json = parse(text)
  const requestId = run.job.profile.requestId(headers, json) ?? null
  const answer = { statusCode: status, requestId, body: text }
  const isSuccess = status >= 200 && status < 300
  if (isSuccess && json === undefined) return yield* keepRow(run, line, answer, notJson)
  const nowMillis = yield* Clock.currentTimeMillis
  const outcome = run.job.profile.classify({ status, headers, body: json ?? text, nowMillis })
  if (isSuccess && outcome.error === undefined) return yield* keepRow(run, line, answer, null)
  const stop = stopOf(outcome)
  if (stop !== undefined) {
    if (stop.reason === "quota") run.quota = stop
    else yield* Deferred.succeed(stopped, stop)
    return
  }
  return yield* keepRow(
    run,
    line,
    answer,
    outcome.error === undefined
      ? { code: `http_${status}`, message: `status ${status}, which is neither an answer nor an error` }
      : { code: snakeCase(outcome.error.reason._tag), message: outcome.error.reason.message }
  )
})

/** No answer, for good: what stood in its way. */
const failureOf = (error: HttpClientError, outcome: Outcome.Outcome): NonNullable<ResultFile.Row["error"]> => {
  const description = "description" in error.reason ? error.reason.description : undefined
  if (description === PacedHttpClient.timeoutDescription) return { code: "timeout", message: description }
  const code = !outcome.connected ? "not_connected" : outcome._tag === "Unknown" ? "connection_lost" : "not_sent"
  return { code, message: rootCause(error) }
}

/** A call that was not sent has a row only when no later run could send it. */
const keepUnsent = (run: Run, line: JobFile.JobLine, error: PaceError): Effect.Effect<void, UserError> => {
  const { reason } = error
  if (reason._tag === "LargerThanLimit") {
    return keepRow(run, line, null, { code: "request_too_large", message: error.message })
  }
  if (reason._tag === "Closed" && reason.scope === "key" && reason.forMillis === Infinity) {
    const refusal = reason.last?.error
    return keepRow(run, line, null, {
      code: refusal === undefined ? "closed" : snakeCase(refusal.reason._tag),
      message: refusal === undefined ? error.message : `${refusal.reason.message} (not sent again)`
    })
  }
  if (reason._tag === "Closed" && reason.scope === "key" && reason.last !== undefined) run.quota = stopOf(reason.last)
  return Effect.void
}

const keepRow = (
  run: Run,
  line: JobFile.JobLine,
  response: ResultFile.Row["response"],
  error: ResultFile.Row["error"]
): Effect.Effect<void, UserError> =>
  Effect.map(run.job.results.append({ id: line.id, customId: line.customId, response, error }), () => {
    if (error === null) run.answered++
    else run.failed++
  })

/** Does an outcome end the run? */
const stopOf = (outcome: Outcome.Outcome): Report.Stop | undefined => {
  const { closes, error } = outcome
  if (closes === undefined || closes.reason === "unknown model") return undefined
  return {
    reason: closes.reason,
    message: error?.message ?? closes.reason,
    continueAfterMillis: Number.isFinite(closes.forMillis) ? closes.forMillis : undefined
  }
}

const deadlineStop: Report.Stop = {
  reason: "deadline",
  message: "nothing more can begin by the deadline",
  continueAfterMillis: undefined
}

/** A page of something in front of the provider, when it came each time. */
const notJson = { code: "not_json", message: "the answer is not whole JSON" }

/** The value of a JSON text; undefined when it is none. */
const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What went wrong at the bottom of a chain of causes: `connect ECONNREFUSED 127.0.0.1:9`. */
const rootCause = (error: unknown): string => {
  let message = "no answer"
  let cause = error
  for (let depth = 0; depth < 8 && cause instanceof Error; depth++) {
    if (cause.message !== "") message = cause.message
    cause = cause instanceof AggregateError ? cause.errors[0] : cause.cause
  }
  return message.slice(0, 300)
}

const snakeCase = (name: string): string => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase()

const slotCount = (job: Job): number => job.maxInFlight + aheadOfFlight

/** A line holds one slot for each such part of its body, so that the slots bound memory too. */
const slotBytes = (job: Job): number => Math.max(1_024, mostBytes / slotCount(job))

/** Bytes of request bodies that are held at a time. */
const mostBytes = 134_217_728

/** Lines that wait for their turn beside those in flight: enough that there is always a next one. */
const aheadOfFlight = 256

const drainStepMillis = 20

const standstillCheckMillis = 100

/** A pause as long as this is not slept through: the run stops and says when to continue. */
const longPauseMillis = 3_600_000
