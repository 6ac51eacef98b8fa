/** compare: compares one pod's network in the kernel with what `add` creates, on both sides. Reads only. */
import type { Sys } from "../host/sys.ts";
import { EINVAL, ENOENT, formatErrno, KernelError } from "../kernel/errno.ts";
import { openNamespace, withNamespaceFd } from "../kernel/netns.ts";
import { formatRoute, type KernelRoute, type Link, MAIN_TABLE, RouteClient } from "../kernel/route/client.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { GATEWAY_6, HOST_MAC } from "./names.ts";
import { podRoutes } from "./pod-side.ts";
import type { PodRequest } from "./request.ts";

export interface Comparison {
  /** One sentence per difference. */
  readonly differences: readonly string[];
  /** Of the pod's end; undefined when there is none. */
  readonly mac: string | undefined;
}

export function comparePodNetwork(sys: Sys, host: RouteClient, request: PodRequest): Comparison {
  const link = host.linkByName(request.hostInterface);
  const differences =
    link === undefined
      ? [`interface ${request.hostInterface} does not exist on the node`]
      : compareHost(sys, host, link, request);
  const pod = comparePod(sys, link, request);
  return { differences: [...differences, ...pod.differences], mac: pod.mac };
}

function compareHost(sys: Sys, host: RouteClient, link: Link, request: PodRequest): string[] {
  const found: string[] = [];
  const expect = (what: string, is: string | undefined, wanted: string): void => {
    if (is !== wanted) found.push(`${what} of ${link.name} is ${is ?? "missing"}, must be ${wanted}`);
  };
  expect("kind", link.kind, "veth");
  expect("state", link.up ? "up" : "down", "up");
  expect("MAC", link.mac, HOST_MAC);
  expect("MTU", String(link.mtuBytes), String(request.mtuBytes));
  // Whether rp_filter is 1 depends on the pod's source prefixes: the links driver keeps it.
  for (const [setting, wanted] of [
    ["forwarding", "1"],
    ["proxy_arp", "1"],
  ] as const) {
    expect(`IPv4 setting ${setting}`, readSysctl(sys, `net/ipv4/conf/${link.name}/${setting}`), wanted);
  }
  if (request.addresses.some((addr) => familyOf(addr) === 6)) {
    expect("IPv6 setting forwarding", readSysctl(sys, `net/ipv6/conf/${link.name}/forwarding`), "1");
    const gateway = host.addresses(link.index).find(({ addr }) => addr === GATEWAY_6);
    expect(`address ${GATEWAY_6}`, gateway?.usable === true ? "present" : "missing", "present");
  }
  for (const addr of request.addresses) {
    const route = host.routeTo(addr);
    if (route === undefined || route.destination !== prefixOfAddr(addr) || route.interfaceIndex !== link.index) {
      found.push(
        `node's route to ${addr} is ${route === undefined ? "missing" : formatRoute(route)}, must lead to ${link.name}`,
      );
    }
  }
  return found;
}

function comparePod(sys: Sys, hostLink: Link | undefined, request: PodRequest): Comparison {
  const pod = openPodClient(sys, request.netns);
  if (typeof pod === "string") return { differences: [pod], mac: undefined };
  try {
    const link = pod.linkByName(request.podInterface);
    if (link === undefined)
      return { differences: [`interface ${request.podInterface} does not exist in the pod`], mac: undefined };
    const found: string[] = [];
    if (!link.up) found.push(`interface ${link.name} of the pod is down, must be up`);
    if (link.mtuBytes !== request.mtuBytes)
      found.push(`MTU of ${link.name} of the pod is ${link.mtuBytes}, must be ${request.mtuBytes}`);
    if (request.mac !== undefined && link.mac !== request.mac)
      found.push(`MAC of ${link.name} of the pod is ${link.mac ?? "missing"}, must be ${request.mac}`);
    if (hostLink !== undefined && (hostLink.peerIndex !== link.index || link.peerIndex !== hostLink.index)) {
      found.push(`interface ${link.name} of the pod is not the other end of ${hostLink.name}`);
    }
    found.push(...compareAddresses(pod, link, request.addresses), ...compareRoutes(pod, link, request.addresses));
    return { differences: found, mac: link.mac };
  } finally {
    pod.close();
  }
}

/** A client in the pod's namespace, or the reason why there is none. */
function openPodClient(sys: Sys, netns: string): RouteClient | string {
  try {
    const namespace = openNamespace(sys, netns);
    try {
      return withNamespaceFd(sys, namespace, netns, () => new RouteClient(sys));
    } finally {
      sys.close(namespace);
    }
  } catch (error) {
    if (error instanceof KernelError && (error.errno === ENOENT || error.errno === EINVAL))
      return `network namespace ${JSON.stringify(netns)} does not exist: ${formatErrno(error.errno)}`;
    throw error;
  }
}

function compareAddresses(pod: RouteClient, link: Link, addresses: readonly Addr[]): string[] {
  const present = pod.addresses(link.index);
  return addresses.flatMap((addr) => {
    const found = present.find((address) => address.addr === addr);
    if (found === undefined) return [`address ${addr} is missing on ${link.name} of the pod`];
    return found.usable
      ? []
      : [`address ${addr} of ${link.name} of the pod is not usable: duplicate address detection`];
  });
}

function compareRoutes(pod: RouteClient, link: Link, addresses: readonly Addr[]): string[] {
  const present = pod.routes({ table: MAIN_TABLE });
  const same = (a: KernelRoute, b: KernelRoute): boolean =>
    a.destination === b.destination &&
    a.type === b.type &&
    a.gateway === b.gateway &&
    a.interfaceIndex === b.interfaceIndex;
  return podRoutes(addresses, link.index)
    .filter((wanted) => !present.some((route) => same(route, wanted)))
    .map((wanted) => `route ${formatRoute(wanted)} is missing in the pod`);
}
