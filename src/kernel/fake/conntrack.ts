/**
 * FakeConntrack: the connections of a namespace: listed whole, deleted by tuple, zone and id. They come only from outside the product.
 *
 * Source: linux net/netfilter/nf_conntrack_netlink.c.
 */
import { bytesToHex } from "../../lib/bytes.ts";
import { type Addr, addrBytes, familyOf } from "../../net/addr.ts";
import {
  CONNTRACK_DELETE,
  CONNTRACK_GET,
  CTA_ID,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_REPLY,
} from "../conntrack.ts";
import { EINVAL, ENOENT } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
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

  add(source: Addr, destination: Addr, replySource: Addr = destination): void {
    const id = ++this.#ids;
    this.flows.set(id, { source, destination, replySource, id });
  }

  answer(message: Message, isDump: boolean): Answer {
    if (message.type === CONNTRACK_GET && isDump) {
      if (message.body.u8() !== 0) unmodelled("connections of one family alone");
      return { kind: "dump", parts: [...this.flows.values()].map((flow) => ({ type: NEW, body: bodyOf(flow) })) };
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
  const family = familyOf(flow.source);
  const [first, second] = SIDES[family];
  return (w) => {
    w.putU8(w.header(NFGENMSG), AF[family]);
    const tuple = (type: number, from: Addr, to: Addr): void => {
      const open = w.open(type);
      const ip = w.open(CTA_TUPLE_IP);
      w.bytesOf(first, addrBytes(from));
      w.bytesOf(second, addrBytes(to));
      w.close(ip);
      w.close(open);
    };
    tuple(CTA_TUPLE_ORIG, flow.source, flow.destination);
    tuple(CTA_TUPLE_REPLY, flow.replySource, flow.source);
    w.u32Be(CTA_ID, flow.id);
  };
}
