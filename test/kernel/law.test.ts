/**
 * The law, kernel half: for random clusters and boundary-biased packets, the definition (`semantics`), the program
 * (`program/evaluate`, `program/path-evaluate`) and each real dataplane between namespaces agree, in what becomes of the packet and in what
 * decided, in both families. LAW_PACKETS sends so many to each.
 *
 * One namespace is the node, one each local pod and machine, one the rest of the world. Every packet is really sent; arrival is seen at the
 * other end, what decided by the counters of rules. Three of four clusters have Calico's policies and host endpoints besides
 * Kubernetes' policies. Connection tracking is switched off but for packets of flows that are meant to be known, or invalid.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Program, EndpointId } from "../../src/program/program.ts";
import { programOf } from "../../src/calc/from-scratch.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { type Addr, familyOf } from "../../src/net/addr.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import { addressOfNet } from "../../src/model/kinds/workload-endpoint.ts";
import type { Resource } from "../../src/model/resource.ts";
import { evaluatePacket, type Fate } from "../../src/program/path-evaluate.ts";
import type { Cluster } from "../../src/semantics/cluster.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { Applied } from "../../src/semantics/applied.ts";
import { decide } from "../../src/semantics/decide.ts";
import { decideStaged, type Staging, stagingOf } from "../../src/semantics/staged.ts";
import { stagedIn } from "../property/staged-policies.ts";
import { randomCluster, type RandomCluster } from "../property/clusters.ts";
import { Random } from "../property/random.ts";
import type { Count, Counters } from "../../src/dataplane/counters.ts";
import { formatKey } from "../../src/model/key.ts";
import { countedKeys, decisionsOf, stagedDecisionsOf } from "./decisions.ts";
import { RulesDecided } from "./rules-decided.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { ebpfBackend, iptablesBackend, type LawBackend, type LawConnections, nftablesBackend } from "./law-backends.ts";
import { NODE, OWN, type Place, type Sent, TRACKED_PORT, trafficOf, UNKNOWN } from "./law-traffic.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod, routePods, runBatch } from "./pods.ts";
import { encodePacket, Port } from "./wire.ts";

const LONG_RUN = process.env["LAW_PACKETS"];
const PACKETS_PER_CLUSTER = 500;
const POD_SLOTS = 6;
const MACHINE_SLOTS = 2;
const SEED = Number(process.env["LAW_SEED"] ?? "20261125");
const WORLD = "world" as EndpointId;
/** By which host endpoints without an interface name find theirs. */
const INTERFACE_ADDRESSES = ["192.0.2.1", "2001:db8::1"].map((text) => text as Addr);

interface Bench {
  readonly node: Namespace;
  /** The last one has no endpoint. */
  readonly ports: ReadonlyMap<string, Port>;
}

/** What reaches the node itself is counted where our table has let it through, and not answered; the marker of every frame begins with ca10. */
const OBSERVER = `table inet observer {
  chain untracked {
    type filter hook prerouting priority -310;
    meta l4proto { tcp, udp } th sport ${TRACKED_PORT} accept
    notrack
  }
  chain silence {
    type filter hook output priority -400; policy drop;
  }
  chain arrived {
    type filter hook input priority 10;
    meta l4proto tcp @th,160,16 0xca10 counter drop
    meta l4proto sctp @th,256,16 0xca10 counter drop
    meta l4proto != { tcp, sctp } @th,64,16 0xca10 counter drop
  }
}`;

/** The kernels of node and pods say nothing of their own: raw frames pass by their rules. */
const SILENCE = "table inet silence { chain output { type filter hook output priority 0; policy drop; }; }";

function build(node: Namespace, world: Namespace, pods: readonly Namespace[], machines: readonly Namespace[]): Bench {
  makeRouter(node);
  connect(node, WORLD, world);
  routeDefault(node, WORLD);
  for (const addr of OWN) node.run(["ip", "addr", "add", addr, "dev", "lo"]);
  for (const other of [world, ...pods, ...machines]) other.run(["nft", "-f", "-"], SILENCE);
  const ports = new Map([[WORLD as string, new Port(world, "eth0", HOST_MAC)]]);
  pods.forEach((pod, i) => {
    connect(node, `cali${i}`, pod);
    ports.set(`cali${i}`, new Port(pod, "eth0", HOST_MAC));
  });
  machines.forEach((machine, i) => {
    connect(node, `tap${i}`, machine);
    ports.set(`tap${i}`, new Port(machine, "eth0", HOST_MAC));
  });
  for (const addr of UNKNOWN) routePod(node, `cali${POD_SLOTS}`, addr);
  node.run(["nft", "-f", "-"], OBSERVER);
  return { node, ports };
}

interface Meant {
  readonly sent: Sent;
  readonly fate: Fate;
  readonly decisions: readonly string[];
  /** So many of them are of staged policies. */
  readonly staged: number;
  /** Counts the numbered rules of meaning that were applied. */
  readonly decided: readonly (() => void)[];
}

/** What became of packets. */
interface Seen {
  /** Of each, whether it arrived at another end. */
  readonly arrived: readonly boolean[];
  /** How many arrived at the node itself. */
  readonly atNode: number;
  /** Of all together, what counted them. */
  readonly decided: readonly string[];
}

function expectedOf(meant: readonly Meant[], backend: LawBackend): Seen {
  const accepted = meant.map(({ fate }) => fate.action === "accept");
  return {
    arrived: meant.map(({ sent }, i) => sent.to !== undefined && accepted[i] === true),
    atNode: meant.filter(({ sent }, i) => sent.to === undefined && accepted[i] === true).length,
    decided: meant.flatMap(({ decisions }) => decisions.map((text) => backend.plain(text))).sort(),
  };
}

class Law {
  readonly #bench: Bench;
  readonly #backend: LawBackend;
  readonly #observer: NftablesClient;
  #program: Program | undefined;
  #meaning: Cluster = clusterOf({ pods: [], namespaces: [], networkPolicies: [] });
  #staging: Staging | undefined;
  #before = new Map<string, number>();
  #places: readonly Place[] = [];
  /** Known to connection tracking. */
  readonly #flows = new Set<string>();
  /** No frame that the kernel sends by itself ends like this; reports of the group ff02::2 end with 00000002. */
  #sent = 0;
  /** What the counters must say. */
  #counted = new Map<string, Count>();
  /** Packets were sent twice, so the counters are ahead. */
  #isRepeated = false;
  checked = 0;
  /** Counts of staged rules and ends. */
  staged = 0;
  readonly decisions = new Map<string, number>();
  readonly kinds = new Map<string, number>();
  readonly rules = new RulesDecided();

  constructor(bench: Bench, backend: LawBackend) {
    this.#bench = bench;
    this.#backend = backend;
    this.#observer = bench.node.enter(() => new NftablesClient(sys, { family: "inet", name: "observer" }));
  }

  /** Programs the node's part of the cluster. */
  async load(cluster: RandomCluster): Promise<readonly Place[]> {
    const { node } = this.#bench;
    runBatch(
      node,
      this.#places.map(({ addr }) => `route del ${addr}`),
    );
    const records = localRecords(cluster);
    const taken = new Set(records.flatMap(({ addresses }) => addresses));
    const workloadEndpoints = cluster.workloadEndpoints.map(onBench).filter((machine) => {
      const own = (machine.spec.ipNetworks ?? []).flatMap((text) => addressOfNet(text) ?? []);
      const isFree = own.every((addr) => !taken.has(addr));
      for (const addr of own) taken.add(addr);
      return isFree;
    });
    this.#staging = stagingOf({ ...cluster, workloadEndpoints }, stagedIn(cluster));
    this.#meaning = this.#staging.now;
    const interfaces = new Map([[WORLD as string, INTERFACE_ADDRESSES]]);
    this.#program = programOf({ ...cluster, workloadEndpoints, pools: [], node: NODE, records, interfaces });
    this.#places = [...this.#program.endpoints].flatMap(([id, { kind, addresses }]) =>
      kind === "workload" ? addresses.map((addr) => ({ addr, interface: id as string })) : [],
    );
    routePods(node, this.#places);
    // The kernel forgets a flow two minutes after its last packet.
    node.run(["conntrack", "-F"]);
    this.#flows.clear();
    await this.#backend.commit(this.#program);
    this.#before = new Map([...this.#backend.counts(4), ...this.#backend.counts(6)]);
    this.#counted = await this.#counters();
    this.#isRepeated = false;
    return this.#places;
  }

  #arrivals(): bigint {
    let sum = 0n;
    for (const { packets } of this.#observer.counters().get("arrived") ?? []) sum += packets;
    return sum;
  }

  /** What both statements of meaning say of the packet, which must be the same. */
  #meant(sent: Sent): Meant {
    const program = this.#program;
    if (program === undefined) throw new Error("no program");
    const fate = evaluatePacket(program, sent);
    const decided: (() => void)[] = [() => this.rules.addPath(program, sent, fate)];
    for (const { endpoint, hook, direction, verdict } of fate.verdicts) {
      const key = program.endpoints.get(endpoint)?.source;
      if (key === undefined) throw new Error(`no endpoint ${endpoint}`);
      const end = { endpoint: key, hook, direction, fromOwnNode: false };
      const applied = new Applied();
      const meant = decide(this.#meaning, sent.packet, end, applied);
      expect({ sent, end, verdict }).toEqual({ sent, end, verdict: meant });
      decided.push(() => this.rules.add(applied.rules, verdict.action));
    }
    if (this.#staging !== undefined) this.#checkStaged(sent, fate, program, this.#staging);
    const staged = stagedDecisionsOf(fate, program);
    return { sent, fate, decisions: [...decisionsOf(fate, program), ...staged], staged: staged.length, decided };
  }

  /** Sends the packets and compares what became of each, and what decided of them all, with what both statements of meaning say. */
  check(packets: readonly Sent[]): void {
    const meant = packets.map((sent) => this.#meant(sent));
    const seen = this.#send(meant);
    const expected = expectedOf(meant, this.#backend);
    // Who is to blame is seen when each is sent alone.
    if (!Bun.deepEquals(seen, expected) && packets.length > 1) {
      this.#isRepeated = true;
      for (const sent of packets) this.check([sent]);
    }
    expect({ sent: packets, ...seen }).toEqual({ sent: packets, ...expected });
    for (const { sent, fate, decisions, staged, decided } of meant) {
      this.staged += staged;
      // From the IP header on.
      const { length } = bodyOf(sent, 0);
      for (const key of countedKeys(fate)) {
        const { packets, bytes } = this.#counted.get(key) ?? { packets: 0, bytes: 0 };
        this.#counted.set(key, { packets: packets + 1, bytes: bytes + length });
      }
      this.#tally(sent, fate, decisions);
      // The kernel has decided the same.
      for (const count of decided) count();
    }
  }

  /** What became of them, as soon as it is what is expected. */
  #send(meant: readonly Meant[]): Seen {
    const all = meant.map(({ sent }) => sent);
    if (this.#backend.connections !== undefined) this.#backend.connections.begin(all);
    else for (const sent of all) if (sent.connection === "established") this.#know(sent);
    const before = this.#arrivals();
    const markers = meant.map(({ sent }) => {
      // The observer knows it by its upper half.
      const marker = 0xca10_0000 + (this.#sent++ & 0xffff);
      this.#port(sent.from).sendBody(bodyOf(sent, marker));
      return marker;
    });
    const expected = expectedOf(meant, this.#backend);
    const received = new Map([...this.#bench.ports.keys()].map((name) => [name, new Set<number>()]));
    for (const end = performance.now() + 20_000; ;) {
      for (const [name, port] of this.#bench.ports)
        for (const marker of port.markers()) received.get(name)?.add(marker);
      const arrived = meant.map(
        ({ sent }, i) => sent.to !== undefined && received.get(sent.to)?.has(markers[i] ?? 0) === true,
      );
      const atNode = Number(this.#arrivals() - before);
      const isLate = performance.now() > end;
      if (!isLate && !Bun.deepEquals([arrived, atNode], [expected.arrived, expected.atNode])) continue;
      const { changed, decided } = this.#decided(meant);
      const seen = { arrived, atNode, decided };
      if (!isLate && !Bun.deepEquals(seen, expected)) continue;
      for (const [rule, count] of changed) this.#before.set(rule, count);
      return seen;
    }
  }

  #port(name: string): Port {
    const found = this.#bench.ports.get(name);
    if (found === undefined) throw new Error(`no port ${name}`);
    return found;
  }

  /** What rules have counted since the last packets, one entry for each packet. */
  #decided(meant: readonly Meant[]): {
    readonly changed: readonly (readonly [string, number])[];
    readonly decided: string[];
  } {
    const { comments } = this.#backend;
    const families = new Set(meant.map(({ sent }) => familyOf(sent.packet.source)));
    const asked = this.#backend.countsBoth === true ? ([4] as const) : [...families];
    const counts = new Map(asked.flatMap((family) => [...this.#backend.counts(family)]));
    const changed = [...counts].filter(([rule, packets]) => packets !== (this.#before.get(rule) ?? 0));
    // One counter may stand for several of a packet's decisions.
    const decided = changed.flatMap(([rule, packets]) =>
      Array<string>(packets - (this.#before.get(rule) ?? 0)).fill(
        this.#backend.plain(comments.get(rule) ?? `rule ${rule}`),
      ),
    );
    return { changed, decided: decided.sort() };
  }

  /** What users are told by rule and by end is what the packets did. */
  async compareCounters(): Promise<void> {
    const told = await this.#counters();
    if (this.#backend.counters === undefined || this.#isRepeated) return;
    const sorted = (counts: ReadonlyMap<string, Count>): string[] =>
      [...counts]
        .filter(([, { packets }]) => packets > 0)
        .map(([key, { packets, bytes }]) => `${key}: ${packets} packets, ${bytes} bytes`)
        .sort();
    const isTold = (key: string): boolean => this.#backend.sharesEnds !== true || told.has(key) || !isEnd(key);
    expect(sorted(told)).toEqual(sorted(new Map([...this.#counted].filter(([key]) => isTold(key)))));
  }

  async #counters(): Promise<Map<string, Count>> {
    const program = this.#program;
    const read = this.#backend.counters;
    if (program === undefined || read === undefined) return new Map();
    const { staged, ...decided } = await read(program);
    const of = (which: string, { rules, ends }: Pick<Counters, "rules" | "ends">): [string, Count][] => [
      ...rules.map(({ policy, direction, rule, action, packets, bytes }): [string, Count] => [
        `${which} ${action} ${formatKey(policy)} ${direction} ${rule}`,
        { packets, bytes },
      ]),
      ...ends.map(({ endpoint, hook, direction, end, action, packets, bytes }): [string, Count] => [
        `${which} ${action} ${endpoint} ${hook} ${direction} ${end}`,
        { packets, bytes },
      ]),
    ];
    return new Map([...of("decided", decided), ...(staged === undefined ? [] : of("staged", staged))]);
  }

  /** POL-56, where the path asks. */
  #checkStaged(sent: Sent, fate: Fate, program: Program, staging: Staging): void {
    for (const { endpoint, hook, direction, verdict } of fate.staged) {
      const key = program.endpoints.get(endpoint)?.source;
      if (key === undefined) throw new Error(`no endpoint ${endpoint}`);
      const end = { endpoint: key, hook, direction, fromOwnNode: false };
      expect({ sent, end, staged: verdict }).toEqual({
        sent,
        end,
        staged: decideStaged(staging, sent.packet, end),
      } as never);
    }
  }

  #tally(sent: Sent, fate: Fate, decisions: readonly string[]): void {
    this.checked++;
    const isMachine = [sent.from, sent.to].some((name) => name?.startsWith("tap"));
    for (const [map, text] of [
      [this.kinds, `${sent.kind} ${fate.action}`],
      ...(isMachine ? [[this.kinds, `${sent.kind} ${fate.action} at a machine`] as const] : []),
      ...decisions.map((decision) => [this.decisions, decision.slice(decision.indexOf(": "))] as const),
    ] as const)
      map.set(text, (map.get(text) ?? 0) + 1);
  }

  /** The flow of the packet is known to connection tracking, and has been answered. */
  #know({ packet }: Sent): void {
    const { source, destination, sourcePort, destinationPort } = packet;
    const tuple = [
      "-s",
      source,
      "-d",
      destination,
      "-p",
      "udp",
      "--sport",
      `${sourcePort}`,
      "--dport",
      `${destinationPort}`,
    ];
    const flow = tuple.join(" ");
    if (this.#flows.has(flow)) return;
    this.#flows.add(flow);
    this.#bench.node.run(["conntrack", "-I", ...tuple, "--timeout", "10000", "-u", "SEEN_REPLY,ASSURED"]);
  }

  close(): void {
    this.#backend.close();
    this.#observer.close();
    for (const port of this.#bench.ports.values()) port.close();
  }
}

/** As `countedKeys` calls the end of a stage. */
function isEnd(key: string): boolean {
  return /(no rule of tier \S+ matched|not isolated|end)$/.test(key);
}

/** An invalid one is a segment of TCP in the middle of a connection that nobody began. */
function bodyOf({ packet, connection }: Sent, marker: number): Uint8Array {
  const body = encodePacket(packet, marker);
  if (connection === "invalid") body[(familyOf(packet.source) === 4 ? 20 : 40) + TCP_FLAGS] = ACK;
  return body;
}

const TCP_FLAGS = 13;
const ACK = 0x10;

/** The node's pods, one for each slot; of two that share an address the first. */
function localRecords(cluster: RandomCluster): CniRecord[] {
  const taken = new Set<string>();
  const local: CniRecord[] = [];
  for (const record of cluster.records) {
    const pod = cluster.pods.find(
      ({ metadata }) => metadata.namespace === record.pod.namespace && metadata.name === record.pod.name,
    );
    if (pod?.spec?.nodeName !== NODE || local.length === POD_SLOTS || record.addresses.some((addr) => taken.has(addr)))
      continue;
    for (const addr of record.addresses) taken.add(addr);
    local.push({ ...record, interface: `cali${local.length}` });
  }
  return local;
}

/** A machine that claims a pod's interface claims one that the bench has, whether or not it is a pod's. */
function onBench(machine: Resource<"WorkloadEndpoint">): Resource<"WorkloadEndpoint"> {
  const isPods = machine.spec.interfaceName.startsWith("cali");
  return isPods ? { ...machine, spec: { ...machine.spec, interfaceName: "cali1" } } : machine;
}

/** A law that never sees a kind of packet proves nothing about it. */
const KINDS_SEEN = [
  "plain accept",
  "plain drop",
  "plain accept at a machine",
  "plain drop at a machine",
  "forged drop at a machine",
  "forged drop",
  "forged established drop",
  // From a source prefix. Of those that begin a flow most are dropped by the egress policy, which the law sees by the counters.
  "forged established accept",
  "unknown drop",
  "loopback drop",
  "to-node accept",
  "to-node drop",
  "discovery accept",
  "discovery drop",
  "established accept",
  "invalid drop",
];

/** The programs of legacy iptables take some milliseconds to tell their counters: they are asked once for some packets. */
const DATAPLANES: readonly {
  readonly name: string;
  readonly packets: number;
  /** So many are sent before what decided is looked at. */
  readonly together: number;
  readonly open: (node: Namespace) => LawBackend;
}[] = [
  { name: "nftables", packets: 20_000, together: 20, open: nftablesBackend },
  { name: "iptables-nft", packets: 20_000, together: 100, open: (node) => iptablesBackend(node, "nft") },
  { name: "iptables-legacy", packets: 20_000, together: 100, open: (node) => iptablesBackend(node, "legacy") },
  { name: "ebpf", packets: 20_000, together: 20, open: ebpfBackend },
];

for (const { name, packets, together, open } of DATAPLANES) {
  const wanted = LONG_RUN === undefined ? packets : Number(LONG_RUN);
  test(
    `${wanted} packets: semantics = evaluate = ${name}, what decided included`,
    async () => {
      const names = [
        "node",
        "world",
        ...Array.from({ length: MACHINE_SLOTS }, (_, i) => `machine${i}`),
        ...Array.from({ length: POD_SLOTS + 1 }, (_, i) => `pod${i}`),
      ];
      const namespaces = names.map(makeNamespace);
      try {
        await hold(namespaces, open, wanted, together);
      } finally {
        for (const namespace of namespaces) removeNamespace(namespace);
      }
    },
    300_000 + wanted * 20,
  );
}

async function hold(
  namespaces: readonly Namespace[],
  open: (node: Namespace) => LawBackend,
  packets: number,
  together: number,
): Promise<void> {
  const [node, world, ...others] = namespaces as readonly [Namespace, Namespace, ...Namespace[]];
  const bench = build(node, world, others.slice(MACHINE_SLOTS), others.slice(0, MACHINE_SLOTS));
  const backend = open(node);
  const law = new Law(bench, backend);
  try {
    for (let round = 0; law.checked < packets; round++) {
      // Even seeds have Kubernetes' policies alone.
      const cluster = randomCluster(2 * (SEED + round) + ((SEED + round) % 4 === 2 ? 0 : 1));
      const random = new Random(SEED + round);
      const places = await law.load(cluster);
      const most = Math.min(PACKETS_PER_CLUSTER, Math.ceil(packets / FEWEST_CLUSTERS));
      const traffic = [...trafficOf(cluster, places, most, random)];
      for (const packets of sentTogether(traffic, together, backend.connections)) {
        try {
          law.check(packets);
        } catch (error) {
          console.error(`the law does not hold; repeat with LAW_SEED=${SEED + round}`);
          throw error;
        }
      }
      await law.compareCounters();
    }
    expectSeen(law, packets);
  } finally {
    law.close();
  }
}

/** In order, so many at once; of one flow only one, where the first of them makes the dataplane know it. */
function* sentTogether(
  traffic: readonly Sent[],
  most: number,
  connections: LawConnections | undefined,
): Generator<readonly Sent[]> {
  let packets: Sent[] = [];
  let flows = new Set<string>();
  for (const sent of traffic) {
    const flow = connections?.flowOf(sent);
    if (packets.length === most || (flow !== undefined && flows.has(flow))) {
      yield packets;
      [packets, flows] = [[], new Set()];
    }
    packets.push(sent);
    if (flow !== undefined) flows.add(flow);
  }
  if (packets.length > 0) yield packets;
}

/** So many different clusters at least. */
const FEWEST_CLUSTERS = 40;
/** Fewer packets do not meet everything. */
const ENOUGH = 20_000;

function expectSeen(law: Law, packets: number): void {
  expect(law.checked).toBeGreaterThanOrEqual(packets);
  expect(law.staged).toBeGreaterThan(packets / 20);
  if (packets < ENOUGH) return;
  for (const seen of KINDS_SEEN) expect(`${seen}: ${(law.kinds.get(seen) ?? 0) > 20}`).toBe(`${seen}: true`);
  for (const action of ["allow", "deny", "pass", "log"]) {
    const rules = [...law.decisions].filter(([text]) => text.startsWith(`: ${action} `));
    expect(`${action}: ${rules.reduce((sum, [, count]) => sum + count, 0) > 100}`).toBe(`${action}: true`);
  }
  const { lines, missing } = law.rules.table(readFileSync(new URL("../../docs/semantics.md", import.meta.url), "utf8"));
  console.log(lines.join("\n"));
  expect(missing).toEqual([]);
}
