/** acceptance: whether a policy says what can be enforced, and why not; this, and little else, is kept of each policy. */
import {
  policyOfAdminNetworkPolicy,
  policyOfBaselineAdminNetworkPolicy,
} from "../model/convert/admin-network-policy.ts";
import { policyOfClusterNetworkPolicy } from "../model/convert/cluster-network-policy.ts";
import type { Key } from "../model/key.ts";
import { cut } from "../model/kinds/node-policy-status.ts";
import type { PolicyStatus } from "../model/kinds/network-policy.ts";
import type { PolicyModel } from "../model/policy.ts";
import { formatWithoutEffect, settingsWithoutEffect } from "../model/kinds/without-effect.ts";
import { VALIDATORS } from "../model/kinds/validation/validators.ts";
import type { Resource } from "../model/resource.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { DEFAULT_TIER } from "../model/tier.ts";
import type { Update } from "../model/update.ts";

/** Kinds of policy that have conditions. */
export const POLICY_KINDS = [
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "ClusterNetworkPolicy",
  "AdminNetworkPolicy",
  "BaselineAdminNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
] as const;
export type PolicyKind = (typeof POLICY_KINDS)[number];
export type Condition = NonNullable<PolicyStatus["conditions"]>[number];

export interface PolicyFacts {
  readonly key: Key<PolicyKind>;
  readonly uid: string;
  readonly revision: string;
  readonly generation: number;
  /** The tier that it names; undefined for kinds that name none. */
  readonly tier: string | undefined;
  /** Why it is not valid. */
  readonly error: string | undefined;
  /** Which part of it is not enforced as it is written. */
  readonly inPart: string | undefined;
  /** As they are stored. */
  readonly conditions: readonly Condition[];
}

const MOST_MESSAGE = 1_000;

/** Of an object that exists. */
export function factsOf(update: Update<PolicyKind> & { readonly value: Resource }): PolicyFacts {
  const { key, value } = update;
  const { uid = "", resourceVersion: revision = "", generation = 0 } = value.metadata;
  const errors = VALIDATORS[update.kind](value);
  const isValid = errors.length === 0;
  const inPart = isValid
    ? [...notEnforced(update), ...settingsWithoutEffect(update.kind, value).map(formatWithoutEffect)]
    : [];
  return {
    key,
    uid,
    revision,
    generation,
    tier: isValid ? tierOf(update) : undefined,
    error: isValid ? undefined : cut(errors.map(formatFieldError).join("; "), MOST_MESSAGE),
    inPart: inPart.length === 0 ? undefined : cut(inPart.join("; "), MOST_MESSAGE),
    conditions: update.value.status?.conditions ?? [],
  };
}

function tierOf(update: Update<PolicyKind>): string | undefined {
  switch (update.kind) {
    case "ClusterNetworkPolicy":
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "StagedKubernetesNetworkPolicy":
      return undefined;
    default:
      return update.value?.spec?.tier || DEFAULT_TIER;
  }
}

function notEnforced(update: Update<PolicyKind>): readonly string[] {
  if (update.kind === "StagedKubernetesNetworkPolicy" || update.value === undefined) return [];
  if (update.kind === "ClusterNetworkPolicy") return inWords(policyOfClusterNetworkPolicy(update.value));
  if (update.kind === "AdminNetworkPolicy") return inWords(policyOfAdminNetworkPolicy(update.value));
  if (update.kind === "BaselineAdminNetworkPolicy") return inWords(policyOfBaselineAdminNetworkPolicy(update.value));
  return (update.value.spec?.ingress ?? []).flatMap(({ http }, i) =>
    http === undefined
      ? []
      : [`spec.ingress[${i}].http is not enforced: the rule applies to all that its other fields match`],
  );
}

function inWords({ error }: PolicyModel): readonly string[] {
  return error === undefined ? [] : [error];
}
