/** print-values: keys, compared values and set declarations as `nft` writes them. */
import { bytesFromHex } from "../../lib/bytes.ts";
import { addrFromBytes } from "../../net/addr.ts";
import type { KeyField, NftElement, NftSet, NftVerdict } from "./objects.ts";
import { KEY_FIELDS } from "./wire.ts";

/** What a register holds, which decides how a value compared with it is written. */
export type ValueKind = KeyField | "ct_state" | "mark" | "raw";

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, "icmp"],
  [6, "tcp"],
  [17, "udp"],
  [58, "ipv6-icmp"],
  [132, "sctp"],
]);
const STATES: readonly (readonly [number, string])[] = [
  [1, "invalid"],
  [2, "established"],
  [4, "related"],
  [8, "new"],
  [64, "untracked"],
];

/** Hex of one value, without padding. What does not fit its kind is written as `0x…`. */
export function printValue(kind: ValueKind, hex: string): string {
  const bytes = bytesFromHex(hex) ?? new Uint8Array(0);
  switch (kind) {
    case "ipv4_addr":
      return bytes.length === 4 ? addrFromBytes(bytes) : raw(hex);
    case "ipv6_addr":
      return bytes.length === 16 ? addrFromBytes(bytes) : raw(hex);
    case "inet_service":
      return bytes.length === 2 ? String(Number.parseInt(hex, 16)) : raw(hex);
    case "inet_proto":
      return bytes.length === 1 ? (PROTOCOLS.get(bytes[0] ?? 0) ?? String(bytes[0])) : raw(hex);
    case "nf_proto":
      return hex === "02" ? "ipv4" : hex === "0a" ? "ipv6" : raw(hex);
    case "ifname":
      return printName(bytes);
    case "ct_state":
      return printStates(bytes, hex);
    case "iface_index":
      return bytes.length === 4 ? String(Number.parseInt(reversed(hex), 16)) : raw(hex);
    case "mark":
      return bytes.length === 4 ? `0x${reversed(hex)}` : raw(hex);
    default:
      return raw(hex);
  }
}

function raw(hex: string): string {
  return `0x${hex}`;
}

/** Host order to the order in which numbers are written. */
function reversed(hex: string): string {
  return (hex.match(/../g) ?? []).reverse().join("");
}

/** A name that fills its 16 bytes with NULs is exact; without a NUL it is the beginning of names. */
function printName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const name = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  return JSON.stringify(end < 0 ? `${name}*` : name);
}

function printStates(bytes: Uint8Array, hex: string): string {
  if (bytes.length !== 4) return raw(hex);
  const bits = Number.parseInt(reversed(hex), 16);
  const names = STATES.filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name);
  const known = STATES.reduce((sum, [bit]) => sum | bit, 0);
  return bits === 0 || (bits & ~known) !== 0 ? raw(hex) : names.join(",");
}

export function printVerdict(verdict: NftVerdict): string {
  return "chain" in verdict ? `${verdict.type} ${verdict.chain}` : verdict.type;
}

/** `type ifname . ipv4_addr; flags interval;` and for maps `type ifname : verdict;`. */
export function printSetType(set: NftSet): string {
  return `type ${set.key.join(" . ")}${set.verdictMap ? " : verdict" : ""};${set.interval ? " flags interval;" : ""}`;
}

/** `10.0.0.0/24`, `"cali1" . 10.0.0.1 : goto x`, `tcp . 80-90`. */
export function printElement(set: NftSet, element: NftElement): string {
  const starts = fieldsOf(set.key, element.key);
  const ends = element.keyEnd === undefined ? starts : fieldsOf(set.key, element.keyEnd);
  const key = set.key.map((field, i) => printRange(field, starts[i] ?? "", ends[i] ?? "")).join(" . ");
  return element.verdict === undefined ? key : `${key} : ${printVerdict(element.verdict)}`;
}

/** The fields of a key, without the padding of a concatenation. */
function fieldsOf(key: readonly KeyField[], hex: string): string[] {
  let at = 0;
  return key.map((field) => {
    const { length } = KEY_FIELDS[field];
    const value = hex.slice(at, at + length * 2);
    at += ((length + 3) & ~3) * 2;
    return value;
  });
}

function printRange(field: KeyField, from: string, to: string): string {
  if (from === to) return printValue(field, from);
  const address = field === "ipv4_addr" || field === "ipv6_addr";
  const length = address ? prefixLengthOf(from, to) : undefined;
  return length === undefined
    ? `${printValue(field, from)}-${printValue(field, to)}`
    : `${printValue(field, from)}/${length}`;
}

/** Length of the prefix whose first and last address these are; undefined when there is none. */
function prefixLengthOf(from: string, to: string): number | undefined {
  const bits = from.length * 4;
  const [first, last] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
  const host = first ^ last;
  if ((host & (host + 1n)) !== 0n || (first & host) !== 0n) return undefined;
  return bits - (host === 0n ? 0 : host.toString(2).length);
}
