/**
 * Rule: one rule of a policy or profile, and EntityRule, one side of the packets that it matches.
 * Upstream: api/pkg/apis/projectcalico/v3/policy_common.go.
 */
import type { Infer, Schema } from "../schema/schema.ts";
import { MOST_NAME, MOST_RANGE, SELECTOR } from "./common.ts";

export const PROTOCOL_NAMES = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"] as const;
/** Most rules of one direction. */
export const MOST_RULES = 1024;

const PROTOCOL = { "x-kubernetes-int-or-string": true } as const satisfies Schema;
const PORTS = {
  type: "array",
  maxItems: 50,
  "x-kubernetes-list-type": "atomic",
  items: { "x-kubernetes-int-or-string": true },
} as const satisfies Schema;
const NETS = {
  type: "array",
  maxItems: 256,
  "x-kubernetes-list-type": "set",
  items: { type: "string", maxLength: MOST_RANGE },
} as const satisfies Schema;
const NAME = { type: "string", maxLength: MOST_NAME } as const satisfies Schema;

const ICMP = {
  type: "object",
  properties: {
    type: { type: "integer", description: "Every type when absent.", minimum: 0, maximum: 254 },
    code: { type: "integer", description: "Every code when absent.", minimum: 0, maximum: 255 },
  },
} as const satisfies Schema;

export const ENTITY_RULE = {
  type: "object",
  properties: {
    nets: { ...NETS, description: "The address is in one of these ranges." },
    notNets: { ...NETS, description: "The address is in none of these ranges." },
    selector: { ...SELECTOR, description: "The address is one of an endpoint or network set that this selects." },
    notSelector: { ...SELECTOR, description: "The address is none of an endpoint or network set that this selects." },
    namespaceSelector: {
      ...SELECTOR,
      description: "Restricts the selectors to namespaces; global() restricts them to what is in no namespace.",
    },
    ports: { ...PORTS, description: "The port is one of these: numbers, ranges such as 80:90, or names." },
    notPorts: { ...PORTS, description: "The port is none of these." },
    serviceAccounts: {
      type: "object",
      description: "The address is one of a pod with one of these service accounts.",
      properties: {
        names: { type: "array", maxItems: 256, "x-kubernetes-list-type": "set", items: NAME },
        selector: SELECTOR,
      },
    },
    services: {
      type: "object",
      description: "The address is one of the Service's endpoints.",
      properties: {
        name: NAME,
        namespace: { ...NAME, description: "The policy's own namespace when absent." },
      },
    },
  },
} as const satisfies Schema;

export const RULE = {
  type: "object",
  required: ["action"],
  properties: {
    action: { type: "string", enum: ["Allow", "Deny", "Log", "Pass"] },
    ipVersion: { type: "integer", enum: [4, 6] },
    protocol: { ...PROTOCOL, description: "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1 to 255." },
    notProtocol: { ...PROTOCOL, description: "Every protocol but this one." },
    icmp: ICMP,
    notICMP: ICMP,
    source: ENTITY_RULE,
    destination: ENTITY_RULE,
    http: {
      type: "object",
      properties: {
        methods: {
          type: "array",
          maxItems: 20,
          "x-kubernetes-list-type": "atomic",
          items: { type: "string", maxLength: 1024 },
        },
        paths: {
          type: "array",
          maxItems: 20,
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            properties: { exact: { type: "string", maxLength: 1024 }, prefix: { type: "string", maxLength: 1024 } },
          },
        },
      },
    },
    metadata: {
      type: "object",
      properties: { annotations: { type: "object", additionalProperties: { type: "string" } } },
    },
  },
} as const satisfies Schema;

export const RULES = {
  type: "array",
  maxItems: MOST_RULES,
  "x-kubernetes-list-type": "atomic",
  items: RULE,
} as const satisfies Schema;

export type Rule = Infer<typeof RULE>;
export type EntityRule = Infer<typeof ENTITY_RULE>;
