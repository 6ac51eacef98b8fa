/** NetworkPolicy: Calico's policy of one namespace. Upstream: api/pkg/apis/projectcalico/v3/networkpolicy.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, SELECTOR, STATUS, withoutGlobal } from "./common.ts";
import { EGRESS_RULES, INGRESS_RULES, PATTERNS } from "./rule.ts";

/** The fields that the policies of one namespace and those of the cluster have in common. */
export const POLICY_PROPERTIES = {
  tier: {
    type: "string",
    description: "The tier that the policy is part of; default when empty.",
    default: "default",
    maxLength: 63,
    pattern: PATTERNS.tier,
  },
  order: {
    type: "number",
    description: "Policies of a tier apply in ascending order, those without one last, equal ones by name.",
  },
  selector: { ...SELECTOR, description: "The endpoints that the policy applies to; all when absent." },
  serviceAccountSelector: {
    ...SELECTOR,
    description: "Restricts the policy to pods whose service account this selects.",
  },
  types: {
    type: "array",
    description: "The directions that the policy applies to. Absent: those whose rules are given, or Ingress.",
    minItems: 1,
    maxItems: 2,
    "x-kubernetes-list-type": "set",
    items: { type: "string", enum: ["Ingress", "Egress"] },
  },
  ingress: { ...INGRESS_RULES, description: "The first rule that matches a packet decides." },
  egress: { ...EGRESS_RULES, description: "The first rule that matches a packet decides." },
  performanceHints: {
    type: "array",
    description: "AssumeNeededOnEveryNode: nodes load the policy before it selects an endpoint of theirs.",
    maxItems: 1,
    "x-kubernetes-list-type": "set",
    items: { type: "string", enum: ["AssumeNeededOnEveryNode"] },
  },
} as const satisfies NonNullable<Schema["properties"]>;

/** Rules about the spec of every policy in a namespace. */
export const POLICY_RULES = withoutGlobal("selector", "serviceAccountSelector");

export const NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of one namespace.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: { type: "object", "x-kubernetes-validations": POLICY_RULES, properties: POLICY_PROPERTIES },
    status: STATUS,
  },
} as const satisfies Schema;

export type NetworkPolicySpec = Infer<(typeof NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
/** `status` of every policy and of tiers. */
export type PolicyStatus = Infer<typeof STATUS>;
export type PolicyType = "Ingress" | "Egress";

/**
 * The directions of a policy that gives no `types`: by presence of the fields, an empty list included. Rules of a direction that is
 * not among them have no effect. Upstream: api/admission/networkpolicy.mutatingadmissionpolicy.yaml.
 */
export function policyTypesOf(spec: {
  readonly types?: readonly PolicyType[];
  readonly ingress?: unknown;
  readonly egress?: unknown;
}): readonly PolicyType[] {
  if (spec.types !== undefined && spec.types.length > 0) return spec.types;
  if (spec.egress === undefined || spec.egress === null) return ["Ingress"];
  return spec.ingress === undefined || spec.ingress === null ? ["Egress"] : ["Ingress", "Egress"];
}
