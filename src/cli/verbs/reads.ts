/**
 * Reads: objects of a kind from the datastore, one by name or all of a namespace or the cluster, as calicoctl shows them: views are made
 * here, and what only the server's bookkeeping needs is left out. Of a long list only what `keep` returns is held.
 */
import { isUnserved, type Store, StoreError } from "../../datastore/store.ts";
import type { Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import { type JsonObject, objectAt, stringAt } from "../../model/schema/json.ts";
import { type ServedKind, storedIn } from "./kinds.ts";
import {
  DEFAULT_ALLOW,
  defaultAllowProfile,
  endpointName,
  endpointView,
  nodeView,
  podOfEndpointName,
  profileOfNamespace,
  profileOfServiceAccount,
  profileSource,
} from "./views.ts";
import { asObject } from "./writes.ts";

export interface Listed<T> {
  readonly items: readonly T[];
  readonly revision: string;
}

/** undefined when it does not exist. */
export async function readOne(
  store: Store,
  served: ServedKind,
  namespace: string | undefined,
  name: string,
): Promise<JsonObject | undefined> {
  const kind = storedIn(store, served);
  if (kind.name === "Profile" && name === DEFAULT_ALLOW) return defaultAllowProfile();
  switch (kind.isView || kind.showsPods ? kind.name : undefined) {
    case "Profile":
      return readProfile(store, kind, name);
    case "Node": {
      const node = await store.get({ kind: "Node", namespace: undefined, name });
      return node === undefined ? undefined : nodeView(node);
    }
    case "WorkloadEndpoint": {
      const parts = podOfEndpointName(name);
      if (parts === undefined) return readStored(store, kind, namespace, name);
      const pod = await store.get({ kind: "Pod", namespace, name: parts.pod });
      if (pod?.spec?.nodeName === undefined || endpointName(pod.spec.nodeName, pod.metadata.name) !== name)
        return undefined;
      return endpointView(pod);
    }
    default:
      return readStored(store, kind, namespace, name);
  }
}

async function readStored(
  store: Store,
  kind: ServedKind,
  namespace: string | undefined,
  name: string,
): Promise<JsonObject | undefined> {
  const found = await store.get({ kind: kind.kind, namespace, name });
  return found === undefined ? undefined : shown(kind, found);
}

async function readProfile(store: Store, kind: ServedKind, name: string): Promise<JsonObject | undefined> {
  const source = profileSource(name);
  switch (source.type) {
    case "default-allow":
      return defaultAllowProfile();
    case "namespace": {
      const found = await store.get({ kind: "Namespace", namespace: undefined, name: source.namespace });
      return found === undefined ? undefined : profileOfNamespace(found);
    }
    case "service-account": {
      const found = await store.get({ kind: "ServiceAccount", namespace: source.namespace, name: source.name });
      return found === undefined ? undefined : profileOfServiceAccount(found);
    }
    case "stored": {
      const found = await store.get({ kind: "Profile", namespace: undefined, name });
      return found === undefined ? undefined : shown(kind, found);
    }
  }
}

/** All objects of a namespace, or of the cluster, by namespace and name. */
export async function readAll<T>(
  store: Store,
  served: ServedKind,
  namespace: string | undefined,
  keep: (object: JsonObject) => T,
): Promise<Listed<T>> {
  const kind = storedIn(store, served);
  switch (kind.isView || kind.showsPods ? kind.name : undefined) {
    case "Profile": {
      const namespaces = await listed(store, "Namespace", undefined, profileOfNamespace, keep);
      const accounts = await listed(store, "ServiceAccount", undefined, profileOfServiceAccount, keep);
      const stored = await orNone(listed(store, "Profile", undefined, (each) => shown(kind, each), keep));
      const items = [keep(defaultAllowProfile()), ...namespaces.items, ...accounts.items, ...stored.items];
      return { items, revision: `${namespaces.revision}/${accounts.revision}` };
    }
    case "Node":
      return listed(store, "Node", undefined, nodeView, keep);
    case "WorkloadEndpoint": {
      const named = (object: JsonObject): Kept<T> => ({ key: nameText(object), value: keep(object) });
      const pods = await listed(store, "Pod", namespace, endpointView, named);
      const stored = await orNone(listed(store, "WorkloadEndpoint", namespace, (each) => shown(kind, each), named));
      const items = [...pods.items, ...stored.items].sort(compareKeys).map(({ value }) => value);
      return { items, revision: pods.revision };
    }
    default:
      return withBuiltIn(
        kind,
        await listed(store, kind.kind, namespace, (resource) => shown(kind, resource), keep),
        keep,
      );
  }
}

/** A profile exists without being stored. */
function withBuiltIn<T>(kind: ServedKind, list: Listed<T>, keep: (object: JsonObject) => T): Listed<T> {
  return kind.name === "Profile" ? { ...list, items: [keep(defaultAllowProfile()), ...list.items] } : list;
}

/** A cluster without the kind has no objects of it. */
async function orNone<T>(list: Promise<Listed<T>>): Promise<Listed<T>> {
  try {
    return await list;
  } catch (error) {
    if (error instanceof StoreError && (error.reason === "forbidden" || isUnserved(error)))
      return { items: [], revision: "" };
    throw error;
  }
}

interface Kept<T> {
  readonly key: string;
  readonly value: T;
}

async function listed<K extends Kind, T>(
  store: Store,
  kind: K,
  namespace: string | undefined,
  view: (resource: Resource<K>) => JsonObject | undefined,
  keep: (object: JsonObject) => T,
): Promise<Listed<T>> {
  let kept: Kept<T>[] = [];
  let revision = "";
  for await (const page of store.pages(kind, namespace === undefined ? {} : { namespace })) {
    if (page.isFirst) kept = [];
    revision = page.revision;
    for (const resource of page.items) {
      const object = view(resource);
      if (object === undefined) continue;
      kept.push({ key: nameText(object), value: keep(object) });
    }
  }
  kept.sort(compareKeys);
  return { items: kept.map(({ value }) => value), revision };
}

/** `NAMESPACE/NAME`. */
function nameText(object: JsonObject): string {
  const metadata = objectAt(object["metadata"]);
  return `${stringAt(metadata["namespace"])}/${stringAt(metadata["name"])}`;
}

function compareKeys(a: { readonly key: string }, b: { readonly key: string }): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

function shown(kind: ServedKind, resource: Resource): JsonObject {
  return { ...withoutBookkeeping(asObject(resource)), apiVersion: kind.apiVersion, kind: kind.apiKind };
}

/** kubectl does not show these either. */
function withoutBookkeeping(object: JsonObject): JsonObject {
  const { managedFields: _, ...metadata } = objectAt(object["metadata"]);
  return { ...object, metadata };
}

const OF_THE_CLUSTER = [
  "namespace",
  "uid",
  "resourceVersion",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "generation",
];

/** What `--export` prints: without what belongs to this cluster. */
export function exported(object: JsonObject): JsonObject {
  const metadata = Object.entries(objectAt(object["metadata"])).filter(([name]) => !OF_THE_CLUSTER.includes(name));
  return { ...object, metadata: Object.fromEntries(metadata) };
}
