/**
 * What was learned of each key, kept in the user's state directory from one run to the next.
 *
 * Here belongs the file: where it lies, how it is read and replaced. What a lesson means belongs to the controller that
 * made it. It is a convenience: a file that can not be read or written is said so and costs nothing else.
 */
import type { Learned } from "@evenkeel/core/RateController"
import type * as Telemetry from "@evenkeel/core/Telemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as UserDirectories from "effect/persistence/UserDirectories"
import * as Schema from "effect/Schema"
import * as fs from "node:fs/promises"
import * as path from "node:path"

/** What a `PaceStore` in memory starts from. */
export type Lessons = ReadonlyMap<string, { readonly learned: Learned; readonly ageMillis: number }>

const File = Schema.Struct({
  version: Schema.Literal(1),
  keys: Schema.Record(
    Schema.String,
    Schema.Struct({
      savedAtMillis: Schema.Number,
      learned: Schema.Record(Schema.String, Schema.Unknown)
    })
  )
})

type File = typeof File.Type

/**
 * The lessons of earlier runs; none where there is no file or it can not be read.
 *
 * **Units**
 *
 * Ages in milliseconds of wall-clock time, never negative.
 */
export const load: Effect.Effect<Lessons> = Effect.gen(function*() {
  const now = yield* Clock.currentTimeMillis
  const file = yield* read
  return new Map(
    Object.entries(file.keys).map(([key, { learned, savedAtMillis }]) => [
      key,
      { learned, ageMillis: Math.max(0, now - savedAtMillis) }
    ])
  )
})

/**
 * Adds what a pacer has learned.
 *
 * **Details**
 *
 * The file is replaced in one step, so that two runs at once never leave half a file; of both, the later one counts for
 * keys that both used. It keeps the 1,000 keys that were saved last.
 */
export const save = (snapshot: Telemetry.Snapshot): Effect.Effect<void> =>
  Effect.gen(function*() {
    const fresh = snapshot.keys.filter((key) => key.learned !== null)
    if (fresh.length === 0) return
    const now = yield* Clock.currentTimeMillis
    const file = yield* read
    const keys = {
      ...file.keys,
      ...Object.fromEntries(fresh.map((key) => [key.key, { savedAtMillis: now, learned: key.learned ?? {} }]))
    }
    const newest = Object.entries(keys).sort(([, a], [, b]) => b.savedAtMillis - a.savedAtMillis).slice(0, maxKeys)
    const place = yield* location
    yield* Effect.tryPromise(async () => {
      await fs.mkdir(path.dirname(place), { recursive: true, mode: 0o700 })
      const draft = `${place}.${process.pid}`
      try {
        await fs.writeFile(draft, JSON.stringify({ version: 1, keys: Object.fromEntries(newest) }), { mode: 0o600 })
        await fs.rename(draft, place)
      } finally {
        await fs.rm(draft, { force: true })
      }
    })
  }).pipe(Effect.catchCause(() => Effect.logDebug("what was learned could not be kept")))

const location = Effect.gen(function*() {
  const directories = yield* UserDirectories.UserDirectories
  return path.join(yield* directories.state("evenkeel"), "learned.json")
}).pipe(Effect.provide(UserDirectories.layer))

const empty: File = { version: 1, keys: {} }

const read: Effect.Effect<File> = Effect.gen(function*() {
  const place = yield* location
  const text = yield* Effect.tryPromise(() => fs.readFile(place, "utf8"))
  return yield* Schema.decodeUnknownEffect(Schema.fromJsonString(File))(text)
}).pipe(Effect.catchCause(() => Effect.succeed(empty)))

/** Keys that the file keeps: a few hundred bytes each. */
const maxKeys = 1_000
