/**
 * Decide: what Kubernetes NetworkPolicy means for one packet at one end. This file is the definition; each function states the numbered
 * rule of docs/semantics.md that it is.
 */
import { invariant } from "../lib/bug.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { parseLegacyPrefix } from "../net/legacy-prefix.ts";
import { prefixContains } from "../net/prefix.ts";
import { protocolByName } from "../net/protocol.ts";
import { type Cluster, type ClusterPod, type ClusterPolicy, findPod, type LabelMap, podsAt } from "./cluster.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { IPBlock, NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";

/** One end of a packet's way: the pod that sends it (egress) or gets it (ingress). */
export interface End {
  /** Must have an address in the cluster. */
  readonly pod: Key<"Pod">;
  readonly direction: Direction;
  /** POL-10: a process of the node on which the pod runs sent the packet. */
  readonly fromOwnNode: boolean;
}

/** The two lists of a rule of either direction. */
interface WrittenRule {
  readonly peers: readonly NetworkPolicyPeer[];
  readonly ports: readonly NetworkPolicyPort[];
}

/** POL-7, POL-8, POL-10. */
export function decide(cluster: Cluster, packet: FlowPacket, end: End): Verdict {
  const pod = findPod(cluster, end.pod);
  invariant(pod !== undefined, `${formatKey(end.pod)} has no address`);
  const { direction } = end;
  if (direction === "ingress" && end.fromOwnNode) return { action: "allow", reason: { type: "own-node" } };
  const policies = cluster.policies.filter((policy) => hasDirection(policy, direction) && selects(policy, pod));
  if (policies.length === 0) return { action: "allow", reason: { type: "not-isolated", direction } };
  for (const policy of policies) {
    const index = rulesOf(policy, direction).findIndex((rule) => allows(cluster, policy, rule, direction, packet));
    if (index >= 0) return { action: "allow", reason: { type: "rule", policy: policy.key, direction, index } };
  }
  return { action: "deny", reason: { type: "no-rule-matched", policies: policies.map(({ key }) => key), direction } };
}

/** POL-4, POL-19. */
function selects(policy: ClusterPolicy, pod: ClusterPod): boolean {
  if (policy.namespace !== pod.namespace) return false;
  return policy.state === "closed-to-all" || matchesLabels(policy.spec.podSelector, pod.labels, "");
}

/** POL-6, POL-19. */
function hasDirection(policy: ClusterPolicy, direction: Direction): boolean {
  if (policy.state !== "valid") return true;
  const { policyTypes, egress } = policy.spec;
  if (policyTypes && policyTypes.length > 0)
    return policyTypes.includes(direction === "ingress" ? "Ingress" : "Egress");
  return direction === "ingress" || (egress ?? []).length > 0;
}

function rulesOf(policy: ClusterPolicy, direction: Direction): WrittenRule[] {
  if (policy.state !== "valid") return [];
  if (direction === "ingress")
    return (policy.spec.ingress ?? []).map(({ from, ports }) => ({ peers: from ?? [], ports: ports ?? [] }));
  return (policy.spec.egress ?? []).map(({ to, ports }) => ({ peers: to ?? [], ports: ports ?? [] }));
}

/** POL-11: some peer and some port; an empty list is no restriction. */
function allows(
  cluster: Cluster,
  policy: ClusterPolicy,
  rule: WrittenRule,
  direction: Direction,
  packet: FlowPacket,
): boolean {
  const other = direction === "ingress" ? packet.source : packet.destination;
  const isPeer = rule.peers.length === 0 || rule.peers.some((peer) => matchesPeer(cluster, policy, peer, other));
  return (
    isPeer &&
    (rule.ports.length === 0 ||
      rule.ports.some((port) =>
        matchesPort(port, packet, () => portHolders(cluster, policy, rule, direction, packet.destination)),
      ))
  );
}

/** POL-12, POL-14. */
function matchesPeer(cluster: Cluster, policy: ClusterPolicy, peer: NetworkPolicyPeer, addr: Addr): boolean {
  if (peer.ipBlock) return isInBlock(peer.ipBlock, addr);
  return podsAt(cluster, addr).some((pod) => isPeerPod(policy, peer, pod));
}

/** POL-12, POL-13. */
function isPeerPod(policy: ClusterPolicy, peer: NetworkPolicyPeer, pod: ClusterPod): boolean {
  const isThere = peer.namespaceSelector
    ? matchesLabels(peer.namespaceSelector, pod.labels, "pcns.")
    : pod.namespace === policy.namespace;
  return isThere && matchesLabels(peer.podSelector ?? {}, pod.labels, "");
}

/** POL-14: an exception takes away from its own block only. */
function isInBlock(block: IPBlock, addr: Addr): boolean {
  return isInCidr(block.cidr, addr) && !(block.except ?? []).some((cidr) => isInCidr(cidr, addr));
}

function isInCidr(text: string, addr: Addr): boolean {
  const block = parseLegacyPrefix(text);
  return block.ok && prefixContains(block.value.prefix, addr);
}

/** POL-15, POL-16, POL-17, POL-18. */
function matchesPort(entry: NetworkPolicyPort, packet: FlowPacket, holders: () => readonly ClusterPod[]): boolean {
  const protocol = protocolByName(entry.protocol ?? "TCP");
  if (packet.protocol !== protocol) return false;
  const { port } = entry;
  if (port === undefined || port === null) return true;
  const { destinationPort } = packet;
  if (destinationPort === undefined) return false;
  if (typeof port === "number") return destinationPort >= port && destinationPort <= (entry.endPort ?? port);
  return holders().some((pod) =>
    pod.ports.some(
      (own) =>
        own.name === port &&
        protocolByName(own.protocol ?? "TCP") === protocol &&
        own.containerPort === destinationPort,
    ),
  );
}

/** POL-17: the pods at the destination whose port names count. */
function portHolders(
  cluster: Cluster,
  policy: ClusterPolicy,
  rule: WrittenRule,
  direction: Direction,
  destination: Addr,
): readonly ClusterPod[] {
  const pods = podsAt(cluster, destination);
  if (direction === "ingress") return pods.filter((pod) => selects(policy, pod));
  const isAnyone = rule.peers.length === 0 || rule.peers.some((peer) => peer.ipBlock);
  return isAnyone ? pods : pods.filter((pod) => rule.peers.some((peer) => isPeerPod(policy, peer, pod)));
}

/** POL-5; `prefix` stands before the names under which the labels are kept. */
function matchesLabels(selector: LabelSelector | undefined, labels: LabelMap, prefix: string): boolean {
  const valueOf = (key: string): string | undefined =>
    Object.hasOwn(labels, prefix + key) ? labels[prefix + key] : undefined;
  const hasLabels = Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => valueOf(key) === value);
  return (
    hasLabels &&
    (selector?.matchExpressions ?? []).every(({ key, operator, values }) => {
      const value = valueOf(key);
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      const isListed = value !== undefined && (values ?? []).includes(value);
      return operator === "In" ? isListed : !isListed;
    })
  );
}
