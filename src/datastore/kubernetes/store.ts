/**
 * Kubernetes store: Store over the API server, a thin client on HTTP.
 *
 * Promises: lists come in pages, or whole when the server does not keep the state of a paged list for long enough; a watch is bounded
 * by the server (5 to 10 minutes, so that the watches of many clients do not end together) and by a guard against silent connections;
 * nothing else takes longer than 30 s.
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
 */
import type { Random } from "../../host/random.ts";
import { formatKey, type Key } from "../../model/key.ts";
import type { Kind } from "../../model/kind.ts";
import type { PolicyStatus } from "../../model/kinds/network-policy.ts";
import { keyOf, type Resource } from "../../model/resource.ts";
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
import type { KubernetesAccess } from "./kubeconfig.ts";
import { wholeList } from "../whole-list.ts";
import { type Page, pageOf, resourceOf } from "./decode.ts";
import { annotationPath, collectionPath, labelSelectorText, objectPath, queryText } from "./paths.ts";
import { Transport, type TransportDependencies } from "./transport.ts";
import { watchKind } from "./watch.ts";

/** Objects per page of a list: about a megabyte of typical pods; several pages may be in memory at a time. */
const PAGE_SIZE = 200;
/** Of small objects more, as a request costs as much as some 50 of them; of large ones fewer, as a page is parsed in one go. */
const [PAGE_LEAST, PAGE_MOST] = [50, 500];
const PAGE_LENGTH = 2 ** 20;

export interface KubernetesDependencies extends TransportDependencies {
  readonly random: Random;
}

/** Opens no connection yet: the first operation does. */
export function openKubernetesStore(access: KubernetesAccess, dependencies: KubernetesDependencies): Store {
  return new KubernetesStore(access, dependencies);
}

/** `length`: of its text. */
type SizedPage = Page & { readonly length: number };

/** After a full page. */
function nextLimit({ items, length }: SizedPage): number {
  return Math.min(PAGE_MOST, Math.max(PAGE_LEAST, Math.floor((PAGE_LENGTH * items.length) / length)));
}

class KubernetesStore implements Store {
  readonly #transport: Transport;
  readonly #dependencies: KubernetesDependencies;

  constructor(access: KubernetesAccess, dependencies: KubernetesDependencies) {
    this.#transport = new Transport(access, dependencies);
    this.#dependencies = dependencies;
  }

  async get<K extends Kind>(
    key: Key<K>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Resource<K> | undefined> {
    try {
      const answer = await this.#transport.ask(
        { operation: "get", kind: key.kind, key, method: "GET", path: objectPath(key) },
        options.signal,
      );
      return resourceOf(key.kind, answer, "get");
    } catch (error) {
      if (error instanceof StoreError && error.reason === "not-found") return undefined;
      throw error;
    }
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
    let limit: number | undefined = PAGE_SIZE;
    let next: string | undefined;
    const ask = (): Promise<SizedPage | undefined> => {
      const query = queryText({
        limit: limit?.toString(),
        labelSelector: labelSelectorText(options.labels),
        continue: next,
      });
      return this.#page(kind, collectionPath(kind, options.namespace) + query, next !== undefined, options.signal);
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
      yield { items: page.items.map((item) => resourceOf(kind, item, "list")), isFirst, revision: page.revision };
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
    const body = withoutRevision(object);
    const answer = await this.#transport.ask(
      { operation: "create", kind, key, method: "POST", path: collectionPath(kind, key.namespace), body },
      options.signal,
    );
    return resourceOf(kind, answer, "create");
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
    const answer = await this.#transport.ask(
      { operation: "update", kind, key, method: "PUT", path: objectPath(key), body: object },
      options.signal,
    );
    return resourceOf(kind, answer, "update");
  }

  async annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options: WriteOptions = {},
  ): Promise<void> {
    const body = { metadata: { annotations } };
    const contentType = "application/merge-patch+json";
    await this.#transport.ask(
      { operation: "annotate", kind: key.kind, key, method: "PATCH", path: annotationPath(key), body, contentType },
      options.signal,
    );
  }

  /** A patch, so that nobody has to keep whole policies; the revision in it is a precondition. */
  async updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options: WriteOptions = {},
  ): Promise<void> {
    const body = { metadata: { resourceVersion: revision }, status };
    const contentType = "application/merge-patch+json";
    const path = `${objectPath(key)}/status`;
    const operation = "update the status of";
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
    const preconditions = {
      ...(precondition.revision === undefined ? {} : { resourceVersion: precondition.revision }),
      ...(precondition.uid === undefined ? {} : { uid: precondition.uid }),
    };
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions };
    await this.#transport.ask(
      { operation: "delete", kind: key.kind, key, method: "DELETE", path: objectPath(key), body },
      options.signal,
    );
  }

  watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<readonly WatchEvent<K>[]> {
    return watchKind(
      this.#transport,
      this.#dependencies,
      kind,
      revision,
      AbortSignal.any([options.signal, this.#transport.closed]),
    );
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
