/**
 * Tier removal: why a Tier may not be deleted. A tier that only policies name is evaluated last: deleting the object of one that has
 * policies would move these behind everything else.
 */
import { BUILT_IN_TIERS, DEFAULT_TIER } from "../../tier.ts";

/** The kinds whose objects name a tier in `spec.tier`. */
export const TIERED_KINDS = [
  "GlobalNetworkPolicy",
  "NetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedNetworkPolicy",
] as const;

/** What of a policy matters here. */
export interface TieredPolicy {
  readonly metadata: { readonly name: string; readonly namespace?: string | undefined };
  readonly spec?: unknown;
}

/** undefined: only the policies in the tier may hold it (`tierHeldBy`). */
export function builtInTierProblem(tier: string): string | undefined {
  return BUILT_IN_TIERS.has(tier) ? "this tier is built in and may not be deleted" : undefined;
}

/** undefined: none of these policies is in the tier. */
export function tierHeldBy(
  tier: string,
  kind: (typeof TIERED_KINDS)[number],
  policies: Iterable<TieredPolicy>,
): string | undefined {
  for (const { metadata, spec } of policies) {
    if (tierOf(spec) !== tier) continue;
    const name = metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
    return `this tier has policies, among them ${kind} ${name}: delete them or move them to another tier first`;
  }
  return undefined;
}

/** The tier that a policy with this `spec` is in. */
export function tierOf(spec: unknown): string {
  const tier = typeof spec === "object" && spec !== null && "tier" in spec ? spec.tier : undefined;
  return typeof tier === "string" && tier !== "" ? tier : DEFAULT_TIER;
}
