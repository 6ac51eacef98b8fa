/**
 * NetworkSet and GlobalNetworkSet: named ranges that rules select by the set's labels.
 * Upstream: api/pkg/apis/projectcalico/v3/{networkset,globalnetworkset}.go.
 */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, MOST_RANGE } from "./common.ts";
import { WORDS } from "./words.ts";

/** More than fit into an object that an API server stores; it bounds the estimated cost of the rules. */
const MOST_NETS = 131_072;

const SPEC = {
  type: "object",
  properties: {
    nets: {
      type: "array",
      description: "Ranges such as 10.0.0.0/24 or fd00::/64; a single address is a range of length 32 or 128.",
      maxItems: MOST_NETS,
      "x-kubernetes-list-type": "set",
      items: {
        type: "string",
        maxLength: MOST_RANGE,
        "x-kubernetes-validations": [{ rule: "isCIDR(self) || isIP(self)", message: WORDS.cidrOrAddress }],
      },
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
