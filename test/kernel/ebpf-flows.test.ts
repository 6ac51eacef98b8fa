/**
 * Flows on the eBPF path: policy is asked about the first packet; answers, errors about the flow and later pieces of a packet follow, also
 * when policy has changed and where services are translated. Raw packets between a client and a server pod of one node, both families.
 *
 * A packet that is not to arrive is followed by one that must.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Subprocess } from "bun";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { ACTIONS, decodeRecords, RECORD_KINDS } from "../../src/dataplane/ebpf/layout.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP } from "../../src/net/protocol.ts";
import type { Atom, Policy, PolicyId, Rule, SetId, SetMembers, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { makeNamespace, type Namespace, removeNamespace } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { encodePacket, ipPacket, Port, turned } from "./wire.ts";

interface Family {
  readonly name: string;
  readonly client: Addr;
  readonly server: Addr;
  /** Of a service. */
  readonly service: Addr;
  readonly node: Addr;
  readonly icmp: Protocol;
}

function familyOf(name: string, icmp: Protocol, ...addresses: readonly [string, string, string, string]): Family {
  const [client, server, service, node] = addresses as readonly string[] as readonly [Addr, Addr, Addr, Addr];
  return { name, client, server, service, node, icmp };
}

const FAMILIES = [
  familyOf("IPv4", ICMP, "10.65.0.2", "10.65.0.1", "10.96.0.10", "203.0.113.1"),
  familyOf("IPv6", ICMPV6, "fd00:65::2", "fd00:65::1", "fd00:96::10", "2001:db8:f::1"),
];
/** Always allowed. */
const CONTROL_PORT = 9;
const [ALLOWED_PORT, OTHER_PORT, SERVICE_PORT, HOST_PORT] = [8080, 8081, 80, 30_080];
const SERVERS = "s-servers" as SetId;

const SERVICES = `table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 10.96.0.10 udp dport ${SERVICE_PORT} dnat ip to 10.65.0.1:${ALLOWED_PORT}
    ip6 daddr fd00:96::10 udp dport ${SERVICE_PORT} dnat ip6 to [fd00:65::1]:${ALLOWED_PORT}
    ip daddr 203.0.113.1 udp dport ${HOST_PORT} dnat ip to 10.65.0.1:${ALLOWED_PORT}
    ip6 daddr 2001:db8:f::1 udp dport ${HOST_PORT} dnat ip6 to [fd00:65::1]:${ALLOWED_PORT}
    ip daddr 10.96.0.10 udp dport ${HOST_PORT} dnat ip to 203.0.113.1:${HOST_PORT}
    ip6 daddr fd00:96::10 udp dport ${HOST_PORT} dnat ip6 to [2001:db8:f::1]:${HOST_PORT}
  }
  chain arrived {
    type filter hook input priority 10;
    udp dport ${HOST_PORT} counter drop
  }
}`;

let fs: BpfFs;
let namespaces: Namespace[] = [];
let driver: EbpfDriver;
let client: Port;
let server: Port;
let marker = 0xca13_0000;

/** Neither may send to the other but by what the client's policy allows. */
function program(ports: readonly number[]): Program {
  const source = { kind: "NetworkPolicy", namespace: "a", name: "client" } as const;
  const id = "NetworkPolicy/a/client" as PolicyId;
  const wanted = [CONTROL_PORT, ...ports];
  const egress = wanted.map((port, index): Rule => {
    const atoms = [TCP, UDP, SCTP].map((protocol): Atom => ({
      on: "ports",
      side: "destination",
      protocol,
      from: port,
      to: port,
    }));
    const when = [
      { not: false, any: [{ on: "set", side: "destination", set: SERVERS } as const] },
      { not: false, any: atoms },
    ];
    return { id: { source, direction: "egress", index }, when, action: "allow" };
  });
  // Echoes, where the first port is allowed.
  for (const { icmp } of ports.includes(ALLOWED_PORT) ? FAMILIES : [])
    egress.push({
      id: { source, direction: "egress", index: egress.length },
      when: [{ not: false, any: [{ on: "protocol", is: icmp }] }],
      action: "allow",
    });
  const policy: Policy = { source, tier: "default", ingress: undefined, egress, error: undefined };
  const denied: Stage = { tiers: [], profiles: [], otherwise: "deny" };
  const allowed: Stage = { tiers: [], profiles: [], otherwise: "allow" };
  const asked: Stage = { ...denied, tiers: [{ tier: "default", policies: [id], otherwise: "deny" }] };
  const pod = (name: "client" | "server", stages: { ingress: Stage; egress: Stage }): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name },
    addresses: FAMILIES.map((family) => family[name]),
    stages: { normal: stages },
  });
  const members: SetMembers = { type: "address", hosts: new Set(FAMILIES.map((each) => each.server)), nets: new Set() };
  return {
    settings: DEFAULT_SETTINGS,
    sets: new Map([[SERVERS, members]]),
    policies: new Map([[id, policy]]),
    endpoints: new Map([
      ["cali0" as EndpointId, pod("server", { ingress: allowed, egress: denied })],
      ["cali1" as EndpointId, pod("client", { ingress: denied, egress: asked })],
    ]),
    routes: new Map(),
  };
}

function commit(...ports: readonly number[]): void {
  commitProgram(program(ports));
}

function commitProgram(wanted: Program): void {
  driver.lower(wanted, { ...wanted, members: new Map() });
  finishSteps(driver.committing());
}

function openDriver(object: Uint8Array): EbpfDriver {
  const [node] = namespaces as [Namespace];
  const opened = openEbpf(node, fs.path, object);
  return opened;
}

beforeAll(() => {
  fs = makeBpfFs();
  namespaces = ["node", "server", "client", "world"].map(makeNamespace);
  const [node, ...others] = namespaces as [Namespace, Namespace, Namespace, Namespace];
  makeRouter(node);
  connect(node, "world", others[2] as Namespace);
  routeDefault(node, "world");
  for (const [i, name] of (["server", "client"] as const).entries()) {
    connect(node, `cali${i}`, others[i] as Namespace);
    for (const family of FAMILIES) routePod(node, `cali${i}`, family[name]);
    for (const family of i === 0 ? FAMILIES : []) node.run(["ip", "addr", "add", family.node, "dev", "lo"]);
    others[i]?.run(
      ["nft", "-f", "-"],
      "table inet silence { chain o { type filter hook output priority 0; policy drop; }; }",
    );
  }
  server = new Port(others[0] as Namespace, "eth0", HOST_MAC);
  client = new Port(others[1] as Namespace, "eth0", HOST_MAC);
  driver = openDriver(OBJECT);
});
afterAll(() => {
  driver.close();
  client.close();
  server.close();
  for (const namespace of namespaces) removeNamespace(namespace);
  fs.remove();
});
afterEach(() => {
  driver.maps.connections.deleteAll(driver.maps.connections.entries().map(({ key }) => key));
});

async function arrives(to: Port, wanted: number): Promise<boolean> {
  const seen: number[] = [];
  const control = marker++;
  for (const { client: source, server: destination } of FAMILIES.slice(0, 1))
    client.send(udp(source, destination, 5000, CONTROL_PORT), control);
  const end = performance.now() + 5000;
  let isControlSeen = false;
  while (!isControlSeen) {
    if (performance.now() > end) throw new Error("the packet that must arrive has not");
    const atServer = server.markers();
    if (to === server) seen.push(...atServer);
    else seen.push(...to.markers());
    isControlSeen = atServer.includes(control);
    await Bun.sleep(1);
  }
  seen.push(...to.markers());
  return seen.includes(wanted);
}

function udp(source: Addr, destination: Addr, sourcePort: number, destinationPort: number): FlowPacket {
  return { source, destination, protocol: UDP, sourcePort, destinationPort };
}

/** Whether it arrives at the other pod. */
async function passes(from: Port, packet: FlowPacket): Promise<boolean> {
  const sent = marker++;
  from.send(packet, sent);
  return arrives(from === client ? server : client, sent);
}

async function passesBody(from: Port, body: Uint8Array, sent: number): Promise<boolean> {
  from.sendBody(body);
  return arrives(from === client ? server : client, sent);
}

/** As fast as it can, to one port of the server, from ever other ports: no flow is known. */
const FLOOD = `
import socket, sys
while True:
    sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(16): sock.sendto(b"flood", (sys.argv[1], int(sys.argv[2])))
    sock.close()
`;
import { OBJECT, openEbpf } from "./ebpf-driver.ts";

/** From the client's own kernel. */
function startFlood(): Subprocess {
  const [{ client: source, server: destination }] = FAMILIES as [Family];
  const [, , sender] = namespaces as [Namespace, Namespace, Namespace];
  for (const command of [
    "nft flush ruleset",
    `ip addr replace ${source}/32 dev eth0`,
    "ip route replace 169.254.1.1 dev eth0",
    "ip route replace default via 169.254.1.1 dev eth0",
    `ip neigh replace 169.254.1.1 lladdr ${HOST_MAC} dev eth0 nud permanent`,
  ])
    sender.run(command.split(" "));
  server.markers();
  return Bun.spawn(["ip", "netns", "exec", sender.name, "python3", "-c", FLOOD, destination, `${OTHER_PORT}`]);
}

async function endFlood(flood: Subprocess): Promise<void> {
  flood.kill("SIGKILL");
  await flood.exited;
  // Its packets fill the buffer of the client's socket.
  client.markers();
}

/** The last four bytes of its packets. */
const FLOOD_END = 0x6c_6f_6f_64;

/** Packets that ends of stages have denied, by block. */
function deniedByStages(): ReadonlyMap<string, bigint> {
  const counts = new Map<string, bigint>();
  for (const { kind, start, records } of driver.image?.blocks.values() ?? [])
    for (const [i, record] of decodeRecords(records).entries()) {
      if (record.kind !== RECORD_KINDS.end || record.detail !== ACTIONS.deny) continue;
      const bytes = driver.maps.counters.values(start + i, 1);
      counts.set(kind, (counts.get(kind) ?? 0n) + new DataView(bytes.buffer).getBigUint64(0, true));
    }
  return counts;
}

test("each packet is judged by one program: of two that both deny, no mixture lets anything through", async () => {
  const [open, closed]: readonly Stage[] = (["allow", "deny"] as const).map((otherwise) => ({
    tiers: [],
    profiles: [],
    otherwise,
  }));
  const between = (egress: Stage | undefined, ingress: Stage | undefined): Program => {
    const base = program([]);
    const at = (id: string, stages: { ingress: Stage; egress: Stage }): readonly [EndpointId, Endpoint] => {
      const endpoint = base.endpoints.get(id as EndpointId);
      if (endpoint === undefined) throw new Error(`no endpoint ${id}`);
      return [id as EndpointId, { ...endpoint, stages: { normal: stages } }];
    };
    if (egress === undefined || ingress === undefined || open === undefined) throw new Error("no stage");
    return {
      ...base,
      endpoints: new Map([at("cali1", { egress, ingress: open }), at("cali0", { egress: open, ingress })]),
    };
  };
  const programs = [between(open, closed), between(closed, open)];
  commitProgram(programs[1] as Program);
  const flood = startFlood();
  const arrived: number[] = [];
  try {
    const denied = new Map<string, bigint>();
    const isEnough = (): boolean =>
      (["stage-egress", "stage-ingress"] as const).every((kind) => (denied.get(kind) ?? 0n) > 2000n);
    const end = performance.now() + 20_000;
    for (let i = 0; i < 300 || !isEnough(); i++) {
      if (performance.now() > end) throw new Error(`too few packets: ${JSON.stringify([...denied].map(String))}`);
      commitProgram(programs[i % 2] as Program);
      // Counters begin anew with their records.
      await Bun.sleep(1);
      for (const [kind, count] of deniedByStages()) denied.set(kind, (denied.get(kind) ?? 0n) + count);
      arrived.push(...server.markers());
    }
  } finally {
    await endFlood(flood);
  }
  // Its kernel says things of its own.
  expect(arrived.filter((end) => end === FLOOD_END).length).toBe(0);
}, 60_000);

test("another object takes the programs' place without a gap, and with the maps that are there", async () => {
  const [{ client: c, server: s }] = FAMILIES as [Family];
  commit(ALLOWED_PORT);
  const call = udp(c, s, 45_000, ALLOWED_PORT);
  expect(await passes(client, call)).toBe(true);
  expect(await passes(server, turned(call))).toBe(true);
  const flood = startFlood();
  const shown = new Set<string>();
  const arrived: number[] = [];
  const [node] = namespaces as [Namespace];
  try {
    for (let i = 0; i < 10; i++) {
      driver.close();
      // What follows the sections of an object means nothing.
      driver = openDriver(Uint8Array.from([...OBJECT, ...(i % 2 === 0 ? [0] : [])]));
      commit();
      arrived.push(...server.markers());
      shown.add(
        /calico from_workload (\w+)/.exec(node.run(["tc", "filter", "show", "dev", "cali1", "ingress"]))?.[1] ?? "",
      );
      // Each replacement meets packets.
      const denied = driver.maps.counters;
      const count = (): bigint => sumOf(denied.values(0, 200));
      const before = count();
      const end = performance.now() + 10_000;
      while (count() === before) {
        if (performance.now() > end) throw new Error("no packet is judged");
        await Bun.sleep(1);
      }
    }
  } finally {
    await endFlood(flood);
  }
  arrived.push(...server.markers());
  expect(shown.size).toBe(2);
  expect(arrived.filter((last) => last === FLOOD_END).length).toBe(0);
  expect(await passes(client, call)).toBe(true);
}, 60_000);

function sumOf(values: Uint8Array): bigint {
  let sum = 0n;
  for (const count of new BigUint64Array(values.buffer)) sum += count;
  return sum;
}

for (const { name, client: c, server: s, service, node: router, icmp } of FAMILIES)
  describe(name, () => {
    const call = udp(c, s, 40_000, ALLOWED_PORT);

    // Over TCP, one that acknowledges.
    const answers = (protocol: Protocol): Promise<boolean> => {
      const sent = marker++;
      const body = encodePacket(turned({ ...call, protocol }), sent);
      if (protocol === TCP) body[(name === "IPv4" ? 20 : 40) + 13] = 0x12;
      return passesBody(server, body, sent);
    };

    for (const protocol of [UDP, TCP, SCTP])
      test(`protocol ${protocol}: answers come through, but nothing unasked`, async () => {
        commit(ALLOWED_PORT);
        const packet = { ...call, protocol };
        expect(await answers(protocol)).toBe(false);
        expect(await passes(client, packet)).toBe(true);
        expect(await answers(protocol)).toBe(true);
        expect(await passes(server, { ...turned(packet), destinationPort: 40_001 })).toBe(false);
        expect(await passes(client, { ...packet, destinationPort: OTHER_PORT })).toBe(false);
      });

    test("echoes are answered", async () => {
      commit(ALLOWED_PORT);
      const echo = (isAnswer: boolean): FlowPacket => ({
        source: isAnswer ? s : c,
        destination: isAnswer ? c : s,
        protocol: icmp,
        sourcePort: undefined,
        destinationPort: undefined,
        icmp: { type: icmp === ICMP ? (isAnswer ? 0 : 8) : isAnswer ? 129 : 128, code: 0 },
      });
      expect(await passes(server, echo(true))).toBe(false);
      expect(await passes(client, echo(false))).toBe(true);
      expect(await passes(server, echo(true))).toBe(true);
    });

    test("a flow that was answered goes on when policy changes; a new one is judged", async () => {
      commit(ALLOWED_PORT);
      expect(await passes(client, call)).toBe(true);
      expect(await passes(server, turned(call))).toBe(true);
      commit();
      expect(await passes(client, call)).toBe(true);
      expect(await passes(server, turned(call))).toBe(true);
      expect(await passes(client, { ...call, sourcePort: 40_002 })).toBe(false);
      // Over TCP with the same ports, too.
      expect(await passes(client, { ...call, protocol: TCP })).toBe(false);
    });

    test("one that was not answered is judged again", async () => {
      commit(ALLOWED_PORT);
      expect(await passes(client, call)).toBe(true);
      commit();
      expect(await passes(client, call)).toBe(false);
    });

    test("TCP: what opens a flow is judged even where one is known", async () => {
      commit(ALLOWED_PORT);
      const packet = { ...call, protocol: TCP };
      expect(await passes(client, packet)).toBe(true);
      expect(await answers(TCP)).toBe(true);
      commit();
      expect(await answers(TCP)).toBe(true);
      expect(await passes(client, packet)).toBe(false);
    });

    test("an error about a known flow comes through, one about another not", async () => {
      commit(ALLOWED_PORT);
      const error = (about: FlowPacket): Promise<boolean> => {
        const sent = marker++;
        const inner = encodePacket(about, sent);
        const type = icmp === ICMP ? 3 : 1;
        return passesBody(server, ipPacket(s, c, icmp, Uint8Array.from([type, 3, 0, 0, 0, 0, 0, 0, ...inner])), sent);
      };
      expect(await error(call)).toBe(false);
      expect(await passes(client, call)).toBe(true);
      expect(await error(call)).toBe(true);
      expect(await error({ ...call, sourcePort: 40_009 })).toBe(false);
    });

    test("the later pieces of a packet follow the first", async () => {
      commit(ALLOWED_PORT);
      const piece = (identification: number, isFirst: boolean, port: number): Promise<boolean> => {
        const sent = marker++;
        return passesBody(client, fragment(c, s, identification, isFirst, port, sent), sent);
      };
      expect(await piece(7, false, ALLOWED_PORT)).toBe(false);
      expect(await piece(8, true, OTHER_PORT)).toBe(false);
      expect(await piece(8, false, OTHER_PORT)).toBe(false);
      // The node's connection tracking puts them together, and they leave when the packet is whole.
      expect(await piece(9, true, ALLOWED_PORT)).toBe(false);
      expect(await piece(9, false, ALLOWED_PORT)).toBe(true);
    });

    test("policy sees the pod and port behind a service, whose answers come from the service", async () => {
      const [node] = namespaces;
      node?.run(["nft", "-f", "-"], SERVICES);
      commit(ALLOWED_PORT);
      const called = udp(c, service, 41_000, SERVICE_PORT);
      expect(await passes(client, called)).toBe(true);
      const answer = udp(s, c, ALLOWED_PORT, 41_000);
      expect(await passes(server, answer)).toBe(true);
      commit();
      // Both directions of the flow are known.
      expect(await passes(client, called)).toBe(true);
      expect(await passes(server, answer)).toBe(true);
      expect(await passes(client, { ...called, sourcePort: 41_001 })).toBe(false);
      node?.run(["nft", "delete", "table", "inet", "services"]);
    });

    test("a port of the node that leads to a pod is judged as the pod's; a service that leads to the node as the node's", async () => {
      const [node] = namespaces;
      node?.run(["nft", "-f", "-"], SERVICES);
      commit(ALLOWED_PORT);
      expect(await passes(client, udp(c, router, 42_000, HOST_PORT))).toBe(true);
      commit();
      expect(await passes(client, udp(c, router, 42_001, HOST_PORT))).toBe(false);
      expect(await passes(client, udp(c, service, 42_002, HOST_PORT))).toBe(false);
      expect(node?.run(["nft", "list", "chain", "inet", "services", "arrived"])).toContain("packets 0 ");
      expect(node?.run(["nft", "list", "chain", "inet", "calico-ebpf", "input"])).not.toContain("packets 0 ");
      node?.run(["nft", "delete", "table", "inet", "services"]);
    });
  });

/** The first or the last piece of a UDP packet. */
function fragment(
  source: Addr,
  destination: Addr,
  identification: number,
  isFirst: boolean,
  port: number,
  own: number,
): Uint8Array {
  const payload = new Uint8Array(isFirst ? 16 : 8);
  const view = new DataView(payload.buffer);
  if (isFirst) for (const [i, value] of [40_000, port, 20, 0].entries()) view.setUint16(2 * i, value);
  view.setUint32(payload.length - 4, own);
  return ipPacket(source, destination, UDP, payload, { identification, isFirst });
}
