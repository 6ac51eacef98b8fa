/** Staged policies: random ones of each kind: new, in the place of a policy, and deletions of one. */
import type { StagedKind } from "../../src/model/kinds/staged.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { StagedPolicy } from "../../src/semantics/staged.ts";
import { calicoPolicy, globalPolicy, hostPolicy } from "./calico-policies.ts";
import { randomPolicy } from "./policies.ts";
import type { Random } from "./random.ts";

export interface StagedObjects {
  readonly stagedPolicies: Resource<"StagedNetworkPolicy">[];
  readonly stagedGlobalPolicies: Resource<"StagedGlobalNetworkPolicy">[];
  readonly stagedKubernetesPolicies: Resource<"StagedKubernetesNetworkPolicy">[];
}

interface Policies {
  readonly calicoPolicies: readonly Resource<"NetworkPolicy">[];
  readonly globalPolicies: readonly Resource<"GlobalNetworkPolicy">[];
  readonly networkPolicies: readonly Resource<"KubernetesNetworkPolicy">[];
}

/** Every other cluster has some: one without must be as it always was. */
export function randomStagedObjects(random: Random, cluster: Policies, hasCalico: boolean): StagedObjects {
  if (random.chance(50)) return { stagedPolicies: [], stagedGlobalPolicies: [], stagedKubernetesPolicies: [] };
  const calico = hasCalico ? { own: 3, chance: 30 } : { own: 0, chance: 0 };
  return {
    stagedPolicies: unique([
      ...random.some(0, calico.own, () => staged(random, "StagedNetworkPolicy", calicoPolicy(random))),
      ...random
        .subset(cluster.calicoPolicies, calico.chance)
        .map(({ metadata }) => staged(random, "StagedNetworkPolicy", { ...calicoPolicy(random), metadata })),
    ]),
    stagedGlobalPolicies: unique([
      ...random.some(0, calico.own, () => stagedGlobalPolicy(random)),
      ...random.some(0, calico.own, () => staged(random, "StagedGlobalNetworkPolicy", hostPolicy(random))),
      ...random
        .subset(cluster.globalPolicies, calico.chance)
        .map(({ metadata }) => staged(random, "StagedGlobalNetworkPolicy", { ...hostPolicy(random), metadata })),
    ]),
    stagedKubernetesPolicies: unique([
      ...random.some(0, 2, () => staged(random, "StagedKubernetesNetworkPolicy", randomPolicy(random))),
      ...random
        .subset(cluster.networkPolicies, 30)
        .map(({ metadata }) => staged(random, "StagedKubernetesNetworkPolicy", { ...randomPolicy(random), metadata })),
    ]),
  };
}

export function stagedPolicy(random: Random): Resource<"StagedNetworkPolicy"> {
  return staged(random, "StagedNetworkPolicy", calicoPolicy(random));
}

export function stagedGlobalPolicy(random: Random): Resource<"StagedGlobalNetworkPolicy"> {
  const policy = random.chance(50) ? globalPolicy(random) : hostPolicy(random);
  return staged(random, "StagedGlobalNetworkPolicy", policy);
}

export function stagedKubernetesPolicy(random: Random): Resource<"StagedKubernetesNetworkPolicy"> {
  return staged(random, "StagedKubernetesNetworkPolicy", randomPolicy(random));
}

/** What a cluster has of them. */
export function stagedIn({
  stagedPolicies,
  stagedGlobalPolicies,
  stagedKubernetesPolicies,
}: StagedObjects): StagedPolicy[] {
  return [
    ...stagedPolicies.map((object) => ({ kind: "StagedNetworkPolicy", object }) as const),
    ...stagedGlobalPolicies.map((object) => ({ kind: "StagedGlobalNetworkPolicy", object }) as const),
    ...stagedKubernetesPolicies.map((object) => ({ kind: "StagedKubernetesNetworkPolicy", object }) as const),
  ];
}

function staged<K extends StagedKind>(
  random: Random,
  kind: K,
  { metadata, spec }: { readonly metadata: object; readonly spec?: unknown },
): Resource<K> {
  const stagedAction = random.pick([undefined, "Set", "Set", "Learn", "Delete", "Ignore"]);
  const own = stagedAction === "Delete" ? {} : (spec as object);
  return {
    apiVersion: "projectcalico.org/v3",
    kind,
    metadata,
    spec: { ...own, ...(stagedAction === undefined ? {} : { stagedAction }) },
  } as unknown as Resource<K>;
}

function unique<T extends { readonly metadata: { readonly name: string; readonly namespace?: string } }>(
  objects: readonly T[],
): T[] {
  return [...new Map(objects.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each])).values()];
}
