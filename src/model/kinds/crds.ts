/**
 * CRDs: the CustomResourceDefinitions of our kinds, built from their schemas; `manifests/crds/` has them, and the lab applies them.
 *
 * Group, version, names, columns and strictness are upstream's (api/config/crd), so that either product works with either set of CRDs; but
 * policies have the column Programmed in place of Ready, and NodePolicyStatus is a kind of our own.
 */
import { KINDS, type Kind } from "../kind.ts";
import type { Schema } from "../schema/schema.ts";
import { CLUSTER_INFORMATION_SCHEMA, KUBE_CONTROLLERS_CONFIGURATION_SCHEMA } from "./cluster.ts";
import { IP_POOL_SCHEMA } from "./ip-pool.ts";
import { BLOCK_AFFINITY_SCHEMA, IPAM_BLOCK_SCHEMA, IPAM_HANDLE_SCHEMA } from "./ipam.ts";
import { IP_RESERVATION_SCHEMA, IPAM_CONFIGURATION_SCHEMA } from "./ipam-settings.ts";
import { ADMIN_NETWORK_POLICY_SCHEMA, BASELINE_ADMIN_NETWORK_POLICY_SCHEMA } from "./admin-network-policy.ts";
import { CLUSTER_NETWORK_POLICY_SCHEMA } from "./cluster-network-policy.ts";
import { FELIX_CONFIGURATION_SCHEMA } from "./felix-configuration.ts";
import { GLOBAL_NETWORK_POLICY_SCHEMA } from "./global-network-policy.ts";
import { HOST_ENDPOINT_SCHEMA } from "./host-endpoint.ts";
import { NETWORK_POLICY_SCHEMA } from "./network-policy.ts";
import { GLOBAL_NETWORK_SET_SCHEMA, NETWORK_SET_SCHEMA } from "./network-set.ts";
import { NODE_POLICY_STATUS_SCHEMA } from "./node-policy-status.ts";
import { PROFILE_SCHEMA } from "./profile.ts";
import {
  STAGED_GLOBAL_NETWORK_POLICY_SCHEMA,
  STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA,
  STAGED_NETWORK_POLICY_SCHEMA,
} from "./staged.ts";
import { TIER_SCHEMA } from "./tier.ts";
import { WORKLOAD_ENDPOINT_SCHEMA } from "./workload-endpoint.ts";

export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly jsonPath: string;
  readonly description: string;
}

/** The part of CustomResourceDefinition (apiextensions.k8s.io/v1) that ours use. */
export interface CustomResourceDefinition {
  readonly apiVersion: "apiextensions.k8s.io/v1";
  readonly kind: "CustomResourceDefinition";
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: {
    readonly group: string;
    readonly names: {
      readonly kind: string;
      readonly listKind: string;
      readonly plural: string;
      readonly singular: string;
      readonly shortNames?: readonly string[];
    };
    readonly scope: "Cluster" | "Namespaced";
    readonly versions: readonly {
      readonly name: string;
      readonly served: boolean;
      readonly storage: boolean;
      readonly schema: { readonly openAPIV3Schema: Schema };
      readonly subresources?: { readonly status?: Readonly<Record<string, never>> };
      readonly selectableFields?: readonly { readonly jsonPath: string }[];
      readonly additionalPrinterColumns: readonly PrinterColumn[];
    }[];
  };
}

interface Particulars {
  readonly kind: Kind;
  readonly shortNames?: readonly string[];
  readonly schema: Schema;
  readonly columns: readonly PrinterColumn[];
  readonly hasStatus?: boolean;
  readonly selectableFields?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
}

function define({
  kind,
  shortNames,
  schema,
  columns,
  hasStatus = false,
  selectableFields = [],
  annotations,
}: Particulars): CustomResourceDefinition {
  const { apiVersion, apiKind, plural, namespaced } = KINDS[kind];
  const [group = "", version = ""] = apiVersion.split("/");
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}`, ...(annotations === undefined ? {} : { annotations }) },
    spec: {
      group,
      names: {
        kind: apiKind,
        listKind: `${apiKind}List`,
        plural,
        singular: apiKind.toLowerCase(),
        ...(shortNames === undefined ? {} : { shortNames }),
      },
      scope: namespaced ? "Namespaced" : "Cluster",
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: schema },
          ...(hasStatus ? { subresources: { status: {} } } : {}),
          ...(selectableFields.length === 0
            ? {}
            : { selectableFields: selectableFields.map((jsonPath) => ({ jsonPath })) }),
          additionalPrinterColumns: columns,
        },
      ],
    },
  };
}

function column(
  name: string,
  jsonPath: string,
  description: string,
  type: PrinterColumn["type"] = "string",
): PrinterColumn {
  return { name, type, jsonPath, description };
}

const AGE = column("Age", ".metadata.creationTimestamp", "Time since creation", "date");

const TIER = column("Tier", ".spec.tier", "The tier that the policy is part of");
const ORDER = column("Order", ".spec.order", "Policies of a tier apply in ascending order", "number");
const READY = column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether all nodes apply it");
const PROGRAMMED = column(
  "Programmed",
  ".status.conditions[?(@.type=='Programmed')].status",
  "Whether all nodes that it concerns have it in the kernel",
);
const PRIORITY = column("Priority", ".spec.priority", "Policies of a tier apply in ascending priority");
const ACTION = column("Action", ".spec.stagedAction", "What enforcing the policy would mean");

/** Kubernetes' own groups need the first. */
const ADMIN_ANNOTATIONS = {
  "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/30",
  "policy.networking.k8s.io/bundle-version": "v0.1.1",
  "policy.networking.k8s.io/channel": "experimental",
};

/** A policy of Calico's that is in a tier. */
function definePolicy(
  kind: Kind,
  shortNames: readonly string[],
  schema: Schema,
  columns: readonly PrinterColumn[],
): CustomResourceDefinition {
  return define({ kind, shortNames, schema, hasStatus: true, selectableFields: [".spec.tier"], columns });
}

/** The definitions of all our kinds, in the order in which to apply them. */
export const CRDS: readonly CustomResourceDefinition[] = [
  define({
    kind: "IPPool",
    schema: IP_POOL_SCHEMA,
    hasStatus: true,
    columns: [
      column("CIDR", ".spec.cidr", "The range"),
      column("VXLAN", ".spec.vxlanMode", "When packets to the pool are tunnelled by VXLAN"),
      column("IPIP", ".spec.ipipMode", "When packets to the pool are tunnelled by IPIP"),
      column("NAT", ".spec.natOutgoing", "Whether packets to other destinations are masqueraded", "boolean"),
      column("Allocatable", ".status.conditions[?(@.type=='Allocatable')].status", "Whether addresses are assigned"),
      AGE,
    ],
  }),
  define({
    kind: "IPAMBlock",
    schema: IPAM_BLOCK_SCHEMA,
    columns: [
      column("CIDR", ".spec.cidr", "The addresses of the block"),
      column("Affinity", ".spec.affinity", "Owner of the block"),
      column("ClaimTime", ".spec.affinityClaimTime", "When the owner claimed the block", "date"),
    ],
  }),
  define({
    kind: "BlockAffinity",
    shortNames: ["affinity", "affinities"],
    schema: BLOCK_AFFINITY_SCHEMA,
    columns: [
      column("CIDR", ".spec.cidr", "The block"),
      column("Node", ".spec.node", "The node"),
      column("Type", ".spec.type", "host, or virtual for owners that are not nodes"),
    ],
  }),
  define({
    kind: "IPAMHandle",
    schema: IPAM_HANDLE_SCHEMA,
    columns: [column("ID", ".spec.handleID", "Who holds the addresses")],
  }),
  define({
    kind: "ClusterInformation",
    shortNames: ["clusterinfo", "clusterinfos"],
    schema: CLUSTER_INFORMATION_SCHEMA,
    columns: [
      column("Version", ".spec.calicoVersion", "Version of Calico"),
      column("Ready", ".spec.datastoreReady", "Whether the datastore may be used", "boolean"),
      column("Types", ".spec.clusterType", "What kind of cluster this is"),
    ],
  }),
  define({
    kind: "KubeControllersConfiguration",
    shortNames: ["kcc", "kccs"],
    schema: KUBE_CONTROLLERS_CONFIGURATION_SCHEMA,
    hasStatus: true,
    columns: [AGE],
  }),
  define({
    kind: "IPAMConfiguration",
    shortNames: ["ipamconfig", "ipamconfigs"],
    schema: IPAM_CONFIGURATION_SCHEMA,
    columns: [
      column("StrictAffinity", ".spec.strictAffinity", "Whether nodes use their own blocks only", "boolean"),
      column("MaxBlocksPerHost", ".spec.maxBlocksPerHost", "Blocks that a node may own", "integer"),
      column("AutoAllocateBlocks", ".spec.autoAllocateBlocks", "Whether nodes claim blocks automatically", "boolean"),
    ],
  }),
  define({ kind: "IPReservation", schema: IP_RESERVATION_SCHEMA, columns: [AGE] }),
  define({
    kind: "Tier",
    schema: TIER_SCHEMA,
    hasStatus: true,
    columns: [
      column("Order", ".spec.order", "Tiers apply in ascending order", "number"),
      column("DefaultAction", ".spec.defaultAction", "What happens to packets that no policy of the tier decides"),
      READY,
      AGE,
    ],
  }),
  definePolicy("NetworkPolicy", ["cnp", "caliconetworkpolicy"], NETWORK_POLICY_SCHEMA, [TIER, ORDER, PROGRAMMED, AGE]),
  definePolicy("GlobalNetworkPolicy", ["gnp", "cgnp", "calicoglobalnetworkpolicies"], GLOBAL_NETWORK_POLICY_SCHEMA, [
    TIER,
    ORDER,
    PROGRAMMED,
    AGE,
  ]),
  definePolicy("StagedNetworkPolicy", ["snp", "scnp"], STAGED_NETWORK_POLICY_SCHEMA, [TIER, ORDER, ACTION, AGE]),
  definePolicy("StagedGlobalNetworkPolicy", ["sgnp"], STAGED_GLOBAL_NETWORK_POLICY_SCHEMA, [TIER, ORDER, ACTION, AGE]),
  define({
    kind: "StagedKubernetesNetworkPolicy",
    shortNames: ["sknp"],
    schema: STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA,
    hasStatus: true,
    columns: [ACTION, AGE],
  }),
  define({ kind: "NetworkSet", shortNames: ["netset", "netsets"], schema: NETWORK_SET_SCHEMA, columns: [AGE] }),
  define({
    kind: "GlobalNetworkSet",
    shortNames: ["gns", "gnetset", "gnetsets"],
    schema: GLOBAL_NETWORK_SET_SCHEMA,
    columns: [AGE],
  }),
  define({
    kind: "HostEndpoint",
    shortNames: ["hep", "heps"],
    schema: HOST_ENDPOINT_SCHEMA,
    columns: [
      column("Node", ".spec.node", "The node"),
      column("Interface", ".spec.interfaceName", "The interface, or * for all"),
      AGE,
    ],
  }),
  define({
    kind: "WorkloadEndpoint",
    shortNames: ["wep", "weps"],
    schema: WORKLOAD_ENDPOINT_SCHEMA,
    columns: [
      column("Node", ".spec.node", "The node"),
      column("Interface", ".spec.interfaceName", "The interface on the node"),
      column("Networks", ".spec.ipNetworks", "The workload's addresses"),
      AGE,
    ],
  }),
  define({ kind: "Profile", schema: PROFILE_SCHEMA, columns: [AGE] }),
  define({
    kind: "FelixConfiguration",
    shortNames: ["felixconfig", "felixconfigs"],
    schema: FELIX_CONFIGURATION_SCHEMA,
    columns: [AGE],
  }),
  define({
    kind: "ClusterNetworkPolicy",
    schema: CLUSTER_NETWORK_POLICY_SCHEMA,
    hasStatus: true,
    // Kubernetes' own groups need it. No short name: upstream's, cnp, is Calico's NetworkPolicy's.
    annotations: {
      "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/347",
      "policy.networking.k8s.io/bundle-version": "v0.2.0",
      "policy.networking.k8s.io/channel": "experimental",
    },
    columns: [TIER, PRIORITY, PROGRAMMED, AGE],
  }),
  define({
    kind: "AdminNetworkPolicy",
    shortNames: ["anp"],
    schema: ADMIN_NETWORK_POLICY_SCHEMA,
    hasStatus: true,
    annotations: ADMIN_ANNOTATIONS,
    columns: [PRIORITY, AGE],
  }),
  define({
    kind: "BaselineAdminNetworkPolicy",
    shortNames: ["banp"],
    schema: BASELINE_ADMIN_NETWORK_POLICY_SCHEMA,
    hasStatus: true,
    annotations: ADMIN_ANNOTATIONS,
    columns: [AGE],
  }),
  define({ kind: "NodePolicyStatus", schema: NODE_POLICY_STATUS_SCHEMA, columns: [AGE] }),
];
