/**
 * events: tells the cluster of objects that the node cannot use: a policy that is not valid, a pool that is not.
 *
 * All nodes see the same fault, so the Event's name is made of the object and its version: the first node creates it and the
 * others find it there. A failure to write is in the log; the Event is tried again when the object is next seen.
 */
import type { Store } from "../datastore/store.ts";
import { StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import { formatKey, type Key } from "../model/key.ts";
import { KINDS } from "../model/kind.ts";
import { poolModelOf } from "../model/kinds/pool-model.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { policyOfNetworkPolicy } from "../model/kubernetes/network-policy.ts";
import type { ObjectMeta, Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import type { Report } from "./pipeline.ts";

export interface Fault {
  readonly key: Key;
  readonly metadata: ObjectMeta;
  readonly reason: string;
  readonly message: string;
}

export class FaultReporter {
  readonly #node: string;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #told = new Map<string, string>();

  constructor(options: { readonly node: string; readonly store: Store; readonly clock: Clock; readonly report: Report }) {
    this.#node = options.node;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#report = options.report;
  }

  observe(updates: readonly Update[]): void {
    for (const update of updates) {
      if (update.kind !== "KubernetesNetworkPolicy" && update.kind !== "IPPool") continue;
      if (update.value === undefined) this.#told.delete(formatKey(update.key));
      else this.#inspect(update);
    }
  }

  #inspect(update: Update): void {
    if (update.kind === "KubernetesNetworkPolicy" && update.value !== undefined) {
      const { error } = policyOfNetworkPolicy(update.value);
      if (error !== undefined) this.tell({ key: update.key, metadata: update.value.metadata, reason: "InvalidPolicy", message: `The policy isolates the pods that it selects and allows nothing: ${error}` });
    }
    if (update.kind === "IPPool" && update.value !== undefined) {
      const pool = poolModelOf(update.value);
      if (!pool.ok) this.tell({ key: update.key, metadata: update.value.metadata, reason: "InvalidPool", message: `The pool gives no addresses: ${formatFieldError(pool.error)}` });
    }
  }

  /** Once for each version of the object: a line in the log and an Event. */
  tell(fault: Fault): void {
    const id = formatKey(fault.key);
    const version = `${fault.metadata.resourceVersion}/${fault.reason}`;
    if (this.#told.get(id) === version) return;
    this.#told.set(id, version);
    this.#report("object of the datastore is not usable", { object: id, reason: fault.reason, message: fault.message });
    this.#create(fault).catch((error: unknown) => {
      if (!(error instanceof StoreError)) throw error;
      if (error.reason === "exists") return;
      this.#told.delete(id);
      this.#report("cannot create the Event about it", { object: id, error: error.message });
    });
  }

  async #create(fault: Fault): Promise<void> {
    const { apiVersion, apiKind } = KINDS[fault.key.kind];
    const now = formatTimestamp(this.#clock.wallMs()).replace(/\.\d+Z$/, "Z");
    const namespace = fault.key.namespace ?? "default";
    const event: Resource<"Event"> = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: `${fault.key.name.slice(0, 200)}.calico-${fault.metadata.resourceVersion ?? "0"}`, namespace },
      involvedObject: { apiVersion, kind: apiKind, name: fault.key.name, namespace: fault.key.namespace ?? "", uid: fault.metadata.uid ?? "", resourceVersion: fault.metadata.resourceVersion ?? "" },
      type: "Warning",
      reason: fault.reason,
      message: fault.message,
      source: { component: "calico-node", host: this.#node },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    await this.#store.create("Event", event);
  }
}
