/**
 * Watch: one watch request to the API server as batches of events.
 *
 * The server is asked to end it after 5 to 10 minutes. A silent watch ends sooner, without an error: its kind may be quiet or its peer
 * dead, and a new watch finds out for the price of one request.
 */
import type { Clock } from "../../host/clock.ts";
import type { Random } from "../../host/random.ts";
import type { Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import type { WatchEvent } from "../store.ts";
import { StoreError } from "../store.ts";
import { type Deadline, startDeadline } from "./deadline.ts";
import type { Codec } from "./codec.ts";
import { LineSplitter } from "./lines.ts";
import { collectionPath, queryText } from "./paths.ts";
import { RepeatedList } from "./repeated-list.ts";
import { refusedError, statusFields, unavailableError } from "./error-status.ts";
import { REQUEST_TIMEOUT_MS, type Transport } from "./transport.ts";

/**
 * Longest silence before a watch is replaced by a new one.
 *
 * kube-apiserver checks every 60 s (within a second or two) whether to send a bookmark, and sends one if the revision of this kind's
 * cache is past the one that the watch began at. The cache advances with each change of the kind, with each consistent list by any
 * client, and with etcd's progress notice every 10 minutes. Without an advance there is no bookmark, so silence is not a failure.
 * Source: k8s.io/apiserver 0.34 pkg/storage/cacher (defaultBookmarkFrequency; cacheWatcher.process). Measured on 1.34.4: the first
 * bookmark came after 60.1 to 60.7 s, for two kinds of seven (pods was one) after 119.7 and 120.3 s; later ones 59.1 to 61.0 s apart.
 * TCP keepalive, which the platform's fetch enables, detects a dead peer; this limit is for one that answers the probes and sends
 * nothing.
 */
export const IDLE_LIMIT_MS = 90_000;

export async function* watchKind<K extends Kind>(
  transport: Transport,
  dependencies: { readonly clock: Clock; readonly random: Random; readonly codec: Codec },
  kind: K,
  revision: string,
  signal: AbortSignal,
): AsyncGenerator<readonly WatchEvent<K>[]> {
  if (signal.aborted) return;
  const timeoutSeconds = String(300 + Math.floor(dependencies.random.fraction() * 300));
  const query = queryText({ watch: "1", resourceVersion: revision, allowWatchBookmarks: "true", timeoutSeconds });
  const deadline = startDeadline(dependencies.clock, REQUEST_TIMEOUT_MS, signal);
  let established = false;
  try {
    const path = collectionPath(kind, undefined, dependencies.codec.place(kind)) + query;
    const response = await transport.open(
      { operation: "watch", kind, key: undefined, method: "GET", path },
      deadline.signal,
    );
    established = true;
    deadline.renew(IDLE_LIMIT_MS);
    yield [];
    if (response.body !== null) yield* eventsOf(kind, response.body, deadline, dependencies.codec);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof StoreError) throw error;
    if (deadline.expired() && established) return;
    if (deadline.expired())
      throw unavailableError("watch", kind, undefined, `no answer within ${REQUEST_TIMEOUT_MS} ms`);
    throw unavailableError(
      "watch",
      kind,
      undefined,
      `the connection was lost: ${error instanceof Error ? error.message : String(error)}`,
    );
  } finally {
    deadline.clear();
  }
}

async function* eventsOf<K extends Kind>(
  kind: K,
  body: ReadableStream<Uint8Array>,
  deadline: Deadline,
  codec: Codec,
): AsyncGenerator<readonly WatchEvent<K>[]> {
  const splitter = splitterOf(kind);
  const reader = body.getReader();
  try {
    for (;;) {
      const { value: chunk } = await reader.read();
      if (chunk === undefined) break;
      deadline.renew(IDLE_LIMIT_MS);
      const batch: WatchEvent<K>[] = [];
      for (const document of splitter.push(chunk)) {
        const event = eventOf(kind, document, codec);
        if (event instanceof StoreError) {
          if (batch.length > 0) yield batch;
          throw event;
        }
        batch.push(event);
      }
      if (batch.length > 0) yield batch;
    }
    if (splitter.unfinished) throw new Error("it ended in the middle of an event");
  } finally {
    // Closes the connection when the consumer stops reading; a broken one cannot be cancelled and does not need to be.
    await reader.cancel().catch(() => undefined);
  }
}

/** A network set of ten thousand nets comes whole when one of them changes. */
function splitterOf(kind: Kind): LineSplitter {
  if (kind !== "NetworkSet" && kind !== "GlobalNetworkSet") return new LineSplitter();
  const nets = new RepeatedList(["object", "spec", "nets"]);
  return new LineSplitter((line) => nets.parse(line));
}

function eventOf<K extends Kind>(kind: K, document: unknown, codec: Codec): WatchEvent<K> | StoreError {
  const event = document as { type?: unknown; object?: { metadata?: { resourceVersion?: unknown } } } | null;
  if (event?.type === "ERROR")
    return refusedError("watch", kind, undefined, {
      code: 500,
      retryAfterMs: undefined,
      ...statusFields(event.object),
    });
  const revision = event?.object?.metadata?.resourceVersion;
  const type =
    event?.type === "ADDED"
      ? "added"
      : event?.type === "MODIFIED"
        ? "modified"
        : event?.type === "DELETED"
          ? "deleted"
          : undefined;
  if (typeof revision === "string" && event?.type === "BOOKMARK") return { type: "bookmark", revision };
  if (typeof revision !== "string" || type === undefined)
    return unavailableError(
      "watch",
      kind,
      undefined,
      `the server sent ${JSON.stringify(document).slice(0, 100)}, must be a watch event`,
    );
  return { type, object: codec.decode(kind, event?.object, "watch") as Resource<K>, revision };
}
