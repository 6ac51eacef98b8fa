/**
 * Kubernetes store: Store over the API server, a thin client on HTTP.
 *
 * Calico's kinds are native, or of the older group that most clusters hold (`codec.ts`); which, is said or looked up.
 *
 * Promises: lists come in pages, or whole when the server does not keep the state of a paged list for long enough; a watch is bounded
 * by the server (5 to 10 minutes, so that the watches of many clients do not end together) and by a guard against silent connections;
 * nothing else takes longer than 30 s.
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
 */
import type { Random } from "../../host/random.ts";
import { formatKey, type Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import type { PolicyStatus } from "../../model/kinds/network-policy.ts";
import { keyOf, type Resource } from "../../model/resource.ts";
import {
  type ListOptions,
  type ListPage,
  type ListResult,
  type StatusKind,
  isDenied,
  type Store,
  StoreError,
  type WatchEvent,
  type WriteOptions,
} from "../store.ts";
import type { KubernetesAccess } from "./kubeconfig.ts";
import { wholeList } from "../whole-list.ts";
import { hasLabels, stampAnnotated } from "../stamp.ts";
import { CLASSIC } from "./classic.ts";
import { type ApiGroup, type Codec, NATIVE } from "./codec.ts";
import { type Page, pageOf } from "./decode.ts";
import { annotationPath, collectionPath, labelSelectorText, objectPath, queryText } from "./paths.ts";
import { isUnserved, mayBeUnserved, type Place, UNSERVED, UNSERVED_MS } from "./unserved.ts";
import { Transport, type TransportDependencies } from "./transport.ts";
import { watchKind } from "./watch.ts";

/** Objects of the first page of a list, before it is known how large they are: a megabyte of blocks of addresses. */
const PAGE_SIZE = 50;
/** Of small objects more, as a request costs as much as some 50 of them; of large ones fewer, as a page is parsed in one go. */
const [PAGE_LEAST, PAGE_MOST] = [25, 500];
const PAGE_LENGTH = 2 ** 20;

export interface KubernetesDependencies extends TransportDependencies {
  readonly random: Random;
}

/** Writes of a read-modify-write that this store does itself. */
const ATTEMPTS = 20;

/** Opens no connection yet: the first operation does. */
export function openKubernetesStore(
  access: KubernetesAccess,
  dependencies: KubernetesDependencies,
  group: ApiGroup | "detect" = "projectcalico.org/v3",
): Store {
  return new KubernetesStore(access, dependencies, group);
}

/** `length`: of its text. */
type SizedPage = Page & { readonly length: number };

/** After a full page. */
function nextLimit({ items, length }: SizedPage): number {
  return Math.min(PAGE_MOST, Math.max(PAGE_LEAST, Math.floor((PAGE_LENGTH * items.length) / length)));
}

class KubernetesStore implements Store {
  readonly isStandalone = false;
  readonly #transport: Transport;
  readonly #dependencies: KubernetesDependencies;
  /** Of Calico's kinds; undefined: not known yet. */
  #calico: Promise<Codec | undefined> | undefined;

  constructor(access: KubernetesAccess, dependencies: KubernetesDependencies, group: ApiGroup | "detect") {
    this.#transport = new Transport(access, dependencies);
    this.#dependencies = dependencies;
    if (group !== "detect") this.#calico = Promise.resolve(group === "projectcalico.org/v3" ? NATIVE : CLASSIC);
  }

  async #codec(kind: Kind, signal: AbortSignal | undefined): Promise<Codec> {
    if (!KINDS[kind].apiVersion.startsWith("projectcalico.org/")) return NATIVE;
    const known = (this.#calico ??= this.#detect(kind));
    try {
      const codec = await known;
      signal?.throwIfAborted();
      if (codec !== undefined) return codec;
    } catch (error) {
      if (this.#calico === known) this.#calico = undefined;
      throw error;
    }
    if (this.#calico === known) this.#calico = undefined;
    return NATIVE;
  }

  /**
   * Where both groups are served, the older one holds the objects and an aggregated API server shows them as the other. undefined: there is
   * neither, yet.
   */
  async #detect(kind: Kind): Promise<Codec | undefined> {
    const operation = "look up the API groups, to find";
    const ask = { operation, kind, key: undefined, method: "GET", path: "/apis" } as const;
    const answer = (await this.#transport.ask(ask)) as { readonly groups?: unknown } | null;
    const groups: readonly unknown[] = Array.isArray(answer?.groups) ? answer.groups : [];
    const has = (name: string): boolean => groups.some((each) => (each as { name?: unknown } | null)?.name === name);
    return has("crd.projectcalico.org") ? CLASSIC : has("projectcalico.org") ? NATIVE : undefined;
  }

  async get<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    return (await this.#find("get", key, options.signal))?.object;
  }

  /** The object, and the name under which it is stored. */
  async #find<K extends Kind>(
    operation: string,
    key: Key<K>,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly object: Resource<K>; readonly name: string } | undefined> {
    const codec = await this.#codec(key.kind, signal);
    for (const name of codec.names(key)) {
      const path = objectPath({ ...key, name }, codec.place(key.kind));
      try {
        const answer = await this.#transport.ask({ operation, kind: key.kind, key, method: "GET", path }, signal);
        const object = codec.decode(key.kind, answer, operation);
        if (object.metadata.name === key.name) return { object, name };
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== "not-found") throw error;
      }
    }
    return undefined;
  }

  /** The name under which the object is stored, or would be. */
  async #storedName(operation: string, key: Key, codec: Codec, signal: AbortSignal | undefined): Promise<string> {
    const names = codec.names(key);
    const found = names.length > 1 ? await this.#find(operation, key, signal) : undefined;
    return found?.name ?? names[0] ?? key.name;
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
    const codec = await this.#codec(kind, options.signal);
    try {
      yield* this.#pages(kind, codec, options);
    } catch (error) {
      const place = codec.place(kind);
      if (!mayBeUnserved(kind, place, error)) throw error;
      if (!(await isUnserved(this.#transport, kind, place, options.signal))) throw error;
      yield { items: [], isFirst: true, isLast: true, revision: UNSERVED };
    }
  }

  async *#pages<K extends Kind>(
    kind: K,
    codec: Codec,
    options: ListOptions & { readonly signal?: AbortSignal },
  ): AsyncGenerator<ListPage<K>> {
    const labels = Object.entries(options.labels ?? {});
    const selected = Object.fromEntries(labels.filter(([name]) => codec.hasLabel(name)));
    const others = Object.fromEntries(labels.filter(([name]) => !codec.hasLabel(name)));
    const isWhole = labels.every(([name]) => codec.hasLabel(name));
    let limit: number | undefined = PAGE_SIZE;
    let next: string | undefined;
    const ask = (): Promise<SizedPage | undefined> => {
      const query = queryText({
        limit: limit?.toString(),
        labelSelector: labelSelectorText(selected),
        continue: next,
      });
      const path = collectionPath(kind, options.namespace, codec.place(kind)) + query;
      return this.#page(kind, path, next !== undefined, options.signal);
    };
    let asked = ask();
    for (;;) {
      const page = await asked;
      if (page === undefined) {
        // The list took longer than the server keeps its state. Without pages that cannot happen again.
        limit = next = undefined;
        asked = ask();
        continue;
      }
      const isFirst = next === undefined;
      next = page.next;
      if (limit !== undefined && page.items.length === limit) limit = nextLimit(page);
      // The server makes the next page while this one is read.
      if (next !== undefined) asked = ask();
      // Whoever stops reading does not hear how it ended.
      asked.catch(() => {});
      const items = page.items.map((item) => codec.decode(kind, item, "list"));
      const wanted = isWhole ? items : items.filter((item) => hasLabels(item, others));
      yield { items: wanted, isFirst, isLast: next === undefined, revision: page.revision };
      if (next === undefined) return;
    }
  }

  /** undefined: the page continues a list whose state the server no longer keeps. */
  async #page(
    kind: Kind,
    path: string,
    continues: boolean,
    signal: AbortSignal | undefined,
  ): Promise<SizedPage | undefined> {
    try {
      const ask = { operation: "list", kind, key: undefined, method: "GET", path } as const;
      const { value, length } = await this.#transport.askSized(ask, signal);
      return { ...pageOf(kind, value), length };
    } catch (error) {
      if (continues && error instanceof StoreError && error.reason === "gone") return undefined;
      throw error;
    }
  }

  async create<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = keyOf(kind, object);
    const codec = await this.#codec(kind, options.signal);
    const name = await this.#storedName("create", key, codec, options.signal);
    const body = codec.encode(kind, withoutRevision(object), name);
    const path = collectionPath(kind, key.namespace, codec.place(kind));
    const answer = await this.#transport.ask(
      { operation: "create", kind, key, method: "POST", path, body },
      options.signal,
    );
    return codec.decode(kind, answer, "create");
  }

  async update<K extends Kind>(kind: K, object: Resource<K>, options: WriteOptions = {}): Promise<Resource<K>> {
    const key = keyOf(kind, object);
    if (object.metadata.resourceVersion === undefined)
      throw new StoreError(
        "invalid",
        kind,
        key,
        `Cannot update ${formatKey(key)}: resourceVersion is absent, must come from a read`,
      );
    const codec = await this.#codec(kind, options.signal);
    const name = await this.#storedName("update", key, codec, options.signal);
    const path = objectPath({ ...key, name }, codec.place(kind));
    const body = codec.encode(kind, object, name);
    const answer = await this.#transport.ask(
      { operation: "update", kind, key, method: "PUT", path, body },
      options.signal,
    );
    return codec.decode(kind, answer, "update");
  }

  async annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions = {},
  ): Promise<void> {
    const codec = await this.#codec(key.kind, options.signal);
    if (!codec.hasAnnotations) return this.#rewrite(key, annotations, options);
    const body = { metadata: { annotations } };
    const contentType = "application/merge-patch+json";
    await this.#transport.ask(
      { operation: "annotate", kind: key.kind, key, method: "PATCH", path: annotationPath(key), body, contentType },
      options.signal,
    );
  }

  /** Annotates an object whose annotations are not where the server has them. */
  async #rewrite<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions,
  ): Promise<void> {
    for (let tries = 1; ; tries++) {
      const found = await this.get(key, options);
      if (found === undefined)
        throw new StoreError("not-found", key.kind, key, `Cannot annotate ${formatKey(key)}: it does not exist`);
      const { resourceVersion } = found.metadata;
      const changed = stampAnnotated(found, annotations);
      try {
        await this.update(key.kind, { ...changed, metadata: { ...changed.metadata, resourceVersion } }, options);
        return;
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== "conflict" || tries >= ATTEMPTS) throw error;
      }
    }
  }

  /** A patch, so that nobody has to keep whole policies; the revision in it is a precondition. */
  async updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options: WriteOptions = {},
  ): Promise<void> {
    const operation = "update the status of";
    const codec = await this.#codec(key.kind, options.signal);
    if (!codec.hasStatus)
      throw new StoreError(
        "invalid",
        key.kind,
        key,
        `Cannot ${operation} ${formatKey(key)}: this API group keeps no status; policies have one in projectcalico.org/v3`,
      );
    const name = await this.#storedName(operation, key, codec, options.signal);
    const body = { metadata: { resourceVersion: revision }, status };
    const contentType = "application/merge-patch+json";
    const path = `${objectPath({ ...key, name }, codec.place(key.kind))}/status`;
    await this.#transport.ask(
      { operation, kind: key.kind, key, method: "PATCH", path, body, contentType },
      options.signal,
    );
  }

  async delete<K extends Kind>(
    key: Key<K>,
    precondition: { readonly revision?: string; readonly uid?: string } = {},
    options: WriteOptions = {},
  ): Promise<void> {
    const codec = await this.#codec(key.kind, options.signal);
    const name = await this.#storedName("delete", key, codec, options.signal);
    const path = objectPath({ ...key, name }, codec.place(key.kind));
    const preconditions = {
      ...(precondition.revision === undefined ? {} : { resourceVersion: precondition.revision }),
      ...(precondition.uid === undefined ? {} : { uid: codec.uid(precondition.uid) }),
    };
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions };
    await this.#transport.ask(
      { operation: "delete", kind: key.kind, key, method: "DELETE", path, body },
      options.signal,
    );
  }

  async *watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<readonly WatchEvent<K>[]> {
    const signal = AbortSignal.any([options.signal, this.#transport.closed]);
    if (signal.aborted) return;
    const codec = await this.#codec(kind, undefined);
    if (revision === UNSERVED) return void (yield* this.#watchUnserved(kind, codec, signal));
    yield* watchKind(this.#transport, { ...this.#dependencies, codec }, kind, revision, signal);
  }

  /** A request each time: a cluster may lack many kinds, and has many nodes. */
  async *#watchUnserved(kind: Kind, codec: Codec, signal: AbortSignal): AsyncGenerator<readonly []> {
    const place = codec.place(kind);
    yield [];
    while (!signal.aborted) {
      await this.#dependencies.clock.sleep(UNSERVED_MS, signal);
      if (signal.aborted) return;
      if (await this.#isStillUnserved(kind, place)) continue;
      throw new StoreError(
        "gone",
        kind,
        undefined,
        `Cannot watch ${kind}: the server has it only now: it must be listed`,
      );
    }
  }

  async #isStillUnserved(kind: Kind, place: Place): Promise<boolean> {
    try {
      await this.#page(kind, `${collectionPath(kind, undefined, place)}?limit=1`, false, undefined);
      return false;
    } catch (error) {
      if (!mayBeUnserved(kind, place, error)) throw error;
      return !isDenied(error) || isUnserved(this.#transport, kind, place, undefined);
    }
  }

  /** Ends all watches without an error, and all other requests as unavailable. */
  async close(): Promise<void> {
    this.#transport.close();
  }
}

function withoutRevision<K extends Kind>(object: Resource<K>): Resource<K> {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}
