/**
 * What an answer is made of, however it was written down: a status, lines of headers; and what is said when one is wrong.
 *
 * Here belongs what both forms share. The forms themselves are `AnswerFile`'s and `CurlText`'s.
 *
 * **Source**
 *
 * RFC 9110 for the range of statuses and the joining of lines.
 */
import * as StrangerText from "./StrangerText.ts"
import { UserError } from "./UserError.ts"

/**
 * A status as it was told.
 *
 * **Errors**
 *
 * Throws a `UserError` (2) for what is none.
 */
export const status = (where: string, told: unknown): number => {
  if (told === undefined) throw wrong(where, `no status; ${shape}`)
  if (typeof told === "number" && Number.isInteger(told) && told >= 100 && told <= 599) return told
  throw wrong(where, `status ${quoted(told)} is not a whole number from 100 to 599`)
}

/** Adds one line of a field. */
export const put = (headers: Map<string, string>, field: string, value: string): void => {
  const before = headers.get(field)
  headers.set(field, before === undefined ? value : `${before}, ${value}`)
}

/** JSON in a box, since `null` is JSON as well; undefined when it is not valid. */
export const parsed = (text: string): { readonly json: unknown } | undefined => {
  try {
    return { json: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** The error of an input: where, and what is wrong there. */
export const wrong = (where: string, problem: string): UserError =>
  new UserError({ message: `${where}: ${problem}`, exitCode: 2 })

/** A value as a message shows it. */
export const quoted = (value: unknown): string => StrangerText.shown(JSON.stringify(value), mostQuoted)

/** What an answer is as JSON. */
export const shape = `an answer is {"status": 429, "headers": {...}, "body": ...}`

/** What can be read. */
export const forms = `give it what curl -i prints, or JSON such as {"status": 429, "headers": {...}, "body": ...}`

/** Characters of a value that a message shows. */
const mostQuoted = 60
