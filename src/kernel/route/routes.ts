/** Routes, as the kernel keeps them. */
import { unwrap } from "../../lib/result.ts";
import { type Addr, addrBytes, bitsOf, type Family, familyOf, parseAddr } from "../../net/addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "../../net/prefix.ts";
import type { Message, Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import { decodeAddr } from "./addresses.ts";
import {
  ADDRESS_FAMILY,
  familyOfNumber,
  IP6_DEFAULT_METRIC,
  RT_SCOPE_NOWHERE,
  RTA_DST,
  RTA_GATEWAY,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_TABLE,
  RTM_F_FIB_MATCH,
  RTMSG,
  RTNEXTHOP,
  RTNH_F_ONLINK,
} from "./wire.ts";

export type RouteType =
  | "unicast"
  | "local"
  | "broadcast"
  | "anycast"
  | "multicast"
  | "blackhole"
  | "unreachable"
  | "prohibit"
  | "throw";

/** RTN_UNICAST … RTN_THROW of linux/rtnetlink.h, from 1. */
const TYPES: readonly RouteType[] = [
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
];

/** RT_SCOPE_UNIVERSE and RT_SCOPE_LINK. */
export const SCOPE_UNIVERSE = 0;
export const SCOPE_LINK = 253;
export const MAIN_TABLE = 254;

export interface KernelRoute {
  readonly destination: Prefix;
  /** RT_TABLE_MAIN is 254. */
  readonly table: number;
  /** Who made it: RTPROT_*, 0 to 255. */
  readonly protocol: number;
  readonly type: RouteType;
  /** Type of service for which alone it counts, of IPv4; absent: 0, any. */
  readonly tos?: number;
  /** RT_SCOPE_*; IPv6 has none: it takes any and reports 0. */
  readonly scope: number;
  /** Never present for blackhole, unreachable, prohibit and throw. */
  readonly interfaceIndex?: number;
  readonly gateway?: Addr;
  /** Reach the gateway on the interface although no route covers it. */
  readonly onLink?: boolean;
  /** Absent: 0 in IPv4, 1024 in IPv6 (the kernel's default). */
  readonly metric?: number;
  /** Source address for packets of this host. */
  readonly source?: Addr;
  /** Several ways with weights, in place of `interfaceIndex` and `gateway`. */
  readonly nextHops?: readonly NextHop[];
}

export interface NextHop {
  readonly interfaceIndex: number;
  readonly gateway: Addr | undefined;
  /** 1 to 256. */
  readonly weight: number;
}

/**
 * Writes the route. For a deletion (`exact: false`) the scope is not compared, and what is absent matches anything, so that
 * destination, table, protocol and type are enough.
 */
export function encodeRoute(w: Writer, route: KernelRoute, exact: boolean): void {
  const family = prefixFamily(route.destination);
  const at = w.header(RTMSG);
  w.putU8(at, ADDRESS_FAMILY[family]);
  w.putU8(at + 1, prefixLength(route.destination));
  if (route.tos !== undefined) w.putU8(at + 3, route.tos);
  // Larger numbers are in RTA_TABLE only.
  w.putU8(at + 4, route.table < 256 ? route.table : 0);
  w.putU8(at + 5, route.protocol);
  w.putU8(at + 6, exact ? route.scope : RT_SCOPE_NOWHERE);
  w.putU8(at + 7, TYPES.indexOf(route.type) + 1);
  if (route.onLink === true) w.putU32(at + 8, RTNH_F_ONLINK);
  if (prefixLength(route.destination) > 0) w.bytesOf(RTA_DST, addrBytes(prefixAddr(route.destination)));
  if (route.table >= 256) w.u32(RTA_TABLE, route.table);
  if (route.metric !== undefined) w.u32(RTA_PRIORITY, route.metric);
  if (route.interfaceIndex !== undefined) w.u32(RTA_OIF, route.interfaceIndex);
  if (route.gateway !== undefined) w.bytesOf(RTA_GATEWAY, addrBytes(route.gateway));
  if (route.source !== undefined) w.bytesOf(RTA_PREFSRC, addrBytes(route.source));
  if (route.nextHops !== undefined) encodeNextHops(w, route.nextHops);
}

function encodeNextHops(w: Writer, nextHops: readonly NextHop[]): void {
  const list = w.open(RTA_MULTIPATH, false);
  for (const hop of nextHops) {
    const at = w.header(RTNEXTHOP);
    w.putU8(at + 3, hop.weight - 1);
    w.putU32(at + 4, hop.interfaceIndex);
    if (hop.gateway !== undefined) w.bytesOf(RTA_GATEWAY, addrBytes(hop.gateway));
    w.putU16(at, w.length - at);
  }
  w.close(list);
}

export function encodeRouteQuery(w: Writer, family: Family, table: number | undefined): void {
  const at = w.header(RTMSG);
  w.putU8(at, ADDRESS_FAMILY[family]);
  if (table === undefined) return;
  w.putU8(at + 4, table < 256 ? table : 0);
  w.u32(RTA_TABLE, table);
}

/** Asks which route packets to the address take. */
export function encodeLookup(w: Writer, addr: Addr): void {
  const family = familyOf(addr);
  const at = w.header(RTMSG);
  w.putU8(at, ADDRESS_FAMILY[family]);
  w.putU8(at + 1, bitsOf(family));
  w.putU32(at + 8, RTM_F_FIB_MATCH);
  w.bytesOf(RTA_DST, addrBytes(addr));
}

const UNSPECIFIED: { readonly [F in Family]: Addr } = { 4: unwrap(parseAddr("0.0.0.0")), 6: unwrap(parseAddr("::")) };

/** undefined when the message is malformed or of another family. */
export function decodeRoute({ body }: Message): KernelRoute | undefined {
  const family = familyOfNumber(body.u8());
  const length = body.u8(1);
  const flags = body.u32(8);
  const type = TYPES[(body.u8(7) ?? 0) - 1];
  const attributes = body.after(RTMSG)?.attributes();
  if (
    family === undefined ||
    length === undefined ||
    flags === undefined ||
    type === undefined ||
    attributes === undefined
  )
    return undefined;
  const destination = length === 0 ? UNSPECIFIED[family] : decodeAddr(attributes.get(RTA_DST), family);
  if (destination === undefined || length > (family === 4 ? 32 : 128)) return undefined;
  const metric = attributes.get(RTA_PRIORITY)?.u32();
  const interfaceIndex = leadsNowhere(type) ? undefined : attributes.get(RTA_OIF)?.u32();
  const gateway = decodeAddr(attributes.get(RTA_GATEWAY), family);
  const source = decodeAddr(attributes.get(RTA_PREFSRC), family);
  const tos = body.u8(3) ?? 0;
  const nextHops = decodeNextHops(attributes.get(RTA_MULTIPATH), family);
  return {
    // The kernel keeps destinations with their host bits cleared, and an address's text is canonical.
    destination: `${destination}/${length}` as Prefix,
    table: attributes.get(RTA_TABLE)?.u32() ?? body.u8(4) ?? 0,
    protocol: body.u8(5) ?? 0,
    type,
    ...(tos === 0 ? {} : { tos }),
    scope: body.u8(6) ?? 0,
    ...(interfaceIndex === undefined ? {} : { interfaceIndex }),
    ...(gateway === undefined ? {} : { gateway }),
    ...((flags & RTNH_F_ONLINK) === 0 ? {} : { onLink: true }),
    ...(metric === undefined || metric === (family === 4 ? 0 : IP6_DEFAULT_METRIC) ? {} : { metric }),
    ...(source === undefined ? {} : { source }),
    ...(nextHops === undefined ? {} : { nextHops }),
  };
}

/** IPv6 reports the loopback as their interface. */
function leadsNowhere(type: RouteType): boolean {
  return type === "blackhole" || type === "unreachable" || type === "prohibit" || type === "throw";
}

function decodeNextHops(list: Span | undefined, family: Family): NextHop[] | undefined {
  if (list === undefined) return undefined;
  const hops: NextHop[] = [];
  for (let rest: Span | undefined = list; rest !== undefined && rest.length >= RTNEXTHOP;) {
    const length = rest.u16() ?? 0;
    const interfaceIndex = rest.u32(4);
    if (length < RTNEXTHOP || length > rest.length || interfaceIndex === undefined) return undefined;
    const gateway = decodeAddr(rest.slice(RTNEXTHOP, length)?.attributes()?.get(RTA_GATEWAY), family);
    hops.push({ interfaceIndex, gateway, weight: (rest.u8(3) ?? 0) + 1 });
    rest = rest.after((length + 3) & ~3);
  }
  return hops;
}
