/**
 * dataplanes: each way of programming policy with 10 and with 10,000 policies on one node: what changes cost from the program to the kernel, and the
 * CPU per packet and per new connection between two pods, beside the same path without any rule. Upstream's scenario: policy k allows TCP
 * 8080 and 9090 from set k mod 1,000; 200 other pods run them, 100 addresses are in each set.
 *
 * eBPF is measured on copies of the two pods that stand side by side, in turn: packets of a known flow, on one node and on two, without any
 * dataplane, with eBPF, with eBPF but without its way past the host stack, and redirected by a program that looks at nothing; new connections on one
 * node, with the policies and without.
 *
 * Usage: bun test/bench/dataplanes.ts [nftables] [iptables-nft] [iptables-legacy] [ebpf]
 */
import { awaitSteps } from "../../src/dataplane/driver.ts";
import { pastOf } from "../../src/dataplane/ebpf/counters.ts";
import { IptablesDriver } from "../../src/dataplane/iptables/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import type { Key } from "../../src/model/key.ts";
import type { Addr } from "../../src/net/addr.ts";
import { TCP } from "../../src/net/protocol.ts";
import type { Policy, PolicyId, Rule, SetId, SetMembers, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { type Dataplane, DATAPLANES } from "../dataplane.ts";
import { wholeOf } from "../kernel/dataplane-node.ts";
import { makeBpfFs } from "../kernel/bpffs.ts";
import { makeNamespace, type Namespace, processesIn, removeNamespace, sys } from "../kernel/fixture.ts";
import { makeRouter } from "../kernel/pods.ts";
import { cpuPerConnection, startAcceptor } from "./connects.ts";
import {
  atOf,
  CLIENT,
  compare,
  type Copy,
  makeCopy,
  makePod,
  measureInTurn,
  programNanoseconds,
  removeCopies,
  SERVER,
  type Way,
  WAYS,
} from "./copies.ts";
import { percentile, ratio, row } from "./figures.ts";
import { cpuPerPacket, startIperf } from "./iperf.ts";

const [PACKET_PORT, CONNECTION_PORT] = [8080, 9090];
const OTHERS = 200;
/** Policies of the two pods, of which the last allows. */
const OWN = 5;
const ROUNDS = 5;

type AnyDriver = NftablesDriver | IptablesDriver;

function keyOf(index: number): Key {
  return { kind: "NetworkPolicy", namespace: "bench", name: `policy-${index}` };
}

function policyId(index: number): PolicyId {
  return `NetworkPolicy/bench/policy-${index}` as PolicyId;
}

function setOf(index: number): SetId {
  return `s-${(index % 1_000).toString(16).padStart(32, "0")}` as SetId;
}

function policyOf(
  index: number,
  ports: readonly number[] = [PACKET_PORT, CONNECTION_PORT],
  set = setOf(index),
): Policy {
  const source = keyOf(index);
  const ingress = ports.map((port, at): Rule => {
    const peers = { not: false, any: [{ on: "set", side: "source", set } as const] };
    const match = { on: "ports", side: "destination", protocol: TCP, from: port, to: port } as const;
    return {
      id: { source, direction: "ingress", index: at },
      when: [peers, { not: false, any: [match] }],
      action: "allow",
    };
  });
  return { source, tier: "default", ingress, egress: undefined, error: undefined };
}

function endpointOf(name: string, addresses: readonly Addr[], policies: readonly PolicyId[]): Endpoint {
  const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
  const ingress: Stage = { tiers: [{ tier: "default", policies, otherwise: "deny" }], profiles: [], otherwise: "deny" };
  return {
    kind: "workload",
    source: { kind: "Pod", namespace: "bench", name },
    addresses,
    stages: { normal: { ingress, egress: open } },
  };
}

function other(index: number, count: number, more: readonly PolicyId[] = []): [EndpointId, Endpoint] {
  const own: PolicyId[] = [];
  for (let i = OWN + index; i < count; i += OTHERS) own.push(policyId(i));
  const address = `10.65.1.${index}` as Addr;
  return [`caliother${index}` as EndpointId, endpointOf(`other-${index}`, [address], [...own, ...more])];
}

function programOf(count: number): Program {
  const sets = new Map<SetId, SetMembers>();
  for (let i = 0; i < Math.min(count, 1_000); i++) {
    const hosts = Array.from({ length: 100 }, (_, at) => `10.${100 + (i >> 8)}.${i & 255}.${at}` as Addr);
    sets.set(setOf(i), {
      type: "address",
      hosts: new Set(i === OWN - 1 ? [...hosts, CLIENT] : hosts),
      nets: new Set(),
    });
  }
  const policies = new Map(Array.from({ length: count }, (_, i) => [policyId(i), policyOf(i)] as const));
  const own = Array.from({ length: OWN }, (_, i) => policyId(i));
  return {
    settings: DEFAULT_SETTINGS,
    sets,
    policies,
    endpoints: new Map([
      ["cali0" as EndpointId, endpointOf("client", [CLIENT], own)],
      ["cali1" as EndpointId, endpointOf("server", [SERVER], own)],
      ...Array.from({ length: OTHERS }, (_, i) => other(i, count)),
    ]),
    routes: new Map(),
  };
}

const NOTHING = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map(), members: new Map() };

/** Changes of one kind, each of which undoes the one before. */
const CHANGES: Readonly<Record<string, (program: Program, count: number, isOn: boolean) => ProgramDelta>> = {
  "a member": (program, count, isOn) => {
    const id = setOf(Math.min(count, 1_000) - 1);
    const set = program.sets.get(id);
    if (set?.type !== "address") throw new Error("no such set");
    const member = "10.99.0.1" as Addr;
    const hosts = new Set([...set.hosts, ...(isOn ? [member] : [])]);
    const change = isOn ? { added: [member], removed: [] } : { added: [], removed: [member] };
    return { ...NOTHING, sets: new Map([[id, { ...set, hosts }]]), members: new Map([[id, change]]) };
  },
  "a rule": (_program, count, isOn) => ({
    ...NOTHING,
    policies: new Map([[policyId(count - 1), policyOf(count - 1, isOn ? [PACKET_PORT, 7070] : undefined)]]),
  }),
  "a policy over 200 endpoints": (_program, count, isOn) => ({
    ...NOTHING,
    policies: new Map([[policyId(count), isOn ? policyOf(count, undefined, setOf(0)) : undefined]]),
    endpoints: new Map(Array.from({ length: OTHERS }, (_, i) => other(i, count, isOn ? [policyId(count)] : []))),
  }),
};

function applied(program: Program, { sets, policies, endpoints }: ProgramDelta): Program {
  const merged = <K, V>(table: ReadonlyMap<K, V>, delta: ReadonlyMap<K, V | undefined>): ReadonlyMap<K, V> => {
    const result = new Map(table);
    for (const [key, value] of delta)
      if (value === undefined) result.delete(key);
      else result.set(key, value);
    return result;
  };
  return {
    ...program,
    sets: merged(program.sets, sets),
    policies: merged(program.policies, policies),
    endpoints: merged(program.endpoints, endpoints),
  };
}

function openDriver(node: Namespace, dataplane: Exclude<Dataplane, "ebpf">): AnyDriver {
  const clock = openClock();
  return node.enter((): AnyDriver => {
    if (dataplane === "nftables") return new NftablesDriver(sys, { ownsTable: false, clock });
    const variant = dataplane === "iptables-nft" ? "nft" : "legacy";
    return new IptablesDriver(sys, { processes: processesIn(node), variant, families: new Set([4, 6]), clock });
  });
}

async function timed(driver: AnyDriver, program: Program, delta: ProgramDelta): Promise<number> {
  const begin = performance.now();
  driver.lower(program, delta);
  await awaitSteps(driver.committing());
  if (driver.pending > 0 || driver.failures.length > 0) throw new Error("the kernel has not taken everything");
  return performance.now() - begin;
}

async function measureChanges(driver: AnyDriver, program: Program, count: number, title: string): Promise<void> {
  for (const [name, make] of Object.entries(CHANGES)) {
    const times: number[] = [];
    for (let i = 0; i < 2 * ROUNDS; i++) {
      const delta = make(program, count, i % 2 === 0);
      times.push(await timed(driver, applied(program, delta), delta));
    }
    row(`${title}: ${name}, to the kernel`, times, "ms");
  }
}

interface Load {
  readonly netns: string;
  readonly iperf: number;
  readonly acceptor: number;
}

async function measurePackets(
  load: Load,
  title: string,
): Promise<{ readonly packet: number; readonly connection: number }> {
  const [packets, connections]: [number[], number[]] = [[], []];
  const at = { netns: load.netns, address: SERVER, seconds: 1 };
  for (let i = 0; i < ROUNDS; i++) {
    packets.push(await cpuPerPacket({ ...at, port: PACKET_PORT, serverPid: load.iperf }));
    connections.push(await cpuPerConnection({ ...at, port: CONNECTION_PORT, serverPid: load.acceptor }));
  }
  row(`${title}: CPU per packet`, packets, "µs");
  row(`${title}: CPU per new connection`, connections, "µs");
  return { packet: percentile(packets, 0.5), connection: percentile(connections, 0.5) };
}

async function measure(
  node: Namespace,
  load: Load,
  dataplane: Exclude<Dataplane, "ebpf">,
  count: number,
): Promise<void> {
  const title = `${dataplane}, ${count} policies`;
  const program = programOf(count);
  const driver = openDriver(node, dataplane);
  try {
    await awaitSteps(driver.reading());
    row(`${title}: all of it, to the kernel`, [await timed(driver, program, wholeOf(program))], "ms");
    await measureChanges(driver, program, count, title);
    const own = await measurePackets(load, title);
    await awaitSteps(driver.removing(false));
    const plain = await measurePackets(load, `${title}, taken out`);
    ratio(`${title}: packet, filtered : plain`, own.packet / plain.packet, "1.25 at most");
    ratio(`${title}: new connection, filtered : plain`, own.connection / plain.connection, "1.2 at most");
  } finally {
    driver.close();
  }
}

function openProgram(way: Way, pods: readonly (readonly [name: string, address: Addr])[]): Program {
  const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
  const endpoints = pods.map(([name, address]): readonly [EndpointId, Endpoint] => [
    name as EndpointId,
    { ...endpointOf(name, [address], []), stages: { normal: { ingress: open, egress: open } } },
  ]);
  const settings = { ...DEFAULT_SETTINGS, goesPastStack: way === "past the host stack" };
  return { settings, sets: new Map(), policies: new Map(), endpoints: new Map(endpoints), routes: new Map() };
}

async function benchEbpf(nodes: 1 | 2): Promise<void> {
  const fs = makeBpfFs();
  const copies: Copy[] = [];
  try {
    const options = { nodes, pins: fs.path, startServer: startIperf, port: PACKET_PORT };
    for (const way of WAYS.filter((each) => nodes === 1 || each !== "redirected unseen"))
      copies.push(await makeCopy({ ...options, way, programOf: (pods) => openProgram(way, pods) }));
    await measureInTurn(copies, (at) => cpuPerPacket({ ...at, port: PACKET_PORT }));
    const title = `ebpf, ${nodes === 1 ? "one node" : "two nodes"}`;
    for (const { way, figures } of copies) row(`${title}, ${way}: CPU per packet`, figures, "µs");
    compare(title, copies, ["past the host stack", "plain"], "0.92 at most");
    compare(title, copies, ["through the host stack", "plain"], "printed for scale");
    compare(title, copies, ["past the host stack", "through the host stack"], "printed for scale");
    if (nodes === 1) compare(title, copies, ["redirected unseen", "plain"], "printed for scale");
    for (const copy of copies.filter(({ way }) => way === "past the host stack")) {
      const run = (): Promise<number> => cpuPerPacket({ ...atOf(copy), port: PACKET_PORT });
      row(`${title}, ${copy.way}: a run of from_workload`, [await programNanoseconds(copy, run)], "ns");
    }
    for (const { way, drivers } of copies)
      console.log(`${title}, ${way}: ${drivers.map(({ maps }) => pastOf(maps.past)).join(" and ")} packets went past`);
  } finally {
    removeCopies(copies);
    fs.remove();
  }
}

async function benchEbpfConnections(count: number): Promise<void> {
  const fs = makeBpfFs();
  const copies: Copy[] = [];
  try {
    const options = { nodes: 1, pins: fs.path, startServer: startAcceptor, port: CONNECTION_PORT } as const;
    for (const way of ["plain", "past the host stack"] as const)
      copies.push(await makeCopy({ ...options, way, programOf: () => programOf(count) }));
    await measureInTurn(copies, (at) => cpuPerConnection({ ...at, port: CONNECTION_PORT }));
    const title = `ebpf, ${count} policies`;
    for (const { way, figures } of copies) row(`${title}, ${way}: CPU per new connection`, figures, "µs");
    compare(title, copies, ["past the host stack", "plain"], "1.2 at most");
  } finally {
    removeCopies(copies);
    fs.remove();
  }
}

/** Of these dataplanes. */
export async function benchDataplanes(dataplanes: readonly Dataplane[] = DATAPLANES): Promise<void> {
  const others = dataplanes.filter((each) => each !== "ebpf");
  if (others.length > 0) await benchOthers(others);
  if (others.length === dataplanes.length) return;
  console.log("\n== eBPF: CPU per packet of a known flow");
  await benchEbpf(1);
  await benchEbpf(2);
  console.log("\n== eBPF: CPU per new connection with 10 and 10,000 policies");
  for (const count of [10, 10_000]) await benchEbpfConnections(count);
}

async function benchOthers(dataplanes: readonly Exclude<Dataplane, "ebpf">[]): Promise<void> {
  console.log("\n== Dataplanes with 10 and 10,000 policies: changes, CPU per packet and per new connection");
  const [node, client, server] = [makeNamespace("bench"), makeNamespace("client"), makeNamespace("server")];
  const ends: { kill(): void }[] = [];
  try {
    makeRouter(node);
    makePod(node, client, "cali0", CLIENT);
    makePod(node, server, "cali1", SERVER);
    const iperf = startIperf(server.path, PACKET_PORT);
    const acceptor = startAcceptor(server.path, CONNECTION_PORT);
    ends.push(iperf, acceptor);
    while (!/:8080 .*:9090 |:9090 .*:8080 /s.test(server.run(["ss", "-Hltn"]))) await Bun.sleep(10);
    const load = { netns: client.path, iperf: iperf.pid, acceptor: acceptor.pid };
    for (const dataplane of dataplanes) for (const count of [10, 10_000]) await measure(node, load, dataplane, count);
  } finally {
    for (const end of ends) end.kill();
    for (const each of [node, client, server]) removeNamespace(each);
  }
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !DATAPLANES.some((each) => each === name));
  if (unknown !== undefined) throw new Error(`there is no dataplane ${unknown}, only ${DATAPLANES.join(", ")}`);
  await benchDataplanes(wanted.length === 0 ? DATAPLANES : DATAPLANES.filter((each) => wanted.includes(each)));
}
