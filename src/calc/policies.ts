/** Policies: every policy kind of the cluster, converted to one model. An invalid policy is kept, closed, with its error. */
import type { KeyText } from "../model/key.ts";
import { policyOfNetworkPolicy } from "../model/kubernetes/network-policy.ts";
import type { PolicyModel } from "../model/policy.ts";
import type { Resource } from "../model/resource.ts";
import type { Delta } from "../program/program.ts";

export class Policies {
  /** Policies that cannot be converted, and why. */
  readonly problems = new Map<KeyText, string>();

  step(networkPolicies: Delta<KeyText, Resource<"KubernetesNetworkPolicy">>): Delta<KeyText, PolicyModel> {
    const delta = new Map<KeyText, PolicyModel | undefined>();
    for (const [key, resource] of networkPolicies) {
      const model = resource === undefined ? undefined : policyOfNetworkPolicy(resource);
      if (model?.error === undefined) this.problems.delete(key);
      else this.problems.set(key, model.error);
      delta.set(key, model);
    }
    return delta;
  }
}
