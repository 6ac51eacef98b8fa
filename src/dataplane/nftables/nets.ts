/**
 * Nets: the nets of one family of a set as the kernel's sets hold them. A set of intervals costs the kernel its whole size at each change; a hash
 * set costs it the change. So a prefix length that many of the nets have gets a hash set of its own, which is asked for the address
 * masked to that length, and only the others share a set of intervals. Which lengths these are follows from the nets alone.
 */
import type { NftElement } from "../../kernel/nftables/objects.ts";
import type { Family } from "../../net/addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "../../net/prefix.ts";
import { hexAddr } from "./bytes.ts";
import { type Interval, Intervals } from "./intervals.ts";

/** Nets of one length that are worth a set of their own: so many intervals cost the kernel some 30 µs. */
export const MANY_NETS = 256;
/** Each is one more look-up for the first packet of a flow. */
const MOST_LENGTHS = 8;

/** Nets of that prefix length; or all others, as intervals. */
export type NetsPart = number | "rest";

export interface NetsChange {
  readonly added: readonly NftElement[];
  readonly removed: readonly NftElement[];
}

export class Nets {
  readonly family: Family;
  /** Prefix lengths with a hash set of their own, ascending. */
  readonly lengths: readonly number[];
  /** Those that hold anything. */
  readonly parts: readonly NetsPart[];
  /** By prefix length. */
  readonly #counts = new Map<number, number>();
  readonly #rest: Intervals;

  /** Nets of the family, each once. */
  constructor(family: Family, nets: Iterable<Prefix>) {
    this.family = family;
    const own = [...nets];
    for (const net of own) this.#count(net, 1);
    this.lengths = lengthsOf(this.#counts);
    this.#rest = new Intervals(
      this.lengths.length === 0 ? own : own.filter((net) => !this.lengths.includes(prefixLength(net))),
    );
    this.parts = this.#rest.size === 0 ? this.lengths : [...this.lengths, "rest"];
  }

  #count(net: Prefix, by: 1 | -1): void {
    const length = prefixLength(net);
    const count = (this.#counts.get(length) ?? 0) + by;
    if (count === 0) this.#counts.delete(length);
    else this.#counts.set(length, count);
  }

  /** The number of elements. */
  sizeOf(part: NetsPart): number {
    return part === "rest" ? this.#rest.size : (this.#counts.get(part) ?? 0);
  }

  /** The intervals of the rest, as they are now, in order. */
  intervals(): readonly Interval[] {
    return this.#rest.all();
  }

  hasInterval(interval: Interval): boolean {
    return this.#rest.has(interval);
  }

  /**
   * Nets that it has not and nets that it has, each once. Returns what became of the parts; undefined: the parts are others now, and this one is
   * of no use any more.
   */
  apply(added: readonly Prefix[], removed: readonly Prefix[]): ReadonlyMap<NetsPart, NetsChange> | undefined {
    for (const net of removed) this.#count(net, -1);
    for (const net of added) this.#count(net, 1);
    const lengths = lengthsOf(this.#counts);
    if (lengths.length !== this.lengths.length || lengths.some((length, i) => length !== this.lengths[i]))
      return undefined;
    const changes = new Map<NetsPart, NetsChange>();
    for (const length of lengths) {
      const change = { added: keysOf(added, length), removed: keysOf(removed, length) };
      if (change.added.length + change.removed.length > 0) changes.set(length, change);
    }
    const isOther = (net: Prefix): boolean => !lengths.includes(prefixLength(net));
    const { added: came, removed: went } = this.#rest.apply(added.filter(isOther), removed.filter(isOther));
    if (this.#rest.size > 0 !== this.parts.includes("rest")) return undefined;
    if (came.length + went.length > 0)
      changes.set("rest", { added: came.map(elementOfInterval), removed: went.map(elementOfInterval) });
    return changes;
  }
}

/** Ascending; the same for the same nets, however they came about. */
function lengthsOf(counts: ReadonlyMap<number, number>): readonly number[] {
  const many = [...counts].filter(([, count]) => count >= MANY_NETS);
  if (many.length > MOST_LENGTHS) many.sort(([a, one], [b, other]) => other - one || a - b);
  return many
    .slice(0, MOST_LENGTHS)
    .map(([length]) => length)
    .sort((a, b) => a - b);
}

/** The elements of the nets of that length. */
export function keysOf(nets: readonly Prefix[], length: number): readonly NftElement[] {
  return nets.filter((net) => prefixLength(net) === length).map(keyOf);
}

/** The element of a net in the hash set of its length. */
export function keyOf(net: Prefix): NftElement {
  return { key: hexAddr(prefixAddr(net)), keyEnd: undefined, verdict: undefined };
}

export function elementOfInterval({ first, last }: Interval): NftElement {
  return { key: first, keyEnd: last, verdict: undefined };
}

/** Those of the family. */
export function netsIn(nets: Iterable<Prefix>, family: Family): readonly Prefix[] {
  return Array.from(nets).filter((net) => prefixFamily(net) === family);
}
