/**
 * Input: what BIRD's configuration follows from: the cluster's nodes, blocks and pools as they are stored.
 *
 * A resource that does not convert is left out here; who owns its kind reports it.
 */
import { blockModelOf } from "../model/kinds/block-model.ts";
import { nodeAddressesOf } from "../model/kinds/node-addresses.ts";
import { poolModelOf } from "../model/kinds/pool-model.ts";
import type { Resource } from "../model/resource.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { BirdInput, BirdPeer } from "./configuration.ts";

export interface BirdSources {
  readonly nodes: readonly Resource<"Node">[];
  readonly blocks: readonly Resource<"IPAMBlock">[];
  readonly pools: readonly Resource<"IPPool">[];
}

/** The number of upstream's mesh. */
const AS_NUMBER = 64512;

/** Full mesh: every other Node with an address is a peer. Pools that are disabled still have routes: they only give no new addresses. */
export function birdInputOf(node: string, sources: BirdSources): BirdInput {
  const self = sources.nodes.find((candidate) => candidate.metadata.name === node);
  const peers: BirdPeer[] = [];
  for (const other of sources.nodes) {
    if (other.metadata.name === node) continue;
    const { ipv4, ipv6 } = nodeAddressesOf(other);
    for (const address of [ipv4, ipv6]) if (address !== undefined) peers.push({ node: other.metadata.name, address });
  }
  const blocks: Prefix[] = [];
  const borrowed: Addr[] = [];
  for (const resource of sources.blocks) {
    const block = blockModelOf(resource);
    if (!block.ok) continue;
    if (block.value.node === node) blocks.push(block.value.prefix);
    else for (const held of block.value.allocations) if (held.node === node) borrowed.push(held.addr);
  }
  const pools = sources.pools.flatMap((resource) => {
    const pool = poolModelOf(resource);
    return pool.ok ? [pool.value] : [];
  });
  const addresses = self === undefined ? { ipv4: undefined, ipv6: undefined } : nodeAddressesOf(self);
  return {
    node,
    addresses,
    asNumber: AS_NUMBER,
    peers,
    pools: pools.map(({ prefix }) => prefix),
    unexported: pools.filter(({ exported }) => !exported).map(({ prefix }) => prefix),
    blocks,
    borrowed,
  };
}
