/**
 * gateway: a route of the node to 169.254.1.1, the pods' IPv4 gateway, which makes every host end answer for it.
 *
 * The kernel answers by proxy ARP only for an address that it would route by another interface. Most nodes have a default route;
 * on one without, a pod that has lost its neighbour entry would ask in vain. The route leads into a pair whose other end is down, so
 * what is sent to the gateway itself is lost there and is not forwarded in circles. It has the highest metric: a node that has a
 * route of its own to that address, as the pod of another cluster has, keeps it.
 * Source: linux net/ipv4/arp.c, arp_process.
 */
import type { Sys } from "../host/sys.ts";
import { EEXIST, ENODEV, KernelError } from "../kernel/errno.ts";
import { openNamespace } from "../kernel/netns.ts";
import { type Link, MAIN_TABLE, type RouteClient, SCOPE_LINK } from "../kernel/route/client.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { GATEWAY_4, HOST_MAC } from "./names.ts";

/** Begins as a pod's does, so that whatever would come from it is dropped and nobody takes it for the node's own. */
const NAME = "caligateway";
const PEER = "caligateway-end";
const OWN_NAMESPACE = "/proc/thread-self/ns/net";
/** No packet passes through. */
const MTU_BYTES = 1500;
/** RTPROT_STATIC: protocol 80 is what the routes driver answers for. */
const PROTOCOL = 4;
const LAST_METRIC = 0xffff_ffff;

/** Makes what is missing; costs two requests when nothing is. Throws KernelError. */
export function ensureGateway(sys: Sys, host: RouteClient): void {
  const link = host.linkByName(NAME) ?? createPair(sys, host);
  if (!link.up) host.setLinkUp(link.index);
  if (host.routeTo(GATEWAY_4)?.destination === prefixOfAddr(GATEWAY_4)) return;
  try {
    host.addRoute({
      destination: prefixOfAddr(GATEWAY_4),
      table: MAIN_TABLE,
      protocol: PROTOCOL,
      type: "unicast",
      scope: SCOPE_LINK,
      interfaceIndex: link.index,
      metric: LAST_METRIC,
    });
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== EEXIST) throw error;
  }
}

function createPair(sys: Sys, host: RouteClient): Link {
  const namespace = openNamespace(sys, OWN_NAMESPACE);
  try {
    host.createVeth({
      name: NAME,
      mac: HOST_MAC,
      mtuBytes: MTU_BYTES,
      up: false,
      peerName: PEER,
      peerMac: undefined,
      peerNamespaceFd: namespace,
    });
  } finally {
    sys.close(namespace);
  }
  const link = host.linkByName(NAME);
  if (link === undefined) throw new KernelError("look up link", NAME, ENODEV);
  return link;
}
