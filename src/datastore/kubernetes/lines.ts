/**
 * Lines: splits a byte stream into JSON documents, one per line, as Kubernetes watches send them.
 *
 * Splits the bytes at the last newline received, so that each chunk is decoded once; a document split over chunks waits for its end.
 */
const NEWLINE = 10;

export class LineSplitter {
  readonly #parse: (line: string) => unknown;
  readonly #decoder = new TextDecoder();
  /** Pieces of the unfinished line; joined only when it ends, so that a long line costs no repeated copying. */
  #rest: Uint8Array[] = [];

  /** `parse`: throws SyntaxError when the line is not JSON. */
  constructor(parse: (line: string) => unknown = JSON.parse) {
    this.#parse = parse;
  }

  /** The documents completed by the chunk, in order. Throws SyntaxError when a line is not JSON. */
  push(chunk: Uint8Array): unknown[] {
    const end = chunk.lastIndexOf(NEWLINE);
    if (end < 0) {
      if (chunk.length > 0) this.#rest.push(chunk.slice());
      return [];
    }
    const text = this.#decoder.decode(joined([...this.#rest, chunk.subarray(0, end)]));
    this.#rest = end + 1 < chunk.length ? [chunk.slice(end + 1)] : [];
    const documents: unknown[] = [];
    for (const line of text.split("\n")) if (line.trim() !== "") documents.push(this.#parse(line));
    return documents;
  }

  /** Whether a line has begun that has not ended. */
  get unfinished(): boolean {
    return this.#rest.length > 0;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
