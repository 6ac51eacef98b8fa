/** Settings: cases of tiers, network sets, host endpoints, profiles and FelixConfiguration. */
import type { PolicyKind } from "../../src/model/kinds/validation/validators.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";
import { type Case, caseOf, objectOf, type Refused, times } from "./case.ts";

type Row = readonly [title: string, spec: JsonObject, refused?: Refused, words?: string, metadata?: JsonObject];

const named = (name: string): JsonObject => ({ name });
const tier = (name: string, order: number, action: string, refused?: Refused, words = ""): Row => [
  `${name} ${order} ${action}`,
  { order, defaultAction: action },
  refused,
  words,
  named(name),
];

const TIERS: readonly Row[] = [
  ["nothing", {}],
  ["order and action", { order: 10.5, defaultAction: "Pass" }],
  ["a negative order", { order: -1 }],
  ["action Allow", { defaultAction: "Allow" }, "spec.defaultAction", '"Deny", "Pass"'],
  ["action in lower case", { defaultAction: "deny" }, "spec.defaultAction"],
  ["a name with a hyphen", {}, undefined, "", named("a-b")],
  ["a name with a dot", {}, "metadata.name", "at most 63 characters", named("a.b")],
  ["a name of 63 characters", {}, undefined, "", named("t".repeat(63))],
  ["a name of 64 characters", {}, "metadata.name", "", named("t".repeat(64))],
  tier("default", 1_000_000, "Deny"),
  tier("default", 10, "Deny", "spec.order", "must be 1000000 in the tier default"),
  tier("default", 1_000_000, "Pass", "spec.defaultAction", "must be Deny in the tier default"),
  tier("kube-admin", 1_000, "Pass"),
  tier("kube-admin", 1_000, "Deny", "spec.defaultAction"),
  tier("kube-admin", 1_001, "Pass", "spec.order", "must be 1000 in the tier kube-admin"),
  tier("kube-baseline", 10_000_000, "Pass"),
  tier("kube-baseline", 10_000_000, "Deny", "spec.defaultAction"),
  tier("kube-baseline", 0, "Pass", "spec.order"),
  ["default without order", { defaultAction: "Deny" }, "spec.order", "", named("default")],
];

const SETS: readonly Row[] = [
  ["nothing", {}],
  ["ranges and addresses", { nets: ["10.0.0.1", "11.0.0.0/8", "dead:beef::", "dead:beef::/96"] }],
  ["host bits", { nets: ["10.0.0.1/8"] }],
  ["everything", { nets: ["0.0.0.0/0", "::/0"] }],
  ["garbage", { nets: ["10.0.0.0/8", "garbage"] }, "spec.nets[1]", "must be a range such as"],
  ["a length beyond the address", { nets: ["10.0.0.0/33"] }, "spec.nets[0]"],
  ["the same twice", { nets: ["10.0.0.1", "10.0.0.1"] }, "spec.nets[1]"],
  ["1,000 ranges", { nets: times(1000, (i) => `10.${i >> 8}.${i & 255}.0/24`) }],
  ["labels", { nets: [] }, undefined, "", { labels: { rank_1: "gold" } }],
  [
    "a reserved label",
    {},
    "metadata.labels[projectcalico.org/namespace]",
    "is set by Calico",
    { labels: { "projectcalico.org/namespace": "x" } },
  ],
];

const host = (spec: JsonObject): JsonObject => ({ node: "n1", interfaceName: "eth0", ...spec });
const port = (more: JsonObject = {}): JsonObject => ({ name: "http", protocol: "TCP", port: 80, ...more });
const HOSTS: readonly Row[] = [
  ["an interface", host({})],
  ["all interfaces", host({ interfaceName: "*" })],
  ["addresses", { node: "n1", expectedIPs: ["10.0.0.1", "fd00::1"] }],
  ["everything", host({ expectedIPs: ["10.0.0.1"], profiles: ["a", "b"], ports: [port()] })],
  ["no node", { interfaceName: "eth0" }, "spec.node"],
  ["an empty node", host({ node: "" }), "spec.node"],
  ["a bad node", host({ node: "N_1" }), "spec.node"],
  ["neither", { node: "n1" }, "spec.interfaceName", "must be given unless expectedIPs is"],
  ["neither, both empty", { node: "n1", interfaceName: "", expectedIPs: [] }, "spec.interfaceName"],
  ["a long interface", host({ interfaceName: "interfaceTooLong" }), "spec.interfaceName"],
  ["a bad interface", host({ interfaceName: "eth&" }), "spec.interfaceName"],
  ["an interface with a star", host({ interfaceName: "eth*" }), "spec.interfaceName"],
  ["no address", host({ expectedIPs: ["x"] }), "spec.expectedIPs[0]", "must be an address"],
  ["a range as address", host({ expectedIPs: ["10.0.0.0/24"] }), "spec.expectedIPs[0]"],
  ["an address twice", host({ expectedIPs: ["10.0.0.1", "10.0.0.1"] }), "spec.expectedIPs[1]"],
  ["a bad profile", host({ profiles: ["A"] }), "spec.profiles[0]"],
  ["a profile twice", host({ profiles: ["a", "a"] }), "spec.profiles[1]"],
  ["one name for two protocols", host({ ports: [port(), port({ protocol: "UDP" })] })],
  ["one name twice", host({ ports: [port(), port({ protocol: 6, port: 81 })] }), "spec.ports[1]"],
  ["a port by number", host({ ports: [port({ protocol: 132 })] })],
  ["a port without name", host({ ports: [port({ name: "" })] }), "spec.ports[0].name"],
  ["a name with capitals", host({ ports: [port({ name: "Http" })] }), "spec.ports[0].name"],
  ["a name without letters", host({ ports: [port({ name: "80" })] }), "spec.ports[0].name", "must have a letter"],
  ["a name of 16 characters", host({ ports: [port({ name: "n".repeat(16) })] }), "spec.ports[0].name"],
  ["port 0", host({ ports: [port({ port: 0 })] }), "spec.ports[0].port"],
  ["port 65536", host({ ports: [port({ port: 65536 })] }), "spec.ports[0].port"],
  ["a protocol without ports", host({ ports: [port({ protocol: "ICMP" })] }), "spec.ports[0].protocol"],
  ["a port without protocol", host({ ports: [{ name: "a", port: 1 }] }), "spec.ports[0].protocol"],
];

const machine = (more: JsonObject): JsonObject => ({
  node: "n-1",
  orchestrator: "kvm",
  workload: "db",
  endpoint: "eth0",
  interfaceName: "tap0",
  ...more,
});
const MACHINE = named("n--1-kvm-db-eth0");
const MACHINE_ROWS: readonly Row[] = [
  ["an interface", machine({})],
  [
    "everything",
    machine({
      serviceAccountName: "robot",
      ipNetworks: ["10.0.0.1", "10.0.0.2/32", "fd00::1/128"],
      ipv4Gateway: "10.0.0.254",
      ipv6Gateway: "fd00::ff",
      mac: "02:00:00:00:00:01",
      profiles: ["a", "kns.shop"],
      ports: [port(), { port: 22, protocol: "TCP", hostPort: 2222, hostIP: "10.1.1.1" }],
      ipNATs: [{ internalIP: "10.0.0.1", externalIP: "192.0.2.1" }],
      allowSpoofedSourcePrefixes: ["10.9.0.0/16"],
      qosControls: { ingressBandwidth: 1000 },
    }),
  ],
  ["another node", machine({ node: "n-2" }), "metadata.name", "NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT"],
  ["no workload", machine({ workload: "" }), "metadata.name"],
  ["no workload in the name either", machine({ workload: "" }), "metadata.name", "", named("n--1-kvm--eth0")],
  ["a pod", machine({ orchestrator: "k8s", pod: "web-0" }), undefined, "", named("n--1-k8s-web--0-eth0")],
  ["a pod, by its workload", machine({ orchestrator: "k8s" }), "metadata.name", "", named("n--1-k8s-db-eth0")],
  ["a container", machine({ orchestrator: "cni", containerID: "c1" }), undefined, "", named("n--1-cni-c1-eth0")],
  ["of libnetwork", machine({ orchestrator: "libnetwork" }), undefined, "", named("n--1-libnetwork-libnetwork-eth0")],
  ["no node", { orchestrator: "kvm", endpoint: "e", interfaceName: "tap0" }, "spec.node"],
  ["no interface", machine({ interfaceName: "" }), "spec.interfaceName"],
  ["a long interface", machine({ interfaceName: "interfaceTooLong" }), "spec.interfaceName"],
  ["all interfaces", machine({ interfaceName: "*" }), "spec.interfaceName"],
  ["a net", machine({ ipNetworks: ["10.0.0.0/24"] }), "spec.ipNetworks[0]", "must be one address"],
  ["an IPv6 net", machine({ ipNetworks: ["fd00::1/64"] }), "spec.ipNetworks[0]"],
  ["no address", machine({ ipNetworks: ["x"] }), "spec.ipNetworks[0]"],
  ["IPv6 for IPv4", machine({ ipv4Gateway: "fd00::1" }), "spec.ipv4Gateway", "must be an IPv4 address"],
  ["IPv4 for IPv6", machine({ ipv6Gateway: "10.0.0.1" }), "spec.ipv6Gateway", "must be an IPv6 address"],
  ["a bad hardware address", machine({ mac: "02:00" }), "spec.mac"],
  ["a profile twice", machine({ profiles: ["a", "a"] }), "spec.profiles[1]"],
  ["a port without name", machine({ ports: [{ port: 1, protocol: "TCP" }] }), "spec.ports[0].name", "unless hostPort"],
  ["a protocol without ports", machine({ ports: [port({ protocol: "ICMP" })] }), "spec.ports[0].protocol"],
];
const MACHINES = MACHINE_ROWS.map(([title, spec, refused, words = "", metadata = MACHINE]): Row => [
  title,
  spec,
  refused,
  words,
  metadata,
]);

const PROFILES: readonly Row[] = [
  ["nothing", {}],
  ["labels", { labelsToApply: { "project.calico.org/my-label": "v".repeat(63) } }],
  ["a long label", { labelsToApply: { a: "v".repeat(64) } }, "spec.labelsToApply[a]"],
  ["a label that begins with a dot", { labelsToApply: { ".a": "b" } }, "spec.labelsToApply"],
  ["a label with $", { labelsToApply: { a$: "b" } }, "spec.labelsToApply"],
  ["rules", { ingress: [{ action: "Allow" }], egress: [{ action: "Deny" }] }],
];

const failsafe = (more: JsonObject): JsonObject => ({ failsafeInboundHostPorts: [{ port: 22, ...more }] });
const FELIX: readonly Row[] = [
  ["nothing", {}, undefined, "", named("default")],
  ["some settings", { bpfEnabled: false, healthPort: 9099, logSeverityScreen: "info", ipv6Support: true }],
  ["failsafe ports", failsafe({ protocol: "UDP", net: "10.0.0.0/8" })],
  ["no failsafe ports", { failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }],
  ["a failsafe port without number", { failsafeInboundHostPorts: [{}] }, "spec.failsafeInboundHostPorts[0].port"],
  ["failsafe port 65536", failsafe({ port: 65536 }), "spec.failsafeInboundHostPorts[0].port"],
  ["a failsafe protocol", failsafe({ protocol: "jolly-UDP" }), "spec.failsafeInboundHostPorts[0].protocol"],
  ["a failsafe net", failsafe({ net: "x" }), "spec.failsafeInboundHostPorts[0].net"],
  ["a node selector", { nodeSelector: "rack == 'a'" }, undefined, "", named("rack-a")],
  ["a malformed node selector", { nodeSelector: "rack" }, "spec.nodeSelector"],
  [
    "a node selector in default",
    { nodeSelector: "all()" },
    "spec.nodeSelector",
    "neither default nor node.NAME",
    named("default"),
  ],
  ["a node selector for a node", { nodeSelector: "all()" }, "spec.nodeSelector", "", named("node.n1")],
  ["a duration", { ipsetsRefreshInterval: "1m30s" }],
  ["a duration with a fraction", { ipsetsRefreshInterval: "1.5s" }],
  ["a bad duration", { ipsetsRefreshInterval: "90" }, "spec.ipsetsRefreshInterval"],
  ["an action in any case", { defaultEndpointToHostAction: "drop" }],
  ["a bad action", { defaultEndpointToHostAction: "Refuse" }, "spec.defaultEndpointToHostAction"],
  ["a bad severity", { logSeverityScreen: "Critical" }, "spec.logSeverityScreen"],
  ["a bad choice", { awsSrcDstCheck: "enable" }, "spec.awsSrcDstCheck"],
  ["text for a boolean", { bpfEnabled: "true" }, "spec.bpfEnabled"],
  ["an IPv4 address", { natOutgoingAddress: "10.0.0.1", deviceRouteSourceAddress: "10.0.0.1" }],
  ["an IPv6 address", { natOutgoingAddress: "fd00::1" }, "spec.natOutgoingAddress", "must be an IPv4 address"],
  ["a range for an address", { deviceRouteSourceAddress: "10.0.0.0/8" }, "spec.deviceRouteSourceAddress"],
  ["IPv4 for IPv6", { deviceRouteSourceAddressIPv6: "10.0.0.1" }, "spec.deviceRouteSourceAddressIPv6"],
  ["tables", { routeTableRange: { min: 1, max: 250 } }],
  ["tables to 251", { routeTableRange: { min: 1, max: 251 } }, "spec.routeTableRange", "must be from 1 to 250"],
  ["tables in descending order", { routeTableRange: { min: 9, max: 8 } }, "spec.routeTableRange"],
  [
    "ranges of tables",
    {
      routeTableRanges: [
        { min: 8, max: 8 },
        { min: 1, max: 10000 },
      ],
    },
  ],
  ["a range from 0", { routeTableRanges: [{ min: 0, max: 8 }] }, "spec.routeTableRanges[0].min"],
  ["a range in descending order", { routeTableRanges: [{ min: 9, max: 8 }] }, "spec.routeTableRanges[0].min"],
  ["too many tables", { routeTableRanges: [{ min: 1, max: 0x10000 }] }, "spec.routeTableRanges"],
  [
    "both",
    { routeTableRange: { min: 1, max: 2 }, routeTableRanges: [] },
    "spec.routeTableRange",
    "when routeTableRanges is given",
  ],
  ["node ports", { kubeNodePortRanges: ["30000:32767", 80] }],
  ["a named node port", { kubeNodePortRanges: ["http"] }, "spec.kubeNodePortRanges[0]"],
  ["node ports in descending order", { kubeNodePortRanges: ["2:1"] }, "spec.kubeNodePortRanges[0]"],
  ["8 node port ranges", { kubeNodePortRanges: times(8, (i) => i + 1) }, "spec.kubeNodePortRanges"],
  ["a pattern", { mtuIfacePattern: "eth.*" }],
  ["a bad pattern", { mtuIfacePattern: "*" }, "spec.mtuIfacePattern", "must be a regular expression"],
  ["external nodes", { externalNodesList: ["1.1.1.1", "1.1.3.0/23"] }],
  ["external nodes, IPv6", { externalNodesList: ["fd00::1"] }, "spec.externalNodesList[0]"],
  ["a log prefix", { logPrefix: "calico %t %k-%n" }],
  ["a bad log prefix", { logPrefix: "calico;" }, "spec.logPrefix"],
  ["a rate", { logActionRateLimit: "100/minute" }],
  ["a bad rate", { logActionRateLimit: "0/minute" }, "spec.logActionRateLimit"],
  ["WireGuard", { wireguardInterfaceName: "wg0", wireguardListeningPort: 51820 }],
  ["a bad interface", { wireguardInterfaceName: "wg&0" }, "spec.wireguardInterfaceName"],
  ["port 0 for WireGuard", { wireguardListeningPort: 0 }, "spec.wireguardListeningPort"],
  ["log filters", { bpfLogFilters: { eth0: "tcp" } }],
  ["a bad log filter", { bpfLogFilters: { "eth 0": "tcp" } }, "spec.bpfLogFilters"],
  ["interface prefixes", { interfacePrefix: "cali,tap" }],
  ["no interface prefix", { interfacePrefix: "" }],
  ["a bad interface prefix", { interfacePrefix: "cali, tap" }, "spec.interfacePrefix"],
  ["an empty interface prefix among others", { interfacePrefix: "cali," }, "spec.interfacePrefix"],
  ["a region", { openstackRegion: "FOO" }, "spec.openstackRegion"],
];

function cases(kind: PolicyKind, rows: readonly Row[]): Case[] {
  return rows.map(([title, spec, refused, words, metadata]) =>
    caseOf(title, kind, objectOf(kind, spec, metadata), refused, words),
  );
}

export const SETTINGS_CASES: readonly Case[] = [
  ...cases("Tier", TIERS),
  ...cases("NetworkSet", SETS),
  ...cases("GlobalNetworkSet", SETS),
  ...cases("HostEndpoint", HOSTS),
  ...cases("WorkloadEndpoint", MACHINES),
  ...cases("Profile", PROFILES),
  ...cases("FelixConfiguration", FELIX),
];
