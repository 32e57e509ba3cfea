/**
 * One text for each JSON value, and the name that a request gets from it.
 *
 * Here belongs what makes two spellings of the same request the same: key order, spaces, the spelling of numbers. What a
 * request means, and the text that is sent, belong to `JobFile`.
 *
 * **Source**
 *
 * RFC 8785 (JSON Canonicalization Scheme): keys sorted by UTF-16 code unit, strings and numbers as ECMAScript prints them.
 */
import * as crypto from "node:crypto"

/**
 * The canonical text of a JSON value.
 *
 * **Errors**
 *
 * Throws a `RangeError` for what JSON cannot say (a number that is not finite, `undefined`, a function) and for a value
 * nested deeper than `maxDepth`.
 *
 * **Details**
 *
 * The order of keys never matters; two values that differ in anything else have different texts. -0 is 0.
 *
 * **Gotchas**
 *
 * It sees numbers as JavaScript read them: two integers beyond 2⁵³ that round to the same double are the same.
 */
export const stringify = (value: unknown): string => write(value, 0)

/**
 * Checks that a value has a canonical text, without writing it.
 *
 * **Errors**
 *
 * Throws the `RangeError` that `stringify` would.
 */
export const verify = (value: unknown): void => walk(value, 0)

/**
 * The name of a request: `ek-` and 32 hex digits, the same for the same method, path and body.
 *
 * **Errors**
 *
 * Throws a `RangeError` when `stringify(body)` does.
 *
 * **Details**
 *
 * The digits are the first half of SHA-256 over method, path and canonical body, with a line feed between. Neither a
 * method nor a path holds a line feed, so no two requests share the digested text.
 */
export const requestId = (method: string, path: string, body: unknown): string =>
  `ek-${crypto.hash("sha256", `${method}\n${path}\n${stringify(body)}`, "hex").slice(0, 32)}`

/**
 * The deepest nesting with a canonical text.
 *
 * **Units**
 *
 * Levels of arrays and objects. No API takes bodies half as deep, and the stack holds many times this.
 */
export const maxDepth = 500

const write = (value: unknown, depth: number): string => {
  if (!isBranch(value)) {
    verifyLeaf(value)
    return JSON.stringify(value)
  }
  verifyDepth(depth)
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(",")}]`
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${write(value[key], depth + 1)}`)
  return `{${members.join(",")}}`
}

const walk = (value: unknown, depth: number): void => {
  if (!isBranch(value)) return verifyLeaf(value)
  verifyDepth(depth)
  for (const key of Object.keys(value)) walk(value[key], depth + 1)
}

const isBranch = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

const verifyDepth = (depth: number): void => {
  if (depth >= maxDepth) throw new RangeError(`it is nested deeper than ${maxDepth} levels`)
}

const verifyLeaf = (value: unknown): void => {
  if (typeof value === "number") {
    // JSON.parse reads 1e999 as Infinity, which would be sent as null.
    if (!Number.isFinite(value)) throw new RangeError("it holds a number that is too large to send")
    return
  }
  if (typeof value === "string" || typeof value === "boolean" || value === null) return
  throw new RangeError(`it holds a value of type ${typeof value}, which JSON cannot say`)
}
