/**
 * The table of connections against a model: random sequences of packets between two pods, in both families: states of TCP, ports used again,
 * errors inside flows, packets in pieces, time that passes, and policy that changes. MODEL_SEED begins elsewhere, MODEL_STEPS makes it longer.
 *
 * Time passes by making what the map has seen older. Packets whose fate depends on less than a few seconds are left out.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { decodeConnection, decodeConnectionKey } from "../../src/dataplane/ebpf/connections.ts";
import { type Addr, familyOf } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { ICMP, ICMPV6, SCTP, TCP, UDP } from "../../src/net/protocol.ts";
import type { Atom, Policy, PolicyId, Rule, Stage } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { Random } from "../property/random.ts";
import { EbpfBench } from "./ebpf-bench.ts";
import { encodePacket, ipPacket, turned } from "./wire.ts";

const STEPS = Number(process.env["MODEL_STEPS"] ?? "4000");
const SEED = Number(process.env["MODEL_SEED"] ?? "20261130");

const PODS = [
  ["10.65.0.1", "fd00:65::1"],
  ["10.65.0.2", "fd00:65::2"],
] as readonly (readonly string[])[] as readonly (readonly Addr[])[];
/** Few, so that they are used again. */
const PORTS = [1000, 1001, 2000, 2001];
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const TCP_FLAGS = [SYN, SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, 0];

/** Destination ports that each pod may call, policy by policy. */
const POLICIES: readonly (readonly (readonly number[])[])[] = [
  [[1000, 1001], [2000]],
  [[1000], [2000, 1001]],
];

// ---- the model

const [ANSWERED, CALLER_FINISHED, ANSWERER_FINISHED, RESET] = [1, 2, 4, 8];

interface Flow {
  flags: number;
  /** Seconds. */
  seen: number;
}

interface Packet extends FlowPacket {
  readonly tcpFlags: number;
  /** Of the pieces of a packet; undefined: it is whole. */
  readonly piece?: { readonly identification: number; readonly isFirst: boolean };
  /** It is an error about that one. */
  readonly about?: FlowPacket;
}

class Model {
  readonly flows = new Map<string, Flow>();
  readonly #pieces = new Map<string, number>();
  readonly #offset = performance.now();
  #passed = 0;
  allowed: readonly (readonly number[])[] = POLICIES[0] ?? [];
  /** What was asked last depends on a few seconds. */
  isClose = false;

  get #now(): number {
    return this.#passed + (performance.now() - this.#offset) / 1000;
  }

  pass(seconds: number): void {
    this.#passed += seconds;
  }

  lifetime(protocol: number, flags: number): number {
    if (protocol === TCP) return isClosed(flags) ? 30 : (flags & ANSWERED) !== 0 ? 432_000 : 20;
    return protocol === UDP ? 60 : protocol === ICMP || protocol === ICMPV6 ? 5 : 600;
  }

  find(key: string): Flow | undefined {
    const flow = this.flows.get(key);
    if (flow === undefined) return undefined;
    const left = this.lifetime(Number(key.split(" ")[0]), flow.flags) - (this.#now - flow.seen);
    if (Math.abs(left) < 3) this.isClose = true;
    return left > 0 ? flow : undefined;
  }

  #refresh(flow: Flow, tcpFlags: number, isAnswer: boolean): void {
    if (isAnswer) flow.flags |= ANSWERED;
    if ((tcpFlags & FIN) !== 0) flow.flags |= isAnswer ? ANSWERER_FINISHED : CALLER_FINISHED;
    if ((tcpFlags & RST) !== 0) flow.flags |= RESET;
    if (this.#now - flow.seen > 1) flow.seen = this.#now;
  }

  /** Whether it arrives. */
  send(packet: Packet): boolean {
    this.isClose = false;
    const { piece } = packet;
    const name = `${packet.source} ${packet.destination} ${piece?.identification}`;
    if (piece !== undefined && !piece.isFirst) {
      const passed = this.#pieces.get(name);
      const left = passed === undefined ? -100 : 30 - (this.#now - passed);
      if (Math.abs(left) < 3) this.isClose = true;
      return left > 0;
    }
    const passes = packet.about === undefined ? this.#judge(packet) : this.#error(packet, packet.about);
    if (passes && piece !== undefined && !this.isClose) this.#pieces.set(name, this.#now);
    return passes;
  }

  #error(packet: Packet, about: FlowPacket): boolean {
    const isToSender = packet.destination === about.source;
    return isToSender && (this.find(keyOf(about)) ?? this.find(keyOf(turned(about)))) !== undefined;
  }

  #judge(packet: Packet): boolean {
    const { protocol, tcpFlags } = packet;
    const isTcp = protocol === TCP;
    const opens = isTcp && (tcpFlags & (SYN | ACK | RST | FIN)) === SYN;
    const [key, other] = [keyOf(packet), keyOf(turned(packet))];
    if (!opens) {
      const asked = this.find(other);
      if (this.isClose) return false;
      if (asked !== undefined) {
        this.#refresh(asked, tcpFlags, true);
        return true;
      }
      const own = this.find(key);
      if (this.isClose) return false;
      if (own !== undefined) {
        this.#refresh(own, tcpFlags, false);
        if ((own.flags & ANSWERED) !== 0) return true;
      }
      if (isTcp) return false;
    }
    const from = PODS.findIndex((pod) => pod.includes(packet.source));
    const isEcho = protocol === ICMP || protocol === ICMPV6;
    const isAllowed = isEcho ? from === 0 : this.allowed[from]?.includes(packet.destinationPort ?? 0) === true;
    if (!isAllowed) return false;
    const known = this.find(key);
    if (this.isClose) return false;
    if (known !== undefined && !(opens && isClosed(known.flags))) this.#refresh(known, tcpFlags, false);
    else this.flows.set(key, { flags: 0, seen: this.#now });
    return true;
  }
}

function isClosed(flags: number): boolean {
  const both = CALLER_FINISHED | ANSWERER_FINISHED;
  return (flags & RESET) !== 0 || (flags & both) === both;
}

/** Echoes of the bench have the identifier 1. */
function keyOf({ protocol, source, sourcePort, destination, destinationPort }: FlowPacket): string {
  return [protocol, source, sourcePort ?? 0x0100, destination, destinationPort ?? 0x0100].join(" ");
}

// ---- the bench

let bench: EbpfBench;

function program(allowed: readonly (readonly number[])[]): Program {
  const policies = new Map<PolicyId, Policy>();
  const endpoints = new Map<EndpointId, Endpoint>();
  for (const [i, addresses] of PODS.entries()) {
    const source = { kind: "NetworkPolicy", namespace: "a", name: `p${i}` } as const;
    const id = `NetworkPolicy/a/p${i}` as PolicyId;
    const called = (allowed[i] ?? []).flatMap((port) =>
      [TCP, UDP, SCTP].map((protocol): Atom => ({ on: "ports", side: "destination", protocol, from: port, to: port })),
    );
    const echoes = i === 0 ? [ICMP, ICMPV6] : [];
    const any = [
      ...called,
      ...echoes.flatMap((protocol) =>
        [8, 0, 128, 129].map((type): Atom => ({ on: "icmp", protocol, type, code: undefined })),
      ),
    ];
    const egress: Rule[] = [
      { id: { source, direction: "egress", index: 0 }, when: [{ not: false, any }], action: "allow" },
    ];
    policies.set(id, { source, tier: "default", ingress: undefined, egress, error: undefined });
    const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
    const asked: Stage = {
      tiers: [{ tier: "default", policies: [id], otherwise: "deny" }],
      profiles: [],
      otherwise: "deny",
    };
    endpoints.set(`cali${i}` as EndpointId, {
      kind: "workload",
      source: { kind: "Pod", namespace: "a", name: `p${i}` },
      addresses,
      stages: { normal: { ingress: open, egress: asked } },
    });
  }
  return { settings: DEFAULT_SETTINGS, sets: new Map(), policies, endpoints, routes: new Map() };
}

beforeAll(() => {
  bench = new EbpfBench(PODS.map((addresses, i) => ({ interface: `cali${i}`, addresses })));
});
afterAll(() => bench.close());

function randomPacket(random: Random, recent: readonly FlowPacket[]): Packet {
  const family = random.below(2);
  const from = random.below(2);
  const [source, destination] = [PODS[from]?.[family], PODS[1 - from]?.[family]];
  if (source === undefined || destination === undefined) throw new Error("no address");
  const icmp = family === 0 ? ICMP : ICMPV6;
  const protocol = random.pick([TCP, TCP, TCP, UDP, SCTP, icmp]);
  const fresh: FlowPacket =
    protocol === icmp
      ? {
          source,
          destination,
          protocol,
          sourcePort: undefined,
          destinationPort: undefined,
          icmp: { type: random.pick(family === 0 ? [0, 8] : [128, 129]), code: 0 },
        }
      : { source, destination, protocol, sourcePort: random.pick(PORTS), destinationPort: random.pick(PORTS) };
  const old = recent.length === 0 ? undefined : random.pick(recent);
  // Most belong to a flow of before, in either direction.
  const packet = old === undefined || random.chance(30) ? fresh : random.chance(50) ? old : turned(old);
  const kind = random.below(20);
  if (kind === 0 && old !== undefined) {
    const about = random.chance(50) ? old : turned(old);
    const error = familyOf(about.source) === 4 ? ICMP : ICMPV6;
    const isToSender = random.chance(80);
    return {
      source: isToSender ? about.destination : about.source,
      destination: isToSender ? about.source : about.destination,
      protocol: error,
      sourcePort: undefined,
      destinationPort: undefined,
      icmp: { type: error === ICMP ? 3 : 1, code: 3 },
      tcpFlags: 0,
      about,
    };
  }
  if (kind <= 2 && packet.protocol === UDP)
    return { ...packet, tcpFlags: 0, piece: { identification: random.below(4), isFirst: random.chance(50) } };
  return { ...packet, tcpFlags: packet.protocol === TCP ? random.pick(TCP_FLAGS) : 0 };
}

function encode(packet: Packet, own: number): Uint8Array {
  const { source, destination, protocol, about, piece } = packet;
  if (about !== undefined) {
    const head = Uint8Array.from([packet.icmp?.type ?? 0, packet.icmp?.code ?? 0, 0, 0, 0, 0, 0, 0]);
    return ipPacket(source, destination, protocol, Uint8Array.from([...head, ...encodePacket(about, own)]));
  }
  if (piece !== undefined) return fragment(packet, piece, own);
  const body = encodePacket(packet, own);
  if (protocol === TCP) body[(familyOf(source) === 4 ? 20 : 40) + 13] = packet.tcpFlags;
  return body;
}

/** The first or the last piece of a UDP packet. */
function fragment(
  packet: Packet,
  { identification, isFirst }: { identification: number; isFirst: boolean },
  own: number,
): Uint8Array {
  const { source, destination } = packet;
  const payload = new Uint8Array(isFirst ? 16 : 8);
  const view = new DataView(payload.buffer);
  if (isFirst)
    for (const [i, value] of [packet.sourcePort ?? 0, packet.destinationPort ?? 0, 20, 0].entries())
      view.setUint16(2 * i, value);
  view.setUint32(payload.length - 4, own);
  return ipPacket(source, destination, UDP, payload, { identification, isFirst });
}

function arrives(packet: Packet): Promise<boolean> {
  const from = PODS.findIndex((pod) => pod.includes(packet.source));
  return bench.passes(from, 1 - from, (own) => encode(packet, own));
}

/** Right after its interfaces have come, a node loses packets of IPv6. */
async function awaitRoutes(): Promise<void> {
  for (const source of PODS[0] ?? []) {
    const destination = PODS[1]?.find((addr) => familyOf(addr) === familyOf(source));
    if (destination === undefined) throw new Error("no address");
    const end = performance.now() + 10_000;
    for (let isThere = false; !isThere; await Bun.sleep(1)) {
      if (performance.now() > end) throw new Error(`nothing arrives at ${destination}`);
      const own = bench.nextMarker();
      bench.port(0).send({ source, destination, protocol: UDP, sourcePort: 1000, destinationPort: 1000 }, own);
      isThere = bench.port(1).markers().includes(own) === true;
    }
  }
  bench.driver.maps.connections.deleteAll(bench.driver.maps.connections.entries().map(({ key }) => key));
}

function makeOlder(seconds: number): void {
  const by = BigInt(Math.round(seconds * 1e9));
  for (const map of [bench.driver.maps.connections, bench.driver.maps.fragments])
    for (const { key, value } of map.entries()) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      const seen = view.getBigUint64(0, true);
      // Nothing is older than the machine.
      if (seen > by) view.setBigUint64(0, seen - by, true);
      else map.delete(key);
      if (seen > by) map.update(key, value);
    }
}

function tableOf(): Map<string, number> {
  return new Map(
    bench.driver.maps.connections.entries().map(({ key, value }) => {
      const { protocol, source, sourcePort, destination, destinationPort } = decodeConnectionKey(key);
      const text = [protocol, source, sourcePort, destination, destinationPort].join(" ");
      return [text, decodeConnection(value, familyOf(source)).flags];
    }),
  );
}

/** The flows that live, and their flags. */
function compare(model: Model): void {
  const table = tableOf();
  for (const key of model.flows.keys()) {
    model.isClose = false;
    const flow = model.find(key);
    if (model.isClose || flow === undefined) continue;
    expect([key, table.get(key)]).toEqual([key, flow.flags]);
  }
}

test(
  `${STEPS} packets: the path lets through what the model does`,
  async () => {
    const random = new Random(SEED);
    const model = new Model();
    const recent: FlowPacket[] = [];
    const history: string[] = [];
    const counts = new Map<string, number>();
    bench.commit(program(model.allowed));
    // Where the kernel tracks connections, it puts the pieces of packets together before they are forwarded.
    bench.node.run(["nft", "delete", "table", "inet", "calico-guard"]);
    await awaitRoutes();
    for (let step = 0; step < STEPS; step++) {
      if (random.chance(4)) {
        const seconds = random.pick([2, 9, 16, 40, 90, 700]);
        model.pass(seconds);
        makeOlder(seconds);
        history.push(`${seconds} s pass`);
      }
      if (random.chance(2)) {
        model.allowed = random.pick(POLICIES);
        bench.commit(program(model.allowed));
        history.push(`policy ${JSON.stringify(model.allowed)}`);
      }
      const packet = randomPacket(random, recent.slice(-6));
      const before = new Map([...model.flows].map(([key, flow]) => [key, { ...flow }]));
      const expected = model.send(packet);
      if (model.isClose) {
        model.flows.clear();
        for (const [key, flow] of before) model.flows.set(key, flow);
        continue;
      }
      if (packet.about === undefined) recent.push(packet);
      const { tcpFlags, piece, about, ...fields } = packet;
      history.push(JSON.stringify({ ...fields, tcpFlags, piece, about, expected }));
      const arrived = await arrives(packet);
      if (arrived !== expected)
        throw new Error(`seed ${SEED}, step ${step}: arrived ${arrived}\n${history.slice(-30).join("\n")}`);
      const what = `${about !== undefined ? "error" : piece !== undefined ? "piece" : packet.protocol} ${arrived}`;
      counts.set(what, (counts.get(what) ?? 0) + 1);
      if (step % 50 === 0) compare(model);
    }
    compare(model);
    for (const kind of [TCP, UDP, SCTP, ICMP, ICMPV6, "error", "piece"])
      for (const arrived of [true, false])
        if (STEPS >= 4000 && !(arrived === false && kind === "error"))
          expect(`${kind} ${arrived}: ${(counts.get(`${kind} ${arrived}`) ?? 0) > 5}`).toBe(`${kind} ${arrived}: true`);
  },
  60_000 + STEPS * 20,
);
