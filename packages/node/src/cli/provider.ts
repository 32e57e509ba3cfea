/**
 * `evenkeel provider`: the stand-in provider as a command, until Ctrl-C.
 *
 * Here belong its flags, how they are read, and the lines it prints. What it serves belongs to `EchoProvider`.
 */
import * as Scenario from "@evenkeel/core/testing/Scenario"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as EchoBackend from "../echo/EchoBackend.ts"
import * as EchoProvider from "../EchoProvider.ts"
import { above, choice, decimal, mistake, number, optional, repeated, secret, upTo, whole } from "./FlagText.ts"
import type { UserError } from "./UserError.ts"

/** What may be wrong is read as text first, so that every mistake gets one line that names the flag. */
const flags = {
  port: optional("port", "N", "Port to listen on; 0, the default, is any free one"),
  floor: optional("floor", "R", "Requests per second that are always allowed (default 1)"),
  ceiling: optional("ceiling", "R", "Requests per second that are never exceeded (default 100)"),
  cushion: optional("cushion", "X", "The limit is this many times the recent rate of successes (default 2)"),
  memory: optional("memory", "S", "Seconds that a success counts as recent: an EWMA's time constant (default 30)"),
  burst: optional("burst", "S", "Seconds of the limit that may come at once (default 1)"),
  buffer: optional("buffer", "S", "Seconds of the limit that are held back rather than refused (default 0.5)"),
  latency: optional("latency", "MS", "Milliseconds that a call works (default 100, or as the scenario draws)"),
  tokens: optional("tokens", "R", "Tokens per second that are allowed (default: not limited)"),
  seed: optional("seed", "N", "Decides all that is drawn at random (default 1, or the scenario's)"),
  scenario: optional("scenario", "FILE", "A scenario file to play from the first call on; flags override it"),
  headers: optional("headers", EchoBackend.headerModes.join("|"), "Which answers tell the limit (default all)"),
  unit: optional("unit", "second|minute", "The unit of the limit in the headers (default second)"),
  fault: repeated("fault", "KIND=P", `What befalls a call, with probability P: ${EchoBackend.faultKinds.join(", ")}`),
  outage: repeated("outage", "FROM-TO", "Refuse connections from FROM to TO seconds after the first call"),
  model: repeated("model", "NAME", "A model that exists; with none given, every name does"),
  apiKeyEnv: optional("api-key-env", "NAME", "Variable with the key that callers must send (default: any key will do)")
}

/** What was typed. */
export type Flags = Command.Command.Config.Infer<typeof flags>

/**
 * The `provider` command.
 *
 * **Errors**
 *
 * Fails with a `UserError`, exit status 2, for a flag that cannot be, a file that cannot be read, a port in use.
 */
export const providerCommand = Command.make(
  "provider",
  flags,
  Effect.fnUntraced(function*(typed) {
    const options = yield* readFlags(typed)
    const provider = yield* Effect.mapError(
      EchoProvider.make(options),
      (error) => mistake("port", `${error.message}; choose another, or 0 for any free one`)
    )
    yield* Console.log(`Evenkeel provider on ${provider.url}`)
    yield* Console.log(describe(options))
    return yield* Effect.onInterrupt(
      Effect.never,
      () => Effect.flatMap(provider.stats, (stats) => Console.log(summary(stats)))
    )
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Run a stand-in provider on this machine: it limits like Together, fails as told, and echoes"
  ),
  Command.withShortDescription("Run a stand-in provider"),
  Command.withExamples([
    {
      command: "evenkeel provider --port 8080 --floor 10 --ceiling 200 --memory 4",
      description: "A limit that grows from 10 to 200 requests per second"
    },
    {
      command: "evenkeel provider --fault 503=0.05 --fault reset=0.02 --outage 30-90",
      description: "A provider with a bad day"
    }
  ])
)

/**
 * Reads what was typed.
 *
 * **Errors**
 *
 * Fails with a `UserError` that names the flag, what was wrong and what is allowed.
 */
export const readFlags = Effect.fnUntraced(function*(
  typed: Flags
): Effect.fn.Return<EchoProvider.Options, UserError, FileSystem.FileSystem> {
  const scenario = Option.isNone(typed.scenario) ? undefined : yield* readScenario(typed.scenario.value)
  const options: EchoProvider.Options = {
    scenario,
    port: yield* number("port", typed.port, portNumber),
    floorPerSecond: yield* number("floor", typed.floor, rate),
    ceilingPerSecond: yield* number("ceiling", typed.ceiling, rate),
    cushion: yield* number("cushion", typed.cushion, factor),
    memorySeconds: yield* number("memory", typed.memory, seconds),
    burstSeconds: yield* number("burst", typed.burst, secondsOrNone),
    bufferSeconds: yield* number("buffer", typed.buffer, secondsOrNone),
    latencyMillis: yield* number("latency", typed.latency, millis),
    tokensPerSecond: yield* number("tokens", typed.tokens, rate),
    seed: yield* number("seed", typed.seed, wholeNumber),
    headers: yield* choice("headers", typed.headers, EchoBackend.headerModes),
    unit: yield* choice("unit", typed.unit, ["second", "minute"]),
    faults: yield* Effect.forEach(typed.fault, readFault),
    outages: yield* Effect.forEach(typed.outage, readOutage),
    models: typed.model.length === 0 ? undefined : typed.model,
    apiKey: Option.isNone(typed.apiKeyEnv) ? undefined : yield* readKey(typed.apiKeyEnv.value)
  }
  const sum = (options.faults ?? []).reduce((sum, fault) => sum + fault.probability, 0)
  if (sum > 1 + tolerance) return yield* mistake("fault", `the probabilities add up to ${sum}; at most 1 is possible`)
  const ceiling = ceilingOf(options)
  if (options.floorPerSecond !== undefined && options.floorPerSecond > ceiling) {
    return yield* mistake("floor", `${options.floorPerSecond} is above the ceiling of ${ceiling}; raise --ceiling too`)
  }
  return options
})

const readFault = (text: string): Effect.Effect<EchoBackend.Fault, UserError> => {
  const [name, probability = "", ...rest] = text.split("=")
  const kind = EchoBackend.faultKinds.find((kind) => kind === name)
  return kind !== undefined && rest.length === 0 && decimal.test(probability) && Number(probability) <= 1
    ? Effect.succeed({ kind, probability: Number(probability) })
    : mistake("fault", `"${text}" is not KIND=P with a kind of ${EchoBackend.faultKinds.join(", ")} and P from 0 to 1`)
}

const readOutage = (text: string): Effect.Effect<EchoProvider.Outage, UserError> => {
  const [from = "", to = "", ...rest] = text.split("-")
  return rest.length === 0 && decimal.test(from) && decimal.test(to) && Number(to) > Number(from) &&
      Number(to) <= mostSeconds
    ? Effect.succeed({ fromSeconds: Number(from), toSeconds: Number(to) })
    : mistake("outage", `"${text}" is not FROM-TO in seconds with FROM before TO and TO at most ${mostSeconds}`)
}

const readScenario = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<Scenario.Scenario, UserError, FileSystem.FileSystem> {
  const files = yield* FileSystem.FileSystem
  const text = yield* Effect.mapError(
    files.readFileString(path),
    (error) => mistake("scenario", `cannot read ${path}: ${reasons[error.reason._tag] ?? error.reason._tag}`)
  )
  const json = yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: () => mistake("scenario", `${path} is not valid JSON`)
  })
  return yield* Effect.mapError(
    Scenario.decode(json),
    (error) => mistake("scenario", `${path} is not a scenario: ${error.message.replaceAll(/\s+/g, " ")}`)
  )
})

const reasons: Readonly<Record<string, string>> = {
  NotFound: "there is no such file",
  PermissionDenied: "it may not be read",
  BadResource: "it is not a file"
}

const readKey = (name: string): Effect.Effect<Redacted.Redacted, UserError> => {
  const key = secret(name)
  return key === undefined
    ? mistake("api-key-env", `the environment variable ${name} is not set; set it to the key that callers must send`)
    : Effect.succeed(key)
}

/** What is enforced, in one line. */
const describe = (options: EchoProvider.Options): string => {
  const { dynamicRate, enforcement, headers, tokens } = EchoProvider.scenarioOf(options)
  const { scenario } = options
  const latency = options.latencyMillis ?? (scenario === undefined ? EchoProvider.defaultLatencyMillis : undefined)
  return [
    ...(scenario === undefined ? [] : [`scenario ${scenario.id}`]),
    `floor ${dynamicRate.floorPerSecond}/s`,
    `ceiling ${ceilingOf(options)}/s`,
    `cushion ${dynamicRate.cushion}`,
    `memory ${dynamicRate.memory.seconds} s`,
    `burst ${enforcement.burstSeconds} s`,
    `buffer ${enforcement.bufferSeconds} s`,
    ...(tokens === null ? [] : [`tokens ${highest(tokens.ceilingPerSecond)}/s`]),
    latency === undefined ? "latency as drawn" : `latency ${latency} ms`,
    `headers ${options.headers ?? (scenario === undefined ? "all" : "as the scenario says")} per ${
      headers.units === 60 ? "minute" : "second"
    }`,
    ...(options.faults ?? []).map(({ kind, probability }) => `fault ${kind} ${probability}`),
    ...(options.outages ?? []).map(({ fromSeconds, toSeconds }) => `outage ${fromSeconds}-${toSeconds} s`)
  ].join(", ")
}

const summary = (stats: EchoProvider.Stats): string => {
  const faults = EchoBackend.faultKinds.filter((kind) => kind !== "503" && stats.faults[kind] > 0)
  return [
    `Served ${stats.served}`,
    `refused ${stats.refused429} with 429 and ${stats.refused503} with 503`,
    ...faults.map((kind) => `failed ${stats.faults[kind]} by ${kind}`)
  ].join(", ")
}

const ceilingOf = (options: EchoProvider.Options): number =>
  highest(EchoProvider.scenarioOf(options).dynamicRate.ceilingPerSecond)

const highest = (trace: Scenario.Trace): number => trace.reduce((most, [, value]) => Math.max(most, value), 0)

/** A day: longer is no test, and far below what a timer can hold. */
const mostSeconds = 86_400

/** Beyond any machine, and products with times stay exact enough. */
const mostPerSecond = 1_000_000_000

/** Sums of tenths are not exact. */
const tolerance = 1e-9

const rate = above(0, mostPerSecond, "a rate per second")
const factor = above(0, 1000, "a factor")
const seconds = above(0, mostSeconds, "a time in seconds")
const secondsOrNone = upTo(mostSeconds, "a time in seconds")
const millis = upTo(mostSeconds * 1000, "a time in milliseconds")
const portNumber = whole(upTo(65_535, "a port number"))
const wholeNumber = whole(upTo(Number.MAX_SAFE_INTEGER, "a whole number"))
