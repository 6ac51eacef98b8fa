/** Dirt: what of the program has changed since it was last planned: rows by id, and members of sets. */
import type { PolicyId, SetId } from "../../program/policy.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";

export class Dirt {
  /** Everything is to be compared. */
  isWhole: boolean;
  readonly sets = new Set<SetId>();
  readonly policies = new Set<PolicyId>();
  readonly endpoints = new Set<EndpointId>();
  /** Members that may have come or gone; undefined: any. */
  readonly members = new Map<SetId, Set<string> | undefined>();

  constructor(isWhole = false) {
    this.isWhole = isWhole;
  }

  /** Rows. */
  get size(): number {
    return this.sets.size + this.policies.size + this.endpoints.size;
  }

  /** Returns false when nothing of it concerns policy. */
  add(program: Program, delta: ProgramDelta): boolean {
    const { sets, policies, endpoints } = delta;
    const isAll =
      sets.size >= program.sets.size &&
      policies.size >= program.policies.size &&
      endpoints.size >= program.endpoints.size;
    // Settings say what is a workload's interface; and what changes everything is planned as a whole.
    if (delta.settings !== undefined || isAll) this.isWhole = true;
    for (const id of sets.keys()) {
      const isKnown = this.sets.has(id);
      this.sets.add(id);
      const change = delta.members.get(id);
      const before = this.members.get(id);
      if (change === undefined || (isKnown && before === undefined)) this.members.set(id, undefined);
      else this.members.set(id, new Set([...(before ?? []), ...change.added, ...change.removed]));
    }
    for (const id of policies.keys()) this.policies.add(id);
    for (const id of endpoints.keys()) this.endpoints.add(id);
    return this.isWhole || sets.size + policies.size + endpoints.size > 0;
  }
}
