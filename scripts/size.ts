/**
 * How much each way of using the library adds to a page: bundled by esbuild for a browser, minified, then gzipped.
 *
 * The first row is the floor that any program on Effect has. There are no thresholds yet: the table is for comparing.
 */
import { build } from "esbuild"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { gzipSync } from "node:zlib"
import * as Source from "./SourceText.ts"

/** A program as a page would write it, in the package that it is written in; left out while a module is missing. */
interface Entry {
  readonly name: string
  readonly in: "core" | "browser"
  readonly code: string
}

const entries: ReadonlyArray<Entry> = [
  {
    name: "effect alone",
    in: "core",
    code: `import * as Effect from "effect/Effect"; Effect.runPromise(Effect.succeed(1))`
  },
  {
    name: "effect with its HTTP client over fetch",
    in: "core",
    code:
      `import * as FetchHttpClient from "effect/http/FetchHttpClient"; import * as HttpClient from "effect/http/HttpClient"
import * as Effect from "effect/Effect"
Effect.runPromise(Effect.provide(HttpClient.get("/"), FetchHttpClient.layer))`
  },
  {
    name: "RateLimitHeaders alone",
    in: "core",
    code: `import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"; console.log(RateLimitHeaders)`
  },
  {
    name: "Pacer alone",
    in: "core",
    code: `import * as Pacer from "@evenkeel/core/Pacer"; console.log(Pacer)`
  },
  {
    name: "paced client (PacedHttpClient, Pacer, fetch)",
    in: "core",
    code: `import * as FetchHttpClient from "effect/http/FetchHttpClient"; import * as Pacer from "@evenkeel/core/Pacer"
import * as PacedHttpClient from "@evenkeel/core/PacedHttpClient"; console.log(FetchHttpClient.layer, Pacer, PacedHttpClient)`
  },
  {
    name: "BrowserPacedHttpClient",
    in: "browser",
    code:
      `import * as BrowserPacedHttpClient from "@evenkeel/browser/BrowserPacedHttpClient"; console.log(BrowserPacedHttpClient)`
  }
]

const exists = (entry: Entry): boolean =>
  [...entry.code.matchAll(/"@evenkeel\/(\w+)\/(\w+)"/g)].every(([, name, module]) =>
    Fs.existsSync(Path.join(Source.repository, `packages/${name}/src/${module}.ts`))
  )

const measure = async (entry: Entry) => {
  const { metafile, outputFiles } = await build({
    stdin: { contents: entry.code, resolveDir: Path.join(Source.repository, "packages", entry.in), loader: "ts" },
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "browser",
    target: "es2022"
  })
  const bytes = outputFiles[0]!.contents
  const kept = Object.values(metafile.outputs)[0]!.inputs
  const effect = Object.entries(kept).filter(([path, { bytesInOutput }]) =>
    path.includes("/effect/") && bytesInOutput > 0
  )
  const effectBytes = effect.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0)
  return [
    entry.name,
    String(bytes.length),
    String(gzipSync(bytes, { level: 9 }).length),
    String(effect.length),
    String(effectBytes)
  ]
}

const rows = [["entry", "minified", "gzip", "effect modules", "effect bytes"]]
for (const entry of entries) rows.push(exists(entry) ? await measure(entry) : [entry.name, "-", "-", "-", "-"])
const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
for (const row of rows) {
  console.log(
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")
  )
}
