/**
 * Units: what is programmed or refused as one: a set with its elements, a policy's chains, an endpoint's chains with its dispatch. Each
 * refers to those of a lower rank only, so that in order of rank every one finds what it refers to.
 */
import type { Key } from "../model/key.ts";

export interface Unit {
  readonly kind: "base" | "set" | "policy" | "endpoint" | "rest";
  /** `policy KubernetesNetworkPolicy/shop/web`. */
  readonly id: string;
  /** Of the datastore, if it is of one: the policy, or the endpoint's pod. */
  readonly object: Key | undefined;
}

/** The table, the hooks and the dispatch: without it there is nothing else. */
export const BASE_UNIT: Unit = { kind: "base", id: "base", object: undefined };

/** Something in the table that nobody wants: left by an earlier process or by others. */
export function restUnit(rowId: string): Unit {
  return { kind: "rest", id: rowId, object: undefined };
}

const RANKS: readonly Unit["kind"][] = ["base", "set", "policy", "endpoint", "rest"];

export function rankOf({ kind }: Unit): number {
  return RANKS.indexOf(kind);
}

/** Units in order of rank, each once. One may be removed, or added, while they are gone through. */
export class UnitQueue implements Iterable<Unit> {
  readonly #ranks: readonly Set<Unit>[] = RANKS.map(() => new Set());

  get size(): number {
    return this.#ranks.reduce((sum, { size }) => sum + size, 0);
  }

  add(unit: Unit): void {
    this.#ranks[rankOf(unit)]?.add(unit);
  }

  delete(unit: Unit): void {
    this.#ranks[rankOf(unit)]?.delete(unit);
  }

  has(unit: Unit): boolean {
    return this.#ranks[rankOf(unit)]?.has(unit) === true;
  }

  *[Symbol.iterator](): Iterator<Unit> {
    for (const units of this.#ranks) yield* units;
  }
}

export function inOrderOfRank(units: Iterable<Unit>): Iterable<Unit> {
  const queue = new UnitQueue();
  for (const unit of units) queue.add(unit);
  return queue;
}
