/**
 * Staged policy: converts the staged kinds to the policy model: each as the policy would be that its enforcement writes, under its own key.
 * One that stages a deletion selects nothing; `Ignore` is no policy at all. Rules: docs/semantics.md, POL-53.
 */
import type { Key } from "../key.ts";
import type { StagedKind } from "../kinds/staged.ts";
import type { PolicyModel } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import type { Selector } from "../selector/selector.ts";
import { policyOfCalicoNetworkPolicy, policyOfGlobalNetworkPolicy } from "./calico-policy.ts";
import { policyOfNetworkPolicy } from "./network-policy.ts";

const NOTHING: Selector = { op: "not", of: { op: "all" } };

/** undefined: it says nothing. */
export function policyOfStagedNetworkPolicy(resource: Resource<"StagedNetworkPolicy">): PolicyModel | undefined {
  const { stagedAction, ...spec } = resource.spec ?? {};
  return staged(keyOf("StagedNetworkPolicy", resource), stagedAction, () =>
    policyOfCalicoNetworkPolicy({ ...resource, spec }),
  );
}

/** undefined: it says nothing. */
export function policyOfStagedGlobalNetworkPolicy(
  resource: Resource<"StagedGlobalNetworkPolicy">,
): PolicyModel | undefined {
  const { stagedAction, ...spec } = resource.spec ?? {};
  return staged(keyOf("StagedGlobalNetworkPolicy", resource), stagedAction, () =>
    policyOfGlobalNetworkPolicy({ ...resource, spec }),
  );
}

/** undefined: it says nothing. */
export function policyOfStagedKubernetesNetworkPolicy(
  resource: Resource<"StagedKubernetesNetworkPolicy">,
): PolicyModel | undefined {
  const { stagedAction, ...spec } = resource.spec ?? {};
  // The schema leaves to the validation what the types of Kubernetes say.
  const enforced = { ...resource, spec } as Resource<"KubernetesNetworkPolicy">;
  return staged(keyOf("StagedKubernetesNetworkPolicy", resource), stagedAction, () => policyOfNetworkPolicy(enforced));
}

function staged(
  key: Key<StagedKind>,
  action: string | undefined,
  enforced: () => PolicyModel,
): PolicyModel | undefined {
  if (action === "Ignore") return undefined;
  if (action !== "Delete") return { ...enforced(), key };
  const nowhere = { hooks: [], ingress: undefined, egress: undefined };
  return { key, tier: "", order: 0, selects: NOTHING, ...nowhere, error: undefined };
}
