/** Describe: verdicts and their reasons in words, for the operator. */
import { assertNever } from "../lib/bug.ts";
import { equal } from "../lib/equal.ts";
import { formatKey, formatName, type Key } from "../model/key.ts";
import type { TraceStep } from "../model/verdict.ts";
import { familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import type { Answer } from "./explain.ts";
import type { HostStage, HostVerdict } from "./hosts.ts";
import { formatTraffic } from "./traffic.ts";
import { formatRule } from "./rule-text.ts";

/** Whether the families have different fates, reasons aside. */
export function familiesDiffer(answers: readonly Answer[]): boolean {
  const fate = (family: number): unknown =>
    answers
      .filter(({ source }) => familyOf(source) === family)
      .map(({ allowed, traffic }) => [allowed, formatTraffic(traffic).replaceAll("icmpv6", "icmp")]);
  const families = new Set(answers.map(({ source }) => familyOf(source)));
  return families.size === 2 && !equal(fate(4), fate(6));
}

/** The verdict and what decided, for the operator: `denied: no ingress rule of NetworkPolicy a/b, which selects it, matched`. */
export function describeVerdict({ action, reason }: Pick<HostVerdict, "action" | "reason">, cluster: Cluster): string {
  const word = action === "allow" ? "allowed" : "denied";
  switch (reason.type) {
    case "rule":
      if (reason.policy.kind === "Profile") return `${word} by profile ${reason.policy.name}`;
      return `${word} by ${describeRule(reason, cluster)}`;
    case "no-rule-matched":
      return `${word}: no ${reason.direction} rule of ${describePolicies(reason.policies)} matched${endOfTier(reason)}${describeErrors(reason.policies, cluster)}`;
    case "end":
      return `${word}: every tier passed it on, and no profile decided`;
    case "not-isolated":
      return `${word}: no policy selects it for ${reason.direction}`;
    case "own-node":
      return `${word}: comes from the pod's own node`;
    case "itself":
      return `${word}: a pod's traffic to itself does not leave it`;
    case "not-a-pod":
      return `${word}: not a pod with a network of its own, so no policy applies here`;
    case "failsafe":
      return `${word}: a failsafe port of the node, which no policy closes`;
    case "endpoint-to-host":
      return `${word}: the node drops what its pods send to it (defaultEndpointToHostAction)`;
    case "no-host-endpoint":
      return `${word}: no host endpoint protects the interface`;
    default:
      return assertNever(reason);
  }
}

/** What rules did before the verdict: `passed by ingress rule 1 of GlobalNetworkPolicy x …`. */
export function describeTrace({ trace = [] }: Pick<HostVerdict, "trace">, cluster: Cluster): string[] {
  return trace.map((step) => `${step.action === "pass" ? "passed" : "logged"} by ${describeRule(step, cluster)}`);
}

/** `at node n1, forward egress (host endpoint h1)`. */
export function describeStage({ node, hook, direction, verdicts }: HostStage): string {
  const names = [...new Set(verdicts.flatMap(({ endpoint }) => endpoint ?? []))];
  const of = names.length === 0 ? "" : ` (host endpoint ${names.join(" or ")})`;
  return `at node ${node}, ${WHERE[hook]} ${direction}${of}`;
}

const WHERE = { untracked: "untracked", "pre-dnat": "pre-DNAT", forward: "forwarded", normal: "host's own" } as const;

/** With the tier and the rule in short where Calico's model has them. */
function describeRule({ policy, direction, index }: Omit<TraceStep, "action">, cluster: Cluster): string {
  const found = cluster.policies.find(({ key }) => formatKey(key) === formatKey(policy));
  const rule = found?.[direction]?.[index];
  const where = `${direction} rule ${index + 1} of ${describeKey(policy)}`;
  if (found === undefined || rule === undefined || policy.kind === "KubernetesNetworkPolicy")
    return `${where} (spec.${direction}[${index}])`;
  if (found.state !== "valid")
    return `${describeKey(policy)} in tier ${found.tier}, which is invalid and denies everything`;
  return `${where} in tier ${found.tier} (spec.${direction}[${index}]: ${formatRule(rule)})`;
}

/** The tier and the text of the rule that decides, for programs. */
export function ruleFacts({ reason }: Pick<HostVerdict, "reason">, cluster: Cluster): { tier?: string; rule?: string } {
  if (reason.type !== "rule") return {};
  const found = cluster.policies.find(({ key }) => formatKey(key) === formatKey(reason.policy));
  const rule = found?.[reason.direction]?.[reason.index];
  return found === undefined || rule === undefined ? {} : { tier: found.tier, rule: formatRule(rule) };
}

function endOfTier({ tier, policies }: { readonly tier: string; readonly policies: readonly Key[] }): string {
  const isPlain = tier === "default" && policies.every(({ kind }) => kind === "KubernetesNetworkPolicy");
  return isPlain ? "" : `, and tier ${tier} denies the rest`;
}

function describePolicies(policies: readonly Key[]): string {
  const kinds = new Set(policies.map(kindName));
  const [kind] = kinds;
  if (policies.length === 1) return `${policies.map(describeKey).join("")}, which selects it,`;
  return kinds.size === 1
    ? `${kind?.replace(/y$/, "ies")} ${policies.map(formatName).join(", ")}, which select it,`
    : `${policies.map(describeKey).join(", ")}, which select it,`;
}

/** `NetworkPolicy shop/web`; Calico's kind of the same name says whose it is. */
export function describeKey(key: Key): string {
  return `${kindName(key)} ${formatName(key)}`;
}

function kindName({ kind }: Key): string {
  if (kind === "KubernetesNetworkPolicy") return "NetworkPolicy";
  return kind === "NetworkPolicy" ? "Calico NetworkPolicy" : kind;
}

/** POL-19, POL-46. */
export function effectOfInvalid({ kind }: Key): string {
  return kind === "KubernetesNetworkPolicy" ? "allows nothing" : "denies everything";
}

function describeErrors(keys: readonly Key[], cluster: Cluster): string {
  const named = new Set(keys.map(formatKey));
  const invalid = cluster.policies.filter((policy) => policy.errors.length > 0 && named.has(formatKey(policy.key)));
  return invalid.map(({ key }) => `; ${formatName(key)} is invalid and ${effectOfInvalid(key)}`).join("");
}
