/** layout: the keys and values of the maps as bytes, both ways: the same as bpf/layout.h. */
import { type Addr, addrBytes, addrFromBytes, type Family, familyOf } from "../../net/addr.ts";
import { type Prefix, prefixAddr, prefixLength } from "../../net/prefix.ts";
import type { Protocol } from "../../net/protocol.ts";
import type { Direction } from "../../model/policy.ts";
import { type AddrPort, formatAddrPort } from "../../program/policy.ts";
import { DIRECTIONS, type FailsafePort, HOOKS } from "../../program/program.ts";

export const RECORD_KINDS = {
  match: 1,
  action: 2,
  "empty-policy": 3,
  tier: 4,
  call: 5,
  "tier-end": 6,
  profiles: 7,
  end: 8,
  staged: 9,
  "no-stage": 10,
  "staged-action": 11,
  "staged-tier-end": 12,
  "staged-end": 13,
} as const;

export const ACTIONS = { allow: 1, deny: 2, pass: 3, log: 4 } as const;

export const ON_FAMILY = 1 << 0;
export const ON_PROTOCOL = 1 << 1;
export const ON_ICMP_TYPE = 1 << 2;
export const ON_ICMP_CODE = 1 << 3;
export const ON_SET = 1 << 4;
export const ON_PORTS = 1 << 5;
export const ON_NAMED_PORT = 1 << 6;
export const SET_OF_DESTINATION = 1 << 7;
export const PORT_OF_DESTINATION = 1 << 8;
export const SET_HAS_HOSTS = 1 << 9;
export const SET_HAS_NETS = 1 << 10;
export const IN_LIST = 1 << 11;
export const LIST_ENDS = 1 << 12;
export const LIST_IS_NEGATED = 1 << 13;
export const LIST_IS_EMPTY = 1 << 14;

export const HAS_PORTS = 1;
export const HAS_ICMP = 2;
/** Of the shape: no packet has it, so that the record never matches. */
export const NO_PACKET_HAS = 128;

/** Steps of the path that drop, in the order of their counters. */
export const DROPS: readonly string[] = [
  "loopback destination",
  "unknown interface or spoofed source",
  "link-local source",
  "unknown interface",
  "endpoint to host",
  "malformed packet",
  "too many records",
  "invalid connection state",
  "original address unknown",
  "answer to a flow that was cut",
];

/** What the interpreter compares of a packet. */
export interface Features {
  readonly family: number;
  readonly protocol: number;
  readonly shape: number;
  readonly icmpType: number;
  readonly icmpCode: number;
}

export const NO_FEATURES: Features = { family: 0, protocol: 0, shape: 0, icmpType: 0, icmpCode: 0 };

export interface ProgramRecord {
  readonly kind: number;
  readonly detail: number;
  readonly conditions: number;
  readonly target: number;
  readonly value: Features;
  readonly mask: Features;
  readonly from: number;
  readonly to: number;
  readonly yes: number;
  readonly no: number;
}

export const RECORD_BYTES = 32;
/** Of an event. */
export const EVENT_BYTES = 72;
/** Of what a record has counted: packets, then bytes, 64 bits each. */
export const COUNT_BYTES = 16;
/** Jumps are that long at most. */
export const LONGEST_JUMP = 0xffff;

export function encodeRecords(records: readonly ProgramRecord[]): Uint8Array {
  const bytes = new Uint8Array(records.length * RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, record] of records.entries()) {
    const at = i * RECORD_BYTES;
    bytes[at] = record.kind;
    bytes[at + 1] = record.detail;
    view.setUint16(at + 2, record.conditions, true);
    view.setUint32(at + 4, record.target, true);
    for (const [k, { family, protocol, shape, icmpType, icmpCode }] of [record.value, record.mask].entries())
      bytes.set([family, protocol, shape, icmpType, icmpCode], at + 8 + k * 8);
    view.setUint16(at + 24, record.from, true);
    view.setUint16(at + 26, record.to, true);
    view.setUint16(at + 28, record.yes, true);
    view.setUint16(at + 30, record.no, true);
  }
  return bytes;
}

export function decodeRecords(bytes: Uint8Array): ProgramRecord[] {
  const view = viewOf(bytes);
  const features = (at: number): Features => ({
    family: view.getUint8(at),
    protocol: view.getUint8(at + 1),
    shape: view.getUint8(at + 2),
    icmpType: view.getUint8(at + 3),
    icmpCode: view.getUint8(at + 4),
  });
  return Array.from({ length: bytes.length / RECORD_BYTES }, (_, i) => {
    const at = i * RECORD_BYTES;
    return {
      kind: view.getUint8(at),
      detail: view.getUint8(at + 1),
      conditions: view.getUint16(at + 2, true),
      target: view.getUint32(at + 4, true),
      value: features(at + 8),
      mask: features(at + 16),
      from: view.getUint16(at + 24, true),
      to: view.getUint16(at + 26, true),
      yes: view.getUint16(at + 28, true),
      no: view.getUint16(at + 30, true),
    };
  });
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = viewOf(bytes);
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value, true);
  return bytes;
}

export function wordsOf(bytes: Uint8Array): number[] {
  const view = viewOf(bytes);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(i * 4, true));
}

/** From which generation on an element holds, and from which no more; 0: for good. */
export interface Life {
  readonly born: number;
  readonly died: number;
}

export function decodeLife(bytes: Uint8Array): Life {
  const [born = 0, died = 0] = wordsOf(bytes);
  return { born, died };
}

function keyWithAddr(bytes: number, at: number, addr: Addr): Uint8Array {
  const key = new Uint8Array(bytes);
  key.set(addrBytes(addr), at);
  return key;
}

function addrAt(bytes: Uint8Array, at: number, family: number): Addr {
  return addrFromBytes(bytes.subarray(at, at + (family === 4 ? 4 : 16)));
}

export function encodeAddressKey(interfaceIndex: number, addr: Addr): Uint8Array {
  const key = keyWithAddr(24, 8, addr);
  viewOf(key).setUint32(0, interfaceIndex, true);
  viewOf(key).setUint32(4, familyOf(addr), true);
  return key;
}

export function decodeAddressKey(key: Uint8Array): { readonly interfaceIndex: number; readonly addr: Addr } {
  const [interfaceIndex = 0, family = 0] = wordsOf(key.subarray(0, 8));
  return { interfaceIndex, addr: addrAt(key, 8, family) };
}

/** A member of a set by its text: an address, or an address with protocol and port. */
export function encodeMemberKey(set: number, member: Addr | AddrPort): Uint8Array {
  const [addr = "", protocol = "0", port = "0"] = member.split(",");
  const key = keyWithAddr(24, 8, addr as Addr);
  viewOf(key).setUint32(0, set, true);
  viewOf(key).setUint16(4, Number(port), true);
  key[6] = Number(protocol);
  key[7] = familyOf(addr as Addr);
  return key;
}

export function decodeMemberKey(key: Uint8Array): {
  readonly set: number;
  readonly addr: Addr;
  readonly port: AddrPort;
} {
  const view = viewOf(key);
  const addr = addrAt(key, 8, view.getUint8(7));
  return {
    set: view.getUint32(0, true),
    addr,
    port: formatAddrPort(addr, view.getUint8(6) as Protocol, view.getUint16(4, true)),
  };
}

/** Before the address: set and family. */
const NET_KEY_BITS = 64;

export function encodeNetKey(set: number, net: Prefix): Uint8Array {
  const key = keyWithAddr(28, 12, prefixAddr(net));
  viewOf(key).setUint32(0, NET_KEY_BITS + prefixLength(net), true);
  viewOf(key).setUint32(4, set, true);
  viewOf(key).setUint32(8, familyOf(prefixAddr(net)), true);
  return key;
}

export function decodeNetKey(key: Uint8Array): { readonly set: number; readonly net: Prefix } {
  const [bits = 0, set = 0, family = 0] = wordsOf(key.subarray(0, 12));
  return { set, net: `${addrAt(key, 12, family as Family)}/${bits - NET_KEY_BITS}` as Prefix };
}

/** An interface from and to which packets may go past the host stack. */
export interface DeviceValue {
  /** Bytes of a packet. */
  readonly most: number;
  /** Into the other end of the pair. */
  readonly toPeer: boolean;
}

export function encodeDevice({ most, toPeer }: DeviceValue): Uint8Array {
  return words(most, toPeer ? 1 : 0);
}

/** What a packet is judged by, but for records and elements. */
export interface StateValue {
  readonly generation: number;
  readonly dropsForHost: boolean;
  readonly hasHostEndpoints: boolean;
  /** The version of the failsafe ports in force. */
  readonly failsafes: number;
  /** Packets in the middle of flows go past the host stack (`past.ts`). */
  readonly goesPast: boolean;
  /** Bits by which `past.ts` remembers what settings of the kernel were before. */
  readonly settings: number;
}

const DROPS_FOR_HOST = 1;
const HAS_HOST_ENDPOINTS = 2;
const GOES_PAST = 4;

export function encodeState(state: StateValue): Uint8Array {
  const flags =
    (state.dropsForHost ? DROPS_FOR_HOST : 0) |
    (state.hasHostEndpoints ? HAS_HOST_ENDPOINTS : 0) |
    (state.goesPast ? GOES_PAST : 0);
  return words(state.generation, flags, state.failsafes, state.settings);
}

export function decodeState(bytes: Uint8Array): StateValue {
  const [generation = 0, flags = 0, failsafes = 0, settings = 0] = wordsOf(bytes);
  return {
    generation,
    dropsForHost: (flags & DROPS_FOR_HOST) !== 0,
    hasHostEndpoints: (flags & HAS_HOST_ENDPOINTS) !== 0,
    failsafes,
    goesPast: (flags & GOES_PAST) !== 0,
    settings,
  };
}

const ENDPOINT_KINDS = { none: 0, workload: 1, host: 2 } as const;

/** First records of an endpoint's stages, hook by hook, of each the ingress stage first; 0: none. */
export interface EndpointStages {
  readonly kind: keyof typeof ENDPOINT_KINDS;
  /** Number of the set of a workload's source prefixes; 0: it has none. */
  readonly sources: number;
  readonly first: readonly number[];
}

export const NO_STAGES: EndpointStages = {
  kind: "none",
  sources: 0,
  first: HOOKS.flatMap(() => DIRECTIONS.map(() => 0)),
};

/** In the number of a first record: the stage is a staged one alone. */
export const COUNTS_ALONE = 1 << 30;

/** Of an interface; 0: every one that has no endpoint and is no workload's. */
export const EVERY_INDEX = 0;

/** `before` holds up to generation `since`. */
export interface EndpointValue {
  readonly since: number;
  readonly before: EndpointStages;
  readonly after: EndpointStages;
}

export function encodeEndpoint({ since, before, after }: EndpointValue): Uint8Array {
  return words(
    since,
    ...[before, after].flatMap(({ kind, sources, first }) => [ENDPOINT_KINDS[kind], sources, ...first]),
  );
}

export function decodeEndpoint(bytes: Uint8Array): EndpointValue {
  const [since = 0, ...rest] = wordsOf(bytes);
  const stages = (at: number): EndpointStages => ({
    kind: rest[at] === ENDPOINT_KINDS.workload ? "workload" : rest[at] === ENDPOINT_KINDS.host ? "host" : "none",
    sources: rest[at + 1] ?? 0,
    first: rest.slice(at + 2, at + 2 + NO_STAGES.first.length),
  });
  return { since, before: stages(0), after: stages(2 + NO_STAGES.first.length) };
}

/** Before the address: version, direction, protocol, port and family. */
const FAILSAFE_KEY_BITS = 96;

/** A failsafe port at any address is one of each family. */
export function encodeFailsafeKeys(version: number, direction: Direction, entry: FailsafePort): Uint8Array[] {
  const nets = entry.net === undefined ? ANYWHERE : [entry.net];
  return nets.map((net) => {
    const key = keyWithAddr(32, 16, prefixAddr(net));
    const view = viewOf(key);
    view.setUint32(0, FAILSAFE_KEY_BITS + prefixLength(net), true);
    view.setUint32(4, version, true);
    key[8] = DIRECTIONS.indexOf(direction);
    key[9] = entry.protocol;
    view.setUint16(10, entry.port, true);
    view.setUint32(12, familyOf(prefixAddr(net)), true);
    return key;
  });
}

export function versionOfFailsafe(key: Uint8Array): number {
  return viewOf(key).getUint32(4, true);
}

const ANYWHERE = ["0.0.0.0/0", "::/0"] as readonly string[] as readonly Prefix[];

export const OBJECT_KINDS = {
  "policy-ingress": 1,
  "policy-egress": 2,
  "stage-ingress": 3,
  "stage-egress": 4,
  set: 5,
  endpoint: 6,
  "staged-policy-ingress": 7,
  "staged-policy-egress": 8,
  "staged-stage-ingress": 9,
  "staged-stage-egress": 10,
} as const;
export type ObjectKind = keyof typeof OBJECT_KINDS;

export function objectKindOf(number: number): ObjectKind | undefined {
  for (const [kind, own] of Object.entries(OBJECT_KINDS)) if (own === number) return kind as ObjectKind;
  return undefined;
}

const TEXT_PART = 256;

/** The text of an object as parts of equal size, by the number of the part. */
export function textParts(text: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  return Array.from({ length: partsOf(bytes.length) }, (_, i) => {
    const part = new Uint8Array(TEXT_PART);
    part.set(bytes.subarray(i * TEXT_PART, (i + 1) * TEXT_PART));
    return part;
  });
}

/** Parts of a text of so many bytes. */
export function partsOf(length: number): number {
  return Math.ceil(length / TEXT_PART);
}

export function textBytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** The inverse of `textParts`; undefined: a part is missing. */
export function textOfParts(parts: ReadonlyMap<number, Uint8Array>, length: number): string | undefined {
  const bytes = new Uint8Array(length);
  for (let i = 0; i * TEXT_PART < length; i++) {
    const part = parts.get(i);
    if (part === undefined) return undefined;
    bytes.set(part.subarray(0, Math.min(TEXT_PART, length - i * TEXT_PART)), i * TEXT_PART);
  }
  return new TextDecoder().decode(bytes);
}
