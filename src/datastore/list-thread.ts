/**
 * List thread: reads lists from the Kubernetes API, reduces their objects, and sends what is kept to the thread that needs it: what JSON and its
 * garbage take of a large list nobody waits for. It sends a few pages ahead of whoever takes them.
 */
import type { ThreadOwner } from "../host/threads.ts";
import { BugError } from "../lib/bug.ts";
import { type PagedKind, RowPageWriter } from "../model/convert/row-pages.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import { formatKey } from "../model/key.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { revisionOf } from "../model/revision.ts";
import type { Update } from "../model/update.ts";
import { type FromThread, PAGES_AHEAD, readToThread, writeMessage } from "./list-messages.ts";
import { type KubernetesDependencies, openKubernetesStore } from "./kubernetes/store.ts";
import { type Store, StoreError } from "./store.ts";

/** A list under way. */
interface Running {
  readonly stop: AbortController;
  /** Pages that may be sent. */
  allowed: number;
  wake: () => void;
}

/** Serves whoever started the thread, for as long as it lives. */
export function serveLists(owner: ThreadOwner, dependencies: KubernetesDependencies): void {
  const running = new Map<number, Running>();
  let opened: { readonly store: Store; readonly node: string } | undefined;
  const send = (message: FromThread): void => owner.send(writeMessage(message));
  owner.receive((text) => {
    const message = readToThread(text);
    if (message.type === "open") {
      opened = { store: openKubernetesStore(message.access, dependencies, message.group), node: message.node };
      return;
    }
    const { id } = message;
    const list = running.get(id);
    if (message.type === "list") {
      if (opened === undefined) throw new BugError("a list was asked for before it was said of whom");
      const started: Running = { stop: new AbortController(), allowed: PAGES_AHEAD, wake: () => {} };
      running.set(id, started);
      void sendList(id, message.kind, opened, started, send).finally(() => running.delete(id));
    } else if (list === undefined) return;
    else if (message.type === "stop") list.stop.abort();
    else list.allowed++;
    list?.wake();
  });
}

async function sendList(
  id: number,
  kind: PagedKind,
  { store, node }: { readonly store: Store; readonly node: string },
  list: Running,
  send: (message: FromThread) => void,
): Promise<void> {
  const { signal } = list.stop;
  const reduce = reducing(kind, node);
  const writer = new RowPageWriter();
  let count = 0;
  try {
    for await (const { items, isFirst, revision } of store.pages(kind, { signal })) {
      count = isFirst ? items.length : count + items.length;
      send({ type: "page", id, isFirst, revision, rows: writer.write(kind, items.map(reduce)) });
      list.allowed--;
      while (list.allowed <= 0 && !signal.aborted) await new Promise<void>((resolve) => (list.wake = resolve));
    }
    send({ type: "end", id, count });
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof StoreError)) throw error;
    const { reason, message, retryAfterMs } = error;
    send({ type: "failed", id, error: { reason, kind, message, retryAfterMs } });
  }
}

/** When it was seen, only who takes it knows. */
function reducing(kind: PagedKind, node: string): (object: Resource<PagedKind>) => RowUpdate {
  const reduce = rowsFor(node);
  return (object) => {
    const key = keyOf(kind, object);
    const { resourceVersion = "", generation } = object.metadata;
    const origin = { revision: revisionOf(resourceVersion), generation, seenAt: 0 };
    // The cast holds because the object comes from a list of the kind.
    const update = { kind, key, value: object, origin } as Update;
    return reduce(update, formatKey(key));
  };
}
