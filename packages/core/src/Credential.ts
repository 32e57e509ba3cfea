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
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"

/** The name of calls that carry no credential, or where the platform can not compute a digest. */
export const anonymous = "anonymous"

/**
 * The digest of a secret.
 *
 * **Details**
 *
 * Where Web Crypto is missing (a page that is not served securely) all credentials share one name, so that they share one
 * pace: slower than need be, never faster than allowed.
 *
 * **Example** (The same secret, the same name)
 *
 * ```ts
 * import * as Credential from "@evenkeel/core/Credential"
 * import * as Effect from "effect/Effect"
 *
 * const name = await Effect.runPromise(Credential.digest("a secret"))
 *
 * name.length // => 16
 * name === await Effect.runPromise(Credential.digest("a secret")) // => true
 * ```
 */
export const digest = (secret: string): Effect.Effect<string> =>
  secret === "" ? Effect.succeed(anonymous) : Effect.suspend(() => {
    const known = names.get(secret)
    return known === undefined ? compute(secret) : Effect.succeed(known)
  })

const compute = (secret: string): Effect.Effect<string> =>
  Effect.gen(function*() {
    const mac = yield* Mac.Mac
    const key = yield* Mac.key(Mac.hmacSha256, utf8.encode(label))
    const tag = yield* mac.sign(key, utf8.encode(secret))
    const name = Hex.encode(tag).slice(0, 16)
    if (names.size >= maxNames) names.clear()
    names.set(secret, name)
    return name
  }).pipe(
    Effect.provide(Mac.layerWebCrypto.pipe(Layer.provide(SecureRandom.layerWebCrypto))),
    Effect.catchCause(() => Effect.succeed(anonymous))
  )

const utf8 = new TextEncoder()

const label = "evenkeel organisation"

/** Digests are remembered, so that a call costs no hash. */
const names = new Map<string, string>()

/** Credentials remembered by one process; past it they are computed anew. */
const maxNames = 1_000
