/** Ordinal: the addresses of a small prefix by their index in it, as blocks name them, without 128-bit arithmetic. */
import { invariant } from "../lib/bug.ts";
import { type Addr, addrBytes, addrFromBytes, addrToInteger } from "./addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "./prefix.ts";

/** Host bits that one group of an IPv6 address holds. */
const GROUP_BITS = 16;

/** Returns the address at an ordinal, counted from 0; the prefix has at most 65,536 addresses, and the ordinal must be in it. */
export function addressesOf(prefix: Prefix): (ordinal: number) => Addr {
  const family = prefixFamily(prefix);
  const first = prefixAddr(prefix);
  const bytes = addrBytes(first);
  invariant(bytes.length * 8 - prefixLength(prefix) <= GROUP_BITS, "a prefix of more than 65,536 addresses");
  if (family === 4) {
    const head = `${bytes[0]}.${bytes[1]}.`;
    const low = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
    return (ordinal) => `${head}${(low + ordinal) >> 8}.${(low + ordinal) & 255}` as Addr;
  }
  const low = ((bytes[14] ?? 0) << 8) | (bytes[15] ?? 0);
  // The position of `::` depends only on whether the last group is 0.
  bytes[14] = 0;
  bytes[15] = 0;
  const zero = addrFromBytes(bytes);
  bytes[15] = 1;
  const head = addrFromBytes(bytes).slice(0, -1);
  return (ordinal) => (low + ordinal === 0 ? zero : `${head}${(low + ordinal).toString(16)}`) as Addr;
}

/** The inverse: the ordinal of an address in a prefix that contains it. */
export function ordinalIn(prefix: Prefix, addr: Addr): number {
  return Number(addrToInteger(addr) - addrToInteger(prefixAddr(prefix)));
}
