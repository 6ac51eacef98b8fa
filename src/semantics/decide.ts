/**
 * Decide: what policy means for one packet at one end. This file is the definition; each function states the numbered rule of
 * docs/semantics.md that it is.
 */
import { invariant } from "../lib/bug.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { TraceStep, Verdict } from "../model/verdict.ts";
import type { FlowPacket } from "../net/flow.ts";
import type { Applied } from "./applied.ts";
import type { Cluster, ClusterPolicy, ClusterTier } from "./cluster.ts";
import { type Endpoint, matches, type Question, selects } from "./match.ts";

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

/** One question: this packet at this hook of this endpoint. */
interface EndQuestion extends Question {
  readonly endpoint: Endpoint;
  readonly hook: Hook;
}

/** POL-7, POL-8, POL-10, POL-26, POL-27. `applied` is told of the numbered rules that this applies. */
export function decide(cluster: Cluster, packet: FlowPacket, end: End, applied?: Applied): Verdict {
  const verdict = verdictOf(cluster, packet, end, applied);
  if (applied !== undefined) noteVerdict(verdict, applied);
  return verdict;
}

function verdictOf(cluster: Cluster, packet: FlowPacket, end: End, applied: Applied | undefined): Verdict {
  const { direction, hook = "normal" } = end;
  const question = { cluster, packet, endpoint: endpointNamed(cluster, end.endpoint), direction, hook, applied };
  noteEnd(question);
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
  const profile = askProfiles(question, trace);
  if (profile !== undefined && profile !== "passed") return verdict(profile.action, profile.reason);
  return verdict(endOf(question), { type: asked.length === 0 && isOpen(question) ? "not-isolated" : "end", direction });
}

/** What is applied wherever a packet is. */
function noteEnd({ endpoint, hook, packet, applied }: EndQuestion): void {
  if (applied === undefined) return;
  if (endpoint.is === "host") applied.note("POL-31", "POL-49");
  else applied.note(endpoint.profiles === undefined ? "POL-1" : "POL-54");
  if (hook !== "normal") applied.note("POL-31");
  if (packet.source.includes(":")) applied.note("POL-21");
  applied.end(true);
}

function noteVerdict({ reason, trace = [] }: Verdict, applied: Applied): void {
  if (reason.type === "not-isolated") applied.note("POL-7");
  if (reason.type === "own-node") applied.note("POL-10");
  if (reason.type === "rule" && reason.policy.kind === "Profile") applied.note("POL-50");
  for (const { action } of trace) applied.note(action === "pass" ? "POL-27" : "POL-28");
  applied.end(true);
}

/** What makes a policy one that is asked. */
function noteAsked({ key, tier, state }: ClusterPolicy, applied: Applied): void {
  switch (key.kind) {
    case "KubernetesNetworkPolicy":
      applied.note("POL-4", "POL-6", "POL-8");
      break;
    case "ClusterNetworkPolicy":
      applied.note("POL-51", "POL-26");
      break;
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
      applied.note("POL-55", "POL-26");
      break;
    case "Profile":
      applied.note("POL-50");
      break;
    default:
      applied.note("POL-38", "POL-39", "POL-40");
  }
  if (tier !== "default" && tier !== "") applied.note("POL-26");
  if (state !== "valid") applied.note(key.kind === "KubernetesNetworkPolicy" ? "POL-19" : "POL-46");
  applied.end(true);
}

/** It must have an address in the cluster. */
export function endpointNamed(cluster: Cluster, key: Key): Endpoint {
  const isIt = (other: { readonly key: Key }): boolean => formatKey(other.key) === formatKey(key);
  const pod = cluster.pods.find(isIt);
  if (pod !== undefined) return { is: "pod", ...pod };
  const host = cluster.hostEndpoints.find(isIt);
  invariant(host !== undefined, `${formatKey(key)} has no address`);
  return { is: "host", ...host };
}

/** POL-26: the tiers that have a policy for this hook and direction of the endpoint, in order. */
function tiersOf(question: EndQuestion): { readonly tier: ClusterTier; readonly policies: readonly ClusterPolicy[] }[] {
  const { cluster, direction, hook } = question;
  return cluster.tiers.flatMap((tier) => {
    const policies = cluster.policies.filter(
      (policy) =>
        policy.tier === tier.name &&
        policy.hooks.includes(hook) &&
        policy[direction] !== undefined &&
        isSelected(question, policy),
    );
    return policies.length === 0 ? [] : [{ tier, policies }];
  });
}

function isSelected({ endpoint, applied }: EndQuestion, policy: ClusterPolicy): boolean {
  const holds = selects(policy, endpoint, applied);
  applied?.end(holds);
  return holds;
}

/** POL-8, POL-27, POL-28: the verdict of the first rule that matches and decides; undefined when there is none. */
function askTier(
  question: EndQuestion,
  policies: readonly ClusterPolicy[],
  trace: TraceStep[],
): Verdict | "passed" | undefined {
  const { direction, applied } = question;
  for (const policy of policies) {
    if (applied !== undefined) noteAsked(policy, applied);
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

/** POL-50, POL-54: the verdict of the first rule of a profile that matches and decides; at a host endpoint only what the host itself receives and sends is asked of them. */
function askProfiles(question: EndQuestion, trace: TraceStep[]): Verdict | "passed" | undefined {
  const { endpoint, hook } = question;
  return hook === "normal" ? askTier(question, endpoint.profiles ?? [], trace) : undefined;
}

/** POL-31: before translation and before connection tracking, what no rule decided continues. */
function otherwiseOf(tier: ClusterTier, hook: Hook): ClusterTier["otherwise"] {
  return hook === "pre-dnat" || hook === "untracked" ? "pass" : tier.otherwise;
}

/** POL-7, POL-31, POL-54: after all tiers a pod is open, and so is a host endpoint but for traffic of the host itself. */
function isOpen({ endpoint, hook }: EndQuestion): boolean {
  return (endpoint.is === "pod" && endpoint.profiles === undefined) || hook !== "normal";
}

function endOf(question: EndQuestion): Verdict["action"] {
  return isOpen(question) ? "allow" : "deny";
}
