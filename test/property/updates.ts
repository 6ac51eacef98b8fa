/** Updates: a cluster as a syncer would tell it, as objects and as the rows that are kept of them. */
import { type RowUpdate, rowsFor } from "../../src/model/convert/rows.ts";
import type { Key } from "../../src/model/key.ts";
import type { Kind } from "../../src/model/kind.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Update } from "../../src/model/update.ts";
import type { ClusterResources } from "../../src/semantics/cluster.ts";
import type { RandomCluster } from "./clusters.ts";
import type { StagedObjects } from "./staged-policies.ts";

const ORIGIN = { revision: "1", generation: undefined, seenAt: 0 } as const;

/** What calculation is told. */
export const rowOf = rowsFor("n1");

export function saidOf<K extends Kind>(kind: K, value: Resource<K>): Update {
  return { kind, key: keyOf(kind, value), value, origin: ORIGIN } as unknown as Update;
}

export function deniedOf(key: Key): Update {
  return { kind: key.kind, key, value: undefined, origin: ORIGIN } as Update;
}

/** Absent lists are empty. */
type Said = Partial<ClusterResources & Pick<RandomCluster, "felixConfigurations"> & StagedObjects>;

export function saidOfCluster(cluster: Said): Update[] {
  return [
    ...(cluster.pods ?? []).map((pod) => saidOf("Pod", pod)),
    ...(cluster.namespaces ?? []).map((namespace) => saidOf("Namespace", namespace)),
    ...(cluster.serviceAccounts ?? []).map((account) => saidOf("ServiceAccount", account)),
    ...(cluster.networkPolicies ?? []).map((policy) => saidOf("KubernetesNetworkPolicy", policy)),
    ...(cluster.calicoPolicies ?? []).map((policy) => saidOf("NetworkPolicy", policy)),
    ...(cluster.globalPolicies ?? []).map((policy) => saidOf("GlobalNetworkPolicy", policy)),
    ...(cluster.endpointSlices ?? []).map((slice) => saidOf("EndpointSlice", slice)),
    ...(cluster.hostEndpoints ?? []).map((host) => saidOf("HostEndpoint", host)),
    ...(cluster.workloadEndpoints ?? []).map((machine) => saidOf("WorkloadEndpoint", machine)),
    ...(cluster.profiles ?? []).map((profile) => saidOf("Profile", profile)),
    ...(cluster.adminNetworkPolicies ?? []).map((policy) => saidOf("AdminNetworkPolicy", policy)),
    ...(cluster.baselineAdminNetworkPolicies ?? []).map((policy) => saidOf("BaselineAdminNetworkPolicy", policy)),
    ...(cluster.felixConfigurations ?? []).map((felix) => saidOf("FelixConfiguration", felix)),
    ...(cluster.clusterNetworkPolicies ?? []).map((policy) => saidOf("ClusterNetworkPolicy", policy)),
    ...(cluster.stagedPolicies ?? []).map((policy) => saidOf("StagedNetworkPolicy", policy)),
    ...(cluster.stagedGlobalPolicies ?? []).map((policy) => saidOf("StagedGlobalNetworkPolicy", policy)),
    ...(cluster.stagedKubernetesPolicies ?? []).map((policy) => saidOf("StagedKubernetesNetworkPolicy", policy)),
    ...(cluster.tiers ?? []).map((tier) => saidOf("Tier", tier)),
    ...(cluster.networkSets ?? []).map((set) => saidOf("NetworkSet", set)),
    ...(cluster.globalNetworkSets ?? []).map((set) => saidOf("GlobalNetworkSet", set)),
    ...(cluster.blocks ?? []).map((block) => saidOf("IPAMBlock", block)),
    ...(cluster.nodes ?? []).map((node) => saidOf("Node", node)),
  ];
}

export function updateOf<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
  return rowOf(saidOf(kind, value));
}

export function deletionOf(key: Key): RowUpdate {
  return rowOf(deniedOf(key));
}

export function updatesOf(cluster: Said): RowUpdate[] {
  return saidOfCluster(cluster).map((update) => rowOf(update));
}
