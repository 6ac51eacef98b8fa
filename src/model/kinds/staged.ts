/**
 * Staged policies: policies that are evaluated and reported, never enforced.
 * Upstream: api/pkg/apis/projectcalico/v3/staged{networkpolicy,globalnetworkpolicy,kubernetesnetworkpolicy}.go.
 */
import type { Key } from "../key.ts";
import type { Infer, Schema, ValidationRule } from "../schema/schema.ts";
import { META, STATUS } from "./common.ts";
import { GLOBAL_POLICY_PROPERTIES, GLOBAL_POLICY_RULES } from "./global-network-policy.ts";
import { LABEL_SELECTOR } from "./label-selector.ts";
import { POLICY_PROPERTIES, POLICY_RULES } from "./network-policy.ts";
import { MOST_RULES } from "./rule.ts";
import { WORDS } from "./words.ts";

/** In whose place a staged policy is evaluated. */
export const ENFORCED_KINDS = {
  StagedNetworkPolicy: "NetworkPolicy",
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedKubernetesNetworkPolicy: "KubernetesNetworkPolicy",
} as const;

export type StagedKind = keyof typeof ENFORCED_KINDS;

export const STAGED_KINDS: readonly StagedKind[] = [
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
];

export function isStagedKind(kind: string): kind is StagedKind {
  return Object.hasOwn(ENFORCED_KINDS, kind);
}

/** Of the policy that the enforcement of a staged one writes or deletes. */
export function enforcedKeyOf(key: Key<StagedKind>): Key<(typeof ENFORCED_KINDS)[StagedKind]> {
  return { ...key, kind: ENFORCED_KINDS[key.kind] };
}

/** Of the staged policy that would take the policy's place; undefined: its kind has none. */
export function stagedKeyOf(key: Key): Key<StagedKind> | undefined {
  const kind = STAGED_KINDS.find((each) => ENFORCED_KINDS[each] === key.kind);
  return kind === undefined ? undefined : { ...key, kind };
}

export function isStagedKey(key: Key): key is Key<StagedKind> {
  return isStagedKind(key.kind);
}

const STAGED_ACTION = {
  type: "string",
  description: "Set: as if this policy were enforced. Delete: as if the enforced policy of the same name were deleted.",
  enum: ["Set", "Delete", "Learn", "Ignore"],
  default: "Set",
} as const satisfies Schema;

/** Fields that a policy which stages a deletion may have: API servers may have filled in the directions. */
export const KEPT_IN_DELETION: ReadonlySet<string> = new Set(["tier", "stagedAction", "types", "policyTypes"]);
const EMPTY: Readonly<Record<string, string>> = { string: "''", boolean: "false" };

function deletionRules(properties: NonNullable<Schema["properties"]>): readonly ValidationRule[] {
  return Object.entries(properties).flatMap(([field, { type }]): ValidationRule[] => {
    if (KEPT_IN_DELETION.has(field)) return [];
    const isEmpty =
      type === "array"
        ? `size(self.${field}) == 0`
        : type === "string" || type === "boolean"
          ? `self.${field} == ${EMPTY[type]}`
          : "false";
    return [
      {
        rule: `self.stagedAction != 'Delete' || !has(self.${field}) || ${isEmpty}`,
        message: WORDS.stagedDelete,
        reason: "FieldValueForbidden",
        fieldPath: `.${field}`,
      },
    ];
  });
}

export const STAGED_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "A NetworkPolicy that is evaluated and reported, never enforced.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      "x-kubernetes-validations": [...POLICY_RULES, ...deletionRules(POLICY_PROPERTIES)],
      properties: { ...POLICY_PROPERTIES, stagedAction: STAGED_ACTION },
    },
    status: STATUS,
  },
} as const satisfies Schema;

export const STAGED_GLOBAL_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "A GlobalNetworkPolicy that is evaluated and reported, never enforced.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      "x-kubernetes-validations": [...GLOBAL_POLICY_RULES, ...deletionRules(GLOBAL_POLICY_PROPERTIES)],
      properties: { ...GLOBAL_POLICY_PROPERTIES, stagedAction: STAGED_ACTION },
    },
    status: STATUS,
  },
} as const satisfies Schema;

const PEERS = {
  type: "array",
  "x-kubernetes-list-type": "atomic",
  items: {
    type: "object",
    properties: {
      podSelector: LABEL_SELECTOR,
      namespaceSelector: LABEL_SELECTOR,
      ipBlock: {
        type: "object",
        required: ["cidr"],
        properties: {
          cidr: { type: "string" },
          except: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "atomic" },
        },
      },
    },
  },
} as const satisfies Schema;

const KUBERNETES_PORTS = {
  type: "array",
  "x-kubernetes-list-type": "atomic",
  items: {
    type: "object",
    properties: {
      protocol: { type: "string" },
      port: { "x-kubernetes-int-or-string": true },
      endPort: { type: "integer", format: "int32" },
    },
  },
} as const satisfies Schema;

const KUBERNETES_RULES = {
  type: "array",
  maxItems: MOST_RULES,
  "x-kubernetes-list-type": "atomic",
} as const satisfies Schema;

const KUBERNETES_PROPERTIES = {
  podSelector: { ...LABEL_SELECTOR, description: "The pods of the namespace that the policy applies to." },
  policyTypes: {
    type: "array",
    description: "The directions that the policy applies to.",
    maxItems: 2,
    "x-kubernetes-list-type": "atomic",
    items: { type: "string", enum: ["Ingress", "Egress"] },
  },
  ingress: {
    ...KUBERNETES_RULES,
    items: { type: "object", properties: { from: PEERS, ports: KUBERNETES_PORTS } },
  },
  egress: { ...KUBERNETES_RULES, items: { type: "object", properties: { to: PEERS, ports: KUBERNETES_PORTS } } },
} as const satisfies NonNullable<Schema["properties"]>;

export const STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA = {
  type: "object",
  description: "A NetworkPolicy of Kubernetes that is evaluated and reported, never enforced.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      "x-kubernetes-validations": deletionRules(KUBERNETES_PROPERTIES),
      properties: { ...KUBERNETES_PROPERTIES, stagedAction: STAGED_ACTION },
    },
    status: STATUS,
  },
} as const satisfies Schema;

export type StagedNetworkPolicySpec = Infer<(typeof STAGED_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
export type StagedGlobalNetworkPolicySpec = Infer<(typeof STAGED_GLOBAL_NETWORK_POLICY_SCHEMA)["properties"]["spec"]>;
export type StagedKubernetesNetworkPolicySpec = Infer<
  (typeof STAGED_KUBERNETES_NETWORK_POLICY_SCHEMA)["properties"]["spec"]
>;
