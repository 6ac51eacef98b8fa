/**
 * Decide: what policy means for one packet at one end. This file is the definition; each function states the numbered rule of
 * docs/semantics.md that it is.
 */
import { invariant } from "../lib/bug.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { TraceStep, Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { parseLegacyPrefix } from "../net/legacy-prefix.ts";
import { prefixContains } from "../net/prefix.ts";
import { protocolByName } from "../net/protocol.ts";
import {
  type Cluster,
  type ClusterHostEndpoint,
  type ClusterPod,
  type ClusterPolicy,
  type ClusterTier,
  type LabelMap,
  podsAt,
  type WrittenRule,
  type WrittenSide,
} from "./cluster.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import type { IPBlock, NetworkPolicyPeer, NetworkPolicyPort } from "kubernetes-types/networking/v1";

/** One end of a packet's path: the endpoint that it leaves (egress) or reaches (ingress). */
export interface End {
  /** A pod that has an address in the cluster, or a host endpoint. */
  readonly endpoint: Key;
  readonly direction: Direction;
  /** POL-31; a pod has `normal` alone, which is what is meant when it is left out. */
  readonly hook?: Hook;
  /** POL-10: a process of the node on which the pod runs sent the packet. */
  readonly fromOwnNode: boolean;
}

/** What policy knows of the endpoint that it is asked for. */
type Endpoint = ({ readonly is: "pod" } & ClusterPod) | ({ readonly is: "host" } & ClusterHostEndpoint);

/** One question: this packet at this hook of this endpoint. */
interface Question {
  readonly cluster: Cluster;
  readonly packet: FlowPacket;
  readonly endpoint: Endpoint;
  readonly direction: Direction;
  readonly hook: Hook;
}

/** POL-7, POL-8, POL-10, POL-26, POL-27. */
export function decide(cluster: Cluster, packet: FlowPacket, end: End): Verdict {
  const { direction, hook = "normal" } = end;
  const question = { cluster, packet, endpoint: endpointNamed(cluster, end.endpoint), direction, hook };
  if (direction === "ingress" && end.fromOwnNode) return { action: "allow", reason: { type: "own-node" } };
  const trace: TraceStep[] = [];
  const verdict = (action: Verdict["action"], reason: Verdict["reason"]): Verdict =>
    trace.length === 0 ? { action, reason } : { action, reason, trace };
  const asked = tiersOf(question);
  for (const { tier, policies } of asked) {
    const outcome = askTier(question, policies, trace);
    if (outcome === "passed") continue;
    if (outcome !== undefined) return verdict(outcome.action, outcome.reason);
    if (otherwiseOf(tier, hook) === "deny") {
      const keys = policies.map(({ key }) => key);
      return verdict("deny", { type: "no-rule-matched", tier: tier.name, policies: keys, direction });
    }
  }
  return verdict(endOf(question), { type: asked.length === 0 && isOpen(question) ? "not-isolated" : "end", direction });
}

function endpointNamed(cluster: Cluster, key: Key): Endpoint {
  const isIt = (other: { readonly key: Key }): boolean => formatKey(other.key) === formatKey(key);
  const pod = cluster.pods.find(isIt);
  if (pod !== undefined) return { is: "pod", ...pod };
  const host = cluster.hostEndpoints.find(isIt);
  invariant(host !== undefined, `${formatKey(key)} has no address`);
  return { is: "host", ...host };
}

/** POL-26: the tiers that have a policy for this hook and direction of the endpoint, in order. */
function tiersOf(question: Question): { readonly tier: ClusterTier; readonly policies: readonly ClusterPolicy[] }[] {
  const { cluster, direction, hook, endpoint } = question;
  return cluster.tiers.flatMap((tier) => {
    const policies = cluster.policies.filter(
      (policy) =>
        policy.tier === tier.name &&
        policy.hooks.includes(hook) &&
        policy[direction] !== undefined &&
        selects(policy, endpoint),
    );
    return policies.length === 0 ? [] : [{ tier, policies }];
  });
}

/** POL-8, POL-27, POL-28: the verdict of the first rule that matches and decides; undefined when there is none. */
function askTier(
  question: Question,
  policies: readonly ClusterPolicy[],
  trace: TraceStep[],
): Verdict | "passed" | undefined {
  const { direction } = question;
  for (const policy of policies) {
    for (const [index, rule] of (policy[direction] ?? []).entries()) {
      if (!matches(question, policy, rule)) continue;
      const where = { policy: policy.key, direction, index };
      if (rule.action === "allow" || rule.action === "deny")
        return { action: rule.action, reason: { type: "rule", ...where } };
      trace.push({ action: rule.action, ...where });
      if (rule.action === "pass") return "passed";
    }
  }
  return undefined;
}

/** POL-31: before translation and before connection tracking, what no rule decided goes on. */
function otherwiseOf(tier: ClusterTier, hook: Hook): ClusterTier["otherwise"] {
  return hook === "pre-dnat" || hook === "untracked" ? "pass" : tier.otherwise;
}

/** POL-7, POL-31: after all tiers a pod is open, and so is a host endpoint but for traffic of the host itself. */
function isOpen({ endpoint, hook }: Question): boolean {
  return endpoint.is === "pod" || hook !== "normal";
}

function endOf(question: Question): Verdict["action"] {
  return isOpen(question) ? "allow" : "deny";
}

/** POL-4, POL-19. */
function selects(policy: ClusterPolicy, endpoint: Endpoint): boolean {
  const namespace = endpoint.is === "pod" ? endpoint.namespace : undefined;
  if (policy.namespace !== undefined && policy.namespace !== namespace) return false;
  return policy.state === "closed-to-all" || matchesLabels(policy.selector, endpoint.labels, "");
}

/** POL-11, POL-29, POL-30: everything that is given must hold. */
function matches(question: Question, policy: ClusterPolicy, rule: WrittenRule): boolean {
  const { packet } = question;
  const { ipVersion, protocol, notProtocol, icmp, notIcmp } = rule;
  if (ipVersion !== undefined && familyOf(packet.source) !== ipVersion) return false;
  if (protocol !== undefined && packet.protocol !== protocol) return false;
  if (notProtocol !== undefined && packet.protocol === notProtocol) return false;
  if (icmp !== undefined && !matchesIcmp(icmp, packet)) return false;
  if (notIcmp !== undefined && matchesIcmp(notIcmp, packet)) return false;
  return (["source", "destination"] as const).every((side) => matchesSide(question, policy, rule[side], side));
}

/** POL-30. */
function matchesIcmp(wanted: NonNullable<WrittenRule["icmp"]>, { protocol, icmp }: FlowPacket): boolean {
  if (protocol !== wanted.protocol || icmp === undefined) return false;
  return (
    (wanted.type === undefined || icmp.type === wanted.type) && (wanted.code === undefined || icmp.code === wanted.code)
  );
}

/** POL-11, POL-29. */
function matchesSide(
  question: Question,
  policy: ClusterPolicy,
  written: WrittenSide,
  side: "source" | "destination",
): boolean {
  const { cluster, packet } = question;
  const addr = packet[side];
  const port = side === "source" ? packet.sourcePort : packet.destinationPort;
  const isPeer = (peer: NetworkPolicyPeer): boolean => matchesPeer(cluster, policy, peer, addr);
  const isPort = (entry: NetworkPolicyPort): boolean =>
    matchesPort(entry, packet, port, () => portHolders(question, policy, written, addr));
  return (
    (written.among ?? []).every((peers) => peers.some(isPeer)) &&
    !(written.notAmong ?? []).some(isPeer) &&
    (written.ports === undefined || written.ports.some(isPort)) &&
    !(written.notPorts ?? []).some(isPort)
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
    : policy.namespace === undefined || pod.namespace === policy.namespace;
  return isThere && matchesLabels(peer.podSelector ?? {}, pod.labels, "");
}

/** POL-14: an exception applies to its own block only. */
function isInBlock(block: IPBlock, addr: Addr): boolean {
  return isInCidr(block.cidr, addr) && !(block.except ?? []).some((cidr) => isInCidr(cidr, addr));
}

function isInCidr(text: string, addr: Addr): boolean {
  const block = parseLegacyPrefix(text);
  return block.ok && prefixContains(block.value.prefix, addr);
}

/** POL-15, POL-16, POL-17, POL-18. */
function matchesPort(
  entry: NetworkPolicyPort,
  packet: FlowPacket,
  found: number | undefined,
  holders: () => readonly ClusterPod[],
): boolean {
  const protocol = protocolByName(entry.protocol ?? "TCP");
  if (packet.protocol !== protocol) return false;
  const { port } = entry;
  if (port === undefined || port === null) return true;
  if (found === undefined) return false;
  if (typeof port === "number") return found >= port && found <= (entry.endPort ?? port);
  return holders().some((pod) =>
    pod.ports.some(
      (own) => own.name === port && protocolByName(own.protocol ?? "TCP") === protocol && own.containerPort === found,
    ),
  );
}

/** POL-17: the pods at the address whose port names count. */
function portHolders(
  { cluster, direction }: Question,
  policy: ClusterPolicy,
  { among = [] }: WrittenSide,
  addr: Addr,
): readonly ClusterPod[] {
  const pods = podsAt(cluster, addr);
  if (direction === "ingress") return pods.filter((pod) => selects(policy, { is: "pod", ...pod }));
  const isAnyone = among.length === 0 || among.some((peers) => peers.some((peer) => peer.ipBlock));
  return isAnyone
    ? pods
    : pods.filter((pod) => among.every((peers) => peers.some((peer) => isPeerPod(policy, peer, pod))));
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
