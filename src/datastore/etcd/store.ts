/**
 * Etcd store: Store over etcd v3. A value is the object's JSON without its resourceVersion, which is the key's modification revision.
 *
 * All writes are transactions that compare that revision. There is no API server in between: nothing validates, prunes or defaults.
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
import { kindPrefix, objectKey, prefixEnd } from "./keys.ts";
import { decodeValue, encodeKey, encodeValue } from "./values.ts";
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
  readonly #client: EtcdClient;
  readonly #dependencies: EtcdDependencies;
  readonly #closed = new AbortController();

  constructor(client: EtcdClient, dependencies: EtcdDependencies) {
    this.#client = client;
    this.#dependencies = dependencies;
  }

  async get<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    const { kvs } = await this.#client.range(
      { operation: "get", kind: key.kind, key },
      { key: encodeKey(objectKey(key)) },
      options.signal,
    );
    return kvs[0] === undefined ? undefined : decodeValue(key, kvs[0]);
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
    const prefix = kindPrefix(kind, options.namespace);
    let revision = "0";
    for (let from = encodeKey(prefix); ;) {
      const isFirst = revision === "0";
      const request = { key: from, rangeEnd: prefixEnd(prefix), limit: String(PAGE_SIZE), revision };
      const page = await this.#client.range({ operation: "list", kind, key: undefined }, request, options.signal);
      // All pages are read at the revision of the first one.
      if (isFirst) revision = page.header?.revision ?? "0";
      const items = page.kvs.flatMap((entry) => {
        const object = decodeValue(kind, entry);
        return object !== undefined && hasLabels(object, options.labels) ? [object] : [];
      });
      yield { items, isFirst, revision };
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return;
      from = Uint8Array.of(...last.key, 0);
    }
  }

  async create<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "create");
    const stamped = stampNew(
      key,
      object,
      this.#dependencies.random.uuid(),
      formatTimestampSeconds(this.#dependencies.clock.wallMs()),
    );
    const name = encodeKey(objectKey(key));
    const request = {
      compare: [{ result: "EQUAL", target: "CREATE", key: name, createRevision: "0" }],
      success: [{ requestPut: { key: name, value: encodeValue(stamped) } }],
    };
    const answer = await this.#client.txn({ operation: "create", kind, key }, request, options.signal);
    if (!answer.succeeded) throw refused("exists", "create", key, "it exists already");
    stamped.metadata.resourceVersion = answer.header?.revision ?? "";
    return stamped;
  }

  async update<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = placeOf(kind, object, "update");
    const stored = await this.#expect("update", key, options.signal);
    const current = stored.metadata.resourceVersion;
    checkVersion("update", key, object.metadata.resourceVersion, current);
    return this.#replace("update", key, stampUpdated(key, stored, object), current ?? "", options.signal);
  }

  async annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions = {},
  ): Promise<void> {
    await this.#again(async () => {
      const stored = await this.#expect("annotate", key, options.signal);
      await this.#replace(
        "annotate",
        key,
        stampAnnotated(stored, annotations),
        stored.metadata.resourceVersion ?? "",
        options.signal,
      );
    });
  }

  async updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options: WriteOptions = {},
  ): Promise<void> {
    const operation = "update the status of";
    const stored = await this.#expect(operation, key, options.signal);
    checkVersion(operation, key, revision, stored.metadata.resourceVersion);
    await this.#replace(operation, key, stampStatus(stored, status), revision, options.signal);
  }

  async delete<K extends Kind>(
    key: Key<K>,
    precondition: { readonly revision?: string; readonly uid?: string } = {},
    options: WriteOptions = {},
  ): Promise<void> {
    const attempt = async (): Promise<void> => {
      const stored = await this.#expect("delete", key, options.signal);
      checkPrecondition(key, stored, precondition);
      const revision = stored.metadata.resourceVersion ?? "";
      const name = encodeKey(objectKey(key));
      await this.#swap("delete", key, revision, { requestDeleteRange: { key: name } }, options.signal);
    };
    if (precondition.revision === undefined && precondition.uid === undefined) await this.#again(attempt);
    else await attempt();
  }

  watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<readonly WatchEvent<K>[]> {
    return watchPrefix(this.#client, kind, revision, AbortSignal.any([options.signal, this.#closed.signal]));
  }

  async compact(): Promise<void> {
    const { revision } = await this.list("Namespace");
    await this.#client.compact(revision);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#client.close();
  }

  async #expect<K extends Kind>(operation: string, key: Key<K>, signal: AbortSignal | undefined): Promise<Resource<K>> {
    const { kvs } = await this.#client.range(
      { operation, kind: key.kind, key },
      { key: encodeKey(objectKey(key)) },
      signal,
    );
    const stored = kvs[0] === undefined ? undefined : decodeValue(key, kvs[0]);
    if (stored === undefined) throw refused("not-found", operation, key, "it does not exist");
    return stored;
  }

  async #replace<K extends Kind>(
    operation: string,
    key: Key<K>,
    object: Resource<K>,
    revision: string,
    signal: AbortSignal | undefined,
  ): Promise<Resource<K>> {
    const put = { requestPut: { key: encodeKey(objectKey(key)), value: encodeValue(object) } };
    object.metadata.resourceVersion = await this.#swap(operation, key, revision, put, signal);
    return object;
  }

  /** Does the write if the key is still at the revision; returns the new revision. */
  async #swap(
    operation: string,
    key: Key,
    revision: string,
    write: object,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const name = encodeKey(objectKey(key));
    const request = {
      compare: [{ result: "EQUAL", target: "MOD", key: name, modRevision: revision }],
      success: [write],
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
