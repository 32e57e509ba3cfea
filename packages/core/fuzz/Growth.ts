/**
 * How the cost of reading an answer grows with its length: in proportion, or with the square.
 *
 * Here belongs telling it by the clock, for the whole and for each regular expression by itself. It is part of `pnpm fuzz`,
 * and not of the tests, which never look at the clock.
 */
import * as Fs from "node:fs"
import * as WireArbitrary from "../test/fixtures/WireArbitrary.ts"

/** What grows faster than the text it is given, in words; nothing, if all is well. */
export const faults = (): ReadonlyArray<string> => {
  const seen = growthOf((length) => {
    const text = `${" ".repeat(length)}!`
    return () => / +$/.test(text)
  }, [1024, 16_384])
  if (seen < mostGrowth) return ["a cost that grows with the square is not told from one in proportion"]
  const whole = WireArbitrary.hostile.flatMap(({ most, of, what }) => {
    const growth = growthOf((length) => {
      const [profile, answer] = WireArbitrary.answerOf(of(length))
      return () => profile.classify(answer)
    }, [most / 16, most])
    return growth < mostGrowth ? [] : [`${what}: ${growth.toFixed(0)} times the cost for 16 times the length`]
  })
  const found = expressions()
  if (found.length < 50) return ["the regular expressions are not found"]
  const steep = found.filter((each) => isSteep(each)).map(String).filter((each) => !short.has(each))
  return [...whole, ...steep.map((each) => `${each} takes steps that grow with the square of its text`)]
}

/** Of a cost in proportion it is 16, of one that grows with the square 256. */
const mostGrowth = 64

/** Costs below this are lost in the noise, ms; one that grows with the square takes a hundred times longer. */
const floorMillis = 2

/** Times by how much the cost grows from one length to another, sixteen times as long; 1 where it stays negligible. */
const growthOf = (prepare: (length: number) => () => unknown, [less, more]: readonly [number, number]): number => {
  const large = millisOf(prepare(more), 4)
  return large < floorMillis ? 1 : large / millisOf(prepare(less), 20)
}

const millisOf = (run: () => unknown, rounds: number): number => {
  let best = Infinity
  for (let round = 0; round < rounds && best > floorMillis / 16; round++) {
    const start = performance.now()
    run()
    best = Math.min(best, performance.now() - start)
  }
  return best
}

/** Expressions whose steps grow with the square, and the most characters that they are given. */
const short: ReadonlyMap<string, number> = new Map([
  // A number with six decimals.
  ["/\\.?0+$/", 24]
])

const modules = [
  ..."RateLimitHeaders ProviderProfile ProviderWays StructuredFields RetryPolicy".split(" "),
  ..."Verdict ErrorBody LimitNames IetfFields WireGrammar EventStream CallCost".split(" ").map((name) =>
    `internal/${name}`
  ),
  ...Fs.readdirSync(new URL("../src/profiles", import.meta.url)).map((name) => `profiles/${name.slice(0, -3)}`)
]

/** The regular expressions that are written in the modules. */
const expressions = (): ReadonlyArray<RegExp> =>
  modules.flatMap((name) => {
    const source = Fs.readFileSync(new URL(`../src/${name}.ts`, import.meta.url), "utf8")
    const code = source.replaceAll(/^ *(?:\*|\/[/*]).*$/gm, "")
    const literals = code.matchAll(/(?<=[=(,[?:&|!>]\s*)\/((?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\[\n])+)\/([a-z]*)/g)
    return [...literals].map(([, pattern, flags]) => new RegExp(pattern!, flags))
  })

/** Is there a text on which its steps grow with the square, or faster? */
const isSteep = (expression: RegExp): boolean => {
  // Words that it looks for are what makes it begin.
  const words = expression.source.match(/[\w/#<:"-]{2,}/g) ?? []
  const pumps = [
    ..."\t \n 0 1 a - . , : ; # / \" \\ % < ( _ A Z 1. a-".split(" "),
    " ",
    "a ",
    "1h",
    ...words,
    ...words.map((word) => `${word} `)
  ]
  return pumps.some((pump) =>
    ["", "\n!", "!"].some((end) => {
      // Short texts first, for on a long one the worst kind would take for ever.
      for (const length of [32, 256, 4096, ...(pump.length > 1 ? [65_536] : [])]) {
        const growth = growthOf((size) => {
          const text = pump.repeat(size / pump.length) + end
          return () => {
            expression.lastIndex = 0
            expression.test(text)
          }
        }, [length / 16, length])
        if (growth > mostGrowth) return true
      }
      return false
    })
  )
}
