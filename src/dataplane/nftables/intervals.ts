/**
 * Intervals: the union of the nets of one family, as the disjoint intervals that a set of the kernel takes. Nets may overlap and touch; the
 * kernel refuses elements that do. A net that comes or goes costs what lies in it and beside it, not what the union holds.
 */
import { invariant } from "../../lib/bug.ts";
import { type Prefix, prefixAddr, prefixLength } from "../../net/prefix.ts";
import { hexAddr } from "./bytes.ts";

/** First and last address in hexadecimal digits, of one length in a family: so texts are in the order of addresses. */
export interface Interval {
  readonly first: string;
  readonly last: string;
}

export interface IntervalChange {
  readonly added: readonly Interval[];
  readonly removed: readonly Interval[];
}

/** A change of more than one in so many nets is made in one pass over all. */
const SHARE = 8;

export class Intervals {
  /** In the order of `compare`: what lies in a net follows it. */
  #nets: Interval[];
  /** Disjoint and not adjacent, in order. */
  #merged: Interval[];

  /** Each net once. */
  constructor(nets: Iterable<Prefix>) {
    this.#nets = Array.from(nets, intervalOf).sort(compare);
    this.#merged = merge(this.#nets);
  }

  /** The number of intervals. */
  get size(): number {
    return this.#merged.length;
  }

  has(interval: Interval): boolean {
    return isAt(this.#merged, find(this.#merged, interval), interval);
  }

  /** As they are now, in order. */
  all(): readonly Interval[] {
    return [...this.#merged];
  }

  /** Nets that it has not and nets that it has, each once. Returns what became of the intervals. */
  apply(added: readonly Prefix[], removed: readonly Prefix[]): IntervalChange {
    if ((added.length + removed.length) * SHARE > this.#nets.length) return this.#applyMany(added, removed);
    const change = { added: new Map<string, Interval>(), removed: new Map<string, Interval>() };
    for (const net of removed) this.#remove(net, change);
    for (const net of added) this.#add(net, change);
    return { added: [...change.added.values()], removed: [...change.removed.values()] };
  }

  #applyMany(added: readonly Prefix[], removed: readonly Prefix[]): IntervalChange {
    const gone = new Set(removed.map((net) => textOf(intervalOf(net))));
    const kept = this.#nets.filter((net) => !gone.has(textOf(net)));
    invariant(kept.length === this.#nets.length - removed.length, "a net is removed that was not added");
    const before = this.#merged;
    this.#nets = [...kept, ...added.map(intervalOf)].sort(compare);
    this.#merged = merge(this.#nets);
    const [was, is] = [new Set(before.map(textOf)), new Set(this.#merged.map(textOf))];
    return {
      added: this.#merged.filter((each) => !was.has(textOf(each))),
      removed: before.filter((each) => !is.has(textOf(each))),
    };
  }

  #add(prefix: Prefix, change: Changing): void {
    const net = intervalOf(prefix);
    this.#nets.splice(find(this.#nets, net), 0, net);
    const merged = this.#merged;
    let from = indexAfter(merged, ({ last }) => last < net.first);
    const left = merged[from - 1];
    if (left !== undefined && following(left.last) === net.first) from--;
    let to = indexAfter(merged, ({ first }) => first <= net.last);
    if (merged[to]?.first === following(net.last) && to < merged.length) to++;
    this.#replace(from, to, merge([...merged.slice(from, to), net].sort(compare)), change);
  }

  #remove(prefix: Prefix, change: Changing): void {
    const net = intervalOf(prefix);
    const at = find(this.#nets, net);
    invariant(isAt(this.#nets, at, net), "a net is removed that was not added");
    this.#nets.splice(at, 1);
    const index = indexAfter(this.#merged, ({ last }) => last < net.first);
    const around = this.#merged[index];
    invariant(around !== undefined, "a net is in no interval");
    if (this.#isCovered(net, prefixLength(prefix), around)) return;
    // No net lies across an end of another: beside this one all is held by others.
    const left = around.first < net.first ? [{ first: around.first, last: preceding(net.first) }] : [];
    const right = net.last < around.last ? [{ first: following(net.last) ?? "", last: around.last }] : [];
    let end = at;
    for (let inner = this.#nets[end]; inner !== undefined && inner.first <= net.last; inner = this.#nets[end]) end++;
    this.#replace(index, index + 1, merge([...left, ...this.#nets.slice(at, end), ...right]), change);
  }

  /** Whether another net holds all of it; it would lie in the same interval. */
  #isCovered(net: Interval, length: number, within: Interval): boolean {
    for (let shorter = length - 1; shorter >= 0; shorter--) {
      const wide = netAround(net.first, shorter);
      if (wide.first < within.first || within.last < wide.last) return false;
      if (isAt(this.#nets, find(this.#nets, wide), wide)) return true;
    }
    return false;
  }

  #replace(from: number, to: number, now: readonly Interval[], { added, removed }: Changing): void {
    for (const interval of this.#merged.splice(from, to - from, ...now)) {
      const text = textOf(interval);
      if (!added.delete(text)) removed.set(text, interval);
    }
    for (const interval of now) {
      const text = textOf(interval);
      if (!removed.delete(text)) added.set(text, interval);
    }
  }
}

/** By text. */
interface Changing {
  readonly added: Map<string, Interval>;
  readonly removed: Map<string, Interval>;
}

function textOf({ first, last }: Interval): string {
  return `${first}-${last}`;
}

/** By first address; a net before those that lie in it. */
function compare(a: Interval, b: Interval): number {
  if (a.first !== b.first) return a.first < b.first ? -1 : 1;
  return a.last === b.last ? 0 : a.last > b.last ? -1 : 1;
}

/** The index of the interval in a list in order, or where it would be. */
function find(list: readonly Interval[], interval: Interval): number {
  return indexAfter(list, (each) => compare(each, interval) < 0);
}

function isAt(list: readonly Interval[], index: number, interval: Interval): boolean {
  const found = list[index];
  return found !== undefined && compare(found, interval) === 0;
}

/** The number of intervals at the begin of the list for which that holds; it holds for none after them. */
function indexAfter(list: readonly Interval[], holds: (interval: Interval) => boolean): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const found = list[middle];
    if (found !== undefined && holds(found)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Of intervals in the order of `compare`. */
function merge(sorted: readonly Interval[]): Interval[] {
  const merged: Interval[] = [];
  for (const interval of sorted) {
    const top = merged.at(-1);
    if (top === undefined || (interval.first > top.last && interval.first !== following(top.last)))
      merged.push(interval);
    else if (interval.last > top.last) merged[merged.length - 1] = { first: top.first, last: interval.last };
  }
  return merged;
}

function intervalOf(prefix: Prefix): Interval {
  return netAround(hexAddr(prefixAddr(prefix)), prefixLength(prefix));
}

/** The net of that length that the address lies in. */
function netAround(addr: string, length: number): Interval {
  const whole = length >> 2;
  const bits = length & 3;
  let [first, last] = [addr.slice(0, whole), addr.slice(0, whole)];
  if (bits > 0) {
    const digit = Number.parseInt(addr.charAt(whole), 16);
    first += (digit & ~(15 >> bits)).toString(16);
    last += (digit | (15 >> bits)).toString(16);
  }
  return { first: first.padEnd(addr.length, "0"), last: last.padEnd(addr.length, "f") };
}

/** The next address; undefined after the last one. */
function following(addr: string): string | undefined {
  const kept = addr.replace(/f+$/, "");
  if (kept === "") return undefined;
  const digit = Number.parseInt(kept.slice(-1), 16) + 1;
  return (kept.slice(0, -1) + digit.toString(16)).padEnd(addr.length, "0");
}

/** The address before; there is none before the first one. */
function preceding(addr: string): string {
  const kept = addr.replace(/0+$/, "");
  const digit = Number.parseInt(kept.slice(-1), 16) - 1;
  return (kept.slice(0, -1) + digit.toString(16)).padEnd(addr.length, "f");
}
