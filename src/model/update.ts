/**
 * Update: what a syncer may deliver. The only promise is eventual convergence: values may be skipped, go back in time, or be falsely
 * deleted and return. `in-sync` means that every key existing at some instant has been delivered. A consumer decides existence from
 * `value` alone, never from order or revision.
 */
import type { Key } from "./key.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./resource.ts";
import type { Revision } from "./revision.ts";

/** Where and when a value was seen; the calculation passes it through, status reports it. */
export interface Origin {
  readonly revision: Revision;
  readonly generation: number | undefined;
  /** Milliseconds of the monotonic clock. */
  readonly seenAt: number;
}

/** The newest known state of one key; undefined: it does not exist. */
export type Update<K extends Kind = Kind> = K extends Kind
  ? { readonly kind: K; readonly key: Key<K>; readonly value: Resource<K> | undefined; readonly origin: Origin }
  : never;

/** `U`: an update, or what its consumer keeps of it. */
export type SyncEvent<U = Update> =
  | { readonly type: "updates"; readonly updates: readonly U[] }
  | { readonly type: "status"; readonly status: "connecting" | "resyncing" | "in-sync" };
