/**
 * The rules of the house, as tests over the source text. Each failure names the file, the line, the rule and what to do
 * instead. What a type checker or the linter can see is theirs (import barrels, floating promises); what needs a reader's
 * judgement is a review's.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Source from "../../../scripts/SourceText.ts"

/**
 * The modules of core, top to bottom. A module imports only modules of rows above; a row marked `among` also its own,
 * without cycles.
 */
const rows: ReadonlyArray<{ row: string; modules: ReadonlyArray<string>; among?: true }> = [
  { row: "structures", modules: ["internal/Heap"] },
  { row: "words", modules: ["Demand", "Pace", "Outcome", "ApiError", "PaceError", "Credential"], among: true },
  {
    row: "decisions",
    modules: [
      "StructuredFields",
      "internal/WireGrammar",
      "internal/LimitNames",
      "internal/IetfFields",
      "internal/ErrorBody",
      "internal/EventStream",
      "RateLimitHeaders",
      "ProviderWays",
      "internal/Verdict",
      "internal/CallCost",
      "ProviderProfile",
      "profiles/*",
      "RateController",
      "LimitTracker",
      "CapacityGuard",
      "CallScheduler",
      "RetryPolicy",
      "TokenEstimate",
      "DynamicLimit"
    ],
    among: true
  },
  { row: "state", modules: ["PaceStore", "Telemetry"] },
  { row: "loop", modules: ["internal/PacedKey", "internal/PacerLoop", "Pacer"], among: true },
  { row: "edges", modules: ["internal/PacedResponse", "PacedHttpClient", "PacedFetch", "ServerLimiter"], among: true },
  { row: "testing", modules: ["testing/*"], among: true },
  { row: "door", modules: ["index"] }
]

/** What core must not say, and what it says instead: time, chance and platforms come in as services or arguments. */
const banned: ReadonlyArray<readonly [RegExp, string]> = [
  [/(?<![.\w])Date\.now\b/, "take `now` as an argument, or use Clock.monotonicTimeNanos (currentTimeMillis for dates)"],
  [/\bnew Date\(/, "use Date.parse on the text, or milliseconds from the Clock"],
  [/(?<![.\w])Math\.random\b/, "use effect/Random, so that a seed decides"],
  [/(?<![.\w])setTimeout\b/, "use Effect.sleep, so that TestClock moves it"],
  [/(?<![.\w])setInterval\b/, "use Effect.repeat with a Schedule, so that TestClock moves it"],
  [/(?<![.\w])performance\.now\b/, "use Clock.monotonicTimeNanos"],
  [/(?<![.\w])console\./, "emit a Telemetry event, or use Effect.log"],
  [/\basync\s/, "use Effect.gen or Effect.fnUntraced"],
  [/\bawait\s/, "use yield* in Effect.gen"],
  [/(?<![.\w])process\./, "take it as an option; reading the process belongs to packages/node"],
  [/(?<![.\w])(?:document|navigator|localStorage|globalThis)\./, "the platform belongs to packages/node and browser"],
  // A rate limit has windows too, so only what a page's window is read for.
  [/(?<![.\w])window\.(?:add|document|fetch|location|navigator|set)/, "the page belongs to packages/browser"]
]

/** Names that say nothing of what is inside. */
const emptyNames = /^(?:utils?|common|helpers?|managers?|types)$/i

/** Most lines of one file. Past it, the file holds two ideas. */
const mostLines = 700

/** One rule: what holds, for which files, what breaks it in these, and a file that must be caught (or the rule is blind). */
interface Rule {
  readonly holds: string
  readonly files: RegExp
  readonly broken: (files: ReadonlyArray<Source.SourceFile>) => ReadonlyArray<string>
  readonly caught: Source.SourceFile
}

const core = /^packages\/core\/src\//
const source = /^packages\/[a-z]+\/src\//

const rules: ReadonlyArray<Rule> = [
  {
    holds: "each module of core has its row, and imports only rows above",
    files: core,
    broken: (files) =>
      files.flatMap((file) => {
        const from = moduleOf(file.path)
        const place = rowOf(from)
        if (place === -1) {
          return [`${file.path}:1: core has no row for ${from}; add it to the table of Architecture.test.ts`]
        }
        return coreImports(file).flatMap(({ line, to }) => {
          const target = rowOf(to)
          if (target !== -1 && (target < place || (target === place && rows[place]!.among === true))) return []
          const said = `${from} (${rows[place]!.row}) must not import ${to} (${rows[target]?.row ?? "no row"})`
          return [`${file.path}:${line}: ${said}; import rows above only, or move what both need up`]
        })
      }),
    caught: { path: "packages/core/src/Pace.ts", text: "import * as Pacer from \"./Pacer.ts\"" }
  },
  {
    holds: "modules of core import each other without cycles",
    files: core,
    broken: (files) => {
      const graph = new Map(files.map((file) => [moduleOf(file.path), coreImports(file).map(({ to }) => to)]))
      const done = new Set<string>()
      const walk = (module: string, path: ReadonlyArray<string>): ReadonlyArray<string> => {
        if (path.includes(module)) {
          const cycle = [...path.slice(path.indexOf(module)), module].join(" -> ")
          return [
            `packages/core/src/${module}.ts:1: imports go round, ${cycle}; move what both need into a third module`
          ]
        }
        if (done.has(module)) return []
        const found = (graph.get(module) ?? []).flatMap((next) => walk(next, [...path, module]))
        done.add(module)
        return found
      }
      return [...graph.keys()].flatMap((module) => walk(module, []))
    },
    caught: { path: "packages/core/src/Pace.ts", text: "import type { Pace } from \"./Pace.ts\"" }
  },
  {
    holds: "core imports only Effect and itself",
    files: core,
    broken: foreignImports(
      /^(?:effect\/|@noble\/hashes\/|\.{1,2}\/)/,
      "core holds on every platform: import effect/X, or give a dependency a reason in docs/decisions"
    ),
    caught: { path: "packages/core/src/Pace.ts", text: "import * as Fs from \"node:fs\"" }
  },
  {
    holds: "node never imports browser",
    files: /^packages\/node\/src\//,
    broken: foreignImports(/^(?!@evenkeel\/browser)/, "node and browser meet only in core: move what both need there"),
    caught: { path: "packages/node/src/X.ts", text: "export * from \"@evenkeel/browser/X\"" }
  },
  {
    holds: "browser imports only Effect, core and itself",
    files: /^packages\/browser\/src\//,
    broken: foreignImports(
      /^(?:effect\/|\.{1,2}\/|@evenkeel\/core\/)/,
      "a page has only effect/X and @evenkeel/core/X"
    ),
    caught: { path: "packages/browser/src/X.ts", text: "const fs = import(\"node:fs\")" }
  },
  {
    holds: "core says nothing that reads time, chance or a platform by itself",
    files: core,
    broken: eachLine(Source.codeOnly, banned),
    caught: { path: "packages/core/src/Pace.ts", text: "const text = `at ${Date.now()}`" }
  },
  {
    holds: "each file begins by saying what it is and what belongs in it",
    files: source,
    broken: (files) =>
      files.flatMap((file) => {
        const header = file.text.match(/^(?:#!.*\n)?(\/\*\*[^]*?\*\/)/)?.[1] ?? ""
        return [...Source.commentText(header).matchAll(/[.?](?=\s|$)/g)].length >= 2
          ? []
          : [`${file.path}:1: no header; begin with a doc comment of two sentences: what it is, what belongs here`]
      }),
    caught: { path: "packages/core/src/Pace.ts", text: "/** One sentence. */" }
  },
  {
    holds: "each export has a doc comment that begins with a sentence of its own",
    files: source,
    broken: (files) =>
      files.flatMap((file) =>
        Source.exportsOf(file.text).flatMap(({ doc, line, name }) =>
          doc !== undefined && /[.?]$/.test(doc.split("\n\n")[0]!)
            ? []
            : [`${file.path}:${line}: ${name} needs a doc comment whose first paragraph is a sentence with its period`]
        )
      ),
    caught: { path: "packages/core/src/Pace.ts", text: "/** A pace */\nexport const pace = 1" }
  },
  {
    holds: `no file is longer than ${mostLines} lines`,
    files: /\.tsx?$/,
    broken: (files) =>
      files.flatMap((file) => {
        const length = file.text.trimEnd().split("\n").length
        return length <= mostLines ? [] : [`${file.path}:${length}: longer than ${mostLines} lines; split it by idea`]
      }),
    caught: { path: "packages/core/src/Pace.ts", text: `${"\n".repeat(mostLines)}export const last = 1` }
  },
  {
    holds: "no file has a name that says nothing",
    files: /\.tsx?$/,
    broken: (files) =>
      files.flatMap((file) => {
        const words = file.path.split("/").at(-1)!.split(/[.\-_]|(?<=[a-z])(?=[A-Z])/)
        const empty = words.find((word) => emptyNames.test(word))
        return empty === undefined
          ? []
          : [`${file.path}:1: "${empty}" says nothing; name the file after the idea it holds`]
      }),
    caught: { path: "packages/core/src/HttpUtils.ts", text: "" }
  },
  {
    holds: "no file holds a note for later, or a path of somebody's machine",
    files: /./,
    broken: eachLine((text) => text, [
      [/\b(?:TO[D]O|FIX[M]E)\b/, "do it now, or open an issue"],
      [/(?<![\w.~-])\/(?:home|Users|root|work)\/\w/, "make the path relative"]
    ]),
    caught: { path: "docs/x.md", text: ["", "home", "me"].join("/") }
  }
]

describe("the architecture", () => {
  for (const { broken, caught, files, holds } of rules) {
    it(holds, () => {
      assert.match(caught.path, files)
      assert.lengthOf(broken([caught]), 1, "the rule does not catch the file that breaks it on purpose")
      const wrong = broken(everything.filter(({ path }) => files.test(path)))
      assert.isEmpty(wrong, `\n${wrong.join("\n")}\n`)
    })
  }
})

const everything = Source.filesUnder("", /\.(?:tsx?|md|jsonc?|ya?ml|sh|html|css)$|^run$/)

const moduleOf = (path: string): string => path.replace(core, "").replace(/\.ts$/, "")

const rowOf = (module: string): number =>
  rows.findIndex(({ modules }) => modules.includes(module) || modules.includes(module.replace(/\/.*/, "/*")))

/** The modules of core that a file of core imports. */
const coreImports = (file: Source.SourceFile) =>
  Source.importsOf(file.text).flatMap(({ from, line }) =>
    from.startsWith(".") ? [{ line, to: moduleOf(new URL(from, `file:///${file.path}`).pathname.slice(1)) }] : []
  )

/** Imports other than those allowed. */
function foreignImports(allowed: RegExp, instead: string): Rule["broken"] {
  return (files) =>
    files.flatMap((file) =>
      Source.importsOf(file.text).flatMap(({ from, line }) =>
        allowed.test(from) ? [] : [`${file.path}:${line}: imports "${from}"; ${instead}`]
      )
    )
}

/** Lines that say what is not to be said. */
function eachLine(view: (text: string) => string, bans: ReadonlyArray<readonly [RegExp, string]>): Rule["broken"] {
  return (files) =>
    files.flatMap((file) =>
      view(file.text).split("\n").flatMap((line, index) =>
        bans.flatMap(([pattern, instead]) => {
          const said = line.match(pattern)?.[0].trim()
          return said === undefined ? [] : [`${file.path}:${index + 1}: \`${said}\` is banned here; ${instead}`]
        })
      )
    )
}
