/**
 * Settings without effect: what upstream acts on and this product accepts, but does nothing about, and what happens instead. One table; the
 * API server's warnings, Events and the node's status are made of it. A row goes when its setting is built.
 */
import type { Kind } from "../kind.ts";
import type { ObjectMeta } from "../resource.ts";

export interface WithoutEffect {
  /** `spec.natOutgoing`, `metadata.annotations[projectcalico.org/ASNumber]`. */
  readonly field: string;
  readonly value: unknown;
  /** What happens instead. */
  readonly instead: string;
}

interface Row {
  readonly kind: Kind;
  /** Below `spec`, or the name of an annotation; a name that ends with `*` stands for all that begin so. */
  readonly spec?: readonly string[];
  readonly annotation?: string;
  /** Whether the value asks for something that is not done; default: whatever it is. */
  readonly asks?: (value: unknown) => boolean;
  readonly instead: string;
}

const UNENCAPSULATED = "packets to pods of other nodes are not encapsulated: the network between the nodes must route them, or the nodes share one subnet";
const NO_TUNNEL = "there are no tunnels between nodes";
const NO_WIREGUARD = "traffic between nodes is not encrypted";
const NO_CONTROLLER = "no such controller runs";
const NO_QOS = "the pod's traffic is not limited or marked";

const isOn = (value: unknown): boolean => value === true;
const isTunnel = (value: unknown): boolean => value !== "Never" && value !== "";
const isPositive = (value: unknown): boolean => typeof value === "number" && value > 0;
const includes = (word: string) => (value: unknown): boolean => Array.isArray(value) && value.includes(word);

function spec(kind: Kind, path: string, instead: string, asks?: Row["asks"]): Row {
  return { kind, spec: path.split("."), instead, ...(asks === undefined ? {} : { asks }) };
}

function annotation(kind: Kind, name: string, instead: string): Row {
  return { kind, annotation: name, instead };
}

export const WITHOUT_EFFECT: readonly Row[] = [
  spec("IPPool", "ipipMode", UNENCAPSULATED, isTunnel),
  spec("IPPool", "vxlanMode", UNENCAPSULATED, isTunnel),
  spec("IPPool", "natOutgoing", "packets that leave the pool keep the pod's address: the network must route it", isOn),
  spec("IPPool", "allowedUses", "no address is assigned to tunnels", (value) => includes("Tunnel")(value) && !includes("Workload")(value)),
  spec("IPPool", "allowedUses", "no address is assigned to Services", includes("LoadBalancer")),
  spec("IPAMConfiguration", "ipCooldownSeconds", "a released address may be used again at once, though those released longest ago come first", isPositive),
  spec("IPAMConfiguration", "kubeVirtVMAddressPersistence", "virtual machines get a new address with every pod", (value) => value === "Enabled"),
  spec("KubeControllersConfiguration", "controllers.loadBalancer", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.migration", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.namespace", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.node", "no such controller runs: each node looks for leaked addresses by itself, and there are no automatic host endpoints"),
  spec("KubeControllersConfiguration", "controllers.policy", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.serviceAccount", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "controllers.workloadEndpoint", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "debugProfilePort", NO_CONTROLLER, isPositive),
  spec("KubeControllersConfiguration", "etcdV3CompactionPeriod", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "logSeverityScreen", NO_CONTROLLER),
  spec("KubeControllersConfiguration", "prometheusMetricsPort", NO_CONTROLLER, isPositive),
  annotation("Node", "projectcalico.org/ASNumber", "the node speaks BGP as AS 64512"),
  annotation("Node", "projectcalico.org/RouteReflectorClusterID", "the node is a member of the full mesh and reflects no routes"),
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
  annotation("Pod", "qos.projectcalico.org/*", NO_QOS),
];

/** The settings of the object that have no effect, in the order of the table. */
export function settingsWithoutEffect(kind: Kind, resource: { readonly metadata: Pick<ObjectMeta, "annotations">; readonly spec?: unknown }): readonly WithoutEffect[] {
  return WITHOUT_EFFECT.flatMap((row) => {
    if (row.kind !== kind) return [];
    if (row.spec !== undefined) {
      const value = valueAt(resource.spec, row.spec);
      return value === undefined || value === null || row.asks?.(value) === false ? [] : [{ field: `spec.${row.spec.join(".")}`, value, instead: row.instead }];
    }
    return Object.entries(resource.metadata.annotations ?? {}).flatMap(([name, value]) => (names(row.annotation ?? "", name) && value !== "" ? [{ field: `metadata.annotations[${name}]`, value, instead: row.instead }] : []));
  });
}

/** `spec.natOutgoing: true has no effect: packets that leave …`. */
export function formatWithoutEffect({ field, value, instead }: WithoutEffect): string {
  return `${field}: ${JSON.stringify(value)} has no effect: ${instead}`;
}

function names(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const field of path) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, field)) return undefined;
    current = Reflect.get(current, field);
  }
  return current;
}
