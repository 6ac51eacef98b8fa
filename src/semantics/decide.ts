/**
 * Decide: what policy means for one packet at one end. This file is the definition; each function states the numbered rule of
 * docs/semantics.md that it is.
 */
import { invariant } from "../lib/bug.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { TraceStep, Verdict } from "../model/verdict.ts";
import type { FlowPacket } from "../net/flow.ts";
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
  const profile = askProfiles(question, trace);
  if (profile !== undefined && profile !== "passed") return verdict(profile.action, profile.reason);
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
function tiersOf(question: EndQuestion): { readonly tier: ClusterTier; readonly policies: readonly ClusterPolicy[] }[] {
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
  question: EndQuestion,
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
