/** Numbers of the rtnetlink interface. Source: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h, ip.h. */
import { FAMILIES, type Family } from "../../net/addr.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;

export const RTM_NEWNETCONF = 80;

/** struct netconfmsg: family u8, with padding. Source: linux/netconf.h. */
export const NETCONFMSG = 4;
export const NETCONFA_IFINDEX = 1;

/** AF_INET and AF_INET6. */
export const ADDRESS_FAMILY: { readonly [F in Family]: number } = { 4: 2, 6: 10 };

export function familyOfNumber(number: number | undefined): Family | undefined {
  return FAMILIES.find((family) => ADDRESS_FAMILY[family] === number);
}

/** struct ifinfomsg: family u8, pad u8, type u16, index i32, flags u32, change u32. */
export const IFINFOMSG = 16;
export const IFF_UP = 1;
export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_LINKINFO = 18;
export const IFLA_AF_SPEC = 26;
export const IFLA_GROUP = 27;
export const IFLA_NET_NS_FD = 28;
export const IFLA_EXT_MASK = 29;
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;
export const VETH_INFO_PEER = 1;
export const RTEXT_FILTER_SKIP_STATS = 8;
export const IFLA_INET_CONF = 1;
export const IFLA_INET6_CONF = 2;
export const IFLA_INET6_ADDR_GEN_MODE = 8;

/** IPV4_DEVCONF_* of linux/ip.h, which count from 1. */
export const DEVCONF_FORWARDING = 1;
export const DEVCONF_PROXY_ARP = 3;
export const DEVCONF_RP_FILTER = 8;
export const DEVCONF_ROUTE_LOCALNET = 26;
/** DEVCONF_* of linux/ipv6.h, as indices. */
export const DEVCONF6_FORWARDING = 0;
export const DEVCONF6_ACCEPT_RA = 3;
export const DEVCONF6_PROXY_NDP = 22;
export const DEVCONF6_DISABLE_IPV6 = 26;

/** struct ifaddrmsg: family u8, prefix length u8, flags u8, scope u8, index u32. */
export const IFADDRMSG = 8;
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_FLAGS = 8;
export const IFA_F_NODAD = 0x02;
export const IFA_F_DADFAILED = 0x08;
export const IFA_F_TENTATIVE = 0x40;

/** struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type (u8 each), flags u32. */
export const RTMSG = 12;
export const RTA_DST = 1;
export const RTA_OIF = 4;
export const RTA_GATEWAY = 5;
export const RTA_PRIORITY = 6;
export const RTA_PREFSRC = 7;
export const RTA_MULTIPATH = 9;
export const RTA_TABLE = 15;
export const RT_SCOPE_NOWHERE = 255;
/** Answer a lookup with the route that matched, not with the flow's path. */
export const RTM_F_FIB_MATCH = 0x2000;
export const RTNH_F_ONLINK = 4;
/** struct rtnexthop: length u16, flags u8, hops u8 (weight less one), index i32, then attributes. */
export const RTNEXTHOP = 8;
/** What IPv6 takes for a metric that is not given (IP6_RT_PRIO_USER). */
export const IP6_DEFAULT_METRIC = 1024;

/** struct ndmsg: family u8, pad 3, index i32, state u16, flags u8, type u8. */
export const NDMSG = 12;
export const NDA_DST = 1;
export const NDA_LLADDR = 2;
export const NUD_REACHABLE = 0x02;
export const NUD_NOARP = 0x40;
export const NUD_PERMANENT = 0x80;
