import { assert, describe, it } from "@effect/vitest"
import * as DynamicLimit from "@evenkeel/core/DynamicLimit"
import * as fc from "fast-check"

type Settings = DynamicLimit.Settings

/** The law in small steps, written from its description alone. */
class SmallSteps {
  time = 0
  requests: number
  tokens: number
  windowSecond = 0
  windowCount = 0
  earned: number
  earnedTokens: number
  slots: Array<[requests: number, tokens: number]>
  slot = 0

  readonly settings: Settings
  constructor(settings: Settings) {
    this.settings = settings
    this.earned = settings.initialSuccessPerSecond
    this.earnedTokens = settings.tokens?.initialSuccessPerSecond ?? 0
    const width = settings.memory.seconds / 360
    this.slots = Array.from({ length: 360 }, () => [this.earned * width, this.earnedTokens * width])
    this.requests = this.depth()
    this.tokens = this.tokenDepth()
  }

  rate(): number {
    const { ceilingPerSecond, cushion, floorPerSecond } = this.settings
    return Math.min(ceilingPerSecond, Math.max(floorPerSecond, cushion * this.earned))
  }

  tokenRate(): number {
    const { cushion, tokens } = this.settings
    return tokens === null
      ? Infinity
      : Math.min(tokens.ceilingPerSecond, Math.max(tokens.floorPerSecond, cushion * this.earnedTokens))
  }

  depth = () => Math.max(1, this.settings.burstSeconds * this.rate())
  tokenDepth = () => this.settings.tokens === null ? 0 : this.tokenRate() * Math.max(0.05, this.settings.burstSeconds)

  advance(to: number): void {
    const { memory } = this.settings
    const width = memory.seconds / 360
    while (this.time < to) {
      const slotEnds = memory.kind === "boxcar" ? (this.slot + 1) * width : Infinity
      const until = Math.min(to, this.time + 0.01, slotEnds)
      const step = until - this.time
      const before = [this.rate(), this.tokenRate()] as const
      this.time = until
      if (memory.kind === "ewma") {
        this.earned *= Math.exp(-step / memory.seconds)
        this.earnedTokens *= Math.exp(-step / memory.seconds)
        this.fill(step, (before[0] + this.rate()) / 2, (before[1] + this.tokenRate()) / 2)
      } else {
        if (until === slotEnds) {
          this.slots[++this.slot % 360] = [0, 0]
          this.earned = this.slots.reduce((sum, slot) => sum + slot[0], 0) / memory.seconds
          this.earnedTokens = this.slots.reduce((sum, slot) => sum + slot[1], 0) / memory.seconds
        }
        this.fill(step, ...before)
      }
    }
  }

  fill(step: number, rate: number, tokenRate: number): void {
    this.requests = Math.min(this.depth(), this.requests + rate * step)
    if (this.settings.tokens !== null) this.tokens = Math.min(this.tokenDepth(), this.tokens + tokenRate * step)
  }

  admit(to: number, inputTokens: number, platformOk: boolean): { tag: string; delaySeconds: number; margin: number } {
    this.advance(to)
    const { settings } = this
    const rate = this.rate()
    const second = Math.floor(to)
    const counted = this.windowSecond === second ? this.windowCount : 0
    let delaySeconds = 0
    let over = ""
    let margin = Infinity
    if (settings.oneSecondWindows) {
      const fits = counted + 1 <= Math.max(1, Math.floor(rate)) && (rate >= 1 || this.requests >= 1)
      margin = Math.min(Math.abs(rate - Math.round(rate)), rate < 1 ? Math.abs(this.requests - 1) : Infinity)
      if (!fits) over = "RequestLimited"
    } else {
      const missing = 1 - this.requests
      margin = Math.min(Math.abs(missing), Math.abs(missing - settings.bufferSeconds * rate))
      if (missing > 0 && missing <= settings.bufferSeconds * rate) delaySeconds = missing / rate
      else if (missing > 0) over = "RequestLimited"
    }
    if (settings.tokens !== null) {
      const rate = this.tokenRate()
      const missing = Math.min(inputTokens, 0.999 * this.tokenDepth()) - this.tokens
      margin = Math.min(margin, Math.abs(missing) / rate, Math.abs(missing - settings.bufferSeconds * rate) / rate)
      if (missing > 0 && missing <= settings.bufferSeconds * rate) delaySeconds = Math.max(delaySeconds, missing / rate)
      else if (missing > 0 && over === "") over = "TokenLimited"
    }
    if (over !== "") {
      if (settings.soft && platformOk) return { tag: "AdmitNow", delaySeconds: 0, margin }
      const least = Math.min(this.requests, -this.depth() - settings.bufferSeconds * rate)
      this.requests = Math.max(least, this.requests - settings.rejectCost)
      return { tag: over, delaySeconds: 0, margin }
    }
    if (platformOk || settings.overloadConsumes) {
      this.requests -= 1
      this.windowSecond = second
      this.windowCount = counted + 1
      if (settings.tokens !== null) this.tokens -= inputTokens
    }
    return { tag: !platformOk ? "Overloaded" : delaySeconds > 0 ? "AdmitAfter" : "AdmitNow", delaySeconds, margin }
  }

  settle(to: number, inputTokens: number, outputTokens: number): void {
    this.advance(to)
    const { memory, tokens } = this.settings
    const all = tokens === null ? 0 : inputTokens + outputTokens
    this.earned += 1 / memory.seconds
    this.earnedTokens += all / memory.seconds
    const slot = this.slots[this.slot % 360]
    if (slot !== undefined) this.slots[this.slot % 360] = [slot[0] + 1, slot[1] + all]
    if (tokens !== null) this.tokens -= outputTokens
  }
}

const settingsOf = (kind: "ewma" | "boxcar"): fc.Arbitrary<Settings> =>
  fc.record({
    floorPerSecond: fc.constantFrom(0.1, 1, 5),
    ceilingPerSecond: fc.constantFrom(0.5, 3, 20, 200),
    cushion: fc.constantFrom(1.5, 2, 3),
    memory: fc.constantFrom(3.1, 20.3, 91.7).map((seconds) => ({ kind, seconds })),
    initialSuccessPerSecond: fc.constantFrom(0, 2, 30),
    burstSeconds: fc.constantFrom(0, 0.2, 1, 2),
    bufferSeconds: fc.constantFrom(0, 0.1, 0.5, 2),
    oneSecondWindows: fc.boolean(),
    soft: fc.boolean(),
    rejectCost: fc.constantFrom(0, 0.1, 0.5),
    overloadConsumes: fc.boolean(),
    tokens: fc.option(
      fc.record({
        floorPerSecond: fc.constantFrom(100, 2000),
        ceilingPerSecond: fc.constantFrom(1000, 50_000),
        initialSuccessPerSecond: fc.constantFrom(0, 4000)
      }),
      { nil: null }
    )
  })

const events = fc.array(
  fc.record({
    gap: fc.oneof(
      fc.double({ min: 0, max: 0.5, noNaN: true }),
      fc.double({ min: 0, max: 5, noNaN: true }),
      fc.double({ min: 0, max: 60, noNaN: true })
    ),
    kind: fc.constantFrom("call", "call", "success"),
    times: fc.integer({ min: 1, max: 20 }),
    inputTokens: fc.integer({ min: 0, max: 4000 }),
    outputTokens: fc.integer({ min: 0, max: 1000 }),
    platformOk: fc.boolean()
  }),
  { minLength: 10, maxLength: 30 }
)

/** Within half a percent, with a floor for figures near zero: the error of one step of the reference. */
const agree = (actual: number, expected: number, slack: number, what: string) =>
  assert.isAtMost(Math.abs(actual - expected), 0.005 * Math.abs(expected) + slack, `${what}: ${actual}, ${expected}`)

/** How many runs ended before all of their events were compared. */
let parted = 0

const followed = (kind: "ewma" | "boxcar") =>
  fc.property(settingsOf(kind), events, (settings, events) => {
    const reference = new SmallSteps(settings)
    let state = DynamicLimit.make(settings, 0)
    let now = 0
    for (const { gap, inputTokens, kind, outputTokens, platformOk, times } of events) {
      now += gap
      for (let index = 0; index < times; index++) {
        if (kind === "success") {
          reference.settle(now, inputTokens, outputTokens)
          state = DynamicLimit.settle(settings, state, { nowSeconds: now, inputTokens, outputTokens })
          continue
        }
        const expected = reference.admit(now, inputTokens, platformOk)
        const actual = DynamicLimit.admit(settings, state, { nowSeconds: now, inputTokens, platformOk })
        state = actual.state
        // So near a boundary the reference's own error decides. Where the two part there, comparing ends.
        if (actual.verdict._tag !== expected.tag && expected.margin < 0.005 * Math.max(1, reference.rate())) {
          parted++
          return
        }
        assert.strictEqual(actual.verdict._tag, expected.tag)
        if (actual.verdict._tag === "AdmitAfter") {
          agree(actual.verdict.delaySeconds, expected.delaySeconds, 0.01, "delay")
        }
      }
      const rates = DynamicLimit.rates(settings, state)
      agree(rates.requestsPerSecond, reference.rate(), 0, "rate")
      if (settings.tokens !== null) agree(rates.tokensPerSecond, reference.tokenRate(), 0, "token rate")
      agree(state.requests, reference.requests, 0.005 * Math.max(1, rates.requestsPerSecond), "bucket")
      if (settings.tokens !== null) agree(state.tokens, reference.tokens, 0.005 * rates.tokensPerSecond, "token bucket")
    }
  })

const call = (nowSeconds: number) => ({ nowSeconds, inputTokens: 0, platformOk: true })

const onePerSecond: Settings = { ...DynamicLimit.defaults, floorPerSecond: 1, ceilingPerSecond: 1 }

describe("DynamicLimit", () => {
  it("agrees with small steps within half a percent when it remembers exponentially", () => {
    parted = 0
    fc.assert(followed("ewma"), { numRuns: 150 })
    assert.isBelow(parted, 20)
  })

  it("agrees with small steps within half a percent when it remembers a window", () => {
    parted = 0
    fc.assert(followed("boxcar"), { numRuns: 150 })
    assert.isBelow(parted, 20)
  })

  it("lets one call a second through at 60 a minute, for an hour", () => {
    let state = DynamicLimit.make(onePerSecond, 0)
    for (let second = 0; second < 3600; second++) {
      const result = DynamicLimit.admit(onePerSecond, state, call(second))
      assert.strictEqual(result.verdict._tag, "AdmitNow")
      state = result.state
    }
  })

  it("does not let sixty calls at once through at 60 a minute", () => {
    let state = DynamicLimit.make(onePerSecond, 0)
    const tags: Array<string> = []
    for (let index = 0; index < 60; index++) {
      const result = DynamicLimit.admit(onePerSecond, state, call(0))
      tags.push(result.verdict._tag)
      state = result.state
    }
    assert.deepStrictEqual(tags, ["AdmitNow", ...Array.from({ length: 59 }, () => "RequestLimited")])
  })

  it("delays what the buffer can smooth, by exactly what the bucket lacks", () => {
    const settings = { ...onePerSecond, floorPerSecond: 10, ceilingPerSecond: 10, burstSeconds: 0.1 }
    let state = DynamicLimit.make(settings, 0)
    const delays: Array<string> = []
    for (let index = 0; index < 7; index++) {
      const { state: next, verdict } = DynamicLimit.admit(settings, state, call(0))
      state = next
      delays.push(verdict._tag === "AdmitAfter" ? verdict.delaySeconds.toFixed(1) : verdict._tag)
    }
    assert.deepStrictEqual(delays, ["AdmitNow", "0.1", "0.2", "0.3", "0.4", "0.5", "RequestLimited"])
  })

  it("grows at the cushion's speed to the ceiling and never above it", () => {
    // Sent at the limit and successful at once, the earned rate grows by (cushion - 1) / memory.
    const settings = { ...DynamicLimit.defaults, floorPerSecond: 0, initialSuccessPerSecond: 5, ceilingPerSecond: 80 }
    let state = DynamicLimit.make(settings, 0)
    const step = 0.01
    for (let index = 1; index * step <= 120; index++) {
      const nowSeconds = index * step
      const rate = DynamicLimit.rates(settings, state).requestsPerSecond
      state = DynamicLimit.settle(settings, state, {
        nowSeconds,
        inputTokens: 0,
        outputTokens: 0,
        requests: rate * step
      })
      const expected = Math.min(80, 10 * Math.exp(nowSeconds / 30))
      assert.closeTo(DynamicLimit.rates(settings, state).requestsPerSecond, expected, 0.005 * expected)
      assert.isAtMost(DynamicLimit.rates(settings, state).requestsPerSecond, 80)
    }
  })

  it("takes an idle hour, or century, in one step: the rate is the floor and the bucket full", () => {
    for (const kind of ["ewma", "boxcar"] as const) {
      const settings = { ...DynamicLimit.defaults, memory: { kind, seconds: 30 }, initialSuccessPerSecond: 40 }
      for (const seconds of [3600, 3e9]) {
        const state = DynamicLimit.advance(settings, DynamicLimit.make(settings, 0), seconds)
        assert.strictEqual(DynamicLimit.rates(settings, state).requestsPerSecond, 1)
        assert.strictEqual(state.requests, 1)
        assert.strictEqual(DynamicLimit.remaining(settings, state).resetSeconds, 0)
      }
    }
  })

  it("gives the same state in one step as in several", () => {
    fc.assert(fc.property(
      fc.oneof(settingsOf("ewma"), settingsOf("boxcar")),
      fc.array(fc.double({ min: 0, max: 50, noNaN: true }), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 40 }),
      (settings, gaps, calls) => {
        let start = DynamicLimit.make(settings, 0)
        for (let index = 0; index < calls; index++) start = DynamicLimit.admit(settings, start, call(0)).state
        let state = start
        let now = 0
        for (const gap of gaps) state = DynamicLimit.advance(settings, state, now += gap)
        const once = DynamicLimit.advance(settings, start, now)
        assert.closeTo(once.requests, state.requests, 1e-6)
        assert.closeTo(once.successPerSecond, state.successPerSecond, 1e-6)
      }
    ))
  })

  it("never refuses while the bucket holds the call or the buffer can wait for it", () => {
    fc.assert(fc.property(settingsOf("ewma"), events, (drawn, events) => {
      const settings = { ...drawn, oneSecondWindows: false }
      let state = DynamicLimit.make(settings, 0)
      let nowSeconds = 0
      for (const event of events) {
        nowSeconds += event.gap
        state = DynamicLimit.advance(settings, state, nowSeconds)
        const rates = DynamicLimit.rates(settings, state)
        const held = state.requests >= 1 - settings.bufferSeconds * rates.requestsPerSecond
        const tokensHeld = settings.tokens === null ||
          state.tokens >= event.inputTokens - settings.bufferSeconds * rates.tokensPerSecond
        const result = DynamicLimit.admit(settings, state, { ...event, nowSeconds, platformOk: true })
        if (settings.soft || (held && tokensHeld)) assert.match(result.verdict._tag, /^Admit/)
        state = result.state
      }
    }))
  })

  it("yields finite numbers whatever happens", () => {
    const strange = fc.constantFrom(0, 1, 1e-9, 1e9, NaN, Infinity, -5)
    fc.assert(fc.property(
      settingsOf("ewma").map((settings) => ({ ...settings, ceilingPerSecond: 0, floorPerSecond: 0 })),
      fc.oneof(settingsOf("ewma"), settingsOf("boxcar")),
      fc.array(fc.tuple(strange, strange, strange), { maxLength: 30 }),
      (shut, open, events) => {
        for (const settings of [shut, open]) {
          let state = DynamicLimit.make(settings, 0)
          for (const [nowSeconds, inputTokens, outputTokens] of events) {
            const result = DynamicLimit.admit(settings, state, { nowSeconds, inputTokens, platformOk: true })
            state = DynamicLimit.settle(settings, result.state, { nowSeconds, inputTokens, outputTokens })
            for (const value of Object.values(state)) {
              if (typeof value === "number") assert.isTrue(Number.isFinite(value))
            }
            if ("retryAfterSeconds" in result.verdict) assert.isAbove(result.verdict.retryAfterSeconds, 0)
            if ("delaySeconds" in result.verdict) {
              assert.isAbove(result.verdict.delaySeconds, 0)
              assert.isAtMost(result.verdict.delaySeconds, settings.bufferSeconds + 1e-9)
            }
          }
        }
      }
    ))
  })

  it("charges outputs when they are known, and may be owed for them", () => {
    const tokens = { floorPerSecond: 100, ceilingPerSecond: 100, initialSuccessPerSecond: 0 }
    const settings: Settings = { ...DynamicLimit.defaults, floorPerSecond: 50, tokens }
    const first = DynamicLimit.admit(settings, DynamicLimit.make(settings, 0), { ...call(0), inputTokens: 60 })
    const settled = DynamicLimit.settle(settings, first.state, { nowSeconds: 0, inputTokens: 60, outputTokens: 140 })
    assert.strictEqual(settled.tokens, -100)
    const second = DynamicLimit.admit(settings, settled, { ...call(0), inputTokens: 20 })
    assert.deepStrictEqual(second.verdict, {
      _tag: "TokenLimited",
      retryAfterSeconds: 1.2,
      reason: "more tokens than the rate and its buffer"
    })
    assert.strictEqual(
      DynamicLimit.admit(settings, settled, { ...call(1.2), inputTokens: 20 }).verdict._tag,
      "AdmitNow"
    )
  })

  it("counts whole seconds where windows are enforced, without a buffer", () => {
    const settings = { ...DynamicLimit.defaults, floorPerSecond: 3.9, ceilingPerSecond: 3.9, oneSecondWindows: true }
    let state = DynamicLimit.make(settings, 0)
    const tags: Array<string> = []
    for (const nowSeconds of [0.9, 0.9, 0.95, 0.99, 1, 1, 1, 1.5]) {
      const result = DynamicLimit.admit(settings, state, call(nowSeconds))
      state = result.state
      tags.push(result.verdict._tag === "AdmitNow" ? "ok" : result.verdict._tag)
    }
    assert.deepStrictEqual(tags, ["ok", "ok", "ok", "RequestLimited", "ok", "ok", "ok", "RequestLimited"])
  })

  it("attributes a failure within the rate to the platform, and one above it to the caller", () => {
    const state = DynamicLimit.make(onePerSecond, 0)
    const within = DynamicLimit.admit(onePerSecond, state, { ...call(0), platformOk: false })
    const above = DynamicLimit.admit(onePerSecond, within.state, { ...call(0), platformOk: false })
    assert.deepStrictEqual([within.verdict._tag, above.verdict._tag], ["Overloaded", "RequestLimited"])
    const lenient = { ...onePerSecond, overloadConsumes: false }
    assert.strictEqual(DynamicLimit.admit(lenient, state, { ...call(0), platformOk: false }).state.requests, 1)
  })

  it("names the field that it cannot work with", () => {
    const wrong: ReadonlyArray<[Partial<Settings>, RegExp]> = [
      [{ floorPerSecond: -1 }, /floorPerSecond/],
      [{ ceilingPerSecond: Infinity }, /ceilingPerSecond/],
      [{ memory: { kind: "ewma", seconds: 0 } }, /memory\.seconds/],
      [{ tokens: { floorPerSecond: 1, ceilingPerSecond: NaN, initialSuccessPerSecond: 0 } }, /tokens\.ceilingPerSecond/]
    ]
    for (const [fields, message] of wrong) {
      assert.throws(() => DynamicLimit.make({ ...DynamicLimit.defaults, ...fields }, 0), RangeError, message)
    }
  })
})
