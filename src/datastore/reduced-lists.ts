/**
 * Reduced lists: lists whose objects are read and reduced elsewhere than on the thread that needs them, so that it gets only what it keeps. Each is
 * whole, or fails.
 */
import type { Kind } from "../model/kind.ts";
import type { KeyText } from "../model/key.ts";
import type { Origin } from "../model/update.ts";

export interface ReducedLists<U> {
  /** The pages of a list, from its beginning; undefined: of this kind there are none. Rejects with StoreError. */
  pages(kind: Kind, signal: AbortSignal): AsyncIterable<ReducedPage<U>> | undefined;
}

/** As a `ListPage`. */
export interface ReducedPage<U> {
  /** Read once; each is made when its turn comes. */
  readonly items: Iterable<U & Reduced>;
  readonly isFirst: boolean;
  readonly revision: string;
}

/** What says of which object and state an update is. */
export interface Reduced {
  readonly id: KeyText;
  readonly origin: Origin;
}
