/**
 * Bgp: what the routing daemon of a node needs to know: its peers, what it announces, and what it accepts. Plain data, one row per node,
 * pool and block; maintained by `calc/bgp.ts`, read by `bird/`.
 */
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { NodeAddresses } from "./convert/node.ts";
import type { KeyText } from "./key.ts";

export interface Bgp {
  /** This node's addresses: without one of a family there are no sessions of that family. */
  readonly addresses: NodeAddresses;
  /** The other nodes that have an address, by name. */
  readonly peers: ReadonlyMap<string, NodeAddresses>;
  readonly pools: ReadonlyMap<KeyText, BgpPool>;
  /** Blocks that this node owns. */
  readonly blocks: ReadonlyMap<KeyText, Prefix>;
  /** Addresses that this node has borrowed from blocks that it does not own, by block. */
  readonly borrowed: ReadonlyMap<KeyText, readonly Addr[]>;
  /** Addresses of this node's machines, by interface. */
  readonly machines: ReadonlyMap<string, readonly Addr[]>;
}

export interface BgpPool {
  readonly prefix: Prefix;
  /** Whether its routes are announced. */
  readonly exported: boolean;
}
