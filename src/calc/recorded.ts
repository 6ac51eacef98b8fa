/** Recorded: the pod for which IPAM's blocks record each address: the evidence for what a pod's annotation claims. */
import { addTo, type Bag, removeFrom, valuesOf } from "../lib/bag.ts";
import { type BlockRow, HOLDER_SEPARATOR } from "../model/convert/block.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import { addressesOf, ordinalIn } from "../net/ordinal.ts";
import { type Prefix, prefixLength, prefixOf } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";

type Block = Pick<BlockRow, "prefix" | "holders">;

const NOBODY: readonly string[] = [];

export class Recorded {
  readonly #blocks = new Map<KeyText, Block>();
  /** Blocks of one prefix: one, unless the datastore is broken. */
  readonly #byPrefix = new Map<Prefix, Bag<KeyText>>();
  /** The number of prefixes of each length. */
  readonly #lengths = new Map<number, number>();

  /** Addresses whose holder changed; none unless somebody `asks`. */
  step(blocks: Delta<KeyText, BlockRow>, asks: boolean): ReadonlySet<Addr> {
    const changed = new Set<Addr>();
    for (const [key, row] of blocks) {
      const before = this.#blocks.get(key);
      const now = row === undefined ? undefined : { prefix: row.prefix, holders: row.holders };
      this.#index(key, before, now);
      if (!asks) continue;
      if (before?.prefix === now?.prefix) addDifference(before, now, changed);
      else {
        addDifference(before, undefined, changed);
        addDifference(undefined, now, changed);
      }
    }
    return changed;
  }

  /** Whether a block records the address for the pod. */
  has(addr: Addr, pod: KeyText): boolean {
    for (const length of this.#lengths.keys()) {
      if (length > (addr.includes(":") ? 128 : 32)) continue;
      const prefix = prefixOf(addr, length);
      for (const key of valuesOf(this.#byPrefix.get(prefix)))
        if (holdersOf(this.#blocks.get(key))[ordinalIn(prefix, addr)] === pod) return true;
    }
    return false;
  }

  #index(key: KeyText, before: Block | undefined, now: Block | undefined): void {
    if (now === undefined) this.#blocks.delete(key);
    else this.#blocks.set(key, now);
    if (before?.prefix === now?.prefix) return;
    if (before !== undefined) {
      removeFrom(this.#byPrefix, before.prefix, key);
      if (!this.#byPrefix.has(before.prefix)) this.#count(before.prefix, -1);
    }
    if (now === undefined) return;
    if (!this.#byPrefix.has(now.prefix)) this.#count(now.prefix, 1);
    addTo(this.#byPrefix, now.prefix, key);
  }

  #count(prefix: Prefix, by: 1 | -1): void {
    const length = prefixLength(prefix);
    const count = (this.#lengths.get(length) ?? 0) + by;
    if (count > 0) this.#lengths.set(length, count);
    else this.#lengths.delete(length);
  }
}

/** By ordinal; empty where no pod holds the address. */
function holdersOf(block: Block | undefined): readonly string[] {
  return block === undefined ? NOBODY : block.holders.split(HOLDER_SEPARATOR);
}

/** Adds the addresses whose holders differ between two states of one block. */
function addDifference(before: Block | undefined, now: Block | undefined, into: Set<Addr>): void {
  if (before?.holders === now?.holders) return;
  const [old, current] = [holdersOf(before), holdersOf(now)];
  const prefix = before?.prefix ?? now?.prefix;
  if (prefix === undefined) return;
  let addressAt: ((ordinal: number) => Addr) | undefined;
  for (let ordinal = 0; ordinal < old.length || ordinal < current.length; ordinal++) {
    if ((old[ordinal] ?? "") === (current[ordinal] ?? "")) continue;
    addressAt ??= addressesOf(prefix);
    into.add(addressAt(ordinal));
  }
}
