/**
 * Bgp: what the routing daemon of a node has to know: with whom it speaks, what it announces, and what it believes. Plain data, one row a
 * node, pool and block; kept by `calc/bgp.ts`, read by `bird/`.
 */
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { NodeAddresses } from "./convert/node.ts";
import type { KeyText } from "./key.ts";

export interface Bgp {
  /** Of this node: without one of a family there are no sessions of that family. */
  readonly addresses: NodeAddresses;
  /** The other nodes that have an address, by name. */
  readonly peers: ReadonlyMap<string, NodeAddresses>;
  readonly pools: ReadonlyMap<KeyText, BgpPool>;
  /** Blocks that this node owns. */
  readonly blocks: ReadonlyMap<KeyText, Prefix>;
  /** Addresses that this node has out of blocks that it does not own, by block. */
  readonly borrowed: ReadonlyMap<KeyText, readonly Addr[]>;
}

export interface BgpPool {
  readonly prefix: Prefix;
  /** Whether its routes are announced. */
  readonly exported: boolean;
}
