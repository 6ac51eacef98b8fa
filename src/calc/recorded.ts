/** Recorded: for which pod IPAM's blocks record each address: the evidence for what a pod's annotation claims. */
import type { BlockRow } from "../model/convert/block.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import { type Prefix, prefixLength, prefixOf } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";

interface Block {
  readonly prefix: Prefix;
  /** The pod that holds each address that a pod holds. */
  readonly holders: ReadonlyMap<Addr, KeyText>;
}

export class Recorded {
  readonly #blocks = new Map<KeyText, Block>();
  /** Blocks of one prefix: one, unless the datastore is broken. */
  readonly #byPrefix = new Map<Prefix, Set<KeyText>>();
  /** How many prefixes there are of each length. */
  readonly #lengths = new Map<number, number>();

  /** Addresses whose holder changed. */
  step(blocks: Delta<KeyText, BlockRow>): ReadonlySet<Addr> {
    const changed = new Set<Addr>();
    for (const [key, row] of blocks) {
      const before = this.#blocks.get(key);
      const now = row === undefined ? undefined : readBlock(row);
      for (const [addr, pod] of before?.holders ?? []) if (now?.holders.get(addr) !== pod) changed.add(addr);
      for (const [addr, pod] of now?.holders ?? []) if (before?.holders.get(addr) !== pod) changed.add(addr);
      this.#file(key, before, now);
    }
    return changed;
  }

  /** Whether a block records the address for the pod. */
  has(addr: Addr, pod: KeyText): boolean {
    for (const length of this.#lengths.keys()) {
      if (length > (addr.includes(":") ? 128 : 32)) continue;
      for (const key of this.#byPrefix.get(prefixOf(addr, length)) ?? [])
        if (this.#blocks.get(key)?.holders.get(addr) === pod) return true;
    }
    return false;
  }

  #file(key: KeyText, before: Block | undefined, now: Block | undefined): void {
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

function readBlock({ prefix, allocations }: BlockRow): Block {
  const holders = new Map<Addr, KeyText>();
  for (const { addr, pod } of allocations) if (pod !== undefined) holders.set(addr, formatKey(pod));
  return { prefix, holders };
}
