/**
 * SetElements: the elements of one set, with the kernel's rules of what may stand beside what.
 *
 * Three kinds: a hash of keys; the bounds of ranges of one field (a start, and an end with the flag INTERVAL_END); ranges of a
 * concatenation with a key and an end key. Source: linux net/netfilter/nft_set_hash.c, nft_set_rbtree.c, nft_set_pipapo.c.
 */
import { EEXIST, ENOENT } from "../../errno.ts";
import { NFT_SET_INTERVAL } from "../../nftables/wire.ts";
import { refuse, unmodelled } from "../refusal.ts";
import type { FakeSetIs, FakeVerdict } from "./values.ts";

export interface FakeElement {
  /** Lower-case hex. */
  readonly key: string;
  readonly keyEnd: string | undefined;
  readonly isEnd: boolean;
  readonly verdict: FakeVerdict | undefined;
  readonly userdata: Uint8Array | undefined;
}

export class SetElements {
  readonly #is: FakeSetIs;
  readonly #kind: "hash" | "bounds" | "ranges";
  readonly #byId = new Map<string, FakeElement>();
  /** Of bounds: in the order of their keys, an end before a start of the same key. */
  readonly #sorted: FakeElement[] = [];

  constructor(is: FakeSetIs) {
    this.#is = is;
    this.#kind = (is.flags & NFT_SET_INTERVAL) === 0 ? "hash" : is.fields === undefined ? "bounds" : "ranges";
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Of a hash: what it has for the key. */
  get(key: string): FakeElement | undefined {
    return this.#byId.get(key);
  }

  all(): Iterable<FakeElement> {
    return this.#kind === "bounds" ? this.#sorted : this.#byId.values();
  }

  /** undefined: the element was there already, the same. Else how to take it back. Throws Refusal (EEXIST). */
  insert(element: FakeElement, exclusive: boolean): (() => void) | undefined {
    const id = idOf(element);
    const there = this.#byId.get(id);
    if (there !== undefined) {
      const same =
        there.verdict?.code === element.verdict?.code &&
        there.verdict?.chain === element.verdict?.chain &&
        (this.#kind !== "ranges" || there.keyEnd === element.keyEnd);
      return same && !exclusive ? undefined : refuse(EEXIST);
    }
    if (this.#kind === "bounds" && this.#isInside(element)) refuse(EEXIST);
    if (this.#kind === "ranges" && this.#touches(element)) refuse(EEXIST);
    this.#put(element);
    return () => this.#take(element);
  }

  /** What was there, and how to put it back. Throws Refusal (ENOENT). */
  remove(wanted: FakeElement): { readonly element: FakeElement; readonly undo: () => void } {
    const element = this.#byId.get(idOf(wanted));
    if (element === undefined) {
      if (this.#kind === "ranges" && this.#touches(wanted)) unmodelled("deletion of a range by part of it");
      return refuse(ENOENT);
    }
    if (element.keyEnd !== wanted.keyEnd) unmodelled("deletion of a range by part of it");
    this.#take(element);
    return { element, undo: () => this.#put(element) };
  }

  #put(element: FakeElement): void {
    this.#byId.set(idOf(element), element);
    if (this.#kind === "bounds") this.#sorted.splice(this.#placeOf(element), 0, element);
  }

  #take(element: FakeElement): void {
    this.#byId.delete(idOf(element));
    if (this.#kind === "bounds") this.#sorted.splice(this.#placeOf(element), 1);
  }

  /** Index of the first bound that is not before it. */
  #placeOf(element: FakeElement): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#sorted[middle];
      if (other !== undefined && isBefore(other, element)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** A bound within a range that has both of its own, or an end behind another end: it would overlap. */
  #isInside(element: FakeElement): boolean {
    const place = this.#placeOf(element);
    const before = this.#sorted[place - 1];
    if (element.isEnd && before?.isEnd === true) return true;
    return before?.isEnd === false && this.#sorted[place]?.isEnd === true;
  }

  /** pipapo looks for its first and its last key alone: a range that encloses another is not noticed. */
  #touches({ key, keyEnd }: FakeElement): boolean {
    for (const other of this.#byId.values())
      if (this.#contains(other, key) || this.#contains(other, keyEnd ?? key)) return true;
    return false;
  }

  #contains(range: FakeElement, key: string): boolean {
    let at = 0;
    for (const bytes of this.#is.fields ?? []) {
      const end = at + Math.ceil(bytes / 4) * 8;
      const field = key.slice(at, end);
      if (field < range.key.slice(at, end) || field > (range.keyEnd ?? range.key).slice(at, end)) return false;
      at = end;
    }
    return true;
  }
}

function idOf({ key, isEnd }: FakeElement): string {
  return isEnd ? `${key}-` : key;
}

function isBefore(a: FakeElement, b: FakeElement): boolean {
  return a.key === b.key ? a.isEnd && !b.isEnd : a.key < b.key;
}
