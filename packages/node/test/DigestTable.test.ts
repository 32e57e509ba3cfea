import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as DigestTable from "../src/cli/DigestTable.ts"

const word = fc.nat({ max: 2 ** 32 - 1 })

/** Few first words and few others: most keys meet in the same slots of the index. */
const collidingKey = fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 3 }), fc.nat({ max: 3 }), fc.nat({ max: 3 }))
  .map((words) => Uint32Array.from(words))

const entry = fc.record({
  digest: fc.tuple(word, word, word, word).map((words) => Uint32Array.from(words)),
  status: word,
  line: word
})

describe("DigestTable", () => {
  it("remembers what a Map remembers, whichever keys meet in one slot", () => {
    const steps = fc.array(fc.record({ key: collidingKey, entry }), { maxLength: 300 })
    fc.assert(fc.property(steps, collidingKey, (steps, other) => {
      const table = DigestTable.make()
      const model = new Map<string, DigestTable.Entry>()
      for (const { entry, key } of steps) {
        assert.deepStrictEqual(DigestTable.get(table, key), model.get(key.join()))
        DigestTable.set(table, key, entry)
        model.set(key.join(), entry)
        assert.strictEqual(table.size, model.size)
      }
      for (const { key } of steps) assert.deepStrictEqual(DigestTable.get(table, key), model.get(key.join()))
      assert.deepStrictEqual(DigestTable.get(table, other), model.get(other.join()))
    }))
  })

  it("keeps every entry while it grows over many segments, at no more than 60 bytes an entry", () => {
    const table = DigestTable.make()
    const count = 100_000
    const keyOf = (index: number) => DigestTable.digestOf(`request-${index}`)
    const entryOf = (index: number) => ({ digest: Uint32Array.of(index, 1, 2, 3), status: index % 3, line: index + 1 })
    for (let index = 0; index < count; index++) DigestTable.set(table, keyOf(index), entryOf(index))
    assert.strictEqual(table.size, count)
    let wrong = 0
    for (let index = 0; index < count; index++) {
      const found = DigestTable.get(table, keyOf(index))
      if (found?.line !== index + 1 || found.status !== index % 3 || found.digest[0] !== index) wrong += 1
    }
    assert.strictEqual(wrong, 0)
    assert.isUndefined(DigestTable.get(table, keyOf(count)))
    const bytes = table.index.byteLength + table.segments.reduce((sum, { byteLength }) => sum + byteLength, 0)
    assert.isAtMost(bytes / count, 60)
  })

  it("tells texts apart, those with half a surrogate pair too", () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: fc.constantFrom("a", "\ud800", "\udc00", "\udfff", "\ufffd") })
    )
    fc.assert(fc.property(text, text, (a, b) => {
      assert.strictEqual(DigestTable.equals(DigestTable.digestOf(a), DigestTable.digestOf(b)), a === b)
    }))
    assert.isFalse(DigestTable.equals(DigestTable.digestOf("\ud800"), DigestTable.digestOf("\ud801")))
  })

  it("digests by SHA-256, cut to 128 bits", () => {
    // printf abc | sha256sum | cut -c -32
    const digest = DigestTable.digestFromHex("ba7816bf8f01cfea414140de5dae2223")
    assert.deepStrictEqual(DigestTable.digestOf("abc"), digest)
    assert.deepStrictEqual([...digest], [0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223])
  })

  it("refuses what is not 32 hex digits", () => {
    for (const text of ["", "ek-", "g".repeat(32), "a".repeat(31), "a".repeat(33)]) {
      assert.throws(() => DigestTable.digestFromHex(text), RangeError)
    }
  })
})
