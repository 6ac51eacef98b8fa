/**
 * Keys: the etcd key of an object: `/calico/resources/v3/GROUP/PLURAL/[NAMESPACE/]NAME`, upstream's scheme for its own resources.
 * Kubernetes' kinds, which upstream does not keep in etcd, are beside them under their own group (`core` for v1).
 * Upstream: libcalico-go/lib/backend/model/resource.go.
 */
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";

const ROOT = "/calico/resources/v3";

/** All keys of the kind (in the namespace) begin with this; it ends in a slash. */
export function kindPrefix(kind: Kind, namespace?: string): string {
  const { apiVersion, plural, namespaced } = KINDS[kind];
  const group = apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "core";
  return `${ROOT}/${group}/${plural}/${namespaced && namespace !== undefined ? `${namespace}/` : ""}`;
}

export function objectKey(key: Key): string {
  return kindPrefix(key.kind, key.namespace) + key.name;
}

/** The inverse of `objectKey`, for an object of the kind; undefined when the path is not one. */
export function parseObjectKey<K extends Kind>(kind: K, path: string): Key<K> | undefined {
  const prefix = kindPrefix(kind);
  if (!path.startsWith(prefix)) return undefined;
  const parts = path.slice(prefix.length).split("/");
  const [first = "", second] = parts;
  if (parts.length !== (KINDS[kind].namespaced ? 2 : 1) || parts.includes("")) return undefined;
  return second === undefined ? { kind, namespace: undefined, name: first } : { kind, namespace: first, name: second };
}

/** The end of the range of keys that begin with the prefix: the prefix with its last byte one higher. */
export function prefixEnd(prefix: string): Uint8Array {
  const bytes = new TextEncoder().encode(prefix);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) + 1;
  return bytes;
}
