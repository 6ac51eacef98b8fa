/**
 * Writer: netlink messages written one after another into one growing buffer: headers, attributes, nested attributes.
 *
 * Lengths and padding are its business. Integers are in host order (little-endian on all supported machines) unless a name
 * says `Be`. Source: linux/netlink.h.
 */
import { hexInto } from "../../lib/bytes.ts";
import { BugError } from "../../lib/bug.ts";

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

/** Of struct nlmsghdr. */
export const MESSAGE_HEADER = 16;
/** Of struct nlattr. */
export const ATTRIBUTE_HEADER = 4;
export const NLA_F_NESTED = 0x8000;
/** The length of an attribute, header included, is 16 bits. */
const ATTRIBUTE_MAX = 0xffff;
const OFFSET_OF_SEQUENCE = 8;

const text = new TextEncoder();

export class Writer {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #message = -1;

  get length(): number {
    return this.#length;
  }

  /** What was written; valid until the next write. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  reset(): void {
    this.#length = 0;
    this.#message = -1;
  }

  /** Offset of `count` new zero bytes, with padding to 4 after them. */
  #grow(count: number): number {
    const at = this.#length;
    const end = at + ((count + 3) & ~3);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#bytes.fill(0, at, end);
    this.#length = end;
    return at;
  }

  /** Starts a message, which ends where the next one starts or `finish` is called. */
  message(type: number, flags: number, sequence: number): void {
    this.finish();
    this.#message = this.#length;
    const at = this.#grow(MESSAGE_HEADER);
    this.#view.setUint16(at + 4, type, true);
    this.#view.setUint16(at + 6, flags | NLM_F_REQUEST, true);
    this.#view.setUint32(at + OFFSET_OF_SEQUENCE, sequence, true);
  }

  /** Adds flags to the message being written. */
  addFlags(flags: number): void {
    if (this.#message < 0) throw new BugError("no message is being written");
    const at = this.#message + 6;
    this.#view.setUint16(at, this.#view.getUint16(at, true) | flags, true);
  }

  finish(): void {
    if (this.#message >= 0) this.#view.setUint32(this.#message, this.#length - this.#message, true);
    this.#message = -1;
  }

  /** A fixed header of `length` zero bytes; fill it with the `put` functions at the offset returned. */
  header(length: number): number {
    return this.#grow(length);
  }

  putU8(offset: number, value: number): void {
    this.#view.setUint8(offset, value);
  }
  putU16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }
  putU16Be(offset: number, value: number): void {
    this.#view.setUint16(offset, value, false);
  }
  putU32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  /** Offset of the payload of a new attribute of that payload length. */
  #attribute(type: number, length: number): number {
    if (length + ATTRIBUTE_HEADER > ATTRIBUTE_MAX)
      throw new BugError(`attribute ${type} of ${length} bytes is over 64 KiB`);
    const at = this.#grow(ATTRIBUTE_HEADER + length);
    this.#view.setUint16(at, ATTRIBUTE_HEADER + length, true);
    this.#view.setUint16(at + 2, type, true);
    return at + ATTRIBUTE_HEADER;
  }

  flag(type: number): void {
    this.#attribute(type, 0);
  }
  u8(type: number, value: number): void {
    const at = this.#attribute(type, 1);
    this.#view.setUint8(at, value);
  }
  u16(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, value, true);
  }
  u16Be(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, value, false);
  }
  u32(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, value, true);
  }
  u32Be(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, value, false);
  }
  i32Be(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#view.setInt32(at, value, false);
  }
  u64Be(type: number, value: bigint): void {
    const at = this.#attribute(type, 8);
    this.#view.setBigUint64(at, value, false);
  }
  bytesOf(type: number, value: Uint8Array): void {
    const at = this.#attribute(type, value.length);
    this.#bytes.set(value, at);
  }
  /** The bytes of lower-case hex text. */
  hex(type: number, value: string): void {
    const at = this.#attribute(type, value.length >> 1);
    if (hexInto(value, this.#bytes, at) === undefined) throw new BugError(`not hex: ${JSON.stringify(value)}`);
  }
  /** NUL-terminated text. */
  text(type: number, value: string): void {
    const bytes = text.encode(value);
    const at = this.#attribute(type, bytes.length + 1);
    this.#bytes.set(bytes, at);
  }

  /** Starts a nested attribute; give the result to `close`. `nested: false` leaves the flag out where old interfaces want it so. */
  open(type: number, nested = true): number {
    const at = this.#grow(ATTRIBUTE_HEADER);
    this.#view.setUint16(at + 2, nested ? type | NLA_F_NESTED : type, true);
    return at;
  }

  close(opened: number): void {
    const length = this.#length - opened;
    if (length > ATTRIBUTE_MAX) throw new BugError(`nested attribute of ${length} bytes is over 64 KiB`);
    this.#view.setUint16(opened, length, true);
  }
}
