/**
 * Stamp: what the server side fills in on writes, for the stores without an API server: identity, creation time, generation, and a
 * deep copy of the caller's object.
 *
 * `resourceVersion` is not part of a stamped object: each store adds its own.
 */
import { copyJson } from "../lib/copy.ts";
import { KINDS, type Kind } from "../model/kind.ts";
import { type Key, formatKey } from "../model/key.ts";
import type { PolicyStatus } from "../model/kinds/network-policy.ts";
import { keyOf, type ObjectMeta, type Resource } from "../model/resource.ts";
import { type StatusKind, StoreError } from "./store.ts";

/** The key under which the object is stored. Throws `invalid` for an object without a name or of another kind. */
export function placeOf<K extends Kind>(kind: K, object: Resource<K>, operation: string): Key<K> {
  const key = keyOf(kind, object);
  const info = KINDS[kind];
  if (key.name === "")
    throw new StoreError(
      "invalid",
      kind,
      undefined,
      `Cannot ${operation} ${kind}: metadata.name is "", must not be empty`,
    );
  if (object.apiVersion !== info.apiVersion || object.kind !== info.apiKind) {
    const found = `${JSON.stringify(object.apiVersion)} ${JSON.stringify(object.kind)}`;
    throw new StoreError(
      "invalid",
      kind,
      key,
      `Cannot ${operation} ${formatKey(key)}: type is ${found}, must be "${info.apiVersion}" "${info.apiKind}"`,
    );
  }
  return key;
}

/** A new object as it is first stored. */
export function stampNew<K extends Kind>(
  key: Key<K>,
  object: Resource<K>,
  uid: string,
  creationTimestamp: string,
): Resource<K> {
  const copy = copyOf(key, object);
  copy.metadata.uid = uid;
  copy.metadata.creationTimestamp = creationTimestamp;
  copy.metadata.generation = 1;
  return copy;
}

/** `object` as it replaces `stored`: identity is kept, and a change outside metadata and status increments the generation. */
export function stampUpdated<K extends Kind>(key: Key<K>, stored: Resource<K>, object: Resource<K>): Resource<K> {
  const copy = copyOf(key, object);
  const old: ObjectMeta = stored.metadata;
  if (old.uid !== undefined) copy.metadata.uid = old.uid;
  if (old.creationTimestamp !== undefined) copy.metadata.creationTimestamp = old.creationTimestamp;
  copy.metadata.generation = (old.generation ?? 1) + (bodyText(stored) === bodyText(copy) ? 0 : 1);
  return copy;
}

/** `stored` with annotations set (or, with null, removed). */
export function stampAnnotated<K extends Kind>(
  stored: Resource<K>,
  annotations: Readonly<Record<string, string | null>>,
): Resource<K> {
  const copy = copyJson(stored);
  delete copy.metadata.resourceVersion;
  const merged: Record<string, string> = { ...copy.metadata.annotations };
  for (const [name, value] of Object.entries(annotations)) {
    if (value === null) delete merged[name];
    else merged[name] = value;
  }
  copy.metadata.annotations = merged;
  if (Object.keys(merged).length === 0) delete copy.metadata.annotations;
  return copy;
}

/** `stored` with these fields of its status. */
export function stampStatus<K extends StatusKind>(stored: Resource<K>, status: PolicyStatus): Resource<K> {
  const copy = copyJson(stored);
  delete copy.metadata.resourceVersion;
  copy.status = { ...copy.status, ...copyJson(status) };
  return copy;
}

/** Whether the object has all these labels with these values. */
export function hasLabels(
  object: { readonly metadata: ObjectMeta },
  wanted: Readonly<Record<string, string>> | undefined,
): boolean {
  return Object.entries(wanted ?? {}).every(([name, value]) => object.metadata.labels?.[name] === value);
}

function copyOf<K extends Kind>(key: Key<K>, object: Resource<K>): Resource<K> {
  const copy = copyJson(object);
  delete copy.metadata.resourceVersion;
  if (key.namespace !== undefined) copy.metadata.namespace = key.namespace;
  return copy;
}

function bodyText(object: object): string {
  const { metadata: _, status: __, ...body } = object as { metadata: unknown; status?: unknown };
  return JSON.stringify(body);
}
