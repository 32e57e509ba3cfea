import { assert, describe, it } from "@effect/vitest"
import * as EchoProvider from "@evenkeel/node/EchoProvider"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import * as CommandLine from "./CommandLine.ts"

const executable = fileURLToPath(new URL("../src/bin.ts", import.meta.url))

/** All that a command shows on a terminal of 80 columns. */
const onTerminal = (folder: CommandLine.Folder, args: ReadonlyArray<string>, term: string) =>
  Effect.callback<string>((resume) => {
    const command = [process.execPath, executable, ...args].map((word) => `'${word}'`).join(" ")
    const child = ChildProcess.spawn("script", ["-qec", `stty cols 80; ${command}`, "/dev/null"], {
      cwd: folder.path,
      env: { PATH: process.env["PATH"], HOME: folder.path, XDG_STATE_HOME: folder.at("state"), TERM: term },
      stdio: ["ignore", "pipe", "inherit"]
    })
    let shown = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (shown += text))
    child.once("close", () => resume(Effect.succeed(shown)))
    return Effect.sync(() => child.kill())
  })

/** Up to the first line that was drawn, and everything from there is gone. */
// eslint-disable-next-line no-control-regex -- the codes are what is looked for
const redraw = /\u001b\[[23]A\u001b\[J/

// The other `script`s, as on macOS, take other arguments.
describe.runIf(process.platform === "linux").concurrent("the display of a run", () => {
  it.live("is redrawn on a terminal within its width, and gives way to the summary", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ floorPerSecond: 40, ceilingPerSecond: 40, latencyMillis: 50 })
      folder.write("job.jsonl", CommandLine.chats(60))
      const shown = yield* onTerminal(folder, ["run", "job.jsonl", "--base-url", provider.url], "xterm")
      const frames = shown.split(redraw)
      assert.isAbove(frames.length, 4)
      assert.match(frames[0] ?? "", /0\/60 done · 0 failed · \d+ in flight · \d+ waiting/)
      assert.match(frames.at(-2) ?? "", /pace [\d.]+\/s/)
      for (const line of frames.flatMap((frame) => frame.split(/\r?\n/))) assert.isAtMost(line.length, 80, line)
      assert.match(frames.at(-1) ?? "", /^ {2}answered +60 of 60\r\n/)
      // eslint-disable-next-line no-control-regex -- the codes are what is looked for
      assert.match(frames.join(""), /^[^\u001b]*$/)
    }))

  it.live("has no cursor codes on a terminal that knows none", () =>
    Effect.gen(function*() {
      const folder = yield* CommandLine.folder
      const provider = yield* EchoProvider.make({ floorPerSecond: 1000, ceilingPerSecond: 1000, latencyMillis: 5 })
      folder.write("job.jsonl", CommandLine.chats(5))
      const shown = yield* onTerminal(folder, ["run", "job.jsonl", "--base-url", provider.url], "dumb")
      assert.match(shown, /answered +5 of 5/)
      assert.notInclude(shown, "\u001b")
    }))
})
