/**
 * The events of a `text/event-stream`, in text that is at hand.
 *
 * Here belongs cutting the text into events. Which of them is an error or tells usage belongs to `ProviderProfile`.
 * Decoding a live stream event by event is `effect/encoding/Sse`; this reads a transcript, or the end of one.
 *
 * **Source**
 *
 * The event stream format of the HTML standard.
 */

/** An event: its name, empty where it has none, and its lines of data. */
export interface Event {
  readonly name: string
  readonly data: string
}

/** The events of a text, in their order; the last one need not have ended. Comments and keep-alives are none. */
export function* events(text: string): Generator<Event> {
  let name = ""
  let data: string | undefined
  for (const line of lines(text)) {
    if (line === "") {
      if (data !== undefined) yield { name, data }
      name = ""
      data = undefined
    } else if (line.startsWith("data:")) {
      const value = line.startsWith("data: ") ? line.slice(6) : line.slice(5)
      data = data === undefined ? value : `${data}\n${value}`
    } else if (line.startsWith("event:")) name = line.slice(6).trim()
  }
  if (data !== undefined) yield { name, data }
}

/** Lines end with LF, CRLF or CR. */
function* lines(text: string): Generator<string> {
  let start = 0
  while (start < text.length) {
    let end = start
    while (end < text.length && text[end] !== "\n" && text[end] !== "\r") end++
    yield text.slice(start, end)
    start = text[end] === "\r" && text[end + 1] === "\n" ? end + 2 : end + 1
  }
}
