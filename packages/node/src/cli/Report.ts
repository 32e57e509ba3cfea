/**
 * What a run did, in figures and in words.
 *
 * Here belong the report's fields, how they are added up from a pacer's snapshot, and the summary that a person reads.
 */
import type * as Telemetry from "@evenkeel/core/Telemetry"

/** Why a run stopped before its end, and after how long it makes sense to continue. */
export interface Stop {
  readonly reason: "unauthorized" | "payment" | "quota" | "deadline" | "interrupted"
  readonly message: string
  readonly continueAfterMillis: number | undefined
}

/** What the runner itself counts. */
export interface Tally {
  readonly requests: number
  readonly answeredBefore: number
  readonly failedBefore: number
  readonly answered: number
  readonly failed: number
  readonly neverConnected: number
  readonly connectionTrouble: string | undefined
  readonly startedAtMillis: number
}

/**
 * What a run did.
 *
 * **Units**
 *
 * Counts of requests, attempts and tokens; `seconds` from the first attempt; `requestsPerSecond` answered in that time;
 * `waitedSeconds` summed over calls, by what they waited for.
 */
export interface Report {
  readonly requests: number
  readonly answered: number
  readonly answeredBefore: number
  readonly failed: number
  readonly failedBefore: number
  readonly open: number
  readonly attempts: number
  readonly refused429: number
  readonly refused503: number
  readonly neverConnected: number
  readonly retries: number
  readonly possiblyBilledTwice: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly wastedTokens: number
  readonly seconds: number
  readonly requestsPerSecond: number
  readonly waitedSeconds: Readonly<Record<string, number>>
  readonly stopped: Stop | undefined
}

/** Adds up a report. */
export const make = (options: {
  readonly tally: Tally
  readonly snapshot: Telemetry.Snapshot
  readonly usage: ReadonlyArray<Telemetry.UsageRecord>
  readonly nowMillis: number
  readonly stopped: Stop | undefined
}): Report => {
  const { snapshot, tally, usage } = options
  const sum = (count: (counts: Telemetry.Counts) => number): number =>
    snapshot.keys.reduce((total, key) => total + count(key.counts), 0)
  const used = (count: (record: Telemetry.UsageRecord) => number): number =>
    usage.reduce((total, record) => total + count(record), 0)
  const seconds = Math.max(0, options.nowMillis - tally.startedAtMillis) / 1000
  const waited: Record<string, number> = {}
  for (const key of snapshot.keys) {
    for (const [what, amount] of Object.entries(key.waitedSeconds)) waited[what] = (waited[what] ?? 0) + amount
  }
  const ended = tally.answered + tally.failed + tally.answeredBefore + tally.failedBefore
  return {
    requests: tally.requests,
    answered: tally.answered,
    answeredBefore: tally.answeredBefore,
    failed: tally.failed,
    failedBefore: tally.failedBefore,
    open: tally.requests - ended,
    attempts: sum((counts) => counts.attempts),
    refused429: sum((counts) => counts.limited),
    refused503: Math.max(0, sum((counts) => counts.overloaded) - tally.neverConnected),
    neverConnected: tally.neverConnected,
    retries: sum((counts) => counts.retries),
    possiblyBilledTwice: sum((counts) => counts.possiblyBilledTwice),
    inputTokens: used((record) => record.inputTokens),
    outputTokens: used((record) => record.outputTokens),
    wastedTokens: used((record) => record.wastedTokens),
    seconds,
    requestsPerSecond: seconds > 0 ? tally.answered / seconds : 0,
    waitedSeconds: waited,
    stopped: options.stopped
  }
}

/** The exit status that a report stands for. */
export const exitCode = (report: Report): number => {
  if (report.stopped?.reason === "interrupted") return 130
  if (report.stopped !== undefined || report.open > 0) return 3
  return report.failed + report.failedBefore > 0 ? 1 : 0
}

/** The summary that a person reads, within 80 columns. */
export const summary = (report: Report, output: string): string => {
  const percent = (part: number) => report.attempts === 0 ? "" : ` (${(100 * part / report.attempts).toFixed(1)} %)`
  const before = report.answeredBefore + report.failedBefore
  const rows: Array<readonly [string, string]> = [
    [
      "answered",
      `${thousands(report.answered + report.answeredBefore)} of ${thousands(report.requests)}` +
      (before > 0 ? ` (${thousands(report.answeredBefore)} in earlier runs)` : "")
    ],
    ["failed", thousands(report.failed + report.failedBefore)],
    ...(report.open > 0 ? [["left open", thousands(report.open)] as const] : []),
    ["refused 429", `${thousands(report.refused429)}${percent(report.refused429)}`],
    ["refused 503", `${thousands(report.refused503)}${percent(report.refused503)}`],
    ...(report.neverConnected > 0 ? [["no connection", thousands(report.neverConnected)] as const] : []),
    ["retries", thousands(report.retries)],
    ["possibly billed twice", thousands(report.possiblyBilledTwice)],
    ["tokens", `${thousands(report.inputTokens)} in, ${thousands(report.outputTokens)} out`],
    ["wasted tokens", thousands(report.wastedTokens)],
    ["time", `${clock(report.seconds)}, ${report.requestsPerSecond.toFixed(1)} answered per second`],
    ["waited for", waits(report.waitedSeconds)],
    ["results", output]
  ]
  return rows.map(([name, value]) => `  ${name.padEnd(22)}${value}`).join("\n")
}

/** 90 as `1:30`, 4000 as `1:06:40`, below a minute `12.3 s`. */
export const clock = (seconds: number): string => {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const pad = (value: number) => String(value).padStart(2, "0")
  const minutes = Math.floor(whole / 60) % 60
  const hours = Math.floor(whole / 3600)
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`
}

/** 1234567 as `1,234,567`. */
export const thousands = (value: number): string => Math.round(value).toLocaleString("en-US")

/** What a call waits for, in a person's words. */
export const waitWords: Readonly<Record<string, string>> = {
  requests: "the request rate",
  tokens: "the token rate",
  inputTokens: "the input token rate",
  outputTokens: "the output token rate",
  concurrency: "a place in flight",
  overload: "the provider's capacity",
  gate: "the provider's reset",
  share: "a share of the rate"
}

const waits = (waited: Readonly<Record<string, number>>): string => {
  const total = Object.values(waited).reduce((sum, seconds) => sum + seconds, 0)
  if (total < 0.05) return "nothing"
  return Object.entries(waited)
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([what, seconds]) => `${waitWords[what] ?? what} ${Math.round((100 * seconds) / total)} %`)
    .join(", ")
}
