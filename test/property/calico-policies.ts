/**
 * Calico policies: random policies, tiers and network sets of projectcalico.org/v3: every field, valid most of the time, weighted towards
 * what implementations get wrong.
 */
import type { EntityRule, Rule } from "../../src/model/kinds/rule.ts";
import type { GlobalNetworkPolicySpec } from "../../src/model/kinds/global-network-policy.ts";
import { workloadEndpointName } from "../../src/model/kinds/workload-endpoint.ts";
import type { Resource } from "../../src/model/resource.ts";
import { adminNetworkPolicy, baselineAdminNetworkPolicy, clusterNetworkPolicy } from "./cluster-network-policies.ts";
import type { Random } from "./random.ts";

type Draft<T> = { -readonly [K in keyof T]: T[K] };

const VERSION = "projectcalico.org/v3";
const NAMESPACES = ["alpha", "alpha", "beta", "gamma"];
/** Shared with Kubernetes' policies, so that kinds decide between equal names. */
const NAMES = ["a", "a-b", "a.b", "ab", "b", "z"];

export interface CalicoObjects {
  readonly calicoPolicies: Resource<"NetworkPolicy">[];
  readonly globalPolicies: Resource<"GlobalNetworkPolicy">[];
  readonly clusterNetworkPolicies: Resource<"ClusterNetworkPolicy">[];
  readonly tiers: Resource<"Tier">[];
  readonly networkSets: Resource<"NetworkSet">[];
  readonly globalNetworkSets: Resource<"GlobalNetworkSet">[];
  readonly endpointSlices: Resource<"EndpointSlice">[];
  readonly hostEndpoints: Resource<"HostEndpoint">[];
  readonly felixConfigurations: Resource<"FelixConfiguration">[];
  readonly workloadEndpoints: Resource<"WorkloadEndpoint">[];
  readonly profiles: Resource<"Profile">[];
  readonly adminNetworkPolicies: Resource<"AdminNetworkPolicy">[];
  readonly baselineAdminNetworkPolicies: Resource<"BaselineAdminNetworkPolicy">[];
}

export const NO_CALICO_OBJECTS: CalicoObjects = {
  calicoPolicies: [],
  globalPolicies: [],
  clusterNetworkPolicies: [],
  tiers: [],
  networkSets: [],
  globalNetworkSets: [],
  endpointSlices: [],
  hostEndpoints: [],
  felixConfigurations: [],
  workloadEndpoints: [],
  profiles: [],
  adminNetworkPolicies: [],
  baselineAdminNetworkPolicies: [],
};

export function randomCalicoObjects(random: Random): CalicoObjects {
  return {
    calicoPolicies: unique(random.some(0, 5, () => calicoPolicy(random))),
    globalPolicies: unique(random.some(0, 6, () => (random.chance(50) ? globalPolicy(random) : hostPolicy(random)))),
    clusterNetworkPolicies: unique(random.some(0, 2, () => clusterNetworkPolicy(random))),
    tiers: random.subset(["first", "same", "last", "kube-admin"], 60).map((name) => tier(random, name)),
    networkSets: unique(random.some(0, 2, () => networkSet(random, random.pick(NAMESPACES)))),
    globalNetworkSets: unique(random.some(0, 2, () => networkSet(random, undefined))),
    felixConfigurations: unique(random.some(0, 2, () => felixConfiguration(random))),
    hostEndpoints: random.chance(60) ? unique(random.some(1, 3, () => hostEndpoint(random))) : [],
    endpointSlices: unique(random.some(0, 4, (i) => endpointSlice(random, `slice-${i}`))),
    workloadEndpoints: unique(random.some(0, 3, () => workloadEndpoint(random))),
    profiles: unique(random.some(0, 3, () => profile(random))),
    adminNetworkPolicies: unique(random.some(0, 1, () => adminNetworkPolicy(random))),
    baselineAdminNetworkPolicies: unique(random.some(0, 1, () => baselineAdminNetworkPolicy(random))),
  };
}

function unique<T extends { readonly metadata: { readonly name: string; readonly namespace?: string } }>(
  objects: readonly T[],
): T[] {
  return [...new Map(objects.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each])).values()];
}

export function tier(random: Random, name: string): Resource<"Tier"> {
  const order = random.pick([undefined, -5, 0, 10, 10, 1_000_000]);
  const defaultAction = random.pick([undefined, "Deny", "Pass"] as const);
  const spec = { ...(order === undefined ? {} : { order }), ...(defaultAction === undefined ? {} : { defaultAction }) };
  return { apiVersion: VERSION, kind: "Tier", metadata: { name }, spec };
}

export function networkSet(
  random: Random,
  namespace: string | undefined,
): Resource<"NetworkSet"> & Resource<"GlobalNetworkSet"> {
  const labels: Record<string, string> = {};
  if (random.chance(70)) labels["app"] = random.pick(["web", "db"]);
  if (random.chance(40)) labels["role"] = random.pick(["", "front"]);
  if (random.chance(20)) labels["pcns.team"] = random.pick(["red", "blue"]);
  if (random.chance(10)) labels["projectcalico.org/namespace"] = random.pick(NAMESPACES);
  if (random.chance(10)) labels["projectcalico.org/orchestrator"] = "k8s";
  const metadata = { name: random.pick(NAMES), ...(namespace === undefined ? {} : { namespace }), labels };
  // Host bits may be set here.
  const nets = random.subset([...NETS4, ...NETS6, "10.65.0.9/30", "fd00:65::9/126"], 25);
  // So many of one length are kept in another way. One set in eight has them.
  const many = nets.length === 2 ? MANY : [];
  const spec = { nets: [...nets, ...many] };
  return { apiVersion: VERSION, kind: namespace === undefined ? "GlobalNetworkSet" : "NetworkSet", metadata, spec };
}

/** Interfaces of the node that are no workload's. */
export const DEVICES = ["world", "other"] as const;

export function hostEndpoint(random: Random): Resource<"HostEndpoint"> {
  const interfaceName = random.pick(["world", "world", "*", "other", "cali0", undefined]);
  const expectedIPs = random.subset(["192.0.2.1", "2001:db8::1", "192.0.2.9", "10.65.0.5"], 30);
  const labels = {
    ...(random.chance(80) ? { role: "host" } : {}),
    ...(random.chance(40) ? { app: random.pick(["web", "db"]) } : {}),
    ...(random.chance(10) ? { "projectcalico.org/namespace": "alpha", "pcns.team": "red" } : {}),
  };
  return {
    apiVersion: VERSION,
    kind: "HostEndpoint",
    metadata: { name: random.pick(["h1", "h2", "h3"]), labels },
    spec: {
      node: random.pick(["n1", "n1", "n1", "n2"]),
      ...(interfaceName === undefined ? {} : { interfaceName }),
      expectedIPs,
      profiles: random.shuffle(random.subset(PROFILES, 20)),
      ports: random.some(0, 2, () => ({
        name: random.pick(["http", "dns"]),
        port: random.pick([53, 80, 8080]),
        protocol: random.pick(["TCP", "UDP"]),
      })),
    },
  };
}

const PROFILES = ["ksa.alpha.robot", "kns.alpha", "kns.none", "projectcalico-default-allow", "missing", "own", "other"];

/** Labels that endpoints have themselves too, or that pretend; now and then in the place of a namespace's, or not valid. */
export function profile(random: Random): Resource<"Profile"> {
  const { ingress = [], egress = [] } = globalPolicy(random).spec;
  const labelsToApply = {
    ...(random.chance(60) ? { app: random.pick(["web", "db"]) } : {}),
    ...(random.chance(60) ? { role: random.pick(["", "front"]) } : {}),
    ...(random.chance(20) ? { "pcns.team": "red", "projectcalico.org/namespace": "alpha" } : {}),
  };
  const rules = random.chance(50) ? {} : { ingress: ingress.slice(0, 2), egress: egress.slice(0, 2) };
  const name = random.pick(["own", "own", "other", "kns.alpha"]);
  return { apiVersion: VERSION, kind: "Profile", metadata: { name }, spec: { ...rules, labelsToApply } };
}

/** On an interface of its own, of another one, of a pod, or with a name that is no workload's. */
export function workloadEndpoint(random: Random): Resource<"WorkloadEndpoint"> {
  const ordinal = random.pick([40, 41, 42, 43, 5]);
  const spec = {
    node: random.pick(["n1", "n1", "n1", "n2"]),
    orchestrator: random.pick(["kvm", "kvm", "k8s"]),
    endpoint: "eth0",
    interfaceName: random.pick(["tap0", "tap0", "tap1", "tap1", "cali00000000001", "eth0"]),
    ipNetworks: random.subset([`10.65.0.${ordinal}`, `fd00:65::${ordinal.toString(16)}/128`], 80),
    profiles: random.shuffle(random.subset(PROFILES, 25)),
    ports: random.some(0, 2, () => ({
      name: random.pick(["http", "dns"]),
      port: random.pick([53, 80, 8080]),
      protocol: random.pick(["TCP", "UDP"] as const),
    })),
    ...(random.chance(30) ? { serviceAccountName: "robot" } : {}),
    ...(random.chance(70) ? { allowSpoofedSourcePrefixes: sourcePrefixes(random) } : {}),
  };
  const workload = random.pick(["db", "vm"]);
  const labels = {
    ...(random.chance(70) ? { app: random.pick(["web", "db"]) } : {}),
    ...(random.chance(40) ? { role: random.pick(["", "front"]) } : {}),
    ...(random.chance(10) ? { "projectcalico.org/orchestrator": "k8s", "pcns.team": "red" } : {}),
  };
  const whole = { ...spec, ...(spec.orchestrator === "k8s" ? { pod: workload } : { workload }) };
  const metadata = { name: workloadEndpointName(whole) ?? "", namespace: random.pick(NAMESPACES), labels };
  return { apiVersion: VERSION, kind: "WorkloadEndpoint", metadata, spec: whole };
}

/** From which a workload may send too: nested, around pods, around everything. */
export function sourcePrefixes(random: Random): string[] {
  const all = ["10.65.0.0/28", "10.65.0.9/32", "192.0.2.0/25", "0.0.0.0/0", "fd00:65::/124", "2001:db8::/33", "::/0"];
  return random.subset(all, 45);
}

export function felixConfiguration(random: Random): Resource<"FelixConfiguration"> {
  const name = random.pick(["default", "default", "node.n1", "node.n2", "some", "others"]);
  const failsafes = (): { port: number; protocol?: "TCP" | "UDP"; net?: string }[] =>
    random.some(0, 3, () => ({
      port: random.pick([22, 53, 80, 8080]),
      ...(random.chance(60) ? { protocol: random.pick(["TCP", "UDP"] as const) } : {}),
      ...(random.chance(40) ? { net: random.pick([...NETS4, ...NETS6]) } : {}),
    }));
  const action = random.pick([undefined, "Drop", "ACCEPT", "Return"]);
  const selector = random.pick(["all()", "zone == 'a'", "has(zone)"]);
  return {
    apiVersion: VERSION,
    kind: "FelixConfiguration",
    metadata: { name, creationTimestamp: random.pick(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]) },
    spec: {
      ...(name === "some" || name === "others" ? { nodeSelector: selector } : {}),
      ...(random.chance(50) ? { failsafeInboundHostPorts: failsafes() } : {}),
      ...(random.chance(50) ? { failsafeOutboundHostPorts: failsafes() } : {}),
      ...(action === undefined ? {} : { defaultEndpointToHostAction: action }),
      ...(random.chance(20) ? { logPrefix: random.pick(["", "x %t %k %p %n %z", "y".repeat(200)]) } : {}),
      ...(random.chance(70) ? { interfacePrefix: random.pick(["", "tap", "cali,tap", "tap,oth"]) } : {}),
      ...(random.chance(85) ? { workloadSourceSpoofing: random.pick(["Any", "any", "Any", "Disabled"]) } : {}),
    },
  };
}

/** A policy for host endpoints, at any of their hooks. */
export function hostPolicy(random: Random): Resource<"GlobalNetworkPolicy"> {
  const policy = globalPolicy(random);
  const { namespaceSelector: _, types: __, egress, ...rest } = policy.spec;
  const spec: Draft<GlobalNetworkPolicySpec> = { ...rest };
  if (rest.selector !== "app = 'web'")
    spec.selector = random.pick(["role == 'host'", "has(role)", "all()", "!has(app)"]);
  switch (random.below(4)) {
    case 0:
      spec.preDNAT = true;
      spec.applyOnForward = true;
      break;
    case 1:
      spec.doNotTrack = true;
      spec.applyOnForward = true;
      spec.egress = egress ?? [];
      break;
    case 2:
      spec.applyOnForward = true;
      spec.egress = egress ?? [];
      break;
    default:
      if (egress !== undefined) spec.egress = egress;
  }
  return { ...policy, spec };
}

export function endpointSlice(random: Random, name: string): Resource<"EndpointSlice"> {
  const family = random.pick(["IPv4", "IPv6"]);
  const address = (): string => {
    const ordinal = 1 + random.below(24);
    return family === "IPv4" ? `10.65.0.${ordinal}` : `fd00:65::${ordinal.toString(16)}`;
  };
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name,
      namespace: random.pick(NAMESPACES),
      labels: random.chance(90) ? { "kubernetes.io/service-name": random.pick(["web", "db"]) } : {},
    },
    addressType: family,
    endpoints: random.some(0, 4, () => ({ addresses: [address()], conditions: { ready: random.chance(70) } })),
    ports: random.some(0, 2, () => ({
      ...(random.chance(70) ? { protocol: random.pick(["TCP", "UDP", "SCTP"]) } : {}),
      ...(random.chance(90) ? { port: random.pick([53, 80, 8080]) } : {}),
    })),
  };
}

export function calicoPolicy(random: Random): Resource<"NetworkPolicy"> {
  const metadata = { name: random.pick(NAMES), namespace: random.pick(NAMESPACES) };
  return { apiVersion: VERSION, kind: "NetworkPolicy", metadata, spec: policySpec(random, false) };
}

export function globalPolicy(random: Random): Resource<"GlobalNetworkPolicy"> {
  const spec: Draft<GlobalNetworkPolicySpec> = policySpec(random, true);
  if (random.chance(35)) spec.namespaceSelector = namespaceSelector(random, false);
  // At workloads it makes no difference.
  if (random.chance(10)) spec.applyOnForward = true;
  return { apiVersion: VERSION, kind: "GlobalNetworkPolicy", metadata: { name: random.pick(NAMES) }, spec };
}

function policySpec(random: Random, isGlobal: boolean): Draft<GlobalNetworkPolicySpec> {
  const spec: Draft<GlobalNetworkPolicySpec> = {};
  if (random.chance(60)) spec.tier = random.pick(["default", "first", "same", "last", "missing", "kube-admin"]);
  if (random.chance(60)) spec.order = random.pick([-1, 0, 1, 5, 1000, 1000.5]);
  if (random.chance(70)) spec.selector = selector(random);
  if (random.chance(15)) spec.serviceAccountSelector = random.pick(["app == 'web'", "all()", "app != 'db'", "has(x)"]);
  const types = random.pick([undefined, undefined, ["Ingress"], ["Egress"], ["Egress", "Ingress"]] as const);
  if (types !== undefined) spec.types = [...types];
  if (random.chance(75)) spec.ingress = random.some(0, 4, () => randomRule(random, isGlobal, "ingress"));
  if (random.chance(65)) spec.egress = random.some(0, 4, () => randomRule(random, isGlobal, "egress"));
  const wrong = random.below(25);
  if (wrong === 0) spec.selector = "app = 'web'";
  if (wrong === 1) spec.ingress = [{ action: "Allow", source: { nets: ["10.65.0.0/40"] } }];
  return spec;
}

function randomRule(random: Random, isGlobal: boolean, direction: "ingress" | "egress"): Rule {
  const rule: Draft<Rule> = { action: random.pick(["Allow", "Allow", "Deny", "Pass", "Log"]) };
  const protocol = random.chance(55) ? randomProtocol(random) : undefined;
  if (protocol !== undefined) rule.protocol = protocol;
  const family = familyOf(protocol) ?? random.pick([4, 6] as const);
  if (random.chance(10)) rule.ipVersion = family;
  if (random.chance(12)) rule.notProtocol = randomProtocol(random);
  if (familyOf(protocol) !== undefined && random.chance(60)) rule.icmp = icmp(random);
  if (random.chance(8)) rule.notICMP = icmp(random);
  if (random.chance(65)) rule.source = entity(random, family, protocol, isGlobal);
  if (random.chance(65)) rule.destination = entity(random, family, protocol, isGlobal);
  if (random.chance(12)) addService(random, rule, direction);
  return rule;
}

/** Only what packets come from in a rule of ingress, and what they go to in one of egress. */
function addService(random: Random, rule: Draft<Rule>, direction: "ingress" | "egress"): void {
  const services = { name: random.pick(["web", "db", "none"]), namespace: random.pick(NAMESPACES) };
  if (direction === "ingress") rule.source = { services };
  else if (familyOf(rule.protocol) === undefined) rule.destination = { services };
}

function randomProtocol(random: Random): string | number {
  return random.pick(["TCP", "TCP", "TCP", "UDP", "SCTP", "UDPLite", "ICMP", "ICMPv6", 6, 17, 47, 1, 58]);
}

function familyOf(protocol: string | number | undefined): 4 | 6 | undefined {
  if (protocol === "ICMP" || protocol === 1) return 4;
  return protocol === "ICMPv6" || protocol === 58 ? 6 : undefined;
}

function icmp(random: Random): NonNullable<Rule["icmp"]> {
  const type = random.pick([0, 1, 3, 8, 128]);
  return random.pick([{ type }, { type, code: random.pick([0, 1, 3]) }, {}]);
}

const NETS4 = [
  "10.65.0.0/24",
  "10.65.0.0/28",
  "10.65.0.8/29",
  "10.65.0.5",
  "0.0.0.0/1",
  "192.0.2.0/30",
  "10.65.0.8/31",
];
const NETS6 = [
  "fd00:65::/64",
  "fd00:65::/124",
  "fd00:65::8/125",
  "fd00:65::5",
  "::/1",
  "2001:db8::/126",
  "fd00:65::8/127",
];

/** 256 nets of one length in each family, among them every second of those that addresses lie in. */
const MANY = Array.from({ length: 256 }, (_, i) => [
  `10.65.${i >> 4}.${8 + (i & 15) * 16}/29`,
  `fd00:65::${(8 + i * 16).toString(16)}/125`,
]).flat();

function entity(random: Random, family: 4 | 6, protocol: string | number | undefined, isGlobal: boolean): EntityRule {
  const side: Draft<EntityRule> = {};
  const nets = family === 4 ? NETS4 : NETS6;
  if (random.chance(20)) side.nets = random.subset(nets, 30);
  if (random.chance(15)) side.notNets = random.subset(nets, 20);
  if (random.chance(35)) side.selector = selector(random);
  if (random.chance(20)) side.notSelector = selector(random);
  if (random.chance(25)) side.namespaceSelector = namespaceSelector(random, isGlobal || random.chance(50));
  if (random.chance(10))
    side.serviceAccounts = random.pick([
      { names: ["robot"] },
      { names: ["robot", "other"], selector: "app == 'web'" },
      { selector: "app in {'web'}" },
      { selector: "!has(app)" },
      {},
    ]);
  const hasPorts = ["TCP", "UDP", "SCTP", 6, 17].includes(protocol ?? "");
  const ports = (): (number | string)[] =>
    random.some(0, random.chance(10) ? 16 : 3, () => port(random, hasPorts, protocol === undefined));
  if (random.chance(25)) side.ports = ports();
  if (random.chance(15)) side.notPorts = ports();
  return {
    ...side,
    ...(side.ports?.includes("none") === true ? { ports: [] } : {}),
    ...(side.notPorts?.includes("none") === true ? { notPorts: [] } : {}),
  };
}

/** `none`: the protocol has no ports. */
function port(random: Random, hasNumbers: boolean, isAny: boolean): number | string {
  if (!hasNumbers && !isAny) return "none";
  if (isAny || random.chance(30)) return random.pick(["http", "dns", "nobody-has-it"]);
  return random.pick([1, 53, 80, 81, 8080, 65535, "80:90", "1:65535", "53:53"]);
}

const TERMS = [
  "app == 'web'",
  'app == "db"',
  "app != 'web'",
  "app in {'web', 'db'}",
  "app in {}",
  "app not in {'web'}",
  "has(app)",
  "!has(app)",
  "role == ''",
  "role starts with 'fr'",
  "role ends with 'nt'",
  "role contains 'ro'",
  "has(role)",
  "all()",
  "projectcalico.org/namespace == 'alpha'",
  "projectcalico.org/orchestrator == 'k8s'",
  "projectcalico.org/serviceaccount == 'robot'",
  "pcns.team == 'red'",
  "pcsa.app == 'web'",
  "has(pcns.projectcalico.org/name)",
];

export function selector(random: Random, depth = 0): string {
  const space = random.pick(["", " ", "\t"]);
  if (depth > 2 || random.chance(50)) return random.pick(TERMS);
  switch (random.below(4)) {
    case 0:
      return `${selector(random, depth + 1)}${space}&&${space}${selector(random, depth + 1)}`;
    case 1:
      return `${selector(random, depth + 1)}${space}||${space}${selector(random, depth + 1)}`;
    case 2:
      return `!${space}(${selector(random, depth + 1)})`;
    default:
      return `(${space}${selector(random, depth + 1)}${space})`;
  }
}

function namespaceSelector(random: Random, mayBeGlobal: boolean): string {
  const texts = [
    "all()",
    "team == 'red'",
    "team != 'red'",
    "has(team)",
    "!has(team)",
    "projectcalico.org/name in {'alpha', 'beta'}",
    "projectcalico.org/name == 'mask'",
    "team == 'red' || team == 'blue'",
    "all() && team not in {'red'}",
  ];
  return random.pick(mayBeGlobal ? [...texts, "global()"] : texts);
}
