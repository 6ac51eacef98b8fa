/** loopback: `lo` of a pod's network namespace: set up or down, and read. Synchronous kernel work. */
import type { Sys } from "../host/sys.ts";
import { ENODEV, KernelError } from "../kernel/errno.ts";
import { withNamespace } from "../kernel/netns.ts";
import { RouteClient } from "../kernel/route/client.ts";

/** The kernel makes it with every namespace, as the first interface. Source: linux include/net/flow.h, LOOPBACK_IFINDEX. */
export const LOOPBACK_INDEX = 1;

export interface Loopback {
  readonly up: boolean;
  /** With prefix length, IPv4 first. The kernel gives them when `lo` comes up: no ::1 where IPv6 is switched off. */
  readonly addresses: readonly string[];
}

/** Throws KernelError; ENOENT when nothing is at the path, EINVAL when it is no namespace. */
export function setLoopback(sys: Sys, netns: string, up: boolean): Loopback {
  return withClient(sys, netns, (client) => {
    if (up) client.setLinkUp(LOOPBACK_INDEX);
    else client.setLinkDown(LOOPBACK_INDEX);
    return read(client);
  });
}

/** As `setLoopback`, changing nothing. */
export function readLoopback(sys: Sys, netns: string): Loopback {
  return withClient(sys, netns, read);
}

function withClient<T>(sys: Sys, netns: string, run: (client: RouteClient) => T): T {
  const client = withNamespace(sys, netns, () => new RouteClient(sys));
  try {
    return run(client);
  } finally {
    client.close();
  }
}

function read(client: RouteClient): Loopback {
  const link = client.linkByName("lo");
  if (link === undefined) throw new KernelError("look up link", "lo", ENODEV);
  return { up: link.up, addresses: client.addresses(LOOPBACK_INDEX).map(({ addr, prefixLength }) => `${addr}/${prefixLength}`) };
}
