/** Order: for each endpoint of this node, what each direction runs: tiers, their policies in order, and the action at the end. */
import { equal } from "../lib/equal.ts";
import type { KeyText } from "../model/key.ts";
import type { Direction, Hook, PolicyModel } from "../model/policy.ts";
import { BUILT_IN_TIERS, type TierModel } from "../model/tier.ts";
import { policyIdOf } from "../program/lower-rule.ts";
import type { Stage } from "../program/policy.ts";
import type { Delta, Endpoint, EndpointId, Stages } from "../program/program.ts";
import type { Matches } from "./matches.ts";

/** Ascending order, then the text `name/namespace/kind`. */
function comparePolicies(a: PolicyModel, b: PolicyModel): number {
  return a.order - b.order || compareText(tieText(a), tieText(b));
}

function tieText({ key }: PolicyModel): string {
  return `${key.name}/${key.namespace ?? ""}/${key.kind}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Before translation and before connection tracking, what no rule decided continues: otherwise nothing would get through. */
const PASSING_HOOKS: readonly Hook[] = ["pre-dnat", "untracked"];

/**
 * The stage of an endpoint that these policies select. A tier without a policy for the hook and direction is left out; without any tier
 * the endpoint is not isolated. A host endpoint's own traffic passes only if a rule allows it.
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

/** An undefined tier comes last and denies. */
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
  /** Endpoints by the key of their row. */
  readonly #endpoints = new Map<KeyText, readonly EndpointId[]>();
  /** By the key of their row: a stage that is as it was stays the same object, so that whoever compiled it need not look at it again. */
  readonly #stages = new Map<KeyText, Stages>();

  step(dirty: ReadonlySet<KeyText>, matches: Matches): Delta<EndpointId, Endpoint> {
    const delta = new Map<EndpointId, Endpoint | undefined>();
    for (const key of dirty) for (const id of this.#endpoints.get(key) ?? []) delta.set(id, undefined);
    for (const key of dirty) {
      const row = matches.row(key);
      if (row === undefined) {
        this.#endpoints.delete(key);
        this.#stages.delete(key);
        continue;
      }
      const policies = matches.policiesOf(key);
      const stages = sharing(this.#stages.get(key), workloadStages(policies));
      this.#stages.set(key, stages);
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

/** The new stages, made of the old ones where these are equal. */
function sharing(before: Stages | undefined, now: Stages): Stages {
  const [old, current] = [before?.normal, now.normal];
  if (old === undefined || current === undefined) return now;
  const ingress = equal(old.ingress, current.ingress) ? old.ingress : current.ingress;
  const egress = equal(old.egress, current.egress) ? old.egress : current.egress;
  return { normal: { ...(ingress === undefined ? {} : { ingress }), ...(egress === undefined ? {} : { egress }) } };
}
