/** `calico node --bpf`: what the pinned maps hold, in names, while the driver has them open and afterwards; and what is said where they cannot be read. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import {
  ANSWERED,
  CALLER_FINISHED,
  ANSWERER_FINISHED,
  CUT,
  encodeConnection,
  encodeConnectionKey,
} from "../../src/dataplane/ebpf/connections.ts";
import type { DumpedFlow } from "../../src/dataplane/ebpf/dump-flows.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { COUNT_BYTES } from "../../src/dataplane/ebpf/layout.ts";
import { BpfError, type BpfSubject, BPF_SUBJECTS, dumpBpf } from "../../src/felix/bpf.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import type { Sys } from "../../src/host/sys.ts";
import { BpfMap } from "../../src/kernel/bpf/map.ts";
import { EPERM } from "../../src/kernel/errno.ts";
import { nanosecondsSinceBoot } from "../../src/kernel/uptime.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Prefix } from "../../src/net/prefix.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import { type Atom, formatAddrPort, type Policy, type PolicyId, type SetId } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { sysIn } from "./flow-bench.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { OBJECT, openEbpf } from "./ebpf-driver.ts";

const [A, B, C, D] = ["10.65.0.1", "10.65.0.2", "fd00:65::1", "fd00:65::2"] as readonly string[] as readonly [
  Addr,
  Addr,
  Addr,
  Addr,
];

let fs: BpfFs;
let node: Namespace;
let own: Sys;
let driver: EbpfDriver;
let isClosed = false;

beforeAll(() => {
  fs = makeBpfFs();
  node = makeNamespace("node");
  own = sysIn(REAL, node);
  for (const name of ["cali0", "cali1", "ens3"])
    node.run(["ip", "link", "add", name, "type", "veth", "peer", "name", `peer-${name}`]);
  driver = openEbpf(node, fs.path);
  const wanted = program();
  driver.lower(wanted, { ...wanted, members: new Map() });
  finishSteps(driver.committing());
});
afterAll(() => {
  if (!isClosed) driver.close();
  removeNamespace(node);
  fs.remove();
});

function program(): Program {
  const web = { kind: "NetworkPolicy", namespace: "shop", name: "web" } as const;
  const clause = (atom: Atom, not = false) => ({ not, any: [atom] });
  const policy: Policy = {
    source: web,
    tier: "default",
    ingress: [
      {
        id: { source: web, direction: "ingress", index: 0 },
        when: [
          clause({ on: "set", side: "source", set: "s-clients" as SetId }),
          clause({ on: "ports", side: "destination", protocol: TCP, from: 80, to: 90 }),
        ],
        action: "allow",
      },
      {
        id: { source: web, direction: "ingress", index: 1 },
        when: [clause({ on: "named-port", side: "destination", protocol: UDP, set: "s-dns" as SetId }, true)],
        action: "pass",
      },
    ],
    egress: undefined,
    error: undefined,
  };
  const asking = {
    tiers: [{ tier: "default", policies: ["NetworkPolicy/shop/web" as PolicyId], otherwise: "deny" }],
    profiles: [],
    otherwise: "deny",
  } as const;
  const open = { tiers: [], profiles: [], otherwise: "allow" } as const;
  const pod = (i: number, addresses: readonly Addr[], more: Partial<Endpoint>): [EndpointId, Endpoint] => [
    `cali${i}` as EndpointId,
    {
      kind: "workload",
      source: { kind: "Pod", namespace: "shop", name: `p${i}` },
      addresses,
      stages: { normal: { ingress: open, egress: open } },
      ...more,
    },
  ];
  return {
    settings: DEFAULT_SETTINGS,
    sets: new Map([
      ["s-clients" as SetId, { type: "address", hosts: new Set([D, B]), nets: new Set(["2001:db8::/64" as Prefix]) }],
      ["s-dns" as SetId, { type: "address-port", members: new Set([formatAddrPort(C, UDP, 53)]) }],
    ]),
    policies: new Map([["NetworkPolicy/shop/web" as PolicyId, policy]]),
    endpoints: new Map([
      pod(0, [A, C], {
        sources: ["192.0.2.0/24", "2001:db8:77::/48"] as readonly string[] as Prefix[],
        stages: { normal: { ingress: asking, egress: open } },
      }),
      pod(1, [B, D], { staged: { normal: { ingress: asking } } }),
      [
        "ens3" as EndpointId,
        {
          kind: "host",
          source: { kind: "HostEndpoint", namespace: undefined, name: "uplink" },
          addresses: ["192.0.2.1" as Addr],
          stages: { forward: { ingress: asking } },
        },
      ],
    ]),
    routes: new Map(),
  };
}

function look(subject: BpfSubject, asJson = false, more: Partial<Sys> = {}): Promise<string> {
  const host = { sys: { ...own, ...more }, files: openFiles(), clock: openClock() };
  return dumpBpf(subject, { host, pins: fs.path, object: () => OBJECT }, asJson);
}

function indexOf(name: string): number {
  return Number(node.run(["cat", `/sys/class/net/${name}/ifindex`]));
}

test("endpoints, policies and sets have their names, in both families", async () => {
  expect(await look("endpoints")).toBe(
    [
      `cali0 (${indexOf("cali0")}): workload Pod shop/p0, 10.65.0.1 fd00:65::1, sends also from 192.0.2.0/24 2001:db8:77::/48`,
      "  ingress: tier default: NetworkPolicy shop/web, else deny; deny (2 endpoints alike)",
      "  egress: allow (2 endpoints alike)",
      "",
      `cali1 (${indexOf("cali1")}): workload Pod shop/p1, 10.65.0.2 fd00:65::2`,
      "  staged ingress: tier default: NetworkPolicy shop/web, else deny; deny",
      "  ingress: allow",
      "  egress: allow (2 endpoints alike)",
      "",
      `ens3 (${indexOf("ens3")}): host HostEndpoint uplink, 192.0.2.1`,
      "  forward ingress: tier default: NetworkPolicy shop/web, else deny; deny (2 endpoints alike)",
      "",
    ].join("\n"),
  );
  const rules = [
    "  RULE   ACTION   PACKETS THAT                                       SEEN",
    "  1      allow    source in s-clients, and tcp destination port 80-90   0 packets, 0 bytes",
    "  2      pass     not (udp destination and port in s-dns)               0 packets, 0 bytes",
  ];
  const policy = (await look("policy")).split("\n");
  expect(policy.filter((line) => !line.startsWith("  "))).toEqual([
    "NetworkPolicy shop/web in tier default, ingress, at cali0, ens3",
    "",
    "NetworkPolicy shop/web in tier default, ingress (counts for staged policies), at cali1",
    "",
  ]);
  expect(policy.slice(2, 4)).toEqual(rules.slice(1));
  expect(await look("sets")).toBe(
    [
      "SET         TYPE           MEMBER",
      "s-clients   address        10.65.0.2",
      "s-clients   address        2001:db8::/64",
      "s-clients   address        fd00:65::2",
      "s-dns       address-port   fd00:65::1 udp 53",
      "",
    ].join("\n"),
  );
});

test("counters name rules, ends, steps and maps", async () => {
  const { start = 0 } = [...(driver.image?.blocks.values() ?? [])].find(({ kind }) => kind === "policy-ingress") ?? {};
  const five = new Uint8Array(2 * COUNT_BYTES);
  new BigUint64Array(five.buffer).set([5n, 300n], 2);
  // The record of the first rule's action follows that of its conditions.
  driver.maps.counters.updateValues(start, five);
  const text = await look("counters");
  expect(text).toMatch(/^NetworkPolicy shop\/web +default +ingress +1 +allow +5 +300$/m);
  expect(text).toMatch(/^NetworkPolicy shop\/web +default +staged ingress +1 +allow +0 +0$/m);
  expect(text).toMatch(/^Pod shop\/p1 +cali1 +staged ingress +no rule of tier default matched +deny +0 +0$/m);
  expect(text).toMatch(/^loopback destination +0$/m);
  expect(text).toMatch(/^endpoints +3 +16384 +[1-9]\d*$/m);
  expect(text).toMatch(/^origins +- +16384 +[1-9]\d*$/m);
  expect(JSON.parse(await look("counters", true))).toMatchObject({
    rules: [
      { policy: "NetworkPolicy/shop/web", rule: 1, packets: 5, bytes: 300, isStaged: false },
      {},
      { isStaged: true },
      {},
    ],
    missed: 0,
  });
});

test("flows have their interfaces, state and idle time, and what they were before translation", async () => {
  driver.maps.connections.deleteAll(driver.maps.connections.entries().map(({ key }) => key));
  const now = nanosecondsSinceBoot(sys);
  const flow = (
    protocol: typeof TCP,
    source: Addr,
    destination: Addr,
    flags: number,
    idleSeconds: number,
    sentTo = destination,
  ): void =>
    driver.maps.connections.update(
      encodeConnectionKey({ protocol, source, destination, sourcePort: 1000 + flags, destinationPort: 80 }),
      encodeConnection({
        seen: now - BigInt(idleSeconds) * 1_000_000_000n,
        flags,
        ends: [
          { kind: "workload", interfaceIndex: indexOf("cali0") },
          { kind: "node", interfaceIndex: 0 },
        ],
        isAlias: false,
        original: {
          source,
          destination: sentTo,
          sourcePort: 1000 + flags,
          destinationPort: 80,
          icmp: { type: 0, code: 0 },
        },
      }),
    );
  flow(TCP, A, B, ANSWERED, 190);
  flow(TCP, C, D, 0, 5, "fd00:96::1" as Addr);
  flow(TCP, C, D, ANSWERED | CALLER_FINISHED, 7300);
  flow(TCP, C, D, ANSWERED | CALLER_FINISHED | ANSWERER_FINISHED, 31);
  // As long as it is cut it has seen nothing, whatever the load: five seconds would be short.
  flow(UDP, A, B, CUT, -60);
  flow(UDP, A, B, ANSWERED, 200);
  const lines = (await look("conntrack"))
    .split("\n")
    .map((line) => line.replace(/ {2,}/g, " | ").replace(/\| (\d+[dhms])+/, "| …"));
  expect(lines).toEqual([
    "PROTOCOL | SOURCE | DESTINATION | FROM | TO | STATE | IDLE",
    "udp | 10.65.0.1:1016 | 10.65.0.2:80 | cali0 | the node | cut | …",
    "tcp | [fd00:65::1]:1000 | [fd00:65::2]:80 | cali0 | the node | new | … | sent as [fd00:65::1]:1000 → [fd00:96::1]:80",
    "tcp | [fd00:65::1]:1007 | [fd00:65::2]:80 | cali0 | the node | over | …",
    "tcp | 10.65.0.1:1001 | 10.65.0.2:80 | cali0 | the node | answered | …",
    "udp | 10.65.0.1:1001 | 10.65.0.2:80 | cali0 | the node | over | …",
    "tcp | [fd00:65::1]:1003 | [fd00:65::2]:80 | cali0 | the node | closing | …",
    "",
  ]);
  const { flows } = JSON.parse(await look("conntrack", true)) as { readonly flows: readonly DumpedFlow[] };
  for (const [i, least] of [0, 5, 31, 190, 200, 7300].entries())
    expect(flows[i]?.idleSeconds).toBeWithin(least, least + 600);
  expect(flows[1]).toMatchObject({
    protocol: TCP,
    tuple: { source: C, destination: D, destinationPort: 80 },
    sent: { destination: "fd00:96::1" },
    from: "cali0",
    to: "the node",
    state: "new",
  });
});

test("nothing is written, and no daemon is needed", async () => {
  driver.close();
  isClosed = true;
  const before = JSON.stringify(await look("policy", true));
  const writes: number[] = [];
  for (const subject of BPF_SUBJECTS) {
    // BPF_MAP_UPDATE_ELEM, DELETE_ELEM, OBJ_PIN, LOOKUP_AND_DELETE_ELEM, UPDATE_BATCH, DELETE_BATCH.
    const bpf: Sys["bpf"] = (command, ...rest) => {
      if ([2, 3, 6, 21, 26, 27].includes(command)) writes.push(command);
      return own.bpf(command, ...rest);
    };
    expect((await look(subject, false, { bpf })).length).toBeGreaterThan(0);
  }
  expect(writes).toEqual([]);
  expect(JSON.stringify(await look("policy", true))).toBe(before);
});

test("what keeps the maps from being read is named, with what to do", async () => {
  const host = { sys: own, files: openFiles(), clock: openClock() };
  const failing = (pins: string): Promise<unknown> =>
    dumpBpf("policy", { host, pins, object: () => OBJECT }, false).catch((error: unknown) => error);
  const words = async (pins: string): Promise<string> => {
    const error = await failing(pins);
    expect(error).toBeInstanceOf(BpfError);
    return String(error);
  };
  expect(await words("/tmp/none/calico")).toContain("no bpffs is mounted at /tmp/none");
  const other = makeBpfFs();
  try {
    expect(await words(other.path)).toContain("does not run on this node");
    const definition = { name: "m", type: "array", keyBytes: 4, valueBytes: 4, maxEntries: 1, flags: 0 } as const;
    const map = BpfMap.create(sys, definition);
    map.pin(`${other.path}/calico-1-state`);
    expect(await words(other.path)).toContain("have layout 1");
    map.pin(`${other.path}/calico-4-state`);
    expect(await words(other.path)).toContain("are not pinned: a daemon is making them");
    map.close();
  } finally {
    other.remove();
  }
  await expect(look("sets", false, { bpf: () => -EPERM })).rejects.toThrow("run it as root");
});
