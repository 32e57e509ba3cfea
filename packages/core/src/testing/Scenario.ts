/**
 * One situation of a provider, as a file: its limits over time, its headers, its latency, the work that arrives.
 *
 * Here belong the form of the file, what is assumed where it says nothing, and how its traces are read. Nothing here
 * limits, draws or waits: `ScenarioLimit` plays a scenario, `TestProvider` serves it.
 *
 * **Source**
 *
 * The provider model of Evenkeel's control study, section 1.1; the field names are those of its scenario files.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/**
 * A quantity over time, piecewise constant.
 *
 * **Units**
 *
 * Pairs of the second from which a value holds, and the value. The first pair starts at 0, seconds increase. In a file
 * one number stands for a trace that never changes.
 */
export type Trace = ReadonlyArray<readonly [fromSecond: number, value: number]>

const zeroOrMore = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))
const aboveZero = Schema.Finite.check(Schema.isGreaterThan(0))
const count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))

const traceOf = (maximum: number) => {
  const value = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum }))
  const steps = Schema.Array(Schema.Tuple([zeroOrMore, value])).check(
    Schema.makeFilter((trace: Trace) => inOrder(trace) || "steps that start at second 0 and follow one another")
  )
  return Schema.Union([steps, value]).pipe(
    Schema.decodeTo(
      Schema.toType(steps),
      SchemaTransformation.transform({
        decode: (written): Trace => typeof written === "number" ? [[0, written]] : written,
        encode: (trace): Trace => trace
      })
    )
  )
}

const orElse = <A>(value: A) => Effect.succeed(value)
const rateTrace = traceOf(Number.MAX_VALUE)
const probabilityTrace = traceOf(1)

/**
 * The form of a scenario file.
 *
 * **Units**
 *
 * Rates are per second and times are seconds, whatever `headers.units` makes the headers display.
 *
 * **Details**
 *
 * What a file leaves out has the control study's default. Fields that are not named here are ignored.
 */
export const Scenario = Schema.Struct({
  id: Schema.String.pipe(Schema.withDecodingDefault(orElse("scenario"))),
  seed: Schema.Finite.pipe(Schema.withDecodingDefault(orElse(1))),
  horizonSeconds: aboveZero.pipe(Schema.withDecodingDefault(orElse(300))),
  clients: count.pipe(Schema.withDecodingDefault(orElse(1))),
  dynamicRate: Schema.Struct({
    floorPerSecond: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(1))),
    ceilingPerSecond: rateTrace.pipe(Schema.withDecodingDefault(orElse(100))),
    cushion: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(2))),
    memory: Schema.Struct({
      kind: Schema.Literals(["ewma", "boxcar"]).pipe(Schema.withDecodingDefault(orElse("ewma" as const))),
      seconds: aboveZero.pipe(Schema.withDecodingDefault(orElse(30)))
    }).pipe(Schema.withDecodingDefault(orElse({}))),
    initialSuccessPerSecond: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0)))
  }).pipe(Schema.withDecodingDefault(orElse({}))),
  tokens: Schema.NullOr(Schema.Struct({
    floorPerSecond: zeroOrMore,
    ceilingPerSecond: rateTrace,
    initialSuccessPerSecond: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0)))
  })).pipe(Schema.withDecodingDefault(orElse(null))),
  enforcement: Schema.Struct({
    burstSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(1))),
    bufferSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.5))),
    oneSecondWindows: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(false))),
    soft: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(false))),
    rejectCost: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0))),
    overloadConsumes: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(true)))
  }).pipe(Schema.withDecodingDefault(orElse({}))),
  platform: Schema.Struct({
    capacityPerSecond: Schema.NullOr(rateTrace).pipe(Schema.withDecodingDefault(orElse(null))),
    overloadProbability: probabilityTrace.pipe(Schema.withDecodingDefault(orElse(0)))
  }).pipe(Schema.withDecodingDefault(orElse({}))),
  headers: Schema.Struct({
    onSuccess: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(true))),
    onError: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(true))),
    staleSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0))),
    coarse: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(false))),
    units: aboveZero.pipe(Schema.withDecodingDefault(orElse(1))),
    fractionalReset: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(false))),
    retryAfter: Schema.Boolean.pipe(Schema.withDecodingDefault(orElse(true)))
  }).pipe(Schema.withDecodingDefault(orElse({}))),
  latency: Schema.Struct({
    serviceMedianSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(1.5))),
    serviceSigma: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.6))),
    firstTokenSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.4))),
    perTokenSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.012))),
    rttSeconds: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.08))),
    rttSigma: zeroOrMore.pipe(Schema.withDecodingDefault(orElse(0.2)))
  }).pipe(Schema.withDecodingDefault(orElse({}))),
  workload: Schema.Union([
    Schema.Struct({ kind: Schema.Literal("backlog") }),
    Schema.Struct({ kind: Schema.Literal("open"), arrivalsPerSecond: rateTrace, sloSeconds: zeroOrMore })
  ]).pipe(Schema.withDecodingDefault(orElse({ kind: "backlog" as const }))),
  reference: Schema.optional(Schema.Struct({ oracleGoodput: zeroOrMore }))
})

/** A scenario, read and complete. */
export interface Scenario extends Schema.Schema.Type<typeof Scenario> {}

/** A scenario as written: every field that has a default may be left out. */
export interface Written extends Schema.Codec.Encoded<typeof Scenario> {}

/**
 * A file that is not a scenario.
 *
 * **Details**
 *
 * `message` says what was expected and at which field, for example `["dynamicRate"]["cushion"]`.
 */
export class ScenarioError extends Data.TaggedError("ScenarioError")<{ readonly message: string }> {}

/**
 * Reads a scenario from parsed JSON.
 *
 * **Errors**
 *
 * Fails with a `ScenarioError` that names the field.
 *
 * **Example** (What is left out has a default)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Scenario from "@evenkeel/core/testing/Scenario"
 *
 * const scenario = Effect.runSync(Scenario.decode({ id: "S01", dynamicRate: { ceilingPerSecond: [[0, 200]] } }))
 *
 * scenario.dynamicRate.cushion // => 2
 * scenario.headers.units // => 1
 * ```
 */
export const decode = (json: unknown): Effect.Effect<Scenario, ScenarioError> =>
  Effect.mapError(Effect.fromResult(read(json)), (error) => new ScenarioError({ message: error.message }))

/**
 * Makes a scenario from the fields that differ from the defaults.
 *
 * **Errors**
 *
 * Throws a `RangeError` that names the field.
 *
 * **Example** (A constant limit of 60 a minute)
 *
 * ```ts
 * import * as Scenario from "@evenkeel/core/testing/Scenario"
 *
 * const scenario = Scenario.make({ dynamicRate: { floorPerSecond: 1, ceilingPerSecond: 1 } })
 *
 * Scenario.at(scenario.dynamicRate.ceilingPerSecond, 3600) // => 1
 * ```
 */
export const make = (written: Written = {}): Scenario => {
  const result = read(written)
  if (Result.isFailure(result)) throw new RangeError(`Scenario.make: ${result.failure.message}`)
  return result.success
}

/**
 * The value of a trace at a moment.
 *
 * **Units**
 *
 * Seconds from the start of the scenario. Before the first step its value holds, after the last one the last.
 */
export const at = (trace: Trace, seconds: number): number => {
  const step = trace[stepAt(trace, seconds)]
  return step === undefined ? 0 : step[1]
}

/**
 * When the trace changes next after a moment: `Infinity` when never again.
 *
 * **Units**
 *
 * Seconds from the start of the scenario, always later than `seconds`.
 */
export const nextStep = (trace: Trace, seconds: number): number => {
  const first = trace[0]
  if (first !== undefined && seconds < first[0]) return first[0]
  return trace[stepAt(trace, seconds) + 1]?.[0] ?? Infinity
}

const read = Schema.decodeUnknownResult(Scenario)

const inOrder = (trace: Trace): boolean =>
  trace[0]?.[0] === 0 && trace.every((step, index) => index === 0 || step[0] > (trace[index - 1]?.[0] ?? Infinity))

/** The index of the step in force, by halving: a random walk has thousands of steps. */
const stepAt = (trace: Trace, seconds: number): number => {
  let low = 0
  let high = trace.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((trace[middle]?.[0] ?? Infinity) <= seconds) low = middle
    else high = middle - 1
  }
  return low
}
