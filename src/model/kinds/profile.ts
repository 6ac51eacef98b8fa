/** Profile: rules and labels of the endpoints that name it. Upstream: api/pkg/apis/projectcalico/v3/profile.go. */
import type { Infer, Schema } from "../schema/schema.ts";
import { META } from "./common.ts";
import { PROFILE_EGRESS_RULES, PROFILE_INGRESS_RULES } from "./rule.ts";

export const PROFILE_SCHEMA = {
  type: "object",
  description: "Rules and labels of the endpoints that name the profile; its rules decide where no policy does.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        ingress: { ...PROFILE_INGRESS_RULES, description: "The first rule that matches a packet decides." },
        egress: { ...PROFILE_EGRESS_RULES, description: "The first rule that matches a packet decides." },
        labelsToApply: {
          type: "object",
          description: "Labels that endpoints inherit; those of an endpoint itself take precedence.",
          maxProperties: 1024,
          additionalProperties: { type: "string" },
        },
      },
    },
  },
} as const satisfies Schema;

export type ProfileSpec = Infer<(typeof PROFILE_SCHEMA)["properties"]["spec"]>;
