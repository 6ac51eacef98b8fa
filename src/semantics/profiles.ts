/** Profiles: what those of an endpoint decide, and which labels it inherits from them (POL-50). */
import type { Resource } from "../model/resource.ts";
import { readProfile } from "./calico-policy.ts";
import type { ClusterPolicy, ClusterResources, LabelMap, WrittenRule } from "./cluster.ts";
import { ownLabels } from "./network-sets.ts";
import { inherit } from "./pods.ts";

/** Those of that name, in order. */
export function profilesOf(names: readonly string[], resources: ClusterResources): ClusterPolicy[] {
  return names.map((name) => {
    const object = stored(name, resources);
    return object === undefined ? derived(name, resources) : readProfile(object);
  });
}

function stored(name: string, { profiles = [] }: ClusterResources): Resource<"Profile"> | undefined {
  return profiles.find(({ metadata }) => metadata.name === name);
}

const EVERYTHING = { source: {}, destination: {} };

function derived(name: string, { namespaces, serviceAccounts = [] }: ClusterResources): ClusterPolicy {
  const isOpen =
    name === "projectcalico-default-allow" || namespaces.some(({ metadata }) => `kns.${metadata.name}` === name);
  const isSilent = serviceAccounts.some(({ metadata }) => `ksa.${metadata.namespace}.${metadata.name}` === name);
  const rules: WrittenRule[] = isSilent ? [] : [{ action: isOpen ? "allow" : "deny", ...EVERYTHING }];
  return {
    key: { kind: "Profile", namespace: undefined, name },
    namespace: undefined,
    tier: "",
    order: 0,
    hooks: ["normal"],
    state: "valid",
    errors: [],
    selector: {},
    ingress: rules,
    egress: rules,
  };
}

/** What an endpoint with these labels has besides: those of its profiles, the first first. */
export function withProfileLabels(own: LabelMap, names: readonly string[], resources: ClusterResources): LabelMap {
  const labels = { ...own };
  for (const name of names)
    for (const [label, value] of [...Object.entries(ofObject(name, resources)), ...ofProfile(name, resources)])
      if (!Object.hasOwn(labels, label)) labels[label] = value;
  return labels;
}

/** POL-2: as a pod of the namespace or service account would inherit them. */
function ofObject(name: string, { namespaces, serviceAccounts = [] }: ClusterResources): LabelMap {
  if (name.startsWith("kns.")) {
    const space = name.slice(4);
    return inherit("pcns.", space, namespaces.find(({ metadata }) => metadata.name === space)?.metadata);
  }
  const [prefix, space, ...rest] = name.split(".");
  if (prefix !== "ksa" || !space || rest.join(".") === "") return {};
  const account = rest.join(".");
  const object = serviceAccounts.find(({ metadata }) => metadata.namespace === space && metadata.name === account);
  return inherit("pcsa.", account, object?.metadata);
}

function ofProfile(name: string, resources: ClusterResources): [string, string][] {
  const object = stored(name, resources);
  if (object === undefined || readProfile(object).errors.length > 0) return [];
  return Object.entries(ownLabels({ name, labels: object.spec.labelsToApply ?? {} }));
}
