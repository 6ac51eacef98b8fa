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

function parse6(text: string): Uint8Array | undefined {
  let source = text;
  const dot = source.lastIndexOf(".");
  if (dot >= 0) {
    const colon = source.lastIndexOf(":");
    const four = parse4(source.slice(colon + 1));
    if (four === undefined) return undefined;
    const high = (((four[0] ?? 0) << 8) | (four[1] ?? 0)).toString(16);
    const low = (((four[2] ?? 0) << 8) | (four[3] ?? 0)).toString(16);
    source = `${source.slice(0, colon + 1)}${high}:${low}`;
  }
  const halves = source.split("::");
  if (halves.length > 2) return undefined;
  const head = halves[0] === "" ? [] : (halves[0] ?? "").split(":");
  const tail = halves.length < 2 || halves[1] === "" ? [] : (halves[1] ?? "").split(":");
  const given = head.length + tail.length;
  if (halves.length === 1 ? given !== 8 : given > 7) return undefined;
  const groups = [...head, ...Array<string>(8 - given).fill("0"), ...tail];
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 8; i++) {
    const group = groups[i] ?? "";
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    const value = Number.parseInt(group, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 255;
  }
  return bytes;
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
  let value = 0n;
  for (const byte of addrBytes(addr)) value = (value << 8n) | BigInt(byte);
  return value;
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
