/**
 * Structured fields, against the public suite of their working group and by properties.
 */
import { assert, describe, it } from "@effect/vitest"
import * as StructuredFields from "@evenkeel/core/StructuredFields"
import * as fc from "fast-check"
import * as Fs from "node:fs"

type Json = ReadonlyArray<unknown>

/** One case, in the suite's own format. */
interface Case {
  readonly name: string
  readonly header_type: "item" | "list" | "dictionary"
  readonly raw?: ReadonlyArray<string>
  readonly expected?: Json
  readonly must_fail?: boolean
  readonly can_fail?: boolean
  readonly canonical?: ReadonlyArray<string>
}

const suite: Readonly<Record<"parse" | "serialise", Readonly<Record<string, ReadonlyArray<Case>>>>> = JSON.parse(
  Fs.readFileSync(new URL("fixtures/structured-fields.json", import.meta.url), "utf8")
)

describe("the public suite", () => {
  const families = { ...suite.parse, "large-generated": large() }

  it("is there, all of it", () => {
    assert.lengthOf(Object.values(families).flat(), 1591)
    assert.lengthOf(Object.values(suite.serialise).flat(), 355)
    const plain = (["item", "list"] as const).map((type) =>
      Object.values(families).flat().filter((each) => each.header_type === type && writable(each) !== undefined).length
    )
    assert.deepStrictEqual(plain, [483, 99], "how many cases are written again")
  })

  for (const [family, cases] of Object.entries(families)) {
    it(`reads ${family} as it should`, () => {
      for (const each of cases) {
        const read = parse(each)
        if (each.must_fail === true) assert.isUndefined(read, each.name)
        // Of the cases that may fail, none does.
        else assert.deepStrictEqual(read, each.expected?.map((member) => shape(member)), each.name)
      }
    })

    it(`writes the plain lists of ${family} in their canonical form`, () => {
      for (const each of cases) {
        const items = writable(each)
        if (items === undefined) continue
        const canonical = (each.canonical ?? each.raw)?.join(", ")
        assert.strictEqual(StructuredFields.serializeList(items), canonical, each.name)
      }
    })
  }

  for (const [family, cases] of Object.entries(suite.serialise)) {
    it(`writes, or refuses to write, ${family} as it should`, () => {
      for (const each of cases) {
        const members = each.header_type === "item" ? [each.expected] : each.expected
        const written = StructuredFields.serializeList(members!.map((member) => item(member as Json)))
        assert.strictEqual(written, each.must_fail === true ? undefined : each.canonical?.join(", "), each.name)
      }
    })
  }
})

describe("a structured field", () => {
  it("tells an integer from a decimal, and a string from a token", () => {
    const tags = StructuredFields.parseList("1, 1.0, \"a\", a, :YQ==:, ?0, @1, %\"a\"")?.map((member) =>
      member._tag === "Item" ? member.bare._tag : member._tag
    )
    assert.deepStrictEqual(
      tags,
      ["Integer", "Decimal", "String", "Token", "Bytes", "Boolean", "Date", "DisplayString"]
    )
  })

  it("keeps a key that comes twice in its first place, with its last value", () => {
    const list = StructuredFields.parseList("a;b=1;c=2;b=3")
    assert.deepStrictEqual([...list![0]!.parameters], [
      ["b", { _tag: "Integer", value: 3 }],
      ["c", { _tag: "Integer", value: 2 }]
    ])
    assert.deepStrictEqual([...StructuredFields.parseDictionary("a=1, b, a=2")!.keys()], ["a", "b"])
  })

  it("has no minus zero, which would be another number in a comparison", () => {
    for (const text of ["-0", "-0.0"]) {
      const bare = StructuredFields.parseItem(text)?.bare
      assert.isTrue(bare !== undefined && "value" in bare && Object.is(bare.value, 0), text)
    }
  })

  it("is written without a sign when it rounds to zero", () => {
    assert.strictEqual(StructuredFields.serializeList([plain({ _tag: "Decimal", value: -0.0004 })]), "0.0")
    assert.strictEqual(StructuredFields.serializeList([plain({ _tag: "Integer", value: -0 })]), "0")
  })

  it("is read and written up to 32,768 characters, and no further", () => {
    const string = (length: number) => `"${"a".repeat(length - 2)}"`
    assert.isDefined(StructuredFields.parseItem(string(32_768)))
    for (const parse of [StructuredFields.parseItem, StructuredFields.parseList, StructuredFields.parseDictionary]) {
      assert.isUndefined(parse(string(32_769)))
      assert.isUndefined(parse(`${parse === StructuredFields.parseDictionary ? "a" : 1}${" ".repeat(32_768)}`))
    }
    const member = (length: number): StructuredFields.Item => plain({ _tag: "String", value: "a".repeat(length - 2) })
    assert.lengthOf(StructuredFields.serializeList([member(32_768)])!, 32_768)
    assert.isUndefined(StructuredFields.serializeList([member(32_769)]))
  })

  it("takes at most the padding that base64 lacks", () => {
    const base64s = [
      "",
      "YQ",
      "YQ=",
      "YQ==",
      "YWI",
      "YWI=",
      "YWJj",
      "Y",
      "Y===",
      "YQ===",
      "YWI==",
      "YWJj=",
      "=",
      "Y=Q="
    ]
    const read = base64s.filter((base64) => StructuredFields.parseItem(`:${base64}:`) !== undefined)
    assert.deepStrictEqual(read, ["", "YQ", "YQ=", "YQ==", "YWI", "YWI=", "YWJj"])
    const written = base64s.map((base64) => StructuredFields.serializeList([plain({ _tag: "Bytes", base64 })]))
    assert.deepStrictEqual(written.slice(0, 7), [
      "::",
      ":YQ==:",
      ":YQ==:",
      ":YQ==:",
      ":YWI=:",
      ":YWI=:",
      ":YWJj:"
    ])
    assert.isTrue(written.slice(7).every((text) => text === undefined))
  })

  it("is not written with a number that is none, half a surrogate pair, or bytes that are not base64", () => {
    const none: ReadonlyArray<StructuredFields.BareItem> = [
      { _tag: "Integer", value: 1.5 },
      { _tag: "Integer", value: NaN },
      { _tag: "Decimal", value: NaN },
      { _tag: "Decimal", value: Infinity },
      { _tag: "Decimal", value: 999_999_999_999.9996 },
      { _tag: "Date", epochSeconds: 0.5 },
      { _tag: "DisplayString", value: "a\ud800" },
      { _tag: "Token", value: "" },
      { _tag: "Bytes", base64: "YQ:a" },
      { _tag: "Bytes", base64: "YW_-" }
    ]
    for (const bare of none) {
      assert.isUndefined(StructuredFields.serializeList([plain(bare)]), JSON.stringify(bare))
      const parameters = new Map([["a", bare]])
      assert.isUndefined(StructuredFields.serializeList([{ ...plain(parameter), parameters }]), JSON.stringify(bare))
    }
  })

  it("never throws, whatever the text", () => {
    const pieces = fc.constantFrom(
      ...Array.from("\"\\();,=:?@%*-.019af/ \t\u00e9\ud800\u0000"),
      "%c3",
      "a=",
      ";a",
      "%\"",
      "1.5",
      "\\\""
    )
    const text = fc.oneof(fc.string({ unit: "binary" }), fc.array(pieces, { maxLength: 40 }).map((all) => all.join("")))
    fc.assert(
      fc.property(text, (text) => {
        StructuredFields.parseItem(text)
        StructuredFields.parseDictionary(text)
        const list = StructuredFields.parseList(text)
        if (list !== undefined && list.every((member) => member._tag === "Item")) {
          assert.isDefined(StructuredFields.serializeList(list), "what was read can be written")
        }
      }),
      { numRuns: 2000 }
    )
  })

  it("never throws, whatever is to be written, and what was written reads the same when written again", () => {
    const text = fc.oneof(fc.string({ unit: "binary" }), fc.string())
    const anything: fc.Arbitrary<StructuredFields.BareItem> = fc.oneof(
      record({ _tag: fc.constantFrom("Integer", "Decimal"), value: fc.double() }),
      record({ _tag: fc.constantFrom("String", "Token", "DisplayString"), value: text }),
      record({ _tag: fc.constant("Bytes"), base64: fc.oneof(text, fc.base64String()) })
    )
    fc.assert(
      fc.property(fc.array(items(fc.oneof(anything, readable), fc.oneof(text, key))), (members) => {
        const written = StructuredFields.serializeList(members)
        if (written === undefined) return
        const read = StructuredFields.parseList(written)
        assert.strictEqual(StructuredFields.serializeList(read as ReadonlyArray<StructuredFields.Item>), written)
      })
    )
  })

  it("reads back whatever was written", () => {
    fc.assert(
      fc.property(fc.array(items(readable, key)), (members) => {
        const written = StructuredFields.serializeList(members)
        assert.isDefined(written)
        assert.deepStrictEqual(StructuredFields.parseList(written), members)
      })
    )
  })

  it("reads the members of any list as it reads each alone, whatever blanks are between them", () => {
    const blanks = fc.string({ unit: fc.constantFrom(" ", "\t"), maxLength: 3 })
    const member = items(readable, key).map((member) => StructuredFields.serializeList([member])!)
    fc.assert(
      fc.property(fc.array(member, { minLength: 1 }), blanks, blanks, (members, before, after) => {
        const list = StructuredFields.parseList(members.join(`${before},${after}`))
        assert.deepStrictEqual(list, members.map((text) => StructuredFields.parseItem(text)!))
        assert.isUndefined(StructuredFields.parseList(`${members.join(",")}${before},${after}`), "a comma at the end")
      })
    )
  })

  it("keeps every key of any dictionary, and every member of any inner list", () => {
    const one = items(readable, key)
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(key, fc.array(one)), { selector: ([key]) => key }), (members) => {
        const inner = (list: ReadonlyArray<StructuredFields.Item>) =>
          `(${list.map((each) => StructuredFields.serializeList([each])!).join(" ")})`
        const text = members.map(([key, list]) => `${key}=${inner(list)}`).join(", ")
        const read = StructuredFields.parseDictionary(text)
        const expected = members.map(([key, items]): [string, StructuredFields.InnerList] => [
          key,
          { _tag: "InnerList", items, parameters: new Map() }
        ])
        assert.deepStrictEqual([...read!], expected)
      })
    )
  })
})

/** `fc.record`, without the objects that have no prototype, which are equal to no other. */
const record = <A>(arbitraries: { readonly [K in keyof A]: fc.Arbitrary<A[K]> }) =>
  fc.record(arbitraries, { noNullPrototype: true })

const plain = (bare: StructuredFields.BareItem): StructuredFields.Item => ({
  _tag: "Item",
  bare,
  parameters: new Map()
})

const parameter: StructuredFields.BareItem = { _tag: "Integer", value: 1 }

const key = fc.stringMatching(/^[a-z*][a-z0-9_.*-]{0,6}$/)

/** Values that are the same when read back: at most three decimals, and base64 with its padding. */
const readable: fc.Arbitrary<StructuredFields.BareItem> = fc.oneof(
  record({ _tag: fc.constant("Integer"), value: fc.integer().map(zeroed) }),
  record({ _tag: fc.constant("Integer"), value: fc.maxSafeInteger().map((n) => zeroed(n % 1e15)) }),
  record({ _tag: fc.constant("Decimal"), value: fc.maxSafeInteger().map((n) => zeroed((n % 1e15) / 1000)) }),
  record({ _tag: fc.constant("Decimal"), value: fc.integer().map((n) => zeroed(n / 1000)) }),
  record({ _tag: fc.constant("String"), value: fc.string() }),
  record({ _tag: fc.constant("Token"), value: fc.stringMatching(/^[A-Za-z*][\w!#$%&'*+.^`|~:/-]{0,9}$/) }),
  record({
    _tag: fc.constant("Bytes"),
    base64: fc.uint8Array().map((octets) => Buffer.from(octets).toString("base64"))
  }),
  record({ _tag: fc.constant("Boolean"), value: fc.boolean() }),
  record({ _tag: fc.constant("Date"), epochSeconds: fc.integer().map(zeroed) }),
  record({ _tag: fc.constant("DisplayString"), value: fc.string({ unit: "binary" }) })
)

const items = (bare: fc.Arbitrary<StructuredFields.BareItem>, keys: fc.Arbitrary<string>) =>
  record({
    _tag: fc.constant("Item"),
    bare,
    parameters: fc.array(fc.tuple(keys, bare), { maxLength: 3 }).map((entries) => new Map(entries))
  })

/** The members of a case, in the suite's shape. */
const parse = (each: Case): Json | undefined => {
  const raw = each.raw!.join(", ")
  switch (each.header_type) {
    case "item": {
      const item = StructuredFields.parseItem(raw)
      return item && (shapeOf(item) as Json)
    }
    case "list":
      return StructuredFields.parseList(raw)?.map(shapeOf)
    case "dictionary": {
      const dictionary = StructuredFields.parseDictionary(raw)
      return dictionary && [...dictionary].map(([key, member]) => [key, shapeOf(member)])
    }
  }
}

const shapeOf = (member: StructuredFields.Item | StructuredFields.InnerList): unknown => [
  member._tag === "Item" ? bareShape(member.bare) : member.items.map(shapeOf),
  [...member.parameters].map(([key, value]) => [key, bareShape(value)])
]

const bareShape = (bare: StructuredFields.BareItem): unknown => {
  switch (bare._tag) {
    case "Integer":
    case "Decimal":
    case "String":
    case "Boolean":
      return bare.value
    case "Token":
      return { __type: "token", value: bare.value }
    case "Bytes":
      return { __type: "binary", value: [...Buffer.from(bare.base64, "base64")] }
    case "Date":
      return { __type: "date", value: bare.epochSeconds }
    case "DisplayString":
      return { __type: "displaystring", value: bare.value }
  }
}

/** What is expected, with its base32 read. */
const shape = (expected: unknown): unknown => {
  if (Array.isArray(expected)) return expected.map(shape)
  const typed = expected as { readonly __type?: string; readonly value: string } | null
  return typed?.__type === "binary" ? { __type: "binary", value: octets(typed.value) } : expected
}

const octets = (base32: string): ReadonlyArray<number> => {
  const bits = Array.from(
    base32.replaceAll("=", ""),
    (digit) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(digit).toString(2).padStart(5, "0")
  ).join("")
  return (bits.match(/[01]{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2))
}

/** What the suite expects, as a value of ours. */
const item = ([bare, parameters]: Json): StructuredFields.Item => ({
  _tag: "Item",
  bare: bareItem(bare),
  parameters: new Map((parameters as ReadonlyArray<[string, unknown]>).map(([key, value]) => [key, bareItem(value)]))
})

const bareItem = (expected: unknown): StructuredFields.BareItem => {
  if (typeof expected === "number") return { _tag: Number.isInteger(expected) ? "Integer" : "Decimal", value: expected }
  if (typeof expected === "string") return { _tag: "String", value: expected }
  const typed = expected as { readonly __type: string; readonly value: string }
  assert.strictEqual(typed.__type, "token")
  return { _tag: "Token", value: typed.value }
}

/** What a case reads as, where it is a list of plain items: one item is such a list too. */
const writable = (each: Case): ReadonlyArray<StructuredFields.Item> | undefined => {
  if (each.must_fail === true || each.header_type === "dictionary") return undefined
  const raw = each.raw!.join(", ")
  const one = each.header_type === "item" ? StructuredFields.parseItem(raw) : undefined
  const members = one === undefined ? StructuredFields.parseList(raw) : [one]
  return members?.every((member) => member._tag === "Item") === true ? members : undefined
}

/** The cases of `large-generated.json`, by the rules of the suite's `generate.py`; as text they are 700 kB. */
function large(): ReadonlyArray<Case> {
  const token = (value: string) => ({ __type: "token", value })
  const times = <A>(count: number, make: (index: number) => A) =>
    Array.from({ length: count }, (_, index) => make(index))
  const longKey = "a".repeat(64)
  // 16,384 times "a", as the suite writes it: base64 in threes, base32 in fives.
  const bytes = Buffer.from("a".repeat(16_384)).toString("base64")
  const base32 = `${"MFQWCYLB".repeat(3276)}MFQWCYI=`
  const members = (count: number, make: (index: number) => string, separator = ", ") =>
    times(count, make).join(separator)
  const of = (name: string, header_type: Case["header_type"], raw: string, expected: Json): Case => ({
    name: `large ${name}`,
    header_type,
    raw: [raw],
    expected
  })
  const params = times(256, (index) => [`a${index}`, 1])
  return [
    of(
      "dictionary",
      "dictionary",
      members(1024, (index) => `a${index}=1`),
      times(1024, (index) => [`a${index}`, [1, []]])
    ),
    of("dictionary key", "dictionary", `${longKey}=1`, [[longKey, [1, []]]]),
    of("list", "list", members(1024, (index) => `a${index}`), times(1024, (index) => [token(`a${index}`), []])),
    of(
      "parameterised list",
      "list",
      members(1024, (index) => `foo;a${index}=1`),
      times(1024, (index) => [token("foo"), [[`a${index}`, 1]]])
    ),
    of("params", "list", `foo;${members(256, (index) => `a${index}=1`, ";")}`, [[token("foo"), params]]),
    of("param key", "list", `foo;${longKey}=1`, [[token("foo"), [[longKey, 1]]]]),
    of("string", "item", `"${"=".repeat(1024)}"`, ["=".repeat(1024), []]),
    of("escaped string", "item", `"${"\\\"".repeat(1024)}"`, ["\"".repeat(1024), []]),
    of("token", "item", "a".repeat(512), [token("a".repeat(512)), []]),
    of("byte sequence", "item", `:${bytes}:`, [{ __type: "binary", value: base32 }, []]),
    of("inner list", "list", `(${members(256, String, " ")})`, [[times(256, (index) => [index, []]), []]])
  ]
}

/** Minus zero is written as zero. */
function zeroed(value: number): number {
  return value + 0
}
