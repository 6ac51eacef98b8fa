/**
 * Storage: every object, and the recent changes, in one SQLite file with a memory image beside it.
 *
 * One counter numbers all changes (`resourceVersion`); it survives restarts. A commit is one transaction; it is durable against the
 * death of the process (WAL, synchronous = OFF). Reads never touch the disk. All calls are synchronous, so that a request that reads
 * and then writes sees no other request in between.
 */
import { Database, type Statement } from "bun:sqlite";
import { invariant } from "../../../src/lib/bug.ts";
import type { ApiObject } from "../object.ts";

/** One state of one object. `json` is its serialised form; `object` must not be changed. */
export class Stored {
  readonly revision: number;
  readonly json: string;
  #object: ApiObject | undefined;
  constructor(revision: number, json: string, object?: ApiObject) {
    this.revision = revision;
    this.json = json;
    this.#object = object;
  }
  get object(): ApiObject {
    this.#object ??= JSON.parse(this.json) as ApiObject;
    return this.#object;
  }
  /** Lets go of the parsed form; it is read again from the text when needed. */
  release(): void {
    this.#object = undefined;
  }
}

export interface Change {
  readonly revision: number;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  /** The new state; for DELETED the last state with the deletion's resourceVersion. */
  readonly state: Stored;
  readonly previous: Stored | undefined;
  /** Encodings of this change, shared by all watchers, by format. */
  readonly encoded: Map<string, Uint8Array>;
}

export interface StorageLimits {
  /** Changes kept for watches that resume. */
  readonly changes: number;
  /** Bytes of JSON kept with them. */
  readonly changeBytes: number;
}

const DEFAULT_LIMITS: StorageLimits = { changes: 8192, changeBytes: 24 * 1024 * 1024 };

interface ChangeRow {
  revision: number;
  resource: string;
  namespace: string;
  name: string;
  type: string;
  json: string;
  previous: string | null;
  previousRevision: number | null;
}
interface ObjectRow {
  resource: string;
  namespace: string;
  name: string;
  revision: number;
  json: string;
}

export class Storage {
  readonly #database: Database;
  readonly #limits: StorageLimits;
  readonly #resources = new Map<string, Map<string, Stored>>();
  readonly #sorted = new Map<string, readonly string[]>();
  readonly #changes: Change[] = [];
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #put: Statement;
  readonly #remove: Statement;
  readonly #log: Statement;
  readonly #commit: (write: () => void) => void;
  #changeBytes = 0;
  #revision = 1;
  /** Watches and exact lists must start at this revision or later. */
  #oldest = 1;

  constructor(path: string, limits: StorageLimits = DEFAULT_LIMITS) {
    this.#limits = limits;
    this.#database = new Database(path, { create: true, strict: true });
    this.#database.run("PRAGMA journal_mode = WAL");
    this.#database.run("PRAGMA synchronous = OFF");
    this.#database.run(
      "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, revision INTEGER, json TEXT, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID",
    );
    this.#database.run(
      "CREATE TABLE IF NOT EXISTS changes (revision INTEGER PRIMARY KEY, resource TEXT, namespace TEXT, name TEXT, type TEXT, json TEXT, previous TEXT, previousRevision INTEGER)",
    );
    this.#database.run("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID");
    this.#put = this.#database.prepare("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)");
    this.#remove = this.#database.prepare("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?");
    this.#log = this.#database.prepare("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    this.#commit = this.#database.transaction((write: () => void) => write());
    this.#load();
  }

  #load(): void {
    for (const row of this.#database
      .query<ObjectRow, []>("SELECT resource, namespace, name, revision, json FROM objects")
      .iterate()) {
      this.#resource(row.resource).set(`${row.namespace}/${row.name}`, new Stored(row.revision, row.json));
      this.#revision = Math.max(this.#revision, row.revision);
    }
    for (const row of this.#database.query<ChangeRow, []>("SELECT * FROM changes ORDER BY revision").iterate()) {
      const previous = row.previous === null ? undefined : new Stored(row.previousRevision ?? 0, row.previous);
      const type = row.type === "ADDED" || row.type === "MODIFIED" ? row.type : "DELETED";
      const namespace = row.namespace === "" ? undefined : row.namespace;
      this.#remember({
        revision: row.revision,
        resource: row.resource,
        namespace,
        name: row.name,
        type,
        state: new Stored(row.revision, row.json),
        previous,
        encoded: new Map(),
      });
      this.#revision = Math.max(this.#revision, row.revision);
    }
    const oldest = this.#database.query<{ value: number }, []>("SELECT value FROM meta WHERE key = 'oldest'").get();
    if (oldest !== null) this.#oldest = oldest.value;
  }

  #resource(resource: string): Map<string, Stored> {
    let objects = this.#resources.get(resource);
    if (objects === undefined) this.#resources.set(resource, (objects = new Map()));
    return objects;
  }

  #remember(change: Change): void {
    this.#changes.push(change);
    this.#changeBytes += sizeOf(change);
  }

  /** The number of the newest change. */
  get revision(): number {
    return this.#revision;
  }

  /** The oldest revision from which a watch can resume without loss. */
  get oldestRevision(): number {
    return this.#oldest;
  }

  get(resource: string, namespace: string | undefined, name: string): Stored | undefined {
    return this.#resources.get(resource)?.get(`${namespace ?? ""}/${name}`);
  }

  /** Keys `namespace/name` (`/name` without namespace) of the resource, sorted. */
  keys(resource: string): readonly string[] {
    let sorted = this.#sorted.get(resource);
    if (sorted === undefined)
      this.#sorted.set(resource, (sorted = [...(this.#resources.get(resource)?.keys() ?? [])].sort()));
    return sorted;
  }

  /** The state under a key of `keys`. */
  at(resource: string, key: string): Stored | undefined {
    return this.#resources.get(resource)?.get(key);
  }

  /** All objects of the resource, in a namespace or everywhere, by namespace and name. */
  list(resource: string, namespace?: string): Stored[] {
    const found: Stored[] = [];
    for (const key of this.keys(resource)) {
      if (namespace !== undefined && !key.startsWith(`${namespace}/`)) continue;
      const stored = this.at(resource, key);
      if (stored !== undefined) found.push(stored);
    }
    return found;
  }

  resources(): readonly string[] {
    return [...this.#resources.keys()];
  }

  /** Stores the object's new state under the next revision, which is written into its metadata. The object belongs to the storage afterwards. */
  write(resource: string, object: ApiObject): Stored {
    const { namespace, name } = object.metadata;
    const previous = this.get(resource, namespace, name);
    const revision = this.#revision + 1;
    object.metadata.resourceVersion = String(revision);
    const stored = new Stored(revision, textOf(object), object);
    const change: Change = {
      revision,
      resource,
      namespace,
      name,
      type: previous === undefined ? "ADDED" : "MODIFIED",
      state: stored,
      previous,
      encoded: new Map(),
    };
    this.#commit(() => {
      this.#put.run(resource, namespace ?? "", name, revision, stored.json);
      this.#record(change);
    });
    this.#revision = revision;
    this.#resource(resource).set(`${namespace ?? ""}/${name}`, stored);
    if (previous === undefined) this.#sorted.delete(resource);
    this.#publish(change);
    return stored;
  }

  /** Removes the object; answers its last state with the deletion's revision. The object must exist. */
  remove(resource: string, namespace: string | undefined, name: string): Stored {
    const previous = this.get(resource, namespace, name);
    invariant(previous !== undefined, `remove of an object that is not stored: ${resource} ${namespace ?? ""}/${name}`);
    const revision = this.#revision + 1;
    const last = structuredClone(previous.object);
    last.metadata.resourceVersion = String(revision);
    const stored = new Stored(revision, textOf(last), last);
    const change: Change = {
      revision,
      resource,
      namespace,
      name,
      type: "DELETED",
      state: stored,
      previous,
      encoded: new Map(),
    };
    this.#commit(() => {
      this.#remove.run(resource, namespace ?? "", name);
      this.#record(change);
    });
    this.#revision = revision;
    this.#resource(resource).delete(`${namespace ?? ""}/${name}`);
    this.#sorted.delete(resource);
    this.#publish(change);
    return stored;
  }

  #record(change: Change): void {
    this.#log.run(
      change.revision,
      change.resource,
      change.namespace ?? "",
      change.name,
      change.type,
      change.state.json,
      change.previous?.json ?? null,
      change.previous?.revision ?? null,
    );
  }

  #publish(change: Change): void {
    this.#remember(change);
    for (const listener of this.#listeners) listener(change);
    change.previous?.release();
    if (change.type === "DELETED") change.state.release();
    if (this.#changes.length > this.#limits.changes * 1.25 || this.#changeBytes > this.#limits.changeBytes * 1.25)
      this.#trim();
  }

  #trim(): void {
    let bytes = this.#changeBytes;
    let drop = 0;
    while (
      drop < this.#changes.length &&
      (this.#changes.length - drop > this.#limits.changes || bytes > this.#limits.changeBytes)
    )
      bytes -= sizeOf(this.#changes[drop++]);
    const last = this.#changes[drop - 1];
    if (last !== undefined) this.compact(last.revision);
  }

  /** Forgets the changes up to and including the revision; watches from before it are answered "too old". */
  compact(revision: number): void {
    let drop = 0;
    while ((this.#changes[drop]?.revision ?? Infinity) <= revision) this.#changeBytes -= sizeOf(this.#changes[drop++]);
    this.#changes.splice(0, drop);
    this.#oldest = Math.max(this.#oldest, Math.min(revision, this.#revision));
    this.#commit(() => {
      this.#database.run("DELETE FROM changes WHERE revision <= ?", [revision]);
      this.#database.run("INSERT OR REPLACE INTO meta VALUES ('oldest', ?)", [this.#oldest]);
    });
  }

  /** The kept changes of the resource after the revision, oldest first. */
  changesAfter(resource: string, revision: number): Change[] {
    return this.#changes.filter((change) => change.revision > revision && change.resource === resource);
  }

  /** Calls the listener after each commit, in order, until the returned function is called. */
  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#database.close(false);
  }
}

/** Says first what the object is: lists leave that out of their items. */
function textOf(object: ApiObject): string {
  const { apiVersion, kind, ...rest } = object;
  return JSON.stringify({ apiVersion, kind, ...rest });
}

function sizeOf(change: Change | undefined): number {
  return change === undefined ? 0 : change.state.json.length + (change.previous?.json.length ?? 0);
}
