/** Tiers: those of a cluster in order (POL-26): the built-in ones, those that exist, and last those that only policies name. */
import type { Resource } from "../model/resource.ts";
import type { ClusterPolicy, ClusterTier } from "./cluster.ts";

interface OrderedTier extends ClusterTier {
  readonly order: number;
}

const BUILT_IN: readonly OrderedTier[] = [
  { name: "kube-admin", order: 1_000, otherwise: "pass" },
  { name: "default", order: 1_000_000, otherwise: "deny" },
  { name: "kube-baseline", order: 10_000_000, otherwise: "pass" },
];

export function tiersOf(
  resources: readonly Resource<"Tier">[],
  policies: readonly Pick<ClusterPolicy, "tier">[],
): ClusterTier[] {
  const own = resources
    .filter(({ metadata }) => BUILT_IN.every(({ name }) => name !== metadata.name))
    .map(({ metadata, spec }) => ({
      name: metadata.name,
      order: typeof spec?.order === "number" ? spec.order : Number.POSITIVE_INFINITY,
      otherwise: spec?.defaultAction === "Pass" ? ("pass" as const) : ("deny" as const),
    }));
  const existing = [...BUILT_IN, ...own].sort((a, b) => a.order - b.order || compareText(a.name, b.name));
  const named = new Set(policies.map(({ tier }) => tier));
  const missing = [...named].filter((name) => existing.every((tier) => tier.name !== name)).sort(compareText);
  return [...existing, ...missing.map((name) => ({ name, otherwise: "deny" as const }))];
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
