/**
 * conntrack: the kernel's table of connections: read a datagram at a time, entries deleted one by one; and the entries of given addresses.
 *
 * The kernel walks its whole hash table for every dump (some 15 ms and more), so addresses are best given together. Of its own filters
 * only the zone is used, and checked again, because an older kernel ignores it: the one by address needs four passes, and for IPv6 some
 * kernels invert its meaning. Entries are deleted by tuple, zone and id, so that a connection made meanwhile between the same ports stays.
 * Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
 */
import type { Sys } from "../host/sys.ts";
import type { Addr } from "../net/addr.ts";
import {
  AddressIndex,
  type Answering,
  CONNTRACK_DELETE,
  CONNTRACK_GET,
  CTA_ID,
  CTA_TUPLE_ORIG,
  CTA_ZONE,
  type Entry,
  EntryView,
} from "./conntrack-entry.ts";
import { EAGAIN, EBUSY, ENOENT, KernelError } from "./errno.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "./netlink/socket.ts";
import { NLA_F_NESTED, NLM_F_ACK } from "./netlink/writer.ts";
import { NFGENMSG } from "./nftables/wire.ts";
import { readSysctl } from "./sysctl.ts";

/** undefined: this kernel tracks no connections, or not yet. */
export function countConnections(sys: Sys): number | undefined {
  const text = readSysctl(sys, "net/netfilter/nf_conntrack_count");
  return text === undefined ? undefined : Number(text);
}

/** The table of the thread's network namespace at the time of the first request. */
export class ConntrackTable {
  readonly #lists: NetlinkSocket;
  readonly #deletes: NetlinkSocket;

  /** Throws KernelError. */
  constructor(sys: Sys) {
    this.#lists = new NetlinkSocket(sys, NETLINK_NETFILTER);
    try {
      this.#deletes = new NetlinkSocket(sys, NETLINK_NETFILTER);
    } catch (error) {
      this.#lists.close();
      throw error;
    }
  }

  /**
   * Shows every entry of zone 0 that can be read, one datagram (some 100 entries) a step. An entry that comes or goes meanwhile may be
   * missing. `each` asks the kernel for nothing: an answer would overwrite the datagram. Throws KernelError; EAGAIN when a part of the table was lost on the way.
   */
  *reading(object: string, each: (entry: EntryView) => void): Generator<undefined, void> {
    const entry = new EntryView();
    const isWhole = yield* this.#lists.dumpInSteps(
      "list connections of",
      object,
      CONNTRACK_GET,
      (w) => {
        // Family 0 asks for both.
        w.header(NFGENMSG);
        w.bytesOf(CTA_ZONE, new Uint8Array(2));
      },
      (message) => {
        if (entry.read(message) && entry.zone === 0) each(entry);
      },
    );
    if (!isWhole) throw new KernelError("list connections of", object, EAGAIN, "a part of the table was lost");
  }

  /** Connections of zone 0 whose first packet was one of these. Throws KernelError. */
  begunBy(object: string, tuples: readonly Answering[]): Entry[] {
    const found: Entry[] = [];
    const view = new EntryView();
    const socket = this.#deletes;
    for (let i = 0; i < tuples.length; i += BATCH) {
      const asked = new Map<number, Answering>();
      socket.begin();
      for (const tuple of tuples.slice(i, i + BATCH)) {
        asked.set(socket.message(CONNTRACK_GET, NLM_F_ACK), tuple);
        socket.writer.putU8(socket.writer.header(NFGENMSG), tuple.family);
        socket.writer.bytesOf(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple.tuple);
      }
      // ENOENT, as a rule. Other refusals are the kernel's too: there is nothing to delete then.
      socket.exchange("look up connections of", object, (message) => {
        const tuple = asked.get(message.sequence);
        if (tuple !== undefined && view.read(message) && view.isBegunBy(tuple)) found.push(view.entry());
      });
    }
    return found;
  }

  /** How many there still were. Throws KernelError. */
  delete(object: string, entries: readonly Entry[]): Deleted {
    return deleteEntries(this.#deletes, object, entries);
  }

  close(): void {
    this.#lists.close();
    this.#deletes.close();
  }
}

/** `deleteFlows` of one address. */
export function deleteFlowsOf(sys: Sys, addr: Addr): number {
  return deleteFlows(sys, [addr]);
}

/**
 * Deletes the connections with one of the addresses as source or destination, in either direction (so also behind a
 * translation), of any zone, in the thread's network namespace. Returns how many. Throws KernelError.
 */
export function deleteFlows(sys: Sys, addrs: readonly Addr[]): number {
  if (addrs.length === 0 || readSysctl(sys, "net/netfilter/nf_conntrack_count") === "0") return 0;
  const wanted = new AddressIndex<true>();
  for (const addr of addrs) wanted.set(addr, true);
  const name = addrs.join(", ");
  const socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  const view = new EntryView();
  try {
    const entries = socket.dump(
      "list connections of",
      name,
      CONNTRACK_GET,
      (w) => void w.header(NFGENMSG),
      (message) => (view.read(message) && concerns(view, wanted) ? view.entry() : undefined),
    );
    return withoutHeld(name, deleteEntries(socket, name, entries));
  } finally {
    socket.close();
  }
}

/** Throws KernelError (EBUSY) for those that are held. */
export function withoutHeld(name: string, { deleted, held }: Deleted): number {
  if (held > 0) throw new KernelError("delete connections of", name, EBUSY, `${held} of them are in a flowtable`);
  return deleted;
}

/** Whether an address of either tuple is wanted. Runs for every connection of the node. */
function concerns(entry: EntryView, wanted: AddressIndex<true>): boolean {
  for (const { source, destination } of [entry.original, entry.reply])
    if (wanted.get(entry, source) === true || wanted.get(entry, destination) === true) return true;
  return false;
}

/** How many are gone, and how many the kernel keeps while they are in a flowtable, as it does before Linux 6.4 (commit 9b7c68b3911a). */
export interface Deleted {
  readonly deleted: number;
  readonly held: number;
}

/** Deletions in one send. */
const BATCH = 500;

function deleteEntries(socket: NetlinkSocket, name: string, entries: readonly Entry[]): Deleted {
  let deleted = 0;
  let held = 0;
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
      if (errno === EBUSY) held++;
      else if (errno !== ENOENT) throw new KernelError("delete connections of", name, errno, detail);
    }
    deleted += done.size;
  }
  return { deleted, held };
}
