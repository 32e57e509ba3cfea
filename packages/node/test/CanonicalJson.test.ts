import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as CanonicalJson from "../src/cli/CanonicalJson.ts"

/** The same value with the keys of every object in reverse order. */
const reversed = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).reverse().map(([key, member]) => [key, reversed(member)]))
}

/** JSON values as they come from a text: keys such as `__proto__` are members like any other. */
const json = fc.json({ maxDepth: 4 }).map((text): unknown => JSON.parse(text))

const nested = (levels: number): unknown => JSON.parse("[".repeat(levels) + "]".repeat(levels))

describe("CanonicalJson", () => {
  it("sorts keys by UTF-16 code unit, as the example of RFC 8785 does", () => {
    const value: unknown = JSON.parse(
      `{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",` +
        `"\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}`
    )
    assert.deepStrictEqual(
      CanonicalJson.stringify(value),
      `{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis",` +
        `"€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}`
    )
  })

  it("spells numbers, strings and literals as the example of RFC 8785 does", () => {
    const value: unknown = JSON.parse(
      `{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],` +
        `"string":"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}`
    )
    assert.strictEqual(
      CanonicalJson.stringify(value),
      `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],` +
        `"string":"€$\\u000f\\nA'B\\"\\\\\\\\\\"/"}`
    )
  })

  it("never depends on the order of keys", () => {
    fc.assert(fc.property(json, (value) => {
      assert.strictEqual(CanonicalJson.stringify(reversed(value)), CanonicalJson.stringify(value))
    }))
  })

  it("loses nothing: the text reads as the same value, so different values have different texts", () => {
    fc.assert(fc.property(json, (value) => {
      const text = CanonicalJson.stringify(value)
      assert.deepStrictEqual(reversed(JSON.parse(text)), reversed(JSON.parse(JSON.stringify(value))))
      assert.strictEqual(CanonicalJson.stringify(JSON.parse(text)), text)
    }))
  })

  it("takes the nesting it promises and refuses more, however deep, with a plain error", () => {
    assert.strictEqual(CanonicalJson.stringify(nested(CanonicalJson.maxDepth)).length, 2 * CanonicalJson.maxDepth)
    CanonicalJson.verify(nested(CanonicalJson.maxDepth))
    for (const levels of [CanonicalJson.maxDepth + 1, 1_000_000]) {
      assert.throws(() => CanonicalJson.stringify(nested(levels)), RangeError, "nested deeper than 500 levels")
      assert.throws(() => CanonicalJson.verify({ a: nested(levels) }), RangeError, "nested deeper than 500 levels")
    }
  })

  it("refuses what JSON cannot say, instead of sending null", () => {
    for (const value of [JSON.parse("1e999"), Number.NaN, undefined, () => 1, 1n, Symbol("s")]) {
      assert.throws(() => CanonicalJson.stringify({ a: [value] }), RangeError)
      assert.throws(() => CanonicalJson.verify({ a: [value] }), RangeError)
    }
  })

  it("names a request the same from release to release, so that results can be continued", () => {
    const id = CanonicalJson.requestId("POST", "/chat/completions", { model: "m", messages: [] })
    // printf 'POST\n/chat/completions\n{"messages":[],"model":"m"}' | sha256sum | cut -c -32
    assert.strictEqual(id, "ek-9d37bdc7505c95af2bac1ad57f936cc2")
  })

  it("gives requests that differ in method, path or body different names", () => {
    const request = fc.record({ method: fc.constantFrom("POST", "GET"), path: fc.webPath(), body: json })
    fc.assert(fc.property(request, request, (a, b) => {
      const same = a.method === b.method && a.path === b.path &&
        CanonicalJson.stringify(a.body) === CanonicalJson.stringify(b.body)
      const idOf = (r: typeof a) => CanonicalJson.requestId(r.method, r.path, r.body)
      assert.match(idOf(a), /^ek-[0-9a-f]{32}$/)
      assert.strictEqual(idOf(a) === idOf(b), same)
      assert.strictEqual(idOf({ ...a, body: reversed(a.body) }), idOf(a))
    }))
  })
})
