import { assert, describe, it } from "@effect/vitest"
import type { LimitReading, Reading } from "@evenkeel/core/Outcome"
import * as ProviderProfile from "@evenkeel/core/ProviderProfile"
import * as RateLimitHeaders from "@evenkeel/core/RateLimitHeaders"
import * as fc from "fast-check"

const openai = ProviderProfile.openai.dialect
const together = ProviderProfile.together.dialect
const generic = ProviderProfile.generic.dialect
const ietf = ProviderProfile.named("ietf")!.dialect

describe("a number", () => {
  const table: ReadonlyArray<readonly [string, number | undefined]> = [
    ["0", 0],
    ["-0", 0],
    ["-1", -1],
    ["12.5", 12.5],
    [" 7 ", 7],
    ["10000000000", 1e10],
    ["", undefined],
    ["  ", undefined],
    ["+1", undefined],
    [".5", undefined],
    ["5.", undefined],
    ["1e3", undefined],
    ["0x10", undefined],
    ["1_000", undefined],
    ["Infinity", undefined],
    ["NaN", undefined],
    ["9".repeat(400), undefined]
  ]
  for (const [text, value] of table) {
    it(`is ${value} when written ${JSON.stringify(text.slice(0, 20))}`, () => {
      assert.strictEqual(RateLimitHeaders.parseNumber(text), value)
    })
  }
})

describe("a duration", () => {
  const table: ReadonlyArray<readonly [string, number | undefined]> = [
    ["1s", 1],
    ["0s", 0],
    ["6m0s", 360],
    ["2m59.56s", 179.56],
    ["20m52.666s", 1252.666],
    ["4h17m", 15_420],
    ["1h0m0.5s", 3600.5],
    ["12ms", 0.012],
    ["172.799999ms", 0.172799999],
    ["1s500ms", 1.5],
    ["3m", 180],
    ["", undefined],
    ["500", undefined],
    ["s", undefined],
    ["1s1s", undefined],
    ["1m1h", undefined],
    ["-1s", undefined],
    ["1.5m", undefined],
    ["1s req_b176", undefined]
  ]
  for (const [text, value] of table) {
    it(`is ${value} seconds when written ${JSON.stringify(text)}`, () => {
      const seconds = RateLimitHeaders.parseDurationSeconds(text)
      if (value === undefined) assert.isUndefined(seconds)
      else assert.closeTo(seconds ?? NaN, value, 1e-9)
    })
  }

  it("in milliseconds adds up to hours, minutes and seconds", () => {
    fc.assert(fc.property(fc.nat(99), fc.nat(59), fc.nat(59_999), (hours, minutes, millis) => {
      const seconds = RateLimitHeaders.parseDurationSeconds(`${hours}h${minutes}m${millis / 1000}s`)
      assert.closeTo(seconds ?? NaN, hours * 3600 + minutes * 60 + millis / 1000, 1e-6)
    }))
  })
})

describe("Retry-After", () => {
  const dateHeader = "Sun, 06 Nov 1994 08:49:30 GMT"
  const table: ReadonlyArray<readonly [string, number | undefined]> = [
    ["120", 120],
    ["2.0", 2],
    ["0.25", 0.25],
    ["30s", 30],
    ["9999999999", 9_999_999_999],
    ["Sun, 06 Nov 1994 08:49:37 GMT", 7],
    ["Sunday, 06-Nov-94 08:49:37 GMT", 7],
    ["Sun Nov  6 08:49:37 1994", 7],
    ["5, 10", 10],
    ["5, soon", 5],
    ["0, 3", 3],
    ["Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:40 GMT", 10],
    ["12, Sun, 06 Nov 1994 08:49:40 GMT", 12],
    ["Sun, 06 Nov 1994 08:49:00 GMT", undefined],
    ["Sun, 31 Feb 1994 08:49:37 GMT", undefined],
    ["Sun, 06 Nov 1994 25:49:37 GMT", undefined],
    ["0", undefined],
    ["-1466247819", undefined],
    ["soon", undefined],
    ["", undefined],
    ["Infinity", undefined]
  ]
  for (const [value, seconds] of table) {
    it(`asks for ${seconds} seconds when it says ${JSON.stringify(value)}`, () => {
      assert.strictEqual(RateLimitHeaders.parseRetryAfterSeconds(value, { nowMillis: 0, dateHeader }), seconds)
    })
  }

  it("with a date is measured by our clock when the response has no readable Date", () => {
    const nowMillis = Date.UTC(1994, 10, 6, 8, 49, 36)
    const value = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert.strictEqual(RateLimitHeaders.parseRetryAfterSeconds(value, { nowMillis }), 1)
    assert.strictEqual(RateLimitHeaders.parseRetryAfterSeconds(value, { nowMillis, dateHeader: "today" }), 1)
  })

  it("gives the same wait in each of the three date forms", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000_000 }), fc.integer({ min: 0, max: 2_000_000_000 }), (wait, now) => {
        const clock = { nowMillis: now * 1000 }
        const date = new Date((now + wait) * 1000)
        const [, weekday, day, month, year, time] = /^(\w+), (\d+) (\w+) (\d+) ([\d:]+) GMT$/.exec(date.toUTCString())!
        const long = date.toLocaleDateString("en", { weekday: "long", timeZone: "UTC" })
        for (
          const form of [
            date.toUTCString(),
            `${long}, ${day}-${month}-${year!.slice(2)} ${time} GMT`,
            `${weekday} ${month} ${String(Number(day)).padStart(2)} ${time} ${year}`
          ]
        ) assert.strictEqual(RateLimitHeaders.parseRetryAfterSeconds(form, clock), wait, form)
      })
    )
  })
})

describe("the hint", () => {
  const hint = (headers: RateLimitHeaders.Headers, body?: unknown, status = 429) => {
    const reading = RateLimitHeaders.read(headers, { dialect: generic, status, nowMillis: 0, body })
    return [reading.retryAfterSeconds, reading.retryAfterSource]
  }

  it("is the first usable one of the fields, the body and the reset", () => {
    const reset = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" }
    const body = { error: { message: "Please try again in 5.289s. Visit us." } }
    const fields = { "retry-after-ms": "1243", "x-ms-retry-after-ms": "2000", "retry-after": "3" }
    assert.deepStrictEqual(hint({ ...reset, ...fields }, body), [1.243, "retry-after-ms"])
    assert.deepStrictEqual(hint({ ...reset, ...fields, "retry-after-ms": "0" }, body), [2, "x-ms-retry-after-ms"])
    assert.deepStrictEqual(hint({ ...reset, "retry-after": "3" }, body), [3, "retry-after"])
    assert.deepStrictEqual(hint({ ...reset, "retry-after": "0" }, body), [5.289, "body:message"])
    assert.deepStrictEqual(hint(reset), [9, "x-ratelimit-reset"])
    assert.deepStrictEqual(hint({}), [undefined, undefined])
  })

  it("is found in the body's own members and sentences", () => {
    assert.deepStrictEqual(hint({}, { retry_after_seconds: 59 }), [59, "body:retry_after_seconds"])
    assert.deepStrictEqual(hint({}, { error: { retry_after: 1.5 } }), [1.5, "body:retry_after"])
    assert.deepStrictEqual(hint({}, { retry_after: -1 }), [undefined, undefined])
    assert.deepStrictEqual(hint({}, "Please retry after 86400 seconds."), [86_400, "body:message"])
    assert.deepStrictEqual(hint({}, [{ error: { message: "try again in 120ms." } }]), [0.12, "body:message"])
    assert.deepStrictEqual(hint({}, { error: "Please wait a moment" }), [undefined, undefined])
    assert.deepStrictEqual(hint({}, "Try again in 1h 23m 45s."), [5025, "body:message"])
    assert.deepStrictEqual(hint({}, "Try again in 20 s."), [20, "body:message"])
  })

  it("of a reset is not taken on a success, nor from a sum of which something is left", () => {
    assert.deepStrictEqual(hint({ "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" }, undefined, 200), [
      undefined,
      undefined
    ])
    assert.deepStrictEqual(hint({ "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "9" }), [undefined, undefined])
    assert.deepStrictEqual(hint({ "x-ratelimit-reset": "9" }), [9, "x-ratelimit-reset"])
  })

  it("is the reset of the sum that the body named", () => {
    const reading = RateLimitHeaders.read(
      { "x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "4s" },
      { dialect: openai, status: 429, nowMillis: 0, limited: "tokens" }
    )
    assert.strictEqual(reading.retryAfterSeconds, 4)
    assert.strictEqual(reading.retryAfterSource, "x-ratelimit-reset-tokens")
  })
})

describe("a limit", () => {
  const first = (dialect: RateLimitHeaders.Dialect, headers: RateLimitHeaders.Headers, nowMillis = 0) =>
    RateLimitHeaders.read(headers, { dialect, status: 200, nowMillis }).limits[0]
  const requests = (limit: string, remaining: string, reset: string) =>
    first(openai, {
      "x-ratelimit-limit-requests": limit,
      "x-ratelimit-remaining-requests": remaining,
      "x-ratelimit-reset-requests": reset
    })

  it("is unknown where nothing is said", () => {
    assert.isUndefined(first(together, {}))
    assert.deepStrictEqual(first(generic, { "x-ratelimit-remaining": "3" }), { dimension: "requests", remaining: 3 })
  })

  const windows: ReadonlyArray<readonly [string, string, string, number]> = [
    ["500", "499", "120ms", 60],
    ["60", "59", "1s", 60],
    ["150000", "149984", "6m0s", 60],
    ["600", "599", "1s", 60],
    ["400000", "398834", "2s", 60],
    ["18000", "17997", "7.66s", 60],
    ["500", "0", "120ms", 60],
    ["500", "0", "1m4s", 60],
    ["500", "500", "0s", 60],
    ["200", "197", "20m52.666s", 86_400],
    ["14400", "14370", "2m59.56s", 86_400],
    ["500000", "499999", "172.799999ms", 86_400],
    ["150000", "0", "6m0s", 60],
    ["200", "0", "7h12m", 86_400],
    ["200", "0", "23h59m55s", 86_400]
  ]
  for (const [limit, remaining, reset, windowSeconds] of windows) {
    it(`of ${limit} with ${remaining} left and whole again in ${reset} is one per ${windowSeconds} s`, () => {
      const reading = requests(limit, remaining, reset)
      assert.strictEqual(reading?.windowSeconds, windowSeconds)
      assert.strictEqual(reading?.ratePerSecond, Number(limit) / windowSeconds)
    })
  }

  it("per day is told from one per minute by its arithmetic, whatever the figures", () => {
    const figures = fc.integer({ min: 50, max: 1_000_000 }).chain((limit) =>
      fc.record({
        limit: fc.constant(limit),
        used: fc.integer({ min: 2, max: limit }),
        passed: fc.double({ min: 0, max: 0.9, noNaN: true })
      })
    )
    fc.assert(fc.property(figures, fc.constantFrom(60, 86_400), ({ limit, passed, used }, windowSeconds) => {
      const reset = ((used - passed) * windowSeconds) / limit
      const reading = requests(`${limit}`, `${limit - used}`, `${reset.toFixed(9)}s`)
      // One whole second may be any fraction of it, rounded up.
      assert.isTrue(reading?.windowSeconds === windowSeconds || reading?.resetSeconds === 1)
    }))
  })

  it("of a part of the traffic stands beside the whole, under its own name", () => {
    const { limits } = RateLimitHeaders.read(
      {
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-limit-project-tokens": "60000",
        "x-ratelimit-remaining-tokens_usage_based": "7"
      },
      { dialect: openai, status: 200, nowMillis: 0 }
    )
    assert.deepStrictEqual(limits.map(({ limit, policy, remaining }) => [policy, limit, remaining]), [
      [undefined, 150_000, undefined],
      ["project-tokens", 60_000, undefined],
      ["tokens_usage_based", undefined, 7]
    ])
    assert.deepStrictEqual(limits.map(({ aside }) => aside), [undefined, true, true])
  })

  it("of an older draft has its window in the policy of the same figure", () => {
    const trio = { "ratelimit-limit": "100", "ratelimit-remaining": "99", "ratelimit-reset": "900" }
    const window = (policy: string, headers: RateLimitHeaders.Headers = trio) =>
      first(ietf, { ...headers, "ratelimit-policy": policy })?.windowSeconds
    assert.strictEqual(window("100;w=900"), 900)
    assert.strictEqual(window("10;w=1, 100;w=900"), 900)
    assert.strictEqual(window("10;w=1, 100;w=900", { ratelimit: "limit=100, remaining=9, reset=5" }), 900)
    assert.isUndefined(window("100;w=1, 100;w=900"))
    assert.isUndefined(window("50;w=1"))
  })

  it("below zero is unknown, and below zero left of a real limit is nothing left", () => {
    const reading = (limit: string, remaining: string) =>
      first(generic, { "x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining })
    assert.deepStrictEqual(reading("10", "-1"), { dimension: "requests", limit: 10, remaining: 0 })
    assert.isUndefined(reading("-1", "-1"))
  })

  it("said more than once counts by the most careful member", () => {
    const headers = { "x-ratelimit-limit": "100, 50", "x-ratelimit-remaining": "7, 3", "x-ratelimit-reset": "1, 4" }
    assert.deepStrictEqual(first(generic, headers), { dimension: "requests", limit: 50, remaining: 3, resetSeconds: 4 })
    assert.strictEqual(first(openai, { "x-ratelimit-reset-tokens": "0s, req_b176c7aa" })?.resetSeconds, 0)
  })

  it("keeps the raw text of what it cannot read", () => {
    const headers = {
      "x-ratelimit-limit": "lots",
      "x-ratelimit-remaining": "1e3",
      "x-ratelimit-reset": "3",
      "retry-after": "soon"
    }
    assert.deepStrictEqual(RateLimitHeaders.read(headers, { dialect: together, status: 200, nowMillis: 0 }).malformed, [
      { name: "x-ratelimit-limit", raw: "lots" },
      { name: "x-ratelimit-remaining", raw: "1e3" },
      { name: "retry-after", raw: "soon" }
    ])
    const bare = { "x-ratelimit-reset-requests": "500" }
    assert.lengthOf(RateLimitHeaders.read(bare, { dialect: openai, status: 200, nowMillis: 0 }).malformed, 1)
  })

  const nowMillis = Date.UTC(2025, 6, 1, 12)
  const moments: ReadonlyArray<readonly [string, number | undefined]> = [
    ["502", 502],
    ["1.5", 1.5],
    ["-1", 0],
    ["1751374800", 3600],
    ["1751374800.5", 3600.5],
    ["1751374800000", 3600],
    ["1700000000", 0],
    ["1m30s", 90],
    ["2025-07-01T12:00:10Z", 10],
    ["2025-07-01T12:00:10.250Z", 10.25],
    ["2025-07-01T14:00:10+02:00", 10],
    ["2025-07-01T11:30:10-00:30", 10],
    ["Tue, 01 Jul 2025 12:00:10 GMT", 10],
    ["2025-13-01T12:00:10Z", undefined],
    ["later", undefined]
  ]
  for (const [reset, seconds] of moments) {
    it(`of an unknown provider is whole again in ${seconds} s when the reset is ${reset}`, () => {
      assert.strictEqual(first(generic, { "x-ratelimit-reset": reset }, nowMillis)?.resetSeconds, seconds)
    })
  }

  it("measures an absolute reset by the response's Date, not by our clock", () => {
    const headers = { "x-ratelimit-reset": "1751374800", date: "Tue, 01 Jul 2025 12:59:00 GMT" }
    assert.strictEqual(first(generic, headers, nowMillis)?.resetSeconds, 60)
  })
})

describe("the tightest limit", () => {
  const reading = (limits: ReadonlyArray<LimitReading>): Reading => ({
    limits,
    policies: [],
    retryAfterSeconds: undefined,
    retryAfterSource: undefined,
    malformed: []
  })
  const perMinute: LimitReading = { dimension: "requests", limit: 500, ratePerSecond: 500 / 60 }
  const perDay: LimitReading = { dimension: "requests", limit: 10_000, ratePerSecond: 10_000 / 86_400 }
  const dynamic: LimitReading = { dimension: "requests", policy: "dynamic", limit: 40, ratePerSecond: 40 }

  it("has the lowest rate, not the lowest figure", () => {
    assert.strictEqual(RateLimitHeaders.tightest(reading([perMinute, perDay]), "requests"), perDay)
  })

  it("has the lowest figure where no unit is known", () => {
    const [more, less]: [LimitReading, LimitReading] = [{ dimension: "tokens", limit: 9 }, {
      dimension: "tokens",
      limit: 8
    }]
    assert.strictEqual(RateLimitHeaders.tightest(reading([more, less]), "tokens"), less)
    assert.isUndefined(RateLimitHeaders.tightest(reading([more]), "requests"))
  })

  it("is the dynamic one where there is one, for it is what is enforced", () => {
    assert.strictEqual(RateLimitHeaders.tightest(reading([perDay, dynamic]), "requests"), dynamic)
    assert.strictEqual(RateLimitHeaders.tightest(reading([dynamic, perDay]), "requests"), dynamic)
  })
})

describe("what is left", () => {
  it("names the one sum that is empty, and none when there are two", () => {
    const emptied = (headers: RateLimitHeaders.Headers) =>
      RateLimitHeaders.emptied(RateLimitHeaders.read(headers, { dialect: together, status: 429, nowMillis: 0 }))
    assert.strictEqual(emptied({ "x-tokenlimit-remaining": "0", "x-ratelimit-remaining": "1" }), "tokens")
    assert.isUndefined(emptied({ "x-tokenlimit-remaining": "0", "x-ratelimit-remaining": "0" }))
    assert.isUndefined(emptied({}))
  })
})

describe("whatever a server sends", () => {
  const parts = ["limit", "remaining", "reset"]
  const families = ["x-ratelimit-{}", "x-tokenlimit-{}", "x-ratelimit-{}-requests", "anthropic-ratelimit-tokens-{}"]
  const names = [
    ...families.flatMap((family) => parts.map((part) => family.replace("{}", part))),
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit",
    "x-shopify-shop-api-call-limit",
    "x-ratelimit-used",
    "age"
  ]
  const hintNames = ["retry-after", "retry-after-ms", "x-ms-retry-after-ms", "date"]
  const value = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.stringMatching(/^[-0-9.,hms :TZ]{0,30}$/),
    fc.double().map(String),
    fc.integer().map(String),
    fc.constantFrom("Sun, 06 Nov 1994 08:49:37 GMT", "9".repeat(309), "-1", "0", "", "1".repeat(5000), ",".repeat(50))
  )
  const headers = fc.dictionary(fc.constantFrom(...names, ...hintNames), value, { maxKeys: 20 })
  const now = fc.oneof(fc.double(), fc.integer())

  it("reading it never throws and never gives a number below zero, NaN or infinite", () => {
    fc.assert(
      fc.property(
        headers,
        fc.constantFrom(together, openai, generic),
        fc.constantFrom(200, 400, 403, 429, 503),
        now,
        fc.option(fc.anything(), { nil: undefined }),
        (sent, dialect, status, nowMillis, body) => {
          const reading = RateLimitHeaders.read(sent, { dialect, status, nowMillis, body })
          const figures = [
            reading.retryAfterSeconds,
            ...reading.limits.flatMap(({ limit, ratePerSecond, remaining, resetSeconds, windowSeconds }) => [
              limit,
              ratePerSecond,
              remaining,
              resetSeconds,
              windowSeconds
            ])
          ]
          for (const figure of figures) assert.isTrue(figure === undefined || (figure >= 0 && figure < Infinity))
          assert.strictEqual(reading.retryAfterSeconds === undefined, reading.retryAfterSource === undefined)
          assert.isTrue(reading.malformed.every(({ raw }) => raw.length <= 200))
        }
      ),
      { numRuns: 1000 }
    )
  })

  it("a hostile value costs no more than a short one", () => {
    const hostile = ["1".repeat(1000), "1m".repeat(500), "1,".repeat(500), `${" ".repeat(1000)}x`, "0.".repeat(500)]
    for (const text of hostile) {
      assert.isUndefined(RateLimitHeaders.parseNumber(text))
      assert.isUndefined(RateLimitHeaders.parseDurationSeconds(text))
    }
    assert.strictEqual(RateLimitHeaders.parseRetryAfterSeconds("1,".repeat(500), { nowMillis: 0 }), 1)
    assert.isUndefined(
      RateLimitHeaders.parseRetryAfterSeconds(`${"1,".repeat(500)}${" ".repeat(100)}`, { nowMillis: 0 })
    )
  })
})

describe("what was written", () => {
  const figure = fc.oneof(fc.nat(1_000_000_000), fc.nat(1_000_000_000).map((micros) => micros / 1e6))
  const sums = { requests: undefined, tokens: undefined, dynamic: "dynamic" } as const
  const told = (names: ReadonlyArray<keyof typeof sums>) =>
    fc.subarray([...names]).chain((chosen) =>
      fc.tuple(
        ...chosen.map((name) =>
          fc.record({ limit: figure, remaining: figure, resetSeconds: fc.nat(999_999).map((millis) => millis / 1000) })
            .map((figures): LimitReading => ({
              dimension: name === "tokens" ? "tokens" : "requests",
              ...(sums[name] === undefined ? {} : { policy: sums[name] }),
              ...figures
            }))
        )
      )
    )

  for (
    const [dialect, names] of [[together, ["requests", "tokens", "dynamic"]], [openai, ["requests", "tokens"]]] as const
  ) {
    it(`in the words of ${dialect.name} reads the same`, () => {
      fc.assert(fc.property(told(names), fc.integer({ min: 1, max: 1_000_000 }), (limits, retryAfterSeconds) => {
        const headers = RateLimitHeaders.write(dialect, limits, { retryAfterSeconds })
        const reading = RateLimitHeaders.read(headers, { dialect, status: 200, nowMillis: 0 })
        const read = reading.limits.map(({ aside: _aside, ratePerSecond: _rate, windowSeconds: _window, ...rest }) =>
          rest
        )
        assert.deepStrictEqual(read, limits)
        assert.strictEqual(reading.retryAfterSeconds, retryAfterSeconds)
        assert.isEmpty(reading.malformed)
      }))
    })
  }

  it("in the fields of the IETF reads the same, in whole numbers", () => {
    const whole = fc.nat(1_000_000_000)
    const limit = fc.record({
      dimension: fc.constantFrom("requests", "tokens", "inputTokens", "concurrency"),
      policy: fc.stringMatching(/^[ -~]{1,20}$/),
      limit: whole,
      remaining: whole,
      resetSeconds: whole,
      windowSeconds: fc.integer({ min: 1, max: 1_000_000 })
    })
    const several = fc.uniqueArray(limit, { minLength: 1, maxLength: 4, selector: ({ policy }) => policy })
    fc.assert(fc.property(several, (limits) => {
      const headers = RateLimitHeaders.write(ietf, limits)
      const reading = RateLimitHeaders.read(headers, { dialect: ietf, status: 200, nowMillis: 0 })
      const read = reading.limits.map(({ aside: _aside, ratePerSecond: _rate, ...rest }) => rest)
      assert.sameDeepMembers(read, limits)
      assert.deepStrictEqual(reading.policies.map(({ name }) => name), limits.map(({ policy }) => policy))
      assert.isEmpty(reading.malformed)
    }))
  })

  it("in the fields of the IETF keeps each sum apart, and leaves out only what has no name there", () => {
    const told: ReadonlyArray<LimitReading> = [
      { dimension: "requests", limit: 500, remaining: 499, windowSeconds: 60 },
      { dimension: "tokens", limit: 10, remaining: 5, windowSeconds: 60 },
      { dimension: "requests", policy: "é", limit: 1, remaining: 1 }
    ]
    const reading = RateLimitHeaders.read(RateLimitHeaders.write(ietf, told), {
      dialect: ietf,
      status: 200,
      nowMillis: 0
    })
    assert.strictEqual(RateLimitHeaders.primary(reading, "requests")?.remaining, 499)
    assert.strictEqual(RateLimitHeaders.primary(reading, "tokens")?.remaining, 5)
  })

  it("is a wait of whole seconds, rounded up, at least one", () => {
    const wait = (retryAfterSeconds: number) =>
      RateLimitHeaders.write(together, [], { retryAfterSeconds })["retry-after"]
    assert.deepStrictEqual([0, 0.2, 1, 1.2, -5].map(wait), ["1", "1", "1", "2", "1"])
    assert.isUndefined(wait(NaN))
    assert.isUndefined(wait(Infinity))
  })

  it("leaves out what is not a figure and what the dialect has no name for", () => {
    const told: ReadonlyArray<LimitReading> = [
      { dimension: "requests", limit: Infinity, remaining: -1, resetSeconds: NaN },
      { dimension: "concurrency", limit: 5 }
    ]
    assert.deepStrictEqual(RateLimitHeaders.write(together, told), {})
  })
})
