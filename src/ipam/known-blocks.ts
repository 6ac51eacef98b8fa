/**
 * Known blocks: what a daemon that watches the cluster's blocks knows of them without asking. It may be late: whoever acts on it finds out by the
 * write that follows, and asks the datastore then.
 */
import type { Prefix } from "../net/prefix.ts";

export interface KnownBlock {
  readonly prefix: Prefix;
  /** The node that owns it. */
  readonly owner: string | undefined;
  /** Addresses that nobody has, reserved ranges included. */
  readonly free: number;
  /** Addresses in the reserve of this node. */
  readonly mine: number;
}

/** undefined: not everything has been heard, so the datastore must be asked. */
export type KnownBlocks = () => ReadonlyMap<Prefix, KnownBlock> | undefined;
