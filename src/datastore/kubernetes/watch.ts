/**
 * Watch: one watch request to the API server as batches of events.
 *
 * The server is asked to end it after 5 to 10 minutes. It sends a bookmark about every minute; a connection on which nothing at all
 * came for longer is taken for lost, because a dead peer closes nothing.
 */
import type { Clock } from "../../host/clock.ts";
import type { Random } from "../../host/random.ts";
import type { Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import type { WatchEvent } from "../store.ts";
import { StoreError } from "../store.ts";
import { type Deadline, startDeadline } from "./deadline.ts";
import { resourceOf } from "./decode.ts";
import { LineSplitter } from "./lines.ts";
import { collectionPath, queryText } from "./paths.ts";
import { refusedError, statusFields, unansweredError } from "./refusal.ts";
import type { Transport } from "./transport.ts";

/** Longest silence of a live watch: one and a half times the server's interval of bookmarks. */
export const IDLE_LIMIT_MS = 90_000;

export async function* watchKind<K extends Kind>(
  transport: Transport,
  doors: { readonly clock: Clock; readonly random: Random },
  kind: K,
  revision: string,
  signal: AbortSignal,
): AsyncGenerator<readonly WatchEvent<K>[]> {
  if (signal.aborted) return;
  const timeoutSeconds = String(300 + Math.floor(doors.random.fraction() * 300));
  const query = queryText({ watch: "1", resourceVersion: revision, allowWatchBookmarks: "true", timeoutSeconds });
  const deadline = startDeadline(doors.clock, IDLE_LIMIT_MS, signal);
  try {
    const path = collectionPath(kind, undefined) + query;
    const response = await transport.open({ operation: "watch", kind, key: undefined, method: "GET", path }, deadline.signal);
    yield [];
    if (response.body !== null) yield* eventsOf(kind, response.body, deadline);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof StoreError) throw error;
    if (deadline.expired()) throw unansweredError("watch", kind, undefined, `nothing came for ${IDLE_LIMIT_MS} ms`);
    throw unansweredError("watch", kind, undefined, `the connection was lost: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    deadline.clear();
  }
}

async function* eventsOf<K extends Kind>(kind: K, body: ReadableStream<Uint8Array>, deadline: Deadline): AsyncGenerator<readonly WatchEvent<K>[]> {
  const splitter = new LineSplitter();
  const reader = body.getReader();
  try {
    for (;;) {
      const { value: chunk } = await reader.read();
      if (chunk === undefined) break;
      deadline.renew();
      const batch: WatchEvent<K>[] = [];
      for (const document of splitter.push(chunk)) {
        const event = eventOf(kind, document);
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
    // Closes the connection of a watch that its consumer left; one that broke cannot be cancelled and needs no cancelling.
    await reader.cancel().catch(() => undefined);
  }
}

function eventOf<K extends Kind>(kind: K, document: unknown): WatchEvent<K> | StoreError {
  const event = document as { type?: unknown; object?: { metadata?: { resourceVersion?: unknown } } } | null;
  if (event?.type === "ERROR") return refusedError("watch", kind, undefined, { code: 500, retryAfterMs: undefined, ...statusFields(event.object) });
  const revision = event?.object?.metadata?.resourceVersion;
  const type = event?.type === "ADDED" ? "added" : event?.type === "MODIFIED" ? "modified" : event?.type === "DELETED" ? "deleted" : undefined;
  if (typeof revision === "string" && event?.type === "BOOKMARK") return { type: "bookmark", revision };
  if (typeof revision !== "string" || type === undefined) return unansweredError("watch", kind, undefined, `the server sent ${JSON.stringify(document).slice(0, 100)}, must be a watch event`);
  return { type, object: resourceOf(kind, event?.object, "watch") as Resource<K>, revision };
}
