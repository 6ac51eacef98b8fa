/**
 * conntrack-entry: an entry of the kernel's table of connections as it comes in a message, read where it lies; and what names one.
 * Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
 */
import { type Addr, addrBytes, addrFromBytes, type Family, familyOf } from "../net/addr.ts";
import { bytesToHex } from "../lib/bytes.ts";
import { type Message, Span } from "./netlink/reader.ts";
import { ATTRIBUTE_HEADER, Writer } from "./netlink/writer.ts";
import { NFGENMSG } from "./nftables/wire.ts";

const SUBSYSTEM = 1;
export const CONNTRACK_GET = (SUBSYSTEM << 8) | 1;
export const CONNTRACK_DELETE = (SUBSYSTEM << 8) | 2;
const AF_INET = 2;
const AF_INET6 = 10;

/** enum ctattr_type. */
export const CTA_TUPLE_ORIG = 1;
export const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
export const CTA_PROTOINFO = 4;
export const CTA_ID = 12;
const CTA_TUPLE_MASTER = 14;
export const CTA_ZONE = 18;
/** enum ctattr_tuple. */
export const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
export const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
/** Of the status: packets have been seen both ways. */
const IPS_SEEN_REPLY = 2;
/**
 * The kernel sets the last two, and never the first, where it met a TCP connection in the middle, not at its SYN; and the last one alone where
 * it puts a connection into a flowtable. Source: linux net/netfilter/nf_conntrack_proto_tcp.c, tcp_new; nft_flow_offload.c.
 */
const TCP_WINDOW_SCALE = 1;
const TCP_SACK_PERM = 2;
const TCP_BE_LIBERAL = 8;
export const TCP_PICKED_UP = TCP_SACK_PERM | TCP_BE_LIBERAL;

export const CTA_TUPLE_IP = 1;
export const CTA_TUPLE_PROTO = 2;
/** enum ctattr_ip. */
const CTA_IP_V4_SRC = 1;
const CTA_IP_V6_SRC = 3;
/** enum ctattr_l4proto. */
export const CTA_PROTO_NUM = 1;
export const CTA_PROTO_SRC_PORT = 2;
export const CTA_PROTO_DST_PORT = 3;
const CTA_PROTO_ICMP_TYPE = 5;
const CTA_PROTO_ICMP_CODE = 6;
const CTA_PROTO_ICMPV6_TYPE = 8;
const CTA_PROTO_ICMPV6_CODE = 9;

const TYPE_MASK = 0x3fff;

/** What a deletion names. */
export interface Entry {
  readonly family: number;
  readonly tuple: Uint8Array;
  readonly id: Uint8Array | undefined;
  readonly zone: Uint8Array | undefined;
}

/** The tuple of TCP, UDP or SCTP, as `begunBy` takes it. */
export function tupleOf(
  protocol: number,
  from: { readonly addr: Addr; readonly port: number },
  to: { readonly addr: Addr; readonly port: number },
): Answering {
  const is4 = familyOf(from.addr) === 4;
  const w = new Writer();
  const ip = w.open(CTA_TUPLE_IP);
  w.bytesOf(is4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, addrBytes(from.addr));
  w.bytesOf((is4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC) + 1, addrBytes(to.addr));
  w.close(ip);
  const proto = w.open(CTA_TUPLE_PROTO);
  w.u8(CTA_PROTO_NUM, protocol);
  w.u16Be(CTA_PROTO_SRC_PORT, from.port);
  w.u16Be(CTA_PROTO_DST_PORT, to.port);
  w.close(proto);
  return { family: is4 ? AF_INET : AF_INET6, tuple: w.bytes.slice() };
}

/** What the other end of a connection of zone 0 sends, as a tuple. */
export interface Answering {
  readonly family: number;
  readonly tuple: Uint8Array;
}

/** One direction of an entry: where its addresses are in the received bytes, and the fields of its protocol; absent ones are undefined. */
class TupleView {
  source = 0;
  destination = 0;
  protocol: number | undefined;
  sourcePort: number | undefined;
  destinationPort: number | undefined;
  icmpType: number | undefined;
  icmpCode: number | undefined;

  clear(): void {
    this.source = 0;
    this.destination = 0;
    this.protocol = undefined;
    this.sourcePort = undefined;
    this.destinationPort = undefined;
    this.icmpType = undefined;
    this.icmpCode = undefined;
  }

  /** Port numbers are in network order. */
  takeProtocol(type: number, view: DataView, at: number): void {
    if (type === CTA_PROTO_NUM) this.protocol = view.getUint8(at);
    else if (type === CTA_PROTO_SRC_PORT) this.sourcePort = view.getUint16(at, false);
    else if (type === CTA_PROTO_DST_PORT) this.destinationPort = view.getUint16(at, false);
    else if (type === CTA_PROTO_ICMP_TYPE || type === CTA_PROTO_ICMPV6_TYPE) this.icmpType = view.getUint8(at);
    else if (type === CTA_PROTO_ICMP_CODE || type === CTA_PROTO_ICMPV6_CODE) this.icmpCode = view.getUint8(at);
  }
}

const NOTHING = Span.of(new Uint8Array());

/**
 * One entry after the other, in place: it is made for a table of 100,000, so nothing is allocated for an entry that nobody wants. Valid until
 * the socket receives again.
 */
export class EntryView {
  family: Family = 4;
  readonly original = new TupleView();
  readonly reply = new TupleView();
  zone = 0;
  /** Another flow announced it. */
  isExpected = false;
  /** TCP, met in the middle: who began it is not known, and may be the other end. */
  isPickedUp = false;
  isAnswered = false;
  /** enum tcp_conntrack; undefined for other protocols. */
  tcpState: number | undefined;
  #bytes = NOTHING.bytes;
  #view = NOTHING.view;
  #tuple = { from: 0, to: 0 };
  #replyTuple = { from: 0, to: 0 };
  #id = { from: 0, to: 0 };

  /** False for one that cannot be read. */
  read({ body }: Message): boolean {
    const { bytes, view, from, to } = body;
    this.#bytes = bytes;
    this.#view = view;
    this.original.clear();
    this.reply.clear();
    this.zone = 0;
    this.isExpected = false;
    this.isPickedUp = false;
    this.isAnswered = false;
    this.tcpState = undefined;
    this.#tuple.to = 0;
    this.#id.to = 0;
    this.family = body.u8() === AF_INET ? 4 : 6;
    if (!this.#each(from + NFGENMSG, to, this.#takeEntry)) return false;
    return this.#tuple.to > 0 && this.original.source > 0 && this.reply.source > 0;
  }

  #each(from: number, to: number, visit: (type: number, from: number, to: number) => void): boolean {
    const view = this.#view;
    let at = from;
    while (at + ATTRIBUTE_HEADER <= to) {
      const length = view.getUint16(at, true);
      if (length < ATTRIBUTE_HEADER || at + length > to) return false;
      visit(view.getUint16(at + 2, true) & TYPE_MASK, at + ATTRIBUTE_HEADER, at + length);
      at += (length + 3) & ~3;
    }
    return true;
  }

  readonly #takeEntry = (type: number, from: number, to: number): void => {
    if (type === CTA_TUPLE_ORIG) {
      this.#tuple = { from, to };
      this.#each(from, to, this.#takeOriginal);
    } else if (type === CTA_TUPLE_REPLY) {
      this.#replyTuple = { from, to };
      this.#each(from, to, this.#takeReply);
    } else if (type === CTA_TUPLE_MASTER) this.isExpected = true;
    else if (type === CTA_STATUS && to - from >= 4)
      this.isAnswered = (this.#view.getUint32(from, false) & IPS_SEEN_REPLY) !== 0;
    else if (type === CTA_PROTOINFO) this.#each(from, to, this.#takeProtocolState);
    else if (type === CTA_ID) this.#id = { from, to };
    else if (type === CTA_ZONE && to - from >= 2) this.zone = this.#view.getUint16(from, false);
  };

  readonly #takeProtocolState = (type: number, from: number, to: number): void => {
    if (type === CTA_PROTOINFO_TCP)
      this.#each(from, to, (part, at, end) => {
        if (part === CTA_PROTOINFO_TCP_STATE && end > at) this.tcpState = this.#view.getUint8(at);
        else if (part === CTA_PROTOINFO_TCP_FLAGS_ORIGINAL && end > at)
          this.isPickedUp = (this.#view.getUint8(at) & (TCP_WINDOW_SCALE | TCP_PICKED_UP)) === TCP_PICKED_UP;
      });
  };

  readonly #takeOriginal = (type: number, from: number, to: number): void =>
    this.#takeTuple(this.original, type, from, to);
  readonly #takeReply = (type: number, from: number, to: number): void => this.#takeTuple(this.reply, type, from, to);

  #takeTuple(tuple: TupleView, type: number, from: number, to: number): void {
    if (type === CTA_TUPLE_IP)
      this.#each(from, to, (side, at, end) => {
        if (end - at !== (this.family === 4 ? 4 : 16)) return;
        if (side === CTA_IP_V4_SRC || side === CTA_IP_V6_SRC) tuple.source = at;
        else tuple.destination = at;
      });
    else if (type === CTA_TUPLE_PROTO)
      this.#each(from, to, (part, at, end) => {
        if (end > at) tuple.takeProtocol(part, this.#view, at);
      });
  }

  /** The last four bytes of the address there: enough to tell most that are not looked for. */
  tail(at: number): number {
    return at === 0 ? -1 : this.#view.getUint32(at + (this.family === 4 ? 0 : 12), false);
  }

  hex(at: number): string {
    return bytesToHex(this.#bytes, at, at + (this.family === 4 ? 4 : 16));
  }

  addr(at: number): Addr {
    return addrFromBytes(this.#bytes.subarray(at, at + (this.family === 4 ? 4 : 16)));
  }

  /** A copy, to delete it by. */
  entry(): Entry {
    return {
      family: this.#familyNumber,
      tuple: this.#copy(this.#tuple),
      id: this.#id.to === 0 ? undefined : this.#copy(this.#id),
      zone: this.zone === 0 ? undefined : Uint8Array.of(this.zone >> 8, this.zone & 255),
    };
  }

  answering(): Answering {
    return { family: this.#familyNumber, tuple: this.#copy(this.#replyTuple) };
  }

  /** Whether the tuple is that of the connection's first packet. */
  isBegunBy({ tuple }: Answering): boolean {
    return bytesToHex(this.#copy(this.#tuple)) === bytesToHex(tuple);
  }

  get #familyNumber(): number {
    return this.family === 4 ? AF_INET : AF_INET6;
  }

  #copy({ from, to }: { readonly from: number; readonly to: number }): Uint8Array {
    return this.#bytes.slice(from, to);
  }
}

/** What is known of each of some addresses, by their bytes; found without making text of an address that is not among them. */
export class AddressIndex<T> {
  readonly #byTail = new Map<number, Map<string, T>>();

  set(addr: Addr, value: T): void {
    const bytes = addrBytes(addr);
    const tail = Span.of(bytes).u32Be(bytes.length - 4) ?? 0;
    const found = this.#byTail.get(tail);
    if (found === undefined) this.#byTail.set(tail, new Map([[bytesToHex(bytes), value]]));
    else found.set(bytesToHex(bytes), value);
  }

  get(entry: EntryView, at: number): T | undefined {
    return this.#byTail.get(entry.tail(at))?.get(entry.hex(at));
  }
}
