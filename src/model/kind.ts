/**
 * Kind: the kinds of resource that the product reads or writes, and where the API serves them.
 *
 * One table, so that the datastores, the syncer and the command line agree on paths, scope and plural names.
 * Kubernetes' NetworkPolicy is `KubernetesNetworkPolicy` here, as upstream names it, because Calico has a kind of the same name.
 */
export type Kind =
  | "Pod"
  | "Namespace"
  | "ServiceAccount"
  | "Node"
  | "Event"
  | "KubernetesNetworkPolicy"
  | "IPPool"
  | "IPAMBlock"
  | "BlockAffinity"
  | "IPAMHandle"
  | "ClusterInformation"
  | "KubeControllersConfiguration"
  | "IPAMConfiguration"
  | "IPReservation"
  | "Service"
  | "EndpointSlice"
  | "NetworkPolicy"
  | "GlobalNetworkPolicy"
  | "StagedNetworkPolicy"
  | "StagedGlobalNetworkPolicy"
  | "StagedKubernetesNetworkPolicy"
  | "Tier"
  | "NetworkSet"
  | "GlobalNetworkSet"
  | "HostEndpoint"
  | "WorkloadEndpoint"
  | "Profile"
  | "FelixConfiguration"
  | "ClusterNetworkPolicy"
  | "NodePolicyStatus"
  | "AdminNetworkPolicy"
  | "BaselineAdminNetworkPolicy"
  | "NodePolicyStatus"
  | "Lease";

export interface KindInfo {
  /** `v1`, `networking.k8s.io/v1`, `projectcalico.org/v3`. */
  readonly apiVersion: string;
  /** The kind as the API spells it. */
  readonly apiKind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /**
   * Clusters may be without it, and then have no objects of it: `anywhere`, because upstream's definitions lack it or it is an API of its own; `classic`,
   * because releases before did not have it in the older group.
   */
  readonly mayLack?: "anywhere" | "classic";
  /** Nothing that is enforced depends on it: who cannot read it goes on without. */
  readonly decidesNothing?: true;
}

export const KINDS: { readonly [K in Kind]: KindInfo } = {
  Pod: { apiVersion: "v1", apiKind: "Pod", plural: "pods", namespaced: true },
  Namespace: { apiVersion: "v1", apiKind: "Namespace", plural: "namespaces", namespaced: false },
  ServiceAccount: { apiVersion: "v1", apiKind: "ServiceAccount", plural: "serviceaccounts", namespaced: true },
  Node: { apiVersion: "v1", apiKind: "Node", plural: "nodes", namespaced: false },
  Event: { apiVersion: "v1", apiKind: "Event", plural: "events", namespaced: true },
  KubernetesNetworkPolicy: {
    apiVersion: "networking.k8s.io/v1",
    apiKind: "NetworkPolicy",
    plural: "networkpolicies",
    namespaced: true,
  },
  IPPool: { apiVersion: "projectcalico.org/v3", apiKind: "IPPool", plural: "ippools", namespaced: false },
  IPAMBlock: { apiVersion: "projectcalico.org/v3", apiKind: "IPAMBlock", plural: "ipamblocks", namespaced: false },
  BlockAffinity: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "BlockAffinity",
    plural: "blockaffinities",
    namespaced: false,
  },
  IPAMHandle: { apiVersion: "projectcalico.org/v3", apiKind: "IPAMHandle", plural: "ipamhandles", namespaced: false },
  ClusterInformation: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "ClusterInformation",
    plural: "clusterinformations",
    namespaced: false,
  },
  KubeControllersConfiguration: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "KubeControllersConfiguration",
    plural: "kubecontrollersconfigurations",
    namespaced: false,
    decidesNothing: true,
  },
  IPAMConfiguration: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "IPAMConfiguration",
    plural: "ipamconfigurations",
    namespaced: false,
  },
  IPReservation: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "IPReservation",
    plural: "ipreservations",
    namespaced: false,
    mayLack: "classic",
  },
  Service: { apiVersion: "v1", apiKind: "Service", plural: "services", namespaced: true },
  EndpointSlice: {
    apiVersion: "discovery.k8s.io/v1",
    apiKind: "EndpointSlice",
    plural: "endpointslices",
    namespaced: true,
  },
  NetworkPolicy: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "NetworkPolicy",
    plural: "networkpolicies",
    namespaced: true,
  },
  GlobalNetworkPolicy: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "GlobalNetworkPolicy",
    plural: "globalnetworkpolicies",
    namespaced: false,
  },
  StagedNetworkPolicy: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "StagedNetworkPolicy",
    plural: "stagednetworkpolicies",
    namespaced: true,
    mayLack: "anywhere",
    decidesNothing: true,
  },
  StagedGlobalNetworkPolicy: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "StagedGlobalNetworkPolicy",
    plural: "stagedglobalnetworkpolicies",
    namespaced: false,
    mayLack: "anywhere",
    decidesNothing: true,
  },
  StagedKubernetesNetworkPolicy: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "StagedKubernetesNetworkPolicy",
    plural: "stagedkubernetesnetworkpolicies",
    namespaced: true,
    mayLack: "anywhere",
    decidesNothing: true,
  },
  Tier: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "Tier",
    plural: "tiers",
    namespaced: false,
    mayLack: "classic",
  },
  NetworkSet: { apiVersion: "projectcalico.org/v3", apiKind: "NetworkSet", plural: "networksets", namespaced: true },
  GlobalNetworkSet: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "GlobalNetworkSet",
    plural: "globalnetworksets",
    namespaced: false,
  },
  HostEndpoint: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "HostEndpoint",
    plural: "hostendpoints",
    namespaced: false,
  },
  WorkloadEndpoint: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "WorkloadEndpoint",
    plural: "workloadendpoints",
    namespaced: true,
    mayLack: "anywhere",
  },
  Profile: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "Profile",
    plural: "profiles",
    namespaced: false,
    mayLack: "anywhere",
  },
  FelixConfiguration: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "FelixConfiguration",
    plural: "felixconfigurations",
    namespaced: false,
  },
  ClusterNetworkPolicy: {
    apiVersion: "policy.networking.k8s.io/v1alpha2",
    apiKind: "ClusterNetworkPolicy",
    plural: "clusternetworkpolicies",
    namespaced: false,
    mayLack: "anywhere",
  },
  NodePolicyStatus: {
    apiVersion: "projectcalico.org/v3",
    apiKind: "NodePolicyStatus",
    plural: "nodepolicystatuses",
    namespaced: false,
  },
  Lease: { apiVersion: "coordination.k8s.io/v1", apiKind: "Lease", plural: "leases", namespaced: true },
  AdminNetworkPolicy: {
    apiVersion: "policy.networking.k8s.io/v1alpha1",
    apiKind: "AdminNetworkPolicy",
    plural: "adminnetworkpolicies",
    namespaced: false,
    mayLack: "anywhere",
  },
  BaselineAdminNetworkPolicy: {
    apiVersion: "policy.networking.k8s.io/v1alpha1",
    apiKind: "BaselineAdminNetworkPolicy",
    plural: "baselineadminnetworkpolicies",
    namespaced: false,
    mayLack: "anywhere",
  },
};
