/**
 * Regions: for an address that is not known, one of every region that a rule can tell apart: in the same ranges and network sets as any other of
 * its region. A packet and its part of the cluster are completed with each.
 */
import { type Addr, addrFromInteger, bitsOf, type Family, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { type Prefix, prefixContains, prefixFamily, prefixOfAddr, prefixRange } from "../net/prefix.ts";
import type { Cluster, WrittenRule, WrittenSide } from "../semantics/cluster.ts";
import { netsOfPeer } from "./classes.ts";
import { netIndex } from "./nets.ts";
import { byAddress, setIndex } from "./part.ts";
import { isPlaceholder, NOWHERE } from "./placeholders.ts";

/** The packet, and the part of the cluster, with addresses that are possible. */
export interface Completion {
  readonly cluster: Cluster;
  readonly packet: FlowPacket;
}

export type Regions = (part: Cluster, packet: FlowPacket, rule: WrittenRule) => readonly Completion[];

/** Addresses of one region: one, and a second one where the region has more than one. */
type Region = readonly [Addr, Addr?];

export function regionsOf(whole: Cluster): Regions {
  const setsAt = setIndex(whole.networkSets);
  const setNets = new Set(whole.networkSets.flatMap(({ nets }) => nets));
  const hostsAt = byAddress(whole.hostEndpoints);
  const known = new WeakMap<WrittenSide, Map<string, readonly Region[]>>();
  const compute = (side: WrittenSide, family: Family, isPod: boolean, other: Addr): readonly Region[] => {
    const peers = [...(side.among ?? []).flat(), ...(side.notAmong ?? [])];
    const nets = new Set(peers.flatMap(netsOfPeer));
    if (peers.some((peer) => "selected" in peer)) for (const net of setNets) nets.add(net);
    // Only what has no network of its own can have the address of a host endpoint.
    if (!isPod) for (const addr of hostsAt.keys()) nets.add(prefixOfAddr(addr));
    if (!isPlaceholder(other)) nets.add(prefixOfAddr(other));
    return onePerRegion(nets, family).filter(([addr]) => addr !== other);
  };
  const regions = (side: WrittenSide, addr: Addr, isPod: boolean, other: Addr): readonly Region[] => {
    if (!isPlaceholder(addr)) return [[addr]];
    const ofSide = known.get(side) ?? new Map<string, readonly Region[]>();
    known.set(side, ofSide);
    const name = `${familyOf(addr)} ${isPod} ${isPlaceholder(other) ? "" : other}`;
    const found = ofSide.get(name) ?? compute(side, familyOf(addr), isPod, other);
    ofSide.set(name, found);
    return found;
  };
  return (part, packet, rule) => {
    const { source, destination } = packet;
    if (!isPlaceholder(source) && !isPlaceholder(destination)) return [{ cluster: part, packet }];
    const isPod = (addr: Addr): boolean => part.pods.some(({ addresses }) => addresses.includes(addr));
    const targets = regions(rule.destination, destination, isPod(destination), source);
    return regions(rule.source, source, isPod(source), destination).flatMap((from) =>
      targets.flatMap((to) => {
        const pair = distinct(from, to);
        return pair === undefined ? [] : [completed(part, packet, pair)];
      }),
    );
  };

  function completed(part: Cluster, packet: FlowPacket, [from, to]: readonly [Addr, Addr]): Completion {
    const { source, destination } = packet;
    const put = (addr: Addr): Addr => (addr === source ? from : addr === destination ? to : addr);
    const placed = <T extends { readonly addresses: readonly Addr[] }>(each: T): T => ({
      ...each,
      addresses: each.addresses.map(put),
    });
    const pods = part.pods.map(placed);
    const hosts = [from, to].flatMap((addr) =>
      pods.some(({ addresses }) => addresses.includes(addr)) ? [] : (hostsAt.get(addr) ?? []),
    );
    const cluster = {
      ...part,
      pods,
      endpoints: part.endpoints.map(placed),
      networkSets: [...new Set([...setsAt(from), ...setsAt(to)])],
      hostEndpoints: [...new Set([...part.hostEndpoints, ...hosts])],
    };
    return { cluster, packet: { ...packet, source: from, destination: to } };
  }
}

/** Two parties do not have one address; undefined where their regions are one address. */
function distinct([from, nextFrom]: Region, [to, nextTo]: Region): readonly [Addr, Addr] | undefined {
  if (from !== to) return [from, to];
  if (nextTo !== undefined) return [from, nextTo];
  return nextFrom === undefined ? undefined : [nextFrom, to];
}

/** For each set of ranges that some address of the family is in, where a pod or node may be, the lowest. */
function onePerRegion(nets: ReadonlySet<Prefix>, family: Family): Region[] {
  const own = [...nets].filter((net) => prefixFamily(net) === family);
  const last = (1n << BigInt(bitsOf(family))) - 1n;
  const starts = new Set<bigint>([0n]);
  for (const net of [...own, ...NOWHERE[family]]) {
    const range = prefixRange(net);
    starts.add(range.first);
    starts.add(range.last + 1n);
  }
  const containing = netIndex(own);
  const found = new Map<string, Region>();
  const add = (value: bigint): void => {
    if (value > last) return;
    const addr = addrFromInteger(family, value);
    if (NOWHERE[family].some((net) => prefixContains(net, addr))) return;
    const region = containing(addr).join(" ");
    const known = found.get(region);
    if (known === undefined) found.set(region, [addr]);
    else if (known[1] === undefined && known[0] !== addr) found.set(region, [known[0], addr]);
  };
  for (const start of [...starts].sort((a, b) => (a < b ? -1 : 1))) {
    add(start);
    add(start + 1n);
  }
  return [...found.values()];
}
