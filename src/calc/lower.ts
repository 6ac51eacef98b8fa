/** Lower: turns active policies into policies of the program, and counts references to sets, so that a set exists exactly while a policy names it. */
import type { PolicyModel } from "../model/policy.ts";
import { lowerPolicy, type SetDefinition } from "../program/lower-rule.ts";
import type { Policy, PolicyId, SetId } from "../program/policy.ts";
import type { Delta } from "../program/program.ts";

export interface Lowered {
  readonly policies: Delta<PolicyId, Policy>;
  /** Sets that are newly named, or (undefined) no longer named. */
  readonly sets: Delta<SetId, SetDefinition>;
}

export class Lower {
  readonly #setsOf = new Map<PolicyId, readonly SetId[]>();
  /** How many policies name the set. */
  readonly #uses = new Map<SetId, number>();

  step(active: Delta<PolicyId, PolicyModel>): Lowered {
    const policies = new Map<PolicyId, Policy | undefined>();
    const definitions = new Map<SetId, SetDefinition>();
    const wasNamed = new Map<SetId, boolean>();
    const count = (id: SetId, by: 1 | -1): void => {
      if (!wasNamed.has(id)) wasNamed.set(id, this.#uses.has(id));
      const uses = (this.#uses.get(id) ?? 0) + by;
      if (uses > 0) this.#uses.set(id, uses);
      else this.#uses.delete(id);
    };
    for (const [id, model] of active) {
      const before = this.#setsOf.get(id) ?? [];
      const lowered = model === undefined ? undefined : lowerPolicy(model);
      policies.set(id, lowered?.policy);
      const named = [...(lowered?.sets ?? [])];
      for (const [set, definition] of named) {
        definitions.set(set, definition);
        count(set, 1);
      }
      for (const set of before) count(set, -1);
      if (lowered === undefined) this.#setsOf.delete(id);
      else
        this.#setsOf.set(
          id,
          named.map(([set]) => set),
        );
    }
    const sets = new Map<SetId, SetDefinition | undefined>();
    for (const [id, before] of wasNamed)
      if (before !== this.#uses.has(id)) sets.set(id, before ? undefined : definitions.get(id));
    return { policies, sets };
  }
}
