/**
 * Everything that `@evenkeel/node` offers, by module.
 *
 * Here belongs one line for each public module. The command's own modules (`cli`, `echo`) are not public.
 */
export * as EchoProvider from "./EchoProvider.ts"
export * as NodePacedHttpClient from "./NodePacedHttpClient.ts"
