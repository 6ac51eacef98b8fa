/**
 * NodePolicyStatus: what one node says of the policies that it has in its kernel. Written by the node's daemon alone, one object a node;
 * `calico controllers` makes the conditions of policies of all of them.
 *
 * It is compact: policies are grouped by kind, namespace and state, a name and a generation each. What says nothing of a policy says nothing
 * of it: a policy that the node does not list has no endpoint there, as far as the node has seen the policies of its kind (`observed`).
 */
import type { Key, KeyText } from "../key.ts";
import { formatKey } from "../key.ts";
import type { Kind } from "../kind.ts";
import { type Revision, revisionOf } from "../revision.ts";
import type { Infer, Schema } from "../schema/schema.ts";
import { META } from "./common.ts";

/** Kinds of policy with the condition `Programmed`. Kubernetes' NetworkPolicy has no status. */
export const REPORTED_KINDS = [
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "ClusterNetworkPolicy",
  "AdminNetworkPolicy",
  "BaselineAdminNetworkPolicy",
] as const;
export type ReportedKind = (typeof REPORTED_KINDS)[number];

export function isReportedKind(kind: Kind): kind is ReportedKind {
  return REPORTED_KINDS.some((each) => each === kind);
}

export function isReportedKey(key: Key): key is Key<ReportedKind> {
  return isReportedKind(key.kind);
}

/** Longest text of the object's content; etcd takes requests of 1.5 MB. */
export const MOST_REPORT = 1_000_000;
/** Longest reason. */
export const MOST_REASON = 200;

/** Name to generation. */
const GENERATIONS = {
  type: "object",
  "x-kubernetes-map-type": "atomic",
  additionalProperties: { type: "integer", format: "int64" },
} as const satisfies Schema;

export const NODE_POLICY_STATUS_SCHEMA = {
  type: "object",
  description: "The policies that a node has in its kernel. Written by the node's daemon only.",
  required: ["metadata", "spec"],
  properties: {
    ...META,
    spec: {
      type: "object",
      properties: {
        observed: {
          type: "object",
          description:
            "By kind of policy: the resourceVersion up to which the kernel has everything that concerns the node.",
          "x-kubernetes-map-type": "atomic",
          additionalProperties: { type: "string" },
        },
        policies: {
          type: "array",
          description: "The policies that select endpoints of the node, by kind and namespace.",
          "x-kubernetes-list-type": "atomic",
          items: {
            type: "object",
            required: ["kind"],
            properties: {
              kind: { type: "string" },
              namespace: { type: "string" },
              programmed: { ...GENERATIONS, description: "Name to the generation that the kernel has." },
              invalid: {
                ...GENERATIONS,
                description: "Of policies that are not valid and deny all that they select: name to generation.",
              },
              refused: {
                type: "object",
                description: "By name: what the kernel refuses; the endpoints that it selects are closed.",
                "x-kubernetes-map-type": "atomic",
                additionalProperties: {
                  type: "object",
                  required: ["generation", "reason"],
                  properties: { generation: { type: "integer", format: "int64" }, reason: { type: "string" } },
                },
              },
            },
          },
        },
        leftOut: {
          type: "object",
          description: "Present when the policies do not fit into the object: only how many there are.",
          properties: {
            programmed: { type: "integer" },
            invalid: { type: "integer" },
            refused: { type: "integer" },
          },
        },
      },
    },
  },
} as const satisfies Schema;

export type NodePolicyStatusSpec = Infer<(typeof NODE_POLICY_STATUS_SCHEMA)["properties"]["spec"]>;

/** What the node's kernel has of a policy. `invalid`: it is in force, as one that denies everything. */
export interface PolicyState {
  readonly generation: number;
  readonly state: "programmed" | "invalid" | "refused";
  /** Of one that is refused. */
  readonly reason?: string;
}

export interface NodeReport {
  readonly observed: ReadonlyMap<ReportedKind, Revision>;
  readonly policies: ReadonlyMap<KeyText, PolicyState>;
  /** The policies were too many to be listed: nothing is known of any. */
  readonly isLeftOut: boolean;
}

/** The policies in any order give the same content. */
export function reportOf(
  observed: ReadonlyMap<ReportedKind, Revision>,
  policies: Iterable<readonly [Key<ReportedKind>, PolicyState]>,
  most: number = MOST_REPORT,
): NodePolicyStatusSpec {
  const groups = new Map<string, Group>();
  const counts = { programmed: 0, invalid: 0, refused: 0 };
  const sorted = Array.from(policies, ([key, state]) => ({ key, state, text: formatKey(key) }));
  sorted.sort((a, b) => compareText(a.text, b.text));
  for (const { key, state: each } of sorted) {
    const { kind, namespace, name } = key;
    const { generation, state, reason = "" } = each;
    const place = `${kind}/${namespace ?? ""}`;
    const group = groups.get(place) ?? { kind, ...(namespace === undefined ? {} : { namespace }) };
    groups.set(place, group);
    counts[state]++;
    if (state === "refused") (group.refused ??= {})[name] = { generation, reason: cut(reason, MOST_REASON) };
    else (group[state] ??= {})[name] = generation;
  }
  const spec = {
    observed: Object.fromEntries(
      REPORTED_KINDS.flatMap((kind) => (observed.has(kind) ? [[kind, String(observed.get(kind))]] : [])),
    ),
    policies: [...groups.values()],
  };
  if (JSON.stringify(spec).length <= most) return spec;
  return { observed: spec.observed, leftOut: counts };
}

/** What cannot be read is not there, and so counts as not programmed. */
export function readReport(spec: unknown): NodeReport {
  const { observed, policies, leftOut } = fieldsOf(spec);
  const read = new Map<KeyText, PolicyState>();
  for (const group of Array.isArray(policies) ? policies : []) {
    const { kind, namespace, programmed, invalid, refused } = fieldsOf(group);
    const own = REPORTED_KINDS.find((each) => each === kind);
    if (own === undefined) continue;
    const keyOf = (name: string): KeyText =>
      formatKey({ kind: own, namespace: typeof namespace === "string" ? namespace : undefined, name });
    for (const [state, generations] of [
      ["programmed", programmed],
      ["invalid", invalid],
    ] as const)
      for (const [name, generation] of Object.entries(fieldsOf(generations)))
        read.set(keyOf(name), { state, generation: numberOf(generation) });
    for (const [name, each] of Object.entries(fieldsOf(refused))) {
      const { generation, reason } = fieldsOf(each);
      read.set(keyOf(name), { state: "refused", generation: numberOf(generation), reason: String(reason ?? "") });
    }
  }
  const seen = new Map<ReportedKind, Revision>();
  for (const kind of REPORTED_KINDS) {
    const revision = fieldsOf(observed)[kind];
    if (typeof revision === "string") seen.set(kind, revisionOf(revision));
  }
  return { observed: seen, policies: read, isLeftOut: leftOut !== undefined };
}

interface Group {
  kind: string;
  namespace?: string;
  programmed?: Record<string, number>;
  invalid?: Record<string, number>;
  refused?: Record<string, { generation: number; reason: string }>;
}

export function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : -1;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
