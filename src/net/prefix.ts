/**
 * Prefix: an address range written as CIDR, canonical text with host bits cleared (`10.0.0.0/24`, `fd00::/64`).
 *
 * Also inclusive ranges of addresses, the form for computing lists with exceptions.
 */
import type { Brand } from "../lib/brand.ts";
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";
import {
  type Addr,
  addrBytes,
  addrFromInteger,
  addrToInteger,
  bitsOf,
  type Family,
  familyOf,
  parseAddr,
} from "./addr.ts";

export type Prefix = Brand<string, "Prefix">;

/** Reads CIDR text; host bits are cleared. A bare address is refused: use `prefixOfAddr`. */
export function parsePrefix(text: string): Result<Prefix, ParseError> {
  const slash = text.indexOf("/");
  if (slash < 0)
    return fail({ what: "prefix", found: text, wanted: "must be CIDR text such as 10.0.0.0/24 or fd00::/64" });
  const addr = parseAddr(text.slice(0, slash));
  if (!addr.ok) return fail({ what: "prefix", found: text, wanted: addr.error.wanted });
  const lengthText = text.slice(slash + 1);
  const bits = bitsOf(familyOf(addr.value));
  if (!/^(0|[1-9]\d{0,2})$/.test(lengthText) || Number(lengthText) > bits) {
    return fail({ what: "prefix", found: text, wanted: `length is ${lengthText}, must be 0 to ${bits}` });
  }
  return ok(prefixOf(addr.value, Number(lengthText)));
}

/** Reads CIDR text, or a bare address, which is the range of that one address. */
export function parseNet(text: string): Result<Prefix, ParseError> {
  if (text.includes("/")) return parsePrefix(text);
  const addr = parseAddr(text);
  return addr.ok ? ok(prefixOfAddr(addr.value)) : fail({ what: "prefix", found: text, wanted: addr.error.wanted });
}

/** The prefix of that length around the address. */
export function prefixOf(addr: Addr, length: number): Prefix {
  const family = familyOf(addr);
  if (family === 4) return prefixOf4(addr, length);
  const shift = BigInt(bitsOf(family) - length);
  return `${addrFromInteger(family, (addrToInteger(addr) >> shift) << shift)}/${length}` as Prefix;
}

/** IPv4 in small integers: lists of ten thousand ranges are read whenever one of them changes. */
function prefixOf4(addr: Addr, length: number): Prefix {
  if (length === 32) return `${addr}/32` as Prefix;
  const value = addr.split(".").reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0);
  const network = length === 0 ? 0 : (value & (0xffffffff << (32 - length))) >>> 0;
  return `${network >>> 24}.${(network >>> 16) & 255}.${(network >>> 8) & 255}.${network & 255}/${length}` as Prefix;
}

/** The host prefix of one address, `/32` or `/128`. */
export function prefixOfAddr(addr: Addr): Prefix {
  return `${addr}/${bitsOf(familyOf(addr))}` as Prefix;
}

export function prefixFamily(prefix: Prefix): Family {
  return prefix.includes(":") ? 6 : 4;
}

export function prefixAddr(prefix: Prefix): Addr {
  return prefix.slice(0, prefix.indexOf("/")) as Addr;
}

export function prefixLength(prefix: Prefix): number {
  return Number(prefix.slice(prefix.indexOf("/") + 1));
}

/** Inclusive range of integers, one family; the arithmetic form of prefixes. */
export interface AddrRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

export function prefixRange(prefix: Prefix): AddrRange {
  const family = prefixFamily(prefix);
  const first = addrToInteger(prefixAddr(prefix));
  return { family, first, last: first + (1n << BigInt(bitsOf(family) - prefixLength(prefix))) - 1n };
}

export function prefixContains(prefix: Prefix, addr: Addr): boolean {
  if (prefixFamily(prefix) !== familyOf(addr)) return false;
  const [first, bytes] = [addrBytes(prefixAddr(prefix)), addrBytes(addr)];
  let left = prefixLength(prefix);
  for (let i = 0; left > 0; i++, left -= 8) {
    const differs = (first[i] ?? 0) ^ (bytes[i] ?? 0);
    if (differs >> Math.max(0, 8 - left) !== 0) return false;
  }
  return true;
}

/** Whether every address of `inner` is in `outer`. */
export function prefixCovers(outer: Prefix, inner: Prefix): boolean {
  return prefixLength(outer) <= prefixLength(inner) && prefixContains(outer, prefixAddr(inner));
}

/** Sorted, disjoint, non-adjacent ranges with the same addresses as the input. */
export function mergeRanges(ranges: readonly AddrRange[]): AddrRange[] {
  const sorted = [...ranges].sort(
    (a, b) => a.family - b.family || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0),
  );
  const merged: { family: Family; first: bigint; last: bigint }[] = [];
  for (const range of sorted) {
    const top = merged.at(-1);
    if (top !== undefined && top.family === range.family && range.first <= top.last + 1n) {
      if (range.last > top.last) top.last = range.last;
    } else merged.push({ ...range });
  }
  return merged;
}

/** The fewest prefixes that have the same addresses, sorted and disjoint. */
export function rangesToPrefixes(ranges: readonly AddrRange[]): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const { family, first, last } of mergeRanges(ranges)) {
    const bits = bitsOf(family);
    for (let next = first; next <= last;) {
      // The largest prefix that starts here and does not extend beyond the end.
      let size = 0;
      while (
        size < bits &&
        (next & ((1n << BigInt(size + 1)) - 1n)) === 0n &&
        next + (1n << BigInt(size + 1)) - 1n <= last
      )
        size++;
      prefixes.push(`${addrFromInteger(family, next)}/${bits - size}` as Prefix);
      next += 1n << BigInt(size);
    }
  }
  return prefixes;
}

/** The addresses of `from` that are in none of `without`, merged. */
export function subtractRanges(from: readonly AddrRange[], without: readonly AddrRange[]): AddrRange[] {
  const holes = mergeRanges(without);
  const left: AddrRange[] = [];
  for (const range of mergeRanges(from)) {
    let next = range.first;
    for (const hole of holes) {
      if (hole.family !== range.family || hole.last < next || hole.first > range.last) continue;
      if (hole.first > next) left.push({ family: range.family, first: next, last: hole.first - 1n });
      next = hole.last + 1n;
    }
    if (next <= range.last) left.push({ family: range.family, first: next, last: range.last });
  }
  return left;
}
