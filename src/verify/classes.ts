/**
 * Classes: addresses that no policy of a cluster can distinguish: those of pods with the same namespace, labels, ports and node, which are in
 * the same blocks and belong to the same nodes. Two such addresses have the same verdicts as source or destination.
 */
import { type Addr, familyOf } from "../net/addr.ts";
import { parsePrefix, prefixContains } from "../net/prefix.ts";
import { type Cluster, type ClusterPod, rulesOf } from "../semantics/cluster.ts";
import { isPlaceholder } from "./unknowns.ts";

/** The class of an address of the pod or, with undefined, of no pod. */
export type ClassOf = (addr: Addr, pod: ClusterPod | undefined) => string;

export function classifier(cluster: Cluster): ClassOf {
  const prefixes = blocksOf(cluster)
    .map((text) => parsePrefix(text))
    .flatMap((prefix) => (prefix.ok ? [prefix.value] : []));
  const classes = new Map<Addr, string>();
  return (addr, pod) => {
    const known = classes.get(addr);
    if (known !== undefined) return known;
    const blocks = prefixes.map((prefix) => (prefixContains(prefix, addr) ? "1" : "0")).join("");
    const nodes = cluster.nodes.filter(({ addresses }) => addresses.includes(addr)).map(({ name }) => name);
    const found = JSON.stringify([
      familyOf(addr),
      isPlaceholder(addr),
      blocks,
      nodes,
      pod === undefined ? null : [pod.namespace, pod.node, pod.labels, pod.ports],
    ]);
    classes.set(addr, found);
    return found;
  };
}

/** Every block and exception that a policy names, and every net of a network set, once. */
function blocksOf(cluster: Cluster): string[] {
  const sides = rulesOf(cluster).flatMap(({ source, destination }) => [source, destination]);
  const peers = sides.flatMap(({ among = [], notAmong = [] }) => [...among.flat(), ...notAmong]);
  const texts = peers.flatMap((peer) => {
    if ("net" in peer) return [peer.net];
    return "ipBlock" in peer && peer.ipBlock ? [peer.ipBlock.cidr, ...(peer.ipBlock.except ?? [])] : [];
  });
  const sets = cluster.networkSets.flatMap(({ nets }) => nets);
  return [...new Set([...texts, ...sets])];
}
