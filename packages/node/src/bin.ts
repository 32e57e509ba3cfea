#!/usr/bin/env node
/**
 * The `evenkeel` command.
 *
 * Here belong the list of commands, the exit status, and how a mistake is shown: one line, no stack trace. What a command
 * does is in `cli`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Runtime from "effect/Runtime"
import manifest from "../package.json" with { type: "json" }

import { demoCommand } from "./cli/demo.ts"
import { explainCommand } from "./cli/explain.ts"
import { limitsCommand } from "./cli/limits.ts"
import { providerCommand } from "./cli/provider.ts"
import { runCommand } from "./cli/run.ts"
import { UserError } from "./cli/UserError.ts"

const evenkeel = Command.make("evenkeel").pipe(
  Command.withDescription("Sends traffic to rate-limited APIs as fast as they will accept it, and no faster"),
  Command.withSubcommands([runCommand, demoCommand, providerCommand, limitsCommand, explainCommand])
)

/** 2 for bad usage, the run's own status for a `UserError`, 130 for Ctrl-C, 70 for a fault of ours. */
const exitCodeOf = (cause: Cause.Cause<unknown>): number => {
  if (Cause.hasInterruptsOnly(cause)) return 130
  const error = Cause.squash(cause)
  if (error instanceof UserError) return error.exitCode
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2
  return 70
}

const say = (cause: Cause.Cause<unknown>): void => {
  const error = Cause.squash(cause)
  if (Cause.hasInterruptsOnly(cause) || CliError.isCliError(error)) return
  process.stderr.write(
    error instanceof UserError
      ? `evenkeel: ${error.message}\n`
      : `evenkeel: this should not happen, please report it:\n${Cause.pretty(cause)}\n`
  )
}

/** A mistake is one line; help is for who asks for it. */
const presenter: CliOutput.Presenter = {
  present: (output) =>
    output._tag === "InvalidInvocation"
      ? Console.error(
        `evenkeel: ${output.errors.map((error) => error.message).join("; ")}; see ${
          output.commandPath.join(" ")
        } --help`
      )
      : CliOutput.defaultPresenter.present(output)
}

const teardown: Runtime.Teardown = (exit, onExit) => onExit(Exit.isSuccess(exit) ? 0 : exitCodeOf(exit.cause))

// A second Ctrl-C does not wait for calls in flight. One that a wrapper such as pnpm passes on at once is not a second.
process.once("SIGINT", () => setTimeout(() => process.once("SIGINT", () => process.exit(130)), 100).unref())

Command.runWith(evenkeel, { version: manifest.version })(process.argv.slice(2)).pipe(
  Effect.tapCause((cause) => Effect.sync(() => say(cause))),
  Effect.provideService(CliOutput.Presenter, presenter),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true, teardown })
)
