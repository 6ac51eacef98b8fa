/** Tier absence: what to say of a policy that is accepted and names a tier that is not there. */
import { BUILT_IN_TIERS } from "../../tier.ts";
import { TIERED_KINDS, tierOf } from "./tier-removal.ts";

/** The tier that must exist for a policy of the kind with this `spec`; undefined: built in, or the kind has none. */
export function tierNeeded(kind: string, spec: unknown): string | undefined {
  if (!TIERED_KINDS.some((tiered) => tiered === kind)) return undefined;
  const tier = tierOf(spec);
  return BUILT_IN_TIERS.has(tier) ? undefined : tier;
}

export function absentTierAdvice(tier: string): string {
  return `spec.tier: ${JSON.stringify(tier)} does not exist: until it does, the policy comes after all other tiers, and denies what it does not allow`;
}
