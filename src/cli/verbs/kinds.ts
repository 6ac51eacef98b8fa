/**
 * Kinds: what `calicoctl` handles: for each kind its names on the command line, where it is stored, and its columns.
 *
 * Names, columns and headings are upstream's (calicoctl/calicoctl/resourcemgr); the short names of the CRDs are accepted too. Nodes and
 * profiles are views of Kubernetes' objects, so they can only be read; so are the WorkloadEndpoints of pods, beside those that are stored. Where
 * there is no Kubernetes all are stored.
 */
import type { Store } from "../../datastore/store.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import { CRDS } from "../../model/kinds/crds.ts";
import { type Cell, field, float, joined, labelSelectorText } from "./cells.ts";
import { fieldAt } from "../../model/schema/json.ts";

export interface ServedKind {
  /** As messages name it. */
  readonly name: string;
  /** The datastore's kind; of a view, the kind that it is made from. */
  readonly kind: Kind;
  /** The datastore's kind where there is no Kubernetes. */
  readonly standalone: Kind;
  readonly isView: boolean;
  /** Pods are shown as objects of the kind, beside those that are stored. */
  readonly showsPods: boolean;
  readonly namespaced: boolean;
  /** What a file must say. */
  readonly apiVersion: string;
  readonly apiKind: string;
  /** On the command line, in lower case; the first is the one to complete. */
  readonly names: readonly string[];
  readonly columns: readonly string[];
  readonly wide: readonly string[];
  /** By heading. */
  readonly cells: Readonly<Record<string, Cell>>;
}

const NAME = field("metadata.name");
const NAMESPACE = field("metadata.namespace");

interface Particulars {
  readonly kind: Kind;
  /** Upstream's names. */
  readonly names?: readonly string[];
  readonly columns?: readonly string[];
  readonly wide?: readonly string[];
  readonly cells?: Readonly<Record<string, Cell>>;
}

function served({ kind, names = [], columns = ["NAME"], wide = columns, cells = {} }: Particulars): ServedKind {
  const { apiVersion, apiKind, plural, namespaced } = KINDS[kind];
  const crd = CRDS.find(({ spec }) => spec.names.plural === plural && apiVersion.startsWith(`${spec.group}/`));
  const own = crd === undefined ? [] : [crd.spec.names.singular, plural, ...(crd.spec.names.shortNames ?? [])];
  return {
    name: kind,
    kind,
    standalone: kind,
    isView: false,
    showsPods: kind === "WorkloadEndpoint",
    namespaced,
    apiVersion,
    apiKind,
    names: [...new Set([...own, ...names, `${plural}.${apiVersion.split("/")[0]}`])],
    columns,
    wide,
    cells: { NAME, ...(namespaced ? { NAMESPACE } : {}), ...cells },
  };
}

/** A view of another kind's objects. */
function view(name: Kind, particulars: Particulars): ServedKind {
  const { columns = ["NAME"], wide = columns, cells = {}, names = [], kind } = particulars;
  const identity = { name, kind, standalone: name, isView: true, showsPods: false, namespaced: false };
  const base = { ...identity, apiVersion: "projectcalico.org/v3", apiKind: name, names };
  return { ...base, columns, wide, cells: { NAME, ...cells } };
}

const POLICY = {
  columns: ["NAME", "TIER"],
  wide: ["NAME", "TIER", "ORDER", "SELECTOR"],
  cells: { ORDER: float("spec.order"), SELECTOR: field("spec.selector"), TIER: field("spec.tier") },
} as const;
const NETS = { wide: ["NAME", "NETS"], cells: { NETS: joined("spec.nets", 80) } } as const;
const POD_SELECTOR = {
  wide: ["NAME", "PODSELECTOR"],
  cells: { PODSELECTOR: ((object) => labelSelectorText(fieldAt(object, "spec", "podSelector"))) satisfies Cell },
} as const;

export const SERVED: readonly ServedKind[] = [
  served({
    kind: "NetworkPolicy",
    names: ["policy", "np", "policies", "pol", "pols", "calicopolicy", "calicopolicies"],
    ...POLICY,
  }),
  served({ kind: "GlobalNetworkPolicy", names: ["gnps"], ...POLICY }),
  served({ kind: "StagedNetworkPolicy", names: ["stagedpolicy", "stagedpolicies", "spol", "spols"], ...POLICY }),
  served({ kind: "StagedGlobalNetworkPolicy", names: ["sgnps"], ...POLICY }),
  served({
    kind: "StagedKubernetesNetworkPolicy",
    names: ["stagedkubernetespolicy", "stagedkubernetespolicies", "skpol", "skpols"],
    ...POD_SELECTOR,
  }),
  served({
    kind: "KubernetesNetworkPolicy",
    names: ["kubernetesnetworkpolicy", "kubernetesnetworkpolicies", "knp", "knps"],
    ...POD_SELECTOR,
  }),
  served({
    kind: "ClusterNetworkPolicy",
    columns: ["NAME", "TIER"],
    wide: ["NAME", "TIER", "PRIORITY"],
    cells: { TIER: field("spec.tier"), PRIORITY: field("spec.priority") },
  }),
  served({
    kind: "AdminNetworkPolicy",
    wide: ["NAME", "PRIORITY"],
    cells: { PRIORITY: field("spec.priority") },
  }),
  served({ kind: "BaselineAdminNetworkPolicy" }),
  served({ kind: "Tier", columns: ["NAME", "ORDER"], cells: { ORDER: float("spec.order") } }),
  served({ kind: "NetworkSet", ...NETS }),
  served({ kind: "GlobalNetworkSet", ...NETS }),
  served({
    kind: "HostEndpoint",
    columns: ["NAME", "NODE"],
    wide: ["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
    cells: {
      NODE: field("spec.node"),
      INTERFACE: field("spec.interfaceName"),
      IPS: joined("spec.expectedIPs"),
      PROFILES: joined("spec.profiles"),
    },
  }),
  served({
    kind: "WorkloadEndpoint",
    columns: ["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
    wide: ["NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"],
    cells: {
      WORKLOAD: (object) => field("spec.workload")(object) || field("spec.pod")(object),
      NODE: field("spec.node"),
      ORCHESTRATOR: field("spec.orchestrator"),
      NETWORKS: joined("spec.ipNetworks"),
      NATS: joined("spec.ipNATs"),
      PROFILES: joined("spec.profiles"),
      INTERFACE: field("spec.interfaceName"),
    },
  }),
  view("Profile", {
    kind: "Profile",
    names: ["profile", "profiles", "pro", "pros", "profiles.projectcalico.org"],
    wide: ["NAME", "LABELS"],
    cells: { LABELS: joined("spec.labelsToApply") },
  }),
  served({ kind: "FelixConfiguration" }),
  served({
    kind: "IPPool",
    names: ["ipp", "ipps", "pool", "pools"],
    columns: ["NAME", "CIDR", "SELECTOR"],
    wide: [
      "NAME",
      "CIDR",
      "NAT",
      "IPIPMODE",
      "VXLANMODE",
      "DISABLED",
      "DISABLEBGPEXPORT",
      "SELECTOR",
      "ASSIGNMENTMODE",
    ],
    cells: {
      CIDR: field("spec.cidr"),
      NAT: field("spec.natOutgoing", "false"),
      IPIPMODE: field("spec.ipipMode", "Never"),
      VXLANMODE: field("spec.vxlanMode", "Never"),
      DISABLED: field("spec.disabled", "false"),
      DISABLEBGPEXPORT: field("spec.disableBGPExport", "false"),
      SELECTOR: field("spec.nodeSelector"),
      ASSIGNMENTMODE: field("spec.assignmentMode", "<nil>"),
    },
  }),
  served({
    kind: "IPReservation",
    names: ["reservation", "reservations"],
    wide: ["NAME", "CIDRS"],
    cells: { CIDRS: joined("spec.reservedCIDRs", 80) },
  }),
  served({
    kind: "IPAMConfiguration",
    columns: ["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
    wide: ["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
    cells: {
      STRICTAFFINITY: field("spec.strictAffinity", "false"),
      AUTOALLOCATEBLOCKS: field("spec.autoAllocateBlocks", "false"),
      MAXBLOCKSPERHOST: field("spec.maxBlocksPerHost", "0"),
    },
  }),
  served({
    kind: "ClusterInformation",
    columns: ["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"],
    cells: {
      CLUSTERGUID: field("spec.clusterGUID"),
      CLUSTERTYPE: field("spec.clusterType"),
      CALICOVERSION: field("spec.calicoVersion"),
      DATASTOREREADY: field("spec.datastoreReady", "<nil>"),
    },
  }),
  served({
    kind: "KubeControllersConfiguration",
    names: ["kubecontrollersconfig", "kubecontrollersconfigs"],
  }),
  view("Node", {
    kind: "Node",
    names: ["node", "nodes", "no", "nos"],
    wide: ["NAME", "ASN", "IPV4", "IPV6"],
    cells: {
      ASN: (object) =>
        fieldAt(object, "spec", "bgp") === undefined ? "" : field("spec.bgp.asNumber", "(64512)")(object),
      IPV4: field("spec.bgp.ipv4Address"),
      IPV6: field("spec.bgp.ipv6Address"),
    },
  }),
];

const BY_NAME: ReadonlyMap<string, ServedKind> = new Map(
  SERVED.flatMap((kind) => kind.names.map((name) => [name, kind] as const)),
);

/** `NetworkPolicies`, `gnp`, `pools`: any name of a kind, in any case. */
export function kindOfWord(word: string): ServedKind | undefined {
  return BY_NAME.get(word.toLowerCase());
}

/** The kind as the datastore has it. */
export function storedIn(store: Store, kind: ServedKind): ServedKind {
  return store.isStandalone ? { ...kind, kind: kind.standalone, isView: false, showsPods: false } : kind;
}

/** Kinds of upstream's calicoctl that do not exist here yet. */
export const NOT_YET: ReadonlySet<string> = new Set(["BGPConfiguration", "BGPPeer", "BGPFilter", "CalicoNodeStatus"]);

/** `NetworkPolicy(shop/web)`: an object as upstream's messages name it. */
export function objectText(kind: ServedKind, namespace: string | undefined, name: string): string {
  return `${kind.name}(${namespace === undefined ? name : `${namespace}/${name}`})`;
}
