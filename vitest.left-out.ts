/**
 * What this machine's test run leaves out, because a program that the tests drive for real is not there. Nothing is left
 * out in silence: the closing lines name it and the one command that installs it, and with `CI` set it is an error.
 */
import { executablePath } from "./vitest.chromium.ts"

/** One thing left out, and the command that puts it in. */
export interface LeftOut {
  readonly what: string
  readonly install: string
}

const install = (debian: string, mac: string): string =>
  process.platform === "darwin" ? `brew install ${mac}` : `sudo apt-get install -y ${debian}`

/** All that is left out here. */
export const leftOut: ReadonlyArray<LeftOut> = executablePath === undefined
  ? [{ what: "the browser tests (no Chromium found)", install: install("chromium", "--cask google-chrome") }]
  : []

/** One plain sentence for each thing left out. */
export const sentences = (): ReadonlyArray<string> =>
  leftOut.map(({ what, install }) => `left out: ${what}; to run them: ${install}`)
