/**
 * A user's mistake at the command line: one line to print and the status to exit with, never a stack trace.
 *
 * Here belongs the error alone. What is a mistake is decided by each command; `bin.ts` prints it.
 */
import * as Data from "effect/Data"

/**
 * What a command fails with when its user can put it right.
 *
 * **Details**
 *
 * `message` is one plain line. `exitCode` is 2 when nothing was begun.
 */
export class UserError extends Data.TaggedError("UserError")<{
  readonly message: string
  readonly exitCode: number
}> {}
