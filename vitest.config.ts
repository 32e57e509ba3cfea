/**
 * How `pnpm test` runs: one project for each package, `browser` in a real Chromium. Tests import the packages by their
 * public names, which lead to `src`, so nothing is built first.
 */
import { playwright } from "@vitest/browser-playwright"
import { defineConfig } from "vitest/config"
import { executablePath, launchOptions } from "./vitest.chromium.ts"
import { leftOut, sentences } from "./vitest.left-out.ts"

if (process.env["CI"] && leftOut.length > 0) {
  throw new Error(`With CI set nothing may be left out. ${sentences().join(". ")}`)
}

const project = (name: string) => ({
  name,
  root: `packages/${name}`,
  include: ["test/**/*.test.ts"],
  // Tests wait in virtual time; what runs long in real time (a loaded machine, an integration test) is not yet wrong.
  testTimeout: 30_000
})

const browser = {
  // Found late, a dependency makes vite reload the page in the middle of the first run.
  optimizeDeps: { entries: ["src/**/*.ts", "test/**/*.ts"], include: ["@effect/vitest", "effect", "effect/testing"] },
  test: {
    ...project("browser"),
    globalSetup: ["test/fixtures/CrossOriginServer.ts"],
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions }),
      instances: [{ browser: "chromium" as const }]
    }
  }
}

export default defineConfig({
  test: {
    reporters: ["default", "./vitest.closing-line.ts"],
    projects: [
      { test: project("core") },
      { test: project("node") },
      ...(executablePath === undefined ? [] : [browser])
    ]
  }
})
