/**
 * The public surface is a committed file for each module, so that no export comes, changes or goes unseen.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Api from "../../../scripts/api.ts"

describe("the public surface", () => {
  it("is what the api files say", () => {
    Api.emit()
    const wrong = Api.packages.flatMap((name) => Api.differences(name))
    assert.isEmpty(
      wrong,
      `\n${wrong.join("\n")}\nThe public surface has changed: run pnpm api and commit what it writes.\n`
    )
  })

  it("is listed by name, without comments and imports, overloads in their order", () => {
    const declarations = [
      "/** What a module is. */",
      "import * as Duration from \"effect/Duration\";",
      "/** The second. */",
      "export declare const second: (duration: Duration.Input) => void;",
      "export declare function first(a: string): void;",
      "export declare function first(a: number): void;",
      "/** An options type. */",
      "export interface Options {",
      "    /** How many. */",
      "    readonly count: number;",
      "}",
      "export {};",
      "//# sourceMappingURL=x.d.ts.map"
    ]
    assert.strictEqual(
      Api.page("@evenkeel/core/X", declarations.join("\n")),
      [
        "# @evenkeel/core/X",
        "",
        "Written by `pnpm api`.",
        "",
        "```ts",
        "export interface Options {",
        "  readonly count: number;",
        "}",
        "export declare function first(a: string): void;",
        "export declare function first(a: number): void;",
        "export declare const second: (duration: Duration.Input) => void;",
        "```",
        ""
      ].join("\n")
    )
  })
})
