/**
 * The examples of the documentation run, and say what they give. Those that need Node.js or a page run in
 * `packages/node`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as DocExamples from "../../../scripts/DocExamples.ts"

DocExamples.clear("core", "run")

describe("the examples of the documentation", () => {
  for (const example of DocExamples.all().filter(({ home, runs }) => runs && home === "core")) {
    it(`${example.path}: ${example.name} (line ${example.line})`, () => import(DocExamples.write(example, "run")))
  }
})

describe("an example", () => {
  it("passes when each statement gives what it says, over several lines too", async () => {
    await run("holds", [
      "import * as Pace from \"@evenkeel/core/Pace\"",
      "",
      "const credit = { units: 0, atMillis: 0 } // => { atMillis: 0, units: 0 }",
      "Pace.delayMillis(",
      "  credit,",
      "  { ratePerSecond: 2, burst: 1 },",
      "  1",
      ") // => 500",
      "[\"// => 2\", 1 + 1]",
      "  .map(String) // => [\"// => 2\", \"2\"]",
      "await Promise.resolve([NaN]) // => [NaN]"
    ])
  })

  it("fails, and names its place, when it does not give what it says", async () => {
    const failure = await run("lies", ["1 + 1 // => 2", "1 + 1 // => 3"]).then(
      () => undefined,
      (error: unknown) => error
    )
    assert.instanceOf(failure, Error)
    assert.match(failure.message, /^lies:2: expected 2 to deeply equal 3/)
  })

  it("is refused when an assertion stands where nothing would check it", () => {
    const refused = (lines: ReadonlyArray<string>) => () =>
      DocExamples.program({ path: "x", line: 1, code: lines.join("\n") })
    assert.throws(refused(["f([", "  1 + 1 // => 2", "])"]), "x:2: `// =>` must end a statement")
    assert.throws(refused(["1 + 1", "", "// => 2"]), "x:3: `// =>` must end a statement")
  })

  it("is found in doc comments and in Markdown, under its heading", () => {
    const fence = ["```ts no-run", "f()", "```"]
    const comment = [
      "const before = 1",
      "/**",
      ...["**Example** (Title)", "", ...fence].map((line) => ` * ${line}`),
      " */"
    ]
    assert.deepStrictEqual(DocExamples.inCode({ path: "x.ts", text: comment.join("\n") }), [
      { name: "Title", path: "x.ts", line: 6, home: "core", runs: false, code: "f()\n" }
    ])
    const page = ["# One", "## Two", "```ts", "import \"@evenkeel/node/Y\"", "```", "```sh", "ls", "```"].join("\n")
    assert.deepStrictEqual(DocExamples.inMarkdown({ path: "x.md", text: page }), [
      { name: "Two", path: "x.md", line: 4, home: "node", runs: true, code: "import \"@evenkeel/node/Y\"\n" }
    ])
  })
})

const run = (path: string, lines: ReadonlyArray<string>): Promise<unknown> =>
  import(DocExamples.write({ path, name: path, line: 1, home: "core", runs: true, code: lines.join("\n") }, "run"))
