/**
 * What rules and ends have counted is the same on nftables and on the eBPF path, in packets and bytes: short and padded frames, extension headers, and packets
 * that stand for many. Both families.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Counters } from "../../src/dataplane/counters.ts";
import type { Addr } from "../../src/net/addr.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import type { Policy, PolicyId, Rule, Stage } from "../../src/program/policy.ts";
import type { EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { makeNamespace, type Namespace, removeNamespace } from "./fixture.ts";
import { ebpfBackend, type LawBackend, nftablesBackend } from "./law-backends.ts";
import { connect, HOST_MAC, makeRouter, routePod } from "./pods.ts";
import { encodePacket, ipPacket, Port } from "./wire.ts";

const FAMILIES = [
  { header: 20, client: "10.65.0.1", server: "10.65.0.2" },
  { header: 40, client: "fd00:65::1", server: "fd00:65::2" },
] as readonly object[] as readonly { readonly header: number; readonly client: Addr; readonly server: Addr }[];
const [ALLOWED, DENIED, NO_RULE] = [7001, 7002, 7003];
const SOURCE = { kind: "NetworkPolicy", namespace: "a", name: "client" } as const;
const UDP_HEADER = 8;
/** Of the node and of its neighbor, on the interface of a host endpoint. */
const [NODE, NEIGHBOR] = ["2001:db8::1", "2001:db8::2"] as readonly string[] as readonly [Addr, Addr];

function program(): Program {
  const rule = (index: number, action: Rule["action"], port: number): Rule => ({
    id: { source: SOURCE, direction: "egress", index },
    when: [
      {
        not: false,
        any: [TCP, UDP].map((protocol) => ({
          on: "ports" as const,
          side: "destination" as const,
          protocol,
          from: port,
          to: port,
        })),
      },
    ],
    action,
  });
  const egress = [rule(0, "log", ALLOWED), rule(1, "allow", ALLOWED), rule(2, "deny", DENIED)];
  const policy: Policy = { source: SOURCE, tier: "default", ingress: undefined, egress, error: undefined };
  const id = "NetworkPolicy/a/client" as PolicyId;
  const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
  const asked: Stage = {
    tiers: [{ tier: "default", policies: [id], otherwise: "deny" }],
    profiles: [],
    otherwise: "deny",
  };
  const pod = (name: "client" | "server", egressStage: Stage) => ({
    kind: "workload" as const,
    source: { kind: "Pod", namespace: "a", name } as const,
    addresses: FAMILIES.map((family) => family[name]),
    stages: { normal: { ingress: open, egress: egressStage } },
  });
  return {
    settings: DEFAULT_SETTINGS,
    sets: new Map(),
    policies: new Map([[id, policy]]),
    endpoints: new Map([
      ["cali0" as EndpointId, pod("client", asked)],
      ["cali1" as EndpointId, pod("server", open)],
    ]),
    routes: new Map(),
  };
}

/** A host endpoint that policy looks at before connection tracking does, where packets come in as they are. */
function untracked(): Program {
  const id = "NetworkPolicy/a/client" as PolicyId;
  const rule = (direction: "ingress" | "egress"): Rule => ({
    id: { source: SOURCE, direction, index: 0 },
    when: [
      {
        not: false,
        any: [TCP, UDP].map((protocol) => ({
          on: "ports" as const,
          side: direction === "ingress" ? ("destination" as const) : ("source" as const),
          protocol,
          from: ALLOWED,
          to: ALLOWED,
        })),
      },
    ],
    action: "allow",
  });
  const stage: Stage = {
    tiers: [{ tier: "default", policies: [id], otherwise: "pass" }],
    profiles: [],
    otherwise: "allow",
  };
  return {
    ...program(),
    policies: new Map([
      [id, { source: SOURCE, tier: "default", ingress: [rule("ingress")], egress: [rule("egress")], error: undefined }],
    ]),
    endpoints: new Map([
      [
        "world" as EndpointId,
        {
          kind: "host",
          source: { kind: "HostEndpoint", namespace: undefined, name: "world" },
          addresses: [NODE],
          stages: { untracked: { ingress: stage, egress: stage } },
        },
      ],
    ]),
  };
}

let namespaces: Namespace[] = [];
let port: Port;

beforeAll(() => {
  namespaces = ["node", "client", "server", "world"].map(makeNamespace);
  const [node, client, server, world] = namespaces as [Namespace, Namespace, Namespace, Namespace];
  makeRouter(node);
  // Checksums of raw frames are zero.
  node.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0"]);
  for (const [i, pod] of [client, server].entries()) {
    connect(node, `cali${i}`, pod);
    for (const family of FAMILIES) routePod(node, `cali${i}`, i === 0 ? family.client : family.server);
  }
  for (const { client: own, server: other } of FAMILIES) {
    const option = own.includes(":") ? "-6" : "-4";
    client.run(["ip", "addr", "add", own, "dev", "eth0", ...(option === "-6" ? ["nodad"] : [])]);
    client.run(["ip", option, "route", "add", other, "dev", "eth0"]);
    client.run(["ip", option, "neigh", "add", other, "lladdr", HOST_MAC, "dev", "eth0", "nud", "permanent"]);
  }
  connect(node, "world", world);
  node.run(["ip", "addr", "add", `${NODE}/64`, "dev", "world", "nodad"]);
  world.run(["ip", "addr", "add", `${NEIGHBOR}/64`, "dev", "eth0", "nodad"]);
  // The interface may be given packets of more than 64 KiB.
  world.run(["ip", "link", "set", "dev", "eth0", "gso_max_size", "200000"]);
  // No flow is ever answered, so each packet is judged.
  server.run(
    ["nft", "-f", "-"],
    "table inet silence { chain o { type filter hook output priority 0; policy drop; }; }",
  );
  port = new Port(client, "eth0", HOST_MAC);
});
afterAll(() => {
  port.close();
  for (const namespace of namespaces) removeNamespace(namespace);
});

/** Datagrams; `segment`: one leaves as one packet that stands for several of so many bytes. */
const SEND = `
import json, socket, sys
for address, port, length, segment in json.loads(sys.argv[1]):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if segment: sock.setsockopt(socket.IPPROTO_UDP, 103, segment)
    sock.sendto(bytes(length), (address, port))
`;

/** Packets by what counts them: a number of the rule, or the end; and what their bytes must be. */
function send(): ReadonlyMap<string, number[]> {
  const sent = new Map<string, number[]>();
  const [, client] = namespaces as [Namespace, Namespace];
  const datagrams: (readonly [Addr, number, number, number])[] = [];
  for (const { header, client: source, server: destination } of FAMILIES)
    for (const [wanted, what] of [
      [ALLOWED, "rule 2"],
      [DENIED, "rule 3"],
      [NO_RULE, "end"],
    ] as const) {
      const lengths = sent.get(what) ?? [];
      sent.set(what, lengths);
      const datagram = { source, destination, protocol: UDP, sourcePort: 5000, destinationPort: wanted } as const;
      for (const [length, segment] of [
        [1, 0],
        [1400, 0],
        [10_500, 1000],
      ] as const) {
        datagrams.push([destination, wanted, length, segment]);
        lengths.push(header + UDP_HEADER + length);
      }
      const syn = encodePacket({ ...datagram, protocol: TCP }, 1);
      port.sendBody(syn);
      lengths.push(syn.length);
      const padded = encodePacket({ ...datagram, sourcePort: 5001 }, 2);
      port.sendBody(Uint8Array.from([...padded, ...new Uint8Array(22)]));
      lengths.push(padded.length);
      if (header !== 40) continue;
      // A hop-by-hop header of eight bytes (RFC 8200 §4.3) that says nothing.
      const transport = encodePacket({ ...datagram, sourcePort: 5002 }, 3).subarray(header);
      const extended = ipPacket(source, destination, 0, Uint8Array.from([UDP, 0, 1, 4, 0, 0, 0, 0, ...transport]));
      port.sendBody(extended);
      lengths.push(extended.length);
    }
  client.run(["python3", "-c", SEND, JSON.stringify(datagrams)]);
  return sent;
}

/** By rule of the policy, and by end. */
function countsOf({ rules, ends }: Counters): ReadonlyMap<string, { packets: number; bytes: number }> {
  return new Map(
    [
      ...rules.map(({ rule, packets, bytes }) => [`rule ${rule}`, { packets, bytes }] as const),
      ...ends
        // A stage that two share is told of none.
        .filter(({ direction }) => direction === "egress")
        .map(({ endpoint, direction, packets, bytes }) => [`${endpoint} ${direction}`, { packets, bytes }] as const),
    ].filter(([, { packets }]) => packets > 0),
  );
}

for (const [name, open] of [
  ["nftables", nftablesBackend],
  ["ebpf", ebpfBackend],
] as const)
  test(`${name}: bytes are those of the whole packet, from the IP header on`, async () => {
    const [node] = namespaces as [Namespace];
    const backend: LawBackend = open(node);
    try {
      const wanted = program();
      await backend.commit(wanted);
      const sent = send();
      const sum = (what: string): { packets: number; bytes: number } => {
        const lengths = sent.get(what) ?? [];
        return { packets: lengths.length, bytes: lengths.reduce((total, length) => total + length, 0) };
      };
      const expected = new Map([
        ["rule 1", sum("rule 2")],
        ["rule 2", sum("rule 2")],
        ["rule 3", sum("rule 3")],
        ["cali0 egress", sum("end")],
      ]);
      let counted: ReadonlyMap<string, unknown> = new Map();
      for (const until = performance.now() + 5000; performance.now() < until; await Bun.sleep(5)) {
        const counters = await backend.counters?.(wanted);
        if (counters !== undefined) counted = countsOf(counters);
        if (Bun.deepEquals(counted, expected)) break;
      }
      expect(counted).toEqual(expected);
    } finally {
      node.run(["nft", "flush", "ruleset"]);
      backend.close();
    }
  }, 60_000);

const RECEIVE = `
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    while connection.recv(1 << 20): pass
    connection.close()
`;
const TRANSFER = `
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(bytes(int(sys.argv[3])))
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
`;
const TRANSFERRED = 30_000_000;
/** Of a packet whose IP header says its length. */
const LARGEST = 65_575;
/** Of IPv6, and of TCP with options; a packet of more than 64 KiB has an option of IPv6 besides. */
const [FEWEST_HEADERS, MOST_HEADERS] = [60, 108];

for (const [name, open] of [
  ["nftables", nftablesBackend],
  ["ebpf", ebpfBackend],
] as const)
  test(`${name}: where packets come in, without what fills a frame up, and with all of those that are larger than 64 KiB`, async () => {
    const [node, , , world] = namespaces as [Namespace, Namespace, Namespace, Namespace];
    const backend: LawBackend = open(node);
    const receiver = Bun.spawn(["ip", "netns", "exec", node.name, "python3", "-c", RECEIVE, NODE, `${ALLOWED}`], {
      stdout: "pipe",
    });
    const neighbor = new Port(world, "eth0", HOST_MAC);
    try {
      const wanted = untracked();
      await backend.commit(wanted);
      const counted = async (): Promise<{ packets: number; bytes: number }> => {
        const { rules = [] } = (await backend.counters?.(wanted)) ?? {};
        const { packets = 0, bytes = 0 } = rules.find(({ direction }) => direction === "ingress") ?? {};
        return { packets, bytes };
      };
      const datagram = { protocol: UDP, source: NEIGHBOR, destination: NODE, sourcePort: 1, destinationPort: ALLOWED };
      const body = encodePacket(datagram, 1);
      neighbor.sendBody(Uint8Array.from([...body, ...new Uint8Array(22)]));
      for (const until = performance.now() + 5000; (await counted()).packets === 0; await Bun.sleep(5))
        if (performance.now() > until) throw new Error("the packet is not counted");
      expect(await counted()).toEqual({ packets: 1, bytes: body.length });
      await receiver.stdout.getReader().read();
      for (let packets = Infinity; packets >= TRANSFERRED / LARGEST;) {
        const before = await counted();
        world.run(["python3", "-c", TRANSFER, NODE, `${ALLOWED}`, `${TRANSFERRED}`]);
        const after = await counted();
        // Once there are fewer, some were larger.
        packets = after.packets - before.packets;
        const bytes = after.bytes - before.bytes;
        expect(bytes).toBeGreaterThanOrEqual(TRANSFERRED + packets * FEWEST_HEADERS);
        expect(bytes).toBeLessThanOrEqual(TRANSFERRED + packets * MOST_HEADERS);
      }
    } finally {
      receiver.kill();
      neighbor.close();
      node.run(["nft", "flush", "ruleset"]);
      backend.close();
    }
  }, 60_000);
