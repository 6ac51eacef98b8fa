/** Active: the policies that some endpoint of this node runs; all others are not part of the program. */
import type { KeyText } from "../model/key.ts";
import type { PolicyModel } from "../model/policy.ts";
import type { PolicyId } from "../program/policy.ts";
import { changedNames, changedStages, type Delta, type Endpoint, type EndpointId } from "../program/program.ts";

export class Active {
  readonly #models = new Map<PolicyId, PolicyModel>();
  readonly #endpoints = new Map<EndpointId, Endpoint>();
  /** How many stages name the policy, staged ones too. */
  readonly #uses = new Map<PolicyId, number>();

  /** Active policies that are new, changed or (undefined) no longer active. */
  step(endpoints: Delta<EndpointId, Endpoint>, policies: Delta<KeyText, PolicyModel>): Delta<PolicyId, PolicyModel> {
    const touched = new Map<PolicyId, boolean>();
    const touch = (id: PolicyId): void => void (touched.has(id) || touched.set(id, this.#uses.has(id)));
    for (const [id, endpoint] of endpoints) {
      for (const { before, now } of changedStages(this.#endpoints.get(id), endpoint)) {
        const { added, removed } = changedNames(before, now);
        for (const policy of added) {
          touch(policy);
          this.#uses.set(policy, (this.#uses.get(policy) ?? 0) + 1);
        }
        for (const policy of removed) {
          touch(policy);
          this.#release(policy);
        }
      }
      if (endpoint === undefined) this.#endpoints.delete(id);
      else this.#endpoints.set(id, endpoint);
    }
    const changed = new Set<PolicyId>();
    for (const [key, model] of policies) {
      const id = key as string as PolicyId;
      if (model === undefined) this.#models.delete(id);
      else this.#models.set(id, model);
      changed.add(id);
      touch(id);
    }
    const delta = new Map<PolicyId, PolicyModel | undefined>();
    for (const [id, wasActive] of touched) {
      const model = this.#uses.has(id) ? this.#models.get(id) : undefined;
      if (model === undefined ? wasActive : !wasActive || changed.has(id)) delta.set(id, model);
    }
    return delta;
  }

  #release(policy: PolicyId): void {
    const uses = (this.#uses.get(policy) ?? 0) - 1;
    if (uses > 0) this.#uses.set(policy, uses);
    else this.#uses.delete(policy);
  }
}
