/**
 * `evenkeel demo`: the same requests sent both ways at once, paced and as people do it today, without key or network.
 *
 * Here belong the two providers, the measuring, which is the same for both sides, and the table that is drawn of it,
 * while it goes on and at the end. The paced side is `evenkeel run`'s own `Runner`, the other is `FixedConcurrency`.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Pacer from "@evenkeel/core/Pacer"
import * as PaceStore from "@evenkeel/core/PaceStore"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateController from "@evenkeel/core/RateController"
import * as RetryPolicy from "@evenkeel/core/RetryPolicy"
import * as Telemetry from "@evenkeel/core/Telemetry"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Path from "node:path"
import * as EchoProvider from "../EchoProvider.ts"
import * as FixedConcurrency from "./FixedConcurrency.ts"
import * as FlagText from "./FlagText.ts"
import * as JobFile from "./JobFile.ts"
import * as Progress from "./Progress.ts"
import * as Report from "./Report.ts"
import * as ResultFile from "./ResultFile.ts"
import * as Runner from "./Runner.ts"
import { UserError } from "./UserError.ts"

/**
 * What each provider is told.
 *
 * **Details**
 *
 * A dynamic limit in small: it starts low, follows what succeeds, and reaches its ceiling within the half minute that a
 * person will watch. Calls take about as long as a short answer of a small model.
 */
export const law = {
  floorPerSecond: 4,
  ceilingPerSecond: 60,
  cushion: 2,
  memorySeconds: 5,
  latencyMillis: 300
} satisfies EchoProvider.Options

const flags = {
  requests: FlagText.optional("requests", "N", "How many requests each side sends (default 600)"),
  seed: FlagText.optional("seed", "N", "Decides the prompts and the other side's jitter (default 1)"),
  concurrency: FlagText.optional("concurrency", "N", "Calls at once of the other side (default 32)"),
  retries: FlagText.optional("retries", "N", "Retries of the other side (default 2, as the official SDKs)"),
  json: FlagText.present("json", "Print what was measured as one JSON object on standard output")
}

/**
 * The `demo` command.
 *
 * **Errors**
 *
 * `UserError` 2 for a flag that cannot be; 1 when the paced side did not answer every request.
 */
export const demoCommand = Command.make("demo", flags, (typed) => Effect.scoped(demo(typed))).pipe(
  Command.withDescription(
    "Send the same requests both ways at once, paced and as the official SDKs do it, to two providers on this machine. " +
      `Each allows ${law.floorPerSecond} requests per second at first, then ${law.cushion} times the recent rate of ` +
      `successes (memory ${law.memorySeconds} s), at most ${law.ceilingPerSecond}; a call takes ${law.latencyMillis} ms. ` +
      "The other side keeps a fixed number of calls going and tries again after Retry-After, or 0.5 s, 1 s and so on. " +
      "Takes half a minute, needs no key and no network, leaves nothing behind. Everything it shows is measured. " +
      "Exit status: 0 when the paced side answered all, 1 otherwise, 130 interrupted."
  ),
  Command.withShortDescription("See pacing at work, without a key"),
  Command.withExamples([
    { command: "evenkeel demo", description: "600 requests, about 25 seconds" },
    { command: "evenkeel demo --retries 10", description: "The other side loses less, and is refused more" }
  ])
)

/**
 * One second of a side: the limit that the provider told last, and what began or ended in that second.
 *
 * **Units**
 *
 * `allowed` in requests per second, the others in requests.
 */
export interface Second {
  readonly allowed: number
  readonly sent: number
  readonly answered: number
  readonly refused: number
}

/**
 * One side, as measured so far.
 *
 * **Units**
 *
 * Counts of requests and attempts. `lost` were given up. `wastedTokens` are input tokens of refused attempts,
 * `lastAnswerSeconds` since both sides started, `pacePerSecond` null where nothing paces.
 */
export interface Side {
  readonly name: string
  readonly ways: string
  readonly answered: number
  readonly lost: number
  readonly attempts: number
  readonly refused429: number
  readonly refused503: number
  readonly wastedTokens: number
  readonly inFlight: number
  readonly lastAnswerSeconds: number
  readonly answeredPerSecond: number
  readonly pacePerSecond: number | null
  readonly seconds: ReadonlyArray<Second>
}

/** Both sides at an instant. */
export interface Measured {
  readonly requests: number
  readonly seconds: number
  readonly evenkeel: Side
  readonly fixedConcurrency: Side
}

interface Settings extends FixedConcurrency.Settings {
  readonly requests: number
  readonly seed: number
  readonly json: boolean
}

const demo = Effect.fnUntraced(function*(typed: Command.Command.Config.Infer<typeof flags>) {
  const settings: Settings = {
    requests: (yield* FlagText.number("requests", typed.requests, requestCount)) ?? defaultRequests,
    seed: (yield* FlagText.number("seed", typed.seed, seedNumber)) ?? 1,
    concurrency: (yield* FlagText.number("concurrency", typed.concurrency, callCount)) ??
      FixedConcurrency.defaults.concurrency,
    maxRetries: (yield* FlagText.number("retries", typed.retries, retryCount)) ?? FixedConcurrency.defaults.maxRetries,
    json: typed.json
  }
  const { measured, trouble } = yield* Effect.provide(play(settings), layer)
  if (settings.json) {
    const { concurrency, maxRetries: retries, seed } = settings
    yield* Console.log(JSON.stringify({ law, seed, concurrency, retries, ...measured }))
  } else {
    yield* Console.log(
      summary(measured, { columns: process.stdout.columns ?? mostColumns, colour: isColoured(process.stdout) })
    )
  }
  const { answered } = measured.evenkeel
  if (answered === measured.requests) return
  return yield* new UserError({
    message: `Evenkeel answered ${answered} of ${measured.requests} requests: ${trouble ?? "no reason is known"}`,
    exitCode: 1
  })
})

/** Both sides at once, shown while they go on. */
const play = Effect.fnUntraced(function*(settings: Settings) {
  const job = yield* writeJob(settings)
  const pacer = yield* Pacer.Pacer
  const client = yield* HttpClient.HttpClient
  const clock = yield* Clock.Clock
  const nowMillis = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const [paced, fixed] = [yield* startProvider(settings), yield* startProvider(settings)]
  const evenkeel = yield* prepareEvenkeel(job, paced)
  const requests = yield* fixedRequests(job, fixed)
  const startMillis = nowMillis()
  const elapsed = () => (nowMillis() - startMillis) / 1000
  const meters = { evenkeel: new Meter(elapsed), fixed: new Meter(elapsed) }
  const measure = Effect.map(pacer.snapshot, ({ keys }): Measured => ({
    requests: settings.requests,
    seconds: elapsed(),
    evenkeel: meters.evenkeel.read({ name: "Evenkeel", ways: "paced", pacePerSecond: paceOf(keys) }),
    fixedConcurrency: meters.fixed.read({
      name: "Fixed concurrency",
      ways: `${settings.concurrency} at once, ${settings.maxRetries} ${
        settings.maxRetries === 1 ? "retry" : "retries"
      }`,
      pacePerSecond: null
    })
  }))
  const both = Effect.all([
    evenkeel(meters.evenkeel, client),
    FixedConcurrency.run(requests, settings, meters.fixed.ended).pipe(
      Effect.provideService(HttpClient.HttpClient, meters.fixed.watch(client)),
      Random.withSeed(`${settings.seed} jitter`)
    )
  ], { concurrency: "unbounded" })
  const [trouble] = yield* settings.json ? both : Effect.raceFirst(both, show(Progress.standardError, measure))
  return { measured: yield* measure, trouble }
})

interface Job {
  readonly folder: string
  readonly path: string
}

/** A file of requests in a folder that goes when the scope closes. */
const writeJob = Effect.fnUntraced(function*(settings: Settings) {
  const files = yield* FileSystem.FileSystem
  const write = Effect.gen(function*() {
    const folder = yield* files.makeTempDirectoryScoped({ prefix: "evenkeel-demo-" })
    const path = Path.join(folder, "requests.jsonl")
    const lines = yield* Effect.forEach(Array.from({ length: settings.requests }, (_, index) => index), requestLine)
    yield* files.writeFileString(path, lines.join(""))
    return { folder, path }
  })
  return yield* Effect.mapError(
    Random.withSeed(write, `${settings.seed} prompts`),
    (error) => new UserError({ message: `cannot write a temporary file: ${error.message}`, exitCode: 1 })
  )
})

/** A prompt of 100 to 400 tokens, for a short answer. */
const requestLine = (index: number): Effect.Effect<string> =>
  Effect.map(Random.nextIntBetween(100, 400), (tokens) => {
    const content = `Summarise document ${index + 1}: `.padEnd(4 * tokens, "lorem ipsum dolor sit amet ")
    const body = { model: "demo", max_tokens: 16, messages: [{ role: "user", content }] }
    return `${JSON.stringify({ custom_id: `document-${index + 1}`, body })}\n`
  })

const startProvider = (settings: Settings) =>
  Effect.mapError(
    EchoProvider.make({ ...law, seed: settings.seed }),
    (error) => new UserError({ message: `cannot start a provider on this machine: ${error.message}`, exitCode: 1 })
  )

/** The paced side, all but started. It ends with why it did not answer all, if it did not. */
const prepareEvenkeel = Effect.fnUntraced(function*(job: Job, provider: EchoProvider.EchoProvider["Service"]) {
  const file = yield* JobFile.open({ path: job.path, baseUrl: provider.url })
  const results = yield* ResultFile.open({ path: Path.join(job.folder, "results.jsonl") })
  const { requests } = yield* JobFile.scan(file)
  const reader = yield* JobFile.read(file)
  return Effect.fnUntraced(function*(meter: Meter, client: HttpClient.HttpClient) {
    let trouble: string | undefined
    const append = (row: ResultFile.Row) =>
      Effect.map(results.append(row), () => {
        if (row.error !== null) trouble ??= row.error.message
        meter.ended(row.error === null)
      })
    const running = Runner.start({
      requests,
      answeredBefore: 0,
      failedBefore: 0,
      reader,
      results: { ...results, append },
      baseUrl: provider.url,
      headers: { authorization: "Bearer demo-evenkeel" },
      profile,
      organisation: undefined,
      workload: "",
      maxInFlight,
      timeoutMillis,
      deadlineAtMillis: Infinity
    }, meter.watch(client))
    const stopped = yield* Effect.acquireUseRelease(running, ({ done }) => done, ({ drain }) => drain(0))
    return stopped?.message ?? trouble
  })
})

/** The same lines as requests to the other side's provider. */
const fixedRequests = Effect.fnUntraced(function*(job: Job, provider: EchoProvider.EchoProvider["Service"]) {
  const reader = yield* JobFile.read(yield* JobFile.open({ path: job.path, baseUrl: provider.url }))
  const requests: Array<HttpClientRequest.HttpClientRequest> = []
  for (let lines = yield* reader.next; lines !== undefined; lines = yield* reader.next) {
    for (const line of lines) {
      requests.push(
        HttpClientRequest.post(JobFile.urlOf(provider.url, line.path)).pipe(
          HttpClientRequest.setHeader("authorization", "Bearer demo-fixed"),
          HttpClientRequest.bodyText(line.body, "application/json")
        )
      )
    }
  }
  return requests
})

/** Counts what goes over the wire of one side. Both sides have one, and it knows of neither how it works. */
class Meter {
  readonly elapsedSeconds: () => number
  readonly seconds: Array<{ -readonly [Name in keyof Second]: Second[Name] }> = []
  answered = 0
  lost = 0
  attempts = 0
  refused429 = 0
  refused503 = 0
  wastedTokens = 0
  inFlight = 0
  lastAnswerSeconds = 0

  constructor(elapsedSeconds: () => number) {
    this.elapsedSeconds = elapsedSeconds
  }

  /** A request came to its end. */
  readonly ended = (answered: boolean): void => {
    if (!answered) return void this.lost++
    this.answered++
    this.lastAnswerSeconds = this.elapsedSeconds()
    this.second().answered++
  }

  /** Counts each attempt of a client. */
  readonly watch = (client: HttpClient.HttpClient): HttpClient.HttpClient =>
    HttpClient.transform(client, (send, request) =>
      Effect.suspend(() => {
        this.attempts++
        this.inFlight++
        this.second().sent++
        const counted = Effect.tap(send, (response) => Effect.sync(() => this.heard(request, response)))
        return Effect.ensuring(counted, Effect.sync(() => this.inFlight--))
      }))

  heard(request: HttpClientRequest.HttpClientRequest, { headers, status }: HttpClientResponse): void {
    const second = this.second()
    const told = Number(headers["x-ratelimit-limit"])
    if (told > 0) second.allowed = told
    if (status !== 429 && status !== 503) return
    if (status === 429) this.refused429++
    else this.refused503++
    second.refused++
    if (request.body._tag === "Uint8Array") {
      this.wastedTokens += profile.cost(JSON.parse(request.body.text ?? "null")).inputTokens
    }
  }

  /** The second that it is now; those in which nothing happened are made up for. */
  second() {
    const now = Math.min(mostSeconds - 1, Math.floor(this.elapsedSeconds()))
    while (this.seconds.length <= now) {
      this.seconds.push({ allowed: this.seconds.at(-1)?.allowed ?? 0, sent: 0, answered: 0, refused: 0 })
    }
    return this.seconds[now]!
  }

  read(side: Pick<Side, "name" | "ways" | "pacePerSecond">): Side {
    const { answered, attempts, inFlight, lastAnswerSeconds, lost, refused429, refused503, wastedTokens } = this
    return {
      ...side,
      answered,
      lost,
      attempts,
      refused429,
      refused503,
      wastedTokens,
      inFlight,
      lastAnswerSeconds,
      answeredPerSecond: lastAnswerSeconds > 0 ? answered / lastAnswerSeconds : 0,
      seconds: this.seconds.map((second) => ({ ...second }))
    }
  }
}

const paceOf = (keys: ReadonlyArray<Telemetry.KeySnapshot>): number | null => {
  const pace = Math.min(
    ...keys.map((key) => Math.min(key.requestsPerSecond ?? Infinity, key.capacityPerSecond ?? Infinity))
  )
  return pace === Infinity ? null : pace
}

/** Shows both sides until it is interrupted; what it redrew goes, and the cursor comes back. */
const show = (screen: Progress.Screen, measure: Effect.Effect<Measured>): Effect.Effect<never> => {
  if (!screen.animated) {
    const say = Effect.map(
      measure,
      (now) => screen.write(`${now.seconds.toFixed(0)} s: ${sentences(now).join("; ")}\n`)
    )
    return Effect.forever(Effect.andThen(Effect.sleep(plainMillis), say))
  }
  let drawn = 0
  const draw = Effect.map(measure, (now) => {
    const columns = screen.columns()
    const lines = liveLines(now, columns, process.stderr.rows ?? 24)
    // One write, and a terminal that knows how holds it back until it is whole: so nothing flickers.
    const text = lines.map((line) => `${line}\u001b[K\n`).join("")
    screen.write(`\u001b[?2026h${drawn > 0 ? `\r\u001b[${drawn}A` : ""}${text}\u001b[J\u001b[?2026l`)
    drawn = lines.length
  })
  const clear = () => screen.write(`${drawn > 0 ? `\r\u001b[${drawn}A\u001b[J` : ""}\u001b[?25h`)
  return Effect.sync(() => screen.write("\u001b[?25l")).pipe(
    Effect.andThen(Effect.forever(Effect.andThen(draw, Effect.sleep(redrawMillis)))),
    Effect.ensuring(Effect.sync(clear))
  )
}

/** Where there is room the whole table, else a line for each side. */
const liveLines = (now: Measured, columns: number, rows: number): ReadonlyArray<string> => {
  const lines = table(now, { columns, colour: isColoured(process.stderr), live: true })
  if (columns >= leastColumns && rows > lines.length) return lines
  return sentences(now).map((line) => line.slice(0, columns - 1))
}

/** Each side in a few words. */
const sentences = (now: Measured): ReadonlyArray<string> =>
  [now.evenkeel, now.fixedConcurrency].map((side) =>
    `${side.name} ${side.answered}/${now.requests}, refused ${refusedOf(side)}, lost ${side.lost}`
  )

/**
 * What a person reads at the end: the table, what it shows, and what to try next.
 *
 * **Units**
 *
 * `columns` of the terminal; the lines keep to it, from 50 to 80.
 */
export const summary = (
  measured: Measured,
  options: { readonly columns: number; readonly colour: boolean }
): string => {
  const columns = Math.min(mostColumns, Math.max(leastColumns, options.columns))
  const { evenkeel, fixedConcurrency, requests } = measured
  const shown =
    `Evenkeel answered ${Report.thousands(evenkeel.answered)} of ${Report.thousands(requests)} requests and ` +
    `was refused ${times(refusedOf(evenkeel))}; fixed concurrency was refused ${times(refusedOf(fixedConcurrency))} ` +
    `and lost ${Report.thousands(fixedConcurrency.lost)}.`
  const next = "Next, send requests of your own (README.md says how to write the file):"
  return [
    ...table(measured, { columns, colour: options.colour, live: false }),
    "",
    ...wrapped(shown, columns),
    ...wrapped(next, columns),
    "  pnpm evenkeel run requests.jsonl --output answers.jsonl"
  ].join("\n")
}

interface TableOptions {
  readonly columns: number
  readonly colour: boolean
  readonly live: boolean
}

type Style = "plain" | "strong" | "faint" | "good" | "bad"

const table = (measured: Measured, options: TableOptions): ReadonlyArray<string> => {
  const { evenkeel, fixedConcurrency } = measured
  const width = Math.min(widest, Math.floor((options.columns - labelWidth - 5) / 2))
  const row: Row = (label, cell, style) => {
    const [left, right] = [evenkeel, fixedConcurrency].map((side) =>
      painted(cell(side).slice(0, width).padEnd(width), style?.(side) ?? "plain", options.colour)
    )
    return `  ${painted(label.padEnd(labelWidth), "faint", options.colour)}${left}  ${right}`.trimEnd()
  }
  const { ceilingPerSecond, cushion, floorPerSecond } = law
  return [
    ...wrapped(
      `${Report.thousands(measured.requests)} requests, both ways at once, each to a provider of its own that allows ` +
        `${floorPerSecond} per second at first, then ${cushion} times what succeeds, at most ${ceilingPerSecond}.`,
      options.columns
    ),
    "",
    row("", (side) => side.name, () => "strong"),
    row("", (side) => side.ways, () => "faint"),
    ...(options.live ? liveRows(measured, width, row) : endRows(row)),
    "",
    ...chart(measured, width, row, options.colour)
  ]
}

type Row = (label: string, cell: (side: Side) => string, style?: (side: Side) => Style) => string

const liveRows = (measured: Measured, width: number, row: Row): ReadonlyArray<string> => [
  row("ended", (side) => bar((side.answered + side.lost) / measured.requests, width - 5)),
  row("answered", (side) => Report.thousands(side.answered)),
  ...lossRows(row),
  row("in flight", (side) => String(side.inFlight)),
  row("sent per second", (side) => {
    const { sent } = side.seconds.at(-2) ?? { sent: 0 }
    return `${sent} (${side.pacePerSecond === null ? "no pace" : `pace ${side.pacePerSecond.toFixed(1)}`})`
  }),
  row("limit told", (side) => `${(side.seconds.at(-1)?.allowed ?? 0).toFixed(1)} per second`)
]

const endRows = (row: Row): ReadonlyArray<string> => [
  row("answered", (side) => Report.thousands(side.answered), (side) => side.lost === 0 ? "good" : "plain"),
  ...lossRows(row),
  row("last answer at", (side) => Report.clock(side.lastAnswerSeconds)),
  row("answered per s", (side) => side.answeredPerSecond.toFixed(1))
]

const lossRows = (row: Row): ReadonlyArray<string> => [
  row("lost (given up)", (side) => Report.thousands(side.lost), (side) => side.lost > 0 ? "bad" : "plain"),
  row("attempts", (side) => Report.thousands(side.attempts)),
  row("refused 429, 503", (side) => {
    const part = side.attempts === 0 ? 0 : (100 * refusedOf(side)) / side.attempts
    return `${Report.thousands(refusedOf(side))} (${part.toFixed(1)} %)`
  }, (side) => 10 * refusedOf(side) > side.attempts ? "bad" : "plain"),
  row("wasted tokens", (side) => Report.thousands(side.wastedTokens))
]

/** Three lines for each side over one axis of time, all to one scale. */
const chart = (measured: Measured, width: number, row: Row, colour: boolean): ReadonlyArray<string> => {
  const sides = [measured.evenkeel, measured.fixedConcurrency]
  const most = Math.max(
    1,
    ...sides.flatMap(({ seconds }) => seconds.flatMap(({ allowed, answered, refused }) => [allowed, answered, refused]))
  )
  const secondsPerColumn = Math.max(1, Math.ceil(measured.seconds / width))
  const line = (of: (second: Second) => number) => ({ seconds }: Side) => spark(seconds.map(of), secondsPerColumn, most)
  const legend = `${" ".repeat(labelWidth)}up to ${Math.ceil(most)}/s, ${secondsPerColumn} s a column`
  return [
    row("limit", line((second) => second.allowed), () => "faint"),
    row("answered", line((second) => second.answered), () => "good"),
    row("refused", line((second) => second.refused), () => "bad"),
    `  ${painted(legend, "faint", colour)}`
  ]
}

/** Columns of averages as blocks of eight heights; nothing for 0. */
const spark = (values: ReadonlyArray<number>, perColumn: number, most: number): string => {
  let text = ""
  for (let start = 0; start < values.length; start += perColumn) {
    const column = values.slice(start, start + perColumn)
    const average = column.reduce((sum, value) => sum + value, 0) / column.length
    text += blocks[Math.min(8, Math.ceil((8 * average) / most))] ?? ""
  }
  return text
}

/** A part of 1 as a bar and a percentage. */
const bar = (part: number, width: number): string => {
  const full = Math.floor(part * width)
  return `${"█".repeat(full)}${"░".repeat(width - full)} ${`${Math.floor(100 * part)}%`.padStart(4)}`
}

/** A text cut into lines at its spaces, two columns in. */
const wrapped = (text: string, columns: number): ReadonlyArray<string> => {
  const lines = [" "]
  for (const word of text.split(" ")) {
    if (`${lines.at(-1)} ${word}`.length < columns) lines[lines.length - 1] += ` ${word}`
    else lines.push(`  ${word}`)
  }
  return lines
}

const painted = (text: string, style: Style, colour: boolean): string =>
  colour && style !== "plain" ? `\u001b[${codes[style]}m${text}\u001b[0m` : text

/** No colour for who asks for none, and for what is not a terminal. */
const isColoured = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY && process.env["TERM"] !== "dumb" && (process.env["NO_COLOR"] ?? "") === ""

const times = (count: number): string => count === 1 ? "once" : `${Report.thousands(count)} times`

const refusedOf = ({ refused429, refused503 }: Side): number => refused429 + refused503

const profile = ProviderProfile.forHost("127.0.0.1")

/** As `evenkeel run` has it by default. */
const maxInFlight = 1_024

/** Far more than a call takes: it would hint at a fault. */
const timeoutMillis = 60_000

/** Paced as `evenkeel run` is, starting without anything learned. The client knows no proxy: nothing leaves the machine. */
const layer = Pacer.layer.pipe(
  Layer.provide(PaceStore.layerMemory()),
  Layer.provide(Layer.succeed(
    RateController.Current,
    RateController.capped(RateController.adaptive(), { inFlight: maxInFlight })
  )),
  Layer.provide(Layer.succeed(RetryPolicy.Current, RetryPolicy.persistent)),
  Layer.provideMerge(Telemetry.layer),
  Layer.merge(NodeHttpClient.layerUndici)
)

/** About twenty seconds at this law: long enough to see the limit grow and hold. */
const defaultRequests = 600

/** At the ceiling this takes three minutes; a demonstration need not be longer. */
const requestCount = FlagText.whole(FlagText.above(0, 10_000, "a whole number"))

const seedNumber = FlagText.whole(FlagText.upTo(Number.MAX_SAFE_INTEGER, "a whole number"))
const callCount = FlagText.whole(FlagText.above(0, 1_000, "a whole number"))
const retryCount = FlagText.whole(FlagText.upTo(100, "a whole number"))

/** Bounds the chart's memory; what comes later counts in its last second. */
const mostSeconds = 3_600

const redrawMillis = 200
const plainMillis = 5_000

const labelWidth = 17
/** Two such cells and their label fill 80 columns. */
const widest = 29
/** Below this the table's cells say nothing any more, and lines longer than the other are hard to read. */
const leastColumns = 50
const mostColumns = 80

const blocks = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

const codes = { strong: 1, faint: 2, good: 32, bad: 31 }
