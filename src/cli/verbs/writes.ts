/**
 * Writes: one object written to the datastore. An update keeps what is the server's (uid, finalizers, status), takes labels, annotations
 * and spec from the file, and is a compare-and-swap: on the file's resourceVersion if it has one, else on that just read, with retries.
 * Upstream: Apply and Update in calicoctl/calicoctl/resourcemgr/resourcemgr.go.
 */
import { calicoNodeOf, nodeOfCalico } from "../../datastore/etcd/node.ts";
import { type Store, StoreError } from "../../datastore/store.ts";
import type { Key } from "../../model/key.ts";
import type { Resource } from "../../model/resource.ts";
import { type JsonObject, objectAt, stringAt } from "../../model/schema/json.ts";
import { Refusal } from "./failures.ts";
import { refuseUsedTier } from "./guards.ts";
import { objectText, type ServedKind } from "./kinds.ts";

/** An object to write: its identity, and what the file says. */
export interface Wanted {
  readonly kind: ServedKind;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly object: JsonObject;
}

export interface Writer {
  create(wanted: Wanted): Promise<void>;
  apply(wanted: Wanted): Promise<void>;
  replace(wanted: Wanted): Promise<void>;
  /** Changes what is stored; again on what another wrote meanwhile. `change` may throw Refusal. */
  change(wanted: Omit<Wanted, "object">, change: (stored: JsonObject) => JsonObject): Promise<void>;
  delete(wanted: Wanted): Promise<void>;
}

export interface WriterDependencies {
  readonly store: Store;
  readonly sleep: (ms: number) => Promise<void>;
  /** Before an object comes into being. Rejects with Refusal. */
  readonly admit: (kind: ServedKind, object: JsonObject) => Promise<void>;
}

/** How often an object is read and written again because others write it too. */
const MOST_ATTEMPTS = 5;
const WAIT_MS = 100;

export function openWriter({ store, sleep, admit }: WriterDependencies): Writer {
  const create = async (wanted: Wanted): Promise<void> => {
    await admit(wanted.kind, wanted.object);
    await store.create(wanted.kind.kind, asResource(wanted.kind, newObject(wanted.object)));
  };

  /** Reads, changes and writes until nobody else wrote in between. `absent` handles an object that does not exist. */
  const swap = async (
    wanted: Omit<Wanted, "object">,
    change: (stored: JsonObject) => JsonObject,
    absent: () => Promise<void>,
  ): Promise<void> => {
    const key = storeKey(wanted);
    for (let attempt = 1; ; attempt++) {
      const stored = await store.get(key);
      try {
        if (stored === undefined) await absent();
        else await store.update(key.kind, asResource(wanted.kind, change(asObject(stored))));
        return;
      } catch (error) {
        const isRace =
          error instanceof StoreError &&
          (error.reason === "conflict" ||
            (error.reason === "exists" && stored === undefined) ||
            (error.reason === "not-found" && stored !== undefined));
        if (!isRace || attempt === MOST_ATTEMPTS) throw error;
        await sleep(WAIT_MS * attempt);
      }
    }
  };

  const missing = (wanted: Omit<Wanted, "object">) => (): Promise<void> =>
    Promise.reject(new StoreError("not-found", wanted.kind.name, storeKey(wanted), "it does not exist"));

  return {
    create,
    apply: (wanted) =>
      swap(
        wanted,
        (stored) => merged(stored, wanted),
        () => create(wanted),
      ),
    replace: (wanted) => swap(wanted, (stored) => merged(stored, wanted), missing(wanted)),
    change: (wanted, change) => swap(wanted, change, missing(wanted)),
    delete: async (wanted) => {
      if (wanted.kind.kind === "Tier") await refuseUsedTier(store, wanted.name);
      const revision = revisionOf(wanted.object);
      await store.delete(storeKey(wanted), revision === "" ? {} : { revision });
    },
  };
}

export function storeKey({ kind, namespace, name }: Omit<Wanted, "object">): Key {
  return { kind: kind.kind, namespace, name };
}

function revisionOf(object: JsonObject): string {
  return stringAt(objectAt(object["metadata"])["resourceVersion"]);
}

/** Throws Refusal when the file was made from an older state. */
function merged(stored: JsonObject, { kind, namespace, name, object }: Wanted): JsonObject {
  const own = objectAt(stored["metadata"]);
  const revision = revisionOf(object);
  if (revision !== "" && revision !== own["resourceVersion"])
    throw new Refusal(
      `update conflict: ${objectText(kind, namespace, name)}: resource version '${revision}' is out of date (latest: ${stringAt(own["resourceVersion"])}): get it again and repeat the change, or remove resourceVersion from the file to overwrite it`,
    );
  const { labels: _, annotations: __, managedFields: ___, ...kept } = own;
  const { labels, annotations } = objectAt(object["metadata"]);
  const { status: ____, ...rest } = object;
  return {
    ...rest,
    metadata: {
      ...kept,
      ...(labels === undefined || labels === null ? {} : { labels }),
      ...(annotations === undefined || annotations === null ? {} : { annotations }),
    },
    ...(stored["status"] === undefined ? {} : { status: stored["status"] }),
  };
}

/** Of metadata only what the user decides: the rest is the server's. */
function newObject(object: JsonObject): JsonObject {
  const { name, namespace, labels, annotations } = objectAt(object["metadata"]);
  const { status: _, ...rest } = object;
  const metadata = Object.fromEntries(
    Object.entries({ name, namespace, labels, annotations }).filter(
      ([, value]) => value !== undefined && value !== null,
    ),
  ) as JsonObject;
  return { ...rest, metadata };
}

function asResource({ kind }: ServedKind, object: JsonObject): Resource {
  const { name, resourceVersion } = objectAt(object["metadata"]);
  const stored = kind === "Node" ? nodeOfCalico(stringAt(name), object, stringAt(resourceVersion)) : object;
  return stored as unknown as Resource;
}

/** As files have it: a Node that is stored in its own right is not Kubernetes'. */
export function asObject(resource: Resource): JsonObject {
  return calicoNodeOf(resource) ?? (resource as unknown as JsonObject);
}
