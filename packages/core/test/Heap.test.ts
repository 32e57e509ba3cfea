import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Heap from "../src/internal/Heap.ts"

interface Element {
  readonly rank: number
  place: number
}

interface Model {
  held: Array<Element>
  gone: Array<Element>
}

const element = (rank: number): Element => ({ rank, place: -1 })

const make = (): Heap.Heap<Element> =>
  Heap.make<Element>({
    before: (a, b) => a.rank < b.rank,
    placeOf: ({ place }) => place,
    setPlace: (element, place) => {
      element.place = place
    }
  })

/** Takes the first until nothing is left: the ranks in that order. */
const drain = (heap: Heap.Heap<Element>): ReadonlyArray<number> => {
  const order: Array<number> = []
  for (let first = heap.first(); first !== undefined; first = heap.first()) {
    order.push(first.rank)
    heap.remove(first)
  }
  return order
}

/** What holds after every step: what is held is held once, knows its place and comes after its parent. */
const check = ({ gone, held }: Model, heap: Heap.Heap<Element>): void => {
  assert.strictEqual(heap.size(), held.length)
  assert.sameMembers([...heap.elements()], held)
  for (const [place, element] of heap.elements().entries()) {
    assert.strictEqual(element.place, place)
    // Taking the first hides a wrong order for long, so it is looked for inside.
    if (place > 0) assert.isAtMost(heap.elements()[(place - 1) >> 1]!.rank, element.rank)
  }
  for (const { place } of gone) assert.strictEqual(place, -1)
  const first = heap.first()
  assert.strictEqual(first?.rank, held.length === 0 ? undefined : Math.min(...held.map(({ rank }) => rank)))
}

type Command = fc.Command<Model, Heap.Heap<Element>>

const remove = (element: Element, model: Model, heap: Heap.Heap<Element>): void => {
  assert.isTrue(heap.remove(element))
  model.held = model.held.filter((held) => held !== element)
  model.gone.push(element)
  check(model, heap)
}

const commands = fc.commands([
  fc.integer({ min: 0, max: 20 }).map((rank): Command => ({
    check: () => true,
    run: (model, heap) => {
      const added = element(rank)
      model.held.push(added)
      heap.add(added)
      check(model, heap)
    },
    toString: () => `add ${rank}`
  })),
  fc.nat().map((pick): Command => ({
    check: ({ held }) => held.length > 0,
    run: (model, heap) => remove(model.held[pick % model.held.length]!, model, heap),
    toString: () => `remove any (${pick})`
  })),
  fc.constant<Command>({
    check: ({ held }) => held.length > 0,
    run: (model, heap) => remove(heap.first()!, model, heap),
    toString: () => "remove the first"
  }),
  fc.nat().map((pick): Command => ({
    check: ({ gone }) => gone.length > 0,
    run: (model, heap) => {
      assert.isFalse(heap.remove(model.gone[pick % model.gone.length]!))
      check(model, heap)
    },
    toString: () => `remove one that is gone (${pick})`
  })),
  fc.nat().map((pick): Command => ({
    check: ({ gone }) => gone.length > 0,
    run: (model, heap) => {
      const [back] = model.gone.splice(pick % model.gone.length, 1)
      model.held.push(back!)
      heap.add(back!)
      check(model, heap)
    },
    toString: () => `add one again (${pick})`
  }))
], { maxCommands: 120 })

describe("a heap", () => {
  it("holds what a plain list would hold, and its first comes before all others", () => {
    fc.assert(
      fc.property(commands, (commands) => {
        fc.modelRun(() => ({ model: { held: [], gone: [] }, real: make() }), commands)
      }),
      { numRuns: 300 }
    )
  })

  it("gives everything back in order, whatever was removed from within", () => {
    const ranks = fc.array(fc.record({ rank: fc.integer(), stays: fc.boolean() }), { maxLength: 200 })
    fc.assert(fc.property(ranks, (ranks) => {
      const heap = make()
      const elements = ranks.map(({ rank }) => element(rank))
      for (const element of elements) heap.add(element)
      for (const [i, { stays }] of ranks.entries()) if (!stays) heap.remove(elements[i]!)
      assert.deepStrictEqual(
        drain(heap),
        ranks.filter(({ stays }) => stays).map(({ rank }) => rank).sort((a, b) => a - b)
      )
    }))
  })

  it("lets what fills a gap rise above its new parent", () => {
    const heap = make()
    // 11 leaves from below 10, and the 3 that takes its place came from below 1.
    const elements = [0, 10, 1, 11, 12, 2, 3].map(element)
    for (const element of elements) heap.add(element)
    remove(elements[3]!, { held: elements, gone: [] }, heap)
    assert.deepStrictEqual(drain(heap), [0, 1, 2, 3, 10, 12])
  })

  it("does not remove what another heap holds at the same place", () => {
    const one = make()
    const other = make()
    const here = element(1)
    const there = element(1)
    one.add(here)
    other.add(there)
    assert.isFalse(one.remove(there))
    assert.strictEqual(there.place, 0)
    assert.deepStrictEqual([one.size(), other.size()], [1, 1])
  })

  it("compares no more than twice the height for each element, and once when they come in order", () => {
    let comparisons = 0
    const count = 4_096
    const heap = Heap.make<Element>({
      before: (a, b) => {
        comparisons++
        return a.rank < b.rank
      },
      placeOf: ({ place }) => place,
      setPlace: (element, place) => {
        element.place = place
      }
    })
    for (let rank = 0; rank < count; rank++) heap.add(element(rank))
    assert.isAtMost(comparisons, count)
    comparisons = 0
    while (heap.size() > 0) heap.remove(heap.first()!)
    assert.isAtMost(comparisons, 2 * 12 * count)
  })
})
