/**
 * The limits of an answer as a table of at most 80 columns, and how figures and times are written.
 *
 * Here belongs what a limit looks like. What a limit is, and which there are, is core's to tell.
 */
import type { Dimension } from "@evenkeel/core/Demand"
import type * as Outcome from "@evenkeel/core/Outcome"
import * as StrangerText from "./StrangerText.ts"

/**
 * One row for each limit, first those that the sums are known by; no column of which nothing is known.
 *
 * **Details**
 *
 * A limit that tells nothing of its own has no row. The name of a limit is cut where the line has no room for it, and long
 * figures are rounded before names are cut to less than two words.
 */
export const render = (limits: ReadonlyArray<Outcome.LimitReading>): string => {
  const telling = worthTelling(limits)
  if (telling.length === 0) return ""
  const shown = telling.slice(0, mostRows)
  const exact = cellsOf(shown, figure)
  const cells = roomBeside(exact) >= Math.min(mostName, longest(exact, 0)) ? exact : cellsOf(shown, rounded)
  const room = roomBeside(cells)
  for (const row of cells) row[0] = StrangerText.shortened(row[0]!, room)
  const widths = cells[0]!.map((_, column) => longest(cells, column))
  const lines = cells.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd())
  const left = telling.length - shown.length
  return [...lines, ...(left > 0 ? [`  and ${left} more`] : [])].join("\n")
}

/** Limits that are declared, and not among those that are told; empty when there is none. */
export const declared = (
  policies: ReadonlyArray<Outcome.Policy>,
  limits: ReadonlyArray<Outcome.LimitReading>
): string => {
  const untold = policies.filter(({ limit, name }) =>
    !limits.some((each) => each.limit === limit && (name === undefined || each.policy === name))
  )
  if (untold.length === 0) return ""
  const list = untold.slice(0, mostRows).map(({ limit, name, unit, windowSeconds }) =>
    `${figure(limit)} ${StrangerText.shown(unit ?? "requests", mostName)}${perWindow(windowSeconds)}` +
    (name === undefined ? "" : ` (${StrangerText.shown(name, mostName)})`)
  )
  return `Also declared: ${list.join(", ")}.`
}

/** 90 as `90 s`, 903 as `15 min 3 s`, 15420 as `4 h 17 min`, 200000 as `2 d 8 h`. */
export const span = (seconds: number): string => {
  if (seconds < 120) return `${figure(seconds)} s`
  if (seconds >= mostSeconds) return "over 100 years"
  const whole = Math.round(seconds)
  const [size, name, partSize, partName] = whole < 7_200
    ? [60, "min", 1, "s"] as const
    : whole < 172_800
    ? [3_600, "h", 60, "min"] as const
    : [86_400, "d", 3_600, "h"] as const
  const part = Math.floor((whole % size) / partSize)
  return `${Math.floor(whole / size)} ${name}${part === 0 ? "" : ` ${part} ${partName}`}`
}

/** What a sum is called. */
export const sumName = (dimension: Dimension): string =>
  dimension === "inputTokens" ? "input tokens" : dimension === "outputTokens" ? "output tokens" : dimension

/** In order, without rows of which nothing but a reset of 0 is known, or which say again what the sum is known by. */
const worthTelling = (limits: ReadonlyArray<Outcome.LimitReading>): ReadonlyArray<Outcome.LimitReading> => {
  const ordered = [...limits].sort((one, other) => rank(one) - rank(other)).filter(isTelling)
  return ordered.filter((limit, index) =>
    limit.aside !== true || !ordered.slice(0, index).some((above) => says(above, limit))
  )
}

const isTelling = ({ limit, remaining, resetSeconds = 0 }: Outcome.LimitReading): boolean =>
  limit !== undefined || remaining !== undefined || resetSeconds > 0

/** Does one limit say all that another does? Where something else is left, they are two. */
const says = (above: Outcome.LimitReading, limit: Outcome.LimitReading): boolean =>
  above.dimension === limit.dimension && above.limit !== undefined && above.limit === limit.limit &&
  above.windowSeconds === limit.windowSeconds &&
  (limit.remaining === undefined || limit.remaining === above.remaining) &&
  (limit.resetSeconds === undefined || above.resetSeconds !== undefined) &&
  (limit.dimension !== "other" || limit.policy === above.policy)

const rank = ({ aside, dimension }: Outcome.LimitReading): number =>
  dimensions.indexOf(dimension) + (aside === true ? dimensions.length : 0)

/** The head and the rows, without empty columns. */
const cellsOf = (
  limits: ReadonlyArray<Outcome.LimitReading>,
  written: (value: number) => string
): ReadonlyArray<Array<string>> => {
  const rows = limits.map((limit) => [
    rowName(limit),
    limit.limit === undefined ? "-" : written(limit.limit) + perWindow(limit.windowSeconds),
    limit.ratePerSecond === undefined ? "-" : written(limit.ratePerSecond),
    limit.remaining === undefined ? "-" : written(limit.remaining),
    limit.resetSeconds === undefined ? "-" : span(limit.resetSeconds)
  ])
  const known = heads.map((_, column) => column).filter((column) => rows.some((row) => row[column] !== "-"))
  return [heads, ...rows].map((row) => known.map((column) => row[column]!))
}

/** Columns that are left for the first cell. */
const roomBeside = (cells: ReadonlyArray<ReadonlyArray<string>>): number =>
  cells[0]!.slice(1).reduce((room, _, column) => room - 2 - longest(cells, column + 1), columns - 2)

const longest = (cells: ReadonlyArray<ReadonlyArray<string>>, column: number): number =>
  Math.max(...cells.map((row) => row[column]!.length))

const rowName = ({ dimension, policy }: Outcome.LimitReading): string => {
  const name = policy === undefined ? undefined : StrangerText.shown(policy, columns)
  if (dimension === "other") return name ?? "other"
  return sumName(dimension) + (name === undefined ? "" : ` (${name})`)
}

const perWindow = (seconds: number | undefined): string =>
  seconds === undefined ? "" : ` per ${windowNames.get(seconds) ?? span(seconds)}`

/** At most three decimals, and none where they would not be told apart. */
const figure = (value: number): string =>
  value >= mostFigure
    ? ">1e15"
    : value > 0 && value < 0.001
    ? "<0.001"
    : String(value >= 1e6 ? Math.round(value) : Math.round(value * 1000) / 1000)

/** At most eight characters: 12345678 as `1.2e7`. */
const rounded = (value: number): string =>
  value < 10_000 || value >= mostFigure ? figure(value) : value.toExponential(1).replace("+", "")

const heads: ReadonlyArray<string> = ["sum", "limit", "per second", "remaining", "reset"]

const windowNames: ReadonlyMap<number, string> = new Map([[1, "s"], [60, "min"], [3_600, "h"], [86_400, "day"]])

/** The order of the rows. */
const dimensions: ReadonlyArray<Outcome.LimitReading["dimension"]> = [
  "requests",
  "tokens",
  "inputTokens",
  "outputTokens",
  "concurrency",
  "other"
]

/** The width of a terminal that nobody has made wider. */
const columns = 80

/** Characters shown of the name of a limit or a unit, where there is no more room. */
const mostName = 24

/** Rows of a table; no answer seen has as many. */
const mostRows = 20

/** A figure this large says only that there is no limit. */
const mostFigure = 1e15

/** Nobody waits as long. */
const mostSeconds = 100 * 365 * 86_400
