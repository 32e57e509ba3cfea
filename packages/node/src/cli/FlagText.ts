/**
 * Flags as a person types them: numbers, times, choices, and one clear line for each mistake.
 *
 * Here belongs reading one flag's text. Which flags a command has belongs to the command. Everything is read as text
 * first, so that every mistake names its flag, what was wrong and what is allowed.
 */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { UserError } from "./UserError.ts"

/** A flag that may be given once. */
export const optional = (name: string, metavar: string, description: string): Flag.Flag<Option.Option<string>> =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

/** A flag that may be given many times. */
export const repeated = (name: string, metavar: string, description: string): Flag.Flag<ReadonlyArray<string>> =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.atLeast(0))

/** A flag that is there or not. */
export const present = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

/** A closed set of numbers, and its words. */
export interface Allowed {
  readonly says: string
  readonly has: (value: number) => boolean
}

/** Numbers above `limit`, up to `most`. */
export const above = (limit: number, most: number, what: string): Allowed => ({
  says: `${what} above ${limit}, at most ${most}`,
  has: (value) => value > limit && value <= most
})

/** Numbers from 0 to `most`. */
export const upTo = (most: number, what: string): Allowed => ({
  says: `${what} from 0 to ${most}`,
  has: (value) => value >= 0 && value <= most
})

/** Only the whole ones. */
export const whole = (allowed: Allowed): Allowed => ({
  says: allowed.says,
  has: (value) => Number.isInteger(value) && allowed.has(value)
})

/**
 * Reads a number.
 *
 * **Errors**
 *
 * `UserError` (2) that names the flag, what was typed and what is allowed.
 */
export const number = (
  flag: string,
  typed: Option.Option<string>,
  allowed: Allowed
): Effect.Effect<number | undefined, UserError> =>
  Option.match(typed, {
    onNone: () => Effect.undefined,
    onSome: (text) =>
      decimal.test(text) && allowed.has(Number(text))
        ? Effect.succeed(Number(text))
        : mistake(flag, `"${text}" is not ${allowed.says}`)
  })

/**
 * Reads a time: seconds, or a number with `ms`, `s`, `m` or `h`.
 *
 * **Units**
 *
 * The result is in milliseconds, above 0 and at most 30 days.
 *
 * **Errors**
 *
 * `UserError` (2) that names the flag, what was typed and what is allowed.
 */
export const duration = (
  flag: string,
  typed: Option.Option<string>
): Effect.Effect<number | undefined, UserError> => {
  if (Option.isNone(typed)) return Effect.undefined
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(typed.value)
  const millis = Number(match?.[1]) * (unitMillis[match?.[2] ?? ""] ?? NaN)
  return millis > 0 && millis <= mostMillis
    ? Effect.succeed(millis)
    : mistake(flag, `"${typed.value}" is not a time such as 90, 90s, 10m or 2h, at most 720h`)
}

/**
 * Reads one of several words.
 *
 * **Errors**
 *
 * `UserError` (2) that names the flag, what was typed and what is allowed.
 */
export const choice = <const A extends string>(
  flag: string,
  typed: Option.Option<string>,
  choices: ReadonlyArray<A>
): Effect.Effect<A | undefined, UserError> => {
  if (Option.isNone(typed)) return Effect.undefined
  const found = choices.find((name) => name === typed.value)
  return found === undefined
    ? mistake(flag, `"${typed.value}" is not one of ${choices.join(", ")}`)
    : Effect.succeed(found)
}

/** A secret out of the environment, so that it stands in no list of processes; undefined when it is not set. */
export const secret = (name: string): Redacted.Redacted | undefined => {
  const value = process.env[name]
  return value === undefined || value === "" ? undefined : Redacted.make(value)
}

/** The error of a flag. */
export const mistake = (flag: string, message: string): UserError =>
  new UserError({ message: `--${flag}: ${message}`, exitCode: 2 })

/** Plain decimals: no sign, no exponent, no other base. */
export const decimal = /^\d+(\.\d+)?$/

const unitMillis: Readonly<Record<string, number>> = { "ms": 1, "s": 1_000, "": 1_000, "m": 60_000, "h": 3_600_000 }

/** Thirty days: longer than any job should take, and far below what arithmetic can hold. */
const mostMillis = 30 * 86_400_000
