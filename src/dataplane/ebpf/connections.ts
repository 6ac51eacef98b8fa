/** connections: the flows that the data path knows, as bytes of the map `connections`, both ways: the same as bpf/layout.h. */
import { type Addr, addrBytes, addrFromBytes, type Family, familyOf } from "../../net/addr.ts";
import type { FlowPacket, Icmp } from "../../net/flow.ts";
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP, UDPLITE } from "../../net/protocol.ts";
import { viewOf } from "./layout.ts";

export const CONNECTION_KEY_BYTES = 40;
export const CONNECTION_BYTES = 88;

/** Bits of a connection's flags. */
export const ANSWERED = 1;
export const CALLER_FINISHED = 2;
export const ANSWERER_FINISHED = 4;
export const RESET = 8;
export const CUT = 16;
export const PICKED_UP = 32;

const END_KINDS = ["outside", "workload", "node"] as const;

/** One end of a flow. */
export interface FlowEnd {
  readonly kind: (typeof END_KINDS)[number];
  /** The interface of the workload, or of the node by which the other end is reached; 0: not known, or the node itself. */
  readonly interfaceIndex: number;
}

/** The first packet of a flow as it leaves the node, all translations done. */
export interface ConnectionKey {
  readonly protocol: Protocol;
  /** 0 where the protocol has none; of an echo both are the identifier, in network order. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly source: Addr;
  readonly destination: Addr;
}

export interface Connection {
  /** Nanoseconds since boot. */
  readonly seen: bigint;
  readonly flags: number;
  readonly ends: readonly [FlowEnd, FlowEnd];
  /** The tuple before translation of a flow to the node, by which the node's answers are known. */
  readonly isAlias: boolean;
  /** As it was sent. */
  readonly original: {
    readonly source: Addr;
    readonly destination: Addr;
    readonly sourcePort: number;
    readonly destinationPort: number;
    readonly icmp: Icmp;
  };
}

/** Ports and addresses stand in the map by side: source first. */
export function encodeConnectionKey(key: ConnectionKey): Uint8Array {
  const bytes = new Uint8Array(CONNECTION_KEY_BYTES);
  const view = viewOf(bytes);
  bytes[0] = familyOf(key.source);
  bytes[1] = key.protocol;
  view.setUint16(4, key.sourcePort, true);
  view.setUint16(6, key.destinationPort, true);
  bytes.set(addrBytes(key.source), 8);
  bytes.set(addrBytes(key.destination), 24);
  return bytes;
}

export function decodeConnectionKey(bytes: Uint8Array): ConnectionKey {
  const view = viewOf(bytes);
  const family = view.getUint8(0) as Family;
  return {
    protocol: view.getUint8(1) as Protocol,
    sourcePort: view.getUint16(4, true),
    destinationPort: view.getUint16(6, true),
    source: addrAt(bytes, 8, family),
    destination: addrAt(bytes, 24, family),
  };
}

export function encodeConnection({ seen, flags, ends, isAlias, original }: Connection): Uint8Array {
  const bytes = new Uint8Array(CONNECTION_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(0, seen, true);
  bytes[8] = flags;
  for (const [i, { kind, interfaceIndex }] of ends.entries()) {
    bytes[9 + i] = END_KINDS.indexOf(kind);
    view.setUint32(12 + 4 * i, interfaceIndex, true);
  }
  bytes[11] = isAlias ? 1 : 0;
  view.setUint16(20, original.sourcePort, true);
  view.setUint16(22, original.destinationPort, true);
  bytes[24] = original.icmp.type;
  bytes[25] = original.icmp.code;
  bytes.set(addrBytes(original.source), 32);
  bytes.set(addrBytes(original.destination), 48);
  return bytes;
}

export function decodeConnection(bytes: Uint8Array, family: Family): Connection {
  const view = viewOf(bytes);
  const end = (i: number): FlowEnd => ({
    kind: END_KINDS[view.getUint8(9 + i)] ?? "outside",
    interfaceIndex: view.getUint32(12 + 4 * i, true),
  });
  return {
    seen: view.getBigUint64(0, true),
    flags: view.getUint8(8),
    ends: [end(0), end(1)],
    isAlias: view.getUint8(11) !== 0,
    original: {
      source: addrAt(bytes, 32, family),
      destination: addrAt(bytes, 48, family),
      sourcePort: view.getUint16(20, true),
      destinationPort: view.getUint16(22, true),
      icmp: { type: view.getUint8(24), code: view.getUint8(25) },
    },
  };
}

/** How long packets go past the host stack before one of them has to pass it again, as in bpf/flows.h: some 15 s. */
const WAY_SHIFT = 20n;
const WAY_LIFE = 14_305;

/** Whether packets of the flow go past the host stack now, in one direction at least. `now`: nanoseconds since boot. */
export function goesPast(value: Uint8Array, now: bigint): boolean {
  return wasPast(value, now, WAY_LIFE);
}

/** Whether some may have done so within the last seconds. */
export function wentPast(value: Uint8Array, now: bigint, seconds: number): boolean {
  return wasPast(value, now, WAY_LIFE + Math.ceil((seconds * 1e9) / 2 ** 20));
}

function wasPast(value: Uint8Array, now: bigint, most: number): boolean {
  const view = viewOf(value);
  const unit = Number((now >> WAY_SHIFT) & 0xffff_ffffn);
  return [0, 1].some((by) => {
    const [to, opened] = [view.getUint32(64 + 8 * by, true), view.getUint32(80 + 4 * by, true)];
    // A processor's clock may be ahead of the one that is read, which is exact to 10 ms.
    return to !== 0 && ((unit - opened) | 0) < most;
  });
}

function addrAt(bytes: Uint8Array, at: number, family: Family): Addr {
  return addrFromBytes(bytes.subarray(at, at + (family === 4 ? 4 : 16)));
}

const WITH_PORTS: ReadonlySet<Protocol> = new Set([TCP, UDP, SCTP, UDPLITE]);

/** The first packet of the flow, as it was sent and as policy saw it: the source before, the destination after translation. */
export function firstPacketOf(
  key: ConnectionKey,
  { original }: Connection,
): { readonly original: FlowPacket; readonly packet: FlowPacket } {
  const { protocol } = key;
  const hasPorts = WITH_PORTS.has(protocol);
  const sent: FlowPacket = {
    source: original.source,
    destination: original.destination,
    protocol,
    sourcePort: hasPorts ? original.sourcePort : undefined,
    destinationPort: hasPorts ? original.destinationPort : undefined,
    ...(protocol === ICMP || protocol === ICMPV6 ? { icmp: original.icmp } : {}),
  };
  const destinationPort = hasPorts ? key.destinationPort : undefined;
  return { original: sent, packet: { ...sent, destination: key.destination, destinationPort } };
}

/** What has become of a flow; `over`: it is not known any more, and its place is free. */
export type FlowState = "new" | "answered" | "closing" | "closed" | "cut" | "over";

/** As bpf/flows.h says. `now`: nanoseconds since boot. */
export function stateOf({ protocol }: ConnectionKey, { seen, flags }: Connection, now: bigint): FlowState {
  const has = (bit: number): boolean => (flags & bit) !== 0;
  const isClosed = has(RESET) || (has(CALLER_FINISHED) && has(ANSWERER_FINISHED));
  const state = has(CUT)
    ? "cut"
    : isClosed
      ? "closed"
      : has(CALLER_FINISHED) || has(ANSWERER_FINISHED)
        ? "closing"
        : has(ANSWERED)
          ? "answered"
          : "new";
  return now - seen < BigInt(lifetimeSeconds(protocol, state)) * 1_000_000_000n ? state : "over";
}

/** How long a flow is known without a packet. */
function lifetimeSeconds(protocol: Protocol, state: FlowState): number {
  if (state === "cut") return 5;
  switch (protocol) {
    case TCP:
      return state === "closed" ? 30 : state === "new" ? 20 : 432_000;
    case UDP:
    case UDPLITE:
      return 60;
    case ICMP:
    case ICMPV6:
      return 5;
    default:
      return 600;
  }
}
