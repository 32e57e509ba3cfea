/**
 * The providers that are known by name.
 *
 * Here belongs the list: a new provider's table is added to it, or is an entry of `models` or `http-apis`.
 */
import type { Sign, Ways } from "../ProviderWays.ts"
import * as Anthropic from "./anthropic.ts"
import * as Azure from "./azure.ts"
import * as Bedrock from "./bedrock.ts"
import * as Google from "./google.ts"
import * as Groq from "./groq.ts"
import * as HttpApis from "./http-apis.ts"
import * as Models from "./models.ts"
import * as OpenAi from "./openai.ts"
import * as OpenRouter from "./openrouter.ts"
import * as Together from "./together.ts"

/** Their ways; of two with the same host the first counts. */
export const all: ReadonlyArray<Ways> = [
  Together.ways,
  OpenAi.ways,
  Azure.ways,
  Azure.inference,
  Anthropic.ways,
  Groq.ways,
  Google.ways,
  Bedrock.ways,
  OpenRouter.ways,
  ...Models.all,
  ...HttpApis.all
]

/** What a kind or a sentence means wherever it is met. */
export const sharedSigns: ReadonlyArray<Sign> = all.flatMap(({ signs = [] }) =>
  signs.filter(({ here, kind, message }) => here !== true && (kind !== undefined || message !== undefined))
)
