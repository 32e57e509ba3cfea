/**
 * Text of a stranger, made fit to be shown: no control character stays what it is, and no key is readable.
 *
 * Here belongs what is done to any text of an answer before a terminal gets it. What is worth showing is decided elsewhere.
 *
 * **Source**
 *
 * The shapes of keys: the providers' own pages, and those of scanners for secrets.
 */

/** Text as a terminal may show it, in one line: no control character stays what it is. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0)!
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`
  })

/**
 * Text without the keys that are in it: providers repeat the one that they refuse.
 *
 * **Gotchas**
 *
 * Whatever looks like a key is taken for one: a request id may be lost.
 */
export const masked = (text: string): string =>
  text
    .replace(prefixed, key)
    .replace(exact, key)
    .replace(said, `$1${key}`)
    .replace(/[A-Za-z0-9+/]{32,}={0,2}(?:[.*_-]+[A-Za-z0-9*]+)*/g, (word) => (isRandom(word) ? key : word))

/** Text masked, made printable, and cut to `most` characters. */
export const shown = (text: string, most: number): string =>
  shortened(printable(masked(text.slice(0, mostLooked)).slice(0, 2 * most)), most)

/** Text of at most so many characters; where some are left out, it ends with dots. */
export const shortened = (text: string, most: number): string => {
  if (text.length <= most) return text
  // No half of a character that takes two.
  return `${text.slice(0, most - 3).replace(/[\uD800-\uDBFF]$/, "")}...`
}

/** Letters and digits in one long word are no word of a language; with slashes in it, it may be a path. */
const isRandom = (word: string): boolean =>
  /\d/.test(word) && (/[+/]/.test(word) ? /[A-Z]/.test(word) && /[a-z]/.test(word) : /[A-Za-z]/.test(word))

const key = "[key]"

/** Keys that are told by how they begin, or by their dashes. */
const prefixed = new RegExp(
  [
    /\bbearer (?!token\b|auth|realm|scheme)\S+/,
    /(?<![A-Za-z0-9])(?:sk|pk|rk|gsk|csk|dsk|tgp|xai|hf|gh[opsu]|github_pat|glpat|fw|r8|nvapi|pplx|sess)[-_][\w*.…-]{5,}[\w*]/,
    /(?<![A-Za-z0-9])AIza[\w*-]{8,}/,
    /(?<![0-9a-f])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-f])/
  ].map(({ source }) => source).join("|"),
  "gi"
)

/** Keys of Amazon and tokens of JSON (JWT): their beginnings are words in other letters. */
const exact = /(?<![A-Za-z0-9])(?:A(?:KIA|SIA)[A-Z0-9*]{8,}|eyJ[\w-]{8,}(?:\.[\w-]+)*)/g

/** A key that is called so, of any shape that has a digit or a star in it. */
const said = /(\bapi[ _-]?key(?: provided)?["']?(?: is)? ?[:=] ?["']?)(?=[\w.-]{0,200}[\d*])[\w*.-]{5,}[\w*]/gi

/** Characters of a text that are looked at; core keeps 500 of a message. */
const mostLooked = 4096
