/**
 * Source prefixes of a workload (POL-57) on the eBPF path: what they let through and what not, while they change, for the flows that begin from them, and
 * where the kernel has no room. Raw packets between a pod that has them and another, both families.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { decodeConnection, encodeConnectionKey } from "../../src/dataplane/ebpf/connections.ts";
import { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { readProgram } from "../../src/dataplane/ebpf/read.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import type { Sys } from "../../src/host/sys.ts";
import { ENOSPC } from "../../src/kernel/errno.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import type { Prefix } from "../../src/net/prefix.ts";
import { TCP, UDP } from "../../src/net/protocol.ts";
import type { Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { OBJECT, openEbpf } from "./ebpf-driver.ts";
import { packetsDroppedAt } from "./ebpf-drops.ts";
import { sysIn } from "./flow-bench.ts";
import { type Namespace, REAL } from "./fixture.ts";
import { routeDefault } from "./pods.ts";
import { encodePacket } from "./wire.ts";

interface Family {
  readonly name: string;
  /** Of the pod that has source prefixes, and of the other. */
  readonly sender: Addr;
  readonly other: Addr;
  readonly narrow: Prefix;
  /** With `narrow` in it. */
  readonly wide: Prefix;
  /** In `narrow`; in `wide` alone; in neither. */
  readonly inNarrow: Addr;
  readonly inWide: Addr;
  readonly beside: Addr;
  /** Translated to the other's. */
  readonly service: Addr;
}

const FAMILIES = [
  {
    name: "IPv4",
    sender: "10.65.0.1",
    other: "10.65.0.2",
    narrow: "198.51.100.0/28",
    wide: "198.51.100.0/24",
    inNarrow: "198.51.100.7",
    inWide: "198.51.100.77",
    beside: "198.51.101.7",
    service: "10.96.0.10",
  },
  {
    name: "IPv6",
    sender: "fd00:65::1",
    other: "fd00:65::2",
    narrow: "2001:db8:77::/64",
    wide: "2001:db8:77::/48",
    inNarrow: "2001:db8:77::7",
    inWide: "2001:db8:77:1::7",
    beside: "2001:db8:78::7",
    service: "fd00:96::10",
  },
] as readonly object[] as readonly Family[];
const NARROW = FAMILIES.map(({ narrow }) => narrow);
const WIDE = FAMILIES.map(({ wide }) => wide);
const SERVICE_PORT = 53;
const SERVICES = `table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 10.96.0.10 udp dport ${SERVICE_PORT} dnat ip to 10.65.0.2:8080
    ip6 daddr fd00:96::10 udp dport ${SERVICE_PORT} dnat ip6 to [fd00:65::2]:8080
  }
}`;
const SPOOFED = "unknown interface or spoofed source";

const [OPEN, CLOSED]: readonly [Stage, Stage] = [
  { tiers: [], profiles: [], otherwise: "allow" },
  { tiers: [], profiles: [], otherwise: "deny" },
];

/** The sender receives nothing unasked. */
function program(sources: readonly Prefix[], egress = OPEN): Program {
  const pod = (name: string, addresses: readonly Addr[], normal: Endpoint["stages"]["normal"]): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name },
    addresses,
    stages: normal === undefined ? {} : { normal },
  });
  const sender = pod(
    "sender",
    FAMILIES.map((each) => each.sender),
    { ingress: CLOSED, egress },
  );
  const other = pod(
    "other",
    FAMILIES.map((each) => each.other),
    { ingress: OPEN, egress: OPEN },
  );
  return {
    settings: DEFAULT_SETTINGS,
    sets: new Map(),
    policies: new Map(),
    endpoints: new Map([
      ["cali0" as EndpointId, sources.length === 0 ? sender : { ...sender, sources }],
      ["cali1" as EndpointId, other],
    ]),
    routes: new Map(),
  };
}

/** Flows that the kernel's table knows before the path does: what the pod has sent from its prefix, and what comes from elsewhere. */
const [OURS, OTHERS] = [30_001, 30_002];

const [SENDER, OTHER] = [0, 1];

let bench: EbpfBench;

beforeAll(() => {
  const beyond = [
    { interface: "cali0", addresses: FAMILIES.flatMap((family) => [family.sender, family.inNarrow]) },
    { interface: "cali1", addresses: FAMILIES.map((family) => family.other) },
    { interface: "world", addresses: [] },
  ];
  bench = new EbpfBench(beyond, (node) => {
    routeDefault(node, "world");
    node.run(["nft", "-f", "-"], SERVICES);
    for (const family of FAMILIES) {
      track(node, family.inNarrow, family.other, OURS);
      track(node, family.inWide, family.other, OTHERS);
    }
  });
  bench.commit(program(WIDE));
});
afterAll(() => bench.close());

function track(node: Namespace, source: Addr, destination: Addr, port: number): void {
  const tuple = `-s ${source} -d ${destination} -p tcp --sport ${port} --dport 80`;
  const state = "--state ESTABLISHED --timeout 10000 -u SEEN_REPLY,ASSURED";
  node.run(`conntrack -I ${tuple} ${state}`.split(" "));
}

function passes(from: number, packet: FlowPacket, flags?: number): Promise<boolean> {
  return bench.passes(from, 1 - from, (marker) => {
    const body = encodePacket(packet, marker);
    if (flags !== undefined) body[(packet.source.includes(":") ? 40 : 20) + TCP_FLAGS] = flags;
    return body;
  });
}

const TCP_FLAGS = 13;
const ACK = 0x10;

function udp(source: Addr, destination: Addr, sourcePort: number, destinationPort: number): FlowPacket {
  return { source, destination, protocol: UDP, sourcePort, destinationPort };
}

// First of all: a flow that policy would deny is cut below.
test("flows of another dataplane are taken over: from a prefix where the route leads to the workload", async () => {
  const { connections } = bench.driver.maps;
  for (const { name, inNarrow, inWide, other: destination } of FAMILIES) {
    const endOf = (source: Addr, sourcePort: number): unknown => {
      const key = { protocol: TCP, source, destination, sourcePort, destinationPort: 80 };
      const found = connections.lookup(encodeConnectionKey(key));
      return found && decodeConnection(found, name === "IPv4" ? 4 : 6).ends[0].kind;
    };
    expect([endOf(inNarrow, OURS), endOf(inWide, OTHERS)]).toEqual(["workload", "outside"]);
    expect(await passes(SENDER, { ...udp(inNarrow, destination, OURS, 80), protocol: TCP }, ACK)).toBe(true);
  }
});

for (const family of FAMILIES)
  describe(family.name, () => {
    let port = 40_000;
    const call = (source: Addr): FlowPacket => udp(source, family.other, ++port, 8080);
    const answer = ({ sourcePort }: FlowPacket, to: Addr): FlowPacket => udp(family.other, to, 8080, sourcePort ?? 0);

    test("a workload sends from them, from its own addresses, and from nothing beside", async () => {
      bench.commit(program(WIDE));
      for (const source of [family.sender, family.inNarrow, family.inWide])
        expect([source, await passes(SENDER, call(source))]).toEqual([source, true]);
      const before = packetsDroppedAt(bench.driver, SPOOFED);
      expect(await passes(SENDER, call(family.beside))).toBe(false);
      expect(packetsDroppedAt(bench.driver, SPOOFED)).toBe(before + 1n);
      // They are the sender's alone.
      expect(await passes(OTHER, udp(family.inNarrow, family.sender, 1, 2))).toBe(false);
    });

    test("others take their place at once, and none take the last away", async () => {
      for (const [sources, narrow, wide] of [
        [NARROW, true, false],
        [WIDE, true, true],
        [NARROW, true, false],
        [[], false, false],
        [WIDE, true, true],
      ] as const) {
        bench.commit(program(sources));
        expect(await passes(SENDER, call(family.inNarrow))).toBe(narrow);
        expect(await passes(SENDER, call(family.inWide))).toBe(wide);
        expect(await passes(SENDER, call(family.sender))).toBe(true);
      }
    });

    test("at each step of a change what is in both passes, and what is in neither does not", async () => {
      for (const sources of [NARROW, WIDE, NARROW, WIDE]) {
        bench.lower(program(sources));
        let steps = 0;
        for (const step of bench.driver.committing()) {
          await step;
          steps++;
          expect(await passes(SENDER, call(family.inNarrow))).toBe(true);
          expect(await passes(SENDER, call(family.beside))).toBe(false);
        }
        expect(steps).toBeGreaterThan(5);
      }
    });

    test("what is sent from them is the sender's to policy", async () => {
      bench.commit(program(WIDE, CLOSED));
      const before = packetsDroppedAt(bench.driver, SPOOFED);
      expect(await passes(SENDER, call(family.inWide))).toBe(false);
      expect(packetsDroppedAt(bench.driver, SPOOFED)).toBe(before);
    });

    test("answers reach the workload where routes lead there, of a service too as long as it has the prefix; nothing else does", async () => {
      bench.commit(program(NARROW));
      const packet = call(family.inNarrow);
      expect(await passes(OTHER, answer(packet, family.inNarrow))).toBe(false);
      expect(await passes(SENDER, packet)).toBe(true);
      expect(await passes(OTHER, answer(packet, family.inNarrow))).toBe(true);
      const called = { ...call(family.inNarrow), destination: family.service, destinationPort: SERVICE_PORT };
      expect(await passes(SENDER, called)).toBe(true);
      expect(await passes(OTHER, answer(called, family.inNarrow))).toBe(true);
      bench.commit(program([]));
      expect(await passes(OTHER, answer(called, family.inNarrow))).toBe(false);
    });

    test("a flow that is called at such an address is known too", async () => {
      const open = program(NARROW);
      const pod = open.endpoints.get("cali0" as EndpointId) as Endpoint;
      const reached = new Map([
        ...open.endpoints,
        ["cali0" as EndpointId, { ...pod, stages: { normal: { ingress: OPEN, egress: CLOSED } } }],
      ]);
      bench.commit({ ...open, endpoints: reached });
      const packet = udp(family.other, family.inNarrow, ++port, 8080);
      expect(await passes(OTHER, packet)).toBe(true);
      const back = udp(family.inNarrow, family.other, 8080, port);
      expect(await passes(SENDER, back)).toBe(true);
      bench.commit({ ...open, endpoints: new Map([...reached, ["cali0" as EndpointId, pod]]) });
      expect(await passes(OTHER, packet)).toBe(true);
    });

    test("such a flow is cut when policy denies it", async () => {
      bench.commit(program(WIDE));
      const packet = call(family.inNarrow);
      expect(await passes(SENDER, packet)).toBe(true);
      expect(await passes(OTHER, answer(packet, family.inNarrow))).toBe(true);
      const wanted = program(WIDE, CLOSED);
      bench.commit(wanted);
      const pass = bench.driver.flows?.open(wanted);
      const judged = { program: wanted, looksAtSourcePorts: false, version: 1 };
      while (pass?.read(judged) === false);
      expect(pass?.cut(0)).toBeGreaterThan(0);
      pass?.close();
      expect(await passes(SENDER, packet)).toBe(false);
      expect(await passes(OTHER, answer(packet, family.inNarrow))).toBe(false);
    });
  });

test("they are read back by the next start, which writes nothing; nothing is left when they go", () => {
  const wanted = program([...WIDE, "203.0.113.0/24" as Prefix].sort());
  bench.commit(wanted);
  bench.driver.close();
  bench.driver = openEbpf(bench.node, bench.fs.path);
  if (bench.driver.image === undefined) throw new Error("not read");
  const found = readProgram(bench.driver.image);
  expect(found.endpoints.get("cali0" as EndpointId)?.sources).toEqual([
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8:77::/48",
  ] as readonly string[] as Prefix[]);
  expect(found.sets.size).toBe(0);
  bench.lower(wanted);
  expect(bench.driver.plan()).toEqual([]);
  const before = bench.driver.writes;
  finishSteps(bench.driver.committing());
  expect(bench.driver.writes).toBe(before);
  bench.lower(program(NARROW));
  expect(bench.driver.plan().map(({ sign, what }) => `${sign} ${what}`)).toEqual([
    "+ source prefixes of cali0 (2 members)",
    "~ endpoint cali0",
    "- source prefixes of cali0",
  ]);
  finishSteps(bench.driver.committing());
  expect(bench.driver.maps.nets.entries().length).toBe(2);
  bench.commit(program([]));
  expect(bench.driver.maps.nets.entries()).toEqual([]);
  expect(bench.driver.image?.sets.size).toBe(0);
});

test("where the kernel has no room for them the workload is closed and says so, and nobody else; it is tried again", () => {
  const UPDATE = 2;
  let hasRoom = true;
  let now = 0;
  const own = sysIn(REAL, bench.node);
  const full: Sys = {
    ...own,
    bpf(command, attributes, pointers) {
      const isNet = command === UPDATE && pointers[0]?.bytes.length === NET_KEY_BYTES;
      return isNet && !hasRoom ? -ENOSPC : own.bpf(command, attributes, pointers);
    },
  };
  bench.driver.close();
  const clock = { ...openClock(), monotonicMs: () => now };
  bench.driver = new EbpfDriver(full, {
    object: () => OBJECT,
    pins: bench.fs.path,
    clock,
    ownsTable: false,
    report: () => {},
  });
  finishSteps(bench.driver.reading());
  bench.commit(program([]));
  hasRoom = false;
  bench.commit(program(NARROW));
  const states = (): readonly string[] =>
    bench.driver.failures.map(({ row, state, errno }) => `${row} ${state} ${errno}`);
  expect(states()).toEqual([`pod a/sender failed ${ENOSPC}`]);
  expect(bench.driver.isProgrammed("cali0" as EndpointId)).toBe(false);
  expect(bench.driver.isProgrammed("cali1" as EndpointId)).toBe(true);
  expect([...(bench.driver.image?.endpoints.values() ?? [])].map(({ text }) => text?.split("\0")[0])).toEqual([
    "cali1",
  ]);
  hasRoom = true;
  now = bench.driver.dueMs ?? 0;
  finishSteps(bench.driver.committing());
  expect(states()).toEqual([]);
  expect(bench.driver.isProgrammed("cali0" as EndpointId)).toBe(true);
});

const NET_KEY_BYTES = 28;
