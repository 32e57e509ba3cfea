/**
 * The ways of a provider that we do not know.
 *
 * Here belongs telling from the names of the headers which dialect a response speaks. What a known provider means by them
 * belongs to its own profile, which always comes first: the same names mean different things at different providers.
 */
import type { Dialect, Headers } from "../RateLimitHeaders.ts"
import * as OpenAi from "./openai.ts"
import * as Together from "./together.ts"

/** The bare `x-ratelimit` trio: the unit of the limit is not known, and the reset is told by its looks. */
export const dialect: Dialect = {
  name: "generic",
  limits: [
    {
      dimension: "requests",
      limit: "x-ratelimit-limit",
      remaining: "x-ratelimit-remaining",
      reset: "x-ratelimit-reset",
      resetForm: "moment"
    }
  ],
  refusals: [429, 403]
}

/**
 * Which dialect a response speaks.
 *
 * **Details**
 *
 * Names that only one provider uses decide. The bare trio is Together's too, but not only Together's, so alone it is read
 * with care.
 */
export const sniff = (headers: Headers): Dialect =>
  speaks(headers, onlyTogether) ? Together.dialect : speaks(headers, onlyOpenAi) ? OpenAi.dialect : dialect

/** The ways of an unknown provider. */
export const ways = {
  name: "generic",
  origins: [],
  dialect,
  sniff,
  attributionOf429: "unknown",
  requestIdHeaders: ["x-request-id", "request-id"],
  idempotencyHeader: undefined
} as const

const namesOf = (of: Dialect): ReadonlyArray<string> =>
  of.limits.flatMap((fields) => [fields.limit, fields.remaining, ...(fields.reset === undefined ? [] : [fields.reset])])

const speaks = (headers: Headers, names: ReadonlyArray<string>): boolean =>
  names.some((name) => headers[name] !== undefined)

const bare = namesOf(dialect)
const onlyTogether = namesOf(Together.dialect).filter((name) => !bare.includes(name))
const onlyOpenAi = namesOf(OpenAi.dialect)
