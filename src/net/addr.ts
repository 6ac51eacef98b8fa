/**
 * Addr: one IPv4 or IPv6 address as its canonical text (RFC 5952 for IPv6), so that equal addresses are equal strings.
 *
 * Owns parsing, formatting and the two byte forms. IPv4-mapped IPv6 text is kept as IPv6; zones (`%eth0`) are refused.
 */
import type { Brand } from "../lib/brand.ts";
import { BugError } from "../lib/bug.ts";
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";

export type Addr = Brand<string, "Addr">;
export type Family = 4 | 6;
export const FAMILIES: readonly Family[] = [4, 6];

/** Number of bits of an address of the family: 32 or 128. */
export function bitsOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

export function familyOf(addr: Addr): Family {
  return addr.includes(":") ? 6 : 4;
}

export function parseAddr(text: string): Result<Addr, ParseError> {
  // What is valid is canonical already.
  if (IPV4.test(text)) return ok(text as Addr);
  const bytes = text.includes(":") ? parse6(text) : undefined;
  if (bytes === undefined)
    return fail({
      what: "address",
      found: text,
      wanted: "must be an IPv4 or IPv6 address such as 10.0.0.1 or fd00::1",
    });
  return ok(addrFromBytes(bytes));
}

/** Decimal numbers of 0 to 255 without leading zeros. */
const IPV4 = /^(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;

function parse4(text: string): Uint8Array | undefined {
  return IPV4.test(text) ? Uint8Array.from(text.split("."), Number) : undefined;
}

const [COLON, DOT] = [58, 46];

/** Value of the hexadecimal digit with that code; -1: it is none. */
function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}

function parse6(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(16);
  let at = 0;
  /** Where `::` stands, in bytes. */
  let gap = -1;
  let i = 0;
  if (text.startsWith("::")) [gap, i] = [0, 2];
  for (let isGroupDue = gap < 0; i < text.length || isGroupDue;) {
    const end = groupEnd(text, i);
    if (text.charCodeAt(end) === DOT) {
      const four = parse4(text.slice(i));
      if (four === undefined || at > 12) return undefined;
      bytes.set(four, at);
      at += 4;
      break;
    }
    if (end === i || end - i > 4 || at === 16) return undefined;
    let value = 0;
    for (; i < end; i++) value = (value << 4) | hexDigit(text.charCodeAt(i));
    bytes[at++] = value >> 8;
    bytes[at++] = value & 255;
    if (i === text.length) break;
    if (text.charCodeAt(i++) !== COLON) return undefined;
    isGroupDue = text.charCodeAt(i) !== COLON;
    if (isGroupDue) continue;
    if (gap >= 0) return undefined;
    gap = at;
    i++;
  }
  if (gap < 0) return at === 16 ? bytes : undefined;
  if (at > 14) return undefined;
  bytes.copyWithin(16 - (at - gap), gap, at);
  bytes.fill(0, gap, 16 - (at - gap));
  return bytes;
}

/** Of the hexadecimal digits that begin there. */
function groupEnd(text: string, from: number): number {
  let end = from;
  while (end < text.length && hexDigit(text.charCodeAt(end)) >= 0) end++;
  return end;
}

/** The 4 or 16 bytes of the address, network order, in a fresh array. */
export function addrBytes(addr: Addr): Uint8Array {
  const bytes = addr.includes(":") ? parse6(addr) : parse4(addr);
  if (bytes === undefined) throw new BugError(`not a canonical address: ${addr}`);
  return bytes;
}

/** 4 bytes make an IPv4 address, 16 an IPv6 one; any other length is a bug of the caller. */
export function addrFromBytes(bytes: Uint8Array): Addr {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Addr;
  if (bytes.length !== 16) throw new BugError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  return format6(bytes) as Addr;
}

function format6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8;) {
    if (groups[i] !== 0) {
      i++;
      continue;
    }
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) {
      best = i;
      bestLength = end - i;
    }
    i = end;
  }
  const hex = groups.map((group) => group.toString(16));
  if (best < 0) return hex.join(":");
  return `${hex.slice(0, best).join(":")}::${hex.slice(best + bestLength).join(":")}`;
}

/** The address as an unsigned integer of 32 or 128 bits. */
export function addrToInteger(addr: Addr): bigint {
  const bytes = addrBytes(addr);
  let value = 0n;
  for (let i = 0; i < bytes.length; i += 4) value = (value << 32n) | BigInt(wordAt(bytes, i));
  return value;
}

/** 32 bits, unsigned. */
function wordAt(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

/** The inverse of `addrToInteger`; out of range is a bug of the caller. */
export function addrFromInteger(family: Family, value: bigint): Addr {
  const length = family === 4 ? 4 : 16;
  if (value < 0n || value >> BigInt(length * 8) !== 0n) throw new BugError(`${value} is not an IPv${family} address`);
  const bytes = new Uint8Array(length);
  let rest = value;
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 255n);
    rest >>= 8n;
  }
  return addrFromBytes(bytes);
}
