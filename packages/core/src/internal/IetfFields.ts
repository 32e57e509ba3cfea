/**
 * The fields `RateLimit` and `RateLimit-Policy` of the IETF drafts, read and written.
 *
 * Here belong the grammars that the drafts 05 to 11 gave to one and the same name, told apart by the shape that was
 * parsed. The trio `RateLimit-Limit`, `-Remaining`, `-Reset` of the older drafts is read by name, like everybody's.
 *
 * **Details**
 *
 * A malformed field is ignored as a whole, as the drafts ask.
 *
 * **Source**
 *
 * draft-ietf-httpapi-ratelimit-headers, 03 to 11.
 */
import type { Dimension } from "../Demand.ts"
import type { LimitReading, Policy } from "../Outcome.ts"
import * as StructuredFields from "../StructuredFields.ts"

/** What the fields of one response say; the names of those that are malformed. */
export interface Fields {
  readonly limits: ReadonlyArray<LimitReading>
  readonly policies: ReadonlyArray<Policy>
  readonly malformed: ReadonlyArray<"ratelimit" | "ratelimit-policy">
}

/**
 * Reads both fields.
 *
 * **Details**
 *
 * Of several limits on one sum the one with the least left is first, and the others stand beside it.
 */
export const read = (rateLimit: string | undefined, rateLimitPolicy: string | undefined): Fields => {
  const policies = rateLimitPolicy === undefined ? [] : policiesOf(rateLimitPolicy)
  const limits = rateLimit === undefined ? [] : limitsOf(rateLimit, policies ?? [])
  return {
    limits: limits ?? [],
    policies: policies ?? [],
    malformed: [
      ...(limits === undefined ? ["ratelimit" as const] : []),
      ...(policies === undefined ? ["ratelimit-policy" as const] : [])
    ]
  }
}

/**
 * Writes both fields, after draft 10.
 *
 * **Details**
 *
 * A limit without a policy's name is called after its sum. Figures are whole: limits and what remains are rounded down,
 * times up. A limit over less than a second is told over one.
 */
export const write = (limits: ReadonlyArray<LimitReading>): Record<string, string> => {
  const items = limits.slice(0, mostMembers).flatMap((limit) => {
    const unit = unitOf(limit.dimension)
    return unit === undefined ? [] : [{ limit, unit, name: limit.policy ?? limit.dimension }]
  })
  const policies = items.flatMap(({ limit, name, unit }) =>
    isCount(limit.limit) ? [item(name, policyParameters(limit, unit, limit.limit))] : []
  )
  const left = items.flatMap(({ limit, name }) =>
    isCount(limit.remaining)
      ? [item(name, [["r", Math.floor(limit.remaining)], ["t", rounded(limit.resetSeconds)]])]
      : []
  )
  const headers: Record<string, string> = {}
  for (const [field, members] of [["ratelimit-policy", policies], ["ratelimit", left]] as const) {
    // One that cannot be written, for its name, does not take the others with it.
    const texts = members.flatMap((member) => StructuredFields.serializeList([member]) ?? [])
    if (texts.length > 0) headers[field] = texts.join(", ")
  }
  return headers
}

type Parameter = readonly [key: string, value: number | string | undefined]

const policyParameters = (limit: LimitReading, unit: string, quota: number): ReadonlyArray<Parameter> => {
  const { windowSeconds } = limit
  const isShort = windowSeconds !== undefined && windowSeconds > 0 && windowSeconds < 1
  return [
    ["q", Math.floor(isShort ? quota / windowSeconds : quota)],
    ["qu", unit === "requests" ? undefined : unit],
    ["w", isShort ? 1 : rounded(windowSeconds)]
  ]
}

const item = (name: string, parameters: ReadonlyArray<Parameter>): StructuredFields.Item => ({
  _tag: "Item",
  bare: { _tag: "String", value: name },
  parameters: new Map(
    parameters.flatMap(([key, value]) =>
      value === undefined
        ? []
        : [[key, typeof value === "number" ? { _tag: "Integer", value } : { _tag: "String", value }] as const]
    )
  )
})

/** After drafts 08 to 11 a list of named strings, after 05 to 07 one of integers. */
const policiesOf = (text: string): ReadonlyArray<Policy> | undefined => {
  const list = StructuredFields.parseList(text)
  if (list === undefined || list.length === 0 || list.length > mostMembers) return undefined
  const policies: Array<Policy> = []
  for (const member of list) {
    const policy = member._tag === "Item" ? policyOf(member) : undefined
    if (policy === undefined) return undefined
    policies.push(policy)
  }
  return policies
}

const policyOf = ({ bare, parameters }: StructuredFields.Item): Policy | undefined => {
  const isNamed = bare._tag === "String"
  const quota = isNamed ? count(parameters, "q") : bare._tag === "Integer" && bare.value >= 0 ? bare.value : undefined
  const windowSeconds = count(parameters, "w")
  const unit = parameters.get("qu")
  if (typeof quota !== "number" || windowSeconds === malformed || windowSeconds === 0) return undefined
  if (unit !== undefined && (unit._tag !== "String" || unit.value.length > mostName)) return undefined
  if (isNamed && bare.value.length > mostName) return undefined
  const partition = partitionOf(parameters)
  return partition === undefined ? undefined : {
    ...(isNamed ? { name: bare.value } : {}),
    limit: quota,
    ...(windowSeconds === undefined ? {} : { windowSeconds }),
    ...(unit === undefined ? {} : { unit: unit.value }),
    ...partition
  }
}

/** The partition that a limit is of, where one is told; undefined where it is malformed. */
const partitionOf = (parameters: StructuredFields.Parameters): { readonly partitionKey?: string } | undefined => {
  const key = parameters.get("pk")
  if (key === undefined) return {}
  return key._tag === "Bytes" && key.base64.length <= mostName ? { partitionKey: key.base64 } : undefined
}

/** After drafts 08 to 11 a list of named strings, after 07 a dictionary. */
const limitsOf = (text: string, policies: ReadonlyArray<Policy>): ReadonlyArray<LimitReading> | undefined => {
  const list = StructuredFields.parseList(text)
  if (list === undefined) return combined(text, policies)
  if (list.length === 0 || list.length > mostMembers) return undefined
  const limits: Array<LimitReading> = []
  for (const member of list) {
    const limit = member._tag === "Item" ? limitOf(member, policies) : undefined
    if (limit === undefined) return undefined
    limits.push(limit)
  }
  const sorted = limits.sort((a, b) => (a.remaining ?? Infinity) - (b.remaining ?? Infinity))
  return sorted.map((limit, at) =>
    sorted.findIndex(({ dimension }) => dimension === limit.dimension) === at
      ? limit
      : { ...limit, aside: true as const }
  )
}

const limitOf = (
  { bare, parameters }: StructuredFields.Item,
  policies: ReadonlyArray<Policy>
): LimitReading | undefined => {
  const remaining = count(parameters, "r")
  const resetSeconds = count(parameters, "t")
  const partition = partitionOf(parameters)
  if (
    bare._tag !== "String" || bare.value.length > mostName || typeof remaining !== "number" ||
    resetSeconds === malformed
  ) return undefined
  if (partition === undefined) return undefined
  const policy = policies.find(({ name }) => name === bare.value)
  return {
    dimension: dimensionOf(policy?.unit),
    policy: bare.value,
    remaining,
    ...(resetSeconds === undefined ? {} : { resetSeconds }),
    ...partition,
    ...told(policy)
  }
}

/** `limit=100, remaining=50, reset=5`. */
const combined = (text: string, policies: ReadonlyArray<Policy>): ReadonlyArray<LimitReading> | undefined => {
  const dictionary = StructuredFields.parseDictionary(text)
  if (dictionary === undefined) return undefined
  const figures = new Map(
    [...dictionary].flatMap(([key, member]) => member._tag === "Item" ? [[key, member.bare]] : [])
  )
  const limit = count(figures, "limit")
  const remaining = count(figures, "remaining")
  const resetSeconds = count(figures, "reset")
  if (limit === malformed || remaining === malformed || resetSeconds === malformed) return undefined
  if (limit === undefined && remaining === undefined) return undefined
  return [{
    dimension: "requests",
    ...(limit === undefined ? {} : { limit }),
    ...(remaining === undefined ? {} : { remaining }),
    ...(resetSeconds === undefined ? {} : { resetSeconds }),
    ...toldOfFigure(limit, policies)
  }]
}

/** What the policy of a limit tells: older drafts join them by their figure. */
export const toldOfFigure = (limit: number | undefined, policies: ReadonlyArray<Policy>): Told => {
  const same = policies.filter((policy) => policy.limit === limit && policy.name === undefined)
  return told(same.length === 1 ? same[0] : undefined)
}

type Told = Pick<LimitReading, "limit" | "windowSeconds" | "ratePerSecond">

const told = (policy: Policy | undefined): Told =>
  policy === undefined
    ? {}
    : policy.windowSeconds === undefined
    ? { limit: policy.limit }
    : {
      limit: policy.limit,
      windowSeconds: policy.windowSeconds,
      ratePerSecond: policy.limit / policy.windowSeconds
    }

/** A count of zero or more; undefined where there is none. */
const count = (parameters: StructuredFields.Parameters, key: string): number | typeof malformed | undefined => {
  const bare = parameters.get(key)
  if (bare === undefined) return undefined
  return bare._tag === "Integer" && bare.value >= 0 ? bare.value : malformed
}

const malformed = "malformed"

const dimensionOf = (unit: string | undefined): LimitReading["dimension"] =>
  unit === undefined || unit === "request" ? "requests" : units.find(([, name]) => name === unit)?.[0] ?? "other"

const unitOf = (dimension: LimitReading["dimension"]): string | undefined =>
  units.find(([name]) => name === dimension)?.[1]

/** `requests` and `concurrent-requests` are registered by the draft; tokens are not. */
const units: ReadonlyArray<readonly [Dimension, string]> = [
  ["requests", "requests"],
  ["tokens", "tokens"],
  ["inputTokens", "input-tokens"],
  ["outputTokens", "output-tokens"],
  ["concurrency", "concurrent-requests"]
]

const isCount = (figure: number | undefined): figure is number =>
  figure !== undefined && figure >= 0 && figure < mostWritten

const rounded = (figure: number | undefined): number | undefined => (isCount(figure) ? Math.ceil(figure) : undefined)

/** Limits in one field that are written; a field with more is taken for malformed. */
const mostMembers = 64

/** Characters of a name, a unit or a key of a partition; a field with a longer one is taken for malformed. */
const mostName = 200

/** The longest integer that a structured field can hold. */
const mostWritten = 1e15
