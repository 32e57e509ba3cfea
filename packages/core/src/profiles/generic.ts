/**
 * The ways of a provider that we do not know.
 *
 * Here belongs telling from the names of the headers which units a response speaks in. What a known provider means by them
 * belongs to its own table, which always comes first: the same names mean different things at different providers.
 */
import { usualCharging, type Ways } from "../ProviderWays.ts"
import type { Dialect, Headers } from "../RateLimitHeaders.ts"
import * as Azure from "./azure.ts"
import * as Together from "./together.ts"

const dialect: Dialect = { name: "generic", refusals: [429, 403] }

/** Names that only one provider uses decide. The bare trio is Together's too, but not only Together's. */
const dialectFor = (headers: Headers): Dialect =>
  onlyTogether.some((name) => headers[name] !== undefined)
    ? Together.ways.dialect
    : Azure.isRenewing(headers)
    ? Azure.renewing
    : dialect

const onlyTogether: ReadonlyArray<string> = ["limit", "remaining"].flatMap((part) => [
  `x-tokenlimit-${part}`,
  `x-tokenlimit-${part}-dynamic`,
  `x-ratelimit-${part}-dynamic`
])

/** The ways of an unknown provider. */
export const ways: Ways = {
  name: "generic",
  origins: [],
  dialect,
  dialectFor,
  limited: [],
  charging: usualCharging,
  attributionOf429: "unknown",
  requestIdHeaders: ["x-request-id", "request-id"],
  idempotencyHeader: undefined
}
