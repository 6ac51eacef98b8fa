/** Values: objects as etcd holds them: JSON without resourceVersion, which is the key's modification revision. */
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import { parseObjectKey } from "./keys.ts";
import type { KeyValue } from "./protocol.ts";

export function encodeKey(path: string): Uint8Array {
  return new TextEncoder().encode(path);
}

export function encodeValue(object: Resource): Uint8Array {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return new TextEncoder().encode(JSON.stringify({ ...object, metadata }));
}

/**
 * The object of a stored value, named by its key even if the value contains another name. undefined when the key is not of the kind.
 * A value that is not JSON gives an object without content, which its readers report as invalid.
 */
export function decodeValue<K extends Kind>(what: K | Key<K>, entry: KeyValue): Resource<K> | undefined {
  const kind = typeof what === "string" ? what : what.kind;
  const key = typeof what === "string" ? parseObjectKey(what, new TextDecoder().decode(entry.key)) : what;
  if (key === undefined) return undefined;
  return objectOf(kind, key, new TextDecoder().decode(entry.value), entry.modRevision);
}

/** A deleted object whose last value is no longer kept. */
export function nameOnly<K extends Kind>(key: Key<K>, revision: string): Resource<K> {
  return objectOf(key.kind, key, "{}", revision);
}

function objectOf<K extends Kind>(kind: K, key: Key<K>, text: string, revision: string): Resource<K> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = { spec: {} };
  }
  const fields: { metadata?: object } = typeof value === "object" && value !== null ? value : {};
  const place = key.namespace === undefined ? { name: key.name } : { name: key.name, namespace: key.namespace };
  const { apiVersion, apiKind } = KINDS[kind];
  return {
    spec: {},
    ...fields,
    apiVersion,
    kind: apiKind,
    metadata: { ...fields.metadata, ...place, resourceVersion: revision },
  } as unknown as Resource<K>;
}
