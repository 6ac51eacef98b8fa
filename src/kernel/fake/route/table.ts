/**
 * FakeRoutes: the routes of one namespace, both families: added, replaced and deleted by the kernel's rules of which is which, and looked up.
 *
 * Source: linux net/ipv4/fib_trie.c, fib_semantics.c, net/ipv6/route.c, ip6_fib.c.
 */
import { type Addr, addrBytes, type Family, familyOf } from "../../../net/addr.ts";
import { type Prefix, prefixAddr, prefixFamily, prefixLength } from "../../../net/prefix.ts";
import { EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, ENOENT, ESRCH } from "../../errno.ts";
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import { ENETDOWN, refuse } from "../refusal.ts";
import type { FakeLink } from "./links.ts";

export interface FakeHop {
  readonly index: number;
  readonly gateway: Addr | undefined;
  readonly onLink: boolean;
  readonly weight: number;
}

export interface FakeRouteEntry {
  readonly destination: Prefix;
  readonly table: number;
  readonly protocol: number;
  /** RTN_*. */
  readonly type: number;
  readonly tos: number;
  readonly scope: number;
  readonly metric: number;
  readonly source: Addr | undefined;
  /** Empty for what leads nowhere. */
  readonly hops: readonly FakeHop[];
}

export const TABLE_LOCAL = 255;
export const TABLE_MAIN = 254;
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;
/** What lookups of blackhole, unreachable and prohibit answer. */
const NOWHERE: ReadonlyMap<number, number> = new Map([
  [6, EINVAL],
  [7, EHOSTUNREACH],
  [8, EACCES],
]);
const RTN_THROW = 9;
const SCOPE_LINK = 253;

/** What the checks of a new route ask of the rest of the namespace. */
export interface Surroundings {
  link(index: number): FakeLink | undefined;
  hasAddress(addr: Addr): boolean;
  /** A route came or went; `by`: port id of the socket that asked for it, 0 when the kernel did it by itself. */
  tell(route: FakeRouteEntry, gone: boolean, by: number): void;
}

/** Which routes a deletion means; what is undefined matches anything. */
export interface RoutePattern {
  readonly destination: Prefix;
  readonly table: number;
  readonly tos: number;
  readonly type: number | undefined;
  readonly scope: number | undefined;
  readonly protocol: number | undefined;
  readonly metric: number | undefined;
  readonly index: number | undefined;
  readonly gateway: Addr | undefined;
}

export class FakeRoutes {
  readonly #around: Surroundings;
  #routes: FakeRouteEntry[] = [];
  /** Grows with every change. */
  changes = 0;
  /** Tables that were ever used, by family. */
  readonly #tables: { readonly [F in Family]: Set<number> } = {
    4: new Set([253, TABLE_MAIN, TABLE_LOCAL]),
    6: new Set([TABLE_MAIN, TABLE_LOCAL]),
  };

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** ENOENT when the table was never used. */
  of(family: Family, table: number): readonly FakeRouteEntry[] {
    if (!this.#tables[family].has(table)) refuse(ENOENT, "FIB table does not exist");
    return this.#routes.filter((route) => prefixFamily(route.destination) === family && route.table === table);
  }

  add(route: FakeRouteEntry, flags: number, by: number): void {
    const family = prefixFamily(route.destination);
    this.#check(route, family);
    const isSame = (other: FakeRouteEntry): boolean =>
      other.destination === route.destination &&
      other.table === route.table &&
      other.metric === route.metric &&
      (family === 6 || other.tos === route.tos);
    const at = this.#routes.findIndex(isSame);
    if (at >= 0) {
      if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
      if ((flags & NLM_F_REPLACE) !== 0) {
        this.#routes[at] = route;
        this.#changed(route, false, by);
        return;
      }
      if (this.#routes.some((other) => isSame(other) && sameWay(other, route, family))) refuse(EEXIST);
    } else if ((flags & NLM_F_CREATE) === 0) refuse(ENOENT);
    this.#tables[family].add(route.table);
    // IPv4: a route is put before those of its destination and metric unless it is appended.
    if (at >= 0 && family === 4 && (flags & NLM_F_APPEND) === 0) this.#routes.splice(at, 0, route);
    else this.#routes.push(route);
    this.#changed(route, false, by);
  }

  #changed(route: FakeRouteEntry, gone: boolean, by: number): void {
    this.changes++;
    this.#around.tell(route, gone, by);
  }

  #check(route: FakeRouteEntry, family: Family): void {
    if (route.source !== undefined && !this.#around.hasAddress(route.source))
      refuse(EINVAL, family === 4 ? "Invalid prefsrc address" : "Invalid source address");
    for (const hop of route.hops) {
      // IPv4 looks for the way to a gateway before it looks at the interface.
      if (family === 4 && hop.gateway !== undefined && !hop.onLink) {
        this.#checkGateway4(route, hop, hop.gateway);
        continue;
      }
      const link = this.#around.link(hop.index);
      if (link === undefined) return refuse(ENODEV);
      if (!link.up) refuse(ENETDOWN, family === 4 ? "Device for nexthop is not up" : "Nexthop device is not up");
      if (hop.gateway === undefined) continue;
      if (family === 4) this.#checkGateway4(route, hop, hop.gateway);
      else this.#checkGateway6(hop, hop.gateway);
    }
  }

  #checkGateway4(route: FakeRouteEntry, hop: FakeHop, gateway: Addr): void {
    if (hop.onLink) {
      if (route.scope >= SCOPE_LINK) refuse(EINVAL, "Nexthop has invalid scope");
      return;
    }
    const way = this.#match(
      gateway,
      [TABLE_LOCAL, TABLE_MAIN],
      (other) => other.scope >= SCOPE_LINK && leadsBy(other, hop.index),
    );
    if (way === undefined) return refuse(ENETUNREACH, "Nexthop has invalid gateway");
    if (way.type !== RTN_UNICAST && way.type !== RTN_LOCAL) refuse(EINVAL, "Nexthop has invalid gateway");
  }

  #checkGateway6(hop: FakeHop, gateway: Addr): void {
    if (this.#around.hasAddress(gateway)) refuse(EINVAL, "Gateway can not be a local address");
    if (hop.onLink || /^fe[89ab]/.test(gateway)) return;
    const way = this.#match(gateway, [TABLE_LOCAL, TABLE_MAIN], (other) => leadsBy(other, hop.index));
    if (way === undefined || way.hops.some((other) => other.gateway !== undefined)) refuse(EHOSTUNREACH);
  }

  /** The first that matches, the lowest metric first. ESRCH when none does. */
  delete(pattern: RoutePattern, by: number): void {
    const family = prefixFamily(pattern.destination);
    const found = this.#routes
      .filter(
        (route) =>
          route.destination === pattern.destination &&
          route.table === pattern.table &&
          (pattern.metric === undefined || route.metric === pattern.metric) &&
          (pattern.protocol === undefined || route.protocol === pattern.protocol) &&
          (pattern.index === undefined || route.hops.some((hop) => hop.index === pattern.index)) &&
          (pattern.gateway === undefined || route.hops.some((hop) => hop.gateway === pattern.gateway)) &&
          // IPv6 asks neither for the type nor for the scope.
          (family === 6 ||
            (route.tos === pattern.tos &&
              (pattern.type === undefined || route.type === pattern.type) &&
              (pattern.scope === undefined || route.scope === pattern.scope))),
      )
      .sort((a, b) => a.metric - b.metric)[0];
    if (found === undefined) return refuse(ESRCH);
    this.#routes.splice(this.#routes.indexOf(found), 1);
    this.#changed(found, true, by);
  }

  /** Whatever the kernel itself made or takes away. Of IPv4 routes that it takes away it tells nobody. */
  set(change: (routes: readonly FakeRouteEntry[]) => FakeRouteEntry[]): void {
    const before = this.#routes;
    this.#routes = change(before);
    this.changes++;
    const kept = new Set(this.#routes);
    for (const route of before)
      if (!kept.delete(route) && prefixFamily(route.destination) === 6) this.#changed(route, true, 0);
    for (const route of kept) this.#changed(route, false, 0);
  }

  /** The route that a packet of this host takes. Throws Refusal as the kernel answers. */
  lookup(addr: Addr): FakeRouteEntry {
    const found = this.#match(addr, [TABLE_LOCAL, TABLE_MAIN, 253], () => true);
    if (found === undefined) return refuse(ENETUNREACH);
    const errno = NOWHERE.get(found.type);
    return errno === undefined ? found : refuse(errno);
  }

  /** The most specific route of the first table that has one. */
  #match(addr: Addr, tables: readonly number[], fits: (route: FakeRouteEntry) => boolean): FakeRouteEntry | undefined {
    for (const table of tables) {
      const found = this.#routes
        .filter((route) => route.table === table && route.tos === 0 && contains(route.destination, addr) && fits(route))
        .sort((a, b) => prefixLength(b.destination) - prefixLength(a.destination) || a.metric - b.metric)[0];
      if (found !== undefined && found.type !== RTN_THROW) return found;
    }
    return undefined;
  }
}

function leadsBy(route: FakeRouteEntry, index: number): boolean {
  return index === 0 || route.hops.some((hop) => hop.index === index);
}

function sameWay(a: FakeRouteEntry, b: FakeRouteEntry, family: Family): boolean {
  const same = JSON.stringify(a.hops) === JSON.stringify(b.hops);
  return family === 6 ? same : same && a.type === b.type && a.scope === b.scope && a.protocol === b.protocol;
}

export function contains(prefix: Prefix, addr: Addr): boolean {
  if (prefixFamily(prefix) !== familyOf(addr)) return false;
  const [network, wanted] = [addrBytes(prefixAddr(prefix)), addrBytes(addr)];
  for (let bits = prefixLength(prefix), i = 0; bits > 0; bits -= 8, i++) {
    const mask = bits >= 8 ? 0xff : (0xff << (8 - bits)) & 0xff;
    if (((network[i] ?? 0) & mask) !== ((wanted[i] ?? 0) & mask)) return false;
  }
  return true;
}
