/**
 * Calico policy: converts NetworkPolicies and GlobalNetworkPolicies of projectcalico.org/v3 to the policy model.
 *
 * Never fails and never guesses: an invalid policy denies, at its place in its tier, everything to and from what it selects (every
 * workload in its scope if that is malformed), with the reason in `error`. Rules: docs/semantics.md, POL-38 to POL-46.
 * Upstream: libcalico-go/lib/backend/syncersv1/updateprocessors/{network,globalnetwork}policyprocessor.go.
 */
import type { Key } from "../key.ts";
import type { GlobalNetworkPolicySpec } from "../kinds/global-network-policy.ts";
import { policyTypesOf } from "../kinds/network-policy.ts";
import type { Rule } from "../kinds/rule.ts";
import { validateGlobalNetworkPolicy, validateNetworkPolicy } from "../kinds/validation/policy.ts";
import { ORCHESTRATOR_LABEL } from "../labels.ts";
import type { Hook, PolicyModel, RuleModel } from "../policy.ts";
import { keyOf, type Resource } from "../resource.ts";
import { type FieldError, formatFieldError } from "../schema/field-error.ts";
import type { Selector } from "../selector/selector.ts";
import { DEFAULT_TIER } from "../tier.ts";
import { ruleOf } from "./calico-rule.ts";
import { selectorOf } from "./selection.ts";

export function policyOfCalicoNetworkPolicy(resource: Resource<"NetworkPolicy">): PolicyModel {
  const key = keyOf("NetworkPolicy", resource);
  return convert(key, resource.spec ?? {}, validateNetworkPolicy(resource), ["normal"]);
}

export function policyOfGlobalNetworkPolicy(resource: Resource<"GlobalNetworkPolicy">): PolicyModel {
  const spec = resource.spec ?? {};
  const key = keyOf("GlobalNetworkPolicy", resource);
  return convert(key, spec, validateGlobalNetworkPolicy(resource), hooksOf(spec));
}

function hooksOf({ doNotTrack, preDNAT, applyOnForward }: GlobalNetworkPolicySpec): readonly Hook[] {
  if (doNotTrack === true) return ["untracked"];
  if (preDNAT === true) return ["pre-dnat"];
  return applyOnForward === true ? ["normal", "forward"] : ["normal"];
}

const DENY_ALL: readonly RuleModel[] = [{ action: "deny", source: {}, destination: {} }];

function convert(
  key: Key,
  spec: GlobalNetworkPolicySpec,
  errors: readonly FieldError[],
  hooks: readonly Hook[],
): PolicyModel {
  const { namespace } = key;
  const common = {
    key,
    tier: typeof spec.tier === "string" && spec.tier !== "" ? spec.tier : DEFAULT_TIER,
    order: typeof spec.order === "number" ? spec.order : Number.POSITIVE_INFINITY,
    hooks,
  };
  if (errors.length > 0) {
    const isUnreadable = errors.some(({ field }) => SELECTING.includes(field));
    const selects = isUnreadable ? everyWorkload(namespace) : selectsOf(spec, namespace);
    const error = errors.map(formatFieldError).join("; ");
    // Before translation there is only what arrives.
    const egress = hooks.includes("pre-dnat") ? undefined : DENY_ALL;
    return { ...common, selects, ingress: DENY_ALL, egress, error };
  }
  const types = policyTypesOf(spec);
  const rules = (written: readonly Rule[] = []): readonly RuleModel[] => written.map((rule) => ruleOf(rule, namespace));
  return {
    ...common,
    selects: selectsOf(spec, namespace),
    ingress: types.includes("Ingress") ? rules(spec.ingress) : undefined,
    egress: types.includes("Egress") ? rules(spec.egress) : undefined,
    error: undefined,
  };
}

/** Fields without which it is not known what a policy selects. */
const SELECTING = ["<nil>", "spec", "spec.selector", "spec.namespaceSelector", "spec.serviceAccountSelector"];

function selectsOf(spec: GlobalNetworkPolicySpec, namespace: string | undefined): Selector {
  const { selector, serviceAccountSelector, namespaceSelector } = spec;
  return selectorOf({
    selector,
    serviceAccountSelector,
    ...(namespace === undefined ? { namespaceSelector } : { namespace }),
  });
}

function everyWorkload(namespace: string | undefined): Selector {
  return namespace === undefined ? { op: "has", label: ORCHESTRATOR_LABEL } : selectorOf({ namespace });
}
