/**
 * kept-connections: connections of which the kernel has not seen every packet, kept in its table: their windows are not looked at, and what it does
 * not know is made known to it.
 *
 * Source: linux net/netfilter/nf_conntrack_netlink.c, nf_conntrack_proto_tcp.c (tcp_in_window, nf_conntrack_tcp_packet).
 */
import type { Sys } from "../host/sys.ts";
import type { Addr } from "../net/addr.ts";
import { TCP } from "../net/protocol.ts";
import {
  CTA_PROTOINFO,
  CTA_PROTOINFO_TCP,
  CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_REPLY,
  tupleOf,
} from "./conntrack-entry.ts";
import { ENOENT, EPERM, KernelError } from "./errno.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "./netlink/socket.ts";
import { NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL } from "./netlink/writer.ts";

const CONNTRACK_NEW = 1 << 8;
const NFGENMSG = 4;
const CTA_STATUS = 3;
const CTA_TIMEOUT = 7;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
/** IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED. */
const STATUS = 2 | 4 | 8;
const TCP_ESTABLISHED = 3;
/** IP_CT_TCP_FLAG_*: the second makes the kernel forget the connection soon. */
const BE_LIBERAL = 0x08;
const DATA_UNACKNOWLEDGED = 0x10;
/** What the kernel itself has by default; the next packet that it sees sets its own. */
const TIMEOUT_SECONDS = { tcp: 432_000, others: 60 } as const;
/** Requests in one send. */
const BATCH = 500;

/** Established, and not translated. */
export interface EstablishedFlow {
  readonly protocol: number;
  readonly source: Addr;
  readonly sourcePort: number;
  readonly destination: Addr;
  readonly destinationPort: number;
}

export interface KeepOptions {
  /** Connections that the kernel does not know are made. */
  readonly creates: boolean;
}

/** In zone 0 of the network namespace in which it was made. */
export class KeptConnections {
  readonly #socket: NetlinkSocket;

  /** Throws KernelError. */
  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  }

  close(): void {
    this.#socket.close();
  }

  /**
   * Windows of those of TCP are not looked at from now on, and they are not forgotten before their time. What the kernel refuses of one (another
   * flow announced it, its table is full) is left as it is. Throws KernelError only when the kernel cannot be asked.
   */
  keep(flows: readonly EstablishedFlow[], { creates }: KeepOptions): void {
    for (let i = 0; i < flows.length; i += BATCH) {
      const part = flows.slice(i, i + BATCH);
      const tcp = part.filter(({ protocol }) => protocol === TCP);
      const unknown = this.#ask(tcp, 0, false);
      if (!creates) continue;
      this.#ask([...unknown, ...part.filter(({ protocol }) => protocol !== TCP)], NLM_F_CREATE | NLM_F_EXCL, true);
    }
  }

  /** Those that the kernel does not know. */
  #ask(flows: readonly EstablishedFlow[], flags: number, isWhole: boolean): EstablishedFlow[] {
    if (flows.length === 0) return [];
    const socket = this.#socket;
    const asked = new Map<number, EstablishedFlow>();
    socket.begin();
    for (const flow of flows) {
      asked.set(socket.message(CONNTRACK_NEW, flags | NLM_F_ACK), flow);
      this.#write(flow, isWhole);
    }
    const { refused } = socket.exchange("keep connections of", "this node");
    return [...refused].flatMap(([sequence, { errno, detail }]) => {
      const flow = asked.get(sequence);
      if (errno === EPERM) throw new KernelError("keep connections of", "this node", errno, detail);
      return flow === undefined || errno !== ENOENT ? [] : [flow];
    });
  }

  #write({ protocol, source, sourcePort, destination, destinationPort }: EstablishedFlow, isWhole: boolean): void {
    const { writer } = this.#socket;
    const [from, to] = [
      { addr: source, port: sourcePort },
      { addr: destination, port: destinationPort },
    ];
    const { family, tuple } = tupleOf(protocol, from, to);
    writer.putU8(writer.header(NFGENMSG), family);
    writer.bytesOf(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple);
    if (isWhole) {
      writer.bytesOf(CTA_TUPLE_REPLY | NLA_F_NESTED, tupleOf(protocol, to, from).tuple);
      writer.u32Be(CTA_STATUS, STATUS);
    }
    writer.u32Be(CTA_TIMEOUT, protocol === TCP ? TIMEOUT_SECONDS.tcp : TIMEOUT_SECONDS.others);
    if (protocol !== TCP) return;
    const info = writer.open(CTA_PROTOINFO);
    const own = writer.open(CTA_PROTOINFO_TCP);
    if (isWhole) writer.u8(CTA_PROTOINFO_TCP_STATE, TCP_ESTABLISHED);
    const value = Uint8Array.of(BE_LIBERAL, BE_LIBERAL | DATA_UNACKNOWLEDGED);
    writer.bytesOf(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, value);
    writer.bytesOf(CTA_PROTOINFO_TCP_FLAGS_REPLY, value);
    writer.close(own);
    writer.close(info);
  }
}
