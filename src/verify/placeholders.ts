/** Placeholders: what stands for the addresses and nodes of pods that do not run yet. */
import { type Addr, addrFromBytes, type Family } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";

/** The label that Kubernetes gives every Namespace: its name. */
export const NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name";
/** The node of a pod that is not scheduled yet. */
export const UNKNOWN_NODE = "(not known)";

/**
 * The `index`-th pair of placeholders, from 0, out of ranges that no pod and no peer can have: "this network" (RFC 1122 §3.2.1.3) and the
 * discard prefix (RFC 6666).
 */
export function placeholders(index: number): readonly Addr[] {
  const low = [((index + 1) >> 16) & 255, ((index + 1) >> 8) & 255, (index + 1) & 255];
  return [
    addrFromBytes(Uint8Array.from([0, ...low])),
    addrFromBytes(Uint8Array.from([1, 0, ...Array<number>(11).fill(0), ...low])),
  ];
}

/** By its text, which is canonical: asked of every address of every answer. */
export function isPlaceholder(addr: Addr): boolean {
  return (addr.startsWith("0.") && addr !== "0.0.0.0") || (addr.startsWith("100::") && addr !== "100::");
}

/** Where no pod and no node ever is: the placeholders' ranges, loopback, link-local, multicast, reserved (RFC 6890). */
export const NOWHERE: Readonly<Record<Family, readonly Prefix[]>> = {
  4: ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"] as Prefix[],
  6: ["::/127", "100::/64", "fe80::/10", "ff00::/8"] as Prefix[],
};
