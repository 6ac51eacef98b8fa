/** Tier: the kind of a group of policies that is evaluated as a whole. Upstream: api/pkg/apis/projectcalico/v3/tier.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META, STATUS } from "./common.ts";

export const TIER_SCHEMA = {
  type: "object",
  description: "A group of policies that is evaluated as a whole, one tier after the other.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        order: {
          type: "number",
          description: "Tiers apply in ascending order, those without one last, equal ones by name.",
        },
        defaultAction: {
          type: "string",
          description: "What happens to a packet that policies of the tier apply to and none decides.",
          enum: ["Deny", "Pass"],
          default: "Deny",
        },
      },
    },
    status: STATUS,
  },
} as const satisfies Schema;

export type TierSpec = Infer<(typeof TIER_SCHEMA)["properties"]["spec"]>;
