/**
 * Names of our nf_tables objects. The table is ours alone; chain prefixes are upstream's, because operators search for them:
 * `cali-fw-`/`cali-tw-` from and to a workload, `cali-pi-`/`cali-po-` policy in and out.
 */
import { sha256 } from "../../lib/sha256.ts";
import type { Direction } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import type { PolicyId, SetId } from "../../program/policy.ts";
import type { EndpointId } from "../../program/program.ts";
import type { TableId } from "../../kernel/nftables/objects.ts";

export const TABLE: TableId = { family: "inet", name: "calico" };

/** Every host end of a pod's veth begins so; upstream: FELIX_INTERFACEPREFIX. */
export const INTERFACE_PREFIX = "cali";

export const PREROUTING = "prerouting";
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

/** A SetId is a prefix and a digest (program/lower-rule.ts): short, and of letters, digits and `-` only. */
export function setName(id: SetId, family: Family): string {
  return `${id}-${family}`;
}

export function endpointChain(id: EndpointId, direction: Direction): string {
  const suffix = id.startsWith(INTERFACE_PREFIX) ? id.slice(INTERFACE_PREFIX.length) : id;
  return `${direction === "egress" ? "cali-fw-" : "cali-tw-"}${suffix}`;
}

export function policyChain(id: PolicyId, direction: Direction): string {
  return `${direction === "ingress" ? "cali-pi-" : "cali-po-"}${unambiguous(id)}`;
}

/** Chain of one tier of one stage, for the tiers after the first. No interface has a `/` in its name. */
export function tierChain(id: EndpointId, direction: Direction, tier: number): string {
  return tier === 0 ? endpointChain(id, direction) : `${endpointChain(id, direction)}/tier${tier}`;
}

/** The kernel allows 255 bytes (NFT_NAME_MAXLEN less the NUL), the prefix included. */
const LONGEST_LITERAL = 200;
const HEAD = 160;

/**
 * A name that no other text gets, also not one that a tenant made for the purpose. nft's identifiers allow letters, digits and
 * `/ - _ .`. A text that is short and consists of these stands for itself, unless it has a `_`: that sign marks all others, which
 * keep their head for the reader and are told apart by the SHA-256 of the whole. Kubernetes names never have one.
 */
function unambiguous(text: string): string {
  if (text.length <= LONGEST_LITERAL && /^[A-Za-z0-9./-]+$/.test(text)) return text;
  return `${text.slice(0, HEAD).replace(/[^A-Za-z0-9./-]/g, "-")}_${sha256(text)}`;
}
