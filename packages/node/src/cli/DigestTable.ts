/**
 * A map from texts to a few numbers each, for as many texts as a job has lines.
 *
 * Here belongs the table alone: 128-bit digests as keys, a digest, a status and a line number as values, all in typed
 * arrays. What the status means belongs to whoever keeps one. Texts are not kept: two that share a digest would be taken
 * for one, which for 128 bits of SHA-256 does not happen.
 *
 * **Source**
 *
 * Open addressing with linear probing (Knuth, TAOCP 3, 6.4, algorithm L) over an index of entry numbers; entries lie in
 * segments in the order of insertion, so that growing copies the small index only. About 50 bytes an entry, and no object.
 */
import * as crypto from "node:crypto"

/**
 * A table. Change it with `set` only.
 *
 * **Shape**
 *
 * `size` is the number of keys. `index` holds entry number + 1 for each slot, 0 for an empty slot; `segments` hold the
 * entries.
 */
export interface DigestTable {
  size: number
  index: Uint32Array
  readonly segments: Array<Uint32Array>
}

/** 128 bits, as four words. */
export type Digest = Uint32Array

/**
 * What a key maps to.
 *
 * **Units**
 *
 * `status` and `line` are whole numbers from 0 to 2³² − 1.
 */
export interface Entry {
  readonly digest: Digest
  readonly status: number
  readonly line: number
}

/** An empty table. */
export const make = (): DigestTable => ({ size: 0, index: new Uint32Array(firstSlots), segments: [] })

/**
 * The digest of a text.
 *
 * **Details**
 *
 * Of its UTF-8; a text with half a surrogate pair has none, and is told apart by a byte that UTF-8 never holds.
 */
export const digestOf = (text: string): Digest => {
  const bytes = loneSurrogate.test(text) ? Buffer.concat([Buffer.of(0xff), Buffer.from(text, "utf16le")]) : text
  // A character a byte: four times as fast as asking for a buffer.
  const hash = crypto.hash("sha256", bytes, "binary")
  return Uint32Array.of(wordAt(hash, 0), wordAt(hash, 4), wordAt(hash, 8), wordAt(hash, 12))
}

/**
 * The digest that 32 hex digits spell.
 *
 * **Errors**
 *
 * Throws a `RangeError` for any other text.
 */
export const digestFromHex = (hex: string): Digest => {
  if (!hexShape.test(hex)) throw new RangeError(`DigestTable.digestFromHex: not 32 hex digits: ${hex}`)
  const word = (start: number) => Number.parseInt(hex.slice(start, start + 8), 16)
  return Uint32Array.of(word(0), word(8), word(16), word(24))
}

/** Are two digests the same? */
export const equals = (self: Digest, that: Digest): boolean =>
  self[0] === that[0] && self[1] === that[1] && self[2] === that[2] && self[3] === that[3]

/** What the key maps to. */
export const get = (self: DigestTable, key: Digest): Entry | undefined => {
  const entry = self.index[slotOf(self, key)]! - 1
  if (entry === -1) return undefined
  const words = segmentOf(self, entry)
  const at = wordOf(entry)
  return {
    digest: words.slice(at + digestAt, at + digestAt + digestWords),
    status: words[at + statusAt]!,
    line: words[at + lineAt]!
  }
}

/**
 * Maps the key to an entry, in place of what it mapped to.
 *
 * **Errors**
 *
 * Throws a `RangeError` when a new key would make more than `maxSize`.
 */
export const set = (self: DigestTable, key: Digest, entry: Entry): void => {
  let slot = slotOf(self, key)
  if (self.index[slot] === 0) {
    if (self.size === maxSize) throw new RangeError(`DigestTable.set: more than ${maxSize} keys`)
    if (self.size + 1 > self.index.length * maxLoad) {
      grow(self)
      slot = slotOf(self, key)
    }
    if (self.size === self.segments.length * segmentEntries) {
      self.segments.push(new Uint32Array(segmentEntries * entryWords))
    }
    segmentOf(self, self.size).set(key, wordOf(self.size))
    self.size += 1
    self.index[slot] = self.size
  }
  const number = self.index[slot]! - 1
  const words = segmentOf(self, number)
  const at = wordOf(number)
  words.set(entry.digest, at + digestAt)
  words[at + statusAt] = entry.status
  words[at + lineAt] = entry.line
}

/**
 * The most keys of one table.
 *
 * **Units**
 *
 * Keys. 2²⁵ of them take 1.6 GB: a file of more lines is better cut in two.
 */
export const maxSize = 2 ** 25

const hexShape = /^[0-9a-f]{32}$/i

const loneSurrogate = /\p{Surrogate}/u

const wordAt = (bytes: string, at: number): number =>
  (bytes.charCodeAt(at) << 24) | (bytes.charCodeAt(at + 1) << 16) | (bytes.charCodeAt(at + 2) << 8) |
  bytes.charCodeAt(at + 3)

/** The slot that holds the key, or the empty slot where it belongs. There is always an empty one: see `maxLoad`. */
const slotOf = (self: DigestTable, key: Digest): number => {
  const mask = self.index.length - 1
  for (let slot = key[0]! & mask;; slot = (slot + 1) & mask) {
    const entry = self.index[slot]! - 1
    if (entry === -1) return slot
    const words = segmentOf(self, entry)
    const at = wordOf(entry)
    if (
      words[at] === key[0] && words[at + 1] === key[1] && words[at + 2] === key[2] && words[at + 3] === key[3]
    ) return slot
  }
}

/** Doubles the index. The keys are distinct, so each goes to the first empty slot. */
const grow = (self: DigestTable): void => {
  const index = new Uint32Array(self.index.length * 2)
  const mask = index.length - 1
  for (let entry = 0; entry < self.size; entry++) {
    let slot = segmentOf(self, entry)[wordOf(entry)]! & mask
    while (index[slot] !== 0) slot = (slot + 1) & mask
    index[slot] = entry + 1
  }
  self.index = index
}

const segmentOf = (self: DigestTable, entry: number): Uint32Array => self.segments[Math.floor(entry / segmentEntries)]!

const wordOf = (entry: number): number => (entry % segmentEntries) * entryWords

/** An entry is the key (4 words), the digest (4), the status and the line: 40 bytes. */
const digestAt = 4
const digestWords = 4
const statusAt = 8
const lineAt = 9
const entryWords = 10

/** 640 KB a segment: small against a job of a million lines, and a small job needs only one. */
const segmentEntries = 2 ** 14

/** A power of two, as the mask of `slotOf` needs; 4 KB. */
const firstSlots = 2 ** 10

/** Linear probing looks at 2.5 slots on a hit and 8.5 on a miss at this load, and every index keeps an empty slot. */
const maxLoad = 0.75
