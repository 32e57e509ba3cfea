/**
 * The bytes of a body as text, inflated where the provider compressed them.
 *
 * Here belongs telling whether bytes are text or compressed, and inflating the beginning of them. What the text means is
 * core's to tell.
 *
 * **Source**
 *
 * RFC 9110 section 8.4 and the registry of content codings; RFC 1950, 1951, 1952, 7932 and 8878.
 */
import * as zlib from "node:zlib"

/**
 * The text of a body; or, where it could not be read, how it is compressed.
 *
 * **Details**
 *
 * What was inflated is cut to 64 KiB. `curl --compressed` leaves the header and inflates the body: text is left as it is.
 */
export const read = (
  bytes: Buffer,
  contentEncoding: string | undefined
): { readonly text: string } | { readonly unread: string } => {
  const codings = codingsOf(bytes, contentEncoding)
  if (codings.length === 0 || isText(bytes)) return { text: bytes.toString("utf8") }
  const trimmed = withoutLineEnd(bytes)
  const isEnded = !isWhole(bytes, contentEncoding) && isWhole(trimmed, contentEncoding)
  const inflated = inflateAll(isEnded ? trimmed : bytes, codings)
  return inflated !== undefined && isText(inflated)
    ? { text: inflated.toString("utf8") }
    : { unread: codings.join(", ") }
}

/** Are these the bytes of a compressed body, all of them and nothing else? */
export const isWhole = (bytes: Buffer, contentEncoding: string | undefined): boolean => {
  const last = codingsOf(bytes, contentEncoding).at(-1)
  const ways = last === undefined ? undefined : inflaters.get(last)
  if (ways === undefined || isText(bytes)) return false
  return ways.some((inflate) => {
    try {
      inflate(bytes, { maxOutputLength: mostInflated })
      return true
    } catch {
      return false
    }
  })
}

/** The codings that were applied, in their order. Gzip is known by its first bytes as well. */
const codingsOf = (bytes: Buffer, contentEncoding: string | undefined): ReadonlyArray<string> => {
  const told = (contentEncoding ?? "").toLowerCase().split(",").map((coding) => coding.trim())
  const codings = told.filter((coding) => coding !== "" && coding !== "identity")
  return codings.length === 0 && bytes[0] === 0x1f && bytes[1] === 0x8b ? ["gzip"] : codings
}

const inflateAll = (bytes: Buffer, codings: ReadonlyArray<string>): Buffer | undefined => {
  let whole: Buffer | undefined = bytes
  for (const coding of codings.slice(-mostCodings).reverse()) {
    const compressed: Buffer | undefined = whole
    whole = compressed === undefined
      ? undefined
      : inflaters.get(coding)?.map((inflate) => inflateStart(compressed, inflate)).find((each) => each !== undefined)
  }
  return whole?.subarray(0, mostKept)
}

/**
 * The beginning of what is compressed. The input is doubled until enough came out of it, so that a few bytes which inflate
 * to gigabytes cost no more than a megabyte.
 */
const inflateStart = (bytes: Buffer, inflate: Inflate): Buffer | undefined => {
  let kept: Buffer | undefined
  for (let length = firstTried;; length *= 2) {
    try {
      kept = inflate(bytes.subarray(0, length), { maxOutputLength: mostInflated, isCut: true })
    } catch {
      // What came out of a shorter beginning stands: something else follows.
      return kept === undefined || kept.length === 0 ? undefined : kept
    }
    if (length >= bytes.length || kept.length >= mostKept) return kept.length === 0 ? undefined : kept
  }
}

/** Text is valid UTF-8, though it may be cut at its end, and holds no control character but those of lines. */
const isText = (bytes: Buffer): boolean => {
  const text = bytes.subarray(0, mostKept).toString("utf8")
  return !binary.test(text.slice(0, -1)) && !control.test(text.slice(-1))
}

const withoutLineEnd = (bytes: Buffer): Buffer => {
  let end = bytes.length
  while (end > 0 && (bytes[end - 1] === 0x0a || bytes[end - 1] === 0x0d)) end--
  return bytes.subarray(0, end)
}

/** Control characters that end no line. */
const control = /(?![\t\n\r])\p{Cc}/u

/** What no text holds: those, and what stands for bytes that are no UTF-8. */
const binary = /(?![\t\n\r])\p{Cc}|\ufffd/u

type Inflate = (bytes: Buffer, options: { readonly maxOutputLength: number; readonly isCut?: boolean }) => Buffer

const { BROTLI_OPERATION_FINISH, BROTLI_OPERATION_FLUSH, Z_FINISH, Z_SYNC_FLUSH, ZSTD_e_end, ZSTD_e_flush } =
  zlib.constants

type Decompress = (bytes: Buffer, options: { readonly maxOutputLength: number; readonly finishFlush: number }) => Buffer

/** What is cut is flushed rather than finished, which would fail. */
const inflater = (decompress: Decompress, finish: number, flush: number): Inflate => (bytes, options) =>
  decompress(bytes, {
    maxOutputLength: options.maxOutputLength,
    finishFlush: options.isCut === true ? flush : finish
  })

const gunzip = inflater(zlib.gunzipSync, Z_FINISH, Z_SYNC_FLUSH)

const inflate = inflater(zlib.inflateSync, Z_FINISH, Z_SYNC_FLUSH)

const inflateRaw = inflater(zlib.inflateRawSync, Z_FINISH, Z_SYNC_FLUSH)

const unbrotli = inflater(zlib.brotliDecompressSync, BROTLI_OPERATION_FINISH, BROTLI_OPERATION_FLUSH)

const unzstd = inflater(zlib.zstdDecompressSync, ZSTD_e_end, ZSTD_e_flush)

/** Many that say deflate send it without the wrapper that the word means. */
const inflaters: ReadonlyMap<string, ReadonlyArray<Inflate>> = new Map([
  ["gzip", [gunzip]],
  ["x-gzip", [gunzip]],
  ["deflate", [inflate, inflateRaw]],
  ["br", [unbrotli]],
  ["zstd", [unzstd]]
])

/** Bytes of text that are kept: as many as core looks at. */
const mostKept = 65_536

/** Bytes that may come out at once. */
const mostInflated = 2 ** 20

/** Bytes tried at first; at the most that deflate can do, they give 33,000. */
const firstTried = 32

/** More codings of one body are no answer but an attack. */
const mostCodings = 2
