/**
 * Syncer: follows a set of kinds in a store (list, then watch) and tells one consumer what it sees, by the contract of `model/update.ts`.
 *
 * Promises: one call of the sink at a time; while it is busy, changes are coalesced by key, so memory is bounded by the number of
 * objects; `in-sync` only after every kind has been listed and is being watched, and all of that was delivered; after a loss it
 * goes on from the last revision seen; when that is gone, it lists again and tells what vanished. Of an object it keeps only the
 * revision; what the consumer keeps of it is made the moment it arrives, a list comes page by page and waits for a busy consumer, so that no more
 * than a few pages of whole objects exist at a time.
 * A single object may be read out of turn: the answer counts only if neither watch nor list said anything of it meanwhile, so nobody
 * hears an older state of it through a read, and what vanished afterwards is told as of any other object.
 * It never gives up: whatever the store refuses is tried again with backoff, and said to `log`.
 */
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { backoffMs } from "../lib/backoff.ts";
import { BugError } from "../lib/bug.ts";
import { formatKey, type Key, keyOfText, type KeyText } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { SyncEvent, Update } from "../model/update.ts";
import { Outbox } from "./outbox.ts";
import { type Store, StoreError } from "./store.ts";

export type SyncStatus = Extract<SyncEvent, { readonly type: "status" }>["status"];

/** `U`: what the consumer keeps of an update. */
export interface SyncerOptions<U extends { readonly value: unknown }> {
  readonly store: Store;
  readonly kinds: readonly Kind[];
  readonly clock: Clock;
  readonly random: Random;
  /** Reduces an update to what the sink is told; `text` is that of its key. It drops no update, and its `value` is undefined for the same ones. */
  readonly reduce: (update: Update, text: KeyText) => U;
  /** Called after each page of a list: what it was parsed from is garbage by then. */
  readonly afterPage?: () => void;
  /** Called one at a time. A rejection is a mistake of the consumer: it ends the syncer and comes out of `done`. */
  readonly sink: (event: SyncEvent<U>) => Promise<void> | void;
  /** Hears of every failure that is being retried. */
  readonly log: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

export interface Syncer {
  /** No call of the sink begins after this resolves. */
  stop(): Promise<void>;
  /** What each kind that cannot be followed at present failed with, in the store's words. */
  readonly troubles: readonly string[];
  /**
   * Reads one object of a kind that is followed; undefined when there is none. On return the sink has had it, or something newer.
   * Rejects with StoreError.
   */
  read<K extends Kind>(key: Key<K>, options?: { readonly signal?: AbortSignal }): Promise<Resource<K> | undefined>;
  /** Resolves after stop; rejects with what the sink threw, or with a mistake of the store. */
  readonly done: Promise<void>;
}

/** Updates that a list may have undelivered before it waits for the consumer. */
const LIST_AHEAD = 1_000;
const RETRY = { baseMs: 200, maxMs: 10_000 } as const;
/** A watch that lived so long was healthy: after it the backoff starts anew. */
const HEALTHY_WATCH_MS = 5_000;

export function startSyncer<U extends { readonly value: unknown }>(options: SyncerOptions<U>): Syncer {
  return new Run(options);
}

/** `listing` until the first list is done, and again after `gone`. `failing`: the last attempt was refused or unanswered, for the reason in `trouble`. */
interface Follower {
  readonly kind: Kind;
  listing: boolean;
  failing: boolean;
  trouble: string | undefined;
  failures: number;
  /** Where to go on watching; undefined: list first. */
  revision: string | undefined;
  /** Object key to its newest revision seen: `compactRevision` of it. */
  readonly known: Map<KeyText, number | string>;
  /** Under way. */
  readonly reads: Set<Read>;
}

/** A read of one object out of turn. `overtaken`: watch or list said something of the object since it began. */
interface Read {
  readonly text: KeyText;
  overtaken: boolean;
}

class Run<U extends { readonly value: unknown }> implements Syncer {
  readonly #options: SyncerOptions<U>;
  readonly #abort = new AbortController();
  readonly #outbox = new Outbox<U>();
  readonly #followers: readonly Follower[];
  readonly done: Promise<void>;
  #delivered: SyncStatus | undefined;
  /** Called when the sink has had everything that was in the outbox when they came, or when the syncer ends. */
  #waiting: (() => void)[] = [];
  #wakePump: () => void = () => {};

  constructor(options: SyncerOptions<U>) {
    this.#options = options;
    this.#followers = options.kinds.map((kind) => ({
      kind,
      listing: true,
      failing: true,
      trouble: undefined,
      failures: 0,
      revision: undefined,
      known: new Map(),
      reads: new Set<Read>(),
    }));
    const tasks = [this.#pump(), ...this.#followers.map((follower) => this.#follow(follower))];
    // The first task that fails ends the others; all have ended when `done` settles.
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

  get troubles(): readonly string[] {
    return this.#followers.flatMap(({ trouble }) => trouble ?? []);
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
      if (object !== undefined && !read.overtaken) this.#tell(follower, object, true);
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

  get #status(): SyncStatus {
    if (this.#followers.some((follower) => follower.failing)) return "connecting";
    return this.#followers.some((follower) => follower.listing) ? "resyncing" : "in-sync";
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
      // Status and updates are read at one moment: what the status promises is in this batch or in an earlier one.
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
    while (!signal.aborted) {
      const error = await this.#attempt(follower);
      if (signal.aborted) return;
      follower.failures++;
      let waitMs = backoffMs(RETRY, follower.failures, random.fraction());
      if (error !== undefined) {
        waitMs = Math.max(waitMs, error.retryAfterMs ?? 0);
        log(error.message, {
          kind: follower.kind,
          reason: error.reason,
          failures: follower.failures,
          retryInMs: Math.round(waitMs),
        });
      }
      await clock.sleep(waitMs, signal);
    }
  }

  /** Lists if need be, then watches to the end of the watch. Answers why it failed, or undefined when the server just ended it. */
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
      follower.trouble = error.message;
      this.#wakePump();
      return error;
    }
  }

  async #list(follower: Follower): Promise<string> {
    const { store } = this.#options;
    const present = new Set<KeyText>();
    let revision = "";
    for await (const page of store.pages(follower.kind, { signal: this.#abort.signal })) {
      if (page.isFirst) present.clear();
      revision = page.revision;
      for (const item of page.items) {
        const text = this.#tell(follower, item, true);
        present.add(text);
        this.#overtake(follower, text);
      }
      if (this.#outbox.size >= LIST_AHEAD) await this.#drained();
      this.#options.afterPage?.();
    }
    for (const read of follower.reads) if (!present.has(read.text)) read.overtaken = true;
    for (const text of follower.known.keys()) {
      if (present.has(text)) continue;
      follower.known.delete(text);
      this.#put(text, keyOfText(follower.kind, text), undefined, this.#origin(revision, undefined));
    }
    follower.listing = false;
    this.#wakePump();
    return revision;
  }

  async #watch(follower: Follower, from: string): Promise<void> {
    const { clock, store } = this.#options;
    let establishedMs: number | undefined;
    try {
      for await (const batch of store.watch(follower.kind, from, { signal: this.#abort.signal })) {
        establishedMs ??= clock.monotonicMs();
        for (const event of batch) {
          if (event.type !== "bookmark")
            this.#overtake(follower, this.#tell(follower, event.object, event.type !== "deleted"));
          follower.revision = event.revision;
        }
        this.#healthy(follower);
      }
    } finally {
      if (establishedMs !== undefined && clock.monotonicMs() - establishedMs >= HEALTHY_WATCH_MS) follower.failures = 0;
    }
  }

  #healthy(follower: Follower): void {
    follower.failing = false;
    follower.trouble = undefined;
    this.#wakePump();
  }

  #overtake(follower: Follower, text: KeyText): void {
    for (const read of follower.reads) if (read.text === text) read.overtaken = true;
  }

  /** The key of the object. */
  #tell(follower: Follower, object: Resource, exists: boolean): KeyText {
    const key = keyOf(follower.kind, object);
    const text = formatKey(key);
    const revision = object.metadata.resourceVersion ?? "";
    const compact = compactRevision(revision);
    if (exists && follower.known.get(text) === compact) return text;
    if (exists) follower.known.set(text, compact);
    else follower.known.delete(text);
    this.#put(text, key, exists ? object : undefined, this.#origin(revision, object.metadata.generation));
    return text;
  }

  /** Key and value come from the same follower, so their kinds agree; the compiler cannot see that over a union. */
  #put(text: KeyText, key: Key, value: Resource | undefined, origin: Update["origin"]): void {
    const update = { kind: key.kind, key, value, origin } as Update;
    this.#outbox.put(text, this.#options.reduce(update, text));
    this.#wakePump();
  }

  #origin(revision: string, generation: number | undefined): Update["origin"] {
    return { revision, generation, seenAt: this.#options.clock.monotonicMs() };
  }
}

/** The revision itself where it is a number, as they are in practice: a hundred thousand of them need no text. Equal ones stay equal, different ones different. */
function compactRevision(revision: string): number | string {
  const number = Number(revision);
  return Number.isSafeInteger(number) && String(number) === revision ? number : revision;
}
