/**
 * The Chromium that browser tests run in: the one already on the machine; nothing is downloaded. What a run leaves out
 * without it is named by `vitest.left-out.ts`.
 */
import { existsSync } from "node:fs"

/** Where Chromium is, `undefined` where there is none. `CHROMIUM_PATH` names one that is elsewhere. */
export const executablePath: string | undefined = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
].find((path) => path !== undefined && existsSync(path))

/** How Playwright starts it: headless, without a sandbox (CI runs as root) and without traffic of its own. */
export const launchOptions = {
  ...(executablePath === undefined ? {} : { executablePath }),
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync"
  ]
}
