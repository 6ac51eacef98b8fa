/**
 * Elements of sets, in both directions. The kernel keeps ranges in two ways, both hidden behind `key` and `keyEnd`:
 *
 * one field: two elements, the range's first key, and the key after its last with the flag INTERVAL_END. A range up to the
 * highest key has no second element. A concatenation: one element with a key and an end key.
 */
import { BugError } from "../../lib/bug.ts";
import { bytesFromHex, bytesToHex } from "../../lib/bytes.ts";
import { type Span, TYPE_MASK } from "../netlink/reader.ts";
import { ATTRIBUTE_HEADER, type Writer } from "../netlink/writer.ts";
import type { KeyDigest } from "./key-digest.ts";
import type { NftElement, NftSet } from "./objects.ts";
import { decodeVerdict, encodeVerdict } from "./verdict.ts";
import {
  NFT_SET_ELEM_INTERVAL_END,
  NFTA_DATA_VALUE,
  NFTA_LIST_ELEM,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
} from "./wire.ts";

/** NFTA_SET_ELEM_USERDATA (a comment) and NFTA_SET_ELEM_PAD change nothing. */
const HARMLESS: ReadonlySet<number> = new Set([6, 9]);

/** Ranges of this set are pairs of elements. */
export function hasPairs(set: NftSet): boolean {
  return set.interval && set.key.length === 1;
}

/** Writes the element as one or two NFTA_LIST_ELEM. */
export function encodeElement(w: Writer, set: NftSet, element: NftElement): void {
  if (set.interval !== (element.keyEnd !== undefined))
    throw new BugError(`element ${element.key}: an end key is given exactly in interval sets`);
  if (set.verdictMap !== (element.verdict !== undefined))
    throw new BugError(`element ${element.key}: a verdict is given exactly in verdict maps`);
  const open = w.open(NFTA_LIST_ELEM);
  key(w, NFTA_SET_ELEM_KEY, element.key);
  if (element.keyEnd !== undefined && !hasPairs(set)) key(w, NFTA_SET_ELEM_KEY_END, element.keyEnd);
  if (element.verdict !== undefined) {
    const data = w.open(NFTA_SET_ELEM_DATA);
    encodeVerdict(w, element.verdict);
    w.close(data);
  }
  w.close(open);
  if (element.keyEnd !== undefined && hasPairs(set)) encodeEnd(w, element.keyEnd);
}

function key(w: Writer, type: number, hex: string): void {
  const nested = w.open(type);
  w.hex(NFTA_DATA_VALUE, hex);
  w.close(nested);
}

function encodeEnd(w: Writer, last: string): void {
  const end = step(last, 1);
  if (end === undefined) return;
  const open = w.open(NFTA_LIST_ELEM);
  key(w, NFTA_SET_ELEM_KEY, end);
  w.u32Be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  w.close(open);
}

/** The next (1) or previous (-1) key of the same length; undefined beyond the last or first. */
function step(hex: string, by: 1 | -1): string | undefined {
  const bytes = bytesFromHex(hex);
  if (bytes === undefined) throw new BugError(`not hex: ${JSON.stringify(hex)}`);
  const full = by === 1 ? 0xff : 0;
  for (let i = bytes.length - 1; i >= 0; i--) {
    if (bytes[i] !== full) {
      bytes[i] = (bytes[i] ?? 0) + by;
      return bytesToHex(bytes);
    }
    bytes[i] = 0xff - full;
  }
  return undefined;
}

/** An element as the kernel keeps it: `element` of a range pair has no end yet. */
export interface RawElement {
  readonly key: string;
  readonly keyEnd: string | undefined;
  readonly intervalEnd: boolean;
  readonly verdict: NftElement["verdict"];
}

/** Adds the keys of a list of NFTA_LIST_ELEM; false when one is more than a key, or has a length that is not whole words. */
export function digestKeys({ view, from, to }: Span, into: KeyDigest): boolean {
  let at = from;
  while (at < to) {
    const key = at + ATTRIBUTE_HEADER;
    const data = key + ATTRIBUTE_HEADER;
    const value = data + ATTRIBUTE_HEADER;
    if (value > to) return false;
    const length = view.getUint16(at, true);
    const valueLength = view.getUint16(data, true) - ATTRIBUTE_HEADER;
    const isKeyAlone =
      view.getUint16(key, true) === length - ATTRIBUTE_HEADER &&
      view.getUint16(data, true) === length - 2 * ATTRIBUTE_HEADER &&
      (view.getUint16(key + 2, true) & TYPE_MASK) === NFTA_SET_ELEM_KEY &&
      (view.getUint16(data + 2, true) & TYPE_MASK) === NFTA_DATA_VALUE;
    const end = value + valueLength;
    if (!isKeyAlone || valueLength <= 0 || valueLength % 4 !== 0 || end > to) return false;
    for (let word = value; word < end; word += 4) into.word(view.getInt32(word, false));
    into.end();
    at = end;
  }
  return true;
}

/** One NFTA_LIST_ELEM; undefined when it has something for which there is no word (a time-out, an expression, the catch-all). */
export function decodeElement(span: Span): RawElement | undefined {
  // Nearly all elements are a key and nothing else, and a table has 100,000.
  const only = span.onlyAttribute(NFTA_SET_ELEM_KEY)?.onlyAttribute(NFTA_DATA_VALUE);
  if (only !== undefined) return { key: only.hex(), keyEnd: undefined, intervalEnd: false, verdict: undefined };
  let text: string | undefined;
  let keyEnd: string | undefined;
  let flags: number | undefined = 0;
  let verdict: NftElement["verdict"];
  let known = true;
  const whole = span.eachAttribute((type, value) => {
    if (type === NFTA_SET_ELEM_KEY) text = valueOf(value);
    else if (type === NFTA_SET_ELEM_KEY_END) known &&= (keyEnd = valueOf(value)) !== undefined;
    else if (type === NFTA_SET_ELEM_FLAGS) flags = value.u32Be();
    else if (type === NFTA_SET_ELEM_DATA) known &&= (verdict = decodeVerdict(value)) !== undefined;
    else known &&= HARMLESS.has(type);
  });
  if (!whole || !known || text === undefined || (flags !== 0 && flags !== NFT_SET_ELEM_INTERVAL_END)) return undefined;
  return { key: text, keyEnd, intervalEnd: flags === NFT_SET_ELEM_INTERVAL_END, verdict };
}

function valueOf(nested: Span): string | undefined {
  let hex: string | undefined;
  const whole = nested.eachAttribute((type, value) => {
    if (type === NFTA_DATA_VALUE) hex = value.hex();
  });
  return whole ? hex : undefined;
}

/** The set's elements; undefined when they are not such as `encodeElement` writes for that set. */
export function joinElements(set: NftSet, raw: readonly RawElement[]): NftElement[] | undefined {
  const elements = hasPairs(set) ? joinPairs(raw) : raw.map((one) => joinOne(set, one));
  const joined: NftElement[] = [];
  for (const element of elements) {
    if (element === undefined || set.verdictMap !== (element.verdict !== undefined)) return undefined;
    joined.push(element);
  }
  return joined;
}

function joinOne(set: NftSet, raw: RawElement): NftElement | undefined {
  if (raw.intervalEnd) return undefined;
  // A concatenation whose range is one value may have no end key.
  const keyEnd = set.interval ? (raw.keyEnd ?? raw.key) : raw.keyEnd;
  return set.interval === (keyEnd !== undefined) ? { key: raw.key, keyEnd, verdict: raw.verdict } : undefined;
}

/** Ranges in order of their keys. A range ends before the next element, whatever that is; the last one may reach to the end. */
function joinPairs(raw: readonly RawElement[]): (NftElement | undefined)[] {
  // An end sorts before a start of the same key.
  const sorted = [...raw].sort((a, b) =>
    a.key < b.key ? -1 : a.key > b.key ? 1 : Number(b.intervalEnd) - Number(a.intervalEnd),
  );
  const joined: (NftElement | undefined)[] = [];
  let open: RawElement | undefined;
  for (const one of sorted) {
    if (open !== undefined) joined.push(closed(open, step(one.key, -1)));
    // An end that closes nothing is how `nft` marks that the set does not begin at the lowest key.
    open = one.intervalEnd ? undefined : one;
  }
  if (open !== undefined) joined.push(closed(open, "f".repeat(open.key.length)));
  return joined;
}

function closed(open: RawElement, keyEnd: string | undefined): NftElement | undefined {
  return keyEnd === undefined || keyEnd < open.key || open.keyEnd !== undefined
    ? undefined
    : { key: open.key, keyEnd, verdict: open.verdict };
}
