/**
 * Names: how the IPAM objects are called and labelled; a contract with upstream's clients of the same datastore.
 * Upstream: libcalico-go/lib/names, lib/backend/model/block_affinity.go, lib/backend/k8s/resources/ipam_{affinity,handle}.go.
 */
import { affinityName, cidrName } from "../model/affinity.ts";
import type { Key } from "../model/key.ts";
import type { Prefix } from "../net/prefix.ts";

export function blockKey(prefix: Prefix): Key<"IPAMBlock"> {
  return { kind: "IPAMBlock", namespace: undefined, name: cidrName(prefix) };
}

export function affinityKey(node: string, prefix: Prefix): Key<"BlockAffinity"> {
  return { kind: "BlockAffinity", namespace: undefined, name: affinityName(node, prefix) };
}

/** Lower case, as upstream; other characters that a name may not contain become dashes. */
export function handleKey(handle: string): Key<"IPAMHandle"> {
  return { kind: "IPAMHandle", namespace: undefined, name: handle.toLowerCase().replace(/[^a-z0-9.-]/g, "-") };
}
