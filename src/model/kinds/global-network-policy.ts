/** GlobalNetworkPolicy: Calico's policy of the whole cluster. Upstream: api/pkg/apis/projectcalico/v3/globalnetworkpolicy.go. */
import type { Infer, Schema, ValidationRule } from "../schema/schema.ts";
import { META, SELECTOR, STATUS, withoutGlobal } from "./common.ts";
import { POLICY_PROPERTIES, POLICY_RULES } from "./network-policy.ts";
import { GLOBAL_EGRESS_RULES, GLOBAL_INGRESS_RULES } from "./rule.ts";
import { WORDS } from "./words.ts";

export const GLOBAL_POLICY_PROPERTIES = {
  ...POLICY_PROPERTIES,
  ingress: { ...GLOBAL_INGRESS_RULES, description: "The first rule that matches a packet decides." },
  egress: { ...GLOBAL_EGRESS_RULES, description: "The first rule that matches a packet decides." },
  namespaceSelector: { ...SELECTOR, description: "Restricts the policy to pods of the namespaces that this selects." },
  applyOnForward: {
    type: "boolean",
    description: "True: at host endpoints the policy applies also to what the host forwards.",
  },
  doNotTrack: {
    type: "boolean",
    description: "True: at host endpoints the policy applies before connection tracking.",
  },
  preDNAT: {
    type: "boolean",
    description: "True: at host endpoints the policy applies before destinations are translated.",
  },
} as const satisfies NonNullable<Schema["properties"]>;

const is = (field: "applyOnForward" | "doNotTrack" | "preDNAT"): string => `(has(self.${field}) && self.${field})`;

/** Rules about the spec of every policy of the cluster. */
export const GLOBAL_POLICY_RULES: readonly ValidationRule[] = [
  ...POLICY_RULES,
  ...withoutGlobal("namespaceSelector"),
  {
    rule: `!${is("doNotTrack")} || !${is("preDNAT")}`,
    message: WORDS.untrackedOrPreDnat,
    reason: "FieldValueForbidden",
    fieldPath: ".preDNAT",
  },
  {
    rule: `!${is("preDNAT")} || !has(self.egress) || size(self.egress) == 0`,
    message: WORDS.preDnatEgress,
    reason: "FieldValueForbidden",
    fieldPath: ".egress",
  },
  {
    rule: `!${is("preDNAT")} || !has(self.types) || !self.types.exists(type, type == 'Egress')`,
    message: WORDS.preDnatTypes,
    reason: "FieldValueForbidden",
    fieldPath: ".types",
  },
  {
    rule: `${is("applyOnForward")} || !(${is("doNotTrack")} || ${is("preDNAT")})`,
    message: WORDS.forward,
    fieldPath: ".applyOnForward",
  },
];

export const GLOBAL_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of the whole cluster.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: { type: "object", "x-kubernetes-validations": GLOBAL_POLICY_RULES, properties: GLOBAL_POLICY_PROPERTIES },
    status: STATUS,
  },
} as const satisfies Schema;

export type GlobalNetworkPolicySpec = Infer<(typeof GLOBAL_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
