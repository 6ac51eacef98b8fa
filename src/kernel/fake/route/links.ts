/**
 * FakeLinks: the interfaces of one namespace: the loopback, and veth pairs, whose ends may be in two namespaces.
 *
 * Source: linux net/core/rtnetlink.c, drivers/net/veth.c.
 */
import { EEXIST, EINVAL, ENODEV, EOPNOTSUPP } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import type { Writer } from "../../netlink/writer.ts";
import {
  ADDRESS_FAMILY,
  DEVCONF6_ACCEPT_RA,
  DEVCONF6_DISABLE_IPV6,
  DEVCONF6_FORWARDING,
  DEVCONF6_PROXY_NDP,
  DEVCONF_FORWARDING,
  DEVCONF_PROXY_ARP,
  DEVCONF_ROUTE_LOCALNET,
  DEVCONF_RP_FILTER,
  IFF_UP,
  IFINFOMSG,
  IFLA_ADDRESS,
  IFLA_AF_SPEC,
  IFLA_EXT_MASK,
  IFLA_GROUP,
  IFLA_IFNAME,
  IFLA_INET6_ADDR_GEN_MODE,
  IFLA_INET6_CONF,
  IFLA_INET_CONF,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINK,
  IFLA_LINKINFO,
  IFLA_MTU,
  IFLA_NET_NS_FD,
  RTM_DELLINK,
  RTM_NEWLINK,
  VETH_INFO_PEER,
} from "../../route/wire.ts";
import type { Machine } from "../machine.ts";
import type { Body, Part } from "../messages.ts";
import { ERANGE, refuse, required, unmodelled } from "../refusal.ts";
import type { FakeSysctl } from "../sysctl.ts";

export interface FakeLink {
  readonly index: number;
  name: string;
  readonly kind: "loopback" | "veth";
  mac: Uint8Array;
  mtuBytes: number;
  up: boolean;
  group: number;
  /** The other end of a pair. */
  readonly peer: { readonly links: FakeLinks; readonly index: number } | undefined;
}

/** The interfaces of the namespace that a descriptor holds; undefined when it holds none. */
export type LinksOf = (fd: number) => FakeLinks | undefined;

/** What follows in the namespace from what becomes of an interface. */
interface Surroundings {
  tell(group: number, part: Part): void;
  linkCameUp(link: FakeLink): void;
  carrierCame(link: FakeLink): void;
  linkWentDown(link: FakeLink): void;
  linkGoes(link: FakeLink): void;
}

type Attributes = ReadonlyMap<number, Span>;

const NAME_MAX_BYTES = 15;
const LOOPBACK_MTU = 65_536;
const VETH_MTU = 1500;
const IFF_LOOPBACK = 8;
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const DEVCONF: ReadonlyMap<number, string> = new Map([
  [DEVCONF_FORWARDING, "forwarding"],
  [DEVCONF_PROXY_ARP, "proxy_arp"],
  [DEVCONF_RP_FILTER, "rp_filter"],
  [DEVCONF_ROUTE_LOCALNET, "route_localnet"],
]);
const DEVCONF6: ReadonlyMap<number, string> = new Map([
  [DEVCONF6_FORWARDING, "forwarding"],
  [DEVCONF6_ACCEPT_RA, "accept_ra"],
  [DEVCONF6_PROXY_NDP, "proxy_ndp"],
  [DEVCONF6_DISABLE_IPV6, "disable_ipv6"],
]);
/** How many settings the kernel reports. */
const DEVCONFS = { ipv4: 33, ipv6: 60 };
const RTNLGRP_LINK = 1;

export class FakeLinks {
  readonly #machine: Machine;
  readonly #sysctl: FakeSysctl;
  readonly #around: Surroundings;
  readonly #links = new Map<number, FakeLink>();
  #indices = 0;

  constructor(machine: Machine, sysctl: FakeSysctl, around: Surroundings) {
    this.#machine = machine;
    this.#sysctl = sysctl;
    this.#around = around;
    this.#add({ name: "lo", kind: "loopback", mac: new Uint8Array(6), mtuBytes: LOOPBACK_MTU, peer: () => undefined });
  }

  all(): readonly FakeLink[] {
    return [...this.#links.values()];
  }

  get(index: number): FakeLink | undefined {
    return this.#links.get(index);
  }

  byName(name: string): FakeLink | undefined {
    return this.all().find((link) => link.name === name);
  }

  /** Up, and at a veth the other end too. */
  hasCarrier(link: FakeLink): boolean {
    if (!link.up) return false;
    return link.peer === undefined || link.peer.links.get(link.peer.index)?.up === true;
  }

  #add(link: {
    readonly name: string;
    readonly kind: FakeLink["kind"];
    readonly mac: Uint8Array;
    readonly mtuBytes: number;
    readonly peer: (index: number) => FakeLink["peer"];
  }): FakeLink {
    const index = ++this.#indices;
    const made: FakeLink = { ...link, index, up: false, group: 0, peer: link.peer(index) };
    this.#links.set(index, made);
    this.#sysctl.addInterface(link.name);
    this.#tell(made, RTM_NEWLINK);
    return made;
  }

  #tell(link: FakeLink, type: number): void {
    const part = { type, body: this.body(link, type === RTM_NEWLINK) };
    this.#around.tell(RTNLGRP_LINK, part);
  }

  /** RTM_NEWLINK with NLM_F_CREATE: a veth pair. */
  create(attributes: Attributes, flags: { readonly up: boolean }, linksOf: LinksOf): void {
    const info = attributes.get(IFLA_LINKINFO)?.attributes();
    const kind = info?.get(IFLA_INFO_KIND)?.text();
    if (kind !== "veth") unmodelled(`links of kind ${kind ?? "none"}`);
    const peer = info?.get(IFLA_INFO_DATA)?.attributes()?.get(VETH_INFO_PEER)?.after(IFINFOMSG)?.attributes();
    if (peer === undefined) return unmodelled("a veth pair whose other end is not described");
    const name = linkName(attributes);
    const peerName = linkName(peer);
    const fd = peer.get(IFLA_NET_NS_FD)?.u32();
    const others = fd === undefined ? this : (linksOf(fd) ?? refuse(EINVAL));
    if (others.byName(peerName) !== undefined || this.byName(name) !== undefined) refuse(EEXIST);
    if (others === this && name === peerName) refuse(EEXIST);
    // The other end is made first. Ends in two namespaces do not know each other's index before both are there.
    const ends: { near: number; far: number } = { near: 0, far: 0 };
    const peerEnd = others.#add({
      name: peerName,
      kind: "veth",
      mac: macOf(peer) ?? this.#randomMac(peerName),
      mtuBytes: peer.get(IFLA_MTU)?.u32() ?? VETH_MTU,
      peer: (index) => {
        ends.far = index;
        return {
          links: this,
          get index() {
            return ends.near;
          },
        };
      },
    });
    const end = this.#add({
      name,
      kind: "veth",
      mac: macOf(attributes) ?? this.#randomMac(name),
      mtuBytes: attributes.get(IFLA_MTU)?.u32() ?? VETH_MTU,
      peer: (index) => {
        ends.near = index;
        return { links: others, index: peerEnd.index };
      },
    });
    if (flags.up) this.#setUp(end, true);
  }

  /** The real one is chosen by chance; this one by the name, so that equal histories are equal. */
  #randomMac(name: string): Uint8Array {
    const bytes = new Uint8Array([0x02, 0, 0, 0, 0, this.#indices + 1]);
    for (let i = 0; i < name.length; i++)
      bytes[1 + (i % 4)] = ((bytes[1 + (i % 4)] ?? 0) * 31 + name.charCodeAt(i)) & 255;
    return bytes;
  }

  /** RTM_NEWLINK of a link that is there. In the kernel's order: MAC, MTU, group, name, settings, state. */
  change(link: FakeLink, attributes: Attributes, change: { readonly mask: number; readonly flags: number }): void {
    if ((change.mask & ~IFF_UP) !== 0) unmodelled(`link flags ${change.mask}`);
    const mac = macOf(attributes);
    if (mac !== undefined) link.mac = mac;
    link.mtuBytes = attributes.get(IFLA_MTU)?.u32() ?? link.mtuBytes;
    link.group = attributes.get(IFLA_GROUP)?.u32() ?? link.group;
    const name = attributes.get(IFLA_IFNAME)?.text();
    if (name !== undefined && name !== link.name) this.#rename(link, linkName(attributes));
    this.#settings(link, attributes.get(IFLA_AF_SPEC)?.attributes());
    const isTold = attributes.has(IFLA_ADDRESS) || attributes.has(IFLA_MTU) || attributes.has(IFLA_IFNAME);
    const isToldWhileUp = attributes.has(IFLA_GROUP) || attributes.has(IFLA_AF_SPEC);
    if (isTold || (link.up && isToldWhileUp)) this.#tell(link, RTM_NEWLINK);
    if ((change.mask & IFF_UP) !== 0) this.#setUp(link, (change.flags & IFF_UP) !== 0);
  }

  #rename(link: FakeLink, name: string): void {
    if (link.up) unmodelled("renaming a link that is up");
    if (this.byName(name) !== undefined) refuse(EEXIST);
    this.#sysctl.renameInterface(link.name, name);
    link.name = name;
  }

  #settings(link: FakeLink, families: Attributes | undefined): void {
    families
      ?.get(ADDRESS_FAMILY[4])
      ?.attributes()
      ?.get(IFLA_INET_CONF)
      ?.eachAttribute((type, value) => {
        const setting = DEVCONF.get(type) ?? unmodelled(`IPv4 setting ${type} of a link`);
        this.#sysctl.set("ipv4", link.name, setting, String(required(value.u32())), false);
      });
    const mode = families?.get(ADDRESS_FAMILY[6])?.attributes()?.get(IFLA_INET6_ADDR_GEN_MODE)?.u8() ?? 0;
    if (mode !== 0) unmodelled(`link-local addresses made in mode ${mode}`);
  }

  #setUp(link: FakeLink, up: boolean): void {
    if (link.up === up) return;
    link.up = up;
    this.#machine.changes++;
    if (up) this.#around.linkCameUp(link);
    else this.#around.linkWentDown(link);
    this.#tell(link, RTM_NEWLINK);
    // The kernel tells the other end of its carrier a moment later; here at once.
    const peer = link.peer?.links.get(link.peer.index);
    if (up && link.peer !== undefined && peer?.up === true) link.peer.links.#around.carrierCame(peer);
  }

  /** Both ends of a pair go; ENODEV when there is nothing. */
  remove(link: FakeLink | undefined): void {
    if (link === undefined) return refuse(ENODEV);
    if (link.kind === "loopback") refuse(EOPNOTSUPP);
    this.#forget(link);
    const peer = link.peer?.links.get(link.peer.index);
    if (link.peer !== undefined && peer !== undefined) link.peer.links.#forget(peer);
  }

  #forget(link: FakeLink): void {
    this.#around.linkGoes(link);
    this.#links.delete(link.index);
    this.#sysctl.removeInterface(link.name);
    this.#tell(link, RTM_DELLINK);
  }

  removeGroup(group: number): void {
    const members = this.all().filter((link) => link.group === group && link.kind === "veth");
    if (members.length === 0) refuse(ENODEV);
    for (const link of members) if (this.#links.has(link.index)) this.remove(link);
  }

  removeAll(): void {
    for (const link of this.all()) if (link.kind === "veth" && this.#links.has(link.index)) this.remove(link);
  }

  /** Of one that is going the settings are gone already. */
  body(link: FakeLink, hasSettings = true): Body {
    return (w: Writer) => {
      const at = w.header(IFINFOMSG);
      w.putU16(at + 2, link.kind === "loopback" ? ARPHRD_LOOPBACK : ARPHRD_ETHER);
      w.putU32(at + 4, link.index);
      w.putU32(at + 8, (link.up ? IFF_UP : 0) | (link.kind === "loopback" ? IFF_LOOPBACK : 0));
      w.text(IFLA_IFNAME, link.name);
      w.bytesOf(IFLA_ADDRESS, link.mac);
      w.u32(IFLA_MTU, link.mtuBytes);
      w.u32(IFLA_GROUP, link.group);
      if (hasSettings) this.#writeSettings(w, link);
      if (link.peer === undefined) return;
      w.u32(IFLA_LINK, link.peer.index);
      const info = w.open(IFLA_LINKINFO);
      w.text(IFLA_INFO_KIND, link.kind);
      w.close(info);
    };
  }

  #writeSettings(w: Writer, { name }: FakeLink): void {
    const families = w.open(IFLA_AF_SPEC);
    for (const [family, number, type, first, known] of [
      ["ipv4", ADDRESS_FAMILY[4], IFLA_INET_CONF, 1, DEVCONF],
      ["ipv6", ADDRESS_FAMILY[6], IFLA_INET6_CONF, 0, DEVCONF6],
    ] as const) {
      const values = new Uint8Array(DEVCONFS[family] * 4);
      const view = new DataView(values.buffer);
      for (const [setting, text] of known)
        view.setInt32((setting - first) * 4, Number(this.#sysctl.get(family, name, text)), true);
      const own = w.open(number);
      w.bytesOf(type, values);
      w.close(own);
    }
    w.close(families);
  }
}

/** Known attributes of a request about a link: others would be passed over in silence. */
export function checkLinkAttributes(attributes: Attributes): void {
  const known = [IFLA_IFNAME, IFLA_ADDRESS, IFLA_MTU, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_GROUP, IFLA_EXT_MASK];
  for (const type of attributes.keys()) if (!known.includes(type)) unmodelled(`attribute ${type} of a link`);
}

function linkName(attributes: Attributes): string {
  const span = attributes.get(IFLA_IFNAME);
  if (span === undefined) return unmodelled("links named by the kernel");
  const name = span.text();
  if (span.length > NAME_MAX_BYTES + 1) refuse(ERANGE);
  return /^[^/:\s]+$/.test(name) && name !== "." && name !== ".." ? name : refuse(EINVAL);
}

function macOf(attributes: Attributes): Uint8Array | undefined {
  const span = attributes.get(IFLA_ADDRESS);
  if (span === undefined) return undefined;
  return span.length === 6 ? span.copy() : refuse(EINVAL);
}
