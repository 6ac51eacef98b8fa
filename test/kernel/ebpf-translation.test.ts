/**
 * Translation beside the eBPF path: policy sees the source as it was sent and the destination as services have translated it, where the node hides
 * sources behind its own address, and where a service leads to the node itself. Both families; real masquerade, services and sockets.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { Gate } from "../../src/dataplane/ebpf/gate.ts";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { loadProgram } from "../../src/kernel/bpf/program.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { UDP } from "../../src/net/protocol.ts";
import type { Atom, Policy, PolicyId, SetId, SetMembers, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { packetsDropped, packetsDroppedAt } from "./ebpf-drops.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { ipPacket, Port } from "./wire.ts";

interface Family {
  readonly name: string;
  readonly client: Addr;
  readonly other: Addr;
  readonly world: Addr;
  readonly node: Addr;
  readonly service: Addr;
}

function familyOf(name: string, ...addresses: readonly [string, string, string, string, string]): Family {
  const [client, other, world, node, service] = addresses as readonly string[] as readonly [
    Addr,
    Addr,
    Addr,
    Addr,
    Addr,
  ];
  return { name, client, other, world, node, service };
}

const FAMILIES = [
  familyOf("IPv4", "10.65.0.2", "10.65.0.3", "198.51.100.7", "203.0.113.1", "10.96.0.10"),
  familyOf("IPv6", "fd00:65::2", "fd00:65::3", "2001:db8::7", "2001:db8:f::1", "fd00:96::10"),
];
/** Of services: what leads to the world, to the node, and to the other pod. */
const [TO_WORLD, TO_NODE, TO_OTHER] = [80, 81, 82];
const [PORT, NODE_PORT] = [8080, 9090];
const HIDDEN_PORT = 50_000;

const TRANSLATION = `
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ${FAMILIES.map(({ world, node, other, service }) => {
      const ip = service.includes(":") ? "ip6" : "ip";
      const at = (addr: string, port: number): string => (ip === "ip6" ? `[${addr}]:${port}` : `${addr}:${port}`);
      return [
        `${ip} daddr ${service} udp dport ${TO_WORLD} dnat ${ip} to ${at(world, PORT)}`,
        `${ip} daddr ${service} udp dport ${TO_NODE} dnat ${ip} to ${at(node, NODE_PORT)}`,
        `${ip} daddr ${service} udp dport ${TO_OTHER} dnat ${ip} to ${at(other, PORT)}`,
      ].join("\n");
    }).join("\n")}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname world meta l4proto udp masquerade to :${HIDDEN_PORT}-${HIDDEN_PORT + 9}
    oifname cali1 meta l4proto udp masquerade
  }
  chain arrived {
    type filter hook input priority 10;
    udp dport ${NODE_PORT} counter
  }
}`;

let fs: BpfFs;
let namespaces: Namespace[] = [];
let driver: EbpfDriver;
let client: Port;
let other: Port;
let world: Port;
let marker = 0xca14_0000;

const OPEN: Stage = { tiers: [], profiles: [], otherwise: "allow" };
const source = { kind: "GlobalNetworkPolicy", namespace: undefined, name: "p" } as const;
const ID = "GlobalNetworkPolicy/p" as PolicyId;
const ASKED: Stage = {
  tiers: [{ tier: "default", policies: [ID], otherwise: "deny" }],
  profiles: [],
  otherwise: "deny",
};
const CLIENTS = "s-clients" as SetId;

/** What the one policy allows: from the clients, or from anybody, to these ports, from that source port. */
interface Allowed {
  readonly ports: readonly number[];
  readonly fromClients?: boolean;
  readonly sourcePort?: number;
}

function ports(side: "source" | "destination", port: number): Atom {
  return { on: "ports", side, protocol: UDP, from: port, to: port };
}

/** `swapped`: each pod has the other's addresses, and the client's new holder may do nothing. */
type Where = "swapped" | "client egress" | "other ingress" | "host forward" | "host normal";

function commit(where: Where, allowed: Allowed): void {
  change(where, allowed);
  driver.maps.connections.deleteAll(driver.maps.connections.entries().map(({ key }) => key));
  node().run(["conntrack", "-F"]);
}

/** Flows that are known stay. */
function change(where: Where, { ports: wanted, fromClients, sourcePort }: Allowed): void {
  const direction = where === "client egress" || where === "swapped" ? "egress" : "ingress";
  const when = [
    { not: false, any: wanted.map((port) => ports("destination", port)) },
    ...(fromClients === true ? [{ not: false, any: [{ on: "set", side: "source", set: CLIENTS } as const] }] : []),
    ...(sourcePort === undefined ? [] : [{ not: false, any: [ports("source", sourcePort)] }]),
  ];
  const rules = [{ id: { source, direction, index: 0 }, when, action: "allow" } as const];
  const policy: Policy = {
    source,
    tier: "default",
    ingress: where === "swapped" ? [] : direction === "ingress" ? rules : undefined,
    egress: direction === "egress" ? rules : undefined,
    error: undefined,
  };
  const pod = (name: "client" | "other"): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name },
    addresses: FAMILIES.map((family) => family[(name === "client") === (where === "swapped") ? "other" : "client"]),
    stages: {
      normal: {
        ingress: name === "other" && (where === "other ingress" || where === "swapped") ? ASKED : OPEN,
        egress: where === (name === "client" ? "client egress" : "swapped") ? ASKED : OPEN,
      },
    },
  });
  const host: Endpoint = {
    kind: "host",
    source: { kind: "HostEndpoint", namespace: undefined, name: "world" },
    addresses: [],
    stages: where === "host forward" ? { forward: { ingress: ASKED } } : { normal: { ingress: ASKED, egress: OPEN } },
  };
  const members: SetMembers = {
    type: "address",
    hosts: new Set(FAMILIES.flatMap((each) => [each.client, each.world])),
    nets: new Set(),
  };
  const program: Program = {
    settings: DEFAULT_SETTINGS,
    sets: new Map([[CLIENTS, members]]),
    policies: new Map([[ID, policy]]),
    endpoints: new Map<EndpointId, Endpoint>([
      ["cali0" as EndpointId, pod("client")],
      ["cali1" as EndpointId, pod("other")],
      ...(where.startsWith("host") ? [["world" as EndpointId, host] as const] : []),
    ]),
    routes: new Map(),
  };
  driver.lower(program, { ...program, members: new Map() });
  node().enter(() => finishSteps(driver.committing()));
}

function node(): Namespace {
  const [found] = namespaces;
  if (found === undefined) throw new Error("no node");
  return found;
}

beforeAll(() => {
  fs = makeBpfFs();
  namespaces = ["node", "client", "other", "world"].map(makeNamespace);
  const [router, ...others] = namespaces as [Namespace, Namespace, Namespace, Namespace];
  makeRouter(router);
  connect(router, "cali0", others[0] as Namespace);
  connect(router, "cali1", others[1] as Namespace);
  connect(router, "world", others[2] as Namespace);
  routeDefault(router, "world");
  for (const family of FAMILIES) {
    routePod(router, "cali0", family.client);
    routePod(router, "cali1", family.other);
    router.run(["ip", "addr", "add", family.node, "dev", "world", ...(family.name === "IPv6" ? ["nodad"] : [])]);
    const ends = [family.client, family.other, family.world];
    for (const [i, namespace] of others.entries()) {
      const version = family.name === "IPv6" ? "-6" : "-4";
      const gateway = version === "-6" ? "fe80::7" : "169.254.7.7";
      const wide = version === "-6" ? ["nodad"] : [];
      namespace.run(["ip", "addr", "add", ends[i] ?? "", "dev", "eth0", ...wide]);
      namespace.run(["ip", version, "neigh", "add", gateway, "lladdr", HOST_MAC, "dev", "eth0", "nud", "permanent"]);
      namespace.run(["ip", version, "route", "add", "default", "via", gateway, "dev", "eth0", "onlink"]);
    }
  }
  router.run(["nft", "-f", "-"], TRANSLATION);
  [client, other, world] = others.map((each) => new Port(each, "eth0", HOST_MAC)) as [Port, Port, Port];
  driver = openEbpf(router, fs.path);
});
afterAll(() => {
  driver.close();
  for (const port of [client, other, world]) port.close();
  for (const namespace of namespaces) removeNamespace(namespace);
  fs.remove();
});

function udp(from: Addr, sourcePort: number, to: Addr, destinationPort: number): FlowPacket {
  return { source: from, destination: to, protocol: UDP, sourcePort, destinationPort };
}

/** UDP in two pieces; the last four bytes are the marker. */
function piecesOf(
  { source, destination, sourcePort, destinationPort }: FlowPacket,
  identification: number,
  own: number,
): [Uint8Array, Uint8Array] {
  const [first, last] = [new Uint8Array(16), new Uint8Array(8)];
  for (const [i, value] of [sourcePort ?? 0, destinationPort ?? 0, 24, 0].entries())
    new DataView(first.buffer).setUint16(2 * i, value);
  new DataView(last.buffer).setUint32(4, own);
  return [
    ipPacket(source, destination, UDP, first, { identification, isFirst: true }),
    ipPacket(source, destination, UDP, last, { identification, isFirst: false }),
  ];
}

/** Whether it arrives there; if not, the path has counted that it drops it. */
async function arrives(from: Port, packet: FlowPacket, received: (marker: number) => boolean): Promise<boolean> {
  const sent = marker++;
  const before = packetsDropped(driver);
  from.send(packet, sent);
  const end = performance.now() + 5000;
  for (;;) {
    if (received(sent)) return true;
    if (packetsDropped(driver) > before) return false;
    if (performance.now() > end) throw new Error("neither arrived nor counted");
    await Bun.sleep(1);
  }
}

const at =
  (port: Port) =>
  (wanted: number): boolean =>
    port.markers().includes(wanted);

function countAtNode(): number {
  return Number(
    /dport 9090 counter packets (\d+)/.exec(node().run(["nft", "list", "chain", "inet", "services", "arrived"]))?.[1],
  );
}

const atNode = (): (() => boolean) => {
  const before = countAtNode();
  return () => countAtNode() > before;
};

for (const family of FAMILIES)
  describe(family.name, () => {
    const { client: c, other: o, world: w, node: n, service } = family;

    test("a source that the node hides: its own policy sees the pod and its port", async () => {
      commit("client egress", { ports: [PORT], fromClients: true, sourcePort: 40_000 });
      expect(await arrives(client, udp(c, 40_000, w, PORT), at(world))).toBe(true);
      expect(await arrives(client, udp(c, 40_001, w, PORT), at(world))).toBe(false);
      expect(await arrives(client, udp(c, 40_000, w, PORT + 1), at(world))).toBe(false);
      commit("client egress", { ports: [PORT], fromClients: true, sourcePort: HIDDEN_PORT });
      expect(await arrives(client, udp(c, 40_000, w, PORT), at(world))).toBe(false);
    });

    test("the policy of the pod that it goes to sees the source that the node hides", async () => {
      commit("other ingress", { ports: [PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_010, o, PORT), at(other))).toBe(true);
      expect(await arrives(world, udp(w, 40_010, o, PORT), at(other))).toBe(true);
      // From an address of the outside that is no client's.
      const stranger = (family.name === "IPv4" ? "198.51.100.9" : "2001:db8::9") as Addr;
      expect(await arrives(world, udp(stranger, 40_010, o, PORT), at(other))).toBe(false);
    });

    test("service and hidden source at once; answers come back, and only from there", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_020, service, TO_WORLD), at(world))).toBe(true);
      const [hidden] = driver.maps.connections.entries();
      if (hidden === undefined) throw new Error("no flow");
      const port = new DataView(hidden.key.buffer).getUint16(4, true);
      expect(port).toBeGreaterThanOrEqual(HIDDEN_PORT);
      expect(await arrives(world, udp(w, PORT, n, port), at(client))).toBe(true);
      const before = driver.maps.connections.entries().length;
      world.send(udp(w, PORT + 1, n, port), marker++);
      expect(await arrives(world, udp(w, PORT, n, port), at(client))).toBe(true);
      expect(driver.maps.connections.entries().length).toBe(before);
      // The flow goes on when policy would not let it begin.
      change("client egress", { ports: [PORT + 1] });
      expect(await arrives(client, udp(c, 40_020, service, TO_WORLD), at(world))).toBe(true);
    });

    test("what is sent on to an address that another pod has got is judged by that one's policy", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await arrives(world, udp(w, 40_027, c, PORT), at(client))).toBe(true);
      expect(await arrives(client, udp(c, PORT, w, 40_027), at(world))).toBe(true);
      change("swapped", { ports: [] });
      routePod(node(), "cali1", c);
      const before = packetsDroppedAt(driver, "original address unknown");
      try {
        expect(await arrives(world, udp(w, 40_027, c, PORT), at(other))).toBe(false);
        expect(packetsDroppedAt(driver, "original address unknown")).toBe(before);
      } finally {
        routePod(node(), "cali0", c);
      }
    });

    test("an answer that the node no longer translates back does not get to the node itself", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_025, w, PORT), at(world))).toBe(true);
      const [flow] = driver.maps.connections.entries();
      const hidden = new DataView(flow?.key.buffer ?? new ArrayBuffer(8)).getUint16(4, true);
      node().run(["conntrack", "-F"]);
      const count = (): bigint => packetsDroppedAt(driver, "original address unknown");
      const before = count();
      world.send(udp(w, PORT, n, hidden), marker++);
      for (const end = performance.now() + 5000; count() === before && performance.now() < end;) await Bun.sleep(1);
      expect(count()).toBe(before + 1n);
    });

    test("a packet in pieces, in either order, that the node puts together and hides is judged by its first piece", async () => {
      const pieces = async (identification: number, port: number, isTurned: boolean): Promise<boolean> => {
        const own = marker++;
        const [first, last] = piecesOf(udp(c, 40_028, w, port), identification, own);
        const before = packetsDropped(driver);
        for (const piece of isTurned ? [last, first] : [first, last]) client.sendBody(piece);
        const end = performance.now() + 5000;
        for (;;) {
          if (world.markers().includes(own)) return true;
          if (packetsDropped(driver) > before) return false;
          if (performance.now() > end) throw new Error("neither arrived nor counted");
          await Bun.sleep(1);
        }
      };
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await pieces(1, PORT, false)).toBe(true);
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await pieces(2, PORT, true)).toBe(true);
      expect(await pieces(3, PORT + 1, false)).toBe(false);
    });

    test("a pod that forges another's address, or the node's, gets nowhere, though the node would hide it", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await arrives(other, udp(c, 40_030, w, PORT), at(world))).toBe(false);
      expect(await arrives(other, udp(n, HIDDEN_PORT, w, PORT), at(world))).toBe(false);
      // Into a flow that is known.
      expect(await arrives(client, udp(c, 40_030, w, PORT), at(world))).toBe(true);
      expect(await arrives(other, udp(c, 40_030, w, PORT), at(world))).toBe(false);
    });

    test("flows of an address that another pod gets are unknown at once, in both directions", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_035, w, PORT), at(world))).toBe(true);
      const [flow] = driver.maps.connections.entries();
      const hidden = new DataView(flow?.key.buffer ?? new ArrayBuffer(8)).getUint16(4, true);
      expect(await arrives(world, udp(w, PORT, n, hidden), at(client))).toBe(true);
      change("swapped", { ports: [] });
      routePod(node(), "cali1", c);
      routePod(node(), "cali0", o);
      try {
        expect(await arrives(world, udp(w, PORT, n, hidden), at(other))).toBe(false);
        expect(await arrives(other, udp(c, 40_035, w, PORT), at(world))).toBe(false);
      } finally {
        routePod(node(), "cali0", c);
        routePod(node(), "cali1", o);
      }
    });

    test("a packet whose token others have overwritten is dropped and counted", async () => {
      commit("client egress", { ports: [PORT], fromClients: true });
      const count = (): bigint => packetsDroppedAt(driver, "original address unknown");
      // One that accepts after ours sets its own class.
      const others = node().enter(() => new Attachments(sys, { priority: 60_000, handle: 1 }));
      const index = Number(node().run(["cat", "/sys/class/net/cali0/ifindex"]));
      const program = accepting();
      others.attach(index, "ingress", program, "accepts");
      const before = count();
      expect(await arrives(client, udp(c, 40_040, w, PORT), at(world))).toBe(false);
      expect(count()).toBe(before + 1n);
      others.detach(index, "ingress");
      others.close();
      sys.close(program);
      expect(await arrives(client, udp(c, 40_040, w, PORT), at(world))).toBe(true);
    });

    test("the host endpoint that it leaves by or comes from sees the source as it was sent", async () => {
      commit("host forward", { ports: [PORT], fromClients: true });
      expect(await arrives(world, udp(w, 40_050, service, TO_OTHER), at(other))).toBe(true);
      commit("host forward", { ports: [TO_OTHER], fromClients: true });
      expect(await arrives(world, udp(w, 40_051, service, TO_OTHER), at(other))).toBe(false);
    });

    test("a service that leads from a pod to the node itself is judged with the node's port", async () => {
      commit("client egress", { ports: [NODE_PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_060, service, TO_NODE), atNode())).toBe(true);
      expect(await arrives(client, udp(c, 40_060, n, NODE_PORT), atNode())).toBe(true);
      commit("client egress", { ports: [TO_NODE], fromClients: true });
      expect(await arrives(client, udp(c, 40_061, service, TO_NODE), atNode())).toBe(false);
      expect(await arrives(client, udp(c, 40_061, n, NODE_PORT), atNode())).toBe(false);
    });

    test("a rule of others that sets the whole mark opens the node to no pod", async () => {
      commit("client egress", { ports: [TO_NODE], fromClients: true });
      const rule = "table inet marking { chain c { type filter hook prerouting priority -150; meta mark set 1; }; }";
      node().run(["nft", "-f", "-"], rule);
      try {
        const hasArrived = atNode();
        client.send(udp(c, 40_065, n, NODE_PORT), marker++);
        const guard = (): string => node().run(["nft", "list", "table", "inet", "calico-guard"]);
        while (!hasArrived() && !/packets [1-9].*its mark is lost/.test(guard())) await Bun.sleep(1);
        expect(hasArrived()).toBe(false);
      } finally {
        node().run(["nft", "delete", "table", "inet", "marking"]);
      }
      commit("client egress", { ports: [NODE_PORT], fromClients: true });
      expect(await arrives(client, udp(c, 40_065, n, NODE_PORT), atNode())).toBe(true);
    });

    test("a service that leads from outside to the node itself is judged by the host endpoint with the node's port", async () => {
      commit("host normal", { ports: [NODE_PORT], fromClients: true });
      expect(await arrives(world, udp(w, 40_070, service, TO_NODE), atNode())).toBe(true);
      commit("host normal", { ports: [TO_NODE], fromClients: true });
      expect(await arrives(world, udp(w, 40_071, service, TO_NODE), atNode())).toBe(false);
      expect(await arrives(world, udp(w, 40_071, n, NODE_PORT), atNode())).toBe(false);
    });

    test("where the kernel cannot ask, what is for the node is judged before translation, and what a service leads there is closed", async () => {
      const gate = node().enter(
        () => new Gate(sys, () => ({ gate: driver.maps.gate, pathOf: () => "/nowhere" }), false),
      );
      gate.put();
      expect(gate.judges).toBe(false);
      commit("client egress", { ports: [NODE_PORT, TO_NODE], fromClients: true });
      expect(await arrives(client, udp(c, 40_080, n, NODE_PORT), atNode())).toBe(true);
      const arrived = countAtNode();
      const isDropped = (): boolean =>
        !node().run(["nft", "list", "chain", "inet", "calico-ebpf", "input"]).includes("packets 0 ");
      client.send(udp(c, 40_081, service, TO_NODE), marker++);
      for (const end = performance.now() + 5000; !isDropped() && performance.now() < end;) await Bun.sleep(1);
      expect([isDropped(), countAtNode()]).toEqual([true, arrived]);
      gate.close();
      const judging = node().enter(() => new Gate(sys, () => driver.maps, false));
      judging.put();
      expect([judging.judges, judging.read()]).toEqual([true, "there"]);
      judging.close();
    });

    test("the node answers through the service, and the flow goes on whatever becomes of policy", async () => {
      for (const [where, from, addr] of [
        ["client egress", namespaces[1], c],
        ["host normal", namespaces[3], w],
      ] as const) {
        commit(where, { ports: [NODE_PORT], fromClients: true });
        const to = { called: service, port: TO_NODE, kind: "udp" } as const;
        await callTwice(from, addr, to, n, () => change(where, { ports: [NODE_PORT + 1] }));
      }
    });

    test("the node's own connections go on when its first host endpoint comes, which would not let them begin", async () => {
      commit("client egress", { ports: [PORT] });
      const to = { called: n, port: NODE_PORT, kind: "tcp" } as const;
      await callTwice(namespaces[3], w, to, n, () => change("host normal", { ports: [PORT] }));
    });
  });

interface Called {
  readonly called: Addr;
  readonly port: number;
  readonly kind: "tcp" | "udp";
}

/** Calls a server of the node, and again after the change. */
async function callTwice(
  from: Namespace | undefined,
  addr: Addr,
  { called, port, kind }: Called,
  at: Addr,
  between: () => void,
): Promise<void> {
  const words = [addr, called, port, node().name, at, NODE_PORT, kind].map(String);
  const caller = Bun.spawn(["ip", "netns", "exec", from?.name ?? "", "python3", "-c", CALLER, ...words], {
    stdin: "pipe",
    stdout: "pipe",
  });
  try {
    const lines = linesOf(caller.stdout);
    expect((await lines.next()).value).toBe("answered");
    between();
    void caller.stdin.write("go on\n");
    void caller.stdin.flush();
    expect((await lines.next()).value).toBe("answered");
  } finally {
    void caller.stdin.end();
    await caller.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

/** Returns TC_ACT_OK: mov r0, 0; exit. */
function accepting(): number {
  const instructions = Uint8Array.from([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  return loadProgram(sys, { type: "tc", name: "accepts", license: "GPL", instructions });
}

/** Calls a server that it starts in the node's namespace, and, when it is told to, again; over TCP, in the same connection. */
const CALLER = `
import socket, subprocess, sys
addr, called, port, node, to, to_port, kind = sys.argv[1:8]
family = socket.AF_INET6 if ":" in addr else socket.AF_INET
server = subprocess.Popen(["ip", "netns", "exec", node, sys.executable, "-c", """
import socket, sys
is_tcp = sys.argv[3] == "tcp"
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
if is_tcp: s.listen()
print("ready", flush=True)
if is_tcp: s = s.accept()[0]
while True:
    data, peer = s.recvfrom(100)
    s.sendto(b"answered", peer) if peer else s.sendall(b"answered")
""", to, to_port, kind], stdout=subprocess.PIPE)
server.stdout.readline()
try:
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.bind((addr, 0))
    s.settimeout(10)
    if kind == "tcp": s.connect((called, int(port)))
    for i in range(2):
        s.sendto(b"call", (called, int(port))) if kind == "udp" else s.sendall(b"call")
        data, peer = s.recvfrom(100)
        assert not peer or peer[0] == called, peer
        print(data.decode(), flush=True)
        if not sys.stdin.readline(): break
finally:
    server.kill()
    server.wait()
`;
import { openEbpf } from "./ebpf-driver.ts";
