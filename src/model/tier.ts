/** Tier: a group of policies that is evaluated as a whole, one tier after the other. */
export interface TierModel {
  readonly name: string;
  /** Ascending; Infinity: last. Equal orders are decided by name. */
  readonly order: number;
  /** What happens to a packet that policies of the tier apply to and none decides. */
  readonly otherwise: "deny" | "pass";
}

export const DEFAULT_TIER = "default";

/** Built-in tiers. Source: upstream api/pkg/apis/projectcalico/v3/tier.go. */
export const BUILT_IN_TIERS: ReadonlyMap<string, TierModel> = new Map(
  [
    { name: "kube-admin", order: 1_000, otherwise: "pass" },
    { name: DEFAULT_TIER, order: 1_000_000, otherwise: "deny" },
    { name: "kube-baseline", order: 10_000_000, otherwise: "pass" },
  ].map((tier) => [tier.name, tier as TierModel]),
);
