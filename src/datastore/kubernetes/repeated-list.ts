/**
 * RepeatedList: reads the documents of a watch of which each has one long list of texts, as a rule nearly the same as in the document before. What the
 * two have in common at either end is compared as text and not read again; the document that comes out is that of `JSON.parse`.
 */

/** Characters of a list worth the trouble. */
const LONG = 8_192;
const BLOCK = 4_096;
/** Stands for the list while the rest of the document is read. */
const STAND_IN = 0;

/** A list without escapes and blanks: its text between the brackets, and where in it each item begins, and after the last the next one would. */
interface Known {
  readonly text: string;
  readonly items: readonly string[];
  readonly starts: Uint32Array;
}

const NOTHING: Known = { text: "", items: [], starts: new Uint32Array(1) };

export class RepeatedList {
  /** `"nets":[` */
  readonly #begin: string;
  readonly #standing: string;
  readonly #path: readonly string[];
  #known = NOTHING;

  /** `path`: the fields that lead to the list. */
  constructor(path: readonly [string, ...string[]]) {
    const name = JSON.stringify(path.at(-1));
    this.#path = path;
    this.#begin = `${name}:[`;
    this.#standing = `${name}:${STAND_IN}`;
  }

  /** The document. Throws SyntaxError when it is not JSON. */
  parse(line: string): unknown {
    return this.#parse(line) ?? JSON.parse(line);
  }

  /** undefined: it has to be read as others are. */
  #parse(line: string): unknown {
    if (line.length < LONG) return undefined;
    const at = line.indexOf(this.#begin);
    const from = at + this.#begin.length;
    const to = line.indexOf("]", from);
    // A quote after one of these, and not a backslash, begins a name, as a text that ended there would have no colon after it.
    if (at < 1 || !"{,".includes(line.charAt(at - 1)) || to - from < LONG) return undefined;
    if (line.includes(this.#begin, from) || line.includes(this.#standing)) return undefined;
    const known = this.#read(line.slice(from, to));
    if (known === undefined) return undefined;
    const document: unknown = JSON.parse(`${line.slice(0, from - 1)}${STAND_IN}${line.slice(to + 1)}`);
    const holder = fieldAt(document, this.#path.slice(0, -1));
    const name = this.#path.at(-1) ?? "";
    if (!isObject(holder) || holder[name] !== STAND_IN) return undefined;
    holder[name] = known.items;
    this.#known = known;
    return document;
  }

  /** undefined: it has escapes or blanks, or something else than texts, or is not JSON. */
  #read(text: string): Known | undefined {
    const before = this.#known;
    const head = headOf(before, text);
    const tail = tailOf(before, text, head);
    const from = before.starts[head] ?? 0;
    const tailAt = before.items.length - tail;
    const tailLength = tail === 0 ? 0 : before.text.length - (before.starts[tailAt] ?? 0);
    const between = text.slice(from, text.length - tailLength);
    // The items between end with a comma where others follow.
    if (between.length > 0 && tail > 0 && !between.endsWith(",")) return undefined;
    const items = textsOf(between.length > 0 && tail > 0 ? between.slice(0, -1) : between);
    if (items === undefined || (items.length === 0 && tail === 0 && head > 0)) return undefined;
    const starts = new Uint32Array(head + items.length + tail + 1);
    starts.set(before.starts.subarray(0, head));
    let start = from;
    for (const [i, item] of items.entries()) {
      starts[head + i] = start;
      start += item.length + QUOTES_AND_COMMA;
    }
    // Without escapes and blanks the texts are as long as what they were read from.
    if (start !== text.length - tailLength + (tail === 0 && items.length > 0 ? 1 : 0)) return undefined;
    const moved = start - (before.starts[tailAt] ?? 0);
    for (let i = 0; i < tail; i++) starts[head + items.length + i] = (before.starts[tailAt + i] ?? 0) + moved;
    starts[head + items.length + tail] = text.length + 1;
    return { text, items: before.items.slice(0, head).concat(items, before.items.slice(tailAt)), starts };
  }
}

const QUOTES_AND_COMMA = 3;

/** The items of a list; undefined: it is none of texts. */
function textsOf(list: string): readonly string[] | undefined {
  try {
    const items: unknown = JSON.parse(`[${list}]`);
    if (Array.isArray(items) && items.every((item) => typeof item === "string")) return items;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return undefined;
}

/** How many items both begin with, each with its comma. */
function headOf({ text, starts, items }: Known, now: string): number {
  const same = commonHead(text, now);
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= same) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** How many items both end with, beyond those they begin with, each after a comma or the begin. */
function tailOf({ text, starts, items }: Known, now: string, head: number): number {
  const from = starts[head] ?? 0;
  const same = commonTail(text, now, Math.min(text.length, now.length) - from);
  let [low, high] = [head, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (text.length - (starts[middle] ?? 0) <= same) high = middle;
    else low = middle + 1;
  }
  return items.length - low;
}

/** Blocks are compared at once. */
function commonHead(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let at = 0;
  while (at + BLOCK <= most && a.slice(at, at + BLOCK) === b.slice(at, at + BLOCK)) at += BLOCK;
  while (at < most && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  return at;
}

function commonTail(a: string, b: string, most: number): number {
  const [end, other] = [a.length, b.length];
  let length = 0;
  while (
    length + BLOCK <= most &&
    a.slice(end - length - BLOCK, end - length) === b.slice(other - length - BLOCK, other - length)
  )
    length += BLOCK;
  while (length < most && a.charCodeAt(end - 1 - length) === b.charCodeAt(other - 1 - length)) length++;
  return length;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function fieldAt(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const name of path) at = isObject(at) ? at[name] : undefined;
  return at;
}
