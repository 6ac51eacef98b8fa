/** Profile: the labels that endpoints inherit, from their Namespace, their ServiceAccount or a Profile that they name, and a Profile's rules. */
import type { Rule } from "../kinds/rule.ts";
import { validateProfile } from "../kinds/validation/policy.ts";
import type { Key } from "../key.ts";
import { NAME_LABEL, type NAMESPACE_PREFIX, type SERVICE_ACCOUNT_PREFIX } from "../labels.ts";
import type { RuleModel } from "../policy.ts";
import type { Resource } from "../resource.ts";
import { formatFieldError } from "../schema/field-error.ts";
import { ruleOf } from "./calico-rule.ts";
import { withoutReserved } from "./own-labels.ts";

/** Labels as selectors see them, prefix included. */
export type ProfileLabels = ReadonlyMap<string, string>;

/** The object's labels, prefixed, and its name, which its own labels cannot overwrite. */
export function inheritedLabels(
  prefix: typeof NAMESPACE_PREFIX | typeof SERVICE_ACCOUNT_PREFIX,
  name: string,
  labels: Readonly<Record<string, string>> | undefined,
): ProfileLabels {
  const inherited = new Map<string, string>();
  for (const [label, value] of Object.entries(labels ?? {})) inherited.set(prefix + label, String(value));
  return inherited.set(prefix + NAME_LABEL, name);
}

/** A Profile that is an object of its own. */
export interface ProfileRow {
  readonly labels: ProfileLabels;
  readonly ingress: readonly RuleModel[];
  readonly egress: readonly RuleModel[];
  /** Why it denies everything and has no labels; undefined: it does not. */
  readonly error: string | undefined;
}

const DENY_ALL: readonly RuleModel[] = [{ action: "deny", source: {}, destination: {} }];

export function profileRowOf(resource: Resource<"Profile">): ProfileRow {
  const errors = validateProfile(resource);
  if (errors.length > 0)
    return { labels: new Map(), ingress: DENY_ALL, egress: DENY_ALL, error: errors.map(formatFieldError).join("; ") };
  const { ingress, egress, labelsToApply = {} } = resource.spec;
  const rules = (written: readonly Rule[] = []): readonly RuleModel[] => written.map((rule) => ruleOf(rule, undefined));
  return {
    labels: withoutReserved(Object.entries(labelsToApply)),
    ingress: rules(ingress),
    egress: rules(egress),
    error: undefined,
  };
}

/** The Namespace or ServiceAccount that a profile of that name stands for; undefined: an object of its own. */
export function sourceOfProfile(name: string): Key<"Namespace"> | Key<"ServiceAccount"> | undefined {
  if (name.startsWith("kns.")) return { kind: "Namespace", namespace: undefined, name: name.slice("kns.".length) };
  const [, namespace, account] = /^ksa\.([^.]+)\.(.+)$/.exec(name) ?? [];
  return namespace === undefined || account === undefined
    ? undefined
    : { kind: "ServiceAccount", namespace, name: account };
}
