/**
 * FakeRoute: rtnetlink of one namespace: links, addresses, routes and neighbours, and what follows from one for the others.
 *
 * Source: linux net/core/rtnetlink.c, net/ipv4/devinet.c, fib_frontend.c, net/ipv6/addrconf.c.
 */
import { type Addr, bitsOf, type Family, familyOf } from "../../../net/addr.ts";
import { type Prefix, prefixFamily, prefixOfAddr } from "../../../net/prefix.ts";
import { EACCES, EADDRNOTAVAIL, EEXIST, ENODEV, EOPNOTSUPP } from "../../errno.ts";
import type { Message, Span } from "../../netlink/reader.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Writer } from "../../netlink/writer.ts";
import * as wire from "../../route/wire.ts";
import { NETLINK_ROUTE } from "../../netlink/socket.ts";
import type { Machine } from "../machine.ts";
import { type Answer, type Asker, notificationDatagrams, type Part, type Tell } from "../messages.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { addressBody, type FakeAddress, linkLocalOf, LOOPBACK_ADDRESSES, readAddress, subnetOf } from "./addresses.ts";
import { addrAt, entryOf, familyAt, patternOf, readRoute, routeBody } from "./codec.ts";
import type { FakeSysctl } from "../sysctl.ts";
import { checkLinkAttributes, type FakeLink, FakeLinks, type LinksOf } from "./links.ts";
import { FakeNeighbors } from "./neighbors.ts";
import { FakeRoutes, RTN_LOCAL, RTN_UNICAST, TABLE_LOCAL, TABLE_MAIN } from "./table.ts";

const RTPROT_KERNEL = 2;
const SCOPE_LINK = 253;
const SCOPE_HOST = 254;
const IFA_F_PERMANENT = 0x80;
/** IP6_RT_PRIO_ADDRCONF. */
const ADDRCONF_METRIC = 256;
const LINK_LOCAL_LENGTH = 64;
const DONE: Answer = { kind: "done" };
/** RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF. */
const ROUTE_GROUPS: { readonly [F in Family]: number } = { 4: 7, 6: 11 };
const NETCONF_GROUPS: { readonly [F in Family]: number } = { 4: 24, 6: 25 };
/** NETCONFA_IFINDEX_ALL and NETCONFA_IFINDEX_DEFAULT. */
const ALL = -1;
const DEFAULT = -2;

export class FakeRoute {
  readonly links: FakeLinks;
  readonly routes: FakeRoutes;
  readonly #machine: Machine;
  readonly #sysctl: FakeSysctl;
  readonly #sends: Tell;
  #addresses: FakeAddress[] = [];
  readonly #neighbors: FakeNeighbors;

  constructor(machine: Machine, sysctl: FakeSysctl, sends: Tell) {
    this.#machine = machine;
    this.#sysctl = sysctl;
    this.#sends = sends;
    this.links = new FakeLinks(machine, sysctl, {
      tell: (group, part) => this.#tell(group, part, 0),
      linkCameUp: (link) => this.#linkCameUp(link),
      carrierCame: (link) => this.#carrierCame(link),
      linkWentDown: (link) => this.#linkWentDown(link),
      linkGoes: (link) => this.#linkGoes(link),
    });
    this.#neighbors = new FakeNeighbors({
      ask: (does, object) => this.#ask(does, object),
      hasLink: (index) => this.links.get(index) !== undefined,
    });
    this.routes = new FakeRoutes({
      link: (index) => this.links.get(index),
      hasAddress: (addr) => this.#addresses.some((one) => one.addr === addr),
      tell: (route, gone, by) =>
        this.#tell(
          ROUTE_GROUPS[prefixFamily(route.destination)],
          { type: gone ? wire.RTM_DELROUTE : wire.RTM_NEWROUTE, body: routeBody(route) },
          by,
        ),
    });
  }

  /** `by`: port id of the socket that asked for it; 0: the kernel does it by itself. */
  #tell(group: number, part: Part, by: number): void {
    this.#sends(NETLINK_ROUTE, group, notificationDatagrams([part], { sequence: 0, portId: by }));
  }

  /** Some setting of an interface, or of `all` or `default`, was written. */
  settingsChanged(family: "ipv4" | "ipv6", name: string): void {
    const index = name === "all" ? ALL : name === "default" ? DEFAULT : this.links.byName(name)?.index;
    if (index === undefined) return;
    const number = family === "ipv4" ? 4 : 6;
    const body = (w: Writer): void => {
      w.putU8(w.header(wire.NETCONFMSG), wire.ADDRESS_FAMILY[number]);
      w.u32(wire.NETCONFA_IFINDEX, index >>> 0);
    };
    this.#tell(NETCONF_GROUPS[number], { type: wire.RTM_NEWNETCONF, body }, 0);
  }

  /** `linksOf`: those of the namespace that an open descriptor of the asker holds. */
  answer(message: Message, isDump: boolean, socket: Asker, linksOf: LinksOf): Answer {
    const { type, flags, body } = message;
    switch (type) {
      case wire.RTM_NEWLINK:
        return this.#newLink(body, flags, linksOf);
      case wire.RTM_DELLINK:
        return this.#deleteLink(body);
      case wire.RTM_GETLINK:
        return this.#getLinks(body, isDump);
      case wire.RTM_NEWADDR:
        return this.#newAddress(body, flags);
      case wire.RTM_DELADDR:
        return this.#deleteAddress(body);
      case wire.RTM_GETADDR:
        return this.#getAddresses(body, isDump);
      case wire.RTM_NEWROUTE:
      case wire.RTM_DELROUTE:
        return this.#changeRoute(body, type === wire.RTM_NEWROUTE ? flags : undefined, socket.portId);
      case wire.RTM_GETROUTE:
        return this.#getRoutes(body, isDump, socket);
      case wire.RTM_NEWNEIGH:
        return this.#neighbors.add(body, flags);
      case wire.RTM_DELNEIGH:
        return this.#neighbors.delete(body);
      case wire.RTM_GETNEIGH:
        return this.#neighbors.list(body, isDump);
      default:
        return unmodelled(`rtnetlink message ${type}`);
    }
  }

  #ask(does: "add" | "delete" | "read", object: string): void {
    const errno = this.#machine.faults.request?.({ subsystem: "route", does, object });
    if (errno !== undefined) refuse(errno);
  }

  #newLink(body: Span, flags: number, linksOf: LinksOf): Answer {
    const attributes = required(body.after(wire.IFINFOMSG)?.attributes());
    checkLinkAttributes(attributes);
    const index = body.i32(4) ?? 0;
    const change = { flags: body.u32(8) ?? 0, mask: body.u32(12) ?? 0 };
    const name = attributes.get(wire.IFLA_IFNAME)?.text();
    const link = index > 0 ? this.links.get(index) : name === undefined ? undefined : this.links.byName(name);
    this.#ask("add", `link ${link?.name ?? name ?? index}`);
    if (link !== undefined) {
      if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
      if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
      this.links.change(link, attributes, change);
      return DONE;
    }
    if ((flags & NLM_F_CREATE) === 0) refuse(ENODEV);
    if (index > 0) unmodelled("links of an index of one's choice");
    this.links.create(attributes, { up: (change.flags & change.mask & wire.IFF_UP) !== 0 }, linksOf);
    return DONE;
  }

  #deleteLink(body: Span): Answer {
    const index = body.i32(4) ?? 0;
    const group = body.after(wire.IFINFOMSG)?.attributes()?.get(wire.IFLA_GROUP)?.u32();
    this.#ask("delete", group === undefined ? `link ${this.links.get(index)?.name ?? index}` : `group ${group}`);
    if (index > 0) this.links.remove(this.links.get(index));
    else if (group === undefined) unmodelled("deletion of a link by its name");
    else this.links.removeGroup(group);
    return DONE;
  }

  #getLinks(body: Span, isDump: boolean): Answer {
    const attributes = required(body.after(wire.IFINFOMSG)?.attributes());
    const name = attributes.get(wire.IFLA_IFNAME)?.text();
    this.#ask("read", `link ${name ?? "*"}`);
    if (isDump)
      return {
        kind: "dump",
        parts: this.links.all().map((link) => ({ type: wire.RTM_NEWLINK, body: this.links.body(link) })),
      };
    const link = name === undefined ? unmodelled("a question about a link by its index") : this.links.byName(name);
    if (link === undefined) return refuse(ENODEV);
    return { kind: "reply", part: { type: wire.RTM_NEWLINK, body: this.links.body(link) } };
  }

  #newAddress(body: Span, flags: number): Answer {
    const { family, index, addr, prefixLength, asked } = readAddress(body);
    this.#ask("add", `address ${addr}`);
    const link = this.links.get(index) ?? refuse(ENODEV);
    if (family === 6 && this.#sysctl.get("ipv6", link.name, "disable_ipv6") !== "0")
      refuse(EACCES, "ipv6: IPv6 is disabled on this device");
    if (this.#addresses.some((one) => one.index === index && one.addr === addr && one.prefixLength === prefixLength)) {
      if ((flags & NLM_F_REPLACE) !== 0) return DONE;
      return refuse(EEXIST, family === 6 ? "ipv6: address already assigned" : "ipv4: Address already assigned");
    }
    this.#addAddress(link, addr, prefixLength, (asked & wire.IFA_F_NODAD) !== 0);
    return DONE;
  }

  #addAddress(link: FakeLink, addr: Addr, prefixLength: number, noDad: boolean): void {
    const detects =
      familyOf(addr) === 6 &&
      !noDad &&
      link.kind !== "loopback" &&
      Number(this.#sysctl.get("ipv6", link.name, "accept_dad")) > 0;
    const flags = IFA_F_PERMANENT | (noDad ? wire.IFA_F_NODAD : 0) | (detects ? wire.IFA_F_TENTATIVE : 0);
    this.#addresses.push({ index: link.index, addr, prefixLength, flags });
    if (link.up) this.#addRoutesOf(link, addr, prefixLength);
  }

  /** The local route of an address, and that of its subnet. */
  #addRoutesOf(link: FakeLink, addr: Addr, prefixLength: number): void {
    const family = familyOf(addr);
    const hops = [{ index: link.index, gateway: undefined, onLink: false, weight: 1 }];
    const base = { protocol: RTPROT_KERNEL, tos: 0, hops };
    const destination = prefixOfAddr(addr);
    const subnet = subnetOf(addr, prefixLength);
    const local = {
      ...base,
      destination,
      table: TABLE_LOCAL,
      type: RTN_LOCAL,
      scope: family === 4 ? SCOPE_HOST : 0,
      metric: 0,
      source: family === 4 ? addr : undefined,
    };
    const prefix = {
      ...base,
      destination: subnet,
      table: TABLE_MAIN,
      type: RTN_UNICAST,
      scope: family === 4 ? SCOPE_LINK : 0,
      metric: family === 4 ? 0 : ADDRCONF_METRIC,
      source: family === 4 ? addr : undefined,
    };
    const hasPrefix = link.kind !== "loopback" && (family === 6 || prefixLength < bitsOf(4));
    const has = (wanted: typeof prefix): boolean =>
      this.routes
        .of(family, wanted.table)
        .some((one) => one.destination === wanted.destination && one.metric === wanted.metric);
    this.routes.set((routes) => [...routes, local, ...(hasPrefix && !has(prefix) ? [prefix] : [])]);
  }

  #deleteAddress(body: Span): Answer {
    const { index, addr, prefixLength } = readAddress(body);
    this.#ask("delete", `address ${addr}`);
    const found = this.#addresses.find(
      (one) => one.index === index && one.addr === addr && one.prefixLength === prefixLength,
    );
    if (found === undefined)
      return refuse(EADDRNOTAVAIL, familyOf(addr) === 4 ? "ipv4: Address not found" : "address not found");
    this.#dropAddresses((one) => one === found);
    return DONE;
  }

  /** With the routes that the kernel made for them. */
  #dropAddresses(goes: (address: FakeAddress) => boolean): void {
    const gone = this.#addresses.filter(goes);
    this.#addresses = this.#addresses.filter((one) => !goes(one));
    const isOf = (destination: Prefix, index: number | undefined, table: number): boolean =>
      gone.some(
        ({ addr, prefixLength, index: own }) =>
          index === own &&
          (table === TABLE_LOCAL ? destination === prefixOfAddr(addr) : destination === subnetOf(addr, prefixLength)),
      );
    this.routes.set((routes) =>
      routes.filter(
        ({ protocol, destination, hops, table }) =>
          protocol !== RTPROT_KERNEL || !isOf(destination, hops[0]?.index, table),
      ),
    );
  }

  #getAddresses(body: Span, isDump: boolean): Answer {
    const family = familyAt(body);
    const index = body.u32(4) ?? 0;
    if (!isDump) unmodelled("a question about one address");
    this.#ask("read", "addresses");
    if (index > 0 && this.links.get(index) === undefined) refuse(ENODEV);
    const parts = this.#addresses
      .filter((one) => familyOf(one.addr) === family && (index === 0 || one.index === index))
      .map((one) => ({ type: wire.RTM_NEWADDR, body: addressBody(one) }));
    return { kind: "dump", parts };
  }

  #changeRoute(body: Span, flags: number | undefined, by: number): Answer {
    const route = readRoute(body);
    this.#ask(flags === undefined ? "delete" : "add", `route ${route.destination}`);
    if (flags === undefined) this.routes.delete(patternOf(route), by);
    else this.routes.add(entryOf(route), flags, by);
    return DONE;
  }

  #getRoutes(body: Span, isDump: boolean, socket: Asker): Answer {
    const attributes = required(body.after(wire.RTMSG)?.attributes());
    if (isDump) {
      const family = familyOfDump(body);
      const table = attributes.get(wire.RTA_TABLE)?.u32();
      if (!socket.strict || table === undefined || table === TABLE_LOCAL) unmodelled("the routes of all tables");
      this.#ask("read", "routes");
      const families: readonly Family[] = family === undefined ? [4, 6] : [family];
      return {
        kind: "dump",
        version: () => this.routes.changes,
        parts: families
          .flatMap((one) => this.routes.of(one, table ?? TABLE_MAIN))
          .map((route) => ({ type: wire.RTM_NEWROUTE, body: routeBody(route) })),
      };
    }
    const addr = required(addrAt(attributes, wire.RTA_DST, familyAt(body)));
    if (((body.u32(8) ?? 0) & wire.RTM_F_FIB_MATCH) === 0) unmodelled("the path of a flow");
    this.#ask("read", `route ${addr}`);
    return { kind: "reply", part: { type: wire.RTM_NEWROUTE, body: routeBody(this.routes.lookup(addr)) } };
  }

  /** Addresses that it has get their routes; the loopback its own addresses; and IPv6 begins where there is a carrier. */
  #linkCameUp(link: FakeLink): void {
    for (const { index, addr, prefixLength } of this.#addresses.slice())
      if (index === link.index) this.#addRoutesOf(link, addr, prefixLength);
    if (link.kind === "loopback") {
      for (const [addr, length] of LOOPBACK_ADDRESSES) {
        const has6 = this.#sysctl.get("ipv6", link.name, "disable_ipv6") === "0";
        const isThere = this.#addresses.some((one) => one.index === link.index && one.addr === addr);
        if (!isThere && (familyOf(addr) === 4 || has6)) this.#addAddress(link, addr, length, true);
      }
    } else if (this.links.hasCarrier(link)) this.#carrierCame(link);
  }

  /** addrconf: the link-local address made from the MAC. */
  #carrierCame(link: FakeLink): void {
    if (this.#sysctl.get("ipv6", link.name, "disable_ipv6") !== "0") return;
    const addr = linkLocalOf(link.mac);
    if (this.#addresses.some((one) => one.index === link.index && one.addr === addr)) return;
    this.#addAddress(link, addr, LINK_LOCAL_LENGTH, false);
  }

  /** All routes by it go, its neighbours, and its IPv6 addresses; those of IPv4 stay. */
  #linkWentDown(link: FakeLink): void {
    this.#dropAddresses((one) => one.index === link.index && familyOf(one.addr) === 6);
    this.routes.set((routes) => routes.filter(({ hops }) => !hops.some(({ index }) => index === link.index)));
    this.#neighbors.drop(link.index);
  }

  #linkGoes(link: FakeLink): void {
    this.#linkWentDown(link);
    this.#dropAddresses((one) => one.index === link.index);
  }

  /** The setting disable_ipv6 of one interface changed. */
  switchIpv6(name: string, on: boolean): void {
    const link = this.links.byName(name);
    if (link === undefined) return;
    if (on) {
      if (link.up) this.#linkCameUp(link);
      return;
    }
    this.#dropAddresses((one) => one.index === link.index && familyOf(one.addr) === 6);
    this.routes.set((routes) =>
      routes.filter(
        ({ destination, hops }) => !destination.includes(":") || !hops.some(({ index }) => index === link.index),
      ),
    );
  }
}

/** AF_UNSPEC asks for both families. */
function familyOfDump(body: Span): Family | undefined {
  return body.u8() === 0 ? undefined : familyAt(body);
}
