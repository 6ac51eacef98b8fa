/**
 * Device: what decides whether packets may go from and to an interface without the host stack: its kind, its size of packets, and whether something
 * on it would be left out. Source: linux net/core/rtnetlink.c, net/core/filter.c (skb_do_redirect), drivers/net/veth.c.
 */
import type { Sys } from "../../host/sys.ts";
import { ENODEV, KernelError } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";

const RTM_GETLINK = 18;
/** struct ifinfomsg: family u8, padding, type u16, index i32, flags u32, change u32. */
const IFINFOMSG = 16;
const IFLA_MTU = 4;
const IFLA_QDISC = 6;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_EXT_MASK = 29;
const IFLA_LINK_NETNSID = 37;
/** RTEXT_FILTER_SKIP_STATS */
const SKIP_STATS = 8;
const ARPHRD_ETHER = 1;
const IFF_UP = 1;

export interface Device {
  readonly isEthernet: boolean;
  /** `veth`, `vlan`, …; undefined for physical interfaces. */
  readonly kind: string | undefined;
  readonly mtuBytes: number;
  /** Administratively up: only then the kernel gives it its queueing discipline. */
  readonly isUp: boolean;
  /** Nothing queues, or limits, what it sends. */
  readonly isUnqueued: boolean;
  /** The other end of the pair, or what it stands on, is in another network namespace. */
  readonly leadsElsewhere: boolean;
}

export class DeviceReader {
  readonly #socket: NetlinkSocket;

  /** In the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_ROUTE);
  }

  close(): void {
    this.#socket.close();
  }

  /** undefined: there is no such interface. Throws KernelError. */
  read(index: number): Device | undefined {
    let device: Device | undefined;
    try {
      this.#socket.query(
        "look up interface",
        String(index),
        RTM_GETLINK,
        (w) => {
          w.putU32(w.header(IFINFOMSG) + 4, index);
          w.u32(IFLA_EXT_MASK, SKIP_STATS);
        },
        (message) => (device = decodeDevice(message)),
      );
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ENODEV) throw error;
    }
    return device;
  }
}

function decodeDevice({ body }: Message): Device | undefined {
  const attributes = body.after(IFINFOMSG)?.attributes();
  const mtuBytes = attributes?.get(IFLA_MTU)?.u32();
  if (attributes === undefined || mtuBytes === undefined) return undefined;
  const type = (body.u8(2) ?? 0) | ((body.u8(3) ?? 0) << 8);
  return {
    isEthernet: type === ARPHRD_ETHER,
    kind: attributes.get(IFLA_LINKINFO)?.attributes()?.get(IFLA_INFO_KIND)?.text(),
    mtuBytes,
    isUp: ((body.u8(8) ?? 0) & IFF_UP) !== 0,
    isUnqueued: attributes.get(IFLA_QDISC)?.text() === "noqueue",
    leadsElsewhere: attributes.get(IFLA_LINK_NETNSID) !== undefined,
  };
}
