/** Read cluster: raw resources as what policy sees of them. */
import { readGlobalNetworkPolicy, readNetworkPolicy } from "./calico-policy.ts";
import type { Resource } from "../model/resource.ts";
import { protocolByName } from "../net/protocol.ts";
import { readAdminNetworkPolicy, readBaselineAdminNetworkPolicy } from "./admin-network-policy.ts";
import { readClusterNetworkPolicy } from "./cluster-network-policy.ts";
import type { Cluster, ClusterEndpoints, ClusterPolicy, ClusterResources } from "./cluster.ts";
import { readHostEndpoints } from "./host-endpoints.ts";
import { readKubernetesPolicy } from "./kubernetes-policy.ts";
import { readMachines } from "./machines.ts";
import { readNetworkSets } from "./network-sets.ts";
import { parseAll, readPods } from "./pods.ts";
import { tiersOf } from "./tiers.ts";

export function clusterOf(resources: ClusterResources): Cluster {
  const policies = sortPolicies([
    ...resources.networkPolicies.map(readKubernetesPolicy),
    ...(resources.calicoPolicies ?? []).map(readNetworkPolicy),
    ...(resources.globalPolicies ?? []).map(readGlobalNetworkPolicy),
    ...(resources.clusterNetworkPolicies ?? []).map(readClusterNetworkPolicy),
    ...(resources.adminNetworkPolicies ?? []).map(readAdminNetworkPolicy),
    ...(resources.baselineAdminNetworkPolicies ?? []).map(readBaselineAdminNetworkPolicy),
  ]);
  return {
    pods: [...readPods(resources), ...readMachines(resources)],
    hostEndpoints: readHostEndpoints(resources),
    networkSets: readNetworkSets(resources),
    endpoints: (resources.endpointSlices ?? []).flatMap(readSlice),
    tiers: tiersOf(resources.tiers ?? [], policies),
    policies,
    nodes: (resources.nodes ?? []).map((node) => ({
      name: node.metadata.name,
      addresses: parseAll((node.status?.addresses ?? []).map(({ address }) => address)),
    })),
  };
}

/** POL-48: ready or not. */
function readSlice({ metadata, endpoints, ports }: Resource<"EndpointSlice">): ClusterEndpoints[] {
  const name = metadata.labels?.["kubernetes.io/service-name"];
  if (name === undefined) return [];
  return [
    {
      service: `${metadata.namespace ?? "default"}/${name}`,
      addresses: endpoints.flatMap(({ addresses }) => addresses.flatMap((text) => parseAll([text]))),
      ports: (ports ?? []).flatMap(({ protocol: text, port }) => {
        const protocol = protocolByName(text ?? "TCP");
        return protocol === undefined || port === undefined ? [] : [{ protocol, port }];
      }),
    },
  ];
}

/** POL-8, POL-26. */
export function sortPolicies(policies: readonly ClusterPolicy[]): ClusterPolicy[] {
  return [...policies].sort((a, b) => a.order - b.order || (rank(a) < rank(b) ? -1 : 1));
}

function rank({ key }: ClusterPolicy): string {
  const kind = /^(Cluster|Admin|BaselineAdmin)NetworkPolicy$/.test(key.kind) ? `Kubernetes${key.kind}` : key.kind;
  return `${key.name}/${key.namespace ?? ""}/${kind}`;
}
