/**
 * The table of providers in `docs/providers.md`, written from the tables that the code reads.
 *
 * Run as a script it rewrites the page between its two marks; a test says when that is due.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as HttpApis from "../packages/core/src/profiles/http-apis.ts"
import * as ProviderProfile from "../packages/core/src/ProviderProfile.ts"
import { usualCharging } from "../packages/core/src/ProviderWays.ts"
import * as Source from "./SourceText.ts"

const page = Path.join(Source.repository, "docs/providers.md")

const marks = ["<!-- providers: written by `pnpm api` -->", "<!-- end of providers -->"] as const

/** The page as it is, and as it should be. */
export const pages = (): { readonly is: string; readonly should: string } => {
  const is = Fs.readFileSync(page, "utf8")
  const [before = "", rest = ""] = is.split(marks[0], 2)
  const after = rest.split(marks[1], 2)[1] ?? ""
  return { is, should: `${before}${marks[0]}\n\n${table()}\n\n${others()}\n\n${marks[1]}${after}` }
}

const isApi = ({ name }: ProviderProfile.ProviderProfile): boolean => HttpApis.all.some((api) => api.name === name)

const table = (): string => {
  const rows = ProviderProfile.all.filter((profile) => !isApi(profile)).map(({ aliases, charging, limited, name }) => [
    [name, ...aliases].map((each) => `\`${each}\``).join(" "),
    limited.map(words).join(", "),
    ...(charging === usualCharging ? ["", "", "", ""] : [
      charging.admission,
      charging.settlement === "used" ? "what was used" : "nothing: it stands",
      charging.cachedInput === "free" ? "no" : "yes",
      charging.refusals === "count" ? "yes" : charging.refusals === "free" ? "no" : ""
    ])
  ])
  const head = ["name", "limits", "charged at first", "settled to", "cached input counts", "refused calls count"]
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) => `| ${row.map((cell, at) => cell.padEnd(widths[at]!)).join(" | ")} |`
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)].join("\n")
}

const others = (): string =>
  `Other HTTP APIs, for their headers and errors: ${
    ProviderProfile.all.filter(isApi).map(({ name }) => `\`${name}\``).join(", ")
  }.`

const words = (dimension: string): string => dimension.replace(/[A-Z]/, (letter) => ` ${letter.toLowerCase()}`)

if (process.argv[1] === import.meta.filename) Fs.writeFileSync(page, pages().should)
