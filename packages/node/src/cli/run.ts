/**
 * `evenkeel run`: sends a file of requests, as fast as the provider accepts, and keeps every answer.
 *
 * Here belong the command's flags and the order of a run: check everything, send, show, report. The way of a line is
 * `Runner`'s, files are `JobFile`'s and `ResultFile`'s.
 */
import * as Pace from "@evenkeel/core/Pace"
import * as Pacer from "@evenkeel/core/Pacer"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as v8 from "node:v8"
import * as NodePacedHttpClient from "../NodePacedHttpClient.ts"
import * as FlagText from "./FlagText.ts"
import * as JobFile from "./JobFile.ts"
import * as LearnedFile from "./LearnedFile.ts"
import * as Progress from "./Progress.ts"
import * as Report from "./Report.ts"
import * as ResultFile from "./ResultFile.ts"
import * as Runner from "./Runner.ts"
import * as Target from "./Target.ts"
import { UserError } from "./UserError.ts"

const flags = {
  input: Argument.String("INPUT.jsonl").pipe(
    Argument.withDescription(
      "The requests, one JSON object a line (OpenAI or Together batch form); - is standard input"
    )
  ),
  output: FlagText.optional("output", "FILE", "Where answers go (default INPUT.results.jsonl)"),
  ...Target.flags,
  model: FlagText.optional("model", "M", "The model of requests that name none"),
  maxInFlight: FlagText.optional("max-in-flight", "N", "Calls in flight at once (default 1024)"),
  retries: FlagText.optional("retries", "N", "Tries after a failure; refusals do not count (default 5)"),
  timeout: FlagText.optional("timeout", "D", "Longest time for one attempt (default 10m)"),
  deadline: FlagText.optional("deadline", "D", "Begin no request later than this after the start"),
  rpm: FlagText.optional("rpm", "N", "At most so many requests per minute, spread evenly"),
  tpm: FlagText.optional("tpm", "N", "At most so many tokens per minute, spread evenly"),
  workload: FlagText.optional("workload", "NAME", "A label for usage records"),
  retryFailed: FlagText.present("retry-failed", "Send again what failed for good in an earlier run"),
  noRetryUnknown: FlagText.present(
    "no-retry-unknown",
    "Do not send again what may have run already (it could be billed twice)"
  ),
  resendChanged: FlagText.present("resend-changed", "Send lines again that have changed since they were answered"),
  forget: FlagText.present("forget", "Start without what earlier runs learned about the limits"),
  json: FlagText.present("json", "Print the summary as one JSON object on standard output"),
  quiet: FlagText.present("quiet", "Print nothing but errors")
}

/** What was typed. */
export type Flags = Command.Command.Config.Infer<typeof flags>

/**
 * The `run` command; ends with a `UserError` of the exit status that the run stands for.
 *
 * **Errors**
 *
 * 2 for bad usage or input, nothing sent; 1 when some requests failed for good; 3 when it stopped before the end.
 */
export const runCommand = Command.make("run", flags, (typed) => Effect.scoped(run(typed))).pipe(
  Command.withDescription(
    "Send a file of requests as fast as the provider accepts them, and keep every answer. " +
      "The same command again continues where it stopped. " +
      "Exit status: 0 all answered, 1 some failed for good, 2 nothing sent, 3 stopped before the end, 130 interrupted."
  ),
  Command.withShortDescription("Send a file of requests"),
  Command.withExamples([
    { command: "evenkeel run requests.jsonl", description: "Answers go to requests.results.jsonl" },
    {
      command: "evenkeel run requests.jsonl.gz --output answers.jsonl --deadline 2h --rpm 600",
      description: "At most ten requests per second, for two hours"
    },
    {
      command: "evenkeel run - --output answers.jsonl --base-url http://127.0.0.1:8080/v1",
      description: "From standard input to a server on this machine"
    }
  ])
)

/** Settings of a run, checked. */
interface Settings {
  readonly target: Target.Target
  readonly maxInFlight: number
  readonly timeoutMillis: number
  readonly deadlineMillis: number
  readonly layer: Layer.Layer<Pacer.Pacer | Telemetry.Telemetry | HttpClient.HttpClient>
}

const run = Effect.fnUntraced(function*(typed: Flags) {
  keepHeapSmall()
  const startedAtMillis = yield* pacingNow
  const settings = yield* readSettings(typed)
  const output = yield* outputOf(typed)
  const file = yield* JobFile.open({
    path: typed.input,
    baseUrl: settings.target.baseUrl,
    model: Option.getOrUndefined(typed.model)
  })
  const results = yield* ResultFile.open({
    path: output,
    retryFailed: typed.retryFailed,
    resendChanged: typed.resendChanged
  })
  let answeredBefore = 0
  let failedBefore = 0
  const check = (line: JobFile.CheckedLine): UserError | undefined => {
    if (!results.sends(line.customId, line.id)) {
      if (results.stateOf(line.customId, line.id) === "failed") failedBefore++
      else answeredBefore++
    }
    return results.check(line)
  }
  const scan = yield* JobFile.scan(file, { check: results.isEmpty ? undefined : check })
  const reader = yield* JobFile.read(file)
  const report = yield* Effect.provide(
    send(typed, {
      requests: scan.requests,
      answeredBefore,
      failedBefore,
      reader,
      results,
      baseUrl: settings.target.baseUrl,
      headers: settings.target.headers,
      profile: settings.target.profile,
      organisation: undefined,
      workload: Option.getOrElse(typed.workload, () => ""),
      maxInFlight: settings.maxInFlight,
      timeoutMillis: settings.timeoutMillis,
      deadlineAtMillis: startedAtMillis + settings.deadlineMillis
    }),
    settings.layer
  )
  return yield* conclude(typed, report, output)
})

/** Sends, shows and, however it ends, saves what was learned and reports. */
const send = Effect.fnUntraced(function*(typed: Flags, job: Runner.Job) {
  const pacer = yield* Pacer.Pacer
  const telemetry = yield* Telemetry.Telemetry
  const running = yield* Runner.start(job, yield* HttpClient.HttpClient)
  const moment = Effect.gen(function*() {
    return {
      tally: running.tally(),
      snapshot: yield* pacer.snapshot,
      usage: yield* telemetry.usage,
      nowMillis: yield* pacingNow
    }
  })
  const display = typed.quiet || typed.json
    ? undefined
    : yield* Effect.forkDetach(Progress.show(Progress.standardError, moment))
  const end = Effect.fnUntraced(function*(stopped: Report.Stop | undefined) {
    if (stopped !== undefined) {
      yield* running.drain(stopped.reason === "deadline" ? job.timeoutMillis : patienceMillis)
    }
    if (display !== undefined) yield* Fiber.interrupt(display)
    const last = yield* moment
    yield* LearnedFile.save(last.snapshot)
    return Report.make({ ...last, stopped })
  })
  const stopped = yield* running.done.pipe(
    Effect.onInterrupt(() =>
      // An interruption carries no error that the executable could show.
      Effect.flatMap(end(interrupted), (report) =>
        Effect.catch(conclude(typed, report, job.results.path), (error) =>
          Console.error(`evenkeel: ${error.message}`)))
    ),
    Effect.onError(() => running.drain(0))
  )
  return yield* Effect.uninterruptible(end(stopped))
})

/** Prints the summary and turns the report into an exit status. */
const conclude = Effect.fnUntraced(function*(typed: Flags, report: Report.Report, output: string) {
  if (typed.json) yield* Console.log(JSON.stringify({ ...report, output }))
  else if (!typed.quiet) yield* Console.error(Report.summary(report, output))
  const exitCode = Report.exitCode(report)
  if (exitCode === 0) return
  return yield* new UserError({ message: closing(report, output), exitCode })
})

const closing = (report: Report.Report, output: string): string => {
  const failed = report.failed + report.failedBefore
  if (report.stopped === undefined) {
    return `${Report.thousands(failed)} of ${Report.thousands(report.requests)} requests failed for good; ` +
      `${output} says why; send them again with --retry-failed`
  }
  const { continueAfterMillis, message, reason } = report.stopped
  const when = continueAfterMillis === undefined
    ? reason === "unauthorized" ? "with a key that is accepted, " : reason === "payment" ? "once paid, " : ""
    : `in ${Report.clock(continueAfterMillis / 1000)}, `
  return `${reason === "interrupted" ? "Interrupted" : `Stopped: ${message}`}; ${
    Report.thousands(report.open)
  } requests are left open; ` +
    `${when}the same command continues`
}

const readSettings = Effect.fnUntraced(function*(typed: Flags): Effect.fn.Return<Settings, UserError> {
  const target = yield* Target.read(typed)
  const maxInFlight = (yield* FlagText.number("max-in-flight", typed.maxInFlight, calls)) ?? defaultInFlight
  const retries = (yield* FlagText.number("retries", typed.retries, tries)) ?? RetryPolicy.persistent.maxFailures
  const timeoutMillis = (yield* FlagText.duration("timeout", typed.timeout)) ?? defaultTimeoutMillis
  const deadlineMillis = (yield* FlagText.duration("deadline", typed.deadline)) ?? Infinity
  const rpm = yield* FlagText.number("rpm", typed.rpm, perMinute)
  const tpm = yield* FlagText.number("tpm", typed.tpm, perMinute)
  const controller = RateController.capped(RateController.adaptive(), {
    inFlight: maxInFlight,
    ...(rpm === undefined ? {} : { requests: Pace.perMinute(rpm) }),
    ...(tpm === undefined ? {} : { tokens: Pace.perMinute(tpm) })
  })
  const policy: RetryPolicy.RetryPolicy = {
    ...RetryPolicy.persistent,
    maxFailures: retries,
    retryUnknown: !typed.noRetryUnknown
  }
  const learned = typed.forget ? undefined : yield* LearnedFile.load
  const layer = Pacer.layer.pipe(
    Layer.provide(PaceStore.layerMemory({ learned })),
    Layer.provide(Layer.succeed(RateController.Current, controller)),
    Layer.provide(Layer.succeed(RetryPolicy.Current, policy)),
    Layer.provideMerge(Telemetry.layer),
    Layer.merge(NodePacedHttpClient.layerUndici())
  )
  return { target, maxInFlight, timeoutMillis, deadlineMillis, layer }
})

const outputOf = (typed: Flags): Effect.Effect<string, UserError> => {
  if (Option.isSome(typed.output)) return Effect.succeed(typed.output.value)
  return typed.input === "-"
    ? FlagText.mistake("output", "standard input has no name to go by; say where the answers go")
    : Effect.succeed(`${typed.input.replace(/\.gz$/, "").replace(/\.jsonl?$/, "")}.results.jsonl`)
}

/**
 * A job of a million lines makes a lot of short-lived objects, for which V8 would rather grow than collect. With these it
 * collects sooner: about 300 MB rather than 550, for no loss of speed that could be measured.
 */
const keepHeapSmall = (): void => {
  v8.setFlagsFromString("--heap-growing-percent=10")
  v8.setFlagsFromString("--semi-space-growth-factor=1")
}

const pacingNow: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const interrupted: Report.Stop = { reason: "interrupted", message: "interrupted", continueAfterMillis: undefined }

const calls = FlagText.whole(FlagText.above(0, 100_000, "a whole number"))

const tries = FlagText.whole(FlagText.upTo(1_000, "a whole number"))

const perMinute = FlagText.above(0, 1_000_000_000, "a number per minute")

/** Enough for 100 calls a second that take ten seconds each. */
const defaultInFlight = 1_024

/** Ten minutes, as the official clients wait. */
const defaultTimeoutMillis = 600_000

/** How long calls in flight have to end after Ctrl-C or a refused key. */
const patienceMillis = 4_500
