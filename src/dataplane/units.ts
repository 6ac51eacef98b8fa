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
