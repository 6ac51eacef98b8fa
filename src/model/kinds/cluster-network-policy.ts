/**
 * ClusterNetworkPolicy: Kubernetes' policy of the whole cluster, in a tier before or after all others.
 * Source: kubernetes-sigs/network-policy-api apis/v1alpha2, the experimental channel.
 */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, STATUS } from "./common.ts";
import { LABEL_SELECTOR } from "./label-selector.ts";
import { WORDS } from "./words.ts";

const MOST = 25;
export const ONE_FIELD = { minProperties: 1, maxProperties: 1 } as const;

export const PODS = {
  type: "object",
  required: ["podSelector"],
  properties: { namespaceSelector: LABEL_SELECTOR, podSelector: LABEL_SELECTOR },
} as const satisfies Schema;

export const PORT_NUMBER = { type: "integer", format: "int32", minimum: 1, maximum: 65535 } as const;
const PORTS = {
  type: "object",
  minProperties: 1,
  properties: {
    destinationPort: {
      type: "object",
      ...ONE_FIELD,
      properties: {
        number: PORT_NUMBER,
        range: {
          type: "object",
          required: ["end", "start"],
          properties: { start: PORT_NUMBER, end: PORT_NUMBER },
          "x-kubernetes-validations": [
            { rule: "self.start < self.end", message: WORDS.portOrder, fieldPath: ".start" },
          ],
        },
      },
    },
  },
} as const satisfies Schema;

const RULE_PROPERTIES = {
  name: { type: "string", maxLength: 100 },
  action: { type: "string", enum: ["Accept", "Deny", "Pass"] },
  protocols: {
    type: "array",
    description: "The packet is of one of these.",
    minItems: 1,
    maxItems: MOST,
    items: {
      type: "object",
      ...ONE_FIELD,
      properties: { tcp: PORTS, udp: PORTS, sctp: PORTS, destinationNamedPort: { type: "string" } },
    },
  },
} as const satisfies NonNullable<Schema["properties"]>;

export const PRIORITY = {
  type: "integer",
  description: "Policies of a tier apply in ascending priority.",
  format: "int32",
  minimum: 0,
  maximum: 1000,
} as const satisfies Schema;

export const INGRESS_PEER = {
  type: "object",
  ...ONE_FIELD,
  properties: { namespaces: LABEL_SELECTOR, pods: PODS },
} as const satisfies Schema;

export const EGRESS_PEER = {
  type: "object",
  ...ONE_FIELD,
  properties: {
    namespaces: LABEL_SELECTOR,
    pods: PODS,
    nodes: LABEL_SELECTOR,
    networks: {
      type: "array",
      minItems: 1,
      maxItems: MOST,
      "x-kubernetes-list-type": "set",
      items: {
        type: "string",
        maxLength: 43,
        "x-kubernetes-validations": [{ rule: "isCIDR(self)", message: WORDS.cidr }],
      },
    },
    domainNames: {
      type: "array",
      minItems: 1,
      maxItems: MOST,
      "x-kubernetes-list-type": "set",
      items: {
        type: "string",
        pattern: "^(\\*\\.)?([a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.)+[a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.?$",
      },
    },
  },
} as const satisfies Schema;

export const CLUSTER_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "Policy of the whole cluster, before or after all other policies.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      required: ["priority", "subject", "tier"],
      properties: {
        tier: {
          type: "string",
          description: "Admin: before all other policies. Baseline: after them.",
          enum: ["Admin", "Baseline"],
        },
        priority: PRIORITY,
        subject: {
          type: "object",
          description: "The pods that the policy applies to.",
          ...ONE_FIELD,
          properties: { namespaces: LABEL_SELECTOR, pods: PODS },
        },
        ingress: {
          type: "array",
          description: "The first rule that matches a packet decides.",
          maxItems: MOST,
          items: {
            type: "object",
            required: ["action", "from"],
            properties: {
              ...RULE_PROPERTIES,
              from: { type: "array", minItems: 1, maxItems: MOST, items: INGRESS_PEER },
            },
          },
        },
        egress: {
          type: "array",
          description: "The first rule that matches a packet decides.",
          maxItems: MOST,
          items: {
            type: "object",
            required: ["action", "to"],
            "x-kubernetes-validations": [
              {
                rule: "!(self.to.exists(peer, has(peer.networks) || has(peer.nodes) || has(peer.domainNames)) && has(self.protocols) && self.protocols.exists(protocol, has(protocol.destinationNamedPort)))",
                message: WORDS.namedPortPeers,
                fieldPath: ".protocols",
              },
            ],
            properties: { ...RULE_PROPERTIES, to: { type: "array", minItems: 1, maxItems: MOST, items: EGRESS_PEER } },
          },
        },
      },
    },
    status: { ...STATUS, required: ["conditions"] },
  },
} as const satisfies Schema;

export type ClusterNetworkPolicySpec = Infer<(typeof CLUSTER_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
