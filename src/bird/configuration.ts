/**
 * Configuration: the text of bird.conf for one node, for BIRD 2.0. Pure.
 *
 * The node originates its own blocks, and one route for each address that it borrowed from another node's block or that a machine of it has. From the other nodes
 * it accepts prefixes inside the cluster's pools that cover none of its own blocks. Only routes learned by BGP go to the kernel; nothing
 * is read from it. BIRD does not create the kernel's blackholes for the node's own blocks.
 *
 * Times. A peer whose process ends closes its connection; one that disappears silently (a dead node) is detected when the hold time
 * ends, after at most 15 s. Its routes are then stale for 20 s, enough for a supervisor to restart it, and are withdrawn if it is not
 * back by then: those of a dead node within 35 s. This is long-lived graceful restart (RFC 9494) with a restart time of 0. Ordinary
 * graceful restart must drop stale routes when the peer ends again before it has announced its routes (RFC 4724 §4.2), which costs some
 * 5 s without them. So BIRD may die any number of times if its session is back within 20 s each time. A peer that does not support
 * RFC 9494 (BIRD before 2.0.8) drops our routes as soon as our BIRD ends.
 *
 * BIRD must be started with `-R`: it then keeps the kernel's routes of its previous run until its peers have announced theirs, or for
 * 20 s at most. Two that start at the same time do not wait for each other (RFC 4724 §4.1): routes between them can be missing for a
 * moment until they are announced again.
 * Source: https://bird.network.cz/?get_doc&v=20
 */
import { type Addr, addrFromInteger, bitsOf, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { type Prefix, prefixAddr, prefixContains, prefixFamily, prefixLength } from "../net/prefix.ts";
import { fnv32 } from "../lib/fnv.ts";

export interface BirdInput {
  /** Name of this node. */
  readonly node: string;
  /** This node's address of each family; without one there are no sessions of the family. */
  readonly addresses: { readonly ipv4: Addr | undefined; readonly ipv6: Addr | undefined };
  readonly asNumber: number;
  readonly peers: readonly BirdPeer[];
  /** Ranges in which peers may announce routes. */
  readonly pools: readonly Prefix[];
  /** Ranges in which this node announces nothing. */
  readonly unexported: readonly Prefix[];
  /** Blocks that this node owns. */
  readonly blocks: readonly Prefix[];
  /** Addresses that are announced one by one: borrowed from blocks that the node does not own, and of machines. */
  readonly single: readonly Addr[];
}

export interface BirdPeer {
  readonly node: string;
  readonly address: Addr;
}

const HOLD_TIME_S = 15;
const STALE_TIME_S = 20;

/**
 * Kernel metric of learned routes: the node's own route to the same destination (metric 0, or 1024, the kernel's default for IPv6)
 * takes precedence.
 */
const METRIC = 2048;

export function renderBirdConfiguration(input: BirdInput): string {
  const sections = [
    header(input),
    ...FAMILIES.flatMap((family) => [origin(input, family), importFilter(input, family)]),
    ...sessions(input),
  ];
  return `${sections.join("\n\n")}\n`;
}

/** The node's IPv4 address, or a 32-bit hash of its name where there is none (RFC 6286 allows any number but 0). */
export function routerId(input: Pick<BirdInput, "node" | "addresses">): Addr {
  return input.addresses.ipv4 ?? addrFromInteger(4, BigInt(fnv32(input.node) || 1));
}

/** `Mesh_10_0_0_1`, `Mesh_fd00__1`. */
function sessionName(address: Addr): string {
  return `Mesh_${address.replace(/[.:]/g, "_")}`;
}

function header(input: BirdInput): string {
  return `# BIRD configuration of node ${quotable(input.node)}: generated, changes are lost.
router id ${routerId(input)};
timeformat protocol iso long;
graceful restart wait ${STALE_TIME_S};

protocol device {
  scan time 5;
}

# The subnets of this node's interfaces: they resolve the next hops of learned routes.
protocol direct {
  ipv4;
  ipv6;
  interface -"cali*", "*";
}

${FAMILIES.map(kernel).join("\n\n")}`;
}

function kernel(family: Family): string {
  return `protocol kernel kernel${family} {
  persist;
  scan time 10;
  metric ${METRIC};
  graceful restart on;
  ipv${family} {
    import none;
    export where source = RTS_BGP && dest = RTD_UNICAST;
  };
}`;
}

function origin(input: BirdInput, family: Family): string {
  const isExported = (addr: Addr): boolean => !input.unexported.some((range) => prefixContains(range, addr));
  const blocks = input.blocks
    .filter((block) => prefixFamily(block) === family && isExported(prefixAddr(block)))
    .map((block) => `  route ${block} blackhole;`);
  const single = input.single
    .filter((addr) => familyOf(addr) === family && isExported(addr))
    .map((addr) => `  route ${addr}/${bitsOf(family)} blackhole;`);
  return `# What this node announces: its blocks, then single addresses: borrowed from blocks of others, and of machines.
protocol static own${family} {
  ipv${family};
${[...blocks.sort(), ...single.sort()].map((line) => `${line}\n`).join("")}}`;
}

function importFilter(input: BirdInput, family: Family): string {
  const own = input.blocks.filter((block) => prefixFamily(block) === family).sort();
  const pools = input.pools.filter((pool) => prefixFamily(pool) === family).sort();
  const lines = [
    ...(own.length === 0
      ? []
      : [
          `  if net ~ [ ${own.map((block) => (prefixLength(block) === 0 ? block : `${block}-`)).join(", ")} ] then reject;`,
        ]),
    ...(pools.length === 0 ? [] : [`  if net ~ [ ${pools.map((pool) => `${pool}+`).join(", ")} ] then accept;`]),
    "  reject;",
  ];
  return `filter mesh_import${family} {\n${lines.join("\n")}\n}`;
}

function sessions(input: BirdInput): string[] {
  const texts: string[] = [];
  for (const family of FAMILIES) {
    const own = family === 4 ? input.addresses.ipv4 : input.addresses.ipv6;
    if (own === undefined) continue;
    const peers = input.peers.filter((peer) => familyOf(peer.address) === family && peer.address !== own);
    // Two nodes with one address are an error of the cluster, for which BIRD would refuse the whole file.
    const byAddress = new Map(peers.map((peer) => [peer.address, peer]));
    const sorted = [...byAddress.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
    for (const peer of sorted) texts.push(session(input.asNumber, own, peer, family));
  }
  return texts;
}

/** The side whose peer has the greater address as a string is passive, so that only one connection is made. */
function session(asNumber: number, own: Addr, peer: BirdPeer, family: Family): string {
  return `protocol bgp ${sessionName(peer.address)} {
  description "node ${quotable(peer.node)}";
  local ${own} as ${asNumber};
  neighbor ${peer.address} as ${asNumber};
  multihop;
  passive ${peer.address > own ? "on" : "off"};
  hold time ${HOLD_TIME_S};
  keepalive time ${HOLD_TIME_S / 3};
  connect delay time 1;
  connect retry time 5;
  error wait time 1, 5;
  graceful restart on;
  graceful restart time 0;
  long lived graceful restart on;
  long lived stale time ${STALE_TIME_S};
  ipv${family} {
    import filter mesh_import${family};
    export where source = RTS_STATIC;
    next hop self;
  };
}`;
}

/** Removes what could end a comment or a string; node names are DNS names. */
function quotable(text: string): string {
  return text.replace(/[^A-Za-z0-9._-]/g, "?");
}
