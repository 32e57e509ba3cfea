/**
 * `evenkeel limits`: one cheap call, and what the provider says of its limits.
 *
 * Here belong the command's flags and its table. Reading headers is core's.
 */
import type { LimitReading } from "@evenkeel/core/Outcome"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as NodePacedHttpClient from "../NodePacedHttpClient.ts"
import * as FlagText from "./FlagText.ts"
import * as Target from "./Target.ts"
import { UserError } from "./UserError.ts"

const flags = {
  ...Target.flags,
  model: FlagText.optional("model", "M", "The model whose limits are asked for (default: one that the provider lists)"),
  json: FlagText.present("json", "Print one JSON object")
}

/**
 * The `limits` command.
 *
 * **Errors**
 *
 * `UserError`: 2 for bad usage, 3 when the provider does not answer or refuses the key.
 */
export const limitsCommand = Command.make(
  "limits",
  flags,
  (typed) => limits(typed).pipe(Effect.provide(NodePacedHttpClient.layerUndici()))
).pipe(
  Command.withDescription("Make one cheap call and print what the provider says of its limits"),
  Command.withExamples([{ command: "evenkeel limits --model meta-llama/Llama-3.3-70B-Instruct-Turbo" }])
)

const limits = Effect.fnUntraced(function*(typed: Command.Command.Config.Infer<typeof flags>) {
  const target = yield* Target.read(typed)
  const model = Option.isSome(typed.model) ? typed.model.value : yield* firstModel(target)
  const { headers, status, text } = yield* call(
    HttpClientRequest.post(`${target.baseUrl}/chat/completions`).pipe(
      HttpClientRequest.bodyText(
        JSON.stringify({ model, max_tokens: 1, messages: [{ role: "user", content: "Hi" }] }),
        "application/json"
      )
    ),
    target
  )
  const nowMillis = yield* Clock.currentTimeMillis
  const outcome = target.profile.classify({ status, headers, body: status < 400 ? undefined : text, nowMillis })
  if (outcome.final) return yield* refused(outcome.error?.message ?? `status ${status}`)
  const { limits, retryAfterSeconds } = outcome.reading
  if (typed.json) return yield* Console.log(JSON.stringify({ model, status, limits, retryAfterSeconds }))
  yield* Console.log(`${model} at ${target.baseUrl}: status ${status}`)
  yield* Console.log(limits.length === 0 ? "The provider told no limit." : table(limits))
  if (retryAfterSeconds !== undefined) yield* Console.log(`It asks to wait ${retryAfterSeconds} s.`)
})

const firstModel = Effect.fnUntraced(function*(target: Target.Target) {
  const { status, text } = yield* call(HttpClientRequest.get(`${target.baseUrl}/models`), target)
  if (status >= 400) return yield* refused(`asked for its models, the provider answered with status ${status}`)
  const found = /"id"\s*:\s*"([^"]+)"/.exec(text)?.[1]
  return found ?? (yield* FlagText.mistake("model", "the provider lists no model; name one"))
})

const call = (request: HttpClientRequest.HttpClientRequest, target: Target.Target) =>
  Effect.gen(function*() {
    const response = yield* HttpClient.execute(HttpClientRequest.setHeaders(request, target.headers))
    return { status: response.status, headers: response.headers, text: yield* response.text }
  }).pipe(
    Effect.timeout(timeoutMillis),
    Effect.catchCause(() => refused(`${target.baseUrl} does not answer`))
  )

const refused = (message: string): UserError => new UserError({ message, exitCode: 3 })

/** One row for each limit, per second and per minute where the unit is known. */
const table = (limits: ReadonlyArray<LimitReading>): string => {
  const rows = limits.map((limit) => [
    limit.policy === undefined ? limit.dimension : `${limit.dimension} (${limit.policy})`,
    figure(limit.limit) + (limit.windowSeconds === undefined ? "" : ` per ${limit.windowSeconds} s`),
    figure(limit.ratePerSecond),
    figure(limit.ratePerSecond === undefined ? undefined : limit.ratePerSecond * 60),
    figure(limit.remaining),
    limit.resetSeconds === undefined ? "-" : `${figure(limit.resetSeconds)} s`
  ])
  const all = [["sum", "limit", "per second", "per minute", "remaining", "reset"], ...rows]
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n")
}

const figure = (value: number | undefined): string =>
  value === undefined ? "-" : String(Math.round(value * 1000) / 1000)

const timeoutMillis = 30_000
