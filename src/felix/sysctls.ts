/** sysctls: what a node must allow to forward packets for its pods. Per-interface settings belong to each pod's link. */
import { ENOENT, KernelError } from "../kernel/errno.ts";
import { readSysctl, writeSysctl } from "../kernel/sysctl.ts";
import { FAMILIES, type Family } from "../net/addr.ts";
import type { Sys } from "../host/sys.ts";

/** Source: linux Documentation/networking/ip-sysctl.rst. */
const FORWARDING: { readonly [F in Family]: string } = { 4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding" };

/**
 * Switches forwarding on; the families that this kernel has. IPv6 it may lack: then (booted with ipv6.disable=1, or built without) it has
 * none of its settings. Throws KernelError naming the setting that the kernel refused.
 */
export function enableForwarding(sys: Sys): ReadonlySet<Family> {
  writeSysctl(sys, FORWARDING[4], "1");
  try {
    writeSysctl(sys, FORWARDING[6], "1");
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOENT) return new Set([4]);
    throw error;
  }
  return new Set([4, 6]);
}

/** The families that this kernel has; changes nothing. Throws KernelError. */
export function readFamilies(sys: Sys): ReadonlySet<Family> {
  return new Set(FAMILIES.filter((family) => readSysctl(sys, FORWARDING[family]) !== undefined));
}
