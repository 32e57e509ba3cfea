/**
 * What a person sees of a run under way: a few lines that are redrawn on a terminal, plain lines elsewhere.
 *
 * Here belongs the display. It reads a tally and a snapshot, and knows nothing of how they come about.
 */
import type * as Telemetry from "@evenkeel/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Report from "./Report.ts"

/**
 * Where the display is written.
 *
 * **Details**
 *
 * On a terminal it is redrawn five times a second, elsewhere a line is added every ten seconds.
 */
export interface Screen {
  readonly write: (text: string) => void
  readonly columns: () => number
  readonly animated: boolean
}

/** Standard error: standard output is for results. */
export const standardError: Screen = {
  write: (text) => {
    process.stderr.write(text)
  },
  columns: () => Math.max(20, process.stderr.columns ?? 80),
  animated: process.stderr.isTTY && process.env["TERM"] !== "dumb"
}

/** What the display shows at an instant. */
export interface Moment {
  readonly tally: Report.Tally
  readonly snapshot: Telemetry.Snapshot
  readonly usage: ReadonlyArray<Telemetry.UsageRecord>
  readonly nowMillis: number
}

/**
 * Shows a run until it is interrupted, and leaves nothing of what it redrew behind.
 */
export const show = (screen: Screen, moment: Effect.Effect<Moment>): Effect.Effect<never> => {
  let drawn = 0
  const recent = recentRate()
  const clear = () => screen.write(drawn === 0 ? "" : `\u001b[${drawn}A\u001b[J`)
  const draw = Effect.map(moment, (now) => {
    const lines = describe(now, recent(now))
    if (!screen.animated) return screen.write(`${lines.join("; ")}\n`)
    clear()
    const columns = screen.columns()
    screen.write(lines.map((line) => `${line.slice(0, columns - 1)}\n`).join(""))
    drawn = lines.length
  })
  const step = Effect.andThen(Effect.sleep(screen.animated ? redrawMillis : plainMillis), draw)
  return Effect.onExit(
    screen.animated ? Effect.andThen(draw, Effect.forever(step)) : Effect.forever(step),
    () => Effect.sync(clear)
  )
}

/**
 * The lines of a moment, each within 80 columns for a job of a million requests.
 *
 * **Units**
 *
 * `perSecond` is how many were answered lately; it says how long what is left will take.
 */
export const describe = (moment: Moment, perSecond: number): ReadonlyArray<string> => {
  const { snapshot, tally, usage } = moment
  const sum = (count: (key: Telemetry.KeySnapshot) => number): number =>
    snapshot.keys.reduce((total, key) => total + count(key), 0)
  const ended = tally.answered + tally.failed + tally.answeredBefore + tally.failedBefore
  const left = Math.max(0, tally.requests - ended)
  const busy = snapshot.keys.filter((key) => key.waiting + key.backingOff + key.inFlight > 0)
  const tokens = usage.reduce((total, record) => total + record.inputTokens + record.outputTokens, 0)
  const first = [
    `${Report.thousands(ended)}/${Report.thousands(tally.requests)} done`,
    `${Report.thousands(tally.failed + tally.failedBefore)} failed`,
    `${Report.thousands(sum((key) => key.inFlight))} in flight`,
    `${Report.thousands(Math.max(0, left - sum((key) => key.inFlight)))} waiting`
  ]
  const second = [
    paceOf(busy),
    `429 ${Report.thousands(sum((key) => key.counts.limited))}`,
    `503 ${Report.thousands(Math.max(0, sum((key) => key.counts.overloaded) - tally.neverConnected))}`,
    `${Report.thousands(tokens)} tokens`
  ]
  const third = [
    left > 0 && perSecond > 0 ? `about ${Report.clock(left / perSecond)} left` : "",
    tally.connectionTrouble === undefined ? waitOf(busy) : `no connection: ${tally.connectionTrouble}; trying on`
  ]
  return [first, second, third]
    .map((parts) => parts.filter((part) => part !== "").join(" · "))
    .filter((line) => line !== "")
}

/** `pace 98.2/s of 100/s`: what we send at, and what the provider told last. */
const paceOf = (keys: ReadonlyArray<Telemetry.KeySnapshot>): string => {
  const [key] = keys
  if (key === undefined) return ""
  if (keys.length > 1) return `${keys.length} models`
  const told = key.told.find((limit) => limit.dimension === "requests" && limit.limit !== null)
  const pace = Math.min(key.requestsPerSecond ?? Infinity, key.capacityPerSecond ?? Infinity)
  const unit = told?.windowSeconds === 60 ? "/min" : told?.windowSeconds === 1 ? "/s" : ""
  return `pace ${pace === Infinity ? "free" : `${rounded(pace)}/s`}${
    told === undefined ? "" : ` of ${rounded(told.limit ?? 0)}${unit} told`
  }`
}

const waitOf = (keys: ReadonlyArray<Telemetry.KeySnapshot>): string => {
  const closed = keys.find((key) => key.closedForMillis !== null)
  if (closed !== undefined) return `paused for ${Report.clock((closed.closedForMillis ?? 0) / 1000)}`
  const waiting = keys.find((key) => key.waitingFor !== null)?.waitingFor
  return waiting === undefined || waiting === null ? "" : `waits for ${Report.waitWords[waiting] ?? waiting}`
}

const rounded = (value: number): string => value >= 100 ? String(Math.round(value)) : value.toPrecision(2)

/** Answers per second over the last ten seconds or so. */
const recentRate = (): (moment: Moment) => number => {
  const seen: Array<{ readonly atMillis: number; readonly ended: number }> = []
  return ({ nowMillis, tally }) => {
    seen.push({ atMillis: nowMillis, ended: tally.answered + tally.failed })
    while (seen.length > 2 && nowMillis - seen[0]!.atMillis > recentMillis) seen.shift()
    const [first] = seen
    const last = seen.at(-1)
    return first === undefined || last === undefined || last.atMillis === first.atMillis
      ? 0
      : (1000 * (last.ended - first.ended)) / (last.atMillis - first.atMillis)
  }
}

const redrawMillis = 200

const plainMillis = 10_000

const recentMillis = 10_000
