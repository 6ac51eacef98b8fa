/**
 * AdminNetworkPolicy and BaselineAdminNetworkPolicy: what ClusterNetworkPolicy was before, in the words of v1alpha1.
 * Source: kubernetes-sigs/network-policy-api apis/v1alpha1, the experimental channel.
 */
import type { Infer, Schema } from "../schema/schema.ts";
import { EGRESS_PEER, INGRESS_PEER, ONE_FIELD, PODS, PORT_NUMBER, PRIORITY } from "./cluster-network-policy.ts";
import { META, STATUS } from "./common.ts";
import { LABEL_SELECTOR } from "./label-selector.ts";
import { WORDS } from "./words.ts";

const MOST = 100;
const PROTOCOL = { type: "string", enum: ["TCP", "UDP", "SCTP"], default: "TCP" } as const;

const PORTS = {
  type: "array",
  description: "The packet has one of these as its destination.",
  maxItems: MOST,
  items: {
    type: "object",
    ...ONE_FIELD,
    properties: {
      portNumber: {
        type: "object",
        required: ["port", "protocol"],
        properties: { protocol: PROTOCOL, port: PORT_NUMBER },
      },
      portRange: {
        type: "object",
        required: ["end", "start"],
        properties: { protocol: PROTOCOL, start: PORT_NUMBER, end: PORT_NUMBER },
        "x-kubernetes-validations": [{ rule: "self.start < self.end", message: WORDS.portOrder, fieldPath: ".start" }],
      },
      namedPort: { type: "string" },
    },
  },
} as const satisfies Schema;

const NAME = { type: "string", maxLength: 100 } as const;
const ACTION = { type: "string", enum: ["Allow", "Deny", "Pass"] } as const;
const BASELINE_ACTION = { type: "string", enum: ["Allow", "Deny"] } as const;

const SUBJECT = {
  type: "object",
  description: "The pods that the policy applies to.",
  ...ONE_FIELD,
  properties: { namespaces: LABEL_SELECTOR, pods: PODS },
} as const satisfies Schema;

const RULES = { type: "array", description: "The first rule that matches a packet decides.", maxItems: MOST } as const;
const FROM = { type: "array", minItems: 1, maxItems: MOST, items: INGRESS_PEER } as const;
const TO = { type: "array", minItems: 1, maxItems: MOST, items: EGRESS_PEER } as const;

const NO_NAMED_PORT = {
  rule: "!(self.to.exists(peer, has(peer.networks) || has(peer.nodes) || has(peer.domainNames)) && has(self.ports) && self.ports.exists(port, has(port.namedPort)))",
  message: WORDS.adminNamedPort,
  fieldPath: ".ports",
} as const;

function rules<const A extends Schema>(action: A) {
  return {
    ingress: {
      ...RULES,
      items: {
        type: "object",
        required: ["action", "from"],
        properties: { name: NAME, action, from: FROM, ports: PORTS },
      },
    },
    egress: {
      ...RULES,
      items: {
        type: "object",
        required: ["action", "to"],
        "x-kubernetes-validations": [NO_NAMED_PORT],
        properties: { name: NAME, action, to: TO, ports: PORTS },
      },
    },
  } as const satisfies NonNullable<Schema["properties"]>;
}

export const ADMIN_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of the whole cluster, before all other policies.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["priority", "subject"],
      properties: { priority: PRIORITY, subject: SUBJECT, ...rules(ACTION) },
    },
    status: { ...STATUS, required: ["conditions"] },
  },
} as const satisfies Schema;

export const BASELINE_ADMIN_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of the whole cluster, after all other policies.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": [{ rule: "self.metadata.name == 'default'", message: WORDS.baselineName }],
  properties: {
    ...META,
    spec: { type: "object", required: ["subject"], properties: { subject: SUBJECT, ...rules(BASELINE_ACTION) } },
    status: { ...STATUS, required: ["conditions"] },
  },
} as const satisfies Schema;

export type AdminNetworkPolicySpec = Infer<(typeof ADMIN_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
export type BaselineAdminNetworkPolicySpec = Infer<(typeof BASELINE_ADMIN_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
