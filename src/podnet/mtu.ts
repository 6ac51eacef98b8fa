/** uplinkMtuBytes: the MTU that a pod may use when nobody says one: the smallest of the interfaces by which the node reaches others. */
import type { Link } from "../kernel/route/client.ts";

/** Upstream: `mtuIfacePattern` of felix/config/config_params.go. */
const UPLINK = /^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)$/;
/** Ethernet's, when the node has no interface of such a name. */
const USUAL_BYTES = 1500;

export function uplinkMtuBytes(links: readonly Pick<Link, "name" | "mtuBytes">[]): number {
  const uplinks = links.filter((link) => UPLINK.test(link.name)).map((link) => link.mtuBytes);
  return uplinks.length === 0 ? USUAL_BYTES : Math.min(...uplinks);
}
