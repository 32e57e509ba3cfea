/**
 * The public surface as files: `packages/X/api/Module.md` lists what each public module exports, with its signatures, so
 * that any change of the surface is a diff to review.
 *
 * `pnpm api` writes them, `pnpm api --check` compares; `PublicApi.test.ts` makes `pnpm test` compare too. Signatures are
 * those of the declaration files that `tsc -b` emits; a module is public unless the package's exports map closes it.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "./SourceText.ts"

/** The packages whose surface is kept. */
export const packages = ["core", "node", "browser"]

/** Brings the declaration files up to date. Type errors do not stop it: they are the business of `pnpm check`. */
export const emit = (): void => {
  const tsc = Path.join(Source.repository, "node_modules/.bin/tsc")
  spawnSync(tsc, ["-b", "tsconfig.packages.json"], { cwd: Source.repository, stdio: "ignore" })
}

/** What the files of a package must say, by path. */
export const expected = (name: string): ReadonlyMap<string, string> => {
  const closed = closedModules(name)
  const modules = Source.filesUnder(`packages/${name}/src`, /\.tsx?$/)
    .map(({ path }) => path.replace(`packages/${name}/src/`, "").replace(/\.tsx?$/, ""))
    .filter((module) => !closed(module))
  return new Map(modules.map((module) => {
    const declarations = Path.join(Source.repository, `packages/${name}/dist/${module}.d.ts`)
    if (!Fs.existsSync(declarations)) {
      throw new Error(`${Path.relative(Source.repository, declarations)} is not there; run pnpm exec tsc -b --force`)
    }
    const importedAs = module === "index" ? `@evenkeel/${name}` : `@evenkeel/${name}/${module}`
    return [`packages/${name}/api/${module}.md`, page(importedAs, Fs.readFileSync(declarations, "utf8"))]
  }))
}

/** The files that do not say what they must, each with the first lines that differ. Empty when all is up to date. */
export const differences = (name: string): ReadonlyArray<string> => {
  const wanted = expected(name)
  const found = new Map(Source.filesUnder(`packages/${name}/api`, /\.md$/).map(({ path, text }) => [path, text]))
  return [...new Set([...wanted.keys(), ...found.keys()])].sort().flatMap((path) => {
    const before = (found.get(path) ?? "").split("\n")
    const after = (wanted.get(path) ?? "").split("\n")
    const removed = before.filter((line) => !after.includes(line)).map((line) => `  - ${line}`)
    const added = after.filter((line) => !before.includes(line)).map((line) => `  + ${line}`)
    if (before.join("\n") === after.join("\n")) return []
    return [[path, ...[...removed, ...added].slice(0, mostLinesShown)].join("\n")]
  })
}

/** One module's page, from its declaration file: exports in order of name, comments and imports left out. */
export const page = (importedAs: string, declarations: string): string => {
  const text = plainBases(Source.withoutComments(declarations).replace(/[ \t]+$/gm, "").replace(/\n{2,}/g, "\n"))
  const statements = text.split(/^(?=(?:export|declare|import)\b)/m)
    .map((statement) => statement.trim().replace(/^(?: {4})+/gm, (indent) => indent.slice(indent.length / 2)))
    .filter((statement) => statement !== "" && !/^import\b|^export \{\};?$/.test(statement))
  const ordered = statements
    .map((statement, index) => ({ statement, index, name: nameOf(statement) }))
    // Overloads keep the order in which they are tried.
    .sort((a, b) => (a.name === b.name ? a.index - b.index : a.name < b.name ? -1 : 1))
  const body = ordered.map(({ statement }) => statement).join("\n")
  return `# ${importedAs}\n\nWritten by \`pnpm api\`.\n\n\`\`\`ts\n${body}${body === "" ? "" : "\n"}\`\`\`\n`
}

/** Says `extends Data.TaggedError("X")<…>` again, where the compiler spells out what that gives in a constant of its own. */
const plainBases = (text: string): string => {
  const base =
    /^declare const (\w+)_base: new <A extends Record<string, any> = \{\}>\(args: [^]*?(?=^(?:export|declare)\b)/gm
  const kinds = new Map([...text.matchAll(base)].map(([declaration, name]) => [
    `${name}_base`,
    `Data.${declaration.includes("YieldableError") ? "TaggedError" : "TaggedClass"}("${name}")`
  ]))
  return text.replace(base, "").replace(/(?<= extends )\w+_base\b/g, (name) => kinds.get(name) ?? name)
}

/** Enough of a difference to see what it is about; the rest is in `git diff` after `pnpm api`. */
const mostLinesShown = 12

const nameOf = (statement: string): string =>
  statement.match(
    /^(?:export |declare |default |abstract )*(?:const|let|function|class|interface|type|namespace|enum) (\w+)/
  )
    ?.[1] ?? statement

/** Which modules the package's exports map closes, as `"./internal/*": null` does. */
const closedModules = (name: string): (module: string) => boolean => {
  const path = Path.join(Source.repository, `packages/${name}/package.json`)
  const { exports } = JSON.parse(Fs.readFileSync(path, "utf8")) as { exports: Record<string, string | null> }
  const closed = Object.entries(exports).flatMap(([key, target]) => (target === null ? [key.replace(/^\.\//, "")] : []))
  return (module) => closed.some((key) => (key.endsWith("*") ? module.startsWith(key.slice(0, -1)) : module === key))
}

const write = (): void => {
  for (const name of packages) {
    const pages = expected(name)
    Fs.rmSync(Path.join(Source.repository, `packages/${name}/api`), { recursive: true, force: true })
    for (const [path, text] of pages) {
      const absolute = Path.join(Source.repository, path)
      Fs.mkdirSync(Path.dirname(absolute), { recursive: true })
      Fs.writeFileSync(absolute, text)
    }
    console.log(`packages/${name}/api: ${pages.size} modules`)
  }
}

const main = (): void => {
  emit()
  if (!process.argv.includes("--check")) return write()
  const wrong = packages.flatMap((name) => differences(name))
  if (wrong.length === 0) return
  console.error(`${wrong.join("\n")}\nThe public surface has changed: run pnpm api and commit what it writes.`)
  process.exitCode = 1
}

if (process.argv[1] === import.meta.filename) main()
