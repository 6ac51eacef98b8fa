/**
 * Lifecycle: what a cluster's controllers do that objects of this API rely on: a `default` service account in each namespace, the end of
 * namespaces and custom resource definitions with their content, the deletion of objects whose owners are gone, and of old events.
 *
 * Works off a queue of keys after each change, outside of the change itself; at start it looks at everything once, so that a crash between
 * two steps loses none.
 */
import { arrayAt, fieldAt } from "../../../src/model/schema/json.ts";
import { lastSeen } from "../kinds/event.ts";
import { type ApiObject, ownersOf } from "../object.ts";
import { apiVersionOf, resourceId } from "../resource-type.ts";
import { type Context, timestamp } from "./context.ts";
import { CLEANUP_FINALIZER, finishDeletion, removeObject } from "./remove.ts";
import type { Change } from "./storage.ts";

const BACKGROUND = {
  gracePeriodSeconds: undefined,
  propagation: "Background",
  uid: undefined,
  resourceVersion: undefined,
  dryRun: false,
} as const;

const NAMESPACE_REST_MS = 500;
const EVENT_LIFE_MS = 3_600_000;
const EVENT_CHECK_MS = 60_000;

export class Lifecycle {
  readonly #context: Context;
  /** Uid of an owner to `resource key` of its dependents. */
  readonly #dependents = new Map<string, Set<string>>();
  readonly #queued = new Map<string, () => void>();
  readonly #resting = new Map<string, ReturnType<typeof setTimeout>>();
  #scheduled = false;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Looks at everything once, then at each change. The returned function ends it. */
  start(): () => void {
    const { storage } = this.#context;
    for (const resource of storage.resources()) {
      for (const stored of storage.list(resource)) this.#consider(resource, stored.object);
    }
    const unsubscribe = storage.subscribe((change) => this.#observe(change));
    this.#expireEvents();
    const expiry = setInterval(() => this.#expireEvents(), EVENT_CHECK_MS);
    return () => {
      unsubscribe();
      clearInterval(expiry);
      for (const timer of this.#resting.values()) clearTimeout(timer);
    };
  }

  #observe(change: Change): void {
    if (
      change.resource === "namespaces" &&
      change.type === "MODIFIED" &&
      change.previous?.object.metadata.deletionTimestamp === undefined
    )
      this.#rest(change.state.object);
    if (change.previous !== undefined) this.#index(change.resource, change.previous.object, false);
    if (change.type !== "DELETED") {
      this.#consider(change.resource, change.state.object);
      return;
    }
    const { metadata } = change.state.object;
    for (const dependent of this.#dependents.get(metadata.uid ?? "") ?? [])
      this.#enqueue(`owners ${dependent}`, () => this.#collect(dependent));
    for (const owner of ownersOf(change.state.object))
      this.#enqueue(`foreground ${owner.uid}`, () => this.#finishForeground(owner.uid));
    if (change.namespace !== undefined) this.#enqueueNamespace(change.namespace);
    this.#enqueueDefinition(change.resource);
  }

  /** Queues whatever the present state of the object asks for. */
  #consider(resource: string, object: ApiObject): void {
    const { metadata } = object;
    this.#index(resource, object, true);
    if (resource === "namespaces") this.#enqueueNamespace(metadata.name);
    if (resource === "customresourcedefinitions.apiextensions.k8s.io" && metadata.deletionTimestamp !== undefined)
      this.#enqueueDefinition(metadata.name);
    if (ownersOf(object).length > 0) {
      const key = `${resource} ${metadata.namespace ?? ""}/${metadata.name}`;
      this.#enqueue(`owners ${key}`, () => this.#collect(key));
    }
    if (metadata.deletionTimestamp !== undefined && (metadata.finalizers ?? []).includes("foregroundDeletion")) {
      const uid = metadata.uid ?? "";
      this.#owners.set(uid, `${resource} ${metadata.namespace ?? ""}/${metadata.name}`);
      this.#enqueue(`foreground ${uid}`, () => this.#finishForeground(uid));
    }
  }

  /** Objects in foreground deletion, by uid. */
  readonly #owners = new Map<string, string>();

  #index(resource: string, object: ApiObject, present: boolean): void {
    const key = `${resource} ${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    for (const { uid } of ownersOf(object)) {
      let keys = this.#dependents.get(uid);
      if (keys === undefined) this.#dependents.set(uid, (keys = new Set()));
      if (present) keys.add(key);
      else keys.delete(key);
      if (keys.size === 0) this.#dependents.delete(uid);
    }
  }

  #enqueue(key: string, work: () => void): void {
    this.#queued.set(key, work);
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#run());
  }

  #run(): void {
    this.#scheduled = false;
    const work = [...this.#queued.values()];
    this.#queued.clear();
    for (const step of work) step();
  }

  /** A namespace that was just deleted keeps its content for a moment, so that one command can delete both by name. */
  #rest(namespace: ApiObject): void {
    const { name, deletionTimestamp } = namespace.metadata;
    if (deletionTimestamp === undefined) return;
    this.#resting.set(
      name,
      setTimeout(() => {
        this.#resting.delete(name);
        this.#enqueueNamespace(name);
      }, NAMESPACE_REST_MS),
    );
  }

  #enqueueNamespace(name: string): void {
    this.#enqueue(`namespace ${name}`, () => this.#settleNamespace(name));
  }

  #enqueueDefinition(name: string): void {
    this.#enqueue(`definition ${name}`, () => this.#finishDefinition(name));
  }

  #object(key: string): { readonly resource: string; readonly object: ApiObject } | undefined {
    const [resource = "", place = ""] = key.split(" ");
    const object = this.#context.storage.at(resource, place)?.object;
    return object === undefined ? undefined : { resource, object };
  }

  #delete(resource: string, object: ApiObject): void {
    const type = this.#context.registry.byId(resource);
    if (type === undefined || object.metadata.deletionTimestamp !== undefined) return;
    removeObject(this.#context, type, object.metadata.namespace, object.metadata.name, BACKGROUND);
  }

  /** Stores the state without its finalizer, unless that was the last thing that held the object. */
  #settle(resource: string, next: ApiObject): void {
    const type = this.#context.registry.byId(resource);
    if (type === undefined || !finishDeletion(this.#context, type, next)) this.#context.storage.write(resource, next);
  }

  /** A living namespace has its default service account; a dying one loses its content and then goes. */
  #settleNamespace(name: string): void {
    const { storage, registry } = this.#context;
    const namespace = storage.get("namespaces", undefined, name)?.object;
    if (namespace === undefined || this.#resting.has(name)) return;
    if (namespace.metadata.deletionTimestamp === undefined) {
      if (storage.get("serviceaccounts", name, "default") === undefined) this.#createDefaultAccount(name);
      return;
    }
    let left = false;
    for (const type of registry.types()) {
      if (!type.namespaced) continue;
      for (const stored of storage.list(resourceId(type), name)) {
        this.#delete(resourceId(type), stored.object);
        left ||= storage.get(resourceId(type), name, stored.object.metadata.name) !== undefined;
      }
    }
    if (left || arrayAt(fieldAt(namespace, "spec", "finalizers")).length === 0) return;
    const next = structuredClone(namespace);
    next["spec"] = {};
    this.#settle("namespaces", next);
  }

  #createDefaultAccount(namespace: string): void {
    this.#context.storage.write("serviceaccounts", {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: {
        name: "default",
        namespace,
        uid: crypto.randomUUID(),
        creationTimestamp: timestamp(this.#context.nowMs()),
      },
    });
  }

  /** A definition that is being deleted takes its objects with it. */
  #finishDefinition(name: string): void {
    const { storage } = this.#context;
    const resource = "customresourcedefinitions.apiextensions.k8s.io";
    const definition = storage.get(resource, undefined, name)?.object;
    if (definition?.metadata.deletionTimestamp === undefined) return;
    for (const stored of storage.list(name)) this.#delete(name, stored.object);
    if (storage.list(name).length > 0) return;
    const next = structuredClone(definition);
    next.metadata.finalizers = (next.metadata.finalizers ?? []).filter((finalizer) => finalizer !== CLEANUP_FINALIZER);
    if (next.metadata.finalizers.length === 0) delete next.metadata.finalizers;
    this.#settle(resource, next);
  }

  /** Removes events that were last seen more than an hour ago. */
  #expireEvents(): void {
    const { storage, nowMs } = this.#context;
    for (const { object } of storage.list("events")) {
      const seen = Date.parse(String(lastSeen(object) ?? object.metadata.creationTimestamp));
      if (nowMs() - seen > EVENT_LIFE_MS) this.#delete("events", object);
    }
  }

  /** Deletes a dependent when none of its owners exists. */
  #collect(key: string): void {
    const found = this.#object(key);
    if (found === undefined) return;
    const owners = ownersOf(found.object);
    if (owners.length > 0 && !owners.some((owner) => this.#ownerExists(owner, found.object.metadata.namespace)))
      this.#delete(found.resource, found.object);
  }

  /** An owner whose kind is not served counts as existing: nothing can be said of it. */
  #ownerExists(
    owner: { readonly apiVersion: string; readonly kind: string; readonly name: string; readonly uid: string },
    namespace: string | undefined,
  ): boolean {
    const slash = owner.apiVersion.indexOf("/");
    const type = this.#context.registry.byKind(slash < 0 ? "" : owner.apiVersion.slice(0, slash), owner.kind);
    if (type === undefined) return true;
    const stored = this.#context.storage.get(resourceId(type), type.namespaced ? namespace : undefined, owner.name);
    return stored !== undefined && stored.object.metadata.uid === owner.uid;
  }

  /** Deletes the dependents of an owner in foreground deletion; the owner goes when those that block it are gone. */
  #finishForeground(uid: string): void {
    const found = this.#object(this.#owners.get(uid) ?? "");
    if (found === undefined || found.object.metadata.uid !== uid) {
      this.#owners.delete(uid);
      return;
    }
    let blocked = false;
    // A copy: deleting a dependent takes it out of the index.
    for (const key of Array.from(this.#dependents.get(uid) ?? [])) {
      const dependent = this.#object(key);
      if (dependent === undefined) continue;
      this.#delete(dependent.resource, dependent.object);
      const left = this.#object(key);
      blocked ||= left !== undefined && ownersOf(left.object).some((owner) => owner.uid === uid && owner.blocking);
    }
    const finalizers = found.object.metadata.finalizers ?? [];
    if (blocked || !finalizers.includes("foregroundDeletion")) return;
    const next = structuredClone(found.object);
    next.metadata.finalizers = finalizers.filter((finalizer) => finalizer !== "foregroundDeletion");
    if (next.metadata.finalizers.length === 0) delete next.metadata.finalizers;
    this.#settle(found.resource, next);
  }
}

/** Namespaces that exist from the first start; whether any had to be made. */
export function createFirstNamespaces(context: Context): boolean {
  const before = context.storage.revision;
  for (const name of ["default", "kube-system", "kube-public"]) {
    if (context.storage.get("namespaces", undefined, name) !== undefined) continue;
    context.storage.write("namespaces", {
      apiVersion: apiVersionOf("", "v1"),
      kind: "Namespace",
      metadata: {
        name,
        uid: crypto.randomUUID(),
        creationTimestamp: timestamp(context.nowMs()),
        labels: { "kubernetes.io/metadata.name": name },
      },
      spec: { finalizers: ["kubernetes"] },
      status: { phase: "Active" },
    });
  }
  return context.storage.revision > before;
}
