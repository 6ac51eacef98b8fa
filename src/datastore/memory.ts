/**
 * Memory store: the reference implementation of Store, with fault injection.
 *
 * One counter numbers all writes, as in etcd. Objects are deep-copied in and out. The history behind watches is bounded: a watch
 * that starts before it is refused with `gone`. Faults are injected only on request, and are those of a real datastore: a lost
 * request, an answer lost after the write was done, and watches that end, break or start too far back.
 */
import { copyJson } from "../lib/copy.ts";
import { formatTimestampSeconds } from "../lib/timestamp.ts";
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import type { PolicyStatus } from "../model/kinds/network-policy.ts";
import type { ObjectMeta, Resource } from "../model/resource.ts";
import { checkPrecondition, checkRevision, checkVersion, refused } from "./conditions.ts";
import { hasLabels, placeOf, stampAnnotated, stampNew, stampStatus, stampUpdated } from "./stamp.ts";
import {
  type ListOptions,
  type ListPage,
  type ListResult,
  type StatusKind,
  type Store,
  StoreError,
  type StoreReason,
  type WatchEvent,
  type WriteOptions,
} from "./store.ts";

export type Verb = "get" | "list" | "create" | "update" | "annotate" | "updateStatus" | "delete" | "watch";

/** A point in an operation at which a fault can be injected: before it is done (`request`), or after, losing the answer (`answer`). */
export interface Step {
  readonly verb: Verb;
  readonly kind: Kind;
  readonly key: Key | undefined;
  readonly phase: "request" | "answer";
}

/** What happens at a step: a reason makes the operation reject; a promise delays it. */
export type Fault = (step: Step) => StoreReason | undefined | Promise<StoreReason | undefined>;

export interface MemoryStoreOptions {
  readonly isStandalone?: boolean;
  /** Events kept for watches; default 10,000. */
  readonly historyLimit?: number;
  /** Objects per page of a list; default: all. */
  readonly pageSize?: number;
  /** Milliseconds since 1970-01-01 UTC, for creation timestamps; default: always 1970. */
  readonly wallMs?: () => number;
}

interface Change {
  readonly revision: number;
  readonly kind: Kind;
  readonly type: "added" | "modified" | "deleted";
  /** With its resourceVersion; a deleted object carries the revision of its deletion. */
  readonly object: Resource;
}

interface Watcher {
  ended: "server" | StoreReason | undefined;
  wake: () => void;
}

/** A quiet watch gets a bookmark once the store has advanced by this many revisions. */
const BOOKMARK_EVERY = 100;

export class MemoryStore implements Store {
  readonly isStandalone: boolean;
  readonly #objects = new Map<KeyText, Resource>();
  readonly #kinds = new Map<KeyText, Kind>();
  readonly #watchers = new Set<Watcher>();
  readonly #historyLimit: number;
  readonly #pageSize: number;
  readonly #wallMs: () => number;
  #history: Change[] = [];
  /** The newest revision that is no longer in the history. */
  #compacted = 0;
  #revision = 0;
  #uids = 0;
  #fault: Fault | undefined;

  constructor(options: MemoryStoreOptions = {}) {
    this.isStandalone = options.isStandalone ?? false;
    this.#historyLimit = options.historyLimit ?? 10_000;
    this.#pageSize = options.pageSize ?? Number.MAX_SAFE_INTEGER;
    this.#wallMs = options.wallMs ?? (() => 0);
  }

  /** Sets the fault that every later step passes through; undefined: none. */
  setFault(fault: Fault | undefined): void {
    this.#fault = fault;
  }

  /** Ends every open watch: cleanly (`server`), or as the reason says. */
  dropWatches(how: "server" | "gone" | "unavailable"): void {
    for (const watcher of this.#watchers) {
      watcher.ended = how;
      watcher.wake();
    }
  }

  /** Discards the history: watches from an earlier revision than the current one are `gone`. */
  compact(): void {
    this.#history = [];
    this.#compacted = this.#revision;
  }

  async get<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    return this.#run("get", key.kind, key, options.signal, () => {
      const object = this.#find(key);
      return object === undefined ? undefined : copyJson(object);
    });
  }

  async list<K extends Kind>(
    kind: K,
    options: ListOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<ListResult<K>> {
    return this.#run("list", kind, undefined, options.signal, () => {
      const items: Resource<K>[] = [];
      for (const [text, object] of this.#objects) {
        if (this.#kinds.get(text) !== kind || !hasLabels(object, options.labels)) continue;
        if (options.namespace !== undefined && object.metadata.namespace !== options.namespace) continue;
        items.push(copyJson(object) as Resource<K>);
      }
      items.sort((a, b) => compareText(placeText(a.metadata), placeText(b.metadata)));
      return { items, revision: String(this.#revision) };
    });
  }

  async *pages<K extends Kind>(
    kind: K,
    options: ListOptions & { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<ListPage<K>> {
    const { items, revision } = await this.list(kind, options);
    for (let at = 0; at === 0 || at < items.length; at += this.#pageSize)
      yield {
        items: items.slice(at, at + this.#pageSize),
        isFirst: at === 0,
        isLast: at + this.#pageSize >= items.length,
        revision,
      };
  }

  async create<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "create");
    return this.#run("create", kind, key, options.signal, () => {
      if (this.#find(key) !== undefined) throw refused("exists", "create", key, "it exists already");
      const uid = `00000000-0000-4000-8000-${(++this.#uids).toString(16).padStart(12, "0")}`;
      return this.#write("added", key, stampNew(key, object, uid, formatTimestampSeconds(this.#wallMs())));
    });
  }

  async update<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "update");
    return this.#run("update", kind, key, options.signal, () => {
      const stored = this.#expect("update", key);
      checkVersion("update", key, object.metadata.resourceVersion, stored.metadata.resourceVersion);
      return this.#write("modified", key, stampUpdated(key, stored, object));
    });
  }

  async annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions = {},
  ): Promise<void> {
    await this.#run("annotate", key.kind, key, options.signal, () => {
      this.#write("modified", key, stampAnnotated(this.#expect("annotate", key), annotations));
    });
  }

  async updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options: WriteOptions = {},
  ): Promise<void> {
    await this.#run("updateStatus", key.kind, key, options.signal, () => {
      const stored = this.#expect("updateStatus", key);
      checkVersion("update the status of", key, revision, stored.metadata.resourceVersion);
      this.#write("modified", key, stampStatus(stored, status));
    });
  }

  async delete<K extends Kind>(
    key: Key<K>,
    precondition: { readonly revision?: string; readonly uid?: string } = {},
    options: WriteOptions = {},
  ): Promise<void> {
    await this.#run("delete", key.kind, key, options.signal, () => {
      checkPrecondition(key, this.#expect("delete", key), precondition);
      this.#remove(key);
    });
  }

  async *watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<readonly WatchEvent<K>[]> {
    await this.#inject({ verb: "watch", kind, key: undefined, phase: "request" });
    checkRevision(kind, revision);
    const watcher: Watcher = { ended: undefined, wake: () => {} };
    const wake = (): void => watcher.wake();
    options.signal.addEventListener("abort", wake);
    this.#watchers.add(watcher);
    try {
      let seen = Number(revision);
      /** Up to there nothing was of the kind since. */
      let scanned = seen;
      if (!options.signal.aborted) yield [];
      while (!options.signal.aborted) {
        const batch = this.#changesAfter(kind, seen, scanned);
        scanned = this.#revision;
        const last = batch.at(-1);
        if (last !== undefined) {
          seen = Number(last.revision);
          yield batch;
          continue;
        }
        if (watcher.ended === "server") return;
        if (watcher.ended !== undefined)
          throw new StoreError(
            watcher.ended,
            kind,
            undefined,
            `Cannot watch ${kind}: the watch was dropped on request`,
          );
        await new Promise<void>((resolve) => (watcher.wake = resolve));
      }
    } finally {
      this.#watchers.delete(watcher);
      options.signal.removeEventListener("abort", wake);
    }
  }

  async close(): Promise<void> {
    this.dropWatches("server");
  }

  #changesAfter<K extends Kind>(kind: K, seen: number, scanned: number): WatchEvent<K>[] {
    if (seen < this.#compacted)
      throw new StoreError(
        "gone",
        kind,
        undefined,
        `Cannot watch ${kind} from revision ${seen}: history begins after ${this.#compacted}`,
      );
    const batch: WatchEvent<K>[] = [];
    // Revisions are consecutive, so the index of a revision in the history is known.
    for (const change of this.#history.slice(Math.max(0, scanned - this.#compacted))) {
      if (change.kind !== kind) continue;
      batch.push({
        type: change.type,
        object: copyJson(change.object) as Resource<K>,
        revision: String(change.revision),
      });
    }
    if (batch.length === 0 && this.#revision - seen >= BOOKMARK_EVERY)
      batch.push({ type: "bookmark", revision: String(this.#revision) });
    return batch;
  }

  async #run<T>(
    verb: Verb,
    kind: Kind,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    body: () => T,
  ): Promise<T> {
    signal?.throwIfAborted();
    await this.#inject({ verb, kind, key, phase: "request" });
    signal?.throwIfAborted();
    const answer = body();
    await this.#inject({ verb, kind, key, phase: "answer" });
    return answer;
  }

  async #inject(step: Step): Promise<void> {
    const reason = await this.#fault?.(step);
    if (reason === undefined) return;
    const object = step.key === undefined ? step.kind : formatKey(step.key);
    throw new StoreError(
      reason,
      step.kind,
      step.key,
      `Cannot ${step.verb} ${object}: ${reason} on request (${step.phase} lost)`,
    );
  }

  #find<K extends Kind>(key: Key<K>): Resource<K> | undefined {
    return this.#objects.get(formatKey(key)) as Resource<K> | undefined;
  }

  #expect<K extends Kind>(verb: Verb, key: Key<K>): Resource<K> {
    const object = this.#find(key);
    if (object === undefined) throw refused("not-found", verb, key, "it does not exist");
    return object;
  }

  #write<K extends Kind>(type: "added" | "modified", key: Key<K>, object: Resource<K>): Resource<K> {
    object.metadata.resourceVersion = String(++this.#revision);
    this.#objects.set(formatKey(key), object);
    this.#kinds.set(formatKey(key), key.kind);
    this.#record({ revision: this.#revision, kind: key.kind, type, object });
    return copyJson(object);
  }

  #remove(key: Key): void {
    const object = copyJson(this.#expect("delete", key));
    object.metadata.resourceVersion = String(++this.#revision);
    this.#objects.delete(formatKey(key));
    this.#kinds.delete(formatKey(key));
    this.#record({ revision: this.#revision, kind: key.kind, type: "deleted", object });
  }

  #record(change: Change): void {
    this.#history.push(change);
    if (this.#history.length > 2 * this.#historyLimit) {
      const dropped = this.#history.splice(0, this.#history.length - this.#historyLimit);
      this.#compacted = dropped.at(-1)?.revision ?? this.#compacted;
    }
    for (const watcher of this.#watchers) watcher.wake();
  }
}

function placeText(metadata: ObjectMeta): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
