/**
 * TypeScript files as text: their comments, their code, their imports and exports.
 *
 * Here belongs what the workspace's own rules (architecture, doc examples, public API files) need to know of a source
 * file. TypeScript 7 has no JavaScript API, so this reads text; it understands the style of this repository, not all of
 * the language.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** The repository's folder. */
export const repository: string = Path.resolve(import.meta.dirname, "..")

/** One file: `path` from the repository's folder, and what it says. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** Every file below a folder of the repository whose name ends as told, in order of path. Generated folders are left out. */
export const filesUnder = (folder: string, endsWith: RegExp): ReadonlyArray<SourceFile> => {
  const found: Array<SourceFile> = []
  const visit = (directory: string): void => {
    for (const entry of Fs.readdirSync(directory, { withFileTypes: true })) {
      if (generated.has(entry.name)) continue
      const path = Path.join(directory, entry.name)
      if (entry.isDirectory()) visit(path)
      else if (entry.isFile() && endsWith.test(entry.name)) {
        found.push({ path: Path.relative(repository, path), text: Fs.readFileSync(path, "utf8") })
      }
    }
  }
  const start = Path.join(repository, folder)
  if (Fs.existsSync(start)) visit(start)
  return found.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** The text with comments blanked; lines keep their numbers. */
export const withoutComments = (text: string): string => blank(text, (kind) => kind === "comment")

/** The text with comments, strings and regular expressions blanked: what is left is code. */
export const codeOnly = (text: string): string => blank(text, () => true)

/** The number of the line that an offset is on, from 1. */
export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split("\n").length

/** What a comment says: without its stars and slashes. */
export const commentText = (comment: string): string =>
  comment
    .replace(/^\/\*\*?/, "")
    .replace(/\*\/$/, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trimEnd())
    .join("\n")
    .trim()

/** Each module that a file imports or passes on, with its line. */
export const importsOf = (text: string): ReadonlyArray<{ readonly from: string; readonly line: number }> => {
  const code = withoutComments(text)
  const forms = [
    /^\s*(?:import|export)\b[^"';]*?\bfrom\s*"([^"]+)"/gm,
    /^\s*import\s+"([^"]+)"/gm,
    /\bimport\s*\(\s*"([^"]+)"/g
  ]
  return forms.flatMap((form) =>
    [...code.matchAll(form)].map((match) => ({
      from: match[1]!,
      line: lineAt(code, match.index + match[0].length)
    }))
  )
}

/** Each export of a file with its line and its doc comment (`undefined` where there is none). An overload counts once. */
export const exportsOf = (
  text: string
): ReadonlyArray<{ readonly name: string; readonly line: number; readonly doc: string | undefined }> => {
  const seen = new Set<string>()
  const form =
    /(\/\*\*(?:(?!\*\/)[^])*?\*\/\s*\n(?:\s*\/\/.*\n)*)?^export (?:default |declare |abstract |async )*(?:const|let|function\*?|class|interface|type|enum|namespace) (\w+)/gm
  return [...text.matchAll(form)].flatMap((match) => {
    const name = match[2]!
    if (seen.has(name)) return []
    seen.add(name)
    const comment = match[1]?.match(/^\/\*\*[^]*?\*\//)?.[0]
    const line = lineAt(text, match.index + match[0].length)
    return [{ name, line, doc: comment === undefined ? undefined : commentText(comment) }]
  })
}

/** Folders that hold no source of ours. */
const generated = new Set(["node_modules", "dist", ".git", ".examples", ".pack", "coverage"])

type Kind = "comment" | "string" | "regex"

/**
 * Comments, strings, templates and regular expressions, whichever comes first. A slash begins a regular expression only
 * where a value may begin: after an operator, an opening bracket or `return`.
 */
const tokens =
  /(?<comment>\/\*[^]*?\*\/|\/\/[^\n]*)|(?<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[^]|[^`\\])*`)|(?<=(?:^|[=(,:[!&|?{};>\n]|\breturn)\s*)(?<regex>\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*)/g

const blank = (text: string, which: (kind: Kind) => boolean): string =>
  text.replace(tokens, (token, ...rest) => {
    const groups = rest.at(-1) as Record<Kind, string | undefined>
    const kind: Kind = groups.comment !== undefined ? "comment" : groups.string !== undefined ? "string" : "regex"
    // Code inside a template is code.
    return which(kind) ? token.replace(token.startsWith("`") ? /\$\{[^}]*\}|[^\n]/g : /[^\n]/g, keepCode) : token
  })

const keepCode = (part: string): string => (part.length > 1 ? part : " ")
