/**
 * A binary heap from which any element can be removed.
 *
 * Here belongs the one ordered collection that schedulers and timers share. It knows nothing of calls or time. Each
 * element keeps its own place under the heap's name, so that removing one costs no search.
 *
 * **Source**
 *
 * J. W. J. Williams, Algorithm 232 (Heapsort), CACM 1964.
 */

/** A heap; `first` is the element that comes before all others. */
export interface Heap<A> {
  readonly size: () => number
  readonly first: () => A | undefined
  readonly add: (element: A) => void
  readonly remove: (element: A) => boolean
  readonly elements: () => ReadonlyArray<A>
}

/**
 * An empty heap.
 *
 * **Details**
 *
 * `before(a, b)` says whether `a` comes strictly before `b`. `placeOf` and `setPlace` read and write where an element
 * sits, -1 for nowhere. All operations cost O(log n), adding in order costs O(1).
 */
export const make = <A>(options: {
  readonly before: (a: A, b: A) => boolean
  readonly placeOf: (element: A) => number
  readonly setPlace: (element: A, place: number) => void
}): Heap<A> => {
  const { before, placeOf, setPlace } = options
  const heap: Array<A> = []
  const put = (element: A, place: number): void => {
    heap[place] = element
    setPlace(element, place)
  }
  const up = (element: A, from: number): void => {
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      const above = heap[parent]!
      if (!before(element, above)) break
      put(above, place)
      place = parent
    }
    put(element, place)
  }
  const down = (element: A, from: number): void => {
    let place = from
    while (true) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, element)) break
      put(heap[child]!, place)
      place = child
    }
    put(element, place)
  }
  return {
    size: () => heap.length,
    first: () => heap[0],
    add: (element) => {
      heap.push(element)
      up(element, heap.length - 1)
    },
    remove: (element) => {
      const place = placeOf(element)
      if (place < 0 || heap[place] !== element) return false
      const last = heap.pop()!
      if (place < heap.length) {
        if (place > 0 && before(last, heap[(place - 1) >> 1]!)) up(last, place)
        else down(last, place)
      }
      setPlace(element, -1)
      return true
    },
    elements: () => heap
  }
}
