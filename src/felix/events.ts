/**
 * events: tells the cluster of objects that the node cannot use, or not as they are meant: a policy that is not valid, a pool that is not,
 * settings that have no effect here.
 *
 * All nodes see the same fault, so the Event's name is made of the object and its version (or, as an object may get new versions without
 * end, of what is said): the first node creates it and the others find it there. A failure to write is in the log; the Event is tried again some times, as an API server that
 * has just started refuses everything, and then when the object is next seen.
 */
import type { RowStatus } from "../dataplane/driver.ts";
import type { Store } from "../datastore/store.ts";
import type { MissingKind } from "../datastore/syncer.ts";
import { StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { backoffMs } from "../lib/backoff.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import { fnv32 } from "../lib/fnv.ts";
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import { KINDS } from "../model/kind.ts";
import { CLUSTER_INFORMATION } from "../model/kinds/cluster.ts";
import { ipamSettingsOf, reservedRangesOf } from "../model/kinds/ipam-settings.ts";
import { objectOf, type RowUpdate } from "../model/convert/rows.ts";
import { formatWithoutEffect, settingsWithoutEffect } from "../model/kinds/without-effect.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import type { ObjectMeta, Resource } from "../model/resource.ts";
import type { Report } from "../lib/report.ts";

/** Of an Event, and what the log says of it. */
const REPORTS = {
  InvalidPolicy: "object of the datastore is not usable",
  InvalidPool: "object of the datastore is not usable",
  InvalidReservation: "object of the datastore is not usable",
  InvalidConfiguration: "object of the datastore is not usable",
  WithoutEffect: "settings of an object of the datastore have no effect",
  RequestIgnored: "what a pod asks for has no effect",
  AddressConflict: "a pod is closed, because it has no right to its address",
  EndpointRefused: "a WorkloadEndpoint is closed, because it has no right to its interface",
  FamilyUnavailable: "a pool is of no use on this node",
  KindNotReadable: "a kind cannot be read: going on without",
  NotProgrammed: "the kernel refuses what an object of the datastore asks for",
} as const;

type Reason = keyof typeof REPORTS;

export interface Fault {
  readonly key: Key;
  readonly metadata: ObjectMeta;
  readonly reason: Reason;
  readonly message: string;
}

const RETRY = { baseMs: 1_000, maxMs: 30_000 };
/** Over a minute. */
const MOST_ATTEMPTS = 7;

export class FaultReporter {
  readonly #node: string;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #told = new Map<string, string>();
  /** By object: its settings that have no effect, in words. */
  readonly #withoutEffect = new Map<KeyText, readonly string[]>();

  constructor(options: {
    readonly node: string;
    readonly store: Store;
    readonly clock: Clock;
    readonly report: Report;
  }) {
    this.#node = options.node;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#report = options.report;
  }

  /** Of a Pod the CNI server speaks when it wires it. */
  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      // Each node speaks of its own Node.
      if (update.kind === "Node" && update.key.name !== this.#node) continue;
      if (update.value === undefined) {
        if (this.#told.size > 0) for (const id of idsOf(update.key)) this.#told.delete(id);
        this.#withoutEffect.delete(update.id);
      } else {
        this.#inspect(update);
        const object = objectOf(update);
        if (object !== undefined) this.#inspectSettings(update.key, object);
      }
    }
  }

  /** Settings of the cluster's objects that have no effect, a line each: `IPPool/p spec.natOutgoing: true has no effect: …`. */
  get withoutEffect(): readonly string[] {
    return [...this.#withoutEffect].flatMap(([id, lines]) => lines.map((line) => `${id} ${line}`)).toSorted();
  }

  #inspectSettings(key: Key, value: Resource): void {
    const lines = settingsWithoutEffect(key.kind, value).map(formatWithoutEffect);
    if (lines.length === 0) return void this.#withoutEffect.delete(formatKey(key));
    this.#withoutEffect.set(formatKey(key), lines);
    this.tell({ key, metadata: value.metadata, reason: "WithoutEffect", message: lines.join("; ") });
  }

  #inspect(update: RowUpdate): void {
    if (update.kind === "KubernetesNetworkPolicy" && update.value !== undefined) {
      const { error } = update.value.model;
      if (error !== undefined)
        this.tell({
          key: update.key,
          metadata: update.value.metadata,
          reason: "InvalidPolicy",
          message: `The policy isolates the pods that it selects and allows nothing: ${error}`,
        });
    }
    if (update.kind === "IPPool" && update.value !== undefined) {
      const { row, object } = update.value;
      if (!row.ok)
        this.tell({
          key: update.key,
          metadata: object.metadata,
          reason: "InvalidPool",
          message: `The pool gives no addresses: ${formatFieldError(row.error)}`,
        });
    }
    if (update.kind === "IPReservation" && update.value !== undefined) {
      const { errors } = reservedRangesOf(update.value);
      if (errors.length > 0)
        this.tell({
          key: update.key,
          metadata: update.value.metadata,
          reason: "InvalidReservation",
          message: `These entries reserve nothing: ${errors.map(formatFieldError).join("; ")}`,
        });
    }
    if (update.kind === "IPAMConfiguration" && update.value !== undefined) {
      const settings = ipamSettingsOf(update.value);
      if (!settings.ok)
        this.tell({
          key: update.key,
          metadata: update.value.metadata,
          reason: "InvalidConfiguration",
          message: `No address is assigned until it is valid: ${formatFieldError(settings.error)}`,
        });
    }
  }

  /** The kernel refuses a row of an object: of a policy, or of a pod. Of rows that are nobody's the log and the status speak. */
  tellRefused({ object, error }: RowStatus): void {
    if (object === undefined) return;
    const effect =
      object.kind === "Pod" || object.kind === "WorkloadEndpoint"
        ? "The workload is closed on this node until the kernel takes it"
        : "The pods that it selects are closed on this node until the kernel takes it";
    this.tell({
      key: object,
      metadata: { name: object.name },
      reason: "NotProgrammed",
      message: `${effect}: ${error}`,
    });
  }

  /** About the cluster, as no object of such a kind is known. */
  tellMissing({ kind, error }: MissingKind): void {
    this.tell({
      key: CLUSTER_INFORMATION,
      metadata: { name: CLUSTER_INFORMATION.name },
      reason: "KindNotReadable",
      message: `${KINDS[kind].plural}: ${error}`,
    });
  }

  /** Once for each version of the object, or for each thing that is said of its settings: a line in the log and an Event. */
  tell(fault: Fault): void {
    const id = `${formatKey(fault.key)} ${fault.reason}`;
    const version = versionOf(fault);
    if (this.#told.get(id) === version) return;
    this.#told.set(id, version);
    this.#report(REPORTS[fault.reason], { object: formatKey(fault.key), reason: fault.reason, message: fault.message });
    void this.#write(id, fault);
  }

  /** Never rejects for trouble with the store. */
  async #write(id: string, fault: Fault): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#create(fault);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.reason === "exists") return;
        if (attempt === 1) this.#report("cannot create the Event about it", { object: id, error: error.message });
      }
      const isStillSo = (): boolean => this.#told.get(id) === versionOf(fault);
      if (isStillSo() && attempt === MOST_ATTEMPTS) this.#told.delete(id);
      if (!isStillSo()) return;
      await this.#clock.sleep(backoffMs(RETRY, attempt, 1));
      if (!isStillSo()) return;
    }
  }

  async #create(fault: Fault): Promise<void> {
    const { apiVersion, apiKind } = KINDS[fault.key.kind];
    const now = formatTimestamp(this.#clock.wallMs()).replace(/\.\d+Z$/, "Z");
    const namespace = fault.key.namespace ?? "default";
    const event: Resource<"Event"> = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: `${fault.key.name.slice(0, 200)}.calico-${versionOf(fault)}`, namespace },
      involvedObject: {
        apiVersion,
        kind: apiKind,
        name: fault.key.name,
        namespace: fault.key.namespace ?? "",
        uid: fault.metadata.uid ?? "",
        resourceVersion: fault.metadata.resourceVersion ?? "",
      },
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

function idsOf(key: Key): readonly string[] {
  return Object.keys(REPORTS).map((reason) => `${formatKey(key)} ${reason}`);
}

/** Not about a version of the object. */
const BY_MESSAGE: readonly Reason[] = [
  "WithoutEffect",
  "FamilyUnavailable",
  "NotProgrammed",
  "EndpointRefused",
  "KindNotReadable",
];

/** What makes it another fault than the one before: part of the Event's name. */
function versionOf({ metadata, reason, message }: Fault): string {
  return BY_MESSAGE.includes(reason)
    ? `${reason.toLowerCase()}-${fnv32(message).toString(16)}`
    : (metadata.resourceVersion ?? "0");
}
