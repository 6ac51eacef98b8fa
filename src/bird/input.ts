/** Input: derives the input of BIRD's configuration from the calculation's BGP table. */
import type { Bgp } from "../model/bgp.ts";
import { prefixContains } from "../net/prefix.ts";
import type { BirdInput, BirdPeer } from "./configuration.ts";

/** The AS number of upstream's mesh. */
const AS_NUMBER = 64512;

/** Full mesh: every other Node with an address is a peer. Disabled pools still have routes: they only give no new addresses. */
export function birdInputOf(node: string, { addresses, peers, pools, blocks, borrowed, machines }: Bgp): BirdInput {
  const byName = [...peers].sort(([a], [b]) => (a < b ? -1 : 1));
  const own = [...blocks.values()];
  // What is in a block is announced with it.
  const alone = [...machines.values()].flat().filter((addr) => !own.some((block) => prefixContains(block, addr)));
  return {
    node,
    addresses,
    asNumber: AS_NUMBER,
    peers: byName.flatMap(([name, { ipv4, ipv6 }]): BirdPeer[] =>
      [ipv4, ipv6].flatMap((address) => (address === undefined ? [] : [{ node: name, address }])),
    ),
    pools: [...pools.values()].map(({ prefix }) => prefix),
    unexported: [...pools.values()].filter(({ exported }) => !exported).map(({ prefix }) => prefix),
    blocks: [...blocks.values()],
    single: [...new Set([...[...borrowed.values()].flat(), ...alone])],
  };
}
