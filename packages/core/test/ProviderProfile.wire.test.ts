/**
 * Answers from the wire, and what they mean: the fixtures of `fixtures/wire`, each a test by its name.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import * as Fs from "node:fs"

/** One answer seen on the wire or made from a documented grammar, with what it means. */
interface Vector {
  readonly id: string
  readonly provider: string
  readonly now?: string
  readonly status: number
  readonly stream?: boolean
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string>>>
  readonly body?: unknown
  readonly expected: {
    readonly requests?: Sum
    readonly tokens?: Sum
    readonly inputTokens?: Sum
    readonly outputTokens?: Sum
    readonly retryAfterSeconds: number | null
    readonly retryAfterSource: string | null
    readonly classification: string
    readonly limitedDimension: string | null
    readonly attribution: string | null
    readonly retryable: boolean
    readonly midStream?: boolean
    readonly usage?: {
      readonly promptTokens: number
      readonly completionTokens: number
      readonly cachedTokens?: number
    }
    readonly malformed?: ReadonlyArray<string>
    readonly policies?: ReadonlyArray<unknown>
    readonly resetMayBeNull?: boolean
  }
}

interface Sum {
  readonly limit: number | null
  readonly remaining: number | null
  readonly resetSeconds: number | null
  readonly windowSeconds?: number
}

/** Every file of the folder is read, so that a new provider needs no more than a file of its own. */
const folder = new URL("fixtures/wire/", import.meta.url)

const vectors: ReadonlyArray<Vector> = Fs.readdirSync(folder).sort().flatMap((file) =>
  JSON.parse(Fs.readFileSync(new URL(file, folder), "utf8")).vectors
)

const answerOf = (vector: Vector): ProviderProfile.Answer => ({
  status: vector.status,
  headers: Object.fromEntries(
    Object.entries(vector.headers).map(([name, value]) => [name.toLowerCase(), [value].flat().join(", ")])
  ),
  body: vector.body,
  nowMillis: vector.now === undefined ? 0 : Date.parse(vector.now),
  stream: vector.stream
})

const words: Readonly<Record<string, string>> = { Unauthorized: "auth", PermissionDenied: "permission" }

const wordOf = (tag: string): string => words[tag] ?? tag.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase()

const vectorMembers = "provider source provenance now status headers body stream notes doubtful".split(" ")

/** What an answer means, and after that what is only told. */
const expectedMembers = [
  ..."requests tokens inputTokens outputTokens retryAfterSeconds retryAfterSource classification".split(" "),
  ..."limitedDimension attribution retryable midStream malformed policies usage resetMayBeNull".split(" "),
  ..."ambiguousUnit strict other messageLimits violatedPolicies dynamic overLimit queryCostTokens bucket scope".split(
    " "
  ),
  ..."beforeFirstToken exceedsSaneCap rawRetryAfterSeconds sdkDisagrees".split(" ")
]

/** A member that the vector leaves out is not known, and not compared. */
const assertSame = (actual: unknown, expected: unknown, what: string): void => {
  if (expected === undefined) return
  if (typeof actual === "number" && typeof expected === "number") assert.closeTo(actual, expected, 1e-6, what)
  else assert.strictEqual(actual ?? null, expected, what)
}

describe("an answer from the wire", () => {
  it("has a name of its own", () => {
    assert.strictEqual(new Set(vectors.map(({ id }) => id)).size, vectors.length)
  })

  it("tells nothing that is not compared, by a slip of the pen", () => {
    for (const { expected, id, ...vector } of vectors) {
      for (const name of Object.keys(vector)) assert.include(vectorMembers, name, id)
      for (const name of Object.keys(expected)) assert.include(expectedMembers, name, id)
    }
  })

  for (const vector of vectors) {
    it(vector.id, () => {
      const profile = ProviderProfile.named(vector.provider)
      assert.isDefined(profile, vector.provider)
      const { expected } = vector
      const outcome = profile.classify(answerOf(vector))
      const { reading } = outcome
      const reason = outcome.error?.reason
      for (const dimension of ["requests", "tokens", "inputTokens", "outputTokens"] as const) {
        const actual = RateLimitHeaders.primary(reading, dimension)
        const wanted = expected[dimension]
        assert.strictEqual(actual === undefined, wanted === undefined, dimension)
        assertSame(actual?.limit, wanted?.limit, `${dimension}.limit`)
        assertSame(actual?.remaining, wanted?.remaining, `${dimension}.remaining`)
        assertSame(actual?.windowSeconds, wanted?.windowSeconds, `${dimension}.windowSeconds`)
        if (actual?.resetSeconds === undefined && expected.resetMayBeNull === true) continue
        assertSame(actual?.resetSeconds, wanted?.resetSeconds, `${dimension}.resetSeconds`)
      }
      assertSame(reading.retryAfterSeconds, expected.retryAfterSeconds, "retryAfterSeconds")
      assertSame(reading.retryAfterSource, expected.retryAfterSource, "retryAfterSource")
      assertSame(reason === undefined ? "ok" : wordOf(reason._tag), expected.classification, "classification")
      assertSame(reason?.dimension, expected.limitedDimension, "limitedDimension")
      assertSame(reason?.attribution, expected.attribution, "attribution")
      assertSame(reason?.retryable ?? false, expected.retryable, "retryable")
      assertSame(reason?.midStream ?? false, expected.midStream, "midStream")
      if (expected.malformed !== undefined) {
        assert.deepStrictEqual(reading.malformed.map(({ name }) => name), expected.malformed)
      }
      if (expected.policies !== undefined) {
        const told = reading.policies.map(({ limit: q, name, partitionKey: pk, unit: qu, windowSeconds: w }) => ({
          ...(name === undefined ? {} : { name }),
          q,
          ...(qu === undefined ? {} : { qu }),
          ...(w === undefined ? {} : { w }),
          ...(pk === undefined ? {} : { pk })
        }))
        assert.deepStrictEqual<unknown>(told, expected.policies)
      }
      if (expected.usage !== undefined) {
        const { cachedTokens, completionTokens, promptTokens } = expected.usage
        assert.deepStrictEqual(profile.usage(vector.body), {
          inputTokens: promptTokens,
          outputTokens: completionTokens,
          ...(cachedTokens === undefined ? {} : { cachedInputTokens: cachedTokens })
        })
      }
    })
  }
})
