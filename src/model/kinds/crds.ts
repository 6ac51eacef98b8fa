/**
 * CRDs: the CustomResourceDefinitions of our kinds, built from their schemas; `manifests/crds/` has them, and the lab applies them.
 *
 * Group, version, names, columns and strictness are upstream's (api/config/crd), so that either product works with either set of CRDs.
 */
import type { Schema } from "../schema/schema.ts";
import { CLUSTER_INFORMATION_SCHEMA, KUBE_CONTROLLERS_CONFIGURATION_SCHEMA } from "./cluster.ts";
import { IP_POOL_SCHEMA } from "./ip-pool.ts";
import { BLOCK_AFFINITY_SCHEMA, IPAM_BLOCK_SCHEMA, IPAM_HANDLE_SCHEMA } from "./ipam.ts";
import { IP_RESERVATION_SCHEMA, IPAM_CONFIGURATION_SCHEMA } from "./ipam-settings.ts";

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
  readonly metadata: { readonly name: string };
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
      readonly additionalPrinterColumns: readonly PrinterColumn[];
    }[];
  };
}

const GROUP = "projectcalico.org";

interface Particulars {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  readonly schema: Schema;
  readonly columns: readonly PrinterColumn[];
  readonly hasStatus?: boolean;
}

function define({
  kind,
  plural,
  shortNames,
  schema,
  columns,
  hasStatus = false,
}: Particulars): CustomResourceDefinition {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        ...(shortNames === undefined ? {} : { shortNames }),
      },
      scope: "Cluster",
      versions: [
        {
          name: "v3",
          served: true,
          storage: true,
          schema: { openAPIV3Schema: schema },
          ...(hasStatus ? { subresources: { status: {} } } : {}),
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

/** The definitions of all our kinds, in the order in which to apply them. */
export const CRDS: readonly CustomResourceDefinition[] = [
  define({
    kind: "IPPool",
    plural: "ippools",
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
    plural: "ipamblocks",
    schema: IPAM_BLOCK_SCHEMA,
    columns: [
      column("CIDR", ".spec.cidr", "The addresses of the block"),
      column("Affinity", ".spec.affinity", "Owner of the block"),
      column("ClaimTime", ".spec.affinityClaimTime", "When the owner claimed the block", "date"),
    ],
  }),
  define({
    kind: "BlockAffinity",
    plural: "blockaffinities",
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
    plural: "ipamhandles",
    schema: IPAM_HANDLE_SCHEMA,
    columns: [column("ID", ".spec.handleID", "Who holds the addresses")],
  }),
  define({
    kind: "ClusterInformation",
    plural: "clusterinformations",
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
    plural: "kubecontrollersconfigurations",
    shortNames: ["kcc", "kccs"],
    schema: KUBE_CONTROLLERS_CONFIGURATION_SCHEMA,
    hasStatus: true,
    columns: [AGE],
  }),
  define({
    kind: "IPAMConfiguration",
    plural: "ipamconfigurations",
    shortNames: ["ipamconfig", "ipamconfigs"],
    schema: IPAM_CONFIGURATION_SCHEMA,
    columns: [
      column("StrictAffinity", ".spec.strictAffinity", "Whether nodes use their own blocks only", "boolean"),
      column("MaxBlocksPerHost", ".spec.maxBlocksPerHost", "Blocks that a node may own", "integer"),
      column("AutoAllocateBlocks", ".spec.autoAllocateBlocks", "Whether nodes claim blocks automatically", "boolean"),
    ],
  }),
  define({ kind: "IPReservation", plural: "ipreservations", schema: IP_RESERVATION_SCHEMA, columns: [AGE] }),
];
