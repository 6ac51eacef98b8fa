/**
 * loopback: sets `lo` of a pod's network namespace up or down, and reads it. Synchronous kernel work.
 *
 * Uses ioctl(2) instead of netlink, because a plugin process that does only this starts faster without netlink's codecs.
 */
import type { Sys } from "../host/sys.ts";
import { checkResult, EADDRNOTAVAIL, ENOENT } from "../kernel/errno.ts";
import { withNamespace } from "../kernel/netns.ts";
import { addrFromBytes } from "../net/addr.ts";

/** The kernel makes it with every namespace, as the first interface. Source: linux include/net/flow.h, LOOPBACK_IFINDEX. */
export const LOOPBACK_INDEX = 1;

export interface Loopback {
  readonly up: boolean;
  /** With prefix length, IPv4 first. The kernel gives them when `lo` comes up: no ::1 where IPv6 is switched off. */
  readonly addresses: readonly string[];
}

const AF_INET = 2;
const SOCK_DGRAM = 2;
/** Source: linux include/uapi/linux/sockios.h and if.h. */
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCGIFADDR = 0x8915;
const SIOCGIFNETMASK = 0x891b;
const IFF_UP = 1;
/** Of struct ifreq: the name's 16 bytes, then a union: flags as a short, or a sockaddr_in whose address is at 4. */
const IFREQ_BYTES = 40;
const UNION_AT = 16;
const ADDRESS_AT = UNION_AT + 4;
const READ_BYTES = 4096;

/** Throws KernelError; ENOENT when nothing is at the path, EINVAL when it is not a namespace. */
export function setLoopback(sys: Sys, netns: string, up: boolean): Loopback {
  return withSocket(sys, netns, (fd) => {
    const wanted = up ? flags(sys, fd) | IFF_UP : flags(sys, fd) & ~IFF_UP;
    const request = requestFor();
    new DataView(request.buffer).setUint16(UNION_AT, wanted, true);
    checkResult("set flags of", "lo", sys.ioctl(fd, SIOCSIFFLAGS, request));
    return read(sys, fd);
  });
}

/** As `setLoopback`, without changing anything. */
export function readLoopback(sys: Sys, netns: string): Loopback {
  return withSocket(sys, netns, (fd) => read(sys, fd));
}

function withSocket(sys: Sys, netns: string, run: (fd: number) => Loopback): Loopback {
  return withNamespace(sys, netns, () => {
    const fd = checkResult(
      "open socket in network namespace",
      JSON.stringify(netns),
      sys.socket(AF_INET, SOCK_DGRAM, 0),
    );
    try {
      return run(fd);
    } finally {
      sys.close(fd);
    }
  });
}

function requestFor(): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(new TextEncoder().encode("lo"));
  return request;
}

function flags(sys: Sys, fd: number): number {
  const request = requestFor();
  checkResult("read flags of", "lo", sys.ioctl(fd, SIOCGIFFLAGS, request));
  return new DataView(request.buffer).getUint16(UNION_AT, true);
}

function read(sys: Sys, fd: number): Loopback {
  return { up: (flags(sys, fd) & IFF_UP) !== 0, addresses: [...address4(sys, fd), ...addresses6(sys)] };
}

function address4(sys: Sys, fd: number): string[] {
  const address = ask4(sys, fd, SIOCGIFADDR);
  const mask = ask4(sys, fd, SIOCGIFNETMASK);
  if (address === undefined || mask === undefined) return [];
  const length = mask.reduce((bits, byte) => bits + byte.toString(2).replaceAll("0", "").length, 0);
  return [`${addrFromBytes(address)}/${length}`];
}

function ask4(sys: Sys, fd: number, what: number): Uint8Array | undefined {
  const request = requestFor();
  const result = sys.ioctl(fd, what, request);
  if (result === -EADDRNOTAVAIL) return undefined;
  checkResult("read address of", "lo", result);
  return request.subarray(ADDRESS_AT, ADDRESS_AT + 4);
}

/** Lines `ADDRESS INDEX PREFIXLENGTH SCOPE FLAGS NAME`, numbers in hexadecimal. Source: linux net/ipv6/addrconf.c, if6_seq_show. */
function addresses6(sys: Sys): string[] {
  const path = "/proc/thread-self/net/if_inet6";
  const fd = sys.open(path, 0);
  if (fd === -ENOENT) return [];
  checkResult("open", path, fd);
  try {
    const buffer = new Uint8Array(READ_BYTES);
    let text = "";
    for (let length = -1; length !== 0;) {
      length = checkResult("read", path, sys.read(fd, buffer));
      text += new TextDecoder().decode(buffer.subarray(0, length));
    }
    return text.split("\n").flatMap((line) => {
      const [hex = "", , length = "", , , name] = line.trim().split(/ +/);
      return name === "lo"
        ? [
            `${addrFromBytes(Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16)))}/${Number.parseInt(length, 16)}`,
          ]
        : [];
    });
  } finally {
    sys.close(fd);
  }
}
