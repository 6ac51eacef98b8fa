/**
 * Names of our nf_tables objects. The table is ours alone; chain prefixes are upstream's, because operators search for them:
 * `cali-fw-`/`cali-tw-` from and to a workload, `cali-pi-`/`cali-po-` policy in and out.
 */
import type { Direction } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import type { PolicyId, SetId } from "../../program/policy.ts";
import type { EndpointId } from "../../program/program.ts";
import type { TableId } from "../../kernel/nftables/objects.ts";

export const TABLE: TableId = { family: "inet", name: "calico" };

/** Every host end of a pod's veth begins so; upstream: FELIX_INTERFACEPREFIX. */
export const INTERFACE_PREFIX = "cali";

export const FORWARD = "forward";
export const INPUT = "input";
/** Traffic that its source's egress stage (if any) allowed, on its way to a workload or elsewhere; always ends in a verdict. */
export const TO_WORKLOAD = "cali-to-workload";
/** Neighbour discovery and multicast listener messages of a pod to its node. */
export const NEIGHBOR_DISCOVERY = "cali-neighbor-discovery";

export const FROM_ENDPOINT = "from-endpoint";
export const TO_ENDPOINT = "to-endpoint";

/** (interface, source address) pairs that may send. */
export function sourcesSet(family: Family): string {
  return `sources-${family}`;
}

export function setName(id: SetId, family: Family): string {
  return `${safe(id)}-${family}`;
}

/** nft's identifiers allow letters, digits and `/ - _ .`; the kernel's limit is 255 bytes, and SetIds are short digests. */
function safe(text: string): string {
  return text.replace(/[^A-Za-z0-9_./-]/g, "_");
}

export function endpointChain(id: EndpointId, direction: Direction): string {
  const suffix = id.startsWith(INTERFACE_PREFIX) ? id.slice(INTERFACE_PREFIX.length) : id;
  return `${direction === "egress" ? "cali-fw-" : "cali-tw-"}${suffix}`;
}

/** A Kubernetes name has at most 253 bytes and a namespace 63, so a long id keeps its head and gets a digest of the whole. */
export function policyChain(id: PolicyId, direction: Direction): string {
  const prefix = direction === "ingress" ? "cali-pi-" : "cali-po-";
  const name = safe(id);
  if (name.length <= 200) return prefix + name;
  return `${prefix}${name.slice(0, 180)}.${digest(id)}`;
}

/** Chain of one tier of one stage, for the tiers after the first. */
export function tierChain(id: EndpointId, direction: Direction, tier: number): string {
  return tier === 0 ? endpointChain(id, direction) : `${endpointChain(id, direction)}-tier${tier}`;
}

/** 53 bits of cyrb53 as hex: tells apart long names with the same first 180 bytes. */
function digest(text: string): string {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    high = Math.imul(high ^ code, 2654435761);
    low = Math.imul(low ^ code, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return (4294967296 * (2097151 & low) + (high >>> 0)).toString(16).padStart(14, "0");
}
