/**
 * The eBPF path from the birth of an interface: what has no programs is closed until it has them, whoever made it and whatever the daemon is doing;
 * what others detach or delete is put back. Raw packets, both families.
 *
 * "At once" is without giving the thread back: the daemon cannot have heard of anything.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Backend, backendsOf, type RemovableDriver } from "../../src/dataplane/backends.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { readBpfObject } from "../../src/host/bun/bpf-object.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import { openProcesses } from "../../src/host/bun/processes.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { UDP } from "../../src/net/protocol.ts";
import { PodNetwork } from "../../src/podnet/podnet.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import type { Stage } from "../../src/program/policy.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

const [SERVER, CLIENT, WORLD] = [
  ["10.65.0.1", "fd00:65::1"],
  ["10.65.0.2", "fd00:65::2"],
  ["192.0.2.9", "2001:db8::9"],
] as readonly (readonly string[])[] as readonly [readonly Addr[], readonly Addr[], readonly Addr[]];
const OPEN: Stage = { tiers: [], profiles: [], otherwise: "allow" };
const CLOSED: Stage = { tiers: [], profiles: [], otherwise: "deny" };

/** The server, and a client at `tap1` that comes later. */
function program(client: { readonly ingress: Stage; readonly egress: Stage }): Program {
  const at = (name: string, addresses: readonly Addr[], normal: { ingress: Stage; egress: Stage }): Endpoint => ({
    kind: "workload",
    source: { kind: "Pod", namespace: "a", name },
    addresses,
    stages: { normal },
  });
  return {
    settings: { ...DEFAULT_SETTINGS, dataplane: "ebpf", workloadPrefixes: ["cali", "tap"] },
    sets: new Map(),
    policies: new Map(),
    endpoints: new Map([
      ["cali0" as EndpointId, at("server", SERVER, { ingress: OPEN, egress: OPEN })],
      ["tap1" as EndpointId, at("client", CLIENT, client)],
    ]),
    routes: new Map(),
  };
}

let fs: BpfFs;
let namespaces: Namespace[];
let node: Namespace;
let server: Port;
let world: Port;
let backend: Backend | undefined;
let driver: RemovableDriver | undefined;
let loop: Loop;
let end: AbortController | undefined;
let running: Promise<void> | undefined;
let marker = 0x0b17_0000;
const reports: string[] = [];

beforeEach(async () => {
  fs = makeBpfFs();
  namespaces = ["node", "server", "world", "client"].map(makeNamespace);
  const [first, ...others] = namespaces as [Namespace, Namespace, Namespace, Namespace];
  node = first;
  makeRouter(node);
  connect(node, "cali0", others[0]);
  connect(node, "world", others[1] as Namespace);
  routeDefault(node, "world");
  for (const addr of SERVER) routePod(node, "cali0", addr);
  for (const other of others)
    other.run(
      ["nft", "-f", "-"],
      "table inet silence { chain o { type filter hook output priority 0; policy drop; }; }",
    );
  server = new Port(others[0], "eth0", HOST_MAC);
  world = new Port(others[1] as Namespace, "eth0", HOST_MAC);
});

afterEach(async () => {
  end?.abort();
  await running;
  driver?.close();
  driver = undefined;
  server.close();
  world.close();
  for (const namespace of namespaces) removeNamespace(namespace);
  fs.remove();
});

async function start(wanted: Program): Promise<void> {
  const clock = openClock();
  const inside = sysIn(REAL, node);
  const ebpf = { files: openFiles(), object: readBpfObject, pins: `${fs.path}/calico` };
  const families = new Set([4, 6] as const);
  const report = (message: string, fields: object): void => void reports.push(`${message} ${JSON.stringify(fields)}`);
  const options = { sys: inside, clock, processes: openProcesses(), families, ownsTable: false, report, ebpf };
  backend = backendsOf(options).find(({ name }) => name === "ebpf");
  if (backend === undefined) throw new Error("no backend");
  expect(await backend.probe()).toBeUndefined();
  driver = backend.open();
  loop = new Loop({
    drivers: [driver],
    clock,
    watcher: openWatcher(),
    auditIntervalMs: 600_000,
    report,
  });
  const { settings: _, ...tables } = wanted;
  loop.step(wanted, { ...tables, members: new Map() });
  end = new AbortController();
  running = loop.run(end.signal);
  await loop.start();
}

function udp(source: Addr, destination: Addr): FlowPacket {
  return { source, destination, protocol: UDP, sourcePort: 5000 + (marker % 1000), destinationPort: 80 };
}

/** Sends one of each family; markers by family. */
function send(from: Port, sources: readonly Addr[], destinations: readonly Addr[]): number[] {
  return sources.map((source, i) => {
    const sent = marker++;
    from.send(udp(source, destinations[i] as Addr), sent);
    return sent;
  });
}

/** A packet that passes the node says that those before it have arrived or have not. */
async function arrivedAt(port: Port, sent: readonly number[]): Promise<boolean[]> {
  const seen: number[] = [];
  const controls = port === server ? send(world, WORLD, SERVER) : send(server, SERVER, WORLD);
  const last = performance.now() + 5000;
  const at = port === server ? server : world;
  while (!controls.every((control) => seen.includes(control))) {
    if (performance.now() > last) throw new Error("the packet that must arrive has not");
    seen.push(...at.markers());
    if (at !== port) seen.push(...port.markers());
    await Bun.sleep(1);
  }
  seen.push(...port.markers());
  return sent.map((each) => seen.includes(each));
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const last = Date.now() + 20_000;
  while (!(await isSo())) {
    if (Date.now() > last) throw new Error(`waited in vain for ${what}`);
    await Bun.sleep(5);
  }
}

/** By hand, with nobody's help. */
function plug(name: string): Port {
  const client = namespaces[3] as Namespace;
  connect(node, name, client);
  for (const addr of CLIENT) routePod(node, name, addr);
  return new Port(client, "eth0", HOST_MAC);
}

test("an interface made by hand is closed both ways at once, and open as its policy says when it has its programs", async () => {
  await start(program({ ingress: OPEN, egress: OPEN }));
  const client = plug("tap1");
  try {
    // The daemon has not run since: nobody knows the interface yet.
    const out = Array.from({ length: 20 }, () => send(client, CLIENT, SERVER)).flat();
    const away = Array.from({ length: 20 }, () => send(client, CLIENT, WORLD)).flat();
    const into = Array.from({ length: 20 }, () => send(server, SERVER, CLIENT)).flat();
    const early = client.markers();
    expect(into.some((each) => early.includes(each))).toBe(false);
    expect(await arrivedAt(server, out)).toEqual(out.map(() => false));
    expect(world.markers().some((each) => away.includes(each))).toBe(false);
    await until(
      "the interface to be served",
      () => loop.isWritten && driver?.isProgrammed("tap1" as EndpointId) === true,
    );
    expect(await arrivedAt(server, send(client, CLIENT, SERVER))).toEqual([true, true]);
    const late = send(server, SERVER, CLIENT);
    const seen: number[] = [];
    await until("the client to be reached", () => {
      seen.push(...client.markers());
      return late.every((each) => seen.includes(each));
    });
  } finally {
    client.close();
  }
}, 60_000);

test("of one datagram a millisecond from the first moment none passes that policy denies, whoever makes the interface", async () => {
  await start(program({ ingress: OPEN, egress: CLOSED }));
  for (const name of ["tap1", "tap2"]) {
    const client = plug(name);
    const sent: number[] = [];
    try {
      for (let i = 0; i < 300; i++) {
        sent.push(...send(client, CLIENT, SERVER));
        await Bun.sleep(1);
      }
      expect(await arrivedAt(server, sent)).toEqual(sent.map(() => false));
      expect(node.run(["tc", "filter", "show", "dev", name, "ingress"])).toContain("calico from_workload");
    } finally {
      client.close();
      node.run(["ip", "link", "delete", name]);
    }
  }
}, 60_000);

test("programs that others detach are put back; until then nothing passes that comes from the interface", async () => {
  await start(program({ ingress: OPEN, egress: OPEN }));
  const client = plug("tap1");
  const programs = (side: string): string => node.run(["tc", "filter", "show", "dev", "tap1", side]);
  try {
    await until(
      "the interface to be served",
      () => loop.isWritten && driver?.isProgrammed("tap1" as EndpointId) === true,
    );
    for (const command of ["filter del dev tap1 ingress", "filter del dev tap1 egress", "qdisc del dev tap1 clsact"]) {
      expect(await arrivedAt(server, send(client, CLIENT, SERVER))).toEqual([true, true]);
      const { repairs } = loop;
      node.run(["tc", ...command.split(" ")]);
      const sent = send(client, CLIENT, SERVER);
      if (!command.includes("egress")) expect(await arrivedAt(server, sent)).toEqual([false, false]);
      await until("the programs to be back", () => loop.repairs > repairs && loop.isWritten);
      expect(programs("ingress")).toContain("calico from_workload");
      expect(programs("egress")).toContain("calico to_workload");
    }
    expect(await arrivedAt(server, send(client, CLIENT, SERVER))).toEqual([true, true]);
  } finally {
    client.close();
  }
}, 60_000);

test("tables that others delete or change are put back", async () => {
  await start(program({ ingress: OPEN, egress: OPEN }));
  const list = (): string => node.run(["nft", "list", "ruleset"]);
  const before = list().replace(/packets \d+ bytes \d+/g, "");
  for (const command of ["delete table inet calico-guard", "flush ruleset", "flush chain inet calico-guard forward"]) {
    const { repairs } = loop;
    node.run(["nft", ...command.split(" ")]);
    await until("the tables to be back", () => loop.repairs > repairs && loop.isWritten);
    expect(
      list()
        .replace(/packets \d+ bytes \d+/g, "")
        .split("\n")
        .sort(),
    ).toEqual(before.split("\n").sort());
  }
}, 60_000);

test("ends of stages, steps that drop and the maps' fill are told; a stage that two share is not", async () => {
  const wanted = program({ ingress: OPEN, egress: CLOSED });
  await start(wanted);
  const client = plug("tap1");
  try {
    await until(
      "the interface to be served",
      () => loop.isWritten && driver?.isProgrammed("tap1" as EndpointId) === true,
    );
    const before = await backend?.counters(wanted);
    const sent = [...send(client, CLIENT, SERVER), ...send(client, WORLD, SERVER)];
    expect(await arrivedAt(server, sent)).toEqual(sent.map(() => false));
    const after = await backend?.counters(wanted);
    if (before === undefined || after === undefined) throw new Error("no backend");
    expect(after.ends).toMatchObject([
      { endpoint: "cali0", direction: "egress", end: "not isolated" },
      { endpoint: "tap1", direction: "egress", end: "end", action: "deny" },
    ]);
    const seen = (of: typeof before): readonly (number | undefined)[] => [
      of.ends.find(({ endpoint }) => endpoint === "tap1")?.packets,
      of.drops?.find(({ step }) => step === "unknown interface or spoofed source")?.packets,
    ];
    expect(seen(after)).toEqual(seen(before).map((packets) => (packets ?? 0) + 2));
    const fill = new Map(after.maps?.map((map) => [map.map, map]));
    expect(fill.get("endpoints")).toMatchObject({ entries: 2, room: 1 << 14 });
    expect(fill.get("addresses")).toMatchObject({ entries: 4, room: 1 << 15 });
    expect(fill.get("connections")?.entries).toBeGreaterThan(0);
    expect(fill.get("origins")).toMatchObject({ room: 1 << 14 });
    expect(fill.get("origins")?.entries).toBeUndefined();
  } finally {
    client.close();
  }
}, 60_000);

test("a flow that was established before the path knew any goes on; one that never began is judged", async () => {
  node.run(
    ["nft", "-f", "-"],
    "table inet others { chain f { type filter hook forward priority 0; ct state established counter; }; }",
  );
  const client = plug("tap1");
  const turned = ({ source, destination, sourcePort, destinationPort, protocol }: FlowPacket): FlowPacket => ({
    source: destination,
    destination: source,
    sourcePort: destinationPort ?? 0,
    destinationPort: sourcePort ?? 0,
    protocol,
  });
  const flow = (i: number, port: number): FlowPacket => ({
    ...udp(CLIENT[i] as Addr, SERVER[i] as Addr),
    sourcePort: port,
  });
  try {
    for (const i of [0, 1]) {
      client.send(flow(i, 7000), marker++);
      server.send(turned(flow(i, 7000)), marker++);
    }
    await start(program({ ingress: CLOSED, egress: OPEN }));
    await until(
      "the interface to be served",
      () => loop.isWritten && driver?.isProgrammed("tap1" as EndpointId) === true,
    );
    client.markers();
    const sent = [0, 1].flatMap((i) =>
      [7001, 7000].map((port) => {
        const mark = marker++;
        server.send(turned(flow(i, port)), mark);
        return mark;
      }),
    );
    const seen: number[] = [];
    await until("the answers to arrive", () => {
      seen.push(...client.markers());
      return [1, 3].every((i) => seen.includes(sent[i] as number));
    });
    expect([0, 2].some((i) => seen.includes(sent[i] as number))).toBe(false);
  } finally {
    client.close();
  }
}, 60_000);

test("a pod's host end has its programs before it is up", async () => {
  await start(program({ ingress: OPEN, egress: OPEN }));
  const states: string[] = [];
  node.enter(() => {
    const network = new PodNetwork(sys, ({ index, name, up }) => {
      driver?.guard?.(index, name);
      const side = (which: string): string =>
        Bun.spawnSync(["tc", "filter", "show", "dev", name, which]).stdout.toString();
      states.push(
        `${up ? "up" : "down"} ${/from_workload/.test(side("ingress"))} ${/to_workload/.test(side("egress"))}`,
      );
    });
    network.add({
      hostInterface: "cali00000000001",
      podInterface: "eth9",
      netns: (namespaces[3] as Namespace).path,
      addresses: CLIENT,
      mtuBytes: 1500,
    });
    network.close();
  });
  expect(states).toEqual(["down true true"]);
  const index = /^(\d+):/.exec(node.run(["ip", "-o", "link", "show", "cali00000000001"]))?.[1];
  expect(index).toBeDefined();
  expect(node.run(["nft", "list", "set", "inet", "calico-guard", "served"])).toContain("cali00000000001");
}, 60_000);
