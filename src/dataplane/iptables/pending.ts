/**
 * PendingMembers: of each IP set, which elements are to be added and taken away. To add what is there and to take away what is not is no error, so
 * this need not know exactly what the kernel has.
 */
import type { IpSetKind } from "../../kernel/ipset/client.ts";

export interface SetPending {
  readonly unitId: string;
  readonly is: IpSetKind;
  readonly add: Set<string>;
  readonly remove: Set<string>;
  /** The rest of a new set, as the program goes on having it. */
  filling: Iterator<string> | undefined;
}

export class PendingMembers {
  readonly #sets = new Map<string, SetPending>();

  get(set: string): SetPending | undefined {
    return this.#sets.get(set);
  }

  /** The kernel has none of them. */
  fill(set: string, unitId: string, is: IpSetKind, elements: Iterator<string>): void {
    this.#sets.set(set, { unitId, is, add: new Set(), remove: new Set(), filling: elements });
  }

  /** The kernel lacks these and has those too many. */
  replace(set: string, unitId: string, is: IpSetKind, add: Set<string>, remove: Set<string>): void {
    this.#sets.set(set, { unitId, is, add, remove, filling: undefined });
  }

  forget(set: string): void {
    this.#sets.delete(set);
  }

  change(set: string, added: readonly string[], removed: readonly string[]): void {
    const entry = this.#sets.get(set);
    if (entry === undefined) return;
    for (const element of removed) {
      entry.add.delete(element);
      entry.remove.add(element);
    }
    for (const element of added) {
      entry.remove.delete(element);
      entry.add.add(element);
    }
  }

  /** So many of what comes. */
  next(entry: SetPending, most: number): readonly string[] {
    while (entry.filling !== undefined && entry.add.size < most) {
      const next = entry.filling.next();
      if (next.done === true) entry.filling = undefined;
      // What went meanwhile is not met any more; what came back is.
      else if (!entry.remove.has(next.value)) entry.add.add(next.value);
    }
    return [...entry.add].slice(0, most);
  }

  done(entry: SetPending, added: readonly string[], removed: readonly string[]): void {
    for (const element of added) entry.add.delete(element);
    for (const element of removed) entry.remove.delete(element);
  }

  /** Sets with something to do. */
  *unsettled(): Generator<[string, SetPending]> {
    for (const [set, entry] of this.#sets) if (!isSettled(entry)) yield [set, entry];
  }

  /** Elements that are known to differ; a set that is being filled counts at least one. */
  count(): number {
    let count = 0;
    for (const { add, remove, filling } of this.#sets.values())
      count += add.size + remove.size + (filling === undefined ? 0 : 1);
    return count;
  }
}

/** All that comes is there. */
export function isFilled({ add, filling }: SetPending): boolean {
  return add.size === 0 && filling === undefined;
}

export function isSettled(entry: SetPending): boolean {
  return entry.remove.size === 0 && isFilled(entry);
}
