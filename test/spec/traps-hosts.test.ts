/** POL-31, POL-36, POL-49, POL-50: host endpoints on a packet's path; each test is one trap for implementations. */
import { expect, test } from "bun:test";
import { load } from "js-yaml";
import { programOf, type State } from "../../src/calc/from-scratch.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { ICMP, type Protocol, TCP } from "../../src/net/protocol.ts";
import { evaluatePacket, type PathPacket } from "../../src/program/path-evaluate.ts";
import type { Program } from "../../src/program/program.ts";

const POD = "10.65.0.1" as Addr;
const NODE = "192.0.2.1" as Addr;
const OUTSIDE = "203.0.113.7" as Addr;

const NOTHING: State = {
  node: "n1",
  pods: [
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web", namespace: "shop" },
      spec: { nodeName: "n1", containers: [] },
      status: { podIPs: [{ ip: POD }] },
    },
  ],
  records: [
    {
      containerId: "c",
      pod: { kind: "Pod", namespace: "shop", name: "web" },
      interface: "cali1",
      addresses: [POD],
      mac: "",
      netns: "",
      podInterface: "eth0",
    },
  ],
  namespaces: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } }],
  serviceAccounts: [],
  networkPolicies: [],
  blocks: [],
  pools: [],
  nodes: [],
  interfaces: new Map([
    ["eth0", [NODE]],
    ["eth1", []],
  ]),
};

/** Host endpoints, global policies and settings as `- {kind: …, metadata: …, spec: …}`. */
function program(text: string): Program {
  const objects = load(text) as readonly { readonly kind: string }[];
  const of = <T>(kind: string): T[] => objects.filter((object) => object.kind === kind) as T[];
  return programOf({
    ...NOTHING,
    hostEndpoints: of<Resource<"HostEndpoint">>("HostEndpoint"),
    globalPolicies: of<Resource<"GlobalNetworkPolicy">>("GlobalNetworkPolicy").map((policy) => ({
      ...policy,
      apiVersion: "projectcalico.org/v3",
    })),
    felixConfigurations: of<Resource<"FelixConfiguration">>("FelixConfiguration"),
    profiles: of<Resource<"Profile">>("Profile"),
  });
}

interface Way {
  readonly from?: string;
  readonly to?: string;
  readonly source: Addr;
  readonly destination: Addr;
  readonly port?: number;
  readonly protocol?: Protocol;
}

const IN: Way = { from: "eth0", source: OUTSIDE, destination: NODE };
const OUT: Way = { to: "eth0", source: NODE, destination: OUTSIDE };
const TO_POD: Way = { from: "eth0", to: "cali1", source: OUTSIDE, destination: POD };
const FROM_POD: Way = { from: "cali1", to: "eth0", source: POD, destination: OUTSIDE };
const POD_TO_NODE: Way = { from: "cali1", source: POD, destination: NODE };
const NODE_TO_POD: Way = { to: "cali1", source: NODE, destination: POD };

function passes(by: Program, { from, to, source, destination, port = 80, protocol = TCP }: Way): boolean {
  const ports =
    protocol === ICMP
      ? { sourcePort: undefined, destinationPort: undefined }
      : { sourcePort: 40000, destinationPort: port };
  const packet = { source, destination, protocol, ...ports };
  const path: PathPacket = { original: packet, packet, from, to, connection: "new" };
  return evaluatePacket(by, path).action === "accept";
}

function host(name: string, spec: string): string {
  return `- {kind: HostEndpoint, metadata: {name: ${name}, labels: {role: host}}, spec: {node: n1, ${spec}}}\n`;
}

function policy(name: string, spec: string): string {
  return `- {kind: GlobalNetworkPolicy, metadata: {name: ${name}}, spec: {selector: role == 'host', ${spec}}}\n`;
}

const ETH0 = host("h", "interfaceName: eth0");
const OPEN = host("h", "interfaceName: eth0, profiles: [projectcalico-default-allow]");

test("trap 39: failsafe ports are open before policy, and not for what is forwarded", () => {
  const denied = program(
    ETH0 + policy("p", "applyOnForward: true, ingress: [{action: Deny}], egress: [{action: Deny}]"),
  );
  expect(passes(denied, { ...IN, port: 22 })).toBe(true);
  expect(passes(denied, { ...IN, port: 23 })).toBe(false);
  expect(passes(denied, { ...OUT, port: 6443 })).toBe(true);
  expect(passes(denied, { ...TO_POD, port: 22 })).toBe(false);
});

test("failsafe ports are those of the settings, by net", () => {
  const settings =
    "- {kind: FelixConfiguration, metadata: {name: default}, spec: {failsafeInboundHostPorts: [{port: 2222, net: 203.0.113.0/24}]}}\n";
  const by = program(ETH0 + settings);
  expect(passes(by, { ...IN, port: 22 })).toBe(false);
  expect(passes(by, { ...IN, port: 2222 })).toBe(true);
  expect(passes(by, { ...IN, port: 2222, source: "198.51.100.1" as Addr })).toBe(false);
});

test("trap 41: what the node sends to its own pods always passes", () => {
  const by = program(host("h", "interfaceName: '*'") + policy("p", "applyOnForward: true, egress: [{action: Deny}]"));
  expect(passes(by, NODE_TO_POD)).toBe(true);
  expect(passes(by, OUT)).toBe(false);
});

test("trap 42: a pod and its node: the settings decide, and no host endpoint is asked", () => {
  const star = host("h", "interfaceName: '*'");
  expect(passes(program(star), POD_TO_NODE)).toBe(true);
  const drop = "- {kind: FelixConfiguration, metadata: {name: default}, spec: {defaultEndpointToHostAction: Drop}}\n";
  expect(passes(program(star + drop), POD_TO_NODE)).toBe(false);
  const one = "- {kind: FelixConfiguration, metadata: {name: node.n1}, spec: {defaultEndpointToHostAction: Accept}}\n";
  expect(passes(program(star + drop + one), POD_TO_NODE)).toBe(true);
});

test("trap 44: without applyOnForward what is forwarded is not seen, with it everything else is denied", () => {
  const plain = program(ETH0 + policy("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"));
  expect([passes(plain, TO_POD), passes(plain, FROM_POD)]).toEqual([true, true]);
  const forward = program(
    ETH0 +
      policy(
        "p",
        "applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
      ),
  );
  expect(passes(forward, TO_POD)).toBe(true);
  expect(passes(forward, { ...TO_POD, port: 81 })).toBe(false);
  // It is policy for the host too.
  expect(passes(forward, IN)).toBe(true);
  expect(passes(forward, { ...IN, port: 81 })).toBe(false);
});

test("trap 45: a direction of forwarding without policy is open", () => {
  const by = program(ETH0 + policy("p", "applyOnForward: true, types: [Ingress]"));
  expect(passes(by, TO_POD)).toBe(false);
  expect(passes(by, FROM_POD)).toBe(true);
});

test("trap 46: profiles are asked neither for what is forwarded nor before tracking and translation, and these do not end in deny", () => {
  const forward = program(OPEN + policy("p", "applyOnForward: true, types: [Ingress]"));
  expect(passes(forward, TO_POD)).toBe(false);
  for (const kind of ["preDNAT: true", "doNotTrack: true"]) {
    const early = program(
      OPEN + policy("p", `applyOnForward: true, ${kind}, types: [Ingress], ingress: [{action: Deny, protocol: UDP}]`),
    );
    expect(passes(early, IN)).toBe(true);
    expect(passes(early, TO_POD)).toBe(true);
  }
});

test("trap 48: policy before translation sees what was called", () => {
  const by = program(
    OPEN +
      policy(
        "p",
        "applyOnForward: true, preDNAT: true, ingress: [{action: Deny, protocol: TCP, destination: {ports: [30080]}}]",
      ),
  );
  const called = { source: OUTSIDE, destination: NODE, protocol: TCP, sourcePort: 40000, destinationPort: 30080 };
  const translated = { ...called, destination: POD, destinationPort: 80 };
  const path = { original: called, packet: translated, from: "eth0", to: "cali1", connection: "new" } as const;
  expect(evaluatePacket(by, path).action).toBe("drop");
  expect(passes(by, TO_POD)).toBe(true);
});

test("trap 49: the endpoint of every interface is for those that have none of their own, whatever theirs say", () => {
  const both = program(
    host("a", "interfaceName: '*'") + host("b", "interfaceName: eth0, profiles: [projectcalico-default-allow]"),
  );
  expect(passes(both, IN)).toBe(true);
  expect(passes(both, { ...IN, from: "eth1" })).toBe(false);
  // Its own endpoint has no policy before translation; the one of every interface has.
  const early = policy("p", "selector: every == 'x', applyOnForward: true, preDNAT: true, ingress: [{action: Deny}]");
  const labelled = host("a", "interfaceName: '*', profiles: [projectcalico-default-allow]").replace(
    "role: host",
    "every: x",
  );
  const by = program(
    labelled +
      host("b", "interfaceName: eth0, profiles: [projectcalico-default-allow]") +
      early.replace("selector: role == 'host', ", ""),
  );
  expect(passes(by, IN)).toBe(true);
  expect(passes(by, { ...IN, from: "eth1" })).toBe(false);
});

test("trap 50: a host endpoint without policy and profile is closed, both ways", () => {
  const by = program(ETH0);
  expect([passes(by, IN), passes(by, OUT), passes(by, TO_POD), passes(by, FROM_POD)]).toEqual([
    false,
    false,
    true,
    true,
  ]);
  expect(passes(program("[]"), IN)).toBe(true);
  expect([passes(program(OPEN), IN), passes(program(OPEN), OUT)]).toEqual([true, true]);
});

test("trap 51: of several endpoints for one interface the first by name counts, by whatever it matches", () => {
  const byAddress = "expectedIPs: [192.0.2.1], profiles: [projectcalico-default-allow]";
  expect(passes(program(host("a", byAddress) + host("b", "interfaceName: eth0")), IN)).toBe(true);
  expect(passes(program(host("b", byAddress) + host("a", "interfaceName: eth0")), IN)).toBe(false);
});

test("an endpoint that names an interface does not match by address, and none matches a workload's", () => {
  const named = host("a", "interfaceName: eth1, expectedIPs: [192.0.2.1]");
  expect(passes(program(named), IN)).toBe(true);
  const workload = host("a", "interfaceName: cali1");
  expect(passes(program(workload), TO_POD)).toBe(true);
});

test("trap 52: a profile that does not exist denies, that of a namespace that exists allows", () => {
  const profiles = (list: string): boolean =>
    passes(program(host("h", `interfaceName: eth0, profiles: [${list}]`)), IN);
  expect(profiles("kns.shop")).toBe(true);
  expect(profiles("kns.gone")).toBe(false);
  expect(profiles("gone, projectcalico-default-allow")).toBe(false);
  expect(profiles("projectcalico-default-allow, gone")).toBe(true);
});

test("policy of other nodes' host endpoints is no matter of this node", () => {
  expect(passes(program(ETH0.replace("node: n1", "node: n2")), IN)).toBe(true);
});

test("POL-50: a host endpoint inherits the labels of its profiles, and their rules decide last", () => {
  const named = host("h", "interfaceName: eth0, profiles: [kns.shop, servers]").replace("role: host", "rack: a");
  const servers = (rules: string): string =>
    `- {kind: Profile, metadata: {name: servers}, spec: {${rules}, labelsToApply: {role: host, rack: b}}}\n`;
  // The namespace's comes first, and allows.
  expect(passes(program(named), IN)).toBe(true);
  const deny = policy("p", "types: [Ingress]");
  expect(passes(program(named + deny), IN)).toBe(true);
  expect(passes(program(named + servers("egress: []") + deny), IN)).toBe(false);
  const inNamespace = policy("p", "types: [Ingress]").replace(
    "role == 'host'",
    "pcns.projectcalico.org/name == 'shop'",
  );
  expect(passes(program(named + inNamespace), IN)).toBe(false);
  const alone = host("h", "interfaceName: eth0, profiles: [servers]");
  const ssh = servers("ingress: [{action: Allow, protocol: TCP, destination: {ports: [8022]}}]");
  expect([8022, 8023].map((port) => passes(program(alone + ssh), { ...IN, port }))).toEqual([true, false]);
  // What is forwarded is not asked of profiles.
  expect(passes(program(alone + ssh), TO_POD)).toBe(true);
});
