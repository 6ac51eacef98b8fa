/** Journey: both ends of a packet's path (POL-9): the source's egress and the destination's ingress; it arrives if both allow it. */
import type { WorkloadKey } from "../model/endpoint.ts";
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { type Cluster, type ClusterPod, findPod, podsAt } from "./cluster.ts";
import { decide } from "./decide.ts";

export interface Journey {
  readonly egress: Verdict;
  readonly ingress: Verdict;
}

/** The pods at both ends, where an address alone is ambiguous. */
export interface Ends {
  readonly source?: WorkloadKey | undefined;
  readonly destination?: WorkloadKey | undefined;
}

/**
 * Ends that are not given are found by address; where several pods share one (an old owner and a new one), the first that denies
 * decides.
 */
export function journey(cluster: Cluster, packet: FlowPacket, ends: Ends = {}): Journey {
  const sources = podsMeant(cluster, packet.source, ends.source);
  const destinations = podsMeant(cluster, packet.destination, ends.destination);
  if (sources.some((pod) => destinations.includes(pod) && pod.addresses.includes(packet.source)))
    return { egress: ITSELF, ingress: ITSELF };
  return {
    egress: verdictAt(cluster, packet, sources, "egress"),
    ingress: verdictAt(cluster, packet, destinations, "ingress"),
  };
}

/** POL-20. */
const ITSELF: Verdict = { action: "allow", reason: { type: "itself" } };

export function isAllowed({ egress, ingress }: Journey): boolean {
  return egress.action === "allow" && ingress.action === "allow";
}

function podsMeant(cluster: Cluster, addr: Addr, key: WorkloadKey | undefined): readonly ClusterPod[] {
  const pod = key === undefined ? undefined : findPod(cluster, key);
  return pod === undefined ? podsAt(cluster, addr) : [pod];
}

function verdictAt(cluster: Cluster, packet: FlowPacket, pods: readonly ClusterPod[], direction: Direction): Verdict {
  const verdicts = pods.map((pod) =>
    decide(cluster, packet, { endpoint: pod.key, direction, fromOwnNode: isNode(cluster, pod.node, packet.source) }),
  );
  return (
    verdicts.find(({ action }) => action === "deny") ??
    verdicts[0] ?? { action: "allow", reason: { type: "not-a-pod" } }
  );
}

function isNode(cluster: Cluster, name: string, addr: Addr): boolean {
  return cluster.nodes.some((node) => node.name === name && node.addresses.includes(addr));
}
