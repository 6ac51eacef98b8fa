/**
 * NetworkSet and GlobalNetworkSet: named ranges that rules select by the set's labels.
 * Upstream: api/pkg/apis/projectcalico/v3/{networkset,globalnetworkset}.go.
 */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, MOST_RANGE } from "./common.ts";

const SPEC = {
  type: "object",
  properties: {
    nets: {
      type: "array",
      description: "Ranges such as 10.0.0.0/24 or fd00::/64; a single address is a range of length 32 or 128.",
      "x-kubernetes-list-type": "set",
      items: { type: "string", maxLength: MOST_RANGE },
    },
  },
} as const satisfies Schema;

export const NETWORK_SET_SCHEMA = {
  type: "object",
  description: "Ranges that rules select by the labels of the set, in one namespace.",
  required: ["metadata", "spec"],
  properties: { ...META, spec: SPEC },
} as const satisfies Schema;

export const GLOBAL_NETWORK_SET_SCHEMA = {
  type: "object",
  description: "Ranges that rules select by the labels of the set.",
  required: ["metadata", "spec"],
  properties: { ...META, spec: SPEC },
} as const satisfies Schema;

export type NetworkSetSpec = Infer<typeof SPEC>;
