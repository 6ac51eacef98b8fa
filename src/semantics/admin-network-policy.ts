/** Admin network policy: how an AdminNetworkPolicy or BaselineAdminNetworkPolicy of policy.networking.k8s.io reads: as a ClusterNetworkPolicy in older words (POL-55). */
import {
  validateAdminNetworkPolicy,
  validateBaselineAdminNetworkPolicy,
} from "../model/kinds/validation/admin-network-policy.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { ClusterPolicy } from "./cluster.ts";
import { readClusterSpec } from "./cluster-network-policy.ts";

type Spec = Parameters<typeof readClusterSpec>[1];
type Rule = NonNullable<Spec["egress"]>[number];
type Admin = Resource<"AdminNetworkPolicy">["spec"] | Resource<"BaselineAdminNetworkPolicy">["spec"];

export function readAdminNetworkPolicy(policy: Resource<"AdminNetworkPolicy">): ClusterPolicy {
  const errors = validateAdminNetworkPolicy(policy);
  const key = keyOf("AdminNetworkPolicy", policy);
  const { priority } = policy.spec ?? {};
  return readClusterSpec(key, inNewWords(policy.spec, "Admin", priority, errors.length === 0), errors);
}

export function readBaselineAdminNetworkPolicy(policy: Resource<"BaselineAdminNetworkPolicy">): ClusterPolicy {
  const errors = validateBaselineAdminNetworkPolicy(policy);
  const key = keyOf("BaselineAdminNetworkPolicy", policy);
  return readClusterSpec(key, inNewWords(policy.spec, "Baseline", undefined, errors.length === 0), errors);
}

function inNewWords(spec: Admin, tier: Spec["tier"], priority: number | undefined, isValid: boolean): Spec {
  const { subject, ingress, egress } = spec ?? {};
  if (!isValid) return { tier, priority, subject };
  return {
    tier,
    priority,
    subject,
    ...(ingress === undefined ? {} : { ingress: ingress.map((rule) => ({ ...restOf(rule), from: rule.from })) }),
    ...(egress === undefined ? {} : { egress: egress.map((rule) => ({ ...restOf(rule), to: rule.to })) }),
  };
}

type Written = NonNullable<Admin["egress"]>[number];

function restOf({ action, ports }: Pick<Written, "action" | "ports">): Omit<Rule, "to"> {
  const words = { Allow: "Accept", Deny: "Deny", Pass: "Pass" } as const;
  const protocols = (ports ?? []).map(({ portNumber: one, portRange: many, namedPort: name }) => {
    if (name !== undefined) return { destinationNamedPort: name };
    const protocol = (many?.protocol ?? one?.protocol ?? "TCP").toLowerCase();
    const range = many === undefined ? { number: one?.port ?? 0 } : { range: { start: many.start, end: many.end } };
    return { [protocol]: { destinationPort: range } };
  });
  return { action: words[action], ...(protocols.length === 0 ? {} : { protocols }) };
}
