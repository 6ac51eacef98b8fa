/**
 * Calls: the rules that ask a policy, one for each way in which it is used. All endpoints that run the policy share them, so that chains are compared
 * by the identity of their rules.
 */
import type { Direction } from "../../model/policy.ts";
import type { Policy, PolicyId } from "../../program/policy.ts";
import type { Continuation } from "../uses.ts";
import { policyChain } from "./names.ts";
import { canPass } from "./policy-chains.ts";
import { type Call, jumpTo } from "./stage-chains.ts";

export class Calls {
  readonly #policyOf: (id: PolicyId) => Policy;
  /** By direction and continuation. */
  readonly #known = new Map<string, Map<PolicyId, Call>>();

  constructor(policyOf: (id: PolicyId) => Policy) {
    this.#policyOf = policyOf;
  }

  /** Those of one way of use. */
  readonly of = (direction: Direction, continuation: Continuation): ((id: PolicyId) => Call) => {
    const use = `${direction} ${continuation}`;
    let known = this.#known.get(use);
    if (known === undefined) this.#known.set(use, (known = new Map()));
    const calls = known;
    return (id) => {
      let call = calls.get(id);
      if (call === undefined) {
        const passes = canPass(this.#policyOf(id), direction);
        calls.set(id, (call = { jump: jumpTo(policyChain(id, direction, continuation)), passes }));
      }
      return call;
    };
  };

  /** The policy has come or gone, or whether it can pass has changed. */
  forget(id: PolicyId): void {
    for (const calls of this.#known.values()) calls.delete(id);
  }
}
