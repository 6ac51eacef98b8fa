/**
 * Names: how the IPAM objects are called and labelled; a contract with upstream's clients of the same datastore.
 * Upstream: libcalico-go/lib/names, lib/backend/model/block_affinity.go, lib/backend/k8s/resources/ipam_{affinity,handle}.go.
 */
import { bytesToHex } from "../lib/bytes.ts";
import { sha3 } from "../lib/sha3.ts";
import type { Key } from "../model/key.ts";
import { type Prefix, prefixFamily } from "../net/prefix.ts";

/** `10.0.0.0/26` is `10-0-0-0-26`, `fd00::/122` is `fd00---122`. */
function cidrName(prefix: Prefix): string {
  return prefix.replace(/[.:/]/g, "-");
}

export function blockKey(prefix: Prefix): Key<"IPAMBlock"> {
  return { kind: "IPAMBlock", namespace: undefined, name: cidrName(prefix) };
}

/** Object names have at most 253 characters; a node name too long for that is cut and made unique by a hash. */
const NAME_LIMIT = 253;
const HASH_LENGTH = 11;

export async function affinityKey(node: string, prefix: Prefix): Promise<Key<"BlockAffinity">> {
  const cidr = cidrName(prefix);
  let name = `${node}-${cidr}`;
  if (name.length >= NAME_LIMIT) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${node}+${cidr}`));
    name = `${node.slice(0, NAME_LIMIT - 1 - cidr.length - HASH_LENGTH - 2)}-${cidr}-${bytesToHex(new Uint8Array(digest)).slice(0, HASH_LENGTH)}`;
  }
  return { kind: "BlockAffinity", namespace: undefined, name };
}

const hashes = new Map<string, string>();

/** SHA3-256 in base32 without padding: node names may be longer than label values. */
function nodeHash(node: string): string {
  let hash = hashes.get(node);
  if (hash === undefined) hashes.set(node, (hash = base32(sha3(new TextEncoder().encode(node)))));
  return hash;
}

/** Labels by which the affinities of a node are listed. */
export function affinityLabels(node: string, family: 4 | 6): Record<string, string> {
  return {
    "projectcalico.org/hostname-hash": nodeHash(node),
    "projectcalico.org/affinity-type": "host",
    "projectcalico.org/ip-version": String(family),
  };
}

export function affinityLabelsOf(node: string, prefix: Prefix): Record<string, string> {
  return affinityLabels(node, prefixFamily(prefix));
}

/** Lower case, as upstream; other characters that a name may not contain become dashes. */
export function handleKey(handle: string): Key<"IPAMHandle"> {
  return { kind: "IPAMHandle", namespace: undefined, name: handle.toLowerCase().replace(/[^a-z0-9.-]/g, "-") };
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
