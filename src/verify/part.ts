/**
 * Part: the part of a cluster that can affect a packet: what its two addresses stand for, and the policies that select one of its ends. The
 * definition gives the same verdicts there as in the whole cluster, and asking it costs no more in a large one.
 */
import type { WorkloadKey } from "../model/endpoint.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import type {
  Cluster,
  ClusterHostEndpoint,
  ClusterNetworkSet,
  ClusterPod,
  ClusterPolicy,
} from "../semantics/cluster.ts";
import { type Endpoint, selects } from "../semantics/match.ts";
import { netIndex } from "./nets.ts";

/** The pods and WorkloadEndpoints that the operator named; undefined for a plain address. */
export interface EndKeys {
  readonly source: WorkloadKey | undefined;
  readonly destination: WorkloadKey | undefined;
}

/** `hosts`: the host endpoints that the packet passes. */
export type PartOf = (
  source: Addr,
  destination: Addr,
  ends: EndKeys,
  hosts?: readonly ClusterHostEndpoint[],
) => Cluster;

/** `maySelect`: whether the policy may be one for the endpoint; by default, whether it is. */
export function indexed(
  cluster: Cluster,
  maySelect: (policy: ClusterPolicy, endpoint: Endpoint) => boolean = selects,
): PartOf {
  const podsAt = byAddress(cluster.pods);
  const hostsAt = byAddress(cluster.hostEndpoints);
  const endpointsAt = byAddress(cluster.endpoints);
  const setsAt = setIndex(cluster.networkSets);
  const byKey = new Map(cluster.pods.map((pod) => [formatKey(pod.key), pod]));
  const byNamespace = Map.groupBy(cluster.policies, ({ namespace }) => namespace);
  /** POL-8: in order of evaluation. */
  const rank = new Map(cluster.policies.map((policy, index) => [policy, index]));
  const selecting = new Map<ClusterPod | ClusterHostEndpoint, readonly ClusterPolicy[]>();
  const policiesOf = (endpoint: Endpoint, of: ClusterPod | ClusterHostEndpoint): readonly ClusterPolicy[] => {
    const known = selecting.get(of);
    if (known !== undefined) return known;
    const own = endpoint.namespace === undefined ? [] : (byNamespace.get(endpoint.namespace) ?? []);
    const found = [...own, ...(byNamespace.get(undefined) ?? [])].filter((policy) => maySelect(policy, endpoint));
    selecting.set(of, found);
    return found;
  };
  return (source, destination, ends, hosts = []) => {
    const both = [source, destination];
    const named = [ends.source, ends.destination].flatMap((key) =>
      key === undefined ? [] : (byKey.get(formatKey(key)) ?? []),
    );
    const pods = new Set([...named, ...both.flatMap((addr) => podsAt.get(addr) ?? [])]);
    const hostEndpoints = new Set([...hosts, ...both.flatMap((addr) => hostsAt.get(addr) ?? [])]);
    const policies = new Set([
      ...[...pods].flatMap((pod) => policiesOf({ is: "pod", ...pod }, pod)),
      ...hosts.flatMap((host) => policiesOf({ is: "host", ...host }, host)),
    ]);
    return {
      ...cluster,
      pods: [...pods],
      hostEndpoints: [...hostEndpoints],
      networkSets: [...new Set(both.flatMap(setsAt))],
      endpoints: [...new Set(both.flatMap((addr) => endpointsAt.get(addr) ?? []))],
      policies: [...policies].sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0)),
    };
  };
}

/** What of many has an address. */
export function byAddress<T extends { readonly addresses: readonly Addr[] }>(
  all: readonly T[],
): ReadonlyMap<Addr, readonly T[]> {
  const found = new Map<Addr, T[]>();
  for (const each of all) for (const addr of new Set(each.addresses)) append(found, addr, each);
  return found;
}

/** POL-44. */
export function setIndex(sets: readonly ClusterNetworkSet[]): (addr: Addr) => readonly ClusterNetworkSet[] {
  const holders = new Map<string, ClusterNetworkSet[]>();
  for (const set of sets) for (const net of new Set(set.nets)) append(holders, net, set);
  const containing = netIndex(sets.flatMap(({ nets }) => nets));
  const known = new Map<Addr, readonly ClusterNetworkSet[]>();
  return (addr) => {
    const found = known.get(addr) ?? [...new Set(containing(addr).flatMap((net) => holders.get(net) ?? []))];
    known.set(addr, found);
    return found;
  };
}

export function append<K, T>(map: Map<K, T[]>, key: K, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

export function isSame(a: Key, b: Key | undefined): boolean {
  return a === b || (b !== undefined && formatKey(a) === formatKey(b));
}
