/**
 * `evenkeel explain`: what Evenkeel makes of an answer that somebody has at hand.
 *
 * Here belong the command's flags and its output. Reading answers is `AnswerFile`'s, the words are `Explanation`'s.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as AnswerFile from "./AnswerFile.ts"
import * as Explanation from "./Explanation.ts"
import * as FlagText from "./FlagText.ts"
import * as Target from "./Target.ts"

const flags = {
  file: Argument.String("FILE").pipe(
    Argument.withDescription("Answers as curl -i prints them, or as JSON; - or nothing is standard input"),
    Argument.optional
  ),
  provider: FlagText.optional("provider", "NAME", "Whose answers they are, where they do not say so themselves"),
  now: FlagText.optional("now", "TIME", "When answers came that do not say so, such as 2026-10-06T12:00:00Z"),
  json: FlagText.present("json", "Print one JSON object a line, and nothing else")
}

/**
 * The `explain` command.
 *
 * **Errors**
 *
 * `UserError` (2) for bad usage or input; nothing is printed then. Whatever the answers say is no error.
 */
export const explainCommand = Command.make("explain", flags, (typed) => explain(typed)).pipe(
  Command.withDescription(
    "Say in plain words what Evenkeel makes of a provider's answer: whose doing it is, whether to send again and when, " +
      "and what it tells of limits. Sends nothing."
  ),
  Command.withShortDescription("Say what an answer means"),
  Command.withExamples([
    { command: "curl -si https://api.together.xyz/v1/models | evenkeel explain --provider together" },
    { command: "evenkeel explain answers.jsonl --json", description: "One JSON object for each answer" }
  ])
)

const explain = Effect.fnUntraced(function*(typed: Command.Command.Config.Infer<typeof flags>) {
  const profile = Option.isNone(typed.provider) ? undefined : yield* Target.profileNamed(typed.provider.value)
  const nowMillis = yield* readNow(typed.now)
  const path = Option.getOrElse(typed.file, () => "-")
  if (path === "-" && process.stdin.isTTY) {
    yield* Console.error("Paste an answer as curl -i prints it, then press Ctrl-D on a line of its own.")
  }
  const answers = yield* AnswerFile.read({ path })
  // Whoever reads on the other side may have enough, as `head` does.
  process.stdout.once("error", (error: Error & { readonly code?: string }) => {
    if (error.code !== "EPIPE") throw error
    process.exit(0)
  })
  const clockMillis = yield* Clock.currentTimeMillis
  const explanations = answers.map((answer) => Explanation.make(answer, { profile, nowMillis, clockMillis }))
  const showsReader = new Set(explanations.map(({ reader }) => reader)).size > 1
  yield* Effect.forEach(explanations, (explanation, index) => {
    if (typed.json) return Console.log(Explanation.json(explanation))
    const label = explanations.length === 1 ? "" : `#${index + 1} `
    return Console.log(`${index === 0 ? "" : "\n"}${Explanation.words(explanation, { label, showsReader })}`)
  }, { discard: true })
})

const readNow = Effect.fnUntraced(function*(typed: Option.Option<string>) {
  if (Option.isNone(typed)) return undefined
  const millis = AnswerFile.parseInstantMillis(typed.value)
  return millis ?? (yield* FlagText.mistake("now", `"${typed.value}" is not a time such as 2026-10-06T12:00:00Z`))
})
