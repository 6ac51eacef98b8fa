/** Addresses of interfaces. */
import { type Addr, addrBytes, addrFromBytes, type Family, familyOf } from "../../net/addr.ts";
import type { Message, Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import {
  ADDRESS_FAMILY,
  familyOfNumber,
  IFA_ADDRESS,
  IFA_F_DADFAILED,
  IFA_F_NODAD,
  IFA_F_TENTATIVE,
  IFA_FLAGS,
  IFA_LOCAL,
  IFADDRMSG,
} from "./wire.ts";

export interface InterfaceAddress {
  readonly interfaceIndex: number;
  readonly addr: Addr;
  readonly prefixLength: number;
  /** False while duplicate address detection runs or after it failed: the address cannot be used. */
  readonly usable: boolean;
}

/** `noDad`: usable at once, without duplicate address detection (IPv6). */
export function encodeAddress(
  w: Writer,
  interfaceIndex: number,
  addr: Addr,
  prefixLength: number,
  noDad: boolean,
): void {
  const at = w.header(IFADDRMSG);
  w.putU8(at, ADDRESS_FAMILY[familyOf(addr)]);
  w.putU8(at + 1, prefixLength);
  w.putU32(at + 4, interfaceIndex);
  const bytes = addrBytes(addr);
  w.bytesOf(IFA_LOCAL, bytes);
  w.bytesOf(IFA_ADDRESS, bytes);
  if (noDad) w.u32(IFA_FLAGS, IFA_F_NODAD);
}

export function encodeAddressQuery(w: Writer, family: Family, interfaceIndex: number): void {
  const at = w.header(IFADDRMSG);
  w.putU8(at, ADDRESS_FAMILY[family]);
  w.putU32(at + 4, interfaceIndex);
}

/** An address of that family from its bytes; undefined when their number is wrong. */
export function decodeAddr(span: Span | undefined, family: Family): Addr | undefined {
  return span?.length === (family === 4 ? 4 : 16) ? addrFromBytes(span.copy()) : undefined;
}

/** undefined when the message is malformed or of another family. */
export function decodeAddress({ body }: Message): InterfaceAddress | undefined {
  const family = familyOfNumber(body.u8());
  const prefixLength = body.u8(1);
  const interfaceIndex = body.u32(4);
  const attributes = body.after(IFADDRMSG)?.attributes();
  if (family === undefined || prefixLength === undefined || interfaceIndex === undefined || attributes === undefined)
    return undefined;
  // On point-to-point interfaces IFA_ADDRESS is the peer's.
  const addr = decodeAddr(attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS), family);
  const flags = attributes.get(IFA_FLAGS)?.u32() ?? body.u8(2) ?? 0;
  return addr === undefined
    ? undefined
    : { interfaceIndex, addr, prefixLength, usable: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) === 0 };
}
