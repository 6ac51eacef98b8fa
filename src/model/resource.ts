/**
 * Resource: an object as the API holds it. Everything below `metadata` is untrusted input: readers convert it with `model/convert/`,
 * `model/kubernetes/` or `model/kinds/`, which return a Result.
 */
import type { Kind } from "./kind.ts";
import { KINDS } from "./kind.ts";
import type { Key } from "./key.ts";
import type { BlockAffinitySpec, IPAMBlockSpec, IPAMHandleSpec } from "./kinds/ipam.ts";
import type { ClusterInformationSpec, KubeControllersConfigurationSpec } from "./kinds/cluster.ts";
import type { IPPoolSpec } from "./kinds/ip-pool.ts";
import type { IPAMConfigurationSpec, IPReservationSpec } from "./kinds/ipam-settings.ts";
import type { NetworkPolicySpec, PolicyStatus } from "./kinds/network-policy.ts";
import type { GlobalNetworkPolicySpec } from "./kinds/global-network-policy.ts";
import type {
  StagedGlobalNetworkPolicySpec,
  StagedKubernetesNetworkPolicySpec,
  StagedNetworkPolicySpec,
} from "./kinds/staged.ts";
import type { TierSpec } from "./kinds/tier.ts";
import type { NetworkSetSpec } from "./kinds/network-set.ts";
import type { HostEndpointSpec } from "./kinds/host-endpoint.ts";
import type { WorkloadEndpointSpec } from "./kinds/workload-endpoint.ts";
import type { ProfileSpec } from "./kinds/profile.ts";
import type { FelixConfigurationSpec } from "./kinds/felix-configuration.ts";
import type { AdminNetworkPolicySpec, BaselineAdminNetworkPolicySpec } from "./kinds/admin-network-policy.ts";
import type { ClusterNetworkPolicySpec } from "./kinds/cluster-network-policy.ts";
import type { NodePolicyStatusSpec } from "./kinds/node-policy-status.ts";
import type { Lease } from "kubernetes-types/coordination/v1";
import type { Event, Namespace, Node, Pod, Service } from "kubernetes-types/core/v1";
import type { EndpointSlice } from "kubernetes-types/discovery/v1";
import type { NetworkPolicy } from "kubernetes-types/networking/v1";

export interface ObjectMeta {
  name: string;
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  finalizers?: string[];
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string }[];
}

interface Specs {
  Pod: Pick<Pod, "spec" | "status">;
  Namespace: Pick<Namespace, "spec" | "status">;
  ServiceAccount: unknown;
  Node: Pick<Node, "spec" | "status">;
  Event: Omit<Event, "metadata" | "apiVersion" | "kind">;
  KubernetesNetworkPolicy: Pick<NetworkPolicy, "spec">;
  IPPool: { spec: IPPoolSpec };
  IPAMBlock: { spec: IPAMBlockSpec };
  BlockAffinity: { spec: BlockAffinitySpec };
  IPAMHandle: { spec: IPAMHandleSpec };
  ClusterInformation: { spec: ClusterInformationSpec };
  KubeControllersConfiguration: { spec: KubeControllersConfigurationSpec };
  IPAMConfiguration: { spec: IPAMConfigurationSpec };
  IPReservation: { spec: IPReservationSpec };
  Service: Pick<Service, "spec" | "status">;
  EndpointSlice: Omit<EndpointSlice, "metadata" | "apiVersion" | "kind">;
  NetworkPolicy: { spec: NetworkPolicySpec; status?: PolicyStatus };
  GlobalNetworkPolicy: { spec: GlobalNetworkPolicySpec; status?: PolicyStatus };
  StagedNetworkPolicy: { spec: StagedNetworkPolicySpec; status?: PolicyStatus };
  StagedGlobalNetworkPolicy: { spec: StagedGlobalNetworkPolicySpec; status?: PolicyStatus };
  StagedKubernetesNetworkPolicy: { spec: StagedKubernetesNetworkPolicySpec; status?: PolicyStatus };
  Tier: { spec: TierSpec; status?: PolicyStatus };
  NetworkSet: { spec: NetworkSetSpec };
  GlobalNetworkSet: { spec: NetworkSetSpec };
  HostEndpoint: { spec: HostEndpointSpec };
  WorkloadEndpoint: { spec: WorkloadEndpointSpec };
  Profile: { spec: ProfileSpec };
  FelixConfiguration: { spec: FelixConfigurationSpec };
  ClusterNetworkPolicy: { spec: ClusterNetworkPolicySpec; status?: PolicyStatus };
  NodePolicyStatus: { spec: NodePolicyStatusSpec };
  Lease: Pick<Lease, "spec">;
  AdminNetworkPolicy: { spec: AdminNetworkPolicySpec; status?: PolicyStatus };
  BaselineAdminNetworkPolicy: { spec: BaselineAdminNetworkPolicySpec; status?: PolicyStatus };
}

export type Resource<K extends Kind = Kind> = K extends Kind
  ? { apiVersion: string; kind: string; metadata: ObjectMeta } & Specs[K]
  : never;

export function keyOf<K extends Kind>(kind: K, resource: { readonly metadata: ObjectMeta }): Key<K> {
  return {
    kind,
    namespace: KINDS[kind].namespaced ? (resource.metadata.namespace ?? "default") : undefined,
    name: resource.metadata.name,
  };
}
