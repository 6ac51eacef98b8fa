/**
 * conntrack: the kernel's table of connections, as far as given addresses are concerned.
 *
 * The table is read in one pass, of some 15 ms and more (the kernel walks its whole hash table), so addresses are best given
 * together. The kernel's own filter is not used: it needs four passes, and for IPv6 some kernels invert its meaning. Entries
 * are deleted by tuple, zone and id, so that a connection made meanwhile between the same ports stays.
 * Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
 */
import type { Sys } from "../host/sys.ts";
import { type Addr, addrBytes } from "../net/addr.ts";
import { bytesToHex } from "../lib/bytes.ts";
import { ENOENT, KernelError } from "./errno.ts";
import type { Message, Span } from "./netlink/reader.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "./netlink/socket.ts";
import { NLA_F_NESTED, NLM_F_ACK } from "./netlink/writer.ts";
import { readSysctl } from "./sysctl.ts";

const SUBSYSTEM = 1;
export const CONNTRACK_GET = (SUBSYSTEM << 8) | 1;
export const CONNTRACK_DELETE = (SUBSYSTEM << 8) | 2;
/** Of struct nfgenmsg. */
const NFGENMSG = 4;

export const CTA_TUPLE_ORIG = 1;
export const CTA_TUPLE_REPLY = 2;
export const CTA_ID = 12;
const CTA_ZONE = 18;
export const CTA_TUPLE_IP = 1;

interface Entry {
  readonly family: number;
  readonly tuple: Uint8Array;
  readonly id: Uint8Array | undefined;
  readonly zone: Uint8Array | undefined;
}

/** `deleteFlows` of one address. */
export function deleteFlowsOf(sys: Sys, addr: Addr): number {
  return deleteFlows(sys, [addr]);
}

/**
 * Deletes the connections with one of the addresses as source or destination, in either direction (so also behind a
 * translation), in the thread's network namespace. Returns how many. Throws KernelError.
 */
export function deleteFlows(sys: Sys, addrs: readonly Addr[]): number {
  if (addrs.length === 0 || readSysctl(sys, "net/netfilter/nf_conntrack_count") === "0") return 0;
  const wanted = new Set(addrs.map((addr) => bytesToHex(addrBytes(addr))));
  const name = addrs.join(", ");
  const socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  try {
    // Family 0 asks for both.
    const entries = socket.dump(
      "list connections of",
      name,
      CONNTRACK_GET,
      (w) => void w.header(NFGENMSG),
      (message) => decode(message, wanted),
    );
    return deleteEntries(socket, name, entries);
  } finally {
    socket.close();
  }
}

function decode({ body }: Message, wanted: ReadonlySet<string>): Entry | undefined {
  const list = body.after(NFGENMSG);
  if (list === undefined || !concerns(list, wanted)) return undefined;
  const attributes = list.attributes();
  const original = attributes?.get(CTA_TUPLE_ORIG);
  if (original === undefined) return undefined;
  return {
    family: body.u8() ?? 0,
    tuple: original.copy(),
    id: attributes?.get(CTA_ID)?.copy(),
    zone: attributes?.get(CTA_ZONE)?.copy(),
  };
}

/** Whether an address of either tuple is wanted. Runs for every connection of the node. */
function concerns(list: Span, wanted: ReadonlySet<string>): boolean {
  let found = false;
  list.eachAttribute((type, tuple) => {
    if (found || (type !== CTA_TUPLE_ORIG && type !== CTA_TUPLE_REPLY)) return;
    tuple.eachAttribute((part, addresses) => {
      if (part !== CTA_TUPLE_IP) return;
      addresses.eachAttribute((_side, address) => {
        found ||= wanted.has(address.hex());
      });
    });
  });
  return found;
}

/** Deletions in one send. */
const BATCH = 500;

function deleteEntries(socket: NetlinkSocket, name: string, entries: readonly Entry[]): number {
  let deleted = 0;
  for (let i = 0; i < entries.length; i += BATCH) {
    socket.begin();
    for (const entry of entries.slice(i, i + BATCH)) {
      socket.message(CONNTRACK_DELETE, NLM_F_ACK);
      socket.writer.putU8(socket.writer.header(NFGENMSG), entry.family);
      socket.writer.bytesOf(CTA_TUPLE_ORIG | NLA_F_NESTED, entry.tuple);
      if (entry.zone !== undefined) socket.writer.bytesOf(CTA_ZONE, entry.zone);
      if (entry.id !== undefined) socket.writer.bytesOf(CTA_ID, entry.id);
    }
    const { refused, done } = socket.exchange("delete connections of", name);
    for (const { errno, detail } of refused.values()) {
      // ENOENT: it ended by itself.
      if (errno !== ENOENT) throw new KernelError("delete connections of", name, errno, detail);
    }
    deleted += done.size;
  }
  return deleted;
}
