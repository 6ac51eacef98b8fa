/**
 * Syncer: follows a set of kinds in a store (list, then watch) and delivers updates to one consumer, by the contract of `model/update.ts`.
 *
 * Promises: one call of the sink at a time; while it is busy, changes are coalesced by key, so memory is bounded by the number of
 * objects; `in-sync` only after every kind has been listed and is being watched, and all of that was delivered; after a lost watch it
 * resumes from the last revision seen; when that is gone, it lists again and delivers deletions of what vanished. It keeps only the
 * revision of each object: an object is reduced to what the consumer keeps the moment it arrives, and a list comes page by page and
 * waits for a busy consumer, so that no more than a few pages of whole objects exist at a time.
 * A single object may be read out of turn: the answer is delivered only if neither watch nor list saw the object meanwhile, so a read
 * never delivers an older state, and a later deletion is delivered as for any other object.
 * It never stops trying: whatever the store refuses is retried with backoff and reported. A kind that decides nothing that is enforced holds nobody up
 * for longer than some attempts: the others are in sync without it.
 */
import { Breath } from "../host/breath.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { backoffMs } from "../lib/backoff.ts";
import { BugError } from "../lib/bug.ts";
import type { Report } from "../lib/report.ts";
import { formatKey, type Key, keyOfText, type KeyText } from "../model/key.ts";
import { type Kind, KINDS } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { revisionOf } from "../model/revision.ts";
import type { SyncEvent, Update } from "../model/update.ts";
import { type Follower, newFollower, noteListed, noteState, overtake, type Read } from "./follower.ts";
import { Outbox } from "./outbox.ts";
import type { Reduced, ReducedLists } from "./reduced-lists.ts";
import { isDenied, isUnserved, type Store, StoreError } from "./store.ts";

export type SyncStatus = Extract<SyncEvent, { readonly type: "status" }>["status"];

/** `U`: what the consumer keeps of an update. */
export interface SyncerOptions<U extends { readonly value: unknown }> {
  readonly store: Store;
  readonly kinds: readonly Kind[];
  readonly clock: Clock;
  readonly random: Random;
  /** Reduces an update to what is delivered; `text` is its key. The result's `value` is undefined exactly when the update's is. */
  readonly reduce: (update: Update, text: KeyText) => U;
  /** Who reads and reduces lists of more than a page in its place; absent: nobody. */
  readonly lists?: ReducedLists<U> | undefined;
  /** Called one at a time. A rejection is a bug of the consumer: it ends the syncer and rejects `done`. */
  readonly sink: (event: SyncEvent<U>) => Promise<void> | void;
  /** Called for every failure that will be retried; of a kind that is gone on without, when it is another than before. */
  readonly log: Report;
  /** The ClusterRole of who reads, as `manifests/ROLE.yaml` has it: what is to be changed where a right is missing. */
  readonly role?: string;
  /** Called when a kind is gone on without, and why. */
  readonly onMissing?: (missing: MissingKind) => void;
}

/** A kind that decides nothing that is enforced, and cannot be read at present. */
export interface MissingKind {
  readonly kind: Kind;
  readonly error: string;
}

export interface Syncer {
  /** No call of the sink begins after this resolves. */
  stop(): Promise<void>;
  /** The store's errors for the kinds that cannot be followed at present. */
  readonly errors: readonly string[];
  /** Those of them that are gone on without. */
  readonly missing: readonly MissingKind[];
  /**
   * Reads one object of a kind that is followed; undefined when there is none. On return the sink has received it or a newer state.
   * Rejects with StoreError.
   */
  read<K extends Kind>(key: Key<K>, options?: { readonly signal?: AbortSignal }): Promise<Resource<K> | undefined>;
  /** Resolves after stop; rejects with what the sink threw, or with a bug of the store. */
  readonly done: Promise<void>;
}

/** Undelivered updates at which a list waits for the consumer. */
const LIST_AHEAD = 1_000;
/** Objects of a list reduced at a time. */
const LIST_PART = 8;
const RETRY = { baseMs: 200, maxMs: 10_000 } as const;
/** Failures in a row after which a kind that decides nothing is gone on without. */
const MOST_FAILURES = 3;
/** A watch that lasted this long was healthy and resets the backoff. */
const HEALTHY_WATCH_MS = 5_000;

export function startSyncer<U extends { readonly value: unknown }>(options: SyncerOptions<U>): Syncer {
  return new Run(options);
}

class Run<U extends { readonly value: unknown }> implements Syncer {
  readonly #options: SyncerOptions<U>;
  readonly #abort = new AbortController();
  readonly #outbox = new Outbox<U>();
  readonly #followers: readonly Follower[];
  readonly done: Promise<void>;
  #delivered: SyncStatus | undefined;
  /** Called when the sink has received everything that was in the outbox at the time of waiting, or when the syncer ends. */
  #waiting: (() => void)[] = [];
  #wakePump: () => void = () => {};

  constructor(options: SyncerOptions<U>) {
    this.#options = options;
    this.#followers = options.kinds.map(newFollower);
    const tasks = [this.#pump(), ...this.#followers.map((follower) => this.#follow(follower))];
    // The first task to fail ends the others; all have ended when `done` settles.
    for (const task of tasks) task.catch(() => this.#end());
    this.done = Promise.allSettled(tasks).then((results) => {
      for (const result of results) if (result.status === "rejected") throw result.reason;
    });
  }

  async stop(): Promise<void> {
    this.#end();
    await this.done;
  }

  #end(): void {
    this.#abort.abort();
    this.#wakePump();
  }

  get errors(): readonly string[] {
    return this.#followers.flatMap(({ error }) => error ?? []);
  }

  async read<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    const follower = this.#followers.find(({ kind }) => kind === key.kind);
    if (follower === undefined) throw new BugError(`${key.kind} is not followed`);
    const read: Read = { text: formatKey(key), overtaken: false };
    follower.reads.add(read);
    try {
      const object = await this.#options.store.get(key, options);
      if (object !== undefined && !read.overtaken) {
        if (follower.listing && !follower.known.has(read.text)) follower.unlisted.add(read.text);
        this.#record(follower, object, true, this.#options.clock.monotonicMs());
      }
      await this.#drained();
      return object;
    } finally {
      follower.reads.delete(read);
    }
  }

  async #drained(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      this.#wakePump();
    });
  }

  get missing(): readonly MissingKind[] {
    return this.#followers.flatMap(({ kind, isMissing, error }) =>
      isMissing && error !== undefined ? [{ kind, error }] : [],
    );
  }

  get #status(): SyncStatus {
    const needed = this.#followers.filter(({ isMissing }) => !isMissing);
    if (needed.some(({ failing }) => failing)) return "connecting";
    return needed.some(({ listing }) => listing) ? "resyncing" : "in-sync";
  }

  async #pump(): Promise<void> {
    try {
      await this.#deliver();
    } finally {
      this.#wake(this.#waiting.length);
    }
  }

  #wake(count: number): void {
    for (const wake of this.#waiting.splice(0, count)) wake();
  }

  async #deliver(): Promise<void> {
    const signal = this.#abort.signal;
    while (!signal.aborted) {
      // Status and updates are taken together: what the status promises is in this batch or in an earlier one.
      const status = this.#status;
      const updates = this.#outbox.take();
      const waiting = this.#waiting.length;
      if (updates.length > 0) await this.#options.sink({ type: "updates", updates });
      if (signal.aborted) return;
      if (status !== this.#delivered) {
        this.#delivered = status;
        await this.#options.sink({ type: "status", status });
      }
      if (signal.aborted) return;
      this.#wake(waiting);
      if (this.#waiting.length > 0 || this.#outbox.size > 0 || this.#status !== this.#delivered) continue;
      await new Promise<void>((resolve) => (this.#wakePump = resolve));
    }
  }

  async #follow(follower: Follower): Promise<void> {
    const { clock, random, log } = this.#options;
    const signal = this.#abort.signal;
    let told: string | undefined;
    while (!signal.aborted) {
      const error = await this.#attempt(follower);
      if (signal.aborted) return;
      follower.failures++;
      let waitMs = backoffMs(RETRY, follower.failures, random.fraction());
      if (error !== undefined) {
        waitMs = Math.max(waitMs, error.retryAfterMs ?? 0);
        this.#goOnWithout(follower, error);
        const { kind, failures } = follower;
        if (!follower.isMissing || told !== follower.error)
          log(follower.error ?? error.message, {
            kind,
            reason: error.reason,
            failures,
            retryInMs: Math.round(waitMs),
          });
        told = follower.isMissing ? follower.error : undefined;
      }
      await clock.sleep(waitMs, signal);
    }
  }

  /** If nothing depends on the kind, and the server keeps refusing it. Trouble with the server itself is every kind's, and passes. */
  #goOnWithout(follower: Follower, cause: StoreError): void {
    const { kind, failing, failures, error, isMissing } = follower;
    if (KINDS[kind].decidesNothing !== true || !failing || error === undefined) return;
    const isRefused = cause.reason === "forbidden" || isUnserved(cause);
    if (!isMissing && (failures < MOST_FAILURES || !isRefused)) return;
    follower.isMissing = true;
    follower.error = `${error}: going on without, as nothing that is enforced depends on it`;
    this.#wakePump();
    if (!isMissing) this.#options.onMissing?.({ kind, error: follower.error });
  }

  /** Lists if necessary, then watches until the watch ends. Returns the error, or undefined when the server just ended the watch. */
  async #attempt(follower: Follower): Promise<StoreError | undefined> {
    try {
      if (follower.revision === undefined) follower.revision = await this.#list(follower);
      await this.#watch(follower, follower.revision);
      return undefined;
    } catch (error) {
      if (this.#abort.signal.aborted) return undefined;
      if (!(error instanceof StoreError)) throw error;
      if (error.reason === "gone") {
        follower.revision = undefined;
        follower.listing = true;
      } else follower.failing = true;
      follower.error = this.#explain(follower, error);
      this.#wakePump();
      return error;
    }
  }

  /** The store's error, and which right is missing. */
  #explain({ kind, revision }: Follower, error: StoreError): string {
    const { role } = this.#options;
    if (role === undefined || !isDenied(error)) return error.message;
    const verb = revision === undefined ? "list" : "watch";
    return `${error.message}; ClusterRole ${JSON.stringify(role)} must grant ${verb} of ${KINDS[kind].plural} (manifests/${role}.yaml)`;
  }

  async #list(follower: Follower): Promise<string> {
    const { store, lists } = this.#options;
    const { kind } = follower;
    const take = this.#takingPages(follower);
    const here = new AbortController();
    const signal = AbortSignal.any([this.#abort.signal, here.signal]);
    let revision = "";
    for await (const page of store.pages(kind, { signal })) {
      const elsewhere = page.isLast ? undefined : lists?.pages(kind, this.#abort.signal);
      if (elsewhere === undefined) {
        revision = page.revision;
        await take(page, (item, seenAt) => this.#record(follower, item, true, seenAt));
        continue;
      }
      here.abort();
      for await (const reduced of elsewhere) {
        revision = reduced.revision;
        await take(reduced, (item) => this.#recordReduced(follower, item));
      }
      break;
    }
    this.#endList(follower, revision);
    return revision;
  }

  /** Takes in one page of a list after the other. */
  #takingPages(
    follower: Follower,
  ): <T>(
    page: { readonly isFirst: boolean; readonly items: Iterable<T> },
    record: (item: T, seenAt: number) => KeyText,
  ) => Promise<void> {
    const { clock } = this.#options;
    const breath = new Breath(clock);
    return async ({ isFirst, items }, record) => {
      if (isFirst) follower.unlisted = new Set(follower.known.keys());
      let seenAt = clock.monotonicMs();
      let count = 0;
      for (const item of items) {
        if (count++ % LIST_PART === 0) {
          if (breath.isDue(LIST_PART)) await breath.taken();
          seenAt = clock.monotonicMs();
        }
        noteListed(follower, record(item, seenAt));
      }
      if (this.#outbox.size >= LIST_AHEAD) await this.#drained();
    };
  }

  /** What the list has not shown is gone. */
  #endList(follower: Follower, revision: string): void {
    const { clock } = this.#options;
    const { known, unlisted } = follower;
    for (const read of follower.reads) if (!known.has(read.text) || unlisted.has(read.text)) read.overtaken = true;
    for (const text of unlisted) {
      known.delete(text);
      const origin = { revision: revisionOf(revision), generation: undefined, seenAt: clock.monotonicMs() };
      this.#put(text, keyOfText(follower.kind, text), undefined, origin, true);
    }
    follower.unlisted = new Set();
    follower.listing = false;
    this.#wakePump();
  }

  async #watch(follower: Follower, from: string): Promise<void> {
    const { clock, store } = this.#options;
    let establishedMs: number | undefined;
    try {
      for await (const batch of store.watch(follower.kind, from, { signal: this.#abort.signal })) {
        establishedMs ??= clock.monotonicMs();
        for (const event of batch) {
          if (event.type !== "bookmark")
            overtake(follower, this.#record(follower, event.object, event.type !== "deleted", clock.monotonicMs()));
          follower.revision = event.revision;
        }
        this.#markHealthy(follower);
      }
    } finally {
      if (establishedMs !== undefined && clock.monotonicMs() - establishedMs >= HEALTHY_WATCH_MS) follower.failures = 0;
    }
  }

  #markHealthy(follower: Follower): void {
    follower.failing = false;
    follower.isMissing = false;
    follower.error = undefined;
    this.#wakePump();
  }

  /** Puts a state of an object that is new into the outbox. Returns the object's key. */
  #record(follower: Follower, object: Resource, exists: boolean, seenAt: number): KeyText {
    const key = keyOf(follower.kind, object);
    const text = formatKey(key);
    const revision = revisionOf(object.metadata.resourceVersion ?? "");
    const existed = noteState(follower, text, revision, exists);
    if (existed === undefined) return text;
    const origin = { revision, generation: object.metadata.generation, seenAt };
    this.#put(text, key, exists ? object : undefined, origin, existed);
    return text;
  }

  /** The same of an object that was reduced elsewhere. */
  #recordReduced(follower: Follower, update: U & Reduced): KeyText {
    const { id, origin } = update;
    const existed = noteState(follower, id, origin.revision, true);
    if (existed === undefined) return id;
    this.#outbox.put(id, update, existed);
    this.#wakePump();
    return id;
  }

  /** The cast holds because key and value come from the same follower, so their kinds agree. */
  #put(text: KeyText, key: Key, value: Resource | undefined, origin: Update["origin"], existed: boolean): void {
    const update = { kind: key.kind, key, value, origin } as Update;
    this.#outbox.put(text, this.#options.reduce(update, text), existed);
    this.#wakePump();
  }
}
