import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as StrangerText from "../src/cli/StrangerText.ts"

const hex = "0123456789abcdef".repeat(4)

describe("text of a stranger", () => {
  it("is shown in one line, without any character that a terminal obeys", () => {
    assert.strictEqual(
      StrangerText.printable("a\u001b[31m\n\u009b1m\u202eb\u2028é漢😀\ud800"),
      "a\\x1b[31m\\x0a\\x9b1m\\u{202e}b\\u{2028}é漢😀\\u{d800}"
    )
  })

  it("is shown without the keys in it, however they look", () => {
    const keys = [
      "sk-proj-abcdefgh1234",
      "sk-ant-api03-Ab_cdef-ghij",
      "sk-...wxyz",
      "sk-pr********************wxyz",
      "gsk_abcdefghijkl",
      "tgp_v1_abcdefghijkl",
      "fw_3ZabcdEFGH",
      "csk-abcd1234efgh",
      "r8_abcdefghij",
      "nvapi-abc_DEF-123456",
      "hf_abcdefghijkl",
      "xai-abcdefgh",
      "AKIAIOSFODNN7EXAMPLE",
      "ASIAIOSFODNN7EXAMPLE",
      "AIzaSyabcdefgh",
      "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def",
      hex.slice(0, 32),
      hex,
      `${hex.slice(0, 32)}.AbCdEfGh12345678`,
      "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF",
      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1",
      "123e4567-e89b-42d3-a456-426614174000"
    ]
    for (const key of keys) {
      assert.strictEqual(StrangerText.masked(`No ${key}.`), "No [key].", key)
      assert.strictEqual(StrangerText.masked(`"${key}"`), "\"[key]\"", key)
      assert.strictEqual(StrangerText.masked(`Bearer ${key} x`), "[key] x", key)
      assert.strictEqual(StrangerText.masked(`of_${key}`), "of_[key]", key)
    }
    assert.strictEqual(StrangerText.masked("API key provided: ab12****yz. x"), "API key provided: [key]. x")
  })

  it("keeps the words that speak of keys, the names of models and the figures", () => {
    const sentences = [
      "Incorrect API key provided. You can find your key at https://api.together.ai/settings/api-keys.",
      "Missing bearer token; Bearer authentication is needed.",
      "invalid_api_key authentication_error dynamic_token_limited task-force-one",
      "The model meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 is overloaded.",
      "accounts/fireworks/models/llama-v3p1-405b-instruct in organization acme on tokens per min (TPM): Limit 200000",
      "Asian and asiatic"
    ]
    for (const sentence of sentences) assert.strictEqual(StrangerText.masked(sentence), sentence)
  })

  it("is cut to a length, and no part of a key is left by the cut", () => {
    fc.assert(fc.property(fc.nat(300), fc.integer({ min: 8, max: 120 }), (before, most) => {
      const text = StrangerText.shown(`${"a ".repeat(before)}sk-${hex} end`, most)
      assert.isAtMost(text.length, most)
      assert.notMatch(text, /[0-9]/)
    }))
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), fc.integer({ min: 4, max: 90 }), (text, most) => {
        const shown = StrangerText.shown(text, most)
        assert.isAtMost(shown.length, most)
        assert.notMatch(shown, /[\p{Cc}\p{Cs}]/u)
      })
    )
  })
})
