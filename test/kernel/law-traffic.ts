/** Traffic of the law: packets of every kind that a node can meet, near the edges of what the cluster's policies say. */
import { unwrap } from "../../src/lib/result.ts";
import { type Addr, familyOf } from "../../src/net/addr.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { parsePrefix, prefixContains } from "../../src/net/prefix.ts";
import { ICMPV6, TCP, UDP } from "../../src/net/protocol.ts";
import type { PathPacket } from "../../src/program/path-evaluate.ts";
import { hasPorts, randomPackets, type RandomCluster } from "../property/clusters.ts";
import type { Random } from "../property/random.ts";

export type Kind =
  | "plain"
  | "forged"
  | "forged established"
  | "unknown"
  | "loopback"
  | "to-node"
  | "discovery"
  | "established"
  | "invalid";

/** A packet, and where it is sent and should be seen. */
export interface Sent extends PathPacket {
  readonly kind: Kind;
  readonly from: string;
}

/** An address of a pod or WorkloadEndpoint of the node. */
export interface Place {
  readonly addr: Addr;
  readonly interface: string;
}

export const NODE = "n1";
/** The node's own addresses. */
export const OWN = ["203.0.113.1", "2001:db8:f::1"] as readonly string[] as readonly Addr[];
/** Routed to an interface with the name of a workload's, which no workload has. */
export const UNKNOWN = ["10.65.0.200", "fd00:65::c8"] as readonly string[] as readonly Addr[];
const UNKNOWN_INTERFACE = "cali6";
const WORLD = "world";
/** Connection tracking sees TCP and UDP from this port alone. */
export const TRACKED_PORT = 20_001;

/** Addresses that no router forwards: the kernel drops them before any rule. */
const MARTIAN = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "::ffff:0:0/96",
  "fe80::/10",
  "ff00::/8",
].map((text) => unwrap(parsePrefix(text)));

export function* trafficOf(
  cluster: RandomCluster,
  places: readonly Place[],
  count: number,
  random: Random,
): Generator<Sent> {
  for (const { packet } of randomPackets(cluster, count, random.below(2 ** 31))) {
    const sent = vary(packet, places, random);
    if (sent !== undefined && isPossible(sent)) yield sent;
  }
}

function isPossible({ kind, packet }: Sent): boolean {
  if (packet.source === packet.destination) return false;
  if (packet.sourcePort === TRACKED_PORT && !/established|invalid/.test(kind)) return false;
  const addresses = kind === "loopback" || kind === "discovery" ? [] : [packet.source, packet.destination];
  return !addresses.some((addr) => MARTIAN.some((prefix) => prefixContains(prefix, addr)));
}

/** Most packets as they are; now and then one of another kind. */
function vary(packet: FlowPacket, places: readonly Place[], random: Random): Sent | undefined {
  const plain = routed("plain", packet, places);
  switch (random.below(24)) {
    case 0:
    case 1:
      return forged(packet, places, random);
    case 2:
      return unknown(packet, plain, random);
    case 3:
      return loopback(packet, places, random);
    case 4:
    case 5:
      return { ...routed("to-node", { ...packet, destination: ownOf(packet.source) }, places), to: undefined };
    case 6:
      return discovery(places, random);
    case 7:
      return packet.protocol === UDP
        ? { ...routed("established", { ...packet, sourcePort: TRACKED_PORT }, places), connection: "established" }
        : plain;
    case 8:
      return packet.protocol === TCP
        ? { ...routed("invalid", { ...packet, sourcePort: TRACKED_PORT }, places), connection: "invalid" }
        : plain;
    default:
      return plain.from === WORLD && plain.to === WORLD ? undefined : plain;
  }
}

function ownOf(addr: Addr): Addr {
  return pick(OWN, addr);
}

function pick(addresses: readonly Addr[], like: Addr): Addr {
  const found = addresses.find((addr) => familyOf(addr) === familyOf(like));
  if (found === undefined) throw new Error(`no address of the family of ${like}`);
  return found;
}

/** Sent where its source is, and routed to where its destination is. */
function routed(kind: Kind, packet: FlowPacket, places: readonly Place[]): Sent {
  const at = (addr: Addr): string => places.find((place) => place.addr === addr)?.interface ?? WORLD;
  return {
    kind,
    original: packet,
    packet,
    from: at(packet.source),
    to: UNKNOWN.includes(packet.destination) ? UNKNOWN_INTERFACE : at(packet.destination),
    connection: "untracked",
  };
}

/** From a pod, with an address that is not its own. */
function forged(packet: FlowPacket, places: readonly Place[], random: Random): Sent | undefined {
  if (places.length === 0) return undefined;
  const { interface: from } = random.pick(places);
  const own = places.filter((place) => place.interface === from).map(({ addr }) => addr);
  if (own.includes(packet.source)) return undefined;
  const toNode = random.chance(30);
  const changed = toNode ? { ...packet, destination: ownOf(packet.source) } : packet;
  const sent = { ...routed("forged", changed, places), from };
  const forgery = toNode ? { ...sent, to: undefined } : sent;
  if (packet.protocol !== UDP || random.chance(30)) return forgery;
  // In a flow that somebody else began.
  const inFlow = { ...changed, sourcePort: TRACKED_PORT };
  return { ...forgery, kind: "forged established", original: inFlow, packet: inFlow, connection: "established" };
}

function unknown(packet: FlowPacket, plain: Sent, random: Random): Sent {
  if (random.chance(50)) return { ...plain, kind: "unknown", from: UNKNOWN_INTERFACE };
  const changed = { ...packet, destination: pick(UNKNOWN, packet.source) };
  return { ...plain, kind: "unknown", original: changed, packet: changed, to: UNKNOWN_INTERFACE };
}

/** The kernel drops what is for `::1` before any rule. */
function loopback(packet: FlowPacket, places: readonly Place[], random: Random): Sent | undefined {
  const place = places.find(({ addr }) => familyOf(addr) === 4);
  if (place === undefined) return undefined;
  const destination = random.pick(["127.0.0.1", "127.255.255.254", "127.0.0.53"]) as Addr;
  const { protocol, sourcePort, destinationPort } = packet;
  const changed: FlowPacket = hasPorts(protocol)
    ? { source: place.addr, destination, protocol, sourcePort, destinationPort }
    : { source: place.addr, destination, protocol: UDP, sourcePort: 1, destinationPort: 1 };
  return { ...routed("loopback", changed, places), to: undefined };
}

function discovery(places: readonly Place[], random: Random): Sent | undefined {
  if (places.length === 0) return undefined;
  const { interface: from } = random.pick(places);
  const source = random.pick(["fe80::1234", "fe80::1234", "::"]) as Addr;
  const destination = random.pick(["ff02::1", "ff02::2"]) as Addr;
  const type = random.pick([128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 142, 143, 144]);
  const icmp: FlowPacket = {
    source,
    destination,
    protocol: ICMPV6,
    sourcePort: undefined,
    destinationPort: undefined,
    icmp: { type, code: 0 },
  };
  const { icmp: _, ...rest } = icmp;
  const packet: FlowPacket = random.chance(85)
    ? icmp
    : { ...rest, protocol: UDP, sourcePort: 1, destinationPort: 5353 };
  return { kind: "discovery", original: packet, packet, from, to: undefined, connection: "untracked" };
}
