import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as EventStream from "../src/internal/EventStream.ts"

const events = (text: string) => [...EventStream.events(text)]

describe("the events of a transcript", () => {
  it("are told by blank lines, whatever ends the lines", () => {
    const text = ["event: error", "data: 1", "", "data:2", "data: 3", "", ": keep-alive", "", "data: [DONE]"]
    for (const end of ["\n", "\r\n", "\r"]) {
      assert.deepStrictEqual(events(text.join(end)), [
        { name: "error", data: "1" },
        { name: "", data: "2\n3" },
        { name: "", data: "[DONE]" }
      ])
    }
  })

  it("are none where nothing but comments and names came", () => {
    assert.deepStrictEqual(events(": a\n\nevent: ping\n\n\n\n"), [])
    assert.deepStrictEqual(events(""), [])
  })

  it("are those that were written", () => {
    const line = fc.stringMatching(/^[ -~]{0,20}$/)
    const event = fc.record({ name: fc.stringMatching(/^[a-z]{0,8}$/), data: fc.array(line, { minLength: 1 }) })
    fc.assert(fc.property(fc.array(event), fc.constantFrom("\n", "\r\n", "\r"), (told, end) => {
      const text = told.map(({ data, name }) =>
        [...(name === "" ? [] : [`event: ${name}`]), ...data.map((each) => `data: ${each}`), "", ""].join(end)
      )
      assert.deepStrictEqual(
        events(text.join("")),
        told.map(({ data, name }) => ({ name, data: data.join("\n") }))
      )
    }))
  })
})
