/**
 * The examples of the documentation, as programs: every `ts` fence in a doc comment of the packages' sources, in the
 * READMEs and in `docs`.
 *
 * Here belongs finding them, turning `expr // => value` into an assertion, and writing them where `@evenkeel/X` resolves.
 * `DocExamples.test.ts` of core and node runs them; run as a script, this file type-checks them all. A fence marked
 * `ts no-run` is only type-checked: it needs a page, a server or an hour.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "./SourceText.ts"

/** The package whose dependencies an example needs, and so where it is written and run. */
export type Home = "core" | "node" | "browser"

/** One fence: where it stands (`line` is its first line of code), what it is called, and its code. */
export interface Example {
  readonly name: string
  readonly path: string
  readonly line: number
  readonly home: Home
  readonly runs: boolean
  readonly code: string
}

/** Every example of the repository. */
export const all = (): ReadonlyArray<Example> => [
  ...Source.filesUnder("packages", /\.tsx?$/).filter(({ path }) => /^packages\/[a-z]+\/src\//.test(path)).flatMap(
    inCode
  ),
  ...Source.filesUnder("", /^README\.md$/)
    .filter(({ path }) => /^(?:packages\/[a-z]+\/)?README\.md$/.test(path))
    .flatMap(inMarkdown),
  ...Source.filesUnder("docs", /\.md$/).flatMap(inMarkdown)
]

/** The fences in the doc comments of a TypeScript file, named by their **Example** heading. */
export const inCode = (file: Source.SourceFile): ReadonlyArray<Example> =>
  [...file.text.matchAll(/^[ \t]*\/\*\*[^]*?\*\//gm)].flatMap((comment) =>
    // Only the stars go, so that lines keep their numbers.
    fences({ path: file.path, text: comment[0].replace(/^[ \t]*\* ?/gm, "") }, /^\*\*Example\*\*(?: \((.+)\))?$/gm)
      .map((example) => ({ ...example, line: example.line + Source.lineAt(file.text, comment.index) - 1 }))
  )

/** The fences of a Markdown file, named by the heading that they stand under. */
export const inMarkdown = (file: Source.SourceFile): ReadonlyArray<Example> => fences(file, /^#+ (.+)$/gm)

/**
 * The program that an example is: each `expr // => value` asserts that they are deeply equal.
 *
 * **Details**
 *
 * The comment stands at the end of a statement: an expression, or the declaration of one name. Lines keep their numbers.
 *
 * **Errors**
 *
 * Throws where an assertion stands anywhere else, so that none is passed over in silence.
 */
export const program = ({ code, line, path }: Pick<Example, "code" | "line" | "path">): string => {
  const lines = code.split("\n")
  const bare = Source.codeOnly(code).split("\n")
  const uncommented = Source.withoutComments(code).split("\n")
  let depth = 0
  let start = 0
  lines.forEach((text, index) => {
    const where = `${path}:${line + index}`
    if (depth === 0 && bare[index]!.trim() !== "" && !/^\s*[.?:)\]}]/.test(bare[index]!)) start = index
    depth += (bare[index]!.match(/[([{]/g)?.length ?? 0) - (bare[index]!.match(/[)\]}]/g)?.length ?? 0)
    const end = uncommented[index]!.trimEnd().length
    const expected = text.slice(end).match(/^\s*\/\/ =>(.*)$/)?.[1]?.trim()
    if (expected === undefined) return
    if (depth !== 0 || bare[index]!.trim() === "") throw new Error(`${where}: \`// =>\` must end a statement`)
    const statement = text.slice(0, end)
    const declared = lines[start]!.match(/^(?:const|let) (\w+)\b/)?.[1]
    if (declared !== undefined) {
      lines[index] = `${statement}; assert.deepStrictEqual(${declared}, ${expected}, "${where}")`
    } else {
      lines[index] = `${statement}, ${expected}, "${where}")`
      lines[start] = `;assert.deepStrictEqual(${lines[start]!}`
    }
  })
  return `import { assert } from "vitest"; ${lines.join("\n")}\n`
}

/** Writes an example as a module into its package's `.examples`, and returns the path. */
export const write = (example: Example, kind: "run" | "check"): string => {
  const folder = Path.join(folderOf(example.home), kind)
  Fs.mkdirSync(folder, { recursive: true })
  const path = Path.join(folder, `${example.path.replace(/[^\w]+/g, "-")}-${example.line}.ts`)
  Fs.writeFileSync(path, kind === "run" ? program(example) : `${example.code}\nexport {}\n`)
  return path
}

/** Removes what was written for a package before, and keeps git out of what will be. */
export const clear = (home: Home, kind: "run" | "check"): void => {
  Fs.rmSync(Path.join(folderOf(home), kind), { recursive: true, force: true })
  Fs.mkdirSync(folderOf(home), { recursive: true })
  Fs.writeFileSync(Path.join(folderOf(home), ".gitignore"), "*\n")
}

const homes: ReadonlyArray<Home> = ["core", "node", "browser"]

const folderOf = (home: Home): string => Path.join(Source.repository, "packages", home, ".examples")

const fences = (file: Source.SourceFile, heading: RegExp): ReadonlyArray<Example> => {
  const headings = [...file.text.matchAll(heading)]
  return [...file.text.matchAll(/^```ts( no-run)?[ \t]*\n([^]*?)^```/gm)].map((match) => {
    const above = headings.findLast(({ index }) => index < match.index)
    const line = Source.lineAt(file.text, match.index) + 1
    const code = match[2]!
    return {
      name: above?.[1] ?? "an example",
      path: file.path,
      line,
      home: homeOf(code),
      runs: match[1] === undefined,
      code
    }
  })
}

const homeOf = (code: string): Home => {
  if (/"(?:@evenkeel\/node|@effect\/platform-node|node:|undici)/.test(code)) return "node"
  return code.includes("\"@evenkeel/browser") ? "browser" : "core"
}

/** Type-checks every example in one run of the compiler, which reports places in the written files. */
const check = (): void => {
  for (const home of homes) clear(home, "check")
  const examples = all()
  for (const example of examples) write(example, "check")
  const config = Path.join(folderOf("core"), "check", "tsconfig.json")
  Fs.mkdirSync(Path.dirname(config), { recursive: true })
  const settings = {
    extends: "../../../../tsconfig.base.json",
    include: homes.map((home) => `../../../${home}/.examples/check/*.ts`),
    references: homes.map((home) => ({ path: `../../../${home}` })),
    compilerOptions: { rootDir: "../../../..", noEmit: true, noUnusedLocals: false, types: ["node"] }
  }
  Fs.writeFileSync(config, JSON.stringify(settings, undefined, 2))
  const tsc = Path.join(Source.repository, "node_modules/.bin/tsc")
  const result = spawnSync(tsc, ["-p", config], { cwd: Source.repository, stdio: "inherit" })
  console.log(`${examples.length} doc examples type-checked${result.status === 0 ? "" : ", with errors"}`)
  process.exitCode = result.status ?? 1
}

if (process.argv[1] === import.meta.filename) check()
