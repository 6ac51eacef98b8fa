/** GlobalNetworkPolicy: Calico's policy of the whole cluster. Upstream: api/pkg/apis/projectcalico/v3/globalnetworkpolicy.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, SELECTOR, STATUS } from "./common.ts";
import { POLICY_PROPERTIES } from "./network-policy.ts";

export const GLOBAL_POLICY_PROPERTIES = {
  ...POLICY_PROPERTIES,
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

export const GLOBAL_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of the whole cluster.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: { type: "object", properties: GLOBAL_POLICY_PROPERTIES },
    status: STATUS,
  },
} as const satisfies Schema;

export type GlobalNetworkPolicySpec = Infer<(typeof GLOBAL_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
