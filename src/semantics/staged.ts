/** Staged: the cluster as it would be were its staged policies enforced (POL-53). */
import { formatKey, type Key } from "../model/key.ts";
import { KINDS } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { ClusterResources } from "./cluster.ts";

const ENFORCED = {
  StagedNetworkPolicy: "NetworkPolicy",
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedKubernetesNetworkPolicy: "KubernetesNetworkPolicy",
} as const;
export type StagedKind = keyof typeof ENFORCED;
export const STAGED_KINDS = Object.keys(ENFORCED) as readonly StagedKind[];

/** A staged policy, and the policy that its enforcement writes or deletes. */
export interface StagedPolicy {
  readonly kind: StagedKind;
  readonly object: Resource<StagedKind>;
}

export function stagedKeyOf({ kind, object }: StagedPolicy): Key {
  return keyOf(kind, object as Resource);
}

export function enforcedKeyOf(staged: StagedPolicy): Key {
  return { ...stagedKeyOf(staged), kind: ENFORCED[staged.kind] } as Key;
}

/** Whether it says something: `Ignore` does not. */
export function isEvaluated({ object }: StagedPolicy): boolean {
  return object.spec?.stagedAction !== "Ignore";
}

export function withStaged(resources: ClusterResources, staged: readonly StagedPolicy[]): ClusterResources {
  const evaluated = staged.filter(isEvaluated);
  const replaced = new Set(evaluated.map((each) => formatKey(enforcedKeyOf(each))));
  const after = <K extends (typeof ENFORCED)[StagedKind]>(kind: K, policies: readonly Resource<K>[]): Resource<K>[] => [
    ...policies.filter((policy) => !replaced.has(formatKey(keyOf(kind, policy)))),
    ...evaluated
      .filter((each) => ENFORCED[each.kind] === kind && each.object.spec?.stagedAction !== "Delete")
      .map(({ object }) => enforced(kind, object)),
  ];
  return {
    ...resources,
    networkPolicies: after("KubernetesNetworkPolicy", resources.networkPolicies),
    calicoPolicies: after("NetworkPolicy", resources.calicoPolicies ?? []),
    globalPolicies: after("GlobalNetworkPolicy", resources.globalPolicies ?? []),
  };
}

function enforced<K extends (typeof ENFORCED)[StagedKind]>(
  kind: K,
  { metadata, spec }: Resource<StagedKind>,
): Resource<K> {
  const { stagedAction: _, ...rest } = spec ?? {};
  const { apiKind, apiVersion } = KINDS[kind];
  return { apiVersion, kind: apiKind, metadata, spec: rest } as unknown as Resource<K>;
}
