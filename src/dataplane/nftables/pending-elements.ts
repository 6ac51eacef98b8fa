/**
 * PendingElements: of each kernel set whose members the program has, what the kernel lacks and has too many. Nothing is kept of members
 * on which both agree: what is wanted is the program, and what the kernel has is that less what is pending.
 */
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { elementText } from "./sets.ts";

export interface SetPending {
  readonly unitId: string;
  readonly is: NftSet;
  /** By element text. */
  readonly add: Map<string, NftElement>;
  readonly remove: Map<string, NftElement>;
  /** Went while the set was being filled: the kernel may have them. To be added (which changes nothing where they are) and removed. */
  readonly unsure: Map<string, NftElement>;
  /** The rest of a new set, as the program goes on having it. */
  filling: Iterator<NftElement | undefined> | undefined;
}

export class PendingElements {
  readonly #sets = new Map<string, SetPending>();
  /** Those that may not be settled. */
  readonly #open = new Set<SetPending>();

  get(set: string): SetPending | undefined {
    return this.#sets.get(set);
  }

  /** The kernel has none of them. */
  fill(set: string, unitId: string, is: NftSet, elements: Iterator<NftElement | undefined>): void {
    this.#enter(set, { unitId, is, add: new Map(), remove: new Map(), unsure: new Map(), filling: elements });
  }

  /** The kernel has them all, as far as is known. */
  settle(set: string, unitId: string, is: NftSet): SetPending {
    const entry = { unitId, is, add: new Map(), remove: new Map(), unsure: new Map(), filling: undefined };
    this.#enter(set, entry);
    return entry;
  }

  #enter(set: string, entry: SetPending): void {
    this.forget(set);
    this.#sets.set(set, entry);
    this.#open.add(entry);
  }

  forget(set: string): void {
    const entry = this.#sets.get(set);
    if (entry !== undefined) this.#open.delete(entry);
    this.#sets.delete(set);
  }

  change(set: string, added: readonly NftElement[], removed: readonly NftElement[]): void {
    const entry = this.#sets.get(set);
    if (entry === undefined) return;
    this.#open.add(entry);
    for (const element of removed) {
      const text = elementText(element);
      if (entry.add.delete(text)) continue;
      (entry.filling === undefined ? entry.remove : entry.unsure).set(text, element);
    }
    for (const element of added) {
      // While it is filled, what comes is met on the way.
      if (entry.filling !== undefined) continue;
      const text = elementText(element);
      if (!entry.remove.delete(text)) entry.add.set(text, element);
    }
  }

  /** Takes up to so many elements of a set that is being filled into `add`, or fewer where they are far between. */
  pull(entry: SetPending, most: number): void {
    while (entry.filling !== undefined && entry.add.size < most) {
      const next = entry.filling.next();
      if (next.done === true) entry.filling = undefined;
      else if (next.value === undefined) {
        if (most !== Infinity) return;
      } else entry.add.set(elementText(next.value), next.value);
    }
  }

  /** The kernel has taken these. What changed since is told by `change`. */
  committed(
    set: string,
    added: readonly NftElement[],
    removed: readonly NftElement[],
    unsure: readonly NftElement[],
  ): void {
    const entry = this.#sets.get(set);
    if (entry === undefined) return;
    for (const element of added) entry.add.delete(elementText(element));
    for (const element of removed) entry.remove.delete(elementText(element));
    for (const element of unsure) entry.unsure.delete(elementText(element));
  }

  /** Elements that are known to differ; a set that is being filled counts at least one. */
  count(): number {
    let count = 0;
    for (const entry of this.#open) {
      const { add, remove, unsure, filling } = entry;
      if (isSettled(entry)) this.#open.delete(entry);
      else count += add.size + remove.size + unsure.size + (filling === undefined ? 0 : 1);
    }
    return count;
  }
}

export function isSettled({ add, remove, unsure, filling }: SetPending): boolean {
  return add.size + remove.size + unsure.size === 0 && filling === undefined;
}
