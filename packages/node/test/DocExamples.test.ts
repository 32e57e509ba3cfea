/**
 * The examples of the documentation that need Node.js or `@evenkeel/browser`; the others run in `packages/core`, where the
 * mechanism is tested too.
 */
import { describe, it } from "@effect/vitest"
import * as DocExamples from "../../../scripts/DocExamples.ts"

DocExamples.clear("node", "run")
DocExamples.clear("browser", "run")

describe("the examples of the documentation", () => {
  it("find both packages where they are written", async () => {
    for (const home of ["node", "browser"] as const) {
      const code = `import "@evenkeel/core/Demand"\nimport "@evenkeel/${home}"\n`
      await import(DocExamples.write({ path: "found", name: "found", line: 1, home, runs: true, code }, "run"))
    }
  })

  for (const example of DocExamples.all().filter(({ home, runs }) => runs && home !== "core")) {
    it(`${example.path}: ${example.name} (line ${example.line})`, () => import(DocExamples.write(example, "run")))
  }
})
