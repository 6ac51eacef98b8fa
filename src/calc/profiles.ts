/**
 * Profiles: the rules of the profiles that this node's host endpoints and WorkloadEndpoints name: those of the object, if there is one. Else those of a namespace (`kns.NAMESPACE`) and `projectcalico-default-allow` allow
 * everything, that of a service account (`ksa.NAMESPACE.NAME`) says nothing, and one that does not exist denies.
 * Upstream: libcalico-go/lib/backend/k8s/resources/profile.go, felix/calc/active_rules_calculator.go.
 */
import { type ProfileRow, sourceOfProfile } from "../model/convert/profile.ts";
import { formatKey, type Key, keyOfText, type KeyText } from "../model/key.ts";
import type { PolicyModel, RuleModel } from "../model/policy.ts";
import type { Delta } from "../program/program.ts";
import type { EndpointsDelta } from "./endpoints.ts";

/** Whether the Namespace or ServiceAccount with that key exists. */
export type Exists = (key: KeyText) => boolean;

export const DEFAULT_ALLOW = "projectcalico-default-allow";

export function profileKey(name: string): Key<"Profile"> {
  return { kind: "Profile", namespace: undefined, name };
}

function all(action: RuleModel["action"]): readonly RuleModel[] {
  return [{ action, source: {}, destination: {} }];
}

/** `stored`: the object of that name, if there is one. Shared with the from-scratch calculation. */
export function profileModel(name: string, stored: ProfileRow | undefined, exists: Exists): PolicyModel {
  const common = {
    key: profileKey(name),
    tier: "",
    order: 0,
    selects: { op: "or", of: [] } as const,
    hooks: ["normal"] as const,
  };
  if (stored !== undefined) {
    const { ingress, egress, error } = stored;
    return { ...common, ingress, egress, error };
  }
  const source = sourceOfProfile(name);
  const isThere = name === DEFAULT_ALLOW || (source !== undefined && exists(formatKey(source)));
  if (!isThere)
    return {
      ...common,
      ingress: all("deny"),
      egress: all("deny"),
      error: `there is no profile ${JSON.stringify(name)}`,
    };
  if (source?.kind === "ServiceAccount") return { ...common, ingress: [], egress: [], error: undefined };
  return { ...common, ingress: all("allow"), egress: all("allow"), error: undefined };
}

export class Profiles {
  /** Names of profiles that each endpoint of this node names. */
  readonly #named = new Map<KeyText, readonly string[]>();
  /** How many endpoints name the profile. */
  readonly #uses = new Map<string, number>();
  /** By name. */
  readonly #stored = new Map<string, ProfileRow>();

  /** `changed`: Namespaces and ServiceAccounts that may have come or gone. */
  step(
    rows: EndpointsDelta["rows"],
    stored: Delta<KeyText, ProfileRow>,
    changed: Iterable<KeyText>,
    exists: Exists,
  ): Delta<KeyText, PolicyModel> {
    const touched = new Set<string>();
    for (const [key, row] of stored) {
      const { name } = keyOfText("Profile", key);
      if (row === undefined) this.#stored.delete(name);
      else this.#stored.set(name, row);
      if (this.#uses.has(name)) touched.add(name);
    }
    for (const [key, { before, now }] of rows) {
      if (before?.profiles === undefined && now?.profiles === undefined) continue;
      for (const name of now?.profiles ?? []) this.#count(name, 1, touched);
      for (const name of this.#named.get(key) ?? []) this.#count(name, -1, touched);
      if (now?.profiles === undefined) this.#named.delete(key);
      else this.#named.set(key, now.profiles);
    }
    if (this.#uses.size > 0) {
      const objects = new Set(changed);
      for (const name of this.#uses.keys()) {
        const source = sourceOfProfile(name);
        if (source !== undefined && objects.has(formatKey(source))) touched.add(name);
      }
    }
    const delta = new Map<KeyText, PolicyModel | undefined>();
    for (const name of touched)
      delta.set(
        formatKey(profileKey(name)),
        this.#uses.has(name) ? profileModel(name, this.#stored.get(name), exists) : undefined,
      );
    return delta;
  }

  #count(name: string, by: 1 | -1, touched: Set<string>): void {
    const uses = (this.#uses.get(name) ?? 0) + by;
    if (uses > 0) this.#uses.set(name, uses);
    else this.#uses.delete(name);
    touched.add(name);
  }
}
