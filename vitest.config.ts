import { playwright } from "@vitest/browser-playwright"
import { defineConfig } from "vitest/config"
import { executablePath, launchOptions } from "./vitest.chromium.ts"

if (process.env["CI"] && executablePath === undefined) throw new Error("CI needs a Chromium; see vitest.chromium.ts")

const project = (name: string, include = "test/*.test.ts") => ({
  test: { name, root: `packages/${name}`, include: [include] }
})

const browserProjects = [
  {
    // One page per test file, in a real Chromium.
    optimizeDeps: { include: ["@effect/vitest", "effect", "effect/testing"] },
    test: {
      name: "browser",
      root: "packages/browser",
      include: ["test/*.test.ts"],
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({ launchOptions }),
        instances: [{ browser: "chromium" as const }]
      }
    }
  },
  {
    // Several tabs of one origin, driven from Node through playwright-core.
    test: { name: "tabs", root: "packages/browser", include: ["test/tabs/*.test.ts"] }
  }
]

export default defineConfig({
  test: {
    reporters: ["default", "./vitest.closing-line.ts"],
    projects: [
      project("core"),
      project("node"),
      ...(executablePath === undefined ? [] : browserProjects)
    ]
  }
})
