/** uplinkMtuBytes: a pod's default MTU: the smallest of the interfaces through which the node reaches others. */
import type { Link } from "../kernel/route/client.ts";

/** Upstream: `mtuIfacePattern` of felix/config/config_params.go. */
const UPLINK = /^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)$/;
/** Ethernet's MTU, for a node without an interface of such a name. */
const USUAL_BYTES = 1500;

/** Whether the node reaches others through the interface, judging by its name. */
export function isUplink({ name }: Pick<Link, "name">): boolean {
  return UPLINK.test(name);
}

export function uplinkMtuBytes(links: readonly Pick<Link, "name" | "mtuBytes">[]): number {
  const uplinks = links.filter(isUplink).map((link) => link.mtuBytes);
  return uplinks.length === 0 ? USUAL_BYTES : Math.min(...uplinks);
}
