/**
 * FakeConntrack: the connections of a namespace: listed whole, deleted by tuple, zone and id. They come only from outside the product.
 *
 * Source: linux net/netfilter/nf_conntrack_netlink.c.
 */
import { bytesToHex } from "../../lib/bytes.ts";
import { type Addr, addrBytes, familyOf } from "../../net/addr.ts";
import { type Protocol, TCP } from "../../net/protocol.ts";
import {
  CONNTRACK_DELETE,
  CONNTRACK_GET,
  CTA_ID,
  CTA_PROTOINFO,
  CTA_PROTOINFO_TCP,
  CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  CTA_ZONE,
  TCP_PICKED_UP,
} from "../conntrack-entry.ts";
import { EINVAL, ENOENT } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { ATTRIBUTE_HEADER, Writer } from "../netlink/writer.ts";
import { NFGENMSG } from "../nftables/wire.ts";
import type { Machine } from "./machine.ts";
import type { Answer } from "./messages.ts";
import { refuse, required, unmodelled } from "./refusal.ts";

export interface FakeFlow {
  readonly source: Addr;
  readonly destination: Addr;
  /** Where replies come from, when a translation changed it. */
  readonly replySource: Addr;
  readonly id: number;
  readonly protocol: Protocol;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const NEW = CONNTRACK_GET & ~255;
/** enum ctattr_ip: of IPv4 1 and 2, of IPv6 3 and 4. */
const SIDES = { 4: [1, 2], 6: [3, 4] } as const;
const AF = { 4: 2, 6: 10 } as const;

export class FakeConntrack {
  readonly #machine: Machine;
  readonly flows = new Map<number, FakeFlow>();
  #ids = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  add(
    source: Addr,
    destination: Addr,
    replySource: Addr = destination,
    { protocol, sourcePort, destinationPort } = { protocol: TCP, sourcePort: 1000, destinationPort: 80 },
  ): void {
    const id = ++this.#ids;
    this.flows.set(id, { source, destination, replySource, id, protocol, sourcePort, destinationPort });
  }

  answer(message: Message, isDump: boolean): Answer {
    if (message.type === CONNTRACK_GET && isDump) {
      if (message.body.u8() !== 0) unmodelled("connections of one family alone");
      // All are of zone 0.
      for (const [type, value] of message.body.after(NFGENMSG)?.attributes() ?? [])
        if (type !== CTA_ZONE || value.u16Be() !== 0) unmodelled(`filter ${type} of connections`);
      return { kind: "dump", parts: [...this.flows.values()].map((flow) => ({ type: NEW, body: bodyOf(flow) })) };
    }
    if (message.type === CONNTRACK_GET) {
      const tuple = required(message.body.after(NFGENMSG)?.attributes()).get(CTA_TUPLE_ORIG)?.hex();
      if (tuple === undefined) return unmodelled("connections by something else than a tuple");
      const found = [...this.flows.values()].find((flow) => tuplesOf(flow).includes(tuple));
      return found === undefined ? refuse(ENOENT) : { kind: "reply", part: { type: NEW, body: bodyOf(found) } };
    }
    if (message.type !== CONNTRACK_DELETE) return unmodelled(`conntrack message ${message.type & 255}`);
    const attributes = required(message.body.after(NFGENMSG)?.attributes());
    const id = attributes.get(CTA_ID)?.u32Be();
    const tuple = attributes.get(CTA_TUPLE_ORIG);
    if (tuple === undefined || id === undefined) return unmodelled("deletion of connections without tuple and id");
    const errno = this.#machine.faults.request?.({
      subsystem: "conntrack",
      does: "delete",
      object: `connection ${id}`,
    });
    if (errno !== undefined) refuse(errno);
    const flow = this.flows.get(id);
    if (flow === undefined) return refuse(ENOENT);
    const ip = tuple.attributes()?.get(CTA_TUPLE_IP)?.attributes();
    const [side] = SIDES[familyOf(flow.source)];
    if (ip?.get(side)?.hex() !== bytesToHex(addrBytes(flow.source))) return refuse(EINVAL);
    this.flows.delete(id);
    return { kind: "done" };
  }
}

function bodyOf(flow: FakeFlow): (w: Writer) => void {
  return (w) => {
    w.putU8(w.header(NFGENMSG), AF[familyOf(flow.source)]);
    writeTuple(w, CTA_TUPLE_ORIG, flow);
    writeTuple(w, CTA_TUPLE_REPLY, flow);
    // As the program conntrack makes them: TCP without a SYN that the kernel saw.
    if (flow.protocol === TCP) {
      const [state, tcp] = [w.open(CTA_PROTOINFO), w.open(CTA_PROTOINFO_TCP)];
      w.bytesOf(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, Uint8Array.of(TCP_PICKED_UP, TCP_PICKED_UP));
      w.close(tcp);
      w.close(state);
    }
    w.u32Be(CTA_ID, flow.id);
  };
}

/** The tuples of both directions, as in messages. */
function tuplesOf(flow: FakeFlow): readonly string[] {
  return [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY].map((direction) => {
    const w = new Writer();
    writeTuple(w, direction, flow);
    return bytesToHex(w.bytes.subarray(ATTRIBUTE_HEADER));
  });
}

function writeTuple(w: Writer, direction: number, flow: FakeFlow): void {
  const { source, destination, replySource, sourcePort, destinationPort } = flow;
  const isOriginal = direction === CTA_TUPLE_ORIG;
  const [first, second] = SIDES[familyOf(source)];
  const tuple = w.open(direction);
  const ip = w.open(CTA_TUPLE_IP);
  w.bytesOf(first, addrBytes(isOriginal ? source : replySource));
  w.bytesOf(second, addrBytes(isOriginal ? destination : source));
  w.close(ip);
  const proto = w.open(CTA_TUPLE_PROTO);
  w.u8(CTA_PROTO_NUM, flow.protocol);
  w.u16Be(CTA_PROTO_SRC_PORT, isOriginal ? sourcePort : destinationPort);
  w.u16Be(CTA_PROTO_DST_PORT, isOriginal ? destinationPort : sourcePort);
  w.close(proto);
  w.close(tuple);
}
