/** Links: network interfaces, and what is set on them by netlink. */
import type { Message, Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import { decodeMac, macBytes } from "./mac.ts";
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
  RTEXT_FILTER_SKIP_STATS,
  VETH_INFO_PEER,
} from "./wire.ts";

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `veth`, `vxlan`, …; undefined for physical interfaces and the loopback. */
  readonly kind: string | undefined;
  /** Canonical text; undefined for interfaces without one of six bytes. */
  readonly mac: string | undefined;
  readonly mtuBytes: number;
  /** Administratively up. */
  readonly up: boolean;
  /** Group of `ip link set group`; 0 unless set. */
  readonly group: number;
  /** Index of the interface that this one is tied to, in whatever namespace that is: a veth's other end. */
  readonly peerIndex: number | undefined;
  /** As under /proc/sys/net/ipv4/conf/; undefined where the kernel does not say. */
  readonly ipv4: Required<Ipv4Settings> | undefined;
  /** As under /proc/sys/net/ipv6/conf/; undefined where the kernel does not say, or the interface has no IPv6. */
  readonly ipv6: Ipv6Settings | undefined;
}

export interface Ipv6Settings {
  readonly forwarding: boolean;
  readonly proxyNdp: boolean;
  readonly acceptRa: boolean;
  readonly disabled: boolean;
}

export interface Veth {
  /** Of the end in this namespace. */
  readonly name: string;
  readonly mac: string;
  readonly mtuBytes: number;
  readonly up: boolean;
  /** The other end, made straight in the namespace of that descriptor (undefined: in the same one), down. Its MAC is the kernel's choice if undefined. */
  readonly peerName: string;
  readonly peerMac: string | undefined;
  readonly peerNamespaceFd: number | undefined;
}

/** Settings of one interface, as under /proc/sys/net/ipv4/conf/. Source: linux Documentation/networking/ip-sysctl.rst. */
export interface Ipv4Settings {
  readonly forwarding?: boolean;
  readonly proxyArp?: boolean;
  readonly routeLocalnet?: boolean;
  /** 0 off, 1 strict, 2 loose. */
  readonly rpFilter?: 0 | 1 | 2;
}

/** IN6_ADDR_GEN_MODE_EUI64 of linux/if_link.h: the link-local address is made from the MAC. */
const GENERATE_FROM_MAC = 0;

/** Writes struct ifinfomsg; `up` undefined leaves the flag as it is. */
export function encodeLinkHeader(w: Writer, index: number, up?: boolean): void {
  const at = w.header(IFINFOMSG);
  w.putU32(at + 4, index);
  if (up === undefined) return;
  w.putU32(at + 8, up ? IFF_UP : 0);
  w.putU32(at + 12, IFF_UP);
}

/** By name or index; undefined: all. */
export function encodeLinkQuery(w: Writer, which: string | number | undefined): void {
  encodeLinkHeader(w, typeof which === "number" ? which : 0);
  if (typeof which === "string") w.text(IFLA_IFNAME, which);
  w.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

export function encodeVeth(w: Writer, veth: Veth): void {
  encodeLinkHeader(w, 0, veth.up);
  w.text(IFLA_IFNAME, veth.name);
  w.bytesOf(IFLA_ADDRESS, macBytes(veth.mac));
  w.u32(IFLA_MTU, veth.mtuBytes);
  const info = w.open(IFLA_LINKINFO);
  w.text(IFLA_INFO_KIND, "veth");
  const data = w.open(IFLA_INFO_DATA);
  const peer = w.open(VETH_INFO_PEER);
  // The kernel refuses (ENOTCONN) to make the peer up.
  encodeLinkHeader(w, 0);
  w.text(IFLA_IFNAME, veth.peerName);
  if (veth.peerMac !== undefined) w.bytesOf(IFLA_ADDRESS, macBytes(veth.peerMac));
  w.u32(IFLA_MTU, veth.mtuBytes);
  if (veth.peerNamespaceFd !== undefined) w.u32(IFLA_NET_NS_FD, veth.peerNamespaceFd);
  w.close(peer);
  w.close(data);
  w.close(info);
}

/** The interface's IPv4 settings, and with `linkLocalFromMac` the way its IPv6 link-local address is made. */
export function encodeSettings(w: Writer, index: number, settings: Ipv4Settings, linkLocalFromMac: boolean): void {
  encodeLinkHeader(w, index);
  const families = w.open(IFLA_AF_SPEC);
  const inet = w.open(ADDRESS_FAMILY[4]);
  const values = w.open(IFLA_INET_CONF);
  if (settings.forwarding !== undefined) w.u32(DEVCONF_FORWARDING, Number(settings.forwarding));
  if (settings.proxyArp !== undefined) w.u32(DEVCONF_PROXY_ARP, Number(settings.proxyArp));
  if (settings.rpFilter !== undefined) w.u32(DEVCONF_RP_FILTER, settings.rpFilter);
  if (settings.routeLocalnet !== undefined) w.u32(DEVCONF_ROUTE_LOCALNET, Number(settings.routeLocalnet));
  w.close(values);
  w.close(inet);
  if (linkLocalFromMac) {
    const inet6 = w.open(ADDRESS_FAMILY[6]);
    w.u8(IFLA_INET6_ADDR_GEN_MODE, GENERATE_FROM_MAC);
    w.close(inet6);
  }
  w.close(families);
}

/** undefined when the message is malformed. */
export function decodeLink({ body }: Message): Link | undefined {
  const index = body.i32(4);
  const flags = body.u32(8);
  const attributes = body.after(IFINFOMSG)?.attributes();
  const name = attributes?.get(IFLA_IFNAME)?.text();
  if (index === undefined || flags === undefined || attributes === undefined || name === undefined) return undefined;
  return {
    index,
    name,
    kind: attributes.get(IFLA_LINKINFO)?.attributes()?.get(IFLA_INFO_KIND)?.text(),
    mac: decodeMac(attributes.get(IFLA_ADDRESS)),
    mtuBytes: attributes.get(IFLA_MTU)?.u32() ?? 0,
    up: (flags & IFF_UP) !== 0,
    group: attributes.get(IFLA_GROUP)?.u32() ?? 0,
    peerIndex: attributes.get(IFLA_LINK)?.u32(),
    ...decodeSettings(attributes.get(IFLA_AF_SPEC)),
  };
}

function decodeSettings(families: Span | undefined): Pick<Link, "ipv4" | "ipv6"> {
  const of = families?.attributes();
  const four = of?.get(ADDRESS_FAMILY[4])?.attributes()?.get(IFLA_INET_CONF);
  const six = of?.get(ADDRESS_FAMILY[6])?.attributes()?.get(IFLA_INET6_CONF);
  /** IPV4_DEVCONF_* count from 1. */
  const at4 = (number: number): number => four?.u32((number - 1) * 4) ?? 0;
  const at6 = (index: number): number => six?.u32(index * 4) ?? 0;
  const rpFilter = at4(DEVCONF_RP_FILTER);
  return {
    ipv4: four && {
      forwarding: at4(DEVCONF_FORWARDING) !== 0,
      proxyArp: at4(DEVCONF_PROXY_ARP) !== 0,
      routeLocalnet: at4(DEVCONF_ROUTE_LOCALNET) !== 0,
      rpFilter: rpFilter === 1 || rpFilter === 2 ? rpFilter : 0,
    },
    ipv6: six && {
      forwarding: at6(DEVCONF6_FORWARDING) !== 0,
      proxyNdp: at6(DEVCONF6_PROXY_NDP) !== 0,
      acceptRa: at6(DEVCONF6_ACCEPT_RA) !== 0,
      disabled: at6(DEVCONF6_DISABLE_IPV6) !== 0,
    },
  };
}
