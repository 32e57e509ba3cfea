/**
 * Whatever a server answers, in short: the long form is `fuzz/Wire.ts`, run with `pnpm fuzz`, which looks at the cost too.
 */
import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as WireArbitrary from "./fixtures/WireArbitrary.ts"
import * as WirePromises from "./fixtures/WirePromises.ts"

describe("whatever a server answers", () => {
  it("is read, judged, waited for and written without a throw, NaN, an endless or a negative figure", () => {
    fc.assert(fc.property(WireArbitrary.random, WirePromises.check), { numRuns: 1500 })
  })

  it("as does what was seen on the wire after a few changes", () => {
    for (const vector of WireArbitrary.vectors) WirePromises.check(vector)
    fc.assert(fc.property(WireArbitrary.mutated, WirePromises.check), { numRuns: 1500 })
  })

  it("as does what is as long and as hostile as a server can send", () => {
    for (const { most, of } of WireArbitrary.hostile) WirePromises.check(of(most))
  })
})
