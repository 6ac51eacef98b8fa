/** codec: routes between netlink's bytes and the fake kernel's entries. Source: linux/rtnetlink.h, net/ipv4/fib_frontend.c, net/ipv6/route.c. */
import { type Addr, addrBytes, addrFromBytes, type Family } from "../../../net/addr.ts";
import { parsePrefix, type Prefix, prefixAddr, prefixFamily, prefixLength } from "../../../net/prefix.ts";
import { EINVAL } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
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
  RTMSG,
  RTNEXTHOP,
  RTNH_F_ONLINK,
} from "../../route/wire.ts";
import type { Body } from "../messages.ts";
import { EAFNOSUPPORT, refuse, required, unmodelled } from "../refusal.ts";
import type { FakeHop, FakeRouteEntry, RoutePattern } from "./table.ts";

type Attributes = ReadonlyMap<number, Span>;

const KNOWN: ReadonlySet<number> = new Set([
  RTA_DST,
  RTA_OIF,
  RTA_GATEWAY,
  RTA_PRIORITY,
  RTA_PREFSRC,
  RTA_MULTIPATH,
  RTA_TABLE,
]);
/** RTN_UNICAST to RTN_MULTICAST lead by an interface. */
const LAST_WITH_INTERFACE = 5;
/** The loopback, which IPv6 reports of what leads nowhere. */
const LOOPBACK = 1;

export function familyAt(body: Span): Family {
  return familyOfNumber(body.u8()) ?? refuse(EAFNOSUPPORT);
}

/** undefined where there is none. */
export function addrAt(attributes: Attributes | undefined, type: number, family: Family): Addr | undefined {
  const span = attributes?.get(type);
  if (span === undefined) return undefined;
  return span.length === (family === 4 ? 4 : 16) ? addrFromBytes(span.copy()) : refuse(EINVAL);
}

/** What a message about a route says, its table and destination found. */
export interface RouteMessage {
  readonly family: Family;
  readonly destination: Prefix;
  readonly table: number;
  readonly body: Span;
  readonly attributes: Attributes;
}

export function readRoute(body: Span): RouteMessage {
  const family = familyAt(body);
  const attributes = required(body.after(RTMSG)?.attributes());
  for (const type of attributes.keys()) if (!KNOWN.has(type)) unmodelled(`attribute ${type} of a route`);
  const addr = addrAt(attributes, RTA_DST, family) ?? (family === 4 ? "0.0.0.0" : "::");
  const prefix = parsePrefix(`${addr}/${required(body.u8(1))}`);
  // IPv4 refuses host bits; IPv6 clears them, which nobody here asks of it.
  if (!prefix.ok)
    return family === 4 ? refuse(EINVAL, "Invalid prefix for given prefix length") : unmodelled("host bits in a route");
  const table = attributes.get(RTA_TABLE)?.u32() ?? required(body.u8(4));
  return { family, destination: prefix.value, table, body, attributes };
}

export function entryOf({ family, destination, table, body, attributes }: RouteMessage): FakeRouteEntry {
  const type = required(body.u8(7));
  if (type === 0 || type > 9) refuse(EINVAL);
  const metric = attributes.get(RTA_PRIORITY)?.u32() ?? 0;
  const entry = {
    destination,
    table,
    protocol: required(body.u8(5)),
    type,
    tos: family === 4 ? required(body.u8(3)) : 0,
    scope: family === 4 ? required(body.u8(6)) : 0,
    metric: family === 6 && metric === 0 ? IP6_DEFAULT_METRIC : metric,
    source: addrAt(attributes, RTA_PREFSRC, family),
  };
  if (type > LAST_WITH_INTERFACE) {
    if (attributes.has(RTA_OIF) || attributes.has(RTA_GATEWAY))
      unmodelled("an interface of a route that leads nowhere");
    return { ...entry, hops: [] };
  }
  const several = attributes.get(RTA_MULTIPATH);
  const onLink = ((body.u32(8) ?? 0) & RTNH_F_ONLINK) !== 0;
  const gateway = addrAt(attributes, RTA_GATEWAY, family);
  const index = attributes.get(RTA_OIF)?.u32();
  if (several !== undefined) return { ...entry, hops: hopsOf(several, family) };
  if (index === undefined) return unmodelled("a route without its interface");
  return { ...entry, hops: [{ index, gateway, onLink, weight: 1 }] };
}

function hopsOf(list: Span, family: Family): FakeHop[] {
  const hops: FakeHop[] = [];
  for (let rest: Span | undefined = list; rest !== undefined && rest.length >= RTNEXTHOP;) {
    const length = rest.u16() ?? 0;
    if (length < RTNEXTHOP || length > rest.length) refuse(EINVAL);
    hops.push({
      index: required(rest.u32(4)),
      gateway: addrAt(rest.slice(RTNEXTHOP, length)?.attributes(), RTA_GATEWAY, family),
      onLink: ((rest.u8(2) ?? 0) & RTNH_F_ONLINK) !== 0,
      weight: (rest.u8(3) ?? 0) + 1,
    });
    rest = rest.after((length + 3) & ~3);
  }
  return hops;
}

/** What a deletion means: zeros and absent attributes match anything. */
export function patternOf({ family, destination, table, body, attributes }: RouteMessage): RoutePattern {
  const some = (value: number | undefined): number | undefined => (value === 0 ? undefined : value);
  const scope = body.u8(6);
  return {
    destination,
    table,
    tos: required(body.u8(3)),
    type: some(body.u8(7)),
    scope: scope === RT_SCOPE_NOWHERE ? undefined : scope,
    protocol: some(body.u8(5)),
    metric: some(attributes.get(RTA_PRIORITY)?.u32()),
    index: attributes.get(RTA_OIF)?.u32(),
    gateway: addrAt(attributes, RTA_GATEWAY, family),
  };
}

export function routeBody(route: FakeRouteEntry): Body {
  const family = prefixFamily(route.destination);
  return (w) => {
    const [only] = route.hops;
    const single = route.hops.length === 1 ? only : undefined;
    const at = w.header(RTMSG);
    w.putU8(at, ADDRESS_FAMILY[family]);
    w.putU8(at + 1, prefixLength(route.destination));
    w.putU8(at + 3, route.tos);
    w.putU8(at + 4, route.table < 256 ? route.table : 252);
    w.putU8(at + 5, route.protocol);
    w.putU8(at + 6, route.scope);
    w.putU8(at + 7, route.type);
    if (single?.onLink === true) w.putU32(at + 8, RTNH_F_ONLINK);
    w.u32(RTA_TABLE, route.table);
    if (prefixLength(route.destination) > 0) w.bytesOf(RTA_DST, addrBytes(prefixAddr(route.destination)));
    if (route.metric !== 0) w.u32(RTA_PRIORITY, route.metric);
    if (route.source !== undefined) w.bytesOf(RTA_PREFSRC, addrBytes(route.source));
    if (route.hops.length === 0 && family === 6) w.u32(RTA_OIF, LOOPBACK);
    if (single !== undefined) {
      if (single.gateway !== undefined) w.bytesOf(RTA_GATEWAY, addrBytes(single.gateway));
      w.u32(RTA_OIF, single.index);
    } else if (route.hops.length > 1) {
      const list = w.open(RTA_MULTIPATH, false);
      for (const hop of route.hops) {
        const start = w.header(RTNEXTHOP);
        w.putU8(start + 3, hop.weight - 1);
        w.putU32(start + 4, hop.index);
        if (hop.gateway !== undefined) w.bytesOf(RTA_GATEWAY, addrBytes(hop.gateway));
        w.putU16(start, w.length - start);
      }
      w.close(list);
    }
  };
}
