/**
 * Settings without effect: settings that upstream implements and this product accepts but ignores, and what happens instead. The one
 * table behind the API server's warnings, Events and the node's status. A row is removed when its setting is implemented.
 */
import type { Kind } from "../kind.ts";
import { FELIX_PROPERTIES } from "./felix-configuration.ts";
import type { ObjectMeta } from "../resource.ts";

export interface WithoutEffect {
  /** `spec.natOutgoing`, `metadata.annotations[projectcalico.org/ASNumber]`. */
  readonly field: string;
  readonly value: unknown;
  /** What happens instead. */
  readonly instead: string;
}

/** The values that have no effect: any, those equal, those unlike all of a list, numbers above 0, lists that are not empty, lists with one word and without another. */
export type Asks =
  | "any"
  | "positive"
  | "filled"
  | { readonly is: boolean | string }
  | { readonly isNot: readonly string[] }
  | { readonly has: string; readonly lacks?: string };

export interface WithoutEffectRow {
  readonly kind: Kind;
  /** Below `spec`, or the name of an annotation. */
  readonly spec?: readonly string[];
  readonly annotation?: string;
  readonly asks: Asks;
  /** Another field below `spec` that gives it its effect. */
  readonly unless?: { readonly field: string; readonly is: string };
  /** Another field below `spec` that takes its effect. */
  readonly when?: { readonly field: string; readonly is: string | boolean };
  /** Another field below `spec`, a list that takes its effect when it is not empty and lacks the word. */
  readonly without?: { readonly field: string; readonly word: string };
  readonly instead: string;
}

const UNENCAPSULATED =
  "packets to pods of other nodes are not encapsulated: the network between the nodes must route them, or the nodes share one subnet";
const NO_TUNNEL = "there are no tunnels between nodes";
const NO_WIREGUARD = "traffic between nodes is not encrypted";
const NO_CONTROLLER = "no such controller runs";

const TUNNELS: Asks = { isNot: ["", "Never"] };

function spec(kind: Kind, path: string, instead: string, asks: Asks = "any"): WithoutEffectRow {
  return { kind, spec: path.split("."), instead, asks };
}

function annotation(kind: Kind, name: string, instead: string): WithoutEffectRow {
  return { kind, annotation: name, instead, asks: { isNot: [""] } };
}

/** POL-39, POL-6: rules of a direction that is not meant. */
function unmeantRules(kind: Kind, field: string): readonly WithoutEffectRow[] {
  return (["Ingress", "Egress"] as const).map((word) => ({
    ...spec(
      kind,
      word.toLowerCase(),
      `spec.${field} does not name ${word}, so no rule of this direction counts`,
      "filled",
    ),
    without: { field, word },
  }));
}

/** Fields of FelixConfiguration that are implemented. `nodeSelector` says only for which nodes the others are. */
const FELIX_IMPLEMENTED: ReadonlySet<string> = new Set([
  "nodeSelector",
  "failsafeInboundHostPorts",
  "failsafeOutboundHostPorts",
  "defaultEndpointToHostAction",
  "logPrefix",
  "bpfEnabled",
  "bpfRedirectToPeer",
  "nftablesMode",
  "iptablesBackend",
  "nftablesFlowTableOffload",
  "interfacePrefix",
  "workloadSourceSpoofing",
]);
export const WITHOUT_EFFECT: readonly WithoutEffectRow[] = [
  ...unmeantRules("NetworkPolicy", "types"),
  ...unmeantRules("GlobalNetworkPolicy", "types"),
  ...unmeantRules("StagedNetworkPolicy", "types"),
  ...unmeantRules("StagedGlobalNetworkPolicy", "types"),
  ...unmeantRules("StagedKubernetesNetworkPolicy", "policyTypes"),
  ...unmeantRules("KubernetesNetworkPolicy", "policyTypes"),
  spec("IPPool", "ipipMode", UNENCAPSULATED, TUNNELS),
  spec("IPPool", "vxlanMode", UNENCAPSULATED, TUNNELS),
  spec("IPPool", "natOutgoing", "packets that leave the pool keep the pod's address: the network must route it", {
    is: true,
  }),
  spec("IPPool", "allowedUses", "no address is assigned to tunnels", { has: "Tunnel", lacks: "Workload" }),
  spec("IPPool", "allowedUses", "no address is assigned to Services", { has: "LoadBalancer" }),
  spec(
    "IPAMConfiguration",
    "ipCooldownSeconds",
    "a released address may be used again at once, though those released longest ago come first",
    "positive",
  ),
  spec("IPAMConfiguration", "kubeVirtVMAddressPersistence", "virtual machines get a new address with every pod", {
    is: "Enabled",
  }),
  spec("KubeControllersConfiguration", "controllers.loadBalancer", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.migration", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.namespace", NO_CONTROLLER),
  spec(
    "KubeControllersConfiguration",
    "controllers.node",
    "no such controller runs: each node looks for leaked addresses by itself, and there are no automatic host endpoints",
  ),
  spec("KubeControllersConfiguration", "controllers.policy", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.serviceAccount", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.workloadEndpoint", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "debugProfilePort", NO_CONTROLLER, "positive"),
  spec("KubeControllersConfiguration", "etcdV3CompactionPeriod", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "logSeverityScreen", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "prometheusMetricsPort", NO_CONTROLLER, "positive"),
  spec("WorkloadEndpoint", "ipNATs", "no address is translated to the endpoint's"),
  spec("WorkloadEndpoint", "qosControls", "the endpoint's bandwidth, packets and connections are not limited"),
  annotation("Node", "projectcalico.org/ASNumber", "the node speaks BGP as AS 64512"),
  annotation(
    "Node",
    "projectcalico.org/RouteReflectorClusterID",
    "the node is a member of the full mesh and reflects no routes",
  ),
  annotation("Node", "projectcalico.org/IPv4IPIPTunnelAddr", NO_TUNNEL),
  annotation("Node", "projectcalico.org/IPv4VXLANTunnelAddr", NO_TUNNEL),
  annotation("Node", "projectcalico.org/IPv6VXLANTunnelAddr", NO_TUNNEL),
  annotation("Node", "projectcalico.org/VXLANTunnelMACAddr", NO_TUNNEL),
  annotation("Node", "projectcalico.org/VXLANTunnelMACAddrV6", NO_TUNNEL),
  annotation("Node", "projectcalico.org/IPv4WireguardInterfaceAddr", NO_WIREGUARD),
  annotation("Node", "projectcalico.org/IPv6WireguardInterfaceAddr", NO_WIREGUARD),
  annotation("Node", "projectcalico.org/WireguardPublicKey", NO_WIREGUARD),
  annotation("Node", "projectcalico.org/WireguardPublicKeyV6", NO_WIREGUARD),
  annotation("Node", "projectcalico.org/Interfaces", "no host endpoint is made of it"),
  {
    ...spec("FelixConfiguration", "iptablesBackend", "nftables runs where nftablesMode is not Disabled"),
    unless: { field: "nftablesMode", is: "Disabled" },
  },
  {
    ...spec("FelixConfiguration", "nftablesFlowTableOffload", "nftables is disabled, and only it has a flowtable", {
      is: "All",
    }),
    when: { field: "nftablesMode", is: "Disabled" },
  },
  {
    ...spec("FelixConfiguration", "nftablesFlowTableOffload", "eBPF runs, and only nftables has a flowtable", {
      is: "All",
    }),
    when: { field: "bpfEnabled", is: true },
  },
  ...Object.keys(FELIX_PROPERTIES)
    .filter((field) => !FELIX_IMPLEMENTED.has(field))
    .map((field) => spec("FelixConfiguration", field, "nodes have no such setting")),
];

/** The settings of the object that have no effect, in the order of the table. */
export function settingsWithoutEffect(
  kind: Kind,
  resource: { readonly metadata: Pick<ObjectMeta, "annotations">; readonly spec?: unknown },
): readonly WithoutEffect[] {
  return WITHOUT_EFFECT.flatMap((row) => {
    if (row.kind !== kind) return [];
    if (row.when !== undefined && valueAt(resource.spec, [row.when.field]) !== row.when.is) return [];
    if (row.unless !== undefined && valueAt(resource.spec, [row.unless.field]) === row.unless.is) return [];
    if (row.without !== undefined) {
      const list = valueAt(resource.spec, [row.without.field]);
      if (!Array.isArray(list) || list.length === 0 || list.includes(row.without.word)) return [];
    }
    if (row.spec !== undefined) {
      const value = valueAt(resource.spec, row.spec);
      return value === undefined || value === null || !holds(row.asks, value)
        ? []
        : [{ field: `spec.${row.spec.join(".")}`, value, instead: row.instead }];
    }
    const name = row.annotation ?? "";
    const value = resource.metadata.annotations?.[name];
    return value === undefined || !holds(row.asks, value)
      ? []
      : [{ field: `metadata.annotations[${name}]`, value, instead: row.instead }];
  });
}

/** `spec.natOutgoing: true has no effect: packets that leave …`. */
export function formatWithoutEffect({ field, value, instead }: WithoutEffect): string {
  const text = JSON.stringify(value);
  return `${field}: ${text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text} has no effect: ${instead}`;
}

const LONGEST_VALUE = 100;

function holds(asks: Asks, value: unknown): boolean {
  if (asks === "any") return true;
  if (asks === "filled") return Array.isArray(value) && value.length > 0;
  if (asks === "positive") return typeof value === "number" && value > 0;
  if ("is" in asks) return value === asks.is;
  if ("isNot" in asks) return !asks.isNot.some((each) => each === value);
  return Array.isArray(value) && value.includes(asks.has) && (asks.lacks === undefined || !value.includes(asks.lacks));
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const field of path) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, field)) return undefined;
    current = Reflect.get(current, field);
  }
  return current;
}
