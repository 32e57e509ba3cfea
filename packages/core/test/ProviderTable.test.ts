/** The table of providers in the documentation is what the code reads. */
import { assert, describe, it } from "@effect/vitest"
import * as Providers from "../../../scripts/providers.ts"

describe("the table of providers", () => {
  it("is the one that pnpm api writes", () => {
    const { is, should } = Providers.pages()
    assert.strictEqual(is, should, "The providers have changed: run pnpm api and commit what it writes.")
  })
})
