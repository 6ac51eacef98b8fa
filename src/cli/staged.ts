/** Staged: policies that are there to be looked at and decide nothing: those that would apply to one of the ends are named. */
import { formatKey, formatName, type Key } from "../model/key.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { readGlobalNetworkPolicy, readNetworkPolicy } from "../semantics/calico-policy.ts";
import type { Cluster, ClusterPolicy } from "../semantics/cluster.ts";
import { readKubernetesPolicy } from "../semantics/kubernetes-policy.ts";
import { type Endpoint, selects } from "../semantics/match.ts";
import type { PolicyObjects } from "./policy-objects.ts";

interface Staged {
  readonly key: Key;
  readonly policy: ClusterPolicy;
}

function stagedOf(objects: PolicyObjects): Staged[] {
  /** What it would be, were it enforced. */
  const enforced = (policy: Resource): Resource => {
    const spec: object = (policy as { readonly spec?: object }).spec ?? {};
    const { stagedAction: _, ...rest } = spec as { readonly stagedAction?: unknown };
    return { ...policy, spec: rest } as Resource;
  };
  const kinds = [
    ["StagedNetworkPolicy", (policy: Resource) => readNetworkPolicy(policy as Resource<"NetworkPolicy">)],
    [
      "StagedGlobalNetworkPolicy",
      (policy: Resource) => readGlobalNetworkPolicy(policy as Resource<"GlobalNetworkPolicy">),
    ],
    [
      "StagedKubernetesNetworkPolicy",
      (policy: Resource) => readKubernetesPolicy(policy as Resource<"KubernetesNetworkPolicy">),
    ],
  ] as const;
  return kinds.flatMap(([kind, read]) =>
    objects.of(kind).map((object) => ({ key: keyOf(kind, object), policy: read(enforced(object)) })),
  );
}

/** One note for each staged policy that selects one of these pods and host endpoints. */
export function stagedNotes(objects: PolicyObjects, cluster: Cluster, ends: ReadonlySet<string>): string[] {
  const staged = stagedOf(objects);
  if (staged.length === 0) return [];
  const endpoints: Endpoint[] = [
    ...cluster.pods.map((pod) => ({ is: "pod" as const, ...pod })),
    ...cluster.hostEndpoints.map((host) => ({ is: "host" as const, ...host })),
  ].filter(({ key }) => ends.has(formatKey(key)));
  return staged
    .filter(({ policy }) => endpoints.some((endpoint) => selects(policy, endpoint)))
    .map(({ key }) => `${key.kind} ${formatName(key)} is staged: it is not enforced`);
}
