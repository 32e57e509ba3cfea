import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "@evenkeel/core/Outcome"

const makers = {
  Accepted: Outcome.accepted,
  Limited: Outcome.limited,
  Overloaded: Outcome.overloaded,
  Unknown: Outcome.unknown,
  Failed: Outcome.failed,
  Ignored: Outcome.ignored
}

const tags = Object.keys(makers) as ReadonlyArray<Outcome.Outcome["_tag"]>

describe("an outcome", () => {
  it("is certain not to have run only when it was refused", () => {
    const certain = tags.filter((tag) => Outcome.neverRan(makers[tag]()))
    assert.deepStrictEqual(certain, ["Limited", "Overloaded"])
  })

  it("stays certain not to have run when no connection was ever made", () => {
    assert.isTrue(Outcome.neverRan(Outcome.overloaded({ connected: false })))
  })

  it("says nothing that it was not told, and is final only where the request itself is wrong", () => {
    for (const tag of tags) {
      assert.deepStrictEqual(makers[tag](), {
        _tag: tag,
        dimension: undefined,
        reading: Outcome.nothingRead,
        retryAfterMillis: undefined,
        connected: true,
        final: tag === "Ignored",
        closes: undefined,
        error: undefined
      })
    }
  })

  it("keeps everything it is told, whatever its tag", () => {
    const told = {
      dimension: "tokens",
      reading: { ...Outcome.nothingRead, limits: [{ dimension: "tokens", remaining: 0 }], retryAfterSeconds: 2 },
      retryAfterMillis: 2_000,
      connected: false,
      closes: { scope: "key", forMillis: 60_000, reason: "quota" },
      error: undefined
    } as const
    for (const tag of tags) {
      for (const final of [true, false]) {
        assert.deepStrictEqual(makers[tag]({ ...told, final }), { _tag: tag, ...told, final })
      }
    }
  })

  it("of a response that said nothing knows no limit, no hint and no fault", () => {
    assert.deepStrictEqual(Outcome.nothingRead, {
      limits: [],
      policies: [],
      retryAfterSeconds: undefined,
      retryAfterSource: undefined,
      malformed: []
    })
  })
})
