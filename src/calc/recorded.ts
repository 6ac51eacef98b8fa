/** Recorded: the pod for which IPAM's blocks record each address: the evidence for what a pod's annotation claims. */
import type { BlockRow } from "../model/convert/block.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import { addressesOf, ordinalIn } from "../net/ordinal.ts";
import { type Prefix, prefixLength, prefixOf } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";

interface Block {
  readonly prefix: Prefix;
  /** By ordinal of the address in the block: the pod that holds it, if a pod does. */
  readonly holders: readonly (KeyText | undefined)[];
}

export class Recorded {
  readonly #blocks = new Map<KeyText, Block>();
  /** Blocks of one prefix: one, unless the datastore is broken. */
  readonly #byPrefix = new Map<Prefix, Set<KeyText>>();
  /** The number of prefixes of each length. */
  readonly #lengths = new Map<number, number>();

  /** Addresses whose holder changed. `known` returns an equal key that is in memory already, to share it. */
  step(blocks: Delta<KeyText, BlockRow>, known: (key: KeyText) => KeyText): ReadonlySet<Addr> {
    const changed = new Set<Addr>();
    for (const [key, row] of blocks) {
      const before = this.#blocks.get(key);
      const now = row === undefined ? undefined : readBlock(row, known);
      if (before?.prefix === now?.prefix) addDifference(before, now, changed);
      else {
        addDifference(before, undefined, changed);
        addDifference(undefined, now, changed);
      }
      this.#index(key, before, now);
    }
    return changed;
  }

  /** Whether a block records the address for the pod. */
  has(addr: Addr, pod: KeyText): boolean {
    for (const length of this.#lengths.keys()) {
      if (length > (addr.includes(":") ? 128 : 32)) continue;
      const prefix = prefixOf(addr, length);
      for (const key of this.#byPrefix.get(prefix) ?? [])
        if (this.#blocks.get(key)?.holders[ordinalIn(prefix, addr)] === pod) return true;
    }
    return false;
  }

  #index(key: KeyText, before: Block | undefined, now: Block | undefined): void {
    if (now === undefined) this.#blocks.delete(key);
    else this.#blocks.set(key, now);
    if (before?.prefix === now?.prefix) return;
    if (before !== undefined) {
      const sharing = this.#byPrefix.get(before.prefix);
      sharing?.delete(key);
      if (sharing?.size === 0) {
        this.#byPrefix.delete(before.prefix);
        this.#count(before.prefix, -1);
      }
    }
    if (now === undefined) return;
    const sharing = this.#byPrefix.get(now.prefix);
    if (sharing !== undefined) sharing.add(key);
    else {
      this.#byPrefix.set(now.prefix, new Set([key]));
      this.#count(now.prefix, 1);
    }
  }

  #count(prefix: Prefix, by: 1 | -1): void {
    const length = prefixLength(prefix);
    const count = (this.#lengths.get(length) ?? 0) + by;
    if (count > 0) this.#lengths.set(length, count);
    else this.#lengths.delete(length);
  }
}

function readBlock({ prefix, allocations }: BlockRow, known: (key: KeyText) => KeyText): Block {
  const holders: (KeyText | undefined)[] = [];
  for (const { ordinal, pod } of allocations) {
    while (holders.length < ordinal) holders.push(undefined);
    holders.push(pod === undefined ? undefined : known(formatKey(pod)));
  }
  return { prefix, holders };
}

/** Adds the addresses whose holders differ between two states of one block. */
function addDifference(before: Block | undefined, now: Block | undefined, into: Set<Addr>): void {
  const [old, current] = [before?.holders ?? [], now?.holders ?? []];
  const prefix = before?.prefix ?? now?.prefix;
  if (prefix === undefined) return;
  let addressAt: ((ordinal: number) => Addr) | undefined;
  for (let ordinal = 0; ordinal < old.length || ordinal < current.length; ordinal++) {
    if (old[ordinal] === current[ordinal]) continue;
    addressAt ??= addressesOf(prefix);
    into.add(addressAt(ordinal));
  }
}
