/**
 * Thread lists: large lists that a thread of their own reads and reduces (`list-thread.ts`). The thread lives as long as a list is under way. One
 * that breaks is reported, fails its lists, and is the last: from then on lists are read where they are needed.
 */
import type { Clock } from "../host/clock.ts";
import type { Thread, ThreadEvents } from "../host/threads.ts";
import type { Report } from "../lib/report.ts";
import { type PagedKind, RowPageReader, rowsIn } from "../model/convert/row-pages.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import { type FromThread, readFromThread, writeMessage } from "./list-messages.ts";
import type { ApiGroup } from "./kubernetes/codec.ts";
import type { KubernetesAccess } from "./kubernetes/kubeconfig.ts";
import type { ReducedLists, ReducedPage } from "./reduced-lists.ts";
import { StoreError } from "./store.ts";

export interface ThreadListsOptions {
  readonly start: (events: ThreadEvents) => Thread;
  readonly access: KubernetesAccess;
  readonly group: ApiGroup | "detect";
  /** Those that Kubernetes has, and of which there may be many. */
  readonly kinds: readonly PagedKind[];
  /** For whom objects are reduced. */
  readonly node: string;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly report: Report;
}

/** A list under way: what came and was not taken yet. */
interface Listing {
  readonly kind: PagedKind;
  readonly received: FromThread[];
  wake: () => void;
}

export class ThreadLists implements ReducedLists<RowUpdate> {
  readonly #options: ThreadListsOptions;
  readonly #listings = new Map<number, Listing>();
  #thread: Thread | undefined;
  #hasBroken = false;
  #lastId = 0;

  constructor(options: ThreadListsOptions) {
    this.#options = options;
  }

  pages(kind: Kind, signal: AbortSignal): AsyncIterable<ReducedPage<RowUpdate>> | undefined {
    const own = this.#options.kinds.find((each) => each === kind);
    return own === undefined || this.#hasBroken ? undefined : this.#pages(own, signal);
  }

  async *#pages(kind: PagedKind, signal: AbortSignal): AsyncGenerator<ReducedPage<RowUpdate>> {
    signal.throwIfAborted();
    const id = ++this.#lastId;
    const listing: Listing = { kind, received: [], wake: () => {} };
    const thread = (this.#thread ??= this.#start());
    this.#listings.set(id, listing);
    const wake = (): void => listing.wake();
    signal.addEventListener("abort", wake);
    try {
      thread.send(writeMessage({ type: "list", id, kind }));
      yield* this.#taken(id, listing, thread, signal);
    } finally {
      signal.removeEventListener("abort", wake);
      this.#listings.delete(id);
      thread.send(writeMessage({ type: "stop", id }));
      if (this.#listings.size === 0) this.#end();
    }
  }

  async *#taken(
    id: number,
    listing: Listing,
    thread: Thread,
    signal: AbortSignal,
  ): AsyncGenerator<ReducedPage<RowUpdate>> {
    const { kind } = listing;
    const reader = new RowPageReader();
    let count = 0;
    for (;;) {
      const message = listing.received.shift();
      if (message === undefined) {
        if (this.#thread !== thread) throw broken(kind, "the thread that read it has ended");
        await new Promise<void>((resolve) => (listing.wake = resolve));
        signal.throwIfAborted();
      } else if (message.type === "failed") {
        const { reason, message: text, retryAfterMs } = message.error;
        throw new StoreError(reason, kind, undefined, text, retryAfterMs);
      } else if (message.type === "end") {
        if (message.count === count) return;
        throw broken(kind, `${count} objects came of ${message.count}`);
      } else {
        const items = reader.read(message.rows, this.#options.clock.monotonicMs());
        count = message.isFirst ? rowsIn(message.rows) : count + rowsIn(message.rows);
        yield { items, isFirst: message.isFirst, revision: message.revision };
        thread.send(writeMessage({ type: "more", id }));
      }
    }
  }

  #start(): Thread {
    const { start, access, group, node, report } = this.#options;
    const thread = start({
      received: (text) => {
        const message = readFromThread(text);
        const listing = this.#listings.get(message.id);
        listing?.received.push(message);
        listing?.wake();
      },
      ended: (cause) => {
        this.#hasBroken = true;
        this.#thread = undefined;
        report("the thread that reads lists has ended: from now on the daemon reads them itself", { error: cause });
        for (const { wake } of this.#listings.values()) wake();
      },
    });
    thread.send(writeMessage({ type: "open", access, group, node }));
    return thread;
  }

  #end(): void {
    this.#thread?.close();
    this.#thread = undefined;
  }
}

/** As trouble with the store: the list is tried again. */
function broken(kind: PagedKind, cause: string): StoreError {
  return new StoreError("unavailable", kind, undefined, `Cannot list ${kind}: ${cause}`);
}
