/**
 * Messages: netlink answers as the kernel writes them: replies, acknowledgements, dumps in several datagrams, notifications.
 *
 * Source: linux net/netlink/af_netlink.c (netlink_ack, netlink_dump), include/uapi/linux/netlink.h.
 */
import type { Message } from "../netlink/reader.ts";
import {
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
} from "../netlink/wire.ts";
import { MESSAGE_HEADER, Writer } from "../netlink/writer.ts";
import type { Refusal } from "./refusal.ts";

/** The kernel fills buffers of up to 32 KiB for readers who offer as much. */
const DATAGRAM_BYTES = 16 * 1024;

export interface Address {
  readonly sequence: number;
  readonly portId: number;
}

/** What is written behind the header of one message. */
export type Body = (w: Writer) => void;

/** One answer or notification: its type and what follows the header. */
export interface Part {
  readonly type: number;
  readonly body: Body;
}

/** What a request that is no part of a batch answers. */
export type Answer =
  | { readonly kind: "done" }
  | { readonly kind: "reply"; readonly part: Part }
  /** `version` changes with the objects: a dump during which it does says so. */
  | { readonly kind: "dump"; readonly parts: readonly Part[]; readonly version?: () => number };

/** One message and the bytes that it came in, header included. */
export interface Received {
  readonly message: Message;
  readonly bytes: Uint8Array;
}

/** One message as bytes. `flags` are exactly these: answers do not carry NLM_F_REQUEST. */
function appendMessage(w: Writer, type: number, flags: number, { sequence, portId }: Address, body: Body): void {
  const at = w.length;
  w.message(type, 0, sequence);
  w.putU16(at + 6, flags);
  w.putU32(at + 12, portId);
  body(w);
  w.finish();
}

/** One for all datagrams: each is copied out before the next begins. */
const WRITER = new Writer();

function emptied(): Writer {
  WRITER.reset();
  return WRITER;
}

export function datagramOf(type: number, flags: number, to: Address, body: Body): Uint8Array {
  const w = emptied();
  appendMessage(w, type, flags, to, body);
  return w.bytes.slice();
}

/** A dump: its parts, then NLMSG_DONE, in as many datagrams as it takes, each made when the one before it has been read. */
export class Dump {
  readonly #parts: readonly Part[];
  readonly #to: Address;
  readonly #version: () => number;
  readonly #before: number;
  #interrupted: boolean;
  #at = 0;
  isOver = false;

  constructor(parts: readonly Part[], to: Address, interrupted: boolean, version: () => number = () => 0) {
    this.#parts = parts;
    this.#to = to;
    this.#interrupted = interrupted;
    this.#version = version;
    this.#before = version();
  }

  next(): Uint8Array {
    this.#interrupted ||= this.#version() !== this.#before;
    const flags = NLM_F_MULTI | (this.#interrupted ? NLM_F_DUMP_INTR : 0);
    const w = emptied();
    for (
      let part = this.#parts[this.#at];
      part !== undefined && w.length <= DATAGRAM_BYTES;
      part = this.#parts[this.#at]
    ) {
      appendMessage(w, part.type, flags, this.#to, part.body);
      this.#at++;
    }
    if (w.length === 0) {
      appendMessage(w, NLMSG_DONE, flags, this.#to, (at) => void at.header(4));
      this.isOver = true;
    }
    return w.bytes.slice();
  }
}

/** Notifications of one transaction, as many messages to a datagram as fit. */
export function notificationDatagrams(parts: readonly Part[], from: Address): Uint8Array[] {
  const datagrams: Uint8Array[] = [];
  const w = emptied();
  for (const { type, body } of parts) {
    appendMessage(w, type, 0, from, body);
    if (w.length <= DATAGRAM_BYTES / 4) continue;
    datagrams.push(w.bytes.slice());
    w.reset();
  }
  if (w.length > 0) datagrams.push(w.bytes.slice());
  return datagrams;
}

/** Options of the socket that asks, as far as they change an acknowledgement. */
export interface AckOptions {
  readonly capped: boolean;
  readonly extended: boolean;
}

/** The acknowledgement of a request (`refusal` undefined), or its error. */
export function ackDatagram(
  request: Pick<Message, "type" | "flags" | "sequence">,
  requestBytes: Uint8Array,
  portId: number,
  refusal: Refusal | undefined,
  options: AckOptions,
): Uint8Array {
  const capped = options.capped || refusal === undefined;
  const words = options.extended ? refusal?.words : undefined;
  const flags = (capped ? NLM_F_CAPPED : 0) | (words === undefined ? 0 : NLM_F_ACK_TLVS);
  return datagramOf(NLMSG_ERROR, flags, { sequence: request.sequence, portId }, (w) => {
    const at = w.header(4);
    w.putU32(at, refusal === undefined ? 0 : 2 ** 32 - refusal.errno);
    const kept = requestBytes.subarray(0, capped ? MESSAGE_HEADER : requestBytes.length);
    const copy = w.header(kept.length);
    kept.forEach((byte, i) => w.putU8(copy + i, byte));
    if (words !== undefined) w.text(NLMSGERR_ATTR_MSG, words);
  });
}

/** The socket that asks, as far as answers depend on it. */
export interface Asker extends AckOptions {
  readonly portId: number;
  readonly strict: boolean;
  /** Whose socket it is. */
  readonly process: { readonly pid: number; readonly name: string };
  deliver(datagram: Uint8Array): void;
}

/** Notifications for whoever listens to the group of the protocol. */
export type Tell = (protocol: number, group: number, datagrams: readonly Uint8Array[]) => void;
