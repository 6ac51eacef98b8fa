/**
 * Cluster: what policy sees of raw resources, read naively: pods, host endpoints and network sets with their labels and addresses, tiers,
 * and policies in order.
 *
 * Part of the definition of meaning (docs/semantics.md), so it shares no conversion with the calculation, which is tested against it.
 */
import type { WorkloadKey } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Action, Hook } from "../model/policy.ts";
import type { Resource } from "../model/resource.ts";
import type { FieldError } from "../model/schema/field-error.ts";
import type { Addr, Family } from "../net/addr.ts";
import type { Icmp } from "../net/flow.ts";
import { type Prefix, prefixContains } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";

export interface ClusterResources {
  readonly pods: readonly Resource<"Pod">[];
  readonly namespaces: readonly Resource<"Namespace">[];
  readonly networkPolicies: readonly Resource<"KubernetesNetworkPolicy">[];
  readonly serviceAccounts?: readonly Resource<"ServiceAccount">[];
  readonly nodes?: readonly Resource<"Node">[];
  readonly blocks?: readonly Resource<"IPAMBlock">[];
  readonly calicoPolicies?: readonly Resource<"NetworkPolicy">[];
  readonly globalPolicies?: readonly Resource<"GlobalNetworkPolicy">[];
  readonly clusterNetworkPolicies?: readonly Resource<"ClusterNetworkPolicy">[];
  readonly adminNetworkPolicies?: readonly Resource<"AdminNetworkPolicy">[];
  readonly baselineAdminNetworkPolicies?: readonly Resource<"BaselineAdminNetworkPolicy">[];
  readonly tiers?: readonly Resource<"Tier">[];
  readonly networkSets?: readonly Resource<"NetworkSet">[];
  readonly globalNetworkSets?: readonly Resource<"GlobalNetworkSet">[];
  readonly endpointSlices?: readonly Resource<"EndpointSlice">[];
  readonly hostEndpoints?: readonly Resource<"HostEndpoint">[];
  readonly workloadEndpoints?: readonly Resource<"WorkloadEndpoint">[];
  readonly profiles?: readonly Resource<"Profile">[];
}

export type LabelMap = Readonly<Record<string, string>>;

/** Something that selectors of rules speak about. */
export interface Labelled {
  /** undefined: of the cluster's scope. */
  readonly namespace: string | undefined;
  readonly labels: LabelMap;
}

export interface ClusterPort {
  readonly name: string | undefined;
  readonly protocol: Protocol | undefined;
  readonly port: number;
}

/** A pod or WorkloadEndpoint that has addresses. */
export interface ClusterPod extends Labelled {
  readonly key: WorkloadKey;
  readonly namespace: string;
  readonly node: string;
  readonly addresses: readonly Addr[];
  readonly ports: readonly ClusterPort[];
  /** POL-50, in order, as policies that select nothing. Of a WorkloadEndpoint; absent of a pod. */
  readonly profiles?: readonly ClusterPolicy[];
}

/** An interface of a node that policy protects. */
export interface ClusterHostEndpoint extends Labelled {
  readonly key: Key;
  readonly namespace: undefined;
  readonly addresses: readonly Addr[];
  readonly ports: readonly ClusterPort[];
  /** POL-50, in order, as policies that select nothing. */
  readonly profiles: readonly ClusterPolicy[];
}

/** POL-44. */
export interface ClusterNetworkSet extends Labelled {
  readonly key: Key;
  readonly nets: readonly Prefix[];
}

/** POL-48: some endpoints of a Service. */
export interface ClusterEndpoints {
  readonly service: string;
  readonly addresses: readonly Addr[];
  readonly ports: readonly { readonly protocol: Protocol; readonly port: number }[];
}

/** POL-26. */
export interface ClusterTier {
  readonly name: string;
  /** What happens to packets that none of its policies decided. */
  readonly otherwise: "deny" | "pass";
}

export interface ClusterPolicy {
  readonly key: Key;
  /** undefined: cluster-wide. */
  readonly namespace: string | undefined;
  readonly tier: string;
  readonly order: number;
  /** POL-31. */
  readonly hooks: readonly Hook[];
  /** POL-19, POL-46: `closed` selects what its selector says, `closed-to-all` every pod in its scope. */
  readonly state: "valid" | "closed" | "closed-to-all";
  readonly errors: readonly FieldError[];
  readonly selector: LabelSelector | CalicoSelector | PodsSelector;
  /** undefined: the policy does not apply to the direction. */
  readonly ingress: readonly WrittenRule[] | undefined;
  readonly egress: readonly WrittenRule[] | undefined;
}

/** POL-51: the pods that are selected as a peer of a rule is. */
export interface PodsSelector {
  readonly pods: NetworkPolicyPeer;
}

/** POL-38, POL-41: what a policy selects, or whose addresses one side of a rule means. All that is given must hold; empty texts are not given. */
export interface CalicoSelector {
  readonly selector?: string | undefined;
  readonly notSelector?: string | undefined;
  /** The one namespace; undefined: any, and what is in none. */
  readonly namespace?: string | undefined;
  readonly namespaceSelector?: string | undefined;
  readonly serviceAccountSelector?: string | undefined;
  readonly serviceAccountNames?: readonly string[] | undefined;
}

/** A rule as written: all given conditions must hold. */
export interface WrittenRule {
  readonly action: Action;
  readonly ipVersion?: Family;
  readonly protocol?: Protocol;
  readonly notProtocol?: Protocol;
  /** Of ICMP or ICMPv6, by the protocol. */
  readonly icmp?: WrittenIcmp;
  /** None of these may match. */
  readonly notIcmp?: readonly WrittenIcmp[];
  readonly source: WrittenSide;
  readonly destination: WrittenSide;
}

export type WrittenIcmp = Partial<Icmp> & { readonly protocol: Protocol };

export interface WrittenSide {
  /** One peer of each list must match. */
  readonly among?: readonly (readonly WrittenPeer[])[];
  /** None of these may match. */
  readonly notAmong?: readonly WrittenPeer[];
  /** One of these must match. */
  readonly ports?: readonly WrittenPort[];
  /** None of these may match. */
  readonly notPorts?: readonly WrittenPort[];
}

export type WrittenPeer = NetworkPolicyPeer | CalicoPeer;

/** The addresses of a net, those of what is selected, or those of the endpoints of a Service, `NAMESPACE/NAME`. */
export type CalicoPeer =
  | { readonly net: Prefix }
  | { readonly selected: CalicoSelector }
  | { readonly service: string };

export type WrittenPort = NetworkPolicyPort | CalicoPort;

/** POL-43: a port of any of the protocols. */
export interface CalicoPort {
  readonly protocols: readonly Protocol[];
  readonly port:
    | { readonly from: number; readonly to: number }
    | { readonly name: string }
    /** POL-48: a port of an endpoint of the Service, at its address. */
    | { readonly service: string };
}

export interface Cluster {
  readonly pods: readonly ClusterPod[];
  readonly hostEndpoints: readonly ClusterHostEndpoint[];
  readonly networkSets: readonly ClusterNetworkSet[];
  readonly endpoints: readonly ClusterEndpoints[];
  /** In order of evaluation. */
  readonly tiers: readonly ClusterTier[];
  /** POL-8: in order of evaluation within their tier. */
  readonly policies: readonly ClusterPolicy[];
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly Addr[] }[];
}

/** POL-3: an address means every pod that has it. */
export function podsAt(cluster: Cluster, addr: Addr): readonly ClusterPod[] {
  return cluster.pods.filter((pod) => pod.addresses.includes(addr));
}

/** POL-3: pods and host endpoints. */
export function endpointsAt(cluster: Cluster, addr: Addr): readonly (ClusterPod | ClusterHostEndpoint)[] {
  return [...podsAt(cluster, addr), ...cluster.hostEndpoints.filter(({ addresses }) => addresses.includes(addr))];
}

/** POL-3, POL-44: what an address stands for. */
export function labelledAt(cluster: Cluster, addr: Addr): readonly Labelled[] {
  const sets = cluster.networkSets.filter(({ nets }) => nets.some((net) => prefixContains(net, addr)));
  return [...endpointsAt(cluster, addr), ...sets];
}

export function findPod(cluster: Cluster, key: WorkloadKey): ClusterPod | undefined {
  return cluster.pods.find((pod) => formatKey(pod.key) === formatKey(key));
}

/** The rules of every policy and of the profiles of endpoints. */
export function rulesOf({ policies, pods, hostEndpoints }: Cluster): readonly WrittenRule[] {
  const profiles = new Map(
    [...pods, ...hostEndpoints].flatMap((each) => each.profiles ?? []).map((profile) => [profile.key.name, profile]),
  );
  return [...policies, ...profiles.values()].flatMap(({ ingress, egress }) => [...(ingress ?? []), ...(egress ?? [])]);
}
