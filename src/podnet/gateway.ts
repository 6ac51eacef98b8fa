/**
 * gateway: the node's route to 169.254.1.1, the pods' IPv4 gateway, which makes every host end answer ARP for it.
 *
 * Proxy ARP answers only for an address that the kernel would route through another interface. Most nodes have a default route; on a
 * node without one, a pod that has lost its neighbour entry would get no answer. The route leads into a pair whose other end is down,
 * so packets to the gateway itself are dropped there and do not loop. It has the highest metric: a node that already has a route to
 * that address, such as a pod of another cluster, keeps using it.
 * Source: linux net/ipv4/arp.c, arp_process.
 */
import type { Sys } from "../host/sys.ts";
import { EEXIST, ENODEV, KernelError } from "../kernel/errno.ts";
import { openNamespace } from "../kernel/netns.ts";
import { type Link, MAIN_TABLE, type RouteClient, SCOPE_LINK } from "../kernel/route/client.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { GATEWAY_4, HOST_MAC } from "./names.ts";

/** Has a workload's prefix, so that packets from it are dropped and it is not mistaken for an uplink. */
const NAME = "caligateway";
const PEER = "caligateway-end";
const OWN_NAMESPACE = "/proc/thread-self/ns/net";
/** No packet passes through. */
const MTU_BYTES = 1500;
/** RTPROT_STATIC, because the routes driver owns all routes of protocol 80. */
const PROTOCOL = 4;
const LAST_METRIC = 0xffff_ffff;

/** Creates what is missing; costs two requests when nothing is. Throws KernelError. */
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

/** Succeeds when there is none. Throws KernelError. */
export function removeGateway(host: RouteClient): void {
  const link = host.linkByName(NAME);
  if (link !== undefined) host.deleteLink(link.index);
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
