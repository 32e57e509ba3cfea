import { assert, describe, it } from "@effect/vitest"
import * as Demand from "@evenkeel/core/Demand"
import * as Outcome from "@evenkeel/core/Outcome"
import * as PaceError from "@evenkeel/core/PaceError"
import * as Effect from "effect/Effect"

const key = Demand.key("https://api.example", "acme", "llama")

const closed = (options: Partial<ConstructorParameters<typeof PaceError.Closed>[0]>) =>
  new PaceError.Closed({ scope: "key", reason: "quota", forMillis: Infinity, last: undefined, ...options })

const sentences: ReadonlyArray<readonly [PaceError.Reason, string]> = [
  [
    new PaceError.TooLate({ waitedMillis: 61_540, last: undefined }),
    "not sent: it could not start by its deadline (waited 61.5 s)"
  ],
  [
    new PaceError.TooLate({ waitedMillis: 0, last: Outcome.limited() }),
    "not sent: it could not start by its deadline (waited 0 s)"
  ],
  [
    new PaceError.QueueFull({ capacity: 1_000_000 }),
    "not sent: 1000000 calls are waiting already, which is all the queue holds"
  ],
  [
    new PaceError.LargerThanLimit({ dimension: "tokens", cost: 9_000, limit: 8_000 }),
    "not sent: it costs 9000 tokens, and the limit never grants more than 8000"
  ],
  [closed({}), "not sent: the key is closed (quota)"],
  [
    closed({ scope: "credential", reason: "unauthorized", forMillis: 2_500 }),
    "not sent: the credential is closed for another 2.5 s (unauthorized)"
  ],
  [closed({ scope: "pacer", reason: "ended" }), "not sent: the pacer is closed (ended)"],
  [
    new PaceError.TooManyKeys({ capacity: 10_000 }),
    "not sent: 10000 keys are in use already, which is all the pacer keeps"
  ],
  [
    new PaceError.StoreUnavailable({ cause: new Error("ECONNREFUSED 10.0.0.7") }),
    "not sent: the store that shares the pace does not answer"
  ]
]

describe("a call that was not sent", () => {
  for (const [reason, sentence] of sentences) {
    it(`says: ${sentence}`, () => {
      assert.strictEqual(PaceError.describe(reason), sentence)
      assert.strictEqual(new PaceError.PaceError({ key, reason }).message, sentence)
    })
  }

  it("has a sentence for every reason there is", () => {
    const told = [...new Set(sentences.map(([reason]) => reason._tag))].sort()
    // Typed, so that a new reason must come here too.
    const all: Record<PaceError.Reason["_tag"], true> = {
      Closed: true,
      LargerThanLimit: true,
      QueueFull: true,
      StoreUnavailable: true,
      TooLate: true,
      TooManyKeys: true
    }
    assert.deepStrictEqual(told, Object.keys(all).sort())
  })

  it.effect("is caught by its tag, with the key and the reason it was made of", () =>
    Effect.gen(function*() {
      const reason = closed({ forMillis: 1_000, last: Outcome.limited() })
      const caught = yield* Effect.catchTag(
        Effect.fail(new PaceError.PaceError({ key, reason })),
        "PaceError",
        (error) => Effect.succeed(error)
      )
      assert.strictEqual(caught.key, key)
      assert.strictEqual(caught.reason, reason)
      assert.instanceOf(caught, Error)
    }))
})
