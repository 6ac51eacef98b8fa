/** Updates: a cluster as a syncer would tell it. */
import type { Key } from "../../src/model/key.ts";
import type { Kind } from "../../src/model/kind.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Update } from "../../src/model/update.ts";
import type { RandomCluster } from "./clusters.ts";

const ORIGIN = { revision: "1", generation: undefined, seenAt: 0 } as const;

export function updateOf<K extends Kind>(kind: K, value: Resource<K>): Update {
  return { kind, key: keyOf(kind, value), value, origin: ORIGIN } as unknown as Update;
}

export function deletionOf(key: Key): Update {
  return { kind: key.kind, key, value: undefined, origin: ORIGIN } as Update;
}

export function updatesOf(cluster: RandomCluster): Update[] {
  return [
    ...cluster.pods.map((pod) => updateOf("Pod", pod)),
    ...cluster.namespaces.map((namespace) => updateOf("Namespace", namespace)),
    ...cluster.serviceAccounts.map((account) => updateOf("ServiceAccount", account)),
    ...cluster.networkPolicies.map((policy) => updateOf("KubernetesNetworkPolicy", policy)),
    ...cluster.blocks.map((block) => updateOf("IPAMBlock", block)),
    ...cluster.nodes.map((node) => updateOf("Node", node)),
  ];
}
