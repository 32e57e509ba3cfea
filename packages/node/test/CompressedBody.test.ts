import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as zlib from "node:zlib"
import * as CompressedBody from "../src/cli/CompressedBody.ts"

const ways: ReadonlyArray<readonly [string, (text: string) => Buffer]> = [
  ["gzip", zlib.gzipSync],
  ["X-GZip", zlib.gzipSync],
  ["deflate", zlib.deflateSync],
  ["deflate", zlib.deflateRawSync],
  ["br", zlib.brotliCompressSync],
  ["zstd", zlib.zstdCompressSync],
  ["deflate, gzip", (text) => zlib.gzipSync(zlib.deflateSync(text))]
]

const error = JSON.stringify({ error: { message: "Zu schnell – 慢点 ".repeat(9), type: "rate_limit_error" } })

describe("a compressed body", () => {
  it("is inflated by the coding that the header names, with or without a line end after it", () => {
    for (const [coding, compress] of ways) {
      assert.deepStrictEqual(CompressedBody.read(compress(error), coding), { text: error }, coding)
      const ended = Buffer.concat([compress(error), Buffer.from("\r\n")])
      assert.deepStrictEqual(CompressedBody.read(ended, coding), { text: error }, coding)
    }
    assert.deepStrictEqual(CompressedBody.read(zlib.gzipSync(error), undefined), { text: error })
  })

  it("is left as it is when curl has inflated it, though the header still stands", () => {
    for (const coding of ["gzip", "br", "deflate", "zstd", "odd", undefined, "identity"]) {
      assert.deepStrictEqual(CompressedBody.read(Buffer.from(error), coding), { text: error })
      assert.deepStrictEqual(CompressedBody.read(Buffer.alloc(0), coding), { text: "" })
    }
  })

  it("is said to be unread when it can not be inflated: of another coding, or broken on its way", () => {
    for (const coding of ["gzip", "br", "deflate", "zstd", "dcb", "gzip, gzip, gzip"]) {
      const broken = Buffer.from(zlib.gzipSync(error).toString("utf8"))
      assert.deepStrictEqual(CompressedBody.read(broken, coding), { unread: coding })
    }
  })

  it("costs no more than its beginning, however much would come out of it", () => {
    for (const [coding, compress] of ways.slice(0, 6)) {
      const long = "0123456789".repeat(30_000)
      const { text } = CompressedBody.read(compress(long), coding) as { readonly text: string }
      assert.strictEqual(text, long.slice(0, 65_536), coding)
    }
    const bomb = CompressedBody.read(zlib.gzipSync("a".repeat(50_000_000)), "gzip") as { readonly text: string }
    assert.match(bomb.text, /^a{30000,65536}$/)
  })

  it("is read whatever its bytes are, and its bytes are never handed on", () => {
    const coding = fc.constantFrom("gzip", "br", "deflate", "zstd", "deflate, br", "odd")
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), coding, (bytes, coding) => {
      const read = CompressedBody.read(Buffer.from([0x80, ...bytes]), coding)
      if ("unread" in read) assert.strictEqual(read.unread, coding)
      else assert.notMatch(read.text.slice(0, -1), /(?![\t\n\r])\p{Cc}|\ufffd/u)
    }))
  })

  it("is whole when all of it is there and it alone", () => {
    for (const [coding, compress] of ways.slice(0, 6)) {
      assert.isTrue(CompressedBody.isWhole(compress(error), coding), coding)
      assert.isFalse(CompressedBody.isWhole(compress(error).subarray(0, -20), coding), coding)
      assert.isFalse(CompressedBody.isWhole(Buffer.from(error), coding), coding)
    }
  })
})
