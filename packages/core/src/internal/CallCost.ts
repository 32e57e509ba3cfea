/**
 * What a call will use, what it did use, and what of that is charged.
 *
 * Here belongs reading request and answer bodies for their tokens. Learning what calls usually use belongs to
 * `TokenEstimate`, which settles the guesses made here.
 *
 * **Source**
 *
 * The chat, response, message and embedding bodies of OpenAI, Anthropic, Google, Amazon, Cohere and Ollama.
 */
import { type Cost, oneRequest } from "../Demand.ts"
import type { Charging } from "../ProviderWays.ts"
import { isPresent, member, parsed } from "./ErrorBody.ts"

/** What a call did use: input with what came from a cache, and of that how much. */
export interface Usage extends Partial<Cost> {
  readonly cachedInputTokens?: number
}

/** What a call will be charged when it is let in, on the high side. */
export const costOf = (requestBody: unknown, charging: Charging): Cost => {
  if (charging.admission === "nothing") return oneRequest
  const body = parsed(requestBody)
  const size = { units: 0, visits: 0 }
  for (const name of textMembers) measure(member(body, name), size, 0)
  const inputTokens = Math.ceil(size.units / charactersPerToken)
  const holders = [body, member(body, "generationConfig"), member(body, "inferenceConfig")]
  const bounds = holders.flatMap((holder) => boundMembers.map((name) => member(holder, name)))
  const bound = countOf(bounds)
  // A body with only an input and no sign of generation asks for embeddings.
  const isEmbedding = isPresent(member(body, "input")) &&
    !generationMembers.some((name) => isPresent(member(body, name)))
  const expected = isEmbedding ? 0 : usualOutputTokens
  return { requests: 1, inputTokens, outputTokens: outputOf(charging, inputTokens, bound, expected) }
}

/** What a call did use, where its answer or one event of it says so. */
export const usageOf = (responseBody: unknown): Usage | undefined => {
  const body = parsed(responseBody)
  const holders = [body, member(body, "message"), member(body, "response"), member(body, "metadata")]
  for (const holder of holders) {
    const usage = usageIn(member(holder, "usage") ?? member(holder, "usageMetadata"))
    if (usage !== undefined) return usage
  }
  // Only Ollama tells it among everything else: a bare `input_tokens` counts a text that nobody has sent.
  const isOllama = member(body, "eval_count") !== undefined || member(body, "prompt_eval_count") !== undefined
  return usageIn(member(member(body, "meta"), "tokens")) ?? (isOllama ? usageIn(body) : undefined)
}

/** What of a real use counts against the limit. */
export const chargedFor = (charging: Charging, reserved: Cost, used: Usage): Partial<Cost> => {
  if (charging.settlement === "reserved") {
    return { inputTokens: reserved.inputTokens, outputTokens: reserved.outputTokens }
  }
  const { cachedInputTokens = 0, inputTokens, ...others } = used
  if (inputTokens === undefined) return others
  const free = charging.cachedInput === "free" ? cachedInputTokens : 0
  return { ...others, inputTokens: Math.max(0, inputTokens - free) }
}

const outputOf = (
  { admission }: Charging,
  inputTokens: number,
  bound: number | undefined,
  expected: number
): number => {
  if (bound === undefined) return expected
  switch (admission) {
    case "input and bound":
      return bound
    case "larger of input and bound":
      return Math.max(0, bound - inputTokens)
    default:
      return Math.min(bound, expected)
  }
}

const usageIn = (said: unknown): Usage | undefined => {
  const count = (names: ReadonlyArray<string>): number | undefined => countOf(names.map((name) => member(said, name)))
  const input = count(inputMembers)
  const made = count(outputMembers)
  // Google counts thoughts apart from the answer.
  const output = made === undefined ? undefined : made + (count(["thoughtsTokenCount"]) ?? 0)
  if (input === undefined && output === undefined) return undefined
  const details = member(said, "prompt_tokens_details") ?? member(said, "input_tokens_details")
  const within = countOf([member(details, "cached_tokens")])
  // Anthropic and Amazon count what was read from the cache, or written to it, apart from the input.
  const apart = count(["cache_read_input_tokens", "cacheReadInputTokens"])
  const written = count(["cache_creation_input_tokens", "cacheWriteInputTokens"]) ?? 0
  const cachedInputTokens = apart ?? within ?? count(["cached_tokens", "cachedContentTokenCount"])
  return {
    ...(input === undefined ? {} : { inputTokens: input + (apart ?? 0) + written }),
    ...(output === undefined ? {} : { outputTokens: output }),
    ...(cachedInputTokens === undefined || input === undefined ? {} : { cachedInputTokens })
  }
}

/** Adds up the characters of all text in a request; a number in an input is one token. */
const measure = (value: unknown, size: { units: number; visits: number }, depth: number): void => {
  if (++size.visits > mostVisits || depth > mostDepth) return
  if (typeof value === "string") size.units += value.length
  else if (typeof value === "number") size.units += charactersPerToken
  else if (Array.isArray(value)) { for (const each of value) measure(each, size, depth + 1) }
  else if (isPresent(value)) { for (const name of partMembers) measure(member(value, name), size, depth + 1) }
}

/** The first that is a count. */
const countOf = (values: ReadonlyArray<unknown>): number | undefined => {
  const found = values.find((each): each is number => isCount(each))
  // Minus zero is zero.
  return found === undefined ? undefined : found + 0
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER

const textMembers: ReadonlyArray<string> = [
  "messages",
  "prompt",
  "input",
  "instructions",
  "system",
  "contents",
  "message"
]

const partMembers: ReadonlyArray<string> = ["content", "text", "arguments", "output", "tool_calls", "function", "parts"]

const boundMembers: ReadonlyArray<string> = [
  "max_tokens",
  "max_completion_tokens",
  "max_output_tokens",
  "maxOutputTokens",
  "maxTokens"
]

const generationMembers: ReadonlyArray<string> = [
  "messages",
  "prompt",
  "instructions",
  "stream",
  "tools",
  "temperature",
  "reasoning",
  "previous_response_id"
]

const inputMembers: ReadonlyArray<string> = [
  "prompt_tokens",
  "input_tokens",
  "inputTokens",
  "promptTokenCount",
  "prompt_eval_count"
]

const outputMembers: ReadonlyArray<string> = [
  "completion_tokens",
  "output_tokens",
  "outputTokens",
  "candidatesTokenCount",
  "eval_count"
]

/** The usual rule of thumb for English text; other scripts take more tokens, which usage corrects. */
const charactersPerToken = 4

/** A short answer; real usage corrects it at the end. */
const usualOutputTokens = 256

/** Values of a request body that are measured; a conversation has a few hundred. */
const mostVisits = 100_000

/** Nesting of a request body; messages, content, parts and tool calls take eight. */
const mostDepth = 16
