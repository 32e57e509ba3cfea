/**
 * What the name of a header says of a limit.
 *
 * Here belongs the grammar of names: which sum, which part of it, which window. What the value means belongs to
 * `RateLimitHeaders`, and units that no name tells to a provider's dialect. Names that mean different things at different
 * providers (a bare `x-ratelimit-reset`) mean the same here: one limit, of requests.
 *
 * **Source**
 *
 * Recorded and documented headers of some thirty providers.
 */
import type { Dimension } from "../Demand.ts"

/** Which figure of a limit a header holds. `pair` is `used/limit`, `json` is an object with all of them. */
export type Part = "limit" | "remaining" | "used" | "reset" | "resetAfter" | "window" | "pair" | "json"

/**
 * What a name tells.
 *
 * **Details**
 *
 * Parts with the same `id` are of one limit. `isPart` says that it covers only a part of the traffic, or a long budget: it
 * stands beside what the dimension is known by. `isDynamic` is the one that is enforced now, where a plain one is told as
 * well. `isNamed` says that the name tells the sum. `isSeconds` says that a bare reset is in seconds whatever the dialect.
 */
export interface Named {
  readonly part: Part
  readonly id: string
  readonly dimension: Dimension | "other"
  readonly policy: string | undefined
  readonly windowSeconds: number | undefined
  readonly isPart: boolean
  readonly isDynamic: boolean
  readonly isNamed: boolean
  readonly isSeconds: boolean
}

/** What a header of this name (in lower case) tells; undefined where it tells nothing of limits. */
export const nameOf = (header: string): Named | undefined => {
  const known = remembered.get(header)
  if (known !== undefined) return known ?? undefined
  if (header.length > mostName) return undefined
  const named = read(header)
  // Hostile names are read again each time.
  if (remembered.size < mostRemembered) remembered.set(header, named ?? null)
  return named
}

const read = (header: string): Named | undefined => {
  const plain = /^(?:x-)?(?:[a-z]+-)?(rate-limit|ratelimit|tokenlimit)-(.+)$/.exec(header)
  const anthropic = /^anthropic-(ratelimit|priority|fast)-(.+)-(limit|remaining|reset)$/.exec(header)
  if (anthropic !== null) return ofAnthropic(anthropic[1]!, anthropic[2]!, parts.get(anthropic[3]!) ?? "limit")
  if (plain !== null) return ofPlain(plain[1]!, plain[2]!)
  const codex = /^x-codex-(primary|secondary)-reset-(at|after-seconds)$/.exec(header)
  if (codex !== null) {
    const policy = `codex-${codex[1]}`
    return { ...bare, part: codex[2] === "at" ? "reset" : "resetAfter", id: policy, ...beside("other", policy) }
  }
  return odd.get(header)
}

const ofPlain = (family: string, rest: string): Named | undefined => {
  const isTokens = family === "tokenlimit"
  const forward = /^(limit|remaining|used|observed|reset-after|reset|renewalperiod|window-size)(?:[-_](.+))?$/.exec(
    rest
  )
  // `over-limit: yes` and `dynamic-period-remaining: 900s` are no figures of a limit.
  const backward = forward === null ? /^(?!over|dynamic)(.+)-(limit|remaining|used|reset)$/.exec(rest) : null
  if (forward === null && backward === null) return undefined
  const word = forward?.[1] ?? backward?.[2] ?? ""
  const suffix = forward?.[2] ?? backward?.[1] ?? ""
  const isSeconds = family === "rate-limit" && suffix !== ""
  return { ...bare, part: parts.get(word) ?? "limit", ...sumOf(suffix, isTokens), isSeconds }
}

/** The limits of its tiers and of subscriptions are of pools of their own, which bind nobody who does not use them. */
const ofAnthropic = (family: string, sum: string, part: Part): Named => {
  if (family === "ratelimit" && !sum.startsWith("unified")) return { ...bare, part, ...sumOf(sum, false) }
  const policy = family === "ratelimit" ? sum : `${family}-${sum}`
  return { ...bare, part, id: policy, ...beside("other", policy) }
}

/** What `requests`, `tokens-minute`, `req-10-second`, `project-tokens` or `dynamic` speak of. */
const sumOf = (
  suffix: string,
  isTokens: boolean
): Pick<Named, "id" | "dimension" | "policy" | "windowSeconds" | "isPart" | "isDynamic" | "isNamed"> => {
  const id = isTokens ? `tokens:${suffix}` : suffix
  const isDynamic = suffix === "dynamic" || suffix.endsWith("-dynamic")
  const plain = suffix.replaceAll("_", "-").replace(/-?dynamic$/, "")
  const timed = /^(?:(.+?)-)?(?:per-)?(?:(\d{1,6})-?)?(second|sec|minute|min|hour|day|week|month)s?$/.exec(plain)
  const word = timed === null ? plain : timed[1] ?? ""
  const windowSeconds = timed === null ? undefined : Number(timed[2] ?? 1) * (spans.get(timed[3]!) ?? 1)
  const dimension = word === "" ? isTokens ? "tokens" : "requests" : words.get(word)
  const named = { id, windowSeconds, isDynamic, isNamed: word !== "" || isTokens || timed !== null }
  if (dimension !== undefined) {
    const isPart = (windowSeconds ?? 0) >= daySeconds
    return { ...named, dimension, policy: isDynamic ? "dynamic" : isPart ? suffix : undefined, isPart }
  }
  const last = /(?:^|-)(requests|tokens|tokens-usage-based)$/.exec(word)?.[1]
  return { ...named, ...beside(last === undefined ? "other" : last === "requests" ? last : "tokens", suffix) }
}

const beside = (dimension: Named["dimension"], policy: string) => ({ dimension, policy, isPart: true }) as const

const bare: Named = {
  part: "limit",
  id: "",
  dimension: "requests",
  policy: undefined,
  windowSeconds: undefined,
  isPart: false,
  isDynamic: false,
  isNamed: false,
  isSeconds: false
}

const parts: ReadonlyMap<string, Part> = new Map([
  ["limit", "limit"],
  ["remaining", "remaining"],
  ["used", "used"],
  ["observed", "used"],
  ["reset", "reset"],
  ["reset-after", "resetAfter"],
  ["renewalperiod", "window"],
  ["window-size", "window"]
])

const words: ReadonlyMap<string, Dimension> = new Map([
  ...["requests", "request", "req", "calls", "queries"].map((word) => [word, "requests"] as const),
  ...["tokens", "token"].map((word) => [word, "tokens"] as const),
  ...["input-tokens", "tokens-input", "prompt-tokens", "tokens-prompt"].map((word) => [word, "inputTokens"] as const),
  ...["output-tokens", "tokens-output", "completion-tokens", "tokens-generated"].map((word) =>
    [word, "outputTokens"] as const
  ),
  ...["concurrency", "concurrent", "concurrent-requests"].map((word) => [word, "concurrency"] as const)
])

const daySeconds = 86_400

const spans: ReadonlyMap<string, number> = new Map([
  ["second", 1],
  ["sec", 1],
  ["minute", 60],
  ["min", 60],
  ["hour", 3600],
  ["day", daySeconds],
  ["week", 7 * daySeconds],
  ["month", 30 * daySeconds]
])

/** Names that follow no grammar: Cohere, Shopify, Basecamp. */
const odd: ReadonlyMap<string, Named> = new Map([
  ["x-trial-endpoint-call-limit", { ...bare, part: "limit", id: "trial", windowSeconds: 60 }],
  ["x-trial-endpoint-call-remaining", { ...bare, part: "remaining", id: "trial", windowSeconds: 60 }],
  ["x-shopify-shop-api-call-limit", { ...bare, part: "pair", id: "shop" }],
  ["x-ratelimit", { ...bare, part: "json", id: "json" }]
])

/** Longer than any name seen. */
const mostName = 100

/** A process sees a few hundred names of headers, most of them again with each response. */
const mostRemembered = 2048

const remembered = new Map<string, Named | null>()
