/**
 * Bgp: what the routing daemon of this node needs to know about the cluster's nodes, pools and blocks, kept up to date row by row.
 *
 * Most updates change nothing here: a Node's heartbeat, an address assigned from another node's block. Work is proportional to the updated
 * object, and only a row that differs counts as a change. An object that does not convert is left out; the owner of its kind reports it.
 */
import { equal } from "../lib/equal.ts";
import type { Bgp, BgpPool } from "../model/bgp.ts";
import type { BlockRow } from "../model/convert/block.ts";
import type { NodeAddresses } from "../model/convert/node.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import type { Wire } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";

export interface BgpInputs {
  /** By name. */
  readonly nodes: Delta<string, NodeAddresses>;
  readonly pools: Delta<KeyText, PoolRow>;
  readonly blocks: Delta<KeyText, BlockRow>;
  /** By interface. */
  readonly wires: Delta<string, Wire>;
}

const NO_ADDRESSES: NodeAddresses = { ipv4: undefined, ipv6: undefined };

export class BgpTable implements Bgp {
  readonly #node: string;
  addresses: NodeAddresses = NO_ADDRESSES;
  readonly peers = new Map<string, NodeAddresses>();
  readonly pools = new Map<KeyText, BgpPool>();
  readonly blocks = new Map<KeyText, Prefix>();
  readonly borrowed = new Map<KeyText, readonly Addr[]>();
  readonly machines = new Map<string, readonly Addr[]>();

  constructor(node: string) {
    this.#node = node;
  }

  /** Whether a row was added, removed or changed. */
  step({ nodes, pools, blocks, wires }: BgpInputs): boolean {
    let changed = false;
    for (const [name, addresses] of nodes) changed = this.#setNode(name, addresses) || changed;
    for (const [key, pool] of pools)
      changed =
        write(this.pools, key, pool === undefined ? undefined : { prefix: pool.prefix, exported: pool.exported }) ||
        changed;
    for (const [key, block] of blocks) {
      const own = block !== undefined && block.node === this.#node;
      changed = write(this.blocks, key, own ? block.prefix : undefined) || changed;
      changed = write(this.borrowed, key, own ? undefined : borrowedFrom(block, this.#node)) || changed;
    }
    for (const [name, wire] of wires) changed = write(this.machines, name, machineAddresses(wire)) || changed;
    return changed;
  }

  #setNode(name: string, addresses: NodeAddresses = NO_ADDRESSES): boolean {
    const isPeer = addresses.ipv4 !== undefined || addresses.ipv6 !== undefined;
    if (name !== this.#node) return write(this.peers, name, isPeer ? addresses : undefined);
    const changed = !equal(this.addresses, addresses);
    this.addresses = addresses;
    return changed;
  }
}

/** undefined: none, or a pod's, which a block has. */
function machineAddresses(wire: Wire | undefined): readonly Addr[] | undefined {
  return wire?.workload.kind === "WorkloadEndpoint" && wire.addresses.length > 0 ? wire.addresses : undefined;
}

/** undefined: none. */
function borrowedFrom(block: BlockRow | undefined, node: string): readonly Addr[] | undefined {
  const borrowed = (block?.own ?? []).filter((held) => held.node === node).map(({ addr }) => addr);
  return borrowed.length === 0 ? undefined : borrowed;
}

function write<K, V>(table: Map<K, V>, key: K, value: V | undefined): boolean {
  if (value === undefined) return table.delete(key);
  if (equal(table.get(key), value)) return false;
  table.set(key, value);
  return true;
}
