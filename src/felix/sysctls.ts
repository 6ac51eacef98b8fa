/** sysctls: what a node must allow to forward packets for its pods. Per-interface settings belong to each pod's link. */
import { writeSysctl } from "../kernel/sysctl.ts";
import type { Sys } from "../host/sys.ts";

/** Source: linux Documentation/networking/ip-sysctl.rst. */
const FORWARDING: readonly (readonly [string, string])[] = [
  ["net/ipv4/ip_forward", "1"],
  ["net/ipv6/conf/all/forwarding", "1"],
];

/** Rejects naming the setting that the kernel refused. */
export async function enableForwarding(sys: Sys): Promise<void> {
  for (const [name, value] of FORWARDING) writeSysctl(sys, name, value);
}
