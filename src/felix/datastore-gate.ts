/**
 * datastore-gate: closed while ClusterInformation `default` says `datastoreReady: false`, as during a migration of the datastore.
 *
 * While it is closed the node takes in no changes, starts no pods and writes nothing of Calico's; the kernel stays as it is. What the watch
 * brings is held back, the last state of each object, until it opens again.
 */
import type { Report } from "../lib/report.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { KeyText } from "../model/key.ts";
import { KINDS } from "../model/kind.ts";
import { CLUSTER_INFORMATION, datastoreReady } from "../model/kinds/cluster.ts";
import { type Store, StoreError } from "../datastore/store.ts";

const OBJECT = `${CLUSTER_INFORMATION.kind} ${JSON.stringify(CLUSTER_INFORMATION.name)}`;
const REASON = `marked not ready: spec.datastoreReady of ${OBJECT} is false`;

export class DatastoreGate {
  readonly #report: Report;
  readonly #held = new Map<KeyText, RowUpdate>();
  #isOpen = true;

  constructor(report: Report) {
    this.#report = report;
  }

  /** Why it is closed, as what the datastore is; undefined when it is open. */
  get reason(): string | undefined {
    return this.#isOpen ? undefined : REASON;
  }

  /** What may be taken in now: nothing while it is closed; when it opens, first what was held back. */
  pass(updates: readonly RowUpdate[]): readonly RowUpdate[] {
    for (const update of updates)
      if (update.kind === "ClusterInformation" && update.key.name === CLUSTER_INFORMATION.name)
        this.#set(datastoreReady(update.value));
    if (this.#isOpen && this.#held.size === 0) return updates;
    for (const update of updates) this.#held.set(update.id, update);
    if (!this.#isOpen) return [];
    const held = [...this.#held.values()];
    this.#held.clear();
    return held;
  }

  #set(isOpen: boolean): void {
    if (isOpen === this.#isOpen) return;
    this.#isOpen = isOpen;
    if (isOpen)
      this.#report("the datastore is marked ready again: changes since are taken in", {
        object: OBJECT,
        held: this.#held.size,
      });
    else
      this.#report(
        "the datastore is marked not ready: the kernel stays as it is, no pod is started and no change taken in until it is ready",
        { object: OBJECT, field: "spec.datastoreReady" },
      );
  }
}

/** The store, but that it refuses to write Calico's objects while the gate is closed; who writes tries again later. */
export function gatedStore(store: Store, gate: DatastoreGate): Store {
  const check = (kind: keyof typeof KINDS, verb: string): void => {
    if (gate.reason === undefined || !KINDS[kind].apiVersion.startsWith("projectcalico.org/")) return;
    throw new StoreError(
      "unavailable",
      kind,
      undefined,
      `Cannot ${verb} ${KINDS[kind].plural}: the datastore is ${gate.reason}`,
    );
  };
  return {
    isStandalone: store.isStandalone,
    get: (key, options) => store.get(key, options),
    list: (kind, options) => store.list(kind, options),
    pages: (kind, options) => store.pages(kind, options),
    create: async (kind, object, options) => {
      check(kind, "create");
      return store.create(kind, object, options);
    },
    update: async (kind, object, options) => {
      check(kind, "update");
      return store.update(kind, object, options);
    },
    annotate: async (key, annotations, options) => {
      check(key.kind, "annotate");
      return store.annotate(key, annotations, options);
    },
    updateStatus: async (key, status, revision, options) => {
      check(key.kind, "update the status of");
      return store.updateStatus(key, status, revision, options);
    },
    delete: async (key, precondition, options) => {
      check(key.kind, "delete");
      return store.delete(key, precondition, options);
    },
    watch: (kind, revision, options) => store.watch(kind, revision, options),
    close: () => store.close(),
  };
}
