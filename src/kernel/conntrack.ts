/**
 * conntrack: the kernel's table of connections, as far as one address is concerned.
 *
 * Deletes exactly the entries that it saw (by tuple, zone and id), so that a connection made meanwhile between the same ports stays.
 * Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
 */
import type { Sys } from "../host/sys.ts";
import { type Addr, addrBytes, type Family, familyOf } from "../net/addr.ts";
import { ENOENT, KernelError } from "./errno.ts";
import type { Message, Span } from "./netlink/reader.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "./netlink/socket.ts";
import { NLM_F_ACK, type Writer } from "./netlink/writer.ts";

const SUBSYSTEM = 1;
const GET = (SUBSYSTEM << 8) | 1;
const DELETE = (SUBSYSTEM << 8) | 2;
/** Of struct nfgenmsg. */
const NFGENMSG = 4;
const ADDRESS_FAMILY: { readonly [F in Family]: number } = { 4: 2, 6: 10 };

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_TUPLE_IP = 1;
/** CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS are the numbers of the tuples. */
const SIDES = [
  { attribute: { 4: 1, 6: 3 }, flag: 1 }, // CTA_IP_V4_SRC, CTA_IP_V6_SRC
  { attribute: { 4: 2, 6: 4 }, flag: 2 }, // CTA_IP_V4_DST, CTA_IP_V6_DST
] as const;
type Side = (typeof SIDES)[number];

interface Entry {
  readonly id: string;
  readonly tuple: Uint8Array;
  readonly idBytes: Uint8Array | undefined;
  readonly zone: Uint8Array | undefined;
}

/**
 * Deletes the connections with the address as source or destination, in either direction (so also behind a translation), in
 * the thread's network namespace. Returns how many. Throws KernelError.
 */
export function deleteFlowsOf(sys: Sys, addr: Addr): number {
  const socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  try {
    const entries = new Map<string, Entry>();
    for (const tuple of [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY]) {
      for (const side of SIDES) for (const entry of find(socket, addr, tuple, side)) entries.set(entry.id, entry);
    }
    return deleteEntries(socket, familyOf(addr), addr, [...entries.values()]);
  } finally {
    socket.close();
  }
}

function encodeHeader(w: Writer, family: Family): void {
  w.putU8(w.header(NFGENMSG), ADDRESS_FAMILY[family]);
}

/** Entries with the address on that side of that tuple. Kernels before 5.9 ignore the filter, so it is applied here too. */
function find(socket: NetlinkSocket, addr: Addr, tuple: number, side: Side): Entry[] {
  const family = familyOf(addr);
  const wanted = addrBytes(addr);
  const write = (w: Writer): void => {
    encodeHeader(w, family);
    const outer = w.open(tuple);
    const ip = w.open(CTA_TUPLE_IP);
    w.bytesOf(side.attribute[family], wanted);
    w.close(ip);
    w.close(outer);
    const filter = w.open(CTA_FILTER);
    w.u32(tuple, side.flag);
    w.close(filter);
  };
  return socket.dump("list connections of", addr, GET, write, (message) => decode(message, tuple, side.attribute[family], wanted));
}

function decode(message: Message, tuple: number, attribute: number, wanted: Uint8Array): Entry | undefined {
  const attributes = message.body.after(NFGENMSG)?.attributes();
  const found = attributes?.get(tuple)?.attributes()?.get(CTA_TUPLE_IP)?.attributes()?.get(attribute);
  const original = attributes?.get(CTA_TUPLE_ORIG);
  if (found === undefined || original === undefined || !sameBytes(found, wanted)) return undefined;
  const idBytes = attributes?.get(CTA_ID)?.copy();
  const zone = attributes?.get(CTA_ZONE);
  return { id: `${zone?.hex() ?? ""} ${original.hex()}`, tuple: original.copy(), idBytes, zone: zone?.copy() };
}

function sameBytes(span: Span, wanted: Uint8Array): boolean {
  return span.length === wanted.length && wanted.every((byte, i) => span.u8(i) === byte);
}

/** Deletions in one send. */
const BATCH = 500;
/** NLA_F_NESTED. */
const NESTED = 0x8000;

function deleteEntries(socket: NetlinkSocket, family: Family, addr: Addr, entries: readonly Entry[]): number {
  let deleted = 0;
  for (let i = 0; i < entries.length; i += BATCH) {
    socket.begin();
    for (const entry of entries.slice(i, i + BATCH)) {
      socket.message(DELETE, NLM_F_ACK);
      encodeHeader(socket.writer, family);
      socket.writer.bytesOf(CTA_TUPLE_ORIG | NESTED, entry.tuple);
      if (entry.zone !== undefined) socket.writer.bytesOf(CTA_ZONE, entry.zone);
      if (entry.idBytes !== undefined) socket.writer.bytesOf(CTA_ID, entry.idBytes);
    }
    const { refused, done } = socket.exchange("delete connections of", addr);
    for (const { errno, detail } of refused.values()) {
      // ENOENT: it ended by itself.
      if (errno !== ENOENT) throw new KernelError("delete connections of", addr, errno, detail);
    }
    deleted += done.size;
  }
  return deleted;
}
