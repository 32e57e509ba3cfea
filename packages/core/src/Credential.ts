/**
 * A credential's name: a digest that all processes and tabs agree on, and from which the secret can not be told.
 *
 * Here belongs naming a secret. The secret itself goes no further than the request that carries it: keys, stores, events
 * and messages know only the digest.
 *
 * **Source**
 *
 * HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the secret under a fixed public label, the first 16 hex digits.
 */
import { hmac } from "@noble/hashes/hmac.js"
import { sha256 } from "@noble/hashes/sha2.js"
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js"

/** The name of calls that carry no credential. */
export const anonymous = "anonymous"

/**
 * The digest of a secret.
 *
 * **Example** (The same secret, the same name)
 *
 * ```ts
 * import * as Credential from "@evenkeel/core/Credential"
 *
 * Credential.digest("a secret") // => "d9ce95e79676d772"
 * Credential.digest("") // => "anonymous"
 * ```
 */
export const digest = (secret: string): string => {
  if (secret === "") return anonymous
  const known = names.get(secret)
  if (known !== undefined) return known
  const name = bytesToHex(hmac(sha256, utf8ToBytes(label), utf8ToBytes(secret))).slice(0, 16)
  if (names.size >= maxNames) names.clear()
  names.set(secret, name)
  return name
}

const label = "evenkeel organisation"

/** Digests are remembered, so that a call costs no hash. */
const names = new Map<string, string>()

/** Credentials remembered by one process; past it they are computed anew. */
const maxNames = 1_000
