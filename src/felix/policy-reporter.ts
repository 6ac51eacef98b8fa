/**
 * policy-reporter: tells the cluster which policies this node's kernel has, at which generation: the node's NodePolicyStatus.
 *
 * What it says is true: it is taken only while the kernel has everything that the node knows. It is written after what it is about, with
 * whatever else changed meanwhile; all nodes together write some hundred times a second at most, and a node that writes much, less often.
 */
import type { RowStatus } from "../dataplane/driver.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { equal } from "../lib/equal.ts";
import type { Report } from "../lib/report.ts";
import { Retry } from "../lib/retry.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import {
  isReportedKey,
  type NodePolicyStatusSpec,
  type PolicyState,
  type ReportedKind,
  reportOf,
} from "../model/kinds/node-policy-status.ts";
import type { ObjectMeta, Resource } from "../model/resource.ts";
import type { Program, ProgramDelta } from "../program/program.ts";
import type { PolicyVersions } from "./policy-versions.ts";

export interface PolicyReporterOptions {
  readonly node: string;
  readonly store: Pick<Store, "get" | "create" | "update">;
  readonly clock: Clock;
  readonly report: Report;
  readonly policies: PolicyVersions;
  readonly program: () => Program;
  /** The rows that the kernel refuses, and those that wait for them. */
  readonly failures: () => readonly RowStatus[];
  /** The kernel has all that the node knows, but for what it refuses. */
  readonly isCurrent: () => boolean;
}

/** Changes of so long are gathered. */
const GATHER_MS = 200;
const LEAST_INTERVAL_MS = 1_000;
/** Between two writes of a node: this much for each node of the cluster, and for each 1,000 characters. */
const PER_NODE_MS = 10;
const PER_1000_MS = 10;
/** What nobody waits for is written with the next change, or so many intervals later. */
const PATIENCE = 10;
/** Somebody may have changed or deleted the object. */
const READ_AGAIN_MS = 600_000;
const RETRY = { baseMs: 1_000, maxMs: 300_000 } as const;

export class PolicyReporter {
  readonly #options: PolicyReporterOptions;
  readonly #key: Key<"NodePolicyStatus">;
  readonly #retry: Retry;
  /** Names of the cluster's nodes. */
  readonly #nodes = new Set<string>();
  #uid: string | undefined;
  #refused: ReadonlyMap<string, string> = new Map();
  /** Counts of `policies` that are known here. */
  #news = -1;
  #updates = -1;
  /** Since when something is to be written, by the monotonic clock: that somebody waits for; or that nobody does. */
  #dueMs: number | undefined = 0;
  #lateMs: number | undefined;
  #stored: { readonly metadata: ObjectMeta; readonly text: string } | undefined;
  #readMs = 0;
  #writtenMs = -Infinity;
  #length = 0;
  #wake: () => void = () => {};

  constructor(options: PolicyReporterOptions) {
    this.#options = options;
    this.#key = { kind: "NodePolicyStatus", namespace: undefined, name: options.node };
    this.#retry = new Retry(RETRY, options.clock);
  }

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind !== "Node") continue;
      if (update.value === undefined) this.#nodes.delete(update.key.name);
      else this.#nodes.add(update.key.name);
      const uid = update.value?.own?.metadata.uid;
      if (uid === undefined || uid === this.#uid) continue;
      this.#uid = uid;
      this.#due();
    }
  }

  /** The program changes. */
  changed({ policies }: ProgramDelta): void {
    if (policies.size > 0) this.#due();
  }

  /** The kernel has everything but what it refuses. */
  written(): void {
    const { policies, failures } = this.#options;
    const rows = failures();
    if (rows.length > 0 || this.#refused.size > 0) {
      const refused = refusedObjects(rows);
      if (!equal([...refused], [...this.#refused])) this.#due();
      this.#refused = refused;
    }
    if (policies.news !== this.#news) this.#due();
    else if (policies.updates !== this.#updates) this.#lateMs ??= this.#options.clock.monotonicMs();
    else return;
    this.#news = policies.news;
    this.#updates = policies.updates;
    this.#wake();
  }

  /** Until the signal aborts; call when the datastore is in sync. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, isCurrent } = this.#options;
    while (!signal.aborted) {
      const waitMs = this.#atMs() - clock.monotonicMs();
      if (waitMs > 0) await this.#sleep(waitMs, signal);
      else if (!isCurrent()) await clock.sleep(GATHER_MS, signal);
      else await this.#write();
    }
  }

  #due(): void {
    if (this.#dueMs !== undefined) return;
    this.#dueMs = this.#options.clock.monotonicMs();
    this.#wake();
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#wake = wake;
    signal.addEventListener("abort", wake, { once: true });
    await this.#options.clock.sleep(ms, woken.signal);
    signal.removeEventListener("abort", wake);
    this.#wake = () => {};
  }

  /** When to write next, by the monotonic clock. */
  #atMs(): number {
    if (this.#retry.atMs !== undefined) return this.#retry.atMs;
    const intervalMs = Math.max(
      LEAST_INTERVAL_MS,
      this.#nodes.size * PER_NODE_MS,
      (this.#length / 1_000) * PER_1000_MS,
    );
    const since = (fromMs: number | undefined, most: number): number =>
      fromMs === undefined ? Infinity : Math.max(fromMs + GATHER_MS, this.#writtenMs + most);
    return Math.min(
      since(this.#dueMs, intervalMs),
      since(this.#lateMs, intervalMs * PATIENCE),
      this.#readMs + READ_AGAIN_MS,
    );
  }

  async #write(): Promise<void> {
    const { clock, report, node } = this.#options;
    const before = { dueMs: this.#dueMs, lateMs: this.#lateMs };
    this.#dueMs = undefined;
    this.#lateMs = undefined;
    try {
      await this.#put(this.#spec());
      if (this.#retry.succeeded()) report("the status of policies on this node is written again", { node });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#stored = undefined;
      this.#dueMs ??= before.dueMs ?? clock.monotonicMs();
      if (this.#retry.failed(error.message) && error.reason !== "conflict" && error.reason !== "exists")
        report("cannot write the status of policies on this node: will retry", { node, error: error.message });
    }
  }

  #spec(): NodePolicyStatusSpec {
    const { policies, program, failures } = this.#options;
    const refused = refusedObjects(failures());
    const entries: [Key<ReportedKind>, PolicyState][] = [];
    for (const [id, { source, error }] of program().policies) {
      if (!isReportedKey(source)) continue;
      const generation = policies.generationOf(id as string as KeyText);
      const reason = refused.get(id);
      if (reason !== undefined) entries.push([source, { generation, state: "refused", reason }]);
      else entries.push([source, { generation, state: error === undefined ? "programmed" : "invalid" }]);
    }
    return reportOf(policies.observed, entries);
  }

  async #put(spec: NodePolicyStatusSpec): Promise<void> {
    const { clock, store, node } = this.#options;
    const now = clock.monotonicMs();
    if (this.#stored === undefined || now >= this.#readMs + READ_AGAIN_MS) {
      const found = await store.get(this.#key);
      this.#stored = found && { metadata: found.metadata, text: textOf(found) };
      this.#readMs = now;
    }
    const metadata = { ...(this.#stored?.metadata ?? { name: node }), ...ownedBy(node, this.#uid) };
    const object: Resource<"NodePolicyStatus"> = {
      apiVersion: "projectcalico.org/v3",
      kind: "NodePolicyStatus",
      metadata,
      spec,
    };
    const text = textOf(object);
    this.#length = text.length;
    if (text === this.#stored?.text) return;
    const written =
      this.#stored === undefined
        ? await store.create("NodePolicyStatus", object)
        : await store.update("NodePolicyStatus", object);
    this.#writtenMs = clock.monotonicMs();
    this.#stored = { metadata: written.metadata, text };
  }
}

/** What of the object is this node's to say. */
function textOf({ metadata, spec }: Resource<"NodePolicyStatus">): string {
  return JSON.stringify([metadata.ownerReferences?.map(({ uid }) => uid), spec]);
}

/** With the Node goes its status. */
function ownedBy(node: string, uid: string | undefined): Pick<ObjectMeta, "ownerReferences"> {
  return uid === undefined ? {} : { ownerReferences: [{ apiVersion: "v1", kind: "Node", name: node, uid }] };
}

/** By the text of its key: why the kernel refuses an object's row, or one that it needs. */
function refusedObjects(rows: readonly RowStatus[]): ReadonlyMap<string, string> {
  return new Map(rows.flatMap(({ object, error }) => (object === undefined ? [] : [[formatKey(object), error]])));
}
