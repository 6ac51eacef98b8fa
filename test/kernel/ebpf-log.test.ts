/** What the eBPF path tells of packets: rules that log, and denied first packets, with what decided; too many are counted, and none waits. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import type { DeniedEnd } from "../../src/dataplane/denied.ts";
import { missedEvents, type PacketEvent, PacketLog, takeEvents } from "../../src/dataplane/ebpf/log.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Watch } from "../../src/host/watcher.ts";
import type { Mapping, Sys } from "../../src/host/sys.ts";
import type { BpfMap } from "../../src/kernel/bpf/map.ts";
import { BpfRing } from "../../src/kernel/bpf/ring.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { UDP } from "../../src/net/protocol.ts";
import type { Policy, PolicyId, Rule, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { sysIn } from "./flow-bench.ts";
import { REAL } from "./fixture.ts";

const PODS = [
  ["10.65.0.1", "fd00:65::1"],
  ["10.65.0.2", "fd00:65::2"],
] as readonly (readonly string[])[] as readonly (readonly Addr[])[];
const [LOGGED, DENIED, NOT_MATCHED] = [1, 2, 3];
const PAGE = 4096;
const SOURCE = { kind: "NetworkPolicy", namespace: "a", name: "p" } as const;

let bench: EbpfBench;

beforeAll(() => {
  bench = new EbpfBench(PODS.map((addresses, i) => ({ interface: `cali${i}`, addresses })));
  bench.commit(program(LOGGED));
});
afterAll(() => bench.close());

/** Of the sender: one rule logs and then allows a port, one denies another; nothing else matches. */
function program(logged: number): Program {
  const rule = (index: number, port: number, action: Rule["action"]): Rule => ({
    id: { source: SOURCE, direction: "egress", index },
    when: [{ not: false, any: [{ on: "ports", side: "destination", protocol: UDP, from: port, to: port }] }],
    action,
  });
  const egress = [rule(0, logged, "log"), rule(1, logged, "allow"), rule(2, DENIED, "deny")];
  const id = "NetworkPolicy/a/p" as PolicyId;
  const policy: Policy = { source: SOURCE, tier: "front", ingress: undefined, egress, error: undefined };
  const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
  const asked: Stage = {
    tiers: [{ tier: "front", policies: [id], otherwise: "deny" }],
    profiles: [],
    otherwise: "deny",
  };
  const pod = (i: number): [EndpointId, Endpoint] => [
    `cali${i}` as EndpointId,
    {
      kind: "workload",
      source: { kind: "Pod", namespace: "a", name: `p${i}` },
      addresses: PODS[i] ?? [],
      stages: { normal: { ingress: open, egress: i === 0 ? asked : open } },
    },
  ];
  return {
    settings: DEFAULT_SETTINGS,
    sets: new Map(),
    policies: new Map([[id, policy]]),
    endpoints: new Map([pod(0), pod(1)]),
    routes: new Map(),
  };
}

function packet(family: number, destinationPort: number): FlowPacket {
  const [source, destination] = [PODS[0]?.[family], PODS[1]?.[family]];
  if (source === undefined || destination === undefined) throw new Error("no address");
  return { source, destination, protocol: UDP, sourcePort: 1000, destinationPort };
}

async function take(count: number): Promise<PacketEvent[]> {
  const events: PacketEvent[] = [];
  for (const end = performance.now() + 5000; events.length < count && performance.now() < end; await Bun.sleep(1))
    events.push(...takeEvents(bench.driver.maps, bench.driver.image));
  return events;
}

/** Sends it until it is told of: right after its interfaces have come, a node loses packets of IPv6. */
async function tell(wanted: FlowPacket): Promise<PacketEvent | undefined> {
  for (const end = performance.now() + 10_000; performance.now() < end; await Bun.sleep(1)) {
    bench.port(0).send(wanted, 1);
    const [found] = takeEvents(bench.driver.maps, bench.driver.image);
    if (found !== undefined) return found;
  }
  return undefined;
}

test("reading is the same when it has been compiled", async () => {
  // Records without end, in memory that may be written, unlike the kernel's.
  const map = (_fd: number, length: number): Mapping => {
    const memory = new ArrayBuffer(length);
    new BigUint64Array(memory)[0] = 1n << 60n;
    return { memory: length === PAGE ? new ArrayBuffer(length) : memory, unmap: () => {} };
  };
  const endless = new BpfRing({ ...sysIn(REAL, bench.node), map }, {
    fd: -1,
    definition: { name: "endless", maxEntries: PAGE },
  } as BpfMap);
  for (let i = 0; i < 100_000; i++) if (endless.take()?.length !== 0) throw new Error("no record");
  expect(await tell(packet(0, DENIED))).toMatchObject({ packet: packet(0, DENIED) });
  while (takeEvents(bench.driver.maps, bench.driver.image).length > 0) await Bun.sleep(1);
});

test("where nothing has happened, the policies are not looked at", async () => {
  const { image } = bench.driver;
  if (image === undefined) throw new Error("not read");
  let looks = 0;
  const blocks = new Map(image.blocks);
  blocks.values = () => (looks++, image.blocks.values());
  while (takeEvents(bench.driver.maps, image).length > 0);
  expect(takeEvents(bench.driver.maps, { ...image, blocks })).toEqual([]);
  expect(looks).toBe(0);
});

test("events name the rule or the end that decided, and the packet as policy saw it", async () => {
  const { node } = bench;
  const index = (name: string): number => Number(node.run(["cat", `/sys/class/net/${name}/ifindex`]));
  for (const family of [0, 1])
    for (const [port, kind, by] of [
      [LOGGED, "log", { is: "rule", rule: { source: SOURCE, direction: "egress", index: 0 }, tier: "front" }],
      [DENIED, "denied", { is: "rule", rule: { source: SOURCE, direction: "egress", index: 2 }, tier: "front" }],
      [NOT_MATCHED, "denied", { is: "tier-end", tier: "front" }],
    ] as const) {
      const event = await tell(packet(family, port));
      expect(event).toMatchObject({ kind, by, packet: packet(family, port), from: index("cali0"), to: index("cali1") });
      bench.forgetFlows();
      await take(0);
      while (takeEvents(bench.driver.maps, bench.driver.image).length > 0) await Bun.sleep(1);
    }
});

test("while the driver watches it keeps the denied packets with the names of then", async () => {
  const { node } = bench;
  let watch: Watch | undefined;
  node.enter(() => (watch = bench.driver.watch(openWatcher(), { changed: () => {}, lost: () => {} })));
  const pod = (i: number): DeniedEnd => ({
    interface: `cali${i}`,
    endpoint: { kind: "Pod", namespace: "a", name: `p${i}` },
  });
  const awaited = async (holds: () => boolean): Promise<void> => {
    for (const end = performance.now() + 10_000; !holds() && performance.now() < end;) await Bun.sleep(1);
  };
  const started = Date.now();
  for (const family of [0, 1])
    for (const [port, by] of [
      [DENIED, { is: "rule", policy: SOURCE, tier: "front", direction: "egress", rule: 3 }],
      [NOT_MATCHED, { is: "tier-end", tier: "front", direction: "egress" }],
    ] as const) {
      const before = bench.driver.denied.packets.length;
      bench.port(0).send(packet(family, port), 1);
      await awaited(() => bench.driver.denied.packets.length > before);
      const last = bench.driver.denied.packets.at(-1);
      expect(last).toMatchObject({ from: pod(0), to: pod(1), packet: packet(family, port), by });
      expect(Math.abs(Date.parse(last?.time ?? "") - started)).toBeLessThan(60_000);
    }
  watch?.close();
}, 60_000);

test("a policy that has changed since is not taken for another", async () => {
  bench.port(0).send(packet(0, NOT_MATCHED), 1);
  const wanted = program(9);
  // The policy that comes takes a place of its own; the stage, which names it, too.
  bench.driver.lower(wanted, { ...wanted, members: new Map() });
  finishSteps(bench.driver.committing());
  const before = program(LOGGED);
  bench.driver.lower(before, { ...before, members: new Map() });
  finishSteps(bench.driver.committing());
  const [event] = await take(1);
  expect(event?.packet).toEqual(packet(0, NOT_MATCHED));
  expect(event?.by).toBeUndefined();
});

test("more denied packets than a second has room for are counted, and dropped all the same", async () => {
  const before = missedEvents(bench.driver.maps);
  for (let i = 0; i < 1000; i++) bench.port(0).send(packet(0, DENIED), 1);
  const isDone = (): boolean => missedEvents(bench.driver.maps) > before;
  for (const end = performance.now() + 5000; !isDone() && performance.now() < end;) await Bun.sleep(1);
  expect(isDone()).toBe(true);
  const told: PacketEvent[] = [];
  const total = (): number => told.length + Number(missedEvents(bench.driver.maps) - before);
  for (const end = performance.now() + 5000; total() < 1000 && performance.now() < end; await Bun.sleep(1))
    told.push(...takeEvents(bench.driver.maps, bench.driver.image));
  expect(total()).toBe(1000);
});

test("it waits, and looks at nothing, until a packet is told of; then at once, and for a while", async () => {
  const clock = openClock();
  const watcher = openWatcher();
  let [waits, sleeps] = [0, 0];
  const denied: PacketEvent[] = [];
  const log = new PacketLog({
    sys: sysIn(REAL, bench.node),
    maps: () => bench.driver.maps,
    watcher: { awaitReadable: (fd, readable) => (waits++, watcher.awaitReadable(fd, readable)) },
    image: () => bench.driver.image,
    logPrefix: () => "",
    clock: { ...clock, sleep: () => (sleeps++, clock.sleep(1)) },
    report: () => {},
    denied: (events) => void denied.push(...events),
  });
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    for (const end = performance.now() + 10_000; !holds(); await Bun.sleep(1))
      if (performance.now() > end) throw new Error(`it takes too long: ${what}`);
  };
  const abort = new AbortController();
  const running = log.run(abort.signal);
  for (const round of [1, 2]) {
    await until("to wait", () => waits === round);
    const before = sleeps;
    await Bun.sleep(50);
    expect([waits, sleeps]).toEqual([round, before]);
    denied.length = 0;
    // Of the second of other tests' packets there may be enough.
    await until("to be told", () => (bench.port(0).send(packet(round - 1, DENIED), 1), denied.length > 0));
  }
  await until("to wait again", () => waits === 3);
  abort.abort();
  await running;
}, 60_000);

test("rules that log write to the kernel's log, with the prefix of the settings; a kernel log that cannot be opened is reported", async () => {
  const { node } = bench;
  const lines: string[] = [];
  const reports: string[] = [];
  let isRefused = false;
  const own = sysIn(REAL, node);
  const KMSG = 9_999;
  const watched: Sys = {
    ...own,
    open: (path, flags) => (path === "/dev/kmsg" ? (isRefused ? -13 : KMSG) : own.open(path, flags)),
    write: (fd, bytes) =>
      fd === KMSG ? lines.push(new TextDecoder().decode(bytes)) && bytes.length : own.write(fd, bytes),
    close: (fd) => (fd === KMSG ? 0 : own.close(fd)),
  };
  const log = new PacketLog({
    sys: watched,
    watcher: openWatcher(),
    maps: () => bench.driver.maps,
    image: () => bench.driver.image,
    logPrefix: () => "%k %p in %t",
    clock: openClock(),
    report: (message) => void reports.push(message),
    denied: () => undefined,
  });
  await take(0);
  const awaited = async (holds: () => boolean): Promise<void> => {
    for (const end = performance.now() + 5000; !holds() && performance.now() < end; await Bun.sleep(1)) log.pass();
  };
  bench.port(0).send(packet(1, LOGGED), 1);
  await awaited(() => lines.length > 0);
  expect(lines).toEqual([
    "<4>np a/p in front: IN=cali0 OUT=cali1 SRC=fd00:65::1 DST=fd00:65::2 PROTO=UDP SPT=1000 DPT=1\n",
  ]);
  isRefused = true;
  bench.port(0).send({ ...packet(1, LOGGED), sourcePort: 1001 }, 1);
  await awaited(() => reports.length > 0);
  expect(reports).toEqual(["cannot log packets: will retry"]);
});
