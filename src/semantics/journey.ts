/** Journey: both ends of a packet's way (POL-9): the source's egress and the destination's ingress; it arrives if both allow it. */
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { type Cluster, podsAt } from "./cluster.ts";
import { decide } from "./decide.ts";

export interface Journey {
  readonly egress: Verdict;
  readonly ingress: Verdict;
}

/** The ends are found by address; where several pods share one (an old owner and a new one), the first that denies speaks for all. */
export function journey(cluster: Cluster, packet: FlowPacket): Journey {
  return { egress: verdictAt(cluster, packet, packet.source, "egress"), ingress: verdictAt(cluster, packet, packet.destination, "ingress") };
}

export function isAllowed({ egress, ingress }: Journey): boolean {
  return egress.action === "allow" && ingress.action === "allow";
}

function verdictAt(cluster: Cluster, packet: FlowPacket, addr: Addr, direction: Direction): Verdict {
  const verdicts = podsAt(cluster, addr).map((pod) => decide(cluster, packet, { pod: pod.key, direction, fromOwnNode: isNode(cluster, pod.node, packet.source) }));
  return verdicts.find(({ action }) => action === "deny") ?? verdicts[0] ?? { action: "allow", reason: { type: "not-a-pod" } };
}

function isNode(cluster: Cluster, name: string, addr: Addr): boolean {
  return cluster.nodes.some((node) => node.name === name && node.addresses.includes(addr));
}
