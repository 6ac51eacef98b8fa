/**
 * A host endpoint beside a real translation: policy before translation sees the port that was called, policy of what is
 * forwarded the pod's; the host's own services are closed but for what a rule or a failsafe port opens. All three statements agree.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { programOf } from "../../src/calc/from-scratch.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import type { GlobalNetworkPolicySpec } from "../../src/model/kinds/global-network-policy.ts";
import type { Rule } from "../../src/model/kinds/rule.ts";
import type { Resource } from "../../src/model/resource.ts";
import { evaluatePacket } from "../../src/program/path-evaluate.ts";
import type { EndpointId, Program } from "../../src/program/program.ts";
import { makeBpfFs } from "./bpffs.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

const WORLD = "world" as EndpointId;
const NODE_PORT = 30080;
const POD_PORT = 80;

interface Net {
  readonly pod: Addr;
  readonly node: Addr;
  readonly friend: Addr;
  readonly stranger: Addr;
}

const NETS: { readonly [F in Family]: Net } = {
  4: net("10.65.0.1", "203.0.113.1", "198.51.100.7", "198.51.100.66"),
  6: net("fd00:65::1", "2001:db8:f::1", "2001:db8:1::7", "2001:db8:1::66"),
};

function net(pod: string, node: string, friend: string, stranger: string): Net {
  return { pod: pod as Addr, node: node as Addr, friend: friend as Addr, stranger: stranger as Addr };
}

const STRANGERS = ["198.51.100.64/26", "2001:db8:1::60/124"];

const TRANSLATION = `
table inet nodeport {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${NETS[4].node} udp dport ${NODE_PORT} dnat ip to ${NETS[4].pod}:${POD_PORT}
    ip6 daddr ${NETS[6].node} udp dport ${NODE_PORT} dnat ip6 to [${NETS[6].pod}]:${POD_PORT}
  }
  chain arrived {
    type filter hook input priority 10;
    iifname "${WORLD}" counter drop
  }
}`;

/** Each dataplane programs the namespace; the result ends what the test has made for it. */
const DATAPLANES: { readonly [name: string]: (node: Namespace, program: Program) => () => void } = {
  nftables(node, program) {
    const driver = node.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
    driver.lower(program, { ...program, members: new Map() });
    driver.read();
    driver.commit();
    driver.close();
    return () => {};
  },
  ebpf(node, program) {
    const fs = makeBpfFs();
    const object = new Uint8Array(readFileSync(new URL("../../bpf/path.o", import.meta.url)));
    const driver = openEbpf(node, fs.path, object);
    driver.lower(program, { ...program, members: new Map() });
    finishSteps(driver.committing());
    driver.close();
    return () => fs.remove();
  },
};

let close: (() => void) | undefined;
let node: Namespace;
let others: Namespace[] = [];
let server: Port;
let world: Port;
let program: Program;
let mark = 0xca14_0000;

function rule(action: Rule["action"], port: number, nets?: readonly string[]): Rule {
  const source = nets === undefined ? {} : { source: { nets: [...nets] } };
  return { action, protocol: "UDP", ...source, destination: { ports: [port] } };
}

function policy(name: string, spec: GlobalNetworkPolicySpec): Resource<"GlobalNetworkPolicy"> {
  const apiVersion = "projectcalico.org/v3";
  return { apiVersion, kind: "GlobalNetworkPolicy", metadata: { name }, spec: { selector: "has(router)", ...spec } };
}

const POLICIES = [
  policy("node-port", {
    order: 1,
    preDNAT: true,
    applyOnForward: true,
    ingress: STRANGERS.map((net) => rule("Deny", NODE_PORT, [net])),
  }),
  policy("services", {
    order: 2,
    types: ["Ingress", "Egress"],
    ingress: [...STRANGERS.map((net) => rule("Deny", 5353, [net])), rule("Allow", 5353)],
    egress: [rule("Allow", 53)],
  }),
];

const HOST: Resource<"HostEndpoint"> = {
  apiVersion: "projectcalico.org/v3",
  kind: "HostEndpoint",
  metadata: { name: "router", labels: { router: "yes" } },
  spec: { node: "n1", interfaceName: WORLD, expectedIPs: FAMILIES.map((family) => NETS[family].node) },
};

function build(open: (node: Namespace, program: Program) => () => void): void {
  [node, ...others] = ["node", "pod", "world"].map(makeNamespace) as [Namespace, ...Namespace[]];
  const [pod, outside] = others as [Namespace, Namespace];
  makeRouter(node);
  connect(node, "cali1", pod);
  connect(node, WORLD, outside);
  routeDefault(node, WORLD);
  for (const { pod: addr, node: own } of Object.values(NETS)) {
    routePod(node, "cali1", addr);
    node.run(["ip", "addr", "add", own, "dev", "lo"]);
  }
  node.run(["nft", "-f", "-"], TRANSLATION);
  const resource = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "server", namespace: "shop" },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: FAMILIES.map((family) => ({ ip: NETS[family].pod })) },
  };
  const record = {
    containerId: "c",
    pod: { kind: "Pod", namespace: "shop", name: "server" } as const,
    interface: "cali1",
    addresses: FAMILIES.map((family) => NETS[family].pod),
    mac: "",
    netns: "",
    podInterface: "eth0",
  };
  const state = {
    node: "n1",
    pools: [],
    nodes: [],
    namespaces: [],
    serviceAccounts: [],
    networkPolicies: [],
    blocks: [],
  };
  program = programOf({
    ...state,
    pods: [resource],
    records: [record],
    globalPolicies: POLICIES,
    hostEndpoints: [HOST],
  });
  close = open(node, program);
  server = new Port(pod, "eth0", HOST_MAC);
  world = new Port(outside, "eth0", HOST_MAC);
}

function end(): void {
  close?.();
  server?.close();
  world?.close();
  for (const namespace of [node, ...others]) if (namespace !== undefined) removeNamespace(namespace);
}

/** To an address: pairs of port and marker. */
const SEND = `
import socket, struct, sys
to, *pairs = sys.argv[1:]
sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
for port, marker in zip(pairs[::2], pairs[1::2]):
    try: sock.sendto(struct.pack("!I", int(marker)), (to, int(port)))
    except PermissionError: pass
`;
import { openEbpf } from "./ebpf-driver.ts";

function udp(source: Addr, destination: Addr, destinationPort: number): FlowPacket {
  return { source, destination, protocol: UDP, sourcePort: 20_000 + (mark & 0xfff), destinationPort };
}

/** Packets for the node that got through our table. */
function arrivals(): number {
  return Number(/counter packets (\d+)/.exec(node.run(["nft", "list", "chain", "inet", "nodeport", "arrived"]))?.[1]);
}

/** Whether it arrives, of which both the kernel and the program are asked. */
function arrives(packet: FlowPacket, translated: FlowPacket, to: "cali1" | undefined): boolean {
  const fate = evaluatePacket(program, { original: packet, packet: translated, from: WORLD, to, connection: "new" });
  const before = arrivals();
  const marker = mark++;
  world.send(packet, marker);
  // Behind it comes a packet of which is known that it arrives: frames of one wire stay in order.
  const last = mark++;
  world.send(udp(packet.source, NETS[familyOf(packet.source)].pod, 9), last);
  const seen: number[] = [];
  while (!seen.includes(last)) seen.push(...server.markers());
  const arrived = to === undefined ? arrivals() > before : seen.includes(marker);
  expect(`${JSON.stringify(packet)}: ${arrived}`).toBe(`${JSON.stringify(packet)}: ${fate.action === "accept"}`);
  return arrived;
}

for (const [name, open] of Object.entries(DATAPLANES))
  describe(name, () => {
    beforeAll(() => build(open));
    afterAll(end);
    for (const family of FAMILIES) {
      const { pod, node: own, friend, stranger } = NETS[family];

      test(`IPv${family}: before translation the port that was called counts`, () => {
        const call = (source: Addr): boolean =>
          arrives(udp(source, own, NODE_PORT), udp(source, pod, POD_PORT), "cali1");
        expect([call(friend), call(stranger)]).toEqual([true, false]);
        const direct = udp(stranger, pod, POD_PORT);
        expect(arrives(direct, direct, "cali1")).toBe(true);
      });

      test(`IPv${family}: the host's own services are closed but for rules and failsafe ports`, () => {
        const call = (packet: FlowPacket): boolean => arrives(packet, packet, undefined);
        expect(call(udp(friend, own, 5353))).toBe(true);
        expect(call(udp(stranger, own, 5353))).toBe(false);
        expect(call(udp(friend, own, 5354))).toBe(false);
        // DHCP's is UDP and needs no checksum.
        expect(call(udp(stranger, own, 68))).toBe(true);
      });

      test(`IPv${family}: what the host calls, and its own pods`, () => {
        // What is denied is followed by what is allowed.
        const sends = (to: Addr, port: number): boolean => {
          const [marker, last] = [mark++, mark++];
          node.run(["python3", "-c", SEND, to, `${port}`, `${marker}`, "53", `${last}`]);
          const seen: number[] = [];
          while (!seen.includes(last)) seen.push(...(to === pod ? server : world).markers());
          return seen.includes(marker);
        };
        const says = (to: Addr, port: number, device: string): boolean => {
          const packet = { source: own, destination: to, protocol: UDP, sourcePort: 1, destinationPort: port };
          const path = { original: packet, packet, from: undefined, to: device, connection: "new" } as const;
          return evaluatePacket(program, path).action === "accept";
        };
        for (const [to, port, device, allowed] of [
          [friend, 53, WORLD, true],
          [friend, 54, WORLD, false],
          [friend, 67, WORLD, true],
          [pod, 54, "cali1", true],
        ] as const)
          expect([to, port, sends(to, port), says(to, port, device)]).toEqual([to, port, allowed, allowed]);
      });
    }

    test("TCP has failsafe ports of its own", () => {
      const packet = { ...udp(NETS[4].stranger, NETS[4].node, 22), protocol: TCP };
      const path = { original: packet, packet, from: WORLD, to: undefined, connection: "new" } as const;
      expect(evaluatePacket(program, path).step).toBe("failsafe");
    });
  });
