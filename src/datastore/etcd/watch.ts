/**
 * Watch: the changes of one kind's keys as batches of events.
 *
 * Progress notices become bookmarks. A revision that etcd compacted, or has not reached (it was restored from a backup), is gone.
 */
import type { Kind } from "../../model/kind.ts";
import { checkRevision } from "../conditions.ts";
import { type WatchEvent, StoreError } from "../store.ts";
import type { EtcdClient, EtcdWatchStream, Purpose } from "./client.ts";
import type { Key } from "../../model/key.ts";
import { parsePath, spanOf, TIERED } from "./keys.ts";
import type { KeyValue, WatchResponse } from "./protocol.ts";
import { encodeKey, type Entry, isUnderOldKey, nameOnly } from "./values.ts";

export interface WatchSource<K extends Kind> {
  readonly decode: (kv: KeyValue) => Entry<K> | undefined;
  /** What is stored now. */
  readonly find: (key: Key<K>) => Promise<Entry<K> | undefined>;
}

export async function* watchPrefix<K extends Kind>(
  client: EtcdClient,
  kind: K,
  revision: string,
  signal: AbortSignal,
  source: WatchSource<K>,
): AsyncGenerator<readonly WatchEvent<K>[]> {
  if (signal.aborted) return;
  checkRevision(kind, revision);
  const purpose: Purpose = { operation: "watch", kind, key: undefined };
  const span = spanOf(kind);
  const startRevision = String(BigInt(revision) + 1n);
  const { stream, failed } = await client.watch({
    key: encodeKey(span.from),
    rangeEnd: span.end,
    startRevision,
    progressNotify: true,
    prevKv: true,
    fragment: true,
  });
  if (signal.aborted) return void stream.cancel();
  const messages = new MessageQueue(stream);
  const cancel = (): void => stream.cancel();
  signal.addEventListener("abort", cancel);
  try {
    let partial: WatchEvent<K>[] = [];
    for (let response = await messages.next(); response !== undefined; response = await messages.next()) {
      refuseIfOver(kind, revision, response);
      partial.push(...(await eventsOf(kind, response, source)));
      if (response.fragment) continue;
      if (partial.length === 0 && !response.created && response.header !== null)
        partial.push({ type: "bookmark", revision: response.header.revision });
      yield partial;
      partial = [];
    }
  } catch (error) {
    if (signal.aborted) return;
    throw failed(error, purpose);
  } finally {
    signal.removeEventListener("abort", cancel);
    stream.cancel();
  }
}

/** Messages that may be queued before the stream is paused. */
const QUEUE_LIMIT = 100;

/** A stream's messages one by one. (The stream's own async iterator destroys it on early exit, which hangs under gRPC.) */
class MessageQueue {
  readonly #stream: EtcdWatchStream;
  readonly #waiting: WatchResponse[] = [];
  #over: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  constructor(stream: EtcdWatchStream) {
    this.#stream = stream;
    stream.on("data", (message: WatchResponse) => {
      this.#waiting.push(message);
      if (this.#waiting.length >= QUEUE_LIMIT) stream.pause();
      this.#wake();
    });
    stream.on("error", (error: unknown) => this.#end(error));
    stream.on("end", () => this.#end(undefined));
  }

  /** The next message; undefined when the server ended the stream. Rejects with the stream's error. */
  async next(): Promise<WatchResponse | undefined> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) return message;
      if (this.#over !== undefined) {
        if (this.#over.error !== undefined) throw this.#over.error;
        return undefined;
      }
      if (this.#stream.isPaused()) this.#stream.resume();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #end(error: unknown): void {
    // A plain end may be followed by the error that explains it; the first error counts.
    if (this.#over === undefined || this.#over.error === undefined) this.#over = { error };
    this.#wake();
  }
}

function refuseIfOver(kind: Kind, revision: string, response: WatchResponse): void {
  const gone = (why: string): StoreError =>
    new StoreError("gone", kind, undefined, `Cannot watch ${kind} from revision ${revision}: ${why}`);
  if (response.compactRevision !== "0") throw gone(`etcd keeps nothing before revision ${response.compactRevision}`);
  if (response.canceled)
    throw new StoreError(
      "unavailable",
      kind,
      undefined,
      `Cannot watch ${kind}: etcd ended the watch: ${response.cancelReason}`,
    );
  if (response.created && response.header !== null && BigInt(response.header.revision) < BigInt(revision)) {
    throw gone(`etcd is at revision ${response.header.revision}, as if restored from a backup`);
  }
}

async function eventsOf<K extends Kind>(
  kind: K,
  response: WatchResponse,
  source: WatchSource<K>,
): Promise<WatchEvent<K>[]> {
  const events: WatchEvent<K>[] = [];
  for (const { type, kv, prevKv } of response.events) {
    const place = kv === null ? undefined : parsePath(kind, new TextDecoder().decode(kv.key));
    if (kv === null || place === undefined) continue;
    const revision = kv.modRevision;
    const last = prevKv === null ? undefined : source.decode({ ...prevKv, modRevision: revision });
    const entry = type === "PUT" ? source.decode(kv) : last;
    const isGone = type !== "PUT";
    if (entry !== undefined && TIERED.has(kind) && (isGone || isUnderOldKey(entry.path, entry.object))) {
      // The same policy may be under another key too: its own one counts, and of two the one that is left.
      const { name, namespace } = entry.object.metadata;
      const now = await source.find({ kind, namespace, name });
      if (now !== undefined && now.path !== entry.path) {
        events.push({ type: "modified", object: now.object, revision });
        continue;
      }
    }
    if (isGone) events.push({ type: "deleted", object: entry?.object ?? nameOnly(place.key, revision), revision });
    else if (entry !== undefined)
      events.push({ type: kv.createRevision === revision ? "added" : "modified", object: entry.object, revision });
  }
  return events;
}
