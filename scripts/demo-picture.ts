/**
 * Draws `docs/demo.svg`, a picture of a terminal after `evenkeel demo`: `pnpm exec node scripts/demo-picture.ts`.
 *
 * It runs the real demo, in its usual length, and draws the table of what was measured. The picture holds all it needs:
 * text in whatever monospace font there is, fitted to its columns, and blocks as rectangles, which no font can spoil.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Measured, summary } from "../packages/node/src/cli/demo.ts"
import { repository } from "./SourceText.ts"

/** A stretch of one line in one style. */
interface Run {
  readonly text: string
  readonly column: number
  readonly code: string
}

/** The stretches of a line with its colours, spaces around them left out. */
const runsOf = (line: string): ReadonlyArray<Run> => {
  const runs: Array<Run> = []
  let column = 0
  let code = "0"
  // eslint-disable-next-line no-control-regex -- colours begin with it
  for (const [index, text] of line.split(/\u001b\[(\d+)m/).entries()) {
    if (index % 2 === 1) {
      code = text
      continue
    }
    // Two spaces or more part the columns of a table; within a cell text stays together.
    for (const match of text.matchAll(/\S+(?: \S+)*/g)) {
      runs.push({ text: match[0], column: column + match.index, code })
    }
    column += text.length
  }
  return runs
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** A decimal without noise. */
const at = (value: number): string => String(Number(value.toFixed(2)))

const drawRun = ({ code, column, text }: Run, row: number): string => {
  const x = margin + column * columnWidth
  const y = top + row * rowHeight
  const colour = colours[code] ?? colours["0"]
  if (!blocks.test(text)) {
    const weight = code === "1" ? ` font-weight="bold"` : ""
    return `<text x="${at(x)}" y="${at(y + baseline)}" textLength="${
      at(text.length * columnWidth)
    }" fill="${colour}"${weight}>` +
      `${escaped(text)}</text>`
  }
  const path = Array.from(text, (block, index) => {
    const height = (blockHeight * Math.max(0, eighths.indexOf(block))) / 8
    return height === 0
      ? ""
      : `M${at(x + index * columnWidth)} ${at(y + rowHeight)}v-${at(height)}h${at(columnWidth)}v${at(height)}z`
  })
  return `<path d="${path.join("")}" fill="${colour}"/>`
}

const draw = (lines: ReadonlyArray<string>): string => {
  const width = at(2 * margin + columns * columnWidth)
  const height = at(top + lines.length * rowHeight + margin)
  const buttons = ["#ff5f57", "#febc2e", "#28c840"]
    .map((colour, index) => `<circle cx="${22 + 20 * index}" cy="20" r="6" fill="${colour}"/>`)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `role="img" aria-label="A terminal after evenkeel demo">`,
    `<rect x="0.5" y="0.5" width="${at(Number(width) - 1)}" height="${
      at(Number(height) - 1)
    }" rx="10" fill="#0d1117" stroke="#444c56"/>`,
    ...buttons,
    `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="${fontSize}" ` +
    `lengthAdjust="spacingAndGlyphs">`,
    ...lines.flatMap((line, row) => runsOf(line).map((run) => drawRun(run, row))),
    "</g>",
    "</svg>",
    ""
  ].join("\n")
}

const columns = 80
const fontSize = 14
const columnWidth = 8.4
const rowHeight = 19
/** A little less, so that the charts of two rows stay apart. */
const blockHeight = 17
const baseline = 14
const margin = 14
/** Below the buttons of the window. */
const top = 40

const eighths = " ▁▂▃▄▅▆▇█"
const blocks = /^[ ▁▂▃▄▅▆▇█]+$/

/** What the demo's colours are on a dark ground, by their codes. */
const colours: Readonly<Record<string, string>> = {
  "0": "#e6edf3",
  "1": "#ffffff",
  "2": "#8b949e",
  "31": "#ff7b72",
  "32": "#56d364"
}

const bin = Path.join(repository, "packages/node/src/bin.ts")
const target = Path.join(repository, "docs/demo.svg")

const { status, stdout } = spawnSync(process.execPath, [bin, "demo", "--json"], {
  encoding: "utf8",
  stdio: ["ignore", "pipe", "inherit"]
})
if (status !== 0) throw new Error(`The demo ended with status ${status}; the picture was left as it is`)
const measured: Measured = JSON.parse(stdout)
const text = `\u001b[2m$\u001b[0m \u001b[1mpnpm demo\u001b[0m\n\n${summary(measured, { columns, colour: true })}`
Fs.writeFileSync(target, draw(text.split("\n")))
console.log(`docs/demo.svg: ${Math.ceil(Fs.statSync(target).size / 1024)} KiB`)
