/**
 * Watch: changes as a stream of JSON lines, from a revision on, filtered and shaped for one client.
 *
 * A change is encoded once for all clients that want the same form. A client that reads too slowly is cut off and resumes where it was.
 */
import type { JsonObject } from "../../../src/model/schema/json.ts";
import { expired, statusOf } from "../errors.ts";
import type { Format } from "../http/negotiate.ts";
import { goLine } from "../http/respond.ts";
import { type ApiObject } from "../object.ts";
import { apiVersionOf, type ResourceType, type ServedVersion } from "../resource-type.ts";
import { type IncludedObject, metadataOnly, tableOf } from "../table/table.ts";
import type { Context } from "./context.ts";
import type { Predicate } from "./selectors.ts";
import type { Change, Stored } from "./storage.ts";

export interface WatchRequest {
  readonly type: ResourceType;
  readonly version: ServedVersion;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly matches: Predicate | undefined;
  readonly format: Format;
  readonly include: IncludedObject;
  /** Changes after this revision; undefined and 0: what exists now comes first. */
  readonly from: number | undefined;
  readonly bookmarks: boolean;
  /** A bookmark marks the end of the objects that exist at the start. */
  readonly markInitialEnd: boolean;
  readonly timeoutMs: number;
}

type EventType = Change["type"];

const encoder = new TextEncoder();
const BOOKMARK_INTERVAL_MS = 60_000;
/** Bookmark before the end of a watch, so that the client resumes from close by. */
const FINAL_BOOKMARK_MS = 1200;
/** Bytes a client may lag behind. */
const MAX_LAG_BYTES = 16 * 1024 * 1024;

export function watchObjects(context: Context, request: WatchRequest): ReadableStream<Uint8Array> {
  let watcher: Watcher | undefined;
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => {
        watcher = new Watcher(context, request, controller);
        watcher.start();
      },
      cancel: () => watcher?.stop(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }),
  );
}

class Watcher {
  readonly #context: Context;
  readonly #request: WatchRequest;
  readonly #controller: ReadableStreamDefaultController<Uint8Array>;
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  #unsubscribe: () => void = () => {};
  #sentColumns = false;
  #ended = false;

  constructor(context: Context, request: WatchRequest, controller: ReadableStreamDefaultController<Uint8Array>) {
    this.#context = context;
    this.#request = request;
    this.#controller = controller;
  }

  start(): void {
    const { storage } = this.#context;
    const { from, resource, timeoutMs, bookmarks } = this.#request;
    if (from !== undefined && from !== 0 && from < storage.oldestRevision) {
      this.#send(
        this.#line("ERROR", statusOf(expired(`too old resource version: ${from} (${storage.oldestRevision})`))),
      );
      this.#end();
      return;
    }
    const start = storage.revision;
    if (from === undefined || from === 0) this.#sendPresent();
    else for (const change of storage.changesAfter(resource, from)) this.#observe(change);
    const after = Math.max(from ?? 0, start);
    this.#unsubscribe = storage.subscribe((change) => {
      if (change.resource === resource && change.revision > after) this.#observe(change);
    });
    this.#timers.push(setTimeout(() => this.#end(), timeoutMs));
    if (!bookmarks) return;
    if (timeoutMs > FINAL_BOOKMARK_MS)
      this.#timers.push(setTimeout(() => this.#sendBookmark(), timeoutMs - FINAL_BOOKMARK_MS));
    this.#timers.push(setInterval(() => this.#sendBookmark(), BOOKMARK_INTERVAL_MS));
  }

  stop(): void {
    this.#ended = true;
    this.#unsubscribe();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #end(): void {
    if (this.#ended) return;
    this.stop();
    this.#controller.close();
  }

  #send(bytes: Uint8Array): void {
    if (this.#ended) return;
    this.#controller.enqueue(bytes);
    if ((this.#controller.desiredSize ?? 0) < -MAX_LAG_BYTES) this.#end();
  }

  #sendPresent(): void {
    const { storage } = this.#context;
    const { resource, namespace, matches } = this.#request;
    for (const stored of storage.list(resource, namespace)) {
      if (matches === undefined || matches(stored.object)) this.#sendEvent("ADDED", stored, undefined);
    }
    if (this.#request.markInitialEnd) this.#sendBookmark({ "k8s.io/initial-events-end": "true" });
  }

  #sendBookmark(annotations?: { [name: string]: string }): void {
    const { type, version, format } = this.#request;
    const metadata: JsonObject = {
      resourceVersion: String(this.#context.storage.revision),
      ...(annotations === undefined ? {} : { annotations }),
    };
    const bookmark: JsonObject = { kind: type.kind, apiVersion: apiVersionOf(type.group, version.name), metadata };
    if (format.as !== "table") this.#send(this.#line("BOOKMARK", bookmark));
    else
      this.#send(
        this.#line("BOOKMARK", {
          ...tableOf(version, [], metadata, this.#tableRequest(), !this.#sentColumns),
          rows: [{ cells: [], object: bookmark }],
        }),
      );
  }

  /** A change, as it looks through the selection: entering it is an ADDED, leaving it a DELETED. */
  #observe(change: Change): void {
    const { namespace, matches } = this.#request;
    if (namespace !== undefined && change.namespace !== namespace) return;
    if (matches === undefined) {
      this.#sendEvent(change.type, change.state, change);
      return;
    }
    const before = change.previous !== undefined && matches(change.previous.object);
    if (change.type === "DELETED") {
      if (before) this.#sendEvent("DELETED", change.state, change);
      return;
    }
    const now = matches(change.state.object);
    if (now) this.#sendEvent(before ? "MODIFIED" : "ADDED", change.state, change);
    else if (before && change.previous !== undefined) this.#sendDeparture(change.previous.object, change.revision);
  }

  #sendDeparture(last: ApiObject, revision: number): void {
    const object = { ...last, metadata: { ...last.metadata, resourceVersion: String(revision) } };
    this.#send(this.#line("DELETED", this.#shape(object)));
  }

  #sendEvent(event: EventType, stored: Stored, change: Change | undefined): void {
    const { format, type, version } = this.#request;
    if (format.as === "table" || change === undefined) {
      this.#send(
        format.as === "object" && version.name === type.storageVersion
          ? encodeLine(event, stored.json)
          : this.#line(event, this.#shape(stored.object)),
      );
      return;
    }
    const key = `${event} ${format.as} ${format.version} ${version.name}`;
    let bytes = change.encoded.get(key);
    if (bytes === undefined) {
      bytes =
        format.as === "object" && version.name === type.storageVersion
          ? encodeLine(event, stored.json)
          : this.#line(event, this.#shape(stored.object));
      change.encoded.set(key, bytes);
    }
    this.#send(bytes);
  }

  #shape(object: ApiObject): JsonObject {
    const { type, version, format } = this.#request;
    const visible = { ...object, apiVersion: apiVersionOf(type.group, version.name) };
    if (format.as === "object") return visible;
    if (format.as === "metadata") return metadataOnly(visible, format.version);
    const table = tableOf(
      version,
      [visible],
      { resourceVersion: object.metadata.resourceVersion ?? "" },
      this.#tableRequest(),
      !this.#sentColumns,
    );
    this.#sentColumns = true;
    return table;
  }

  #tableRequest(): { readonly version: string; readonly include: IncludedObject; readonly nowMs: number } {
    return { version: this.#request.format.version, include: this.#request.include, nowMs: this.#context.nowMs() };
  }

  #line(event: string, object: JsonObject): Uint8Array {
    return encodeLine(event, JSON.stringify(object));
  }
}

function encodeLine(event: string, json: string): Uint8Array {
  return encoder.encode(goLine(`{"type":${JSON.stringify(event)},"object":${json}}`));
}
