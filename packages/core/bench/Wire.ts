/**
 * What reading an answer costs, beside `JSON.parse` of a chat answer and beside `ratelimit-header-parser`, in one process
 * and interleaved.
 *
 * Here belongs the measurement and its table; run it with `pnpm bench:wire`. Ratios compare rows of one round, so that a
 * machine that speeds up or slows down moves both. The other parser reads one limit with one spelling; where it knows none
 * of the names its row is the cost of finding that out.
 */
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import { parseRateLimit } from "ratelimit-header-parser"

const rounds = 25

/** A few milliseconds for each row of a round. */
const calls = 2000

const nowMillis = Date.UTC(2026, 8, 2, 12)

/** What stands beside the limits in an answer of OpenAI's, as recorded. */
const others = {
  date: "Wed, 02 Sep 2026 12:00:00 GMT",
  "content-type": "application/json",
  "transfer-encoding": "chunked",
  connection: "keep-alive",
  "access-control-expose-headers": "X-Request-ID",
  "openai-organization": "user-acme",
  "openai-processing-ms": "612",
  "openai-project": "proj_abcdefghijklmnopqrstuvwx",
  "openai-version": "2020-10-01",
  "x-envoy-upstream-service-time": "640",
  "x-request-id": "req_0123456789abcdef0123456789abcdef",
  "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
  "cf-cache-status": "DYNAMIC",
  "set-cookie": "__cf_bm=0123456789abcdef; path=/; expires=Wed, 02-Sep-26 12:30:00 GMT; HttpOnly; Secure",
  "x-content-type-options": "nosniff",
  server: "cloudflare",
  "cf-ray": "0123456789abcdef-FRA",
  "content-encoding": "br",
  "alt-svc": "h3=\":443\"; ma=86400"
}

const families = {
  openai: {
    ...others,
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "199984",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-reset-tokens": "4ms"
  },
  together: {
    ...others,
    "x-ratelimit-limit": "10",
    "x-ratelimit-remaining": "9",
    "x-ratelimit-reset": "1",
    "x-tokenlimit-limit": "3000",
    "x-tokenlimit-remaining": "2512",
    "x-ratelimit-limit-dynamic": "8"
  },
  anthropic: {
    ...others,
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-09-02T12:00:00Z",
    "anthropic-ratelimit-tokens-limit": "480000",
    "anthropic-ratelimit-tokens-remaining": "479000",
    "anthropic-ratelimit-tokens-reset": "2026-09-02T12:00:01Z"
  },
  trio: { ...others, "x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4987", "x-ratelimit-reset": "1788350400" },
  "draft 07": { ...others, ratelimit: "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=10" },
  "draft 10": { ...others, ratelimit: "\"default\";r=50;t=30", "ratelimit-policy": "\"default\";q=100;w=60" }
} as const

const chat = JSON.stringify({
  id: "chatcmpl-0123456789abcdef",
  object: "chat.completion",
  created: 1788350400,
  model: "gpt-4o-mini-2024-07-18",
  choices: [{
    index: 0,
    message: {
      role: "assistant",
      content: "An even keel keeps a ship upright. ".repeat(17) + "It does so.".repeat(2),
      refusal: null
    },
    logprobs: null,
    finish_reason: "stop"
  }],
  usage: {
    prompt_tokens: 45,
    completion_tokens: 120,
    total_tokens: 165,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 }
  },
  system_fingerprint: "fp_0123456789"
})

const refusal = JSON.stringify({
  error: {
    message:
      "Rate limit reached for gpt-4o in organization org-acme on tokens per min (TPM): Limit 30000, Used 29000, " +
      "Requested 2000. Please try again in 2s. Visit https://platform.openai.com/account/rate-limits to learn more.",
    type: "tokens",
    param: null,
    code: "rate_limit_exceeded"
  }
})

interface Row {
  readonly what: string
  readonly call: () => unknown
  /** The row of the other parser on the same headers. */
  readonly beside?: string
}

const reading = (profile: string, family: keyof typeof families): Row => {
  const { dialect } = ProviderProfile.named(profile)!
  const headers = families[family]
  return {
    what: `read ${family}, as ${profile}`,
    call: () => RateLimitHeaders.read(headers, { dialect, status: 200, nowMillis }),
    beside: `other parser, ${family}`
  }
}

const judging = (profile: string, status: number, body?: string): Row => {
  const { classify } = ProviderProfile.named(profile)!
  return {
    what: `classify ${status}, as ${profile}`,
    call: () => classify({ status, headers: families.openai, body, nowMillis }),
    beside: "other parser, openai"
  }
}

const baseline = `JSON.parse of ${chat.length} characters`

const rows: ReadonlyArray<Row> = [
  { what: baseline, call: () => JSON.parse(chat) },
  ...(["openai", "together", "anthropic", "trio", "draft 07", "draft 10"] as const).map((family): Row => ({
    what: `other parser, ${family}`,
    call: () => parseRateLimit(families[family])
  })),
  reading("openai", "openai"),
  reading("generic", "openai"),
  reading("together", "together"),
  reading("anthropic", "anthropic"),
  reading("github", "trio"),
  reading("ietf", "draft 07"),
  reading("ietf", "draft 10"),
  judging("openai", 200),
  judging("openai", 429, refusal),
  judging("generic", 429, refusal)
]

/** What calls gave last, kept so that no call can be left out. */
let kept: unknown

const nanosOf = (call: () => unknown): number => {
  const start = performance.now()
  for (let i = 0; i < calls; i++) kept = call()
  return ((performance.now() - start) * 1e6) / calls
}

const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN

/** A ratio of two rows: its median, and from where to where nine in ten rounds lie. */
const ratio = (nanos: ReadonlyArray<number>, others: ReadonlyArray<number> | undefined): string => {
  if (others === undefined) return ""
  const ratios = nanos.map((value, round) => value / others[round]!).toSorted((a, b) => a - b)
  const at = (part: number) => (ratios[Math.floor(part * (ratios.length - 1))] ?? NaN).toFixed(2)
  return `${at(0.5)} (${at(0.05)} to ${at(0.95)})`
}

const measured = new Map<string, Array<number>>(rows.map(({ what }) => [what, []]))
for (let round = -5; round < rounds; round++) {
  for (const { call, what } of rows) {
    const nanos = nanosOf(call)
    // The first rounds warm up.
    if (round >= 0) measured.get(what)!.push(nanos)
  }
}

const line = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, column) => (column === 0 ? cell.padEnd(32) : cell.padStart(column === 1 ? 8 : 24))).join("")

console.log(line(["", "ns/call", "to JSON.parse", "to other parser"]))
for (const { beside, what } of rows) {
  const nanos = measured.get(what)!
  console.log(line([
    what,
    median(nanos).toFixed(0),
    ratio(nanos, measured.get(baseline)),
    ratio(nanos, beside === undefined ? undefined : measured.get(beside))
  ]))
}
if (kept === undefined) throw new Error("nothing was read")
