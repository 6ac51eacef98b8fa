/**
 * Monitor: the kernel's notifications of links, routes and interface settings, whoever changes them.
 *
 * Each carries the port id of the socket that asked for the change, 0 when the kernel made it by itself. IPv4 routes that go because
 * their interface goes down or away are not told one by one. Source: linux net/core/rtnetlink.c, net/ipv4/devinet.c, fib_semantics.c.
 */
import type { Sys } from "../../host/sys.ts";
import { openNotifications } from "../netlink/notifications.ts";
import { eachMessage, type Message } from "../netlink/reader.ts";
import { NETLINK_ROUTE } from "../netlink/socket.ts";
import { decodeLink, type Link } from "./links.ts";
import { decodeRoute, type KernelRoute } from "./routes.ts";
import {
  NETCONFA_IFINDEX,
  NETCONFMSG,
  RTM_DELLINK,
  RTM_DELROUTE,
  RTM_NEWLINK,
  RTM_NEWNETCONF,
  RTM_NEWROUTE,
} from "./wire.ts";

const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV4_ROUTE = 7;
const RTNLGRP_IPV6_IFADDR = 9;
const RTNLGRP_IPV6_ROUTE = 11;
const RTNLGRP_IPV4_NETCONF = 24;
const RTNLGRP_IPV6_NETCONF = 25;
/** A limit, not an allocation. */
const RECEIVE_BYTES = 8 << 20;

export const ROUTE_GROUPS: readonly number[] = [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
export const LINK_GROUPS: readonly number[] = [RTNLGRP_LINK, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF];

export const ADDRESS_GROUPS: readonly number[] = [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];

/** A descriptor on which the notifications of the groups arrive. Throws KernelError. */
export function openRouteNotifications(sys: Sys, groups: readonly number[]): number {
  return openNotifications(sys, NETLINK_ROUTE, groups, RECEIVE_BYTES);
}

export type RouteNews =
  | { readonly type: "link"; readonly gone: boolean; readonly link: Link; readonly by: number }
  | { readonly type: "route"; readonly gone: boolean; readonly route: KernelRoute; readonly by: number }
  /** A setting of an interface, by index, or (undefined) of all. */
  | { readonly type: "settings"; readonly index: number | undefined; readonly by: number };

/** What one datagram tells. Messages of other kinds, and malformed ones, tell nothing. */
export function readNews(datagram: Uint8Array): RouteNews[] {
  const news: RouteNews[] = [];
  eachMessage(datagram, (message) => {
    const one = newsOf(message);
    if (one !== undefined) news.push(one);
  });
  return news;
}

function newsOf(message: Message): RouteNews | undefined {
  const { type, portId: by } = message;
  if (type === RTM_NEWLINK || type === RTM_DELLINK) {
    const link = decodeLink(message);
    return link === undefined ? undefined : { type: "link", gone: type === RTM_DELLINK, link, by };
  }
  if (type === RTM_NEWROUTE || type === RTM_DELROUTE) {
    const route = decodeRoute(message);
    return route === undefined ? undefined : { type: "route", gone: type === RTM_DELROUTE, route, by };
  }
  if (type !== RTM_NEWNETCONF) return undefined;
  const index = message.body.after(NETCONFMSG)?.attributes()?.get(NETCONFA_IFINDEX)?.i32();
  return { type: "settings", index: index === undefined || index < 0 ? undefined : index, by };
}
