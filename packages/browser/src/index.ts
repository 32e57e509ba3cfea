/**
 * Everything that `@evenkeel/browser` offers, by module.
 *
 * Here belongs one line for each public module.
 */
export * as BrowserPacedHttpClient from "./BrowserPacedHttpClient.ts"
