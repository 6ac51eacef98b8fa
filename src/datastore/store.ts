/**
 * Store: the datastore as the product sees it: get, list, compare-and-swap writes, watch. Implemented by `memory` (reference),
 * `kubernetes/` and `etcd/`; one contract suite holds all three.
 *
 * `metadata.resourceVersion` is opaque: it comes from a read and goes back with the write that depends on it.
 */
import type { Key } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import type { PolicyStatus } from "../model/kinds/network-policy.ts";
import type { Resource } from "../model/resource.ts";

export type StoreReason =
  /** The object does not exist. (Getting a missing object is not an error: it returns undefined.) */
  | "not-found"
  | "exists"
  /** The object changed since it was read, or a precondition does not hold. */
  | "conflict"
  /** The revision to watch or list from is no longer kept: list again. */
  | "gone"
  /** The datastore refused the object; the message says which field. */
  | "invalid"
  /** Credentials are missing, wrong or insufficient. */
  | "forbidden"
  /** No answer, or the answer was to try again later: retry with backoff. */
  | "unavailable";

/** The datastore refused or did not answer. `message` names the operation, the object and the cause. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly reason: StoreReason;
  readonly kind: string;
  readonly key: Key | undefined;
  readonly retryAfterMs: number | undefined;
  constructor(reason: StoreReason, kind: string, key: Key | undefined, message: string, retryAfterMs?: number) {
    super(message);
    this.reason = reason;
    this.kind = kind;
    this.key = key;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The server has no such path: the kind's definition is not installed. */
export function isUnserved({ message, reason }: StoreError): boolean {
  return reason === "unavailable" && message.includes("the server answered 404");
}

/** The API server knows who asks, and does not grant it. */
export function isDenied({ message, reason }: StoreError): boolean {
  return reason === "forbidden" && message.includes("the server answered 403");
}

export interface ListOptions {
  readonly namespace?: string;
  /** All must be equal. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ListResult<K extends Kind> {
  readonly items: readonly Resource<K>[];
  /** Watch from here to miss nothing. */
  readonly revision: string;
}

/** A part of a list. */
export interface ListPage<K extends Kind> {
  readonly items: readonly Resource<K>[];
  /** The first page. The list restarts, discarding the pages so far, when the datastore no longer keeps the state that it began with. */
  readonly isFirst: boolean;
  /** No page follows. */
  readonly isLast: boolean;
  /** Of the last page: watch from here to miss nothing. */
  readonly revision: string;
}

export type WatchEvent<K extends Kind> =
  | { readonly type: "added" | "modified" | "deleted"; readonly object: Resource<K>; readonly revision: string }
  /** Nothing changed up to this revision. */
  | { readonly type: "bookmark"; readonly revision: string };

export interface WriteOptions {
  readonly signal?: AbortSignal;
}

/** Kinds with conditions, which are written apart from the rest of the object. */
export type StatusKind =
  | "NetworkPolicy"
  | "GlobalNetworkPolicy"
  | "ClusterNetworkPolicy"
  | "AdminNetworkPolicy"
  | "BaselineAdminNetworkPolicy"
  | "StagedNetworkPolicy"
  | "StagedGlobalNetworkPolicy"
  | "StagedKubernetesNetworkPolicy"
  | "Tier";

export interface Store {
  /** There is no Kubernetes: Nodes, endpoints and profiles are objects of their own. */
  readonly isStandalone: boolean;
  get<K extends Kind>(key: Key<K>, options?: { readonly signal?: AbortSignal }): Promise<Resource<K> | undefined>;
  list<K extends Kind>(kind: K, options?: ListOptions & { readonly signal?: AbortSignal }): Promise<ListResult<K>>;
  /** The same in pages, so that a large list is never held whole; there is always at least one page. */
  pages<K extends Kind>(kind: K, options?: ListOptions & { readonly signal?: AbortSignal }): AsyncIterable<ListPage<K>>;
  /** Rejects with `exists`. Returns the object as stored, with its resourceVersion. */
  create<K extends Kind>(kind: K, object: Resource<K>, options?: WriteOptions): Promise<Resource<K>>;
  /** Replaces the object if `metadata.resourceVersion` is still current; rejects with `conflict` or `not-found`. */
  update<K extends Kind>(kind: K, object: Resource<K>, options?: WriteOptions): Promise<Resource<K>>;
  /** Sets (or, with null, removes) annotations and leaves everything else alone; no resourceVersion needed. */
  annotate<K extends Kind>(
    key: Key<K>,
    annotations: Readonly<Record<string, string | null>>,
    options?: WriteOptions,
  ): Promise<void>;
  /**
   * Replaces the given fields of `status` and leaves everything else alone, the generation too; rejects with `conflict` if `revision` is not
   * current, or with `not-found`.
   */
  updateStatus<K extends StatusKind>(
    key: Key<K>,
    status: PolicyStatus,
    revision: string,
    options?: WriteOptions,
  ): Promise<void>;
  /** Rejects with `not-found`, or with `conflict` if `revision` or `uid` is given and is not current. */
  delete<K extends Kind>(
    key: Key<K>,
    precondition?: { readonly revision?: string; readonly uid?: string },
    options?: WriteOptions,
  ): Promise<void>;
  /**
   * Changes after `revision`, in order, in batches as they arrive. The first batch is empty and means that the watch is established.
   * Returns when the server closes the watch or has been silent too long: resume from the last revision seen. Rejects with `gone`
   * when the revision is too old, with `unavailable` when the connection is lost. Aborting the signal ends it without an error.
   */
  watch<K extends Kind>(
    kind: K,
    revision: string,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<readonly WatchEvent<K>[]>;
  close(): Promise<void>;
}
