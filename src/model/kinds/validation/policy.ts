/** Policy validation: NetworkPolicy, GlobalNetworkPolicy, their staged forms, and Profile. */
import { labelKeyErrors, labelValueErrors } from "../../labels.ts";
import { validateNetworkPolicy as validateKubernetes } from "../../kubernetes/network-policy-validation.ts";
import type { FieldError } from "../../schema/field-error.ts";
import { isJsonObject } from "../../schema/json.ts";
import type { Schema } from "../../schema/schema.ts";
import { GLOBAL_NETWORK_POLICY_SCHEMA, type GlobalNetworkPolicySpec } from "../global-network-policy.ts";
import { NETWORK_POLICY_SCHEMA, type NetworkPolicySpec } from "../network-policy.ts";
import { PROFILE_SCHEMA } from "../profile.ts";
import {
  KEPT_IN_DELETION,
  STAGED_GLOBAL_NETWORK_POLICY_SCHEMA,
  STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA,
  STAGED_NETWORK_POLICY_SCHEMA,
} from "../staged.ts";
import { WORDS } from "../words.ts";
import { Errors } from "./errors.ts";
import { checkRules } from "./rule.ts";
import { checkSelector } from "./selectors.ts";
import { shape } from "./shape.ts";

export function validateNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return withSelection(object, shaped.errors);
  checkNamespaced(shaped.spec, shaped.errors);
  return shaped.errors.list;
}

export function validateStagedNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, STAGED_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return withSelection(object, shaped.errors);
  checkDeletion(shaped.spec, STAGED_NETWORK_POLICY_SCHEMA.properties.spec, shaped.errors);
  checkNamespaced(shaped.spec, shaped.errors);
  return shaped.errors.list;
}

export function validateGlobalNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, GLOBAL_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return withSelection(object, shaped.errors);
  checkGlobal(shaped.spec, shaped.errors);
  return shaped.errors.list;
}

export function validateStagedGlobalNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, STAGED_GLOBAL_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return withSelection(object, shaped.errors);
  checkDeletion(shaped.spec, STAGED_GLOBAL_NETWORK_POLICY_SCHEMA.properties.spec, shaped.errors);
  checkGlobal(shaped.spec, shaped.errors);
  return shaped.errors.list;
}

export function validateStagedKubernetesNetworkPolicy(object: unknown): readonly FieldError[] {
  const shaped = shape(object, STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  checkDeletion(shaped.spec, STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA.properties.spec, shaped.errors);
  const { stagedAction, ...spec } = shaped.spec;
  if (stagedAction !== "Delete") shaped.errors.add(validateKubernetes({ spec }));
  return shaped.errors.list;
}

export function validateProfile(object: unknown): readonly FieldError[] {
  const shaped = shape(object, PROFILE_SCHEMA);
  if (!shaped.ok) return shaped.errors;
  const { spec, errors } = shaped;
  checkRules(spec.ingress, "ingress", "profile", errors);
  checkRules(spec.egress, "egress", "profile", errors);
  for (const [key, value] of Object.entries(spec.labelsToApply ?? {})) {
    for (const detail of labelKeyErrors(key)) errors.invalid("spec.labelsToApply", key, detail);
    for (const detail of labelValueErrors(value)) errors.invalid(`spec.labelsToApply[${key}]`, value, detail);
  }
  return errors.list;
}

/** Of an object that does not fit its schema, what is wrong with what it selects too: whoever closes that must know whether it can be read. */
function withSelection(object: unknown, found: readonly FieldError[]): readonly FieldError[] {
  const spec = isJsonObject(object) ? object["spec"] : undefined;
  if (!isJsonObject(spec)) return found;
  const errors = new Errors();
  errors.add(found);
  for (const name of ["selector", "serviceAccountSelector", "namespaceSelector"]) {
    const [text, field] = [spec[name], `spec.${name}`];
    if (typeof text === "string" && !found.some((error) => error.field === field)) checkSelector(text, field, errors);
  }
  return errors.list;
}

function checkNamespaced(spec: NetworkPolicySpec, errors: Errors): void {
  checkSelector(spec.selector, "spec.selector", errors);
  checkSelector(spec.serviceAccountSelector, "spec.serviceAccountSelector", errors);
  checkRules(spec.ingress, "ingress", "namespaced", errors);
  checkRules(spec.egress, "egress", "namespaced", errors);
}

function checkGlobal(spec: GlobalNetworkPolicySpec, errors: Errors): void {
  checkSelector(spec.selector, "spec.selector", errors);
  checkSelector(spec.serviceAccountSelector, "spec.serviceAccountSelector", errors);
  checkSelector(spec.namespaceSelector, "spec.namespaceSelector", errors);
  const { doNotTrack = false, preDNAT = false, applyOnForward = false } = spec;
  if (doNotTrack && preDNAT) errors.forbidden("spec.preDNAT", preDNAT, WORDS.untrackedOrPreDnat);
  if (preDNAT && spec.egress !== undefined && spec.egress.length > 0)
    errors.forbidden("spec.egress", spec.egress, WORDS.preDnatEgress);
  if (preDNAT && spec.types?.includes("Egress") === true)
    errors.forbidden("spec.types", spec.types, WORDS.preDnatTypes);
  if ((doNotTrack || preDNAT) && !applyOnForward) errors.invalid("spec.applyOnForward", applyOnForward, WORDS.forward);
  checkRules(spec.ingress, "ingress", "global", errors);
  checkRules(spec.egress, "egress", "global", errors);
}

/** A policy that stages a deletion has no fields that would mean something, in the order of the schema. */
function checkDeletion(spec: { readonly stagedAction?: string }, schema: Schema, errors: Errors): void {
  if (spec.stagedAction !== "Delete") return;
  const values: Readonly<Record<string, unknown>> = spec;
  for (const field of Object.keys(schema.properties ?? {})) {
    const value = values[field];
    const isEmpty =
      value === undefined || value === "" || value === false || (Array.isArray(value) && value.length === 0);
    if (!KEPT_IN_DELETION.has(field) && !isEmpty) errors.forbidden(`spec.${field}`, value, WORDS.stagedDelete);
  }
}
