/**
 * Known blocks: what a daemon that watches the cluster's blocks knows about them without a request. It may be outdated: the write that follows
 * fails in that case, and the caller then reads the datastore.
 */
import type { Prefix } from "../net/prefix.ts";

export interface KnownBlock {
  readonly prefix: Prefix;
  /** The node that owns it. */
  readonly owner: string | undefined;
  /** Number of free addresses, reserved ranges included. */
  readonly free: number;
  /** Number of addresses in the reserve of this node. */
  readonly mine: number;
}

/** undefined: not in sync yet, so the datastore must be read. */
export type KnownBlocks = () => ReadonlyMap<Prefix, KnownBlock> | undefined;
