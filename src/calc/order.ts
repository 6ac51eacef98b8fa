/** Order: for each endpoint of this node, what each direction runs: tiers, their policies in order, and the end. */
import type { KeyText } from "../model/key.ts";
import type { Direction, Hook, PolicyModel } from "../model/policy.ts";
import { BUILT_IN_TIERS, type TierModel } from "../model/tier.ts";
import { policyIdOf } from "../program/lower-rule.ts";
import type { Stage } from "../program/policy.ts";
import type { Delta, Endpoint, EndpointId, Stages } from "../program/program.ts";
import type { Matches } from "./matches.ts";

/** Ascending order, then the text `name/namespace/kind`. */
export function comparePolicies(a: PolicyModel, b: PolicyModel): number {
  return a.order - b.order || compareText(tieText(a), tieText(b));
}

function tieText({ key }: PolicyModel): string {
  return `${key.name}/${key.namespace ?? ""}/${key.kind}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Before translation and before connection tracking, what no rule decided goes on: nothing else would get through. */
const PASSING_HOOKS: readonly Hook[] = ["pre-dnat", "untracked"];

/**
 * The stage of an endpoint that these policies select. A tier without a policy for the hook and direction does not exist; with none at all
 * the endpoint is not isolated. Of a host endpoint's own traffic nothing passes that no rule allows.
 */
export function stageOf(
  policies: readonly PolicyModel[],
  tiers: ReadonlyMap<string, TierModel>,
  where: { readonly kind: Endpoint["kind"]; readonly hook: Hook; readonly direction: Direction },
): Stage {
  const { kind, hook, direction } = where;
  const concerned = policies.filter((policy) => policy[direction] !== undefined && policy.hooks.includes(hook));
  const byTier = new Map<string, PolicyModel[]>();
  for (const policy of concerned.sort(comparePolicies))
    byTier.set(policy.tier, [...(byTier.get(policy.tier) ?? []), policy]);
  const sorted = [...byTier].map(([name, members]) => ({ tier: tierNamed(name, tiers), members }));
  sorted.sort((a, b) => a.tier.order - b.tier.order || compareText(a.tier.name, b.tier.name));
  return {
    tiers: sorted.map(({ tier, members }) => ({
      tier: tier.name,
      policies: members.map(policyIdOf),
      otherwise: PASSING_HOOKS.includes(hook) ? "pass" : tier.otherwise,
    })),
    profiles: [],
    otherwise: kind === "workload" || hook !== "normal" ? "allow" : "deny",
  };
}

/** A tier that nobody has described is asked last and denies. */
function tierNamed(name: string, tiers: ReadonlyMap<string, TierModel>): TierModel {
  return tiers.get(name) ?? { name, order: Number.POSITIVE_INFINITY, otherwise: "deny" };
}

export function workloadStages(
  policies: readonly PolicyModel[],
  tiers: ReadonlyMap<string, TierModel> = BUILT_IN_TIERS,
): Stages {
  const stage = (direction: Direction): Stage =>
    stageOf(policies, tiers, { kind: "workload", hook: "normal", direction });
  return { normal: { ingress: stage("ingress"), egress: stage("egress") } };
}

export class Order {
  /** Endpoints by the row that they came from. */
  readonly #endpoints = new Map<KeyText, readonly EndpointId[]>();

  step(dirty: ReadonlySet<KeyText>, matches: Matches): Delta<EndpointId, Endpoint> {
    const delta = new Map<EndpointId, Endpoint | undefined>();
    for (const key of dirty) for (const id of this.#endpoints.get(key) ?? []) delta.set(id, undefined);
    for (const key of dirty) {
      const row = matches.row(key);
      if (row === undefined) {
        this.#endpoints.delete(key);
        continue;
      }
      const policies = matches.policiesOf(key);
      const stages = workloadStages(policies);
      for (const record of row.local)
        delta.set(record.interface as EndpointId, {
          kind: "workload",
          source: record.pod,
          addresses: record.addresses,
          stages,
        });
      this.#endpoints.set(
        key,
        row.local.map((record) => record.interface as EndpointId),
      );
    }
    return delta;
  }
}
