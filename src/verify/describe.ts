/** Describe: verdicts and their reasons in words, for the operator. */
import { assertNever } from "../lib/bug.ts";
import { equal } from "../lib/equal.ts";
import { formatKey, formatName, type Key } from "../model/key.ts";
import type { Verdict } from "../model/verdict.ts";
import { familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import type { Answer } from "./explain.ts";

/** Whether the families have different fates, reasons aside. */
export function familiesDiffer(answers: readonly Answer[]): boolean {
  const fate = (family: number): unknown =>
    answers.filter(({ source }) => familyOf(source) === family).map(({ allowed, traffic }) => [allowed, traffic]);
  const families = new Set(answers.map(({ source }) => familyOf(source)));
  return families.size === 2 && !equal(fate(4), fate(6));
}

/** The verdict and what decided, for the operator: `denied: no ingress rule of NetworkPolicy a/b, which selects it, matched`. */
export function describeVerdict({ action, reason }: Verdict, cluster: Cluster): string {
  const word = action === "allow" ? "allowed" : "denied";
  switch (reason.type) {
    case "rule":
      return `${word} by ${reason.direction} rule ${reason.index + 1} of ${describeKey(reason.policy)} (spec.${reason.direction}[${reason.index}])`;
    case "no-rule-matched":
      return `${word}: no ${reason.direction} rule of ${describePolicies(reason.policies)} matched${describeErrors(reason.policies, cluster)}`;
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
    default:
      return assertNever(reason);
  }
}

function describePolicies(policies: readonly Key[]): string {
  const names = policies.map(formatName).join(", ");
  return policies.length === 1
    ? `NetworkPolicy ${names}, which selects it,`
    : `NetworkPolicies ${names}, which select it,`;
}

function describeKey(key: Key): string {
  return `${key.kind === "KubernetesNetworkPolicy" ? "NetworkPolicy" : key.kind} ${formatName(key)}`;
}

function describeErrors(keys: readonly Key[], cluster: Cluster): string {
  const named = new Set(keys.map(formatKey));
  const invalid = cluster.policies.filter((policy) => policy.errors.length > 0 && named.has(formatKey(policy.key)));
  return invalid.map(({ key }) => `; ${formatName(key)} is invalid and allows nothing`).join("");
}
