/** wire: numbers of the IP set protocol. Source: linux/netfilter/ipset/ip_set.h (protocol 7; 6 is spoken by every kernel that we support). */

export const NFNL_SUBSYS_IPSET = 6;
export const PROTOCOL = 6;

export const IPSET_CMD_CREATE = 2;
export const IPSET_CMD_DESTROY = 3;
export const IPSET_CMD_LIST = 7;
export const IPSET_CMD_ADD = 9;
export const IPSET_CMD_DEL = 10;

export const IPSET_ATTR_PROTOCOL = 1;
export const IPSET_ATTR_SETNAME = 2;
export const IPSET_ATTR_TYPENAME = 3;
export const IPSET_ATTR_REVISION = 4;
export const IPSET_ATTR_FAMILY = 5;
export const IPSET_ATTR_FLAGS = 6;
export const IPSET_ATTR_DATA = 7;
export const IPSET_ATTR_ADT = 8;

/** Of what an element, or a set's creation, says. */
export const IPSET_ATTR_IP = 1;
export const IPSET_ATTR_CIDR = 3;
export const IPSET_ATTR_PORT = 4;
export const IPSET_ATTR_PROTO = 7;
export const IPSET_ATTR_MAXELEM = 19;
export const IPSET_ATTR_IFACE = 23;
/** Of what the kernel says of a set. */
export const IPSET_ATTR_REFERENCES = 25;

export const IPSET_ATTR_IPADDR_IPV4 = 1;
export const IPSET_ATTR_IPADDR_IPV6 = 2;

/** IPSET_FLAG_LIST_HEADER: without elements. */
export const FLAG_LIST_HEADER = 4;

/** Numbers must say that they are in network order. */
export const NLA_F_NET_BYTEORDER = 0x4000;

/** Errors beyond the system's. */
export const ERRORS: ReadonlyMap<number, string> = new Map([
  [4097, "the kernel does not know this protocol"],
  [4098, "the kernel does not know this type of set"],
  [4099, "there are as many sets as the kernel can hold"],
  [4100, "the set is in use"],
  [4101, "there is a set of the second name"],
  [4102, "the types of the sets differ"],
  [4103, "it is there already"],
  [4104, "the prefix length is invalid"],
  [4105, "the netmask is invalid"],
  [4106, "the family is invalid"],
  [4107, "timeouts are not supported by the set"],
  [4108, "the set is referenced"],
  [4109, "an IPv4 address is not valid here"],
  [4110, "an IPv6 address is not valid here"],
  [4352, "the set is full"],
]);
