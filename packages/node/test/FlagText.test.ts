import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as fc from "fast-check"
import * as FlagText from "../src/cli/FlagText.ts"

const duration = (text: string) => FlagText.duration("deadline", Option.some(text))

const number = (text: string, allowed: FlagText.Allowed) => FlagText.number("rpm", Option.some(text), allowed)

const rejects = <A>(read: Effect.Effect<A, unknown>, says: RegExp) =>
  Effect.map(Effect.flip(read), (error) => {
    assert.deepInclude(error as object, { _tag: "UserError", exitCode: 2 })
    assert.match((error as Error).message, says)
  })

describe("FlagText", () => {
  it.effect("reads times in seconds and in words", () =>
    Effect.gen(function*() {
      for (
        const [text, millis] of [
          ["90", 90_000],
          ["90s", 90_000],
          ["1.5", 1_500],
          ["250ms", 250],
          ["10m", 600_000],
          ["2h", 7_200_000],
          ["720h", 2_592_000_000]
        ] as const
      ) assert.strictEqual(yield* duration(text), millis)
      assert.strictEqual(yield* FlagText.duration("deadline", Option.none()), undefined)
    }))

  it.effect("refuses times that are none, are over before they begin, or never end", () =>
    Effect.gen(function*() {
      for (
        const text of ["", "0", "0h", "-1", "soon", "1d", "1 h", "1e3", "0x10", ".5", "Infinity", "NaN", "721h", "h"]
      ) {
        yield* rejects(duration(text), /^--deadline: ".*" is not a time such as 90, 90s, 10m or 2h/)
      }
    }))

  it.effect("reads numbers in bounds, and names the bounds to who is out of them", () =>
    Effect.gen(function*() {
      const some = FlagText.above(0, 100, "a number")
      assert.strictEqual(yield* number("100", some), 100)
      assert.strictEqual(yield* number("0.5", some), 0.5)
      assert.strictEqual(yield* FlagText.number("rpm", Option.none(), some), undefined)
      for (const text of ["0", "101", "-1", "1e1", "", " 1", "ten", "0x1"]) {
        yield* rejects(number(text, some), /^--rpm: ".*" is not a number above 0, at most 100$/)
      }
      const whole = FlagText.whole(FlagText.upTo(5, "a whole number"))
      assert.strictEqual(yield* number("0", whole), 0)
      yield* rejects(number("1.5", whole), /is not a whole number from 0 to 5$/)
      yield* rejects(number("6", whole), /is not a whole number from 0 to 5$/)
    }))

  it.effect("reads a choice, and names the choices", () =>
    Effect.gen(function*() {
      const choose = (text: string) => FlagText.choice("unit", Option.some(text), ["second", "minute"])
      assert.strictEqual(yield* choose("minute"), "minute")
      assert.strictEqual(yield* FlagText.choice("unit", Option.none(), ["second"]), undefined)
      yield* rejects(choose("hour"), /^--unit: "hour" is not one of second, minute$/)
    }))

  it("never takes a text for a number that it is not", () =>
    fc.assert(fc.property(fc.string({ maxLength: 8 }), (text) => {
      const read = Effect.runSync(Effect.option(number(text, FlagText.upTo(1e9, "a number"))))
      if (Option.isSome(read)) assert.match(text, /^\d+(\.\d+)?$/)
    })))
})
