/** Ranked: policies in the order in which a tier asks them. What decides that is derived once for each policy, as it may select every endpoint of the node. */
import type { Kind } from "../model/kind.ts";
import { enforcedKeyOf, isStagedKey } from "../model/kinds/staged.ts";
import type { PolicyModel } from "../model/policy.ts";
import { policyIdOf } from "../program/lower-rule.ts";
import type { PolicyId } from "../program/policy.ts";

/** A policy with what decides its place. */
export interface Ranked {
  readonly model: PolicyModel;
  readonly id: PolicyId;
  readonly isStaged: boolean;
  /** Of two policies of the same order the one with the lesser text is asked first. */
  readonly tie: string;
}

/** Made once for each version of a policy. */
export function ranked(model: PolicyModel): Ranked {
  return { model, id: policyIdOf(model), isStaged: isStagedKey(model.key), tie: tieText(model) };
}

/** Ascending order, then the text `name/namespace/kind`. */
export function compareRanked(a: Ranked, b: Ranked): number {
  return a.model.order - b.model.order || compareText(a.tie, b.tie);
}

/** Upstream's names of kinds that are called otherwise here. */
const KIND_TEXTS: { readonly [K in Kind]?: string } = {
  ClusterNetworkPolicy: "KubernetesClusterNetworkPolicy",
  AdminNetworkPolicy: "KubernetesAdminNetworkPolicy",
  BaselineAdminNetworkPolicy: "KubernetesBaselineAdminNetworkPolicy",
};

/** A staged policy has the place that it would have. */
function tieText({ key }: PolicyModel): string {
  const kind = isStagedKey(key) ? enforcedKeyOf(key).kind : key.kind;
  return `${key.name}/${key.namespace ?? ""}/${KIND_TEXTS[kind] ?? kind}`;
}

/** By code units, the same in every locale. */
export function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
