import { existsSync } from "node:fs"

/**
 * The Chromium that is already on the machine; nothing is downloaded.
 * Set CHROMIUM_PATH where it is elsewhere.
 */
export const executablePath: string | undefined = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
].find((path) => path !== undefined && existsSync(path))

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
