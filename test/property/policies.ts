/** Policies: random Kubernetes NetworkPolicies: every field, present, absent and empty, and now and then one that is wrong. */
import type { Resource } from "../../src/model/resource.ts";
import type { LabelSelector, LabelSelectorRequirement } from "kubernetes-types/meta/v1";
import type { NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec } from "kubernetes-types/networking/v1";
import type { Random } from "./random.ts";

type NetworkPolicy = Resource<"KubernetesNetworkPolicy">;

/** Names whose order is not what it seems: `-` and `.` sort before the `/` that follows a whole name. */
const NAMES = ["a", "a-b", "a.b", "ab", "b", "z"];

export function randomPolicy(random: Random): NetworkPolicy {
  const metadata = { name: random.pick(NAMES), namespace: random.pick(["alpha", "alpha", "beta", "gamma"]) };
  const policy: NetworkPolicy = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata,
    spec: randomSpec(random),
  };
  return random.chance(8) ? spoil(random, policy) : policy;
}

function randomSpec(random: Random): NetworkPolicySpec {
  const spec: NetworkPolicySpec = { podSelector: randomSelector(random) };
  if (random.chance(70))
    spec.ingress = random.some(0, 3, () => ({ ...list("from", peers(random)), ...list("ports", ports(random)) }));
  if (random.chance(60))
    spec.egress = random.some(0, 3, () => ({ ...list("to", peers(random)), ...list("ports", ports(random)) }));
  const types = random.pick([undefined, undefined, [], ["Ingress"], ["Egress"], ["Egress", "Ingress"]]);
  if (types !== undefined) spec.policyTypes = types;
  return spec;
}

/** Absent and empty lists mean the same; both must be tried. */
function list<K extends string, T>(name: K, items: readonly T[] | undefined): { [key in K]?: T[] } {
  return items === undefined ? {} : ({ [name]: [...items] } as { [key in K]?: T[] });
}

function peers(random: Random): NetworkPolicyPeer[] | undefined {
  if (random.chance(25)) return undefined;
  return random.some(random.chance(20) ? 0 : 1, 3, () => randomPeer(random));
}

export function randomPeer(random: Random): NetworkPolicyPeer {
  switch (random.below(5)) {
    case 0:
      return { podSelector: randomSelector(random) };
    case 1:
      return { namespaceSelector: namespaceSelector(random) };
    case 2:
      return { podSelector: randomSelector(random), namespaceSelector: namespaceSelector(random) };
    default:
      return { ipBlock: randomBlock(random) };
  }
}

const BLOCKS4 = [
  "10.65.0.0/24",
  "10.65.0.0/28",
  "10.65.0.9/29",
  "10.65.0.5/32",
  "0.0.0.0/0",
  "10.65.0.3/0",
  "192.0.2.0/30",
  "255.255.255.255/32",
  "0.0.0.0/1",
];
const BLOCKS6 = [
  "fd00:65::/64",
  "fd00:65::/124",
  "fd00:65::9/125",
  "fd00:65::5/128",
  "::/0",
  "fd00:65::3/0",
  "2001:db8::/126",
  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
  "::/1",
];
const EXCEPT4 = [
  "10.65.0.0/29",
  "10.65.0.4/30",
  "10.65.0.8/31",
  "10.65.0.7/32",
  "10.65.0.0/25",
  "0.0.0.0/2",
  "192.0.2.2/32",
];
const EXCEPT6 = [
  "fd00:65::/125",
  "fd00:65::4/126",
  "fd00:65::8/127",
  "fd00:65::7/128",
  "fd00:65::/96",
  "::/2",
  "2001:db8::2/128",
];

function randomBlock(random: Random): { cidr: string; except?: string[] } {
  const [blocks, exceptions] = random.chance(55) ? [BLOCKS4, EXCEPT4] : [BLOCKS6, EXCEPT6];
  const cidr = random.pick(blocks);
  const inside = exceptions.filter((text) => isStrictlyInside(text, cidr));
  return random.chance(60) ? { cidr, except: random.subset(inside, 40) } : { cidr };
}

/** By bits, so that the generator depends on nothing that it helps to test. */
function isStrictlyInside(inner: string, outer: string): boolean {
  const [a, b] = [bits(inner), bits(outer)];
  return a.length > b.length && a.startsWith(b);
}

function bits(cidr: string): string {
  const [address = "", length = "0"] = cidr.split("/");
  const all = address.includes(":")
    ? groups(address).map((group) => Number.parseInt(group, 16).toString(2).padStart(16, "0"))
    : address.split(".").map((part) => Number(part).toString(2).padStart(8, "0"));
  return all.join("").slice(0, Number(length));
}

function groups(address: string): string[] {
  const [head = "", tail = ""] = address.split("::");
  const [left, right] = [head, tail].map((half) => half.split(":").filter((group) => group !== ""));
  const [l, r] = [left ?? [], right ?? []];
  return [...l, ...Array<string>(8 - l.length - r.length).fill("0"), ...r];
}

function ports(random: Random): NetworkPolicyPort[] | undefined {
  if (random.chance(35)) return undefined;
  return random.some(random.chance(20) ? 0 : 1, 3, () => randomPort(random));
}

export function randomPort(random: Random): NetworkPolicyPort {
  const protocol = random.chance(65) ? { protocol: random.pick(["TCP", "UDP", "SCTP"]) } : {};
  switch (random.below(5)) {
    case 0:
      return protocol;
    case 1:
      return { ...protocol, port: random.pick(["http", "dns", "nobody-has-it"].map((name) => name.slice(0, 15))) };
    case 2: {
      const port = random.pick([1, 80, 8000, 65535]);
      return { ...protocol, port, endPort: Math.min(65535, port + random.pick([0, 1, 100, 65534])) };
    }
    default:
      return { ...protocol, port: random.pick([1, 53, 80, 81, 8080, 65535]) };
  }
}

export function randomSelector(random: Random): LabelSelector {
  const selector: LabelSelector = {};
  if (random.chance(40)) selector.matchLabels = { app: random.pick(["web", "db"]) };
  if (random.chance(8))
    selector.matchLabels = {
      ...selector.matchLabels,
      [random.pick(["pcns.team", "projectcalico.org/namespace", "projectcalico.org/serviceaccount", "pcsa.app"])]:
        random.pick(["red", "alpha", "robot", "web"]),
    };
  if (random.chance(35))
    selector.matchExpressions = random.some(0, 2, () => expression(random, "role", ["", "front", "back"]));
  return selector;
}

export function namespaceSelector(random: Random): LabelSelector {
  const selector: LabelSelector = {};
  if (random.chance(40)) selector.matchLabels = { team: random.pick(["red", "blue"]) };
  if (random.chance(15)) selector.matchLabels = { "projectcalico.org/name": random.pick(["alpha", "beta", "mask"]) };
  if (random.chance(35)) selector.matchExpressions = [expression(random, "team", ["red", "blue"])];
  return selector;
}

function expression(random: Random, key: string, values: readonly string[]): LabelSelectorRequirement {
  const operator = random.pick(["In", "NotIn", "Exists", "DoesNotExist"]);
  if (operator === "Exists" || operator === "DoesNotExist") return { key, operator };
  return { key, operator, values: [random.pick(values), random.pick(values)] };
}

/** One thing wrong, as an object that got past admission might have. */
function spoil(random: Random, policy: NetworkPolicy): NetworkPolicy {
  const spec: Record<string, unknown> = { ...policy.spec };
  const rule = (extra: object): unknown[] => [extra, {}];
  switch (random.below(8)) {
    case 0:
      spec["ingress"] = rule({ ports: [{ protocol: "ICMP" }] });
      break;
    case 1:
      spec["ingress"] = rule({ from: [{ ipBlock: { cidr: "10.0.0.0/33" } }] });
      break;
    case 2:
      spec["egress"] = rule({ to: [{ ipBlock: { cidr: "10.65.0.0/24", except: ["10.66.0.0/25"] } }] });
      break;
    case 3:
      spec["egress"] = rule({ to: [{ podSelector: {}, ipBlock: { cidr: "10.65.0.0/24" } }] });
      break;
    case 4:
      spec["podSelector"] = { matchLabels: { "not a key": "x" } };
      break;
    case 5:
      spec["ingress"] = rule({ ports: [{ port: 80, endPort: 79 }] });
      break;
    case 6:
      spec["policyTypes"] = ["Ingress", "Sideways"];
      break;
    default:
      spec["ingress"] = rule({ from: [{ ports: [{ port: 80 }] }] });
  }
  return { ...policy, spec: spec as unknown as NetworkPolicySpec };
}
