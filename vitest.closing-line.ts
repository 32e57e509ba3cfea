/**
 * The end of a test run, in a form that a person and a CI can read: what was left out, then one line of counts. The
 * counts come last so that a run ends on them.
 */
import type { Reporter, TestModule, TestSuite, Vitest } from "vitest/node"
import { sentences } from "./vitest.left-out.ts"

/** Prints what was left out, then `tests: N passed, N failed, N skipped`. */
export default class ClosingLine implements Reporter {
  private everyProject = true

  onInit(vitest: Vitest): void {
    this.everyProject = vitest.config.project.length === 0
  }

  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    // An error outside any test is a failure too, though vitest counts no test for it.
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      for (const test of module.children.allTests()) count[test.result().state]++
      count.failed += broken(module)
    }
    // Whoever named the projects to run left the others out knowingly.
    if (this.everyProject) { for (const sentence of sentences()) console.log(sentence) }
    console.log(`tests: ${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped`)
  }
}

/** Files and suites that failed outside their tests: while loading, or in a hook. */
const broken = (module: TestModule): number => {
  const nodes: Array<TestModule | TestSuite> = [module, ...module.children.allSuites()]
  return nodes.filter((node) => node.errors().length > 0).length
}
