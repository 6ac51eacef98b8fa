/** addresses: what netlink says of an address of an interface, and what follows from it: its subnet, and the address that a MAC makes. */
import { unwrap } from "../../../lib/result.ts";
import { type Addr, addrBytes, addrFromBytes, bitsOf, type Family, familyOf } from "../../../net/addr.ts";
import { parsePrefix, type Prefix } from "../../../net/prefix.ts";
import { EINVAL } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import * as wire from "../../route/wire.ts";
import type { Body } from "../messages.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { addrAt, familyAt } from "./codec.ts";

export interface FakeAddress {
  readonly index: number;
  readonly addr: Addr;
  readonly prefixLength: number;
  /** IFA_F_*. */
  readonly flags: number;
}

/** What the loopback has of itself. */
export const LOOPBACK_ADDRESSES: readonly (readonly [Addr, number])[] = [
  [addrFromBytes(Uint8Array.of(127, 0, 0, 1)), 8],
  [addrFromBytes(new Uint8Array(16).fill(1, 15)), 128],
];

export function readAddress(body: Span): {
  readonly family: Family;
  readonly index: number;
  readonly addr: Addr;
  readonly prefixLength: number;
  readonly asked: number;
} {
  const family = familyAt(body);
  const attributes = required(body.after(wire.IFADDRMSG)?.attributes());
  const addr = required(addrAt(attributes, wire.IFA_LOCAL, family));
  if (addrAt(attributes, wire.IFA_ADDRESS, family) !== addr) unmodelled("addresses of point-to-point links");
  const prefixLength = required(body.u8(1));
  if (prefixLength > bitsOf(family)) refuse(EINVAL);
  const asked = attributes.get(wire.IFA_FLAGS)?.u32() ?? body.u8(2) ?? 0;
  return { family, index: required(body.u32(4)), addr, prefixLength, asked };
}

export function addressBody({ index, addr, prefixLength, flags }: FakeAddress): Body {
  const family = familyOf(addr);
  return (w) => {
    const at = w.header(wire.IFADDRMSG);
    w.putU8(at, wire.ADDRESS_FAMILY[family]);
    w.putU8(at + 1, prefixLength);
    w.putU8(at + 2, flags & 0xff);
    w.putU32(at + 4, index);
    w.bytesOf(wire.IFA_ADDRESS, addrBytes(addr));
    if (family === 4) w.bytesOf(wire.IFA_LOCAL, addrBytes(addr));
    w.u32(wire.IFA_FLAGS, flags);
  };
}

/** RFC 4291, appendix A: the MAC with its universal bit turned and ff:fe in its middle. */
export function linkLocalOf(mac: Uint8Array): Addr {
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set([(mac[0] ?? 0) ^ 2, mac[1] ?? 0, mac[2] ?? 0, 0xff, 0xfe, mac[3] ?? 0, mac[4] ?? 0, mac[5] ?? 0], 8);
  return addrFromBytes(bytes);
}

export function subnetOf(addr: Addr, length: number): Prefix {
  const bytes = addrBytes(addr).slice();
  for (let i = 0; i < bytes.length; i++) {
    const bits = Math.max(0, Math.min(8, length - i * 8));
    bytes[i] = (bytes[i] ?? 0) & ((0xff << (8 - bits)) & 0xff);
  }
  return unwrap(parsePrefix(`${addrFromBytes(bytes)}/${length}`));
}
