/**
 * Watch: the changes of one kind's keys as batches of events.
 *
 * Progress notices become bookmarks. A revision that etcd compacted, or has not reached (it was restored from a backup), is gone.
 */
import type { Kind } from "../../model/kind.ts";
import { checkRevision } from "../conditions.ts";
import { type WatchEvent, StoreError } from "../store.ts";
import type { EtcdClient, EtcdWatchStream, Purpose } from "./client.ts";
import { kindPrefix, parseObjectKey, prefixEnd } from "./keys.ts";
import type { WatchResponse } from "./protocol.ts";
import { decodeValue, encodeKey, nameOnly } from "./values.ts";

export async function* watchPrefix<K extends Kind>(
  client: EtcdClient,
  kind: K,
  revision: string,
  signal: AbortSignal,
): AsyncGenerator<readonly WatchEvent<K>[]> {
  if (signal.aborted) return;
  checkRevision(kind, revision);
  const purpose: Purpose = { operation: "watch", kind, key: undefined };
  const prefix = kindPrefix(kind);
  const startRevision = String(BigInt(revision) + 1n);
  const { stream, failed } = client.watch({
    key: encodeKey(prefix),
    rangeEnd: prefixEnd(prefix),
    startRevision,
    progressNotify: true,
    prevKv: true,
    fragment: true,
  });
  const messages = new MessageQueue(stream);
  const cancel = (): void => stream.cancel();
  signal.addEventListener("abort", cancel);
  try {
    let partial: WatchEvent<K>[] = [];
    for (let response = await messages.next(); response !== undefined; response = await messages.next()) {
      refuseIfOver(kind, revision, response);
      partial.push(...eventsOf(kind, response));
      if (response.fragment) continue;
      if (partial.length === 0 && !response.created && response.header !== null)
        partial.push({ type: "bookmark", revision: response.header.revision });
      yield partial;
      partial = [];
    }
  } catch (error) {
    if (signal.aborted) return;
    throw error instanceof StoreError ? error : failed(error, purpose);
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

function eventsOf<K extends Kind>(kind: K, response: WatchResponse): WatchEvent<K>[] {
  return response.events.flatMap(({ type, kv, prevKv }): WatchEvent<K>[] => {
    const key = kv === null ? undefined : parseObjectKey(kind, new TextDecoder().decode(kv.key));
    if (kv === null || key === undefined) return [];
    const revision = kv.modRevision;
    if (type === "PUT") {
      const object = decodeValue(key, kv);
      return object === undefined
        ? []
        : [{ type: kv.createRevision === revision ? "added" : "modified", object, revision }];
    }
    const last = prevKv === null ? undefined : decodeValue(key, { ...prevKv, modRevision: revision });
    return [{ type: "deleted", object: last ?? nameOnly(key, revision), revision }];
  });
}
