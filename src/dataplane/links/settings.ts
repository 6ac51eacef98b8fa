/** settings: what the host end of a pod's veth must be like. ADD makes it so; the links driver keeps it so. */
import type { Ipv4Settings } from "../../kernel/route/client.ts";

/** The host end answers for the pod's gateway (proxy ARP), lets no forged source through, and takes part in translations from 127.0.0.1. */
export const HOST_END_IPV4: Required<Ipv4Settings> = {
  forwarding: true,
  proxyArp: true,
  routeLocalnet: true,
  rpFilter: 1,
};

/**
 * Of a workload that may send from more addresses than its own. The kernel's loose check (2) too refuses what comes from an interface without an address of
 * the node; the check of policy's path is enough. Source: linux net/ipv4/fib_frontend.c (__fib_validate_source).
 */
export const HOST_END_IPV4_UNFILTERED: Required<Ipv4Settings> = { ...HOST_END_IPV4, rpFilter: 0 };

/** By name under /proc/sys/net/ipv6/conf/INTERFACE/, of a pod with an IPv6 address. */
export const HOST_END_IPV6: Readonly<Record<string, string>> = {
  disable_ipv6: "0",
  accept_dad: "0",
  accept_ra: "0",
  forwarding: "1",
  proxy_ndp: "1",
};
