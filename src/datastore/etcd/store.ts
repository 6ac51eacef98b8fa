/**
 * Etcd store: Store over etcd v3, under upstream's keys and with upstream's values. An object's resourceVersion is its key's modification
 * revision.
 *
 * All writes are transactions that compare that revision. There is no API server in between: nothing validates, prunes or defaults.
 * Kubernetes' kinds are not there: they have no objects, and Events are dropped.
 */
import type { Clock } from "../../host/clock.ts";
import type { Random } from "../../host/random.ts";
import { formatTimestampSeconds } from "../../lib/timestamp.ts";
import type { Key } from "../../model/key.ts";
import type { Kind } from "../../model/kind.ts";
import type { PolicyStatus } from "../../model/kinds/network-policy.ts";
import type { Resource } from "../../model/resource.ts";
import { checkPrecondition, checkVersion, refused, versionConflict } from "../conditions.ts";
import { hasLabels, placeOf, stampAnnotated, stampNew, stampStatus, stampUpdated } from "../stamp.ts";
import {
  type ListOptions,
  type ListPage,
  type ListResult,
  type StatusKind,
  type Store,
  StoreError,
  type WatchEvent,
  type WriteOptions,
} from "../store.ts";
import { wholeList } from "../whole-list.ts";
import { type EtcdAccess, EtcdClient } from "./client.ts";
import { HandleIds } from "./handle-ids.ts";
import { IPAM_CONFIG, pathsOf, placeOfObject, spanOf } from "./keys.ts";
import type { KeyValue } from "./protocol.ts";
import { decodeEntry, encodeIpamConfig, encodeKey, encodeValue, type Entry, isUnderOldKey } from "./values.ts";
import { watchPrefix } from "./watch.ts";

/** Keys per page of a list. */
const PAGE_SIZE = 1000;
/** Attempts of a read-modify-write that this store does itself. */
const ATTEMPTS = 50;

export interface EtcdDependencies {
  readonly clock: Clock;
  readonly random: Random;
}

export interface EtcdStore extends Store {
  /** Discards the history up to now; for maintenance and tests. */
  compact(): Promise<void>;
}

/** Opens no connection yet: the first operation does. */
export function openEtcdStore(access: EtcdAccess, dependencies: EtcdDependencies): EtcdStore {
  return new Etcd(new EtcdClient(access, dependencies.clock), dependencies);
}

class Etcd implements EtcdStore {
  readonly isStandalone = true;
  readonly #client: EtcdClient;
  readonly #dependencies: EtcdDependencies;
  readonly #closed = new AbortController();
  readonly #handles: HandleIds;

  constructor(client: EtcdClient, dependencies: EtcdDependencies) {
    this.#client = client;
    this.#handles = new HandleIds(client);
    this.#dependencies = dependencies;
  }

  async get<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    return (await this.#find("get", key, options.signal))?.object;
  }

  async list<K extends Kind>(
    kind: K,
    options: ListOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<ListResult<K>> {
    return wholeList(this.pages(kind, options));
  }

  async *pages<K extends Kind>(
    kind: K,
    options: ListOptions & { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<ListPage<K>> {
    const names = new ListedNames<K>();
    let isFirst = true;
    let revision = "0";
    for await (const page of this.#ranges(kind, options)) {
      revision = page.revision;
      const items = names.take(page.entries).filter((object) => hasLabels(object, options.labels));
      if (page.more) {
        yield { items, isFirst, isLast: false, revision };
        isFirst = false;
        continue;
      }
      const late = [...names.late(), ...(await this.#elsewhere(kind, names, options.signal))];
      const whole = [...items, ...late.filter((object) => hasLabels(object, options.labels))];
      yield { items: whole, isFirst, isLast: true, revision };
    }
  }

  /** The entries of the kind's keys, page by page, all at the revision of the first page. */
  async *#ranges<K extends Kind>(
    kind: K,
    options: { readonly namespace?: string; readonly signal?: AbortSignal },
  ): AsyncGenerator<{ entries: readonly Entry<K>[]; more: boolean; revision: string }> {
    const span = spanOf(kind, options.namespace);
    let revision = "0";
    for (let from = encodeKey(span.from); ;) {
      const request = { key: from, rangeEnd: span.end, limit: String(PAGE_SIZE), revision };
      const page = await this.#client.range({ operation: "list", kind, key: undefined }, request, options.signal);
      if (revision === "0") revision = page.header?.revision ?? "0";
      const entries = page.kvs.flatMap((kv) => this.#decode(kind, kv) ?? []);
      const last = page.kvs.at(-1);
      const more = page.more && last !== undefined;
      yield { entries, more, revision };
      if (!more) return;
      from = Uint8Array.of(...last.key, 0);
    }
  }

  /** What upstream's IPAM was told, where there is no resource that says it, or an older one. */
  async #elsewhere<K extends Kind>(
    kind: K,
    names: ListedNames<K>,
    signal: AbortSignal | undefined,
  ): Promise<readonly Resource<K>[]> {
    if (kind !== "IPAMConfiguration" || names.has("default")) return [];
    const found = await this.#find("list", { kind, namespace: undefined, name: "default" }, signal);
    return found === undefined ? [] : [found.object];
  }

  async create<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "create");
    const stamped = stampNew(
      key,
      object,
      this.#dependencies.random.uuid(),
      formatTimestampSeconds(this.#dependencies.clock.wallMs()),
    );
    const path = placeOfObject(kind, object);
    if (path === undefined)
      throw refused(
        "invalid",
        "create",
        key,
        "its name, node or handle is empty or contains a slash, or its block is none",
      );
    // Nobody reads events there, and they would never be removed.
    if (kind === "Event") return stamped;
    const taken = kind === "BlockAffinity" || kind === "IPAMHandle" ? [path] : (pathsOf(key) ?? [path]);
    const value = encodeValue(kind, stamped);
    const request = {
      compare: taken.map((each) => ({
        result: "EQUAL",
        target: "CREATE",
        key: encodeKey(each),
        createRevision: "0",
      })),
      success: [{ requestPut: { key: encodeKey(path), value } }, ...companions(stamped, path)],
    };
    const answer = await this.#client.txn({ operation: "create", kind, key }, request, options.signal);
    if (!answer.succeeded) throw refused("exists", "create", key, "it exists already");
    return this.#stored(kind, path, value, answer.header?.revision ?? "", stamped);
  }

  async update<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "update");
    const stored = await this.#expect("update", key, options.signal);
    const current = stored.object.metadata.resourceVersion;
    checkVersion("update", key, object.metadata.resourceVersion, current);
    return this.#replace(
      "update",
      key,
      stored.path,
      stampUpdated(key, stored.object, object),
      current ?? "",
      options.signal,
    );
  }

  async annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions = {},
  ): Promise<void> {
    await this.#again(async () => {
      const { path, object } = await this.#expect("annotate", key, options.signal);
      const revision = object.metadata.resourceVersion ?? "";
      await this.#replace("annotate", key, path, stampAnnotated(object, annotations), revision, options.signal);
    });
  }

  async updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options: WriteOptions = {},
  ): Promise<void> {
    const operation = "update the status of";
    const { path, object } = await this.#expect(operation, key, options.signal);
    checkVersion(operation, key, revision, object.metadata.resourceVersion);
    await this.#replace(operation, key, path, stampStatus(object, status), revision, options.signal);
  }

  async delete<K extends Kind>(
    key: Key<K>,
    precondition: { readonly revision?: string; readonly uid?: string } = {},
    options: WriteOptions = {},
  ): Promise<void> {
    const attempt = async (): Promise<void> => {
      const { path, object } = await this.#expect("delete", key, options.signal);
      checkPrecondition(key, object, precondition);
      const revision = object.metadata.resourceVersion ?? "";
      const paths = key.kind === "IPAMConfiguration" ? (pathsOf(key) ?? []) : [path];
      const writes = paths.map((each) => ({ requestDeleteRange: { key: encodeKey(each) } }));
      await this.#swap("delete", key, path, revision, writes, options.signal);
    };
    if (precondition.revision === undefined && precondition.uid === undefined) await this.#again(attempt);
    else await attempt();
  }

  watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<readonly WatchEvent<K>[]> {
    const find = (key: Key<K>): Promise<Entry<K> | undefined> => this.#find("watch", key, options.signal);
    const decode = (kv: KeyValue): Entry<K> | undefined => this.#decode(kind, kv);
    return watchPrefix(this.#client, kind, revision, AbortSignal.any([options.signal, this.#closed.signal]), {
      find,
      decode,
    });
  }

  async compact(): Promise<void> {
    const { revision } = await this.list("Namespace");
    await this.#client.compact(revision);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#client.close();
  }

  async #expect<K extends Kind>(operation: string, key: Key<K>, signal: AbortSignal | undefined): Promise<Entry<K>> {
    const found = await this.#find(operation, key, signal);
    if (found === undefined) throw refused("not-found", operation, key, "it does not exist");
    return found;
  }

  /** The object, and the key that it is under. */
  async #find<K extends Kind>(
    operation: string,
    key: Key<K>,
    signal: AbortSignal | undefined,
  ): Promise<Entry<K> | undefined> {
    const handle = key.kind === "IPAMHandle" ? await this.#handles.of(key.name, signal) : undefined;
    const paths = pathsOf(handle === undefined ? key : { ...key, name: handle });
    if (paths === undefined) return this.#search(key, signal);
    if (paths.length === 0) return undefined;
    const purpose = { operation, kind: key.kind, key };
    const isSame = (entry: Entry<K> | undefined): entry is Entry<K> => entry?.object.metadata.name === key.name;
    const [only] = paths;
    if (only !== undefined && paths.length === 1) {
      const { kvs } = await this.#client.range(purpose, { key: encodeKey(only) }, signal);
      return kvs.map((kv) => this.#decode(key.kind, kv)).find(isSame);
    }
    const success = paths.map((path) => ({ requestRange: { key: encodeKey(path) } }));
    const { responses } = await this.#client.txn(purpose, { success }, signal);
    const kvs = responses.flatMap(({ responseRange }) => responseRange?.kvs ?? []);
    const entries = kvs.map((kv) => this.#decode(key.kind, kv)).filter(isSame);
    return key.kind === "IPAMConfiguration" ? newest(entries) : entries[0];
  }

  async #search<K extends Kind>(key: Key<K>, signal: AbortSignal | undefined): Promise<Entry<K> | undefined> {
    for await (const { entries } of this.#ranges(key.kind, signal === undefined ? {} : { signal })) {
      const found = entries.find(({ object }) => object.metadata.name === key.name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #decode<K extends Kind>(kind: K, kv: KeyValue): Entry<K> | undefined {
    const entry = decodeEntry(kind, kv);
    if (entry !== undefined && kind === "IPAMHandle") this.#handles.learn(entry.path, entry.object.metadata.name);
    return entry;
  }

  /** What reading the value back gives, which is what the next reader sees. */
  #stored<K extends Kind>(
    kind: K,
    path: string,
    value: Uint8Array,
    revision: string,
    written: Resource<K>,
  ): Resource<K> {
    const kv = { key: encodeKey(path), value, createRevision: revision, modRevision: revision };
    return this.#decode(kind, kv)?.object ?? written;
  }

  async #replace<K extends Kind>(
    operation: string,
    key: Key<K>,
    path: string,
    object: Resource<K>,
    revision: string,
    signal: AbortSignal | undefined,
  ): Promise<Resource<K>> {
    const value = encodeValue(key.kind, object);
    // The settings of upstream's IPAM are beside the resource, and both are written together.
    const place = key.kind === "IPAMConfiguration" ? (placeOfObject(key.kind, object) ?? path) : path;
    const writes = [{ requestPut: { key: encodeKey(place), value } }, ...companions(object, place)];
    const written = await this.#swap(operation, key, path, revision, writes, signal);
    return this.#stored(key.kind, place, value, written, object);
  }

  /** Does the writes if the key is still at the revision; returns the new revision. */
  async #swap(
    operation: string,
    key: Key,
    path: string,
    revision: string,
    writes: readonly object[],
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const name = encodeKey(path);
    const request = {
      compare: [{ result: "EQUAL", target: "MOD", key: name, modRevision: revision }],
      success: writes,
      failure: [{ requestRange: { key: name } }],
    };
    const answer = await this.#client.txn({ operation, kind: key.kind, key }, request, signal);
    if (answer.succeeded) return answer.header?.revision ?? "";
    const current = answer.responses[0]?.responseRange?.kvs[0]?.modRevision;
    if (current === undefined) throw refused("not-found", operation, key, "it does not exist");
    throw versionConflict(operation, key, revision, current);
  }

  /** Repeats a write that does not depend on a revision of the caller's if another writer came between its read and its write. */
  async #again(attempt: () => Promise<void>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== "conflict" || tries >= ATTEMPTS) throw error;
      }
    }
  }
}

/** Names that a list has met, so that an object under its old key beside its new one is listed once. */
class ListedNames<K extends Kind> {
  readonly #seen = new Set<string>();
  readonly #old: Resource<K>[] = [];

  /** The objects that are under their own key. */
  take(entries: readonly Entry<K>[]): Resource<K>[] {
    return entries.flatMap(({ path, object }) => {
      if (isUnderOldKey(path, object)) return (this.#old.push(object), []);
      this.#seen.add(nameOf(object));
      return [object];
    });
  }

  /** At the end: those that are only under their old key. */
  late(): Resource<K>[] {
    return this.#old.filter((object) => !this.#seen.has(nameOf(object)));
  }

  has(name: string): boolean {
    return this.#seen.has(`/${name}`);
  }
}

function nameOf({ metadata }: Resource): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}

function newest<K extends Kind>(entries: readonly Entry<K>[]): Entry<K> | undefined {
  const revision = ({ object }: Entry<K>): bigint => BigInt(object.metadata.resourceVersion ?? "0");
  return entries.toSorted((a, b) => (revision(a) < revision(b) ? 1 : revision(a) > revision(b) ? -1 : 0))[0];
}

/** What is written with an object. */
function companions(object: Resource, path: string): readonly object[] {
  return object.kind === "IPAMConfiguration" && path !== IPAM_CONFIG && object.metadata.name === "default"
    ? [{ requestPut: { key: encodeKey(IPAM_CONFIG), value: encodeIpamConfig(object) } }]
    : [];
}
