/**
 * Notifications: a netlink socket on which the kernel tells of changes, whoever makes them.
 *
 * It is non-blocking and is read by whoever watches its descriptor. When it overflows the next read fails with ENOBUFS: what was
 * missed is then not known, and everything must be read anew. Source: netlink(7).
 */
import type { Sys } from "../../host/sys.ts";
import { checkResult } from "../errno.ts";
import { AF_NETLINK, SO_RCVBUF, SO_RCVBUFFORCE, SOCK_RAW, SOL_NETLINK, SOL_SOCKET } from "./socket.ts";
import { NETLINK_ADD_MEMBERSHIP } from "./wire.ts";

const SOCK_NONBLOCK = 0o4000;
/** Of struct sockaddr_nl. */
const ADDRESS_BYTES = 12;

/** Opens in the thread's network namespace and joins the multicast groups; the descriptor is the caller's. Throws KernelError. */
export function openNotifications(sys: Sys, protocol: number, groups: readonly number[], receiveBytes: number): number {
  const name = `of groups ${groups.join(", ")} of netlink protocol ${protocol}`;
  const fd = checkResult(
    "open socket for notifications",
    name,
    sys.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, protocol),
  );
  try {
    if (sys.setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBytes) < 0)
      sys.setSocketOption(fd, SOL_SOCKET, SO_RCVBUF, receiveBytes);
    const address = new Uint8Array(ADDRESS_BYTES);
    new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
    // Without a port id the kernel delivers nothing.
    checkResult("bind socket for notifications", name, sys.bind(fd, address));
    for (const group of groups)
      checkResult("ask for notifications", name, sys.setSocketOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group));
    return fd;
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}
