/**
 * Admission: the rules for Calico's objects that a schema and its rules in CEL cannot say (overlapping pools, and what the validators of
 * the policy kinds say), as a list for the API server, which itself knows nothing of Calico. Upstream's client library refuses the same;
 * here kubectl is refused, too.
 */
import { formatParseError } from "../../src/lib/result.ts";
import { type Kind, KINDS } from "../../src/model/kind.ts";
import { policyAdvice } from "../../src/model/kinds/advice.ts";
import { builtInTierProblem, TIERED_KINDS, tierHeldBy } from "../../src/model/kinds/validation/tier-removal.ts";
import { absentTierAdvice, tierNeeded } from "../../src/model/kinds/validation/tier-absence.ts";
import { type PolicyKind, type Validator, VALIDATORS } from "../../src/model/kinds/validation/validators.ts";
import { formatWithoutEffect, settingsWithoutEffect } from "../../src/model/kinds/without-effect.ts";
import type { FieldError } from "../../src/model/schema/field-error.ts";
import { fieldAt, stringAt } from "../../src/model/schema/json.ts";
import { parseSelector } from "../../src/model/selector/parse.ts";
import { parsePrefix, type Prefix, prefixCovers } from "../../src/net/prefix.ts";
import type { Admission, AdmissionRequest, Advice, Retention } from "./objects/context.ts";
import type { ApiObject } from "./object.ts";

export const CALICO_ADMISSION: readonly Admission[] = [admitPool, admitPolicy];

export const CALICO_RETENTION: readonly Retention[] = [retainTier];

/** Settings and rules that Calico does nothing about, and tiers that are not there. Not for Pods: the CNI plugin speaks of theirs when it wires them. */
export const CALICO_ADVICE: readonly Advice[] = [
  ({ resource, object }) => {
    const kind = ADVISED.get(resource);
    return kind === undefined
      ? []
      : settingsWithoutEffect(kind, { metadata: object.metadata, spec: object["spec"] }).map(formatWithoutEffect);
  },
  ({ resource, object }) => {
    const kind = ADVISED.get(resource);
    return kind === undefined ? [] : policyAdvice(kind, object);
  },
  ({ resource, object, list }) => {
    const tier = tierNeeded(ADVISED.get(resource) ?? "", object["spec"]);
    const isThere = list(TIERS, undefined).some(({ metadata }) => metadata.name === tier);
    return tier === undefined || isThere ? [] : [absentTierAdvice(tier)];
  },
];

const TIERS = "tiers.projectcalico.org";

const ADVISED: ReadonlyMap<string, Kind> = new Map([
  ["nodes", "Node"],
  ["ippools.projectcalico.org", "IPPool"],
  ["ipamconfigurations.projectcalico.org", "IPAMConfiguration"],
  ["kubecontrollersconfigurations.projectcalico.org", "KubeControllersConfiguration"],
  ["felixconfigurations.projectcalico.org", "FelixConfiguration"],
  ["networkpolicies.projectcalico.org", "NetworkPolicy"],
  ["globalnetworkpolicies.projectcalico.org", "GlobalNetworkPolicy"],
  ["stagednetworkpolicies.projectcalico.org", "StagedNetworkPolicy"],
  ["stagedglobalnetworkpolicies.projectcalico.org", "StagedGlobalNetworkPolicy"],
  ["stagedkubernetesnetworkpolicies.projectcalico.org", "StagedKubernetesNetworkPolicy"],
]);

/** By resource: `networkpolicies.projectcalico.org`. */
const VALIDATED: ReadonlyMap<string, Validator> = new Map(
  Object.entries(VALIDATORS).map(([kind, validator]) => [resourceOf(kind as PolicyKind), validator]),
);

function resourceOf(kind: Kind): string {
  const { apiVersion, plural } = KINDS[kind];
  return `${plural}.${apiVersion.slice(0, apiVersion.indexOf("/"))}`;
}

function admitPolicy({ resource, object }: AdmissionRequest): readonly FieldError[] {
  return VALIDATED.get(resource)?.(object) ?? [];
}

function retainTier({ resource, name, list }: Parameters<Retention>[0]): string | undefined {
  if (resource !== TIERS) return undefined;
  let problem = builtInTierProblem(name);
  for (const kind of TIERED_KINDS) problem ??= tierHeldBy(name, kind, list(resourceOf(kind), undefined));
  return problem;
}

function admitPool({ resource, object, list }: AdmissionRequest): readonly FieldError[] {
  if (resource !== "ippools.projectcalico.org") return [];
  const prefix = parsePrefix(stringAt(fieldAt(object, "spec", "cidr")));
  const overlap = prefix.ok ? checkOverlap(object, prefix.value, list("ippools.projectcalico.org", undefined)) : [];
  return [...overlap, ...checkSelectors(object)];
}

function checkOverlap(pool: ApiObject, prefix: Prefix, pools: readonly ApiObject[]): FieldError[] {
  for (const other of pools) {
    if (other.metadata.name === pool.metadata.name) continue;
    const range = parsePrefix(stringAt(fieldAt(other, "spec", "cidr")));
    if (!range.ok || !(prefixCovers(range.value, prefix) || prefixCovers(prefix, range.value))) continue;
    return [
      {
        field: "spec.cidr",
        reason: "Invalid",
        value: prefix,
        detail: `overlaps ${range.value} of the IPPool ${JSON.stringify(other.metadata.name)}`,
      },
    ];
  }
  return [];
}

function checkSelectors(pool: ApiObject): FieldError[] {
  return ["nodeSelector", "namespaceSelector"].flatMap((field): FieldError[] => {
    const text = stringAt(fieldAt(pool, "spec", field));
    const selector = text === "" ? undefined : parseSelector(text);
    return selector === undefined || selector.ok
      ? []
      : [{ field: `spec.${field}`, reason: "Invalid", value: text, detail: formatParseError(selector.error) }];
  });
}
