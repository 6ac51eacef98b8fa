/**
 * Reader: messages and attributes found in received bytes, never past their end. Malformed bytes are undefined, not an exception.
 *
 * A `Span` is a part of the received buffer: valid only until the socket receives again; decoders copy what they keep.
 */
import { bytesToHex } from "../../lib/bytes.ts";
import { ATTRIBUTE_HEADER, MESSAGE_HEADER } from "./writer.ts";

/** All but the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
export const TYPE_MASK = 0x3fff;
const utf8 = new TextDecoder();

export class Span {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly from: number;
  readonly to: number;

  constructor(bytes: Uint8Array, view: DataView, from: number, to: number) {
    this.bytes = bytes;
    this.view = view;
    this.from = from;
    this.to = to;
  }

  static of(bytes: Uint8Array): Span {
    return new Span(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length);
  }

  get length(): number {
    return this.to - this.from;
  }

  /** From `offset` of this span to its end; undefined when it is shorter. */
  after(offset: number): Span | undefined {
    return offset > this.length ? undefined : new Span(this.bytes, this.view, this.from + offset, this.to);
  }

  /** From `from` to `to` of this span; undefined when it is shorter. */
  slice(from: number, to: number): Span | undefined {
    return from > to || to > this.length
      ? undefined
      : new Span(this.bytes, this.view, this.from + from, this.from + to);
  }

  u8(offset = 0): number | undefined {
    return offset + 1 > this.length ? undefined : this.view.getUint8(this.from + offset);
  }
  u16(offset = 0): number | undefined {
    return offset + 2 > this.length ? undefined : this.view.getUint16(this.from + offset, true);
  }
  u16Be(offset = 0): number | undefined {
    return offset + 2 > this.length ? undefined : this.view.getUint16(this.from + offset, false);
  }
  u32(offset = 0): number | undefined {
    return offset + 4 > this.length ? undefined : this.view.getUint32(this.from + offset, true);
  }
  i32(offset = 0): number | undefined {
    return offset + 4 > this.length ? undefined : this.view.getInt32(this.from + offset, true);
  }
  u32Be(offset = 0): number | undefined {
    return offset + 4 > this.length ? undefined : this.view.getUint32(this.from + offset, false);
  }
  i32Be(offset = 0): number | undefined {
    return offset + 4 > this.length ? undefined : this.view.getInt32(this.from + offset, false);
  }
  u64Be(offset = 0): bigint | undefined {
    return offset + 8 > this.length ? undefined : this.view.getBigUint64(this.from + offset, false);
  }
  /** A copy. */
  copy(): Uint8Array {
    return this.bytes.slice(this.from, this.to);
  }
  hex(): string {
    return bytesToHex(this.bytes, this.from, this.to);
  }
  /** Text up to the first NUL, or to the end. */
  text(): string {
    let end = this.from;
    while (end < this.to && this.bytes[end] !== 0) end++;
    return utf8.decode(this.bytes.subarray(this.from, end));
  }

  /** Whether it is that text of ASCII, up to the first NUL or to the end. */
  isText(text: string): boolean {
    const { bytes, from, to } = this;
    if (from + text.length > to || (from + text.length < to && bytes[from + text.length] !== 0)) return false;
    for (let i = 0; i < text.length; i++) if (bytes[from + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  /** The first attribute of that type; undefined also when one before it claims more bytes than there are. */
  attribute(type: number): Span | undefined {
    const { view, to } = this;
    for (let at = this.from; at + ATTRIBUTE_HEADER <= to;) {
      const length = view.getUint16(at, true);
      if (length < ATTRIBUTE_HEADER || at + length > to) return undefined;
      if ((view.getUint16(at + 2, true) & TYPE_MASK) === type)
        return new Span(this.bytes, view, at + ATTRIBUTE_HEADER, at + length);
      at += (length + 3) & ~3;
    }
    return undefined;
  }

  /** Attributes by type (the last of a type wins); undefined when one claims more bytes than there are. */
  attributes(): ReadonlyMap<number, Span> | undefined {
    const found = new Map<number, Span>();
    const whole = this.eachAttribute((type, span) => {
      found.set(type, span);
    });
    return whole ? found : undefined;
  }

  /** The attribute of that type, if the span is that attribute and nothing else. */
  onlyAttribute(type: number): Span | undefined {
    const { from, to, view } = this;
    if (from + ATTRIBUTE_HEADER > to || (view.getUint16(from + 2, true) & TYPE_MASK) !== type) return undefined;
    const length = view.getUint16(from, true);
    return length >= ATTRIBUTE_HEADER && from + length <= to && from + ((length + 3) & ~3) >= to
      ? new Span(this.bytes, view, from + ATTRIBUTE_HEADER, from + length)
      : undefined;
  }

  /** Attributes in order, repeated types included; false when one claims more bytes than there are. */
  eachAttribute(visit: (type: number, span: Span) => void): boolean {
    let at = this.from;
    while (at + ATTRIBUTE_HEADER <= this.to) {
      const length = this.view.getUint16(at, true);
      if (length < ATTRIBUTE_HEADER || at + length > this.to) return false;
      visit(
        this.view.getUint16(at + 2, true) & TYPE_MASK,
        new Span(this.bytes, this.view, at + ATTRIBUTE_HEADER, at + length),
      );
      at += (length + 3) & ~3;
    }
    return at >= this.to;
  }
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Of an answer: the port id of the socket that asked. Of a notification: of the socket that made the change; 0 is the kernel. */
  readonly portId: number;
  /** Everything after struct nlmsghdr. */
  readonly body: Span;
}

/** Messages in order; false when one claims more bytes than there are. */
export function eachMessage(bytes: Uint8Array, visit: (message: Message) => void): boolean {
  const { view } = Span.of(bytes);
  let at = 0;
  while (at + MESSAGE_HEADER <= bytes.length) {
    const length = view.getUint32(at, true);
    if (length < MESSAGE_HEADER || at + length > bytes.length) return false;
    visit({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      portId: view.getUint32(at + 12, true),
      body: new Span(bytes, view, at + MESSAGE_HEADER, at + length),
    });
    at += (length + 3) & ~3;
  }
  return at >= bytes.length;
}
