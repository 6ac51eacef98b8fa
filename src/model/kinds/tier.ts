/** Tier: the kind of a group of policies that is evaluated as a whole. Upstream: api/pkg/apis/projectcalico/v3/tier.go. */
import type { Infer, Schema, ValidationRule } from "../schema/schema.ts";
import { BUILT_IN_TIERS } from "../tier.ts";
import { META, STATUS } from "./common.ts";
import { builtInTierWords, WORDS } from "./words.ts";

export interface FixedTier {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: "Deny" | "Pass";
}

/** Order and action of the built-in tiers, which cannot be changed. */
export const FIXED_TIERS: readonly FixedTier[] = [...BUILT_IN_TIERS.values()].map(({ name, order, otherwise }) => ({
  name,
  order,
  defaultAction: otherwise === "pass" ? "Pass" : "Deny",
}));

const TIER_RULES: readonly ValidationRule[] = [
  {
    rule: "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    message: WORDS.tierName,
  },
  ...FIXED_TIERS.flatMap(({ name, order, defaultAction }): ValidationRule[] => {
    const words = builtInTierWords(name, order, defaultAction);
    return [
      {
        rule: `self.metadata.name != '${name}' || (has(self.spec.order) && self.spec.order == ${order}.0)`,
        message: words.order,
        fieldPath: ".spec.order",
      },
      {
        rule: `self.metadata.name != '${name}' || (has(self.spec.defaultAction) && self.spec.defaultAction == '${defaultAction}')`,
        message: words.action,
        fieldPath: ".spec.defaultAction",
      },
    ];
  }),
];

export const TIER_SCHEMA = {
  type: "object",
  description: "A group of policies that is evaluated as a whole, one tier after the other.",
  required: ["metadata", "spec"],
  "x-kubernetes-validations": TIER_RULES,
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
