/** Order: for each endpoint of this node, what each direction runs: tiers, their policies in order, and the end. */
import type { KeyText } from "../model/key.ts";
import type { Direction, PolicyModel } from "../model/policy.ts";
import { policyIdOf } from "../program/lower-rule.ts";
import type { Stage } from "../program/policy.ts";
import type { Delta, Endpoint, EndpointId } from "../program/program.ts";
import type { Matches } from "./matches.ts";

/** Ascending order, then the text `name/namespace/kind` (calico-parity trap 8). */
export function comparePolicies(a: PolicyModel, b: PolicyModel): number {
  return a.order - b.order || compareText(tieText(a), tieText(b));
}

function tieText({ key }: PolicyModel): string {
  return `${key.name}/${key.namespace ?? ""}/${key.kind}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The stage of an endpoint that these policies select. A tier without a policy for the direction does not exist; with none at all the
 * endpoint is not isolated.
 */
export function stageOf(policies: readonly PolicyModel[], direction: Direction): Stage {
  const concerned = policies.filter((policy) => policy[direction] !== undefined).sort(comparePolicies);
  const names = [...new Set(concerned.map((policy) => policy.tier))];
  const tiers = names.map((tier) => ({
    tier,
    policies: concerned.filter((policy) => policy.tier === tier).map(policyIdOf),
    otherwise: "deny" as const,
  }));
  return { tiers, otherwise: tiers.length === 0 ? "allow" : "deny" };
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
      const ingress = stageOf(policies, "ingress");
      const egress = stageOf(policies, "egress");
      for (const record of row.local)
        delta.set(record.interface as EndpointId, {
          source: record.pod,
          addresses: record.addresses,
          ingress,
          egress,
        });
      this.#endpoints.set(
        key,
        row.local.map((record) => record.interface as EndpointId),
      );
    }
    return delta;
  }
}
