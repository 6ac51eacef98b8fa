/** Tier: converts a Tier to the tier model. Order and action of the built-in ones are fixed. */
import type { Resource } from "../resource.ts";
import { BUILT_IN_TIERS, type TierModel } from "../tier.ts";

export function tierOf({ metadata, spec }: Resource<"Tier">): TierModel {
  const builtIn = BUILT_IN_TIERS.get(metadata.name);
  if (builtIn !== undefined) return builtIn;
  return {
    name: metadata.name,
    order: typeof spec?.order === "number" ? spec.order : Number.POSITIVE_INFINITY,
    otherwise: spec?.defaultAction === "Pass" ? "pass" : "deny",
  };
}
