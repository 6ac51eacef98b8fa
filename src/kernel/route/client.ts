/**
 * RouteClient: links, addresses, routes and neighbours of one network namespace, read and changed over one open socket.
 *
 * It works in the namespace in which it was made, whatever namespace the thread is in later. Every refusal is a KernelError.
 * Source: linux Documentation/userspace-api/netlink/, rtnetlink(7).
 */
import type { Sys } from "../../host/sys.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import { prefixFamily } from "../../net/prefix.ts";
import { EACCES, EAGAIN, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, ENOENT, EPROTO, KernelError } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../netlink/writer.ts";
import { decodeAddress, encodeAddress, encodeAddressQuery, type InterfaceAddress } from "./addresses.ts";
import {
  decodeLink,
  encodeLinkHeader,
  encodeLinkQuery,
  encodeSettings,
  encodeVeth,
  type Ipv4Settings,
  type Link,
  type Veth,
} from "./links.ts";
import { macBytes } from "./mac.ts";
import { decodeNeighbor, encodeNeighbor, encodeNeighborQuery, type Neighbor } from "./neighbors.ts";
import { decodeRoute, encodeLookup, encodeRoute, encodeRouteQuery, type KernelRoute } from "./routes.ts";
import {
  IFLA_ADDRESS,
  IFLA_GROUP,
  IFLA_IFNAME,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
} from "./wire.ts";

export type { InterfaceAddress } from "./addresses.ts";
export type { Ipv4Settings, Link, Veth } from "./links.ts";
export type { Neighbor } from "./neighbors.ts";
export { IP6_DEFAULT_METRIC } from "./wire.ts";
export { type KernelRoute, MAIN_TABLE, type NextHop, type RouteType, SCOPE_LINK, SCOPE_UNIVERSE } from "./routes.ts";

export interface RouteChange {
  /** `add` fails with EEXIST where there is a route of that destination, table, type of service and metric; `replace` takes its place. */
  readonly do: "add" | "replace" | "delete";
  readonly route: KernelRoute;
}

const FLAGS: { readonly [D in RouteChange["do"]]: number } = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  replace: NLM_F_CREATE | NLM_F_REPLACE,
  delete: 0,
};

/** Answers to a lookup: no route, unreachable, prohibit, blackhole. */
const LEADS_NOWHERE: ReadonlySet<number> = new Set([ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL]);
/** Messages in one send: their acknowledgements must fit into the receive buffer. */
const BATCH = 1000;
/** How often a dump in steps is repeated when what it lists changes meanwhile. */
const DUMP_ATTEMPTS = 50;

export class RouteClient {
  readonly #socket: NetlinkSocket;

  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_ROUTE);
  }

  close(): void {
    this.#socket.close();
  }

  /** Requests for a change sent so far. */
  get writes(): number {
    return this.#socket.writes;
  }

  /** Of the socket; undefined before its first answer. */
  get portId(): number | undefined {
    return this.#socket.portId;
  }

  /** Sends the changes that `run` asks for at once; all are tried. Throws the first refusal. */
  together(run: () => void): void {
    this.#socket.together(run);
  }

  links(): Link[] {
    return this.#socket.dump("list", "links", RTM_GETLINK, (w) => encodeLinkQuery(w, undefined), decodeLink);
  }

  /** The same in steps. Nothing else may be asked of this client until it returns or is abandoned. */
  linksInSteps(): Generator<undefined, Link[]> {
    return this.#inSteps("links", RTM_GETLINK, (w) => encodeLinkQuery(w, undefined), decodeLink);
  }

  linkByName(name: string): Link | undefined {
    let link: Link | undefined;
    try {
      this.#socket.query(
        "look up link",
        name,
        RTM_GETLINK,
        (w) => encodeLinkQuery(w, name),
        (message) => (link = decodeLink(message)),
      );
    } catch (error) {
      if (error instanceof KernelError && error.errno === ENODEV) return undefined;
      throw error;
    }
    if (link === undefined) throw new KernelError("look up link", name, EPROTO);
    return link;
  }

  linkByIndex(index: number): Link | undefined {
    let link: Link | undefined;
    try {
      const write = (w: NetlinkSocket["writer"]): void => encodeLinkQuery(w, index);
      const read = (message: Message): void => void (link = decodeLink(message));
      this.#socket.query("look up link", String(index), RTM_GETLINK, write, read);
    } catch (error) {
      if (error instanceof KernelError && error.errno === ENODEV) return undefined;
      throw error;
    }
    return link;
  }

  /** Both ends in one request. EEXIST: one of the names is taken. */
  createVeth(veth: Veth): void {
    this.#socket.change(
      "create veth pair",
      `${veth.name}, ${veth.peerName}`,
      RTM_NEWLINK,
      NLM_F_CREATE | NLM_F_EXCL,
      (w) => encodeVeth(w, veth),
    );
  }

  /** `linkLocalFromMac`: also have the IPv6 link-local address made from the MAC when the link comes up, whatever the node's default is. */
  setSettings(index: number, settings: Ipv4Settings, options: { readonly linkLocalFromMac?: boolean } = {}): void {
    this.#socket.change("set IPv4 settings of link", String(index), RTM_NEWLINK, 0, (w) =>
      encodeSettings(w, index, settings, options.linkLocalFromMac === true),
    );
  }

  setLinkUp(index: number): void {
    this.#socket.change("set up link", String(index), RTM_NEWLINK, 0, (w) => encodeLinkHeader(w, index, true));
  }

  /** Its routes go with it. */
  setLinkDown(index: number): void {
    this.#socket.change("set down link", String(index), RTM_NEWLINK, 0, (w) => encodeLinkHeader(w, index, false));
  }

  setLinkMac(index: number, mac: string): void {
    this.#socket.change("set MAC of link", String(index), RTM_NEWLINK, 0, (w) => {
      encodeLinkHeader(w, index);
      w.bytesOf(IFLA_ADDRESS, macBytes(mac));
    });
  }

  /** The link must be down. */
  renameLink(index: number, name: string): void {
    this.#socket.change("rename link", `${index} to ${name}`, RTM_NEWLINK, 0, (w) => {
      encodeLinkHeader(w, index);
      w.text(IFLA_IFNAME, name);
    });
  }

  /** `down` sets it down in the same request. */
  setLinkGroup(index: number, group: number, options: { readonly down?: boolean } = {}): void {
    this.#socket.change("set group of link", String(index), RTM_NEWLINK, 0, (w) => {
      encodeLinkHeader(w, index, options.down === true ? false : undefined);
      w.u32(IFLA_GROUP, group);
    });
  }

  /** Waits for an RCU grace period: 17 to 35 ms. */
  deleteLink(index: number): void {
    this.#socket.change("delete link", String(index), RTM_DELLINK, 0, (w) => encodeLinkHeader(w, index));
  }

  /** Deletes all links of the group, in one grace period for all. ENODEV (there is none) is no error. */
  deleteLinkGroup(group: number): void {
    try {
      this.#socket.change("delete links of group", String(group), RTM_DELLINK, 0, (w) => {
        encodeLinkHeader(w, 0);
        w.u32(IFLA_GROUP, group);
      });
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ENODEV) throw error;
    }
  }

  /** Of one interface, or of all. */
  addresses(index?: number): InterfaceAddress[] {
    const all = FAMILIES.flatMap((family) =>
      this.#socket
        .dump("list", "addresses", RTM_GETADDR, (w) => encodeAddressQuery(w, family, index ?? 0), decodeAddress)
        .filter(({ addr }) => familyOf(addr) === family),
    );
    return index === undefined ? all : all.filter((address) => address.interfaceIndex === index);
  }

  /** EEXIST: the interface has it already. */
  addAddress(index: number, addr: Addr, prefixLength: number, options: { readonly noDad?: boolean } = {}): void {
    const write = NLM_F_CREATE | NLM_F_EXCL;
    this.#socket.change("add address", `${addr}/${prefixLength} to link ${index}`, RTM_NEWADDR, write, (w) =>
      encodeAddress(w, index, addr, prefixLength, options.noDad === true),
    );
  }

  /** EADDRNOTAVAIL: the interface does not have it. */
  deleteAddress(index: number, addr: Addr, prefixLength: number): void {
    this.#socket.change("delete address", `${addr}/${prefixLength} of link ${index}`, RTM_DELADDR, 0, (w) =>
      encodeAddress(w, index, addr, prefixLength, false),
    );
  }

  routes(filter: { readonly family?: Family; readonly table?: number } = {}): KernelRoute[] {
    const families = filter.family === undefined ? FAMILIES : [filter.family];
    const all = families.flatMap((family) => this.#routesOf(family, filter.table));
    // A kernel that does not filter answers with the routes of all tables.
    return filter.table === undefined ? all : all.filter((route) => route.table === filter.table);
  }

  /** As `routes`, of one table, in steps. Nothing else may be asked of this client until it returns or is abandoned. */
  *routesInSteps(table: number): Generator<undefined, KernelRoute[]> {
    const all: KernelRoute[] = [];
    for (const family of FAMILIES) {
      const write = (w: NetlinkSocket["writer"]): void => encodeRouteQuery(w, family, table);
      const found = yield* this.#inSteps("routes", RTM_GETROUTE, write, decodeRoute);
      all.push(...found.filter((each) => each.table === table && prefixFamily(each.destination) === family));
    }
    return all;
  }

  /** All objects of a dump, from one pass during which none changed. */
  *#inSteps<T>(
    object: string,
    type: number,
    write: (writer: NetlinkSocket["writer"]) => void,
    decode: (message: Message) => T | undefined,
  ): Generator<undefined, T[]> {
    for (let attempt = 1; ; attempt++) {
      const found: T[] = [];
      const steps = this.#socket.dumpInSteps("list", object, type, write, (message) => {
        const value = decode(message);
        if (value !== undefined) found.push(value);
      });
      if (yield* orAbsent(steps)) return found;
      if (attempt === DUMP_ATTEMPTS)
        throw new KernelError("list", object, EAGAIN, `changed during each of ${attempt} attempts to read`);
    }
  }

  /** A kernel without IPv6 answers the question for IPv6 routes with all that it has, IPv4's once more. Source: linux net/core/rtnetlink.c, rtnl_dump_all. */
  #routesOf(family: Family, table: number | undefined): KernelRoute[] {
    try {
      const routes = this.#socket.dump(
        "list",
        "routes",
        RTM_GETROUTE,
        (w) => encodeRouteQuery(w, family, table),
        decodeRoute,
      );
      return routes.filter(({ destination }) => prefixFamily(destination) === family);
    } catch (error) {
      // The table has never been used.
      if (error instanceof KernelError && error.errno === ENOENT && table !== undefined) return [];
      throw error;
    }
  }

  /** The route that packets of this node to the address take; undefined when there is none. One that leads nowhere (a blackhole) is either itself or undefined, as the kernel answers. */
  routeTo(addr: Addr): KernelRoute | undefined {
    let route: KernelRoute | undefined;
    try {
      this.#socket.query(
        "look up route to",
        addr,
        RTM_GETROUTE,
        (w) => encodeLookup(w, addr),
        (message) => (route = decodeRoute(message)),
      );
    } catch (error) {
      if (error instanceof KernelError && LEADS_NOWHERE.has(error.errno)) return undefined;
      throw error;
    }
    return route;
  }

  /** EEXIST: there is a route of that destination, table and metric. */
  addRoute(route: KernelRoute): void {
    this.#socket.change("add route", formatRoute(route), RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, (w) =>
      encodeRoute(w, route, true),
    );
  }

  /** Adds the route, in place of one of the same destination, table and metric if there is one. */
  replaceRoute(route: KernelRoute): void {
    this.#throwFirst(this.changeRoutes([{ do: "replace", route }]));
  }

  /** What is absent in `route` matches anything. ESRCH: there is no such route. */
  deleteRoute(route: KernelRoute): void {
    this.#throwFirst(this.changeRoutes([{ do: "delete", route }]));
  }

  #throwFirst(errors: readonly (KernelError | undefined)[]): void {
    const [error] = errors;
    if (error !== undefined) throw error;
  }

  /** Many changes, each acknowledged by itself: for each, in order, undefined or why it was refused. */
  changeRoutes(changes: readonly RouteChange[]): (KernelError | undefined)[] {
    const errors: (KernelError | undefined)[] = [];
    for (let i = 0; i < changes.length; i += BATCH) errors.push(...this.#changeBatch(changes.slice(i, i + BATCH)));
    return errors;
  }

  #changeBatch(changes: readonly RouteChange[]): (KernelError | undefined)[] {
    const socket = this.#socket;
    socket.begin();
    const sequences = changes.map((change) => {
      const deletes = change.do === "delete";
      const sequence = socket.message(deletes ? RTM_DELROUTE : RTM_NEWROUTE, NLM_F_ACK | FLAGS[change.do]);
      encodeRoute(socket.writer, change.route, !deletes);
      return sequence;
    });
    socket.countWrites(changes.length);
    const { refused, done } = socket.exchange("change", `${changes.length} routes`);
    return changes.map((change, i) => {
      const sequence = sequences[i] ?? 0;
      if (done.has(sequence)) return undefined;
      const refusal = refused.get(sequence) ?? { errno: EPROTO, detail: "the kernel did not answer" };
      return new KernelError(`${change.do} route`, formatRoute(change.route), refusal.errno, refusal.detail);
    });
  }

  /** Adds or replaces; a permanent one does not age. */
  addNeighbor(index: number, addr: Addr, mac: string, permanent: boolean): void {
    this.#socket.change(
      "add neighbour",
      `${addr} ${mac} on link ${index}`,
      RTM_NEWNEIGH,
      NLM_F_CREATE | NLM_F_REPLACE,
      (w) => encodeNeighbor(w, index, addr, mac, permanent),
    );
  }

  deleteNeighbor(index: number, addr: Addr): void {
    this.#socket.change("delete neighbour", `${addr} on link ${index}`, RTM_DELNEIGH, 0, (w) =>
      encodeNeighbor(w, index, addr, undefined, false),
    );
  }

  neighbors(): Neighbor[] {
    return FAMILIES.flatMap((family) =>
      this.#socket
        .dump("list", "neighbours", RTM_GETNEIGH, (w) => encodeNeighborQuery(w, family), decodeNeighbor)
        .filter(({ addr }) => familyOf(addr) === family),
    );
  }
}

/** A table that has never been used does not exist: then it has no routes. */
function* orAbsent(steps: Generator<undefined, boolean>): Generator<undefined, boolean> {
  try {
    return yield* steps;
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOENT) return true;
    throw error;
  }
}

/** `10.0.0.1/32`, with type, gateway and interface where they say something. */
export function formatRoute(route: KernelRoute): string {
  const type = route.type === "unicast" ? "" : `${route.type} `;
  const via = route.gateway === undefined ? "" : ` via ${route.gateway}`;
  const device = route.interfaceIndex === undefined ? "" : ` dev ${route.interfaceIndex}`;
  return `${type}${route.destination}${via}${device}`;
}
