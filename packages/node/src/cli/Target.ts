/**
 * Where requests go, and with which key: the flags that `run` and `limits` share.
 *
 * Here belongs deciding whether a secret may be sent to a host. A key goes to its own provider and to this machine; any
 * other host must be given one by name, so that a mistyped URL never receives somebody's key.
 */
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as FlagText from "./FlagText.ts"
import type { UserError } from "./UserError.ts"

/** The flags. */
export const flags = {
  baseUrl: FlagText.optional("base-url", "URL", `Base URL of the API (default https://api.together.xyz/v1)`),
  apiKeyEnv: FlagText.optional(
    "api-key-env",
    "NAME",
    "Variable that holds the API key (default TOGETHER_API_KEY, for together.xyz, together.ai and this machine)"
  ),
  header: FlagText.repeated("header", "K:V", "A header to send with every request"),
  provider: FlagText.optional("provider", "NAME", "Whose API it is, for its headers and errors (default: by its host)")
}

/** Where requests go. The headers hold the key: they are for requests only. */
export interface Target {
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
  readonly profile: ProviderProfile.ProviderProfile
  readonly keyName: string | undefined
}

/**
 * Reads the flags.
 *
 * **Errors**
 *
 * `UserError` (2) for a URL that is none, a key that is missing or would go to a host that it is not for, a header that
 * can not be sent, a provider that is not known.
 */
export const read = Effect.fnUntraced(function*(typed: {
  readonly baseUrl: Option.Option<string>
  readonly apiKeyEnv: Option.Option<string>
  readonly header: ReadonlyArray<string>
  readonly provider: Option.Option<string>
}): Effect.fn.Return<Target, UserError> {
  const url = yield* readUrl(Option.getOrElse(typed.baseUrl, () => defaultBaseUrl))
  const named = Option.isNone(typed.provider) ? undefined : yield* profileNamed(typed.provider.value)
  const given = Object.fromEntries(yield* Effect.forEach(typed.header, readHeader))
  const local = isLoopback(url.hostname)
  const keyName = Option.getOrElse(typed.apiKeyEnv, () => defaultKeyName)
  const keyIsNamed = Option.isSome(typed.apiKeyEnv)
  const key = keyIsNamed || local || isTogether(url.hostname) ? FlagText.secret(keyName) : undefined
  if (key === undefined && given["authorization"] === undefined) {
    if (keyIsNamed || isTogether(url.hostname)) {
      return yield* FlagText.mistake(
        "api-key-env",
        `the environment variable ${keyName} is not set; set it to the API key`
      )
    }
    if (!local) {
      return yield* FlagText.mistake(
        "api-key-env",
        `${url.hostname} needs a key of its own; name the variable that holds it (${defaultKeyName} is not sent there)`
      )
    }
  }
  if (key !== undefined && url.protocol === "http:" && !local) {
    return yield* FlagText.mistake("base-url", `a key is not sent over http to ${url.hostname}; use https`)
  }
  if (key !== undefined && !/^[\x21-\x7e]+$/.test(Redacted.value(key))) {
    return yield* FlagText.mistake("api-key-env", `${keyName} holds characters that no key has`)
  }
  const authorization = key === undefined ? {} : { authorization: `Bearer ${Redacted.value(key)}` }
  return {
    baseUrl: url.href.replace(/\/+$/, ""),
    headers: { ...authorization, ...given },
    profile: named ?? ProviderProfile.forHost(url.hostname),
    keyName: key === undefined ? undefined : keyName
  }
})

/**
 * The profile that a flag names.
 *
 * **Errors**
 *
 * `UserError` (2), with the names that are known.
 */
export const profileNamed = (name: string): Effect.Effect<ProviderProfile.ProviderProfile, UserError> => {
  const profile = ProviderProfile.named(name)
  if (profile !== undefined) return Effect.succeed(profile)
  const known = ["generic", ...ProviderProfile.all.map((each) => each.name)].sort().join(", ")
  return FlagText.mistake("provider", `"${name}" is not known; it is one of ${known}`)
}

const readUrl = (text: string): Effect.Effect<URL, UserError> => {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return FlagText.mistake("base-url", `"${text}" is not a URL such as ${defaultBaseUrl}`)
  }
  return url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== ""
    ? FlagText.mistake("base-url", "a base URL has no user, password, query or fragment")
    : Effect.succeed(url)
}

const readHeader = (text: string): Effect.Effect<readonly [string, string], UserError> => {
  const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e]*)$/.exec(text)
  const name = match?.[1]?.toLowerCase()
  if (match === null || name === undefined) return FlagText.mistake("header", "a header has the form Name: value")
  return connectionHeaders.has(name)
    ? FlagText.mistake("header", `${name} is set by the connection`)
    : Effect.succeed([name, match[2] ?? ""])
}

const connectionHeaders = new Set(["host", "content-length", "transfer-encoding", "connection", "content-type"])

const isTogether = (host: string): boolean => /(^|\.)together\.(xyz|ai)$/.test(host)

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host)

const defaultBaseUrl = "https://api.together.xyz/v1"

const defaultKeyName = "TOGETHER_API_KEY"
