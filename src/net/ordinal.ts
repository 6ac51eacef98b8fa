/** Ordinal: the addresses of a small prefix by their number in it, without arithmetic on 128 bits: blocks name their addresses so. */
import { invariant } from "../lib/bug.ts";
import { type Addr, addrBytes, addrFromBytes, addrToInteger } from "./addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "./prefix.ts";

/** Host bits that one group of an IPv6 address holds. */
const GROUP_BITS = 16;

/** The address with that number, counted from 0; the prefix has at most 65,536 addresses, and the number lies in it. */
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
  // Where `::` stands depends on whether the last group is 0, and on nothing else in it.
  bytes[14] = 0;
  bytes[15] = 0;
  const zero = addrFromBytes(bytes);
  bytes[15] = 1;
  const head = addrFromBytes(bytes).slice(0, -1);
  return (ordinal) => (low + ordinal === 0 ? zero : `${head}${(low + ordinal).toString(16)}`) as Addr;
}

/** The number of an address in a prefix that contains it: the inverse. */
export function ordinalIn(prefix: Prefix, addr: Addr): number {
  return Number(addrToInteger(addr) - addrToInteger(prefixAddr(prefix)));
}
