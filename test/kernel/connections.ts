/** connections: entries of the kernel's table as tests write them, put in by the thousand and listed. */
import type { Sys } from "../../src/host/sys.ts";
import { ConntrackTable } from "../../src/kernel/conntrack.ts";
import {
  CTA_PROTO_DST_PORT,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  CTA_ZONE,
} from "../../src/kernel/conntrack-entry.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../src/kernel/netlink/socket.ts";
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, type Writer } from "../../src/kernel/netlink/writer.ts";
import { type Addr, addrBytes, familyOf } from "../../src/net/addr.ts";
import { ICMP, ICMPV6, TCP } from "../../src/net/protocol.ts";

export interface Connection {
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Where replies come from. */
  readonly replySource?: string;
  readonly replyPort?: number;
  readonly zone?: number;
}

const CONNTRACK_NEW = 1 << 8;
const [CTA_STATUS, CTA_PROTOINFO, CTA_TIMEOUT] = [3, 4, 7];
/** IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED. */
const STATUS = 2 | 4 | 8;
/** TCP_CONNTRACK_ESTABLISHED. */
const ESTABLISHED = 3;
const BATCH = 1000;
/** Of ICMP and ICMPv6: question and answer, and the numbers of their attributes id, type and code. */
const ECHO: ReadonlyMap<number, readonly [readonly [number, number], readonly [number, number, number]]> = new Map([
  [
    ICMP,
    [
      [8, 0],
      [4, 5, 6],
    ],
  ],
  [
    ICMPV6,
    [
      [128, 129],
      [7, 8, 9],
    ],
  ],
]);

function writeTuple(
  w: Writer,
  type: number,
  { protocol }: Connection,
  ends: readonly [string, number, string, number],
): void {
  const [source, sourcePort, destination, destinationPort] = ends;
  const is4 = familyOf(source as Addr) === 4;
  const tuple = w.open(type);
  const ip = w.open(CTA_TUPLE_IP);
  w.bytesOf(is4 ? 1 : 3, addrBytes(source as Addr));
  w.bytesOf(is4 ? 2 : 4, addrBytes(destination as Addr));
  w.close(ip);
  const proto = w.open(CTA_TUPLE_PROTO);
  w.u8(CTA_PROTO_NUM, protocol);
  const echo = ECHO.get(protocol);
  if (echo === undefined) {
    w.u16Be(CTA_PROTO_SRC_PORT, sourcePort);
    w.u16Be(CTA_PROTO_DST_PORT, destinationPort);
  } else {
    const [types, [id, icmpType, icmpCode]] = echo;
    w.u16Be(id, Math.max(sourcePort, destinationPort));
    w.u8(icmpType, type === CTA_TUPLE_ORIG ? types[0] : types[1]);
    w.u8(icmpCode, 0);
  }
  w.close(proto);
  w.close(tuple);
}

/** Established connections; throws when the kernel refuses one. */
export function insertConnections(sys: Sys, connections: readonly Connection[]): void {
  const socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  for (let i = 0; i < connections.length; i += BATCH) {
    socket.begin();
    for (const each of connections.slice(i, i + BATCH)) {
      const { source, sourcePort, destination, destinationPort } = each;
      socket.message(CONNTRACK_NEW, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
      const w = socket.writer;
      w.putU8(w.header(4), familyOf(source as Addr) === 4 ? 2 : 10);
      writeTuple(w, CTA_TUPLE_ORIG, each, [source, sourcePort, destination, destinationPort]);
      const answers = [each.replySource ?? destination, each.replyPort ?? destinationPort, source, sourcePort] as const;
      writeTuple(w, CTA_TUPLE_REPLY, each, answers);
      w.u32Be(CTA_TIMEOUT, 1000);
      w.u32Be(CTA_STATUS, STATUS);
      if (each.zone !== undefined) w.u16Be(CTA_ZONE, each.zone);
      if (each.protocol !== TCP) continue;
      const info = w.open(CTA_PROTOINFO);
      const tcp = w.open(1);
      w.u8(1, ESTABLISHED);
      w.close(tcp);
      w.close(info);
    }
    const { refused } = socket.exchange("insert", "connections");
    for (const { errno, detail } of refused.values()) throw new Error(`cannot insert a connection: ${errno} ${detail}`);
  }
  socket.close();
}

/** `6 10.65.0.1:1000>10.65.0.2:80`, as the first packet had it. */
export function listConnections(sys: Sys): string[] {
  const table = new ConntrackTable(sys);
  const found: string[] = [];
  const steps = table.reading("test", (entry) => {
    const { source, destination, protocol, sourcePort = 0, destinationPort = 0 } = entry.original;
    found.push(`${protocol} ${entry.addr(source)}:${sourcePort}>${entry.addr(destination)}:${destinationPort}`);
  });
  while (steps.next().done !== true);
  table.close();
  return found.sort();
}

export function nameOf({ protocol, source, sourcePort, destination, destinationPort }: Connection): string {
  const hasPorts = !ECHO.has(protocol);
  return `${protocol} ${source}:${hasPorts ? sourcePort : 0}>${destination}:${hasPorts ? destinationPort : 0}`;
}
