/**
 * Affinities: how the objects of block affinities are called, and the labels by which those of a node are listed; a contract with
 * upstream's clients. Upstream: libcalico-go/lib/backend/model/block_affinity.go, lib/backend/k8s/resources/ipam_affinity_v1.go.
 */
import { sha256 } from "../lib/sha256.ts";
import { sha3 } from "../lib/sha3.ts";
import { type Prefix, prefixFamily } from "../net/prefix.ts";

/** `10.0.0.0/26` is `10-0-0-0-26`, `fd00::/122` is `fd00---122`. */
export function cidrName(prefix: Prefix): string {
  return prefix.replace(/[.:/]/g, "-");
}

/** Object names have at most 253 characters; a node name too long for that is cut and made unique by a hash. */
const NAME_LIMIT = 253;
const HASH_LENGTH = 11;

export function affinityName(node: string, prefix: Prefix): string {
  const cidr = cidrName(prefix);
  const name = `${node}-${cidr}`;
  if (name.length < NAME_LIMIT) return name;
  const hash = sha256(`${node}+${cidr}`).slice(0, HASH_LENGTH);
  return `${node.slice(0, NAME_LIMIT - 1 - cidr.length - HASH_LENGTH - 2)}-${cidr}-${hash}`;
}

/** Whether the name may be one that was cut. */
export function isCutName(name: string): boolean {
  return name.length >= NAME_LIMIT - 1;
}

const hashes = new Map<string, string>();

/** SHA3-256 in base32 without padding: node names may be longer than label values. */
function nodeHash(node: string): string {
  let hash = hashes.get(node);
  if (hash === undefined) hashes.set(node, (hash = base32(sha3(new TextEncoder().encode(node)))));
  return hash;
}

/** Labels by which the affinities of a node are listed. */
export function affinityLabels(node: string, family: 4 | 6, type = "host"): Record<string, string> {
  return {
    "projectcalico.org/hostname-hash": nodeHash(node),
    "projectcalico.org/affinity-type": type,
    "projectcalico.org/ip-version": String(family),
  };
}

export function affinityLabelsOf(node: string, prefix: Prefix): Record<string, string> {
  return affinityLabels(node, prefixFamily(prefix));
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** RFC 4648 §6, without padding. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    for (bits += 8; bits >= 5; bits -= 5) text += BASE32[(value >> (bits - 5)) & 31];
  }
  return bits === 0 ? text : text + BASE32[(value << (5 - bits)) & 31];
}
