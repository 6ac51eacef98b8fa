/** Common: parts that the schemas of several kinds share. */
import type { Schema, ValidationRule } from "../schema/schema.ts";
import { WORDS } from "./words.ts";

/** The fields beside `spec` and `status` of every kind. */
export const META = {
  apiVersion: { type: "string" },
  kind: { type: "string" },
  metadata: { type: "object" },
} as const satisfies NonNullable<Schema["properties"]>;

/** Kubernetes' Condition (apimachinery pkg/apis/meta/v1), one of each type. */
export const CONDITIONS = {
  type: "array",
  "x-kubernetes-list-type": "map",
  "x-kubernetes-list-map-keys": ["type"],
  items: {
    type: "object",
    required: ["lastTransitionTime", "message", "reason", "status", "type"],
    properties: {
      lastTransitionTime: { type: "string", format: "date-time" },
      message: { type: "string", maxLength: 32768 },
      observedGeneration: { type: "integer", format: "int64", minimum: 0 },
      reason: {
        type: "string",
        minLength: 1,
        maxLength: 1024,
        pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
      },
      status: { type: "string", enum: ["True", "False", "Unknown"] },
      type: {
        type: "string",
        maxLength: 316,
        pattern:
          "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
      },
    },
  },
} as const satisfies Schema;

/** `status` of a policy or tier. */
export const STATUS = {
  type: "object",
  description: "State as the nodes and controllers see it.",
  properties: { conditions: CONDITIONS },
} as const satisfies Schema;

/** Longest text of a selector. */
export const MOST_SELECTOR = 1024;
/** Longest text of a range: IPv6 in hexadecimal digits, and a length. */
export const MOST_RANGE = 43;
/** Longest name of a Kubernetes object. */
export const MOST_NAME = 253;

/** A selector; its grammar is in `model/selector/parse.ts`, which a schema cannot say. */
export const SELECTOR = { type: "string", maxLength: MOST_SELECTOR } as const satisfies Schema;

/** RFC 1123: labels with dots between them; empty text means absent. */
export const SUBDOMAIN_PATTERN = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$";
/** The name of an object, or empty text. */
export const NAME = { type: "string", maxLength: MOST_NAME, pattern: SUBDOMAIN_PATTERN } as const satisfies Schema;

/** `global()` anywhere in these fields is an error. */
export function withoutGlobal(...fields: readonly string[]): readonly ValidationRule[] {
  return fields.map((field) => ({
    rule: `!has(self.${field}) || !self.${field}.contains('global(')`,
    message: WORDS.globalElsewhere,
    fieldPath: `.${field}`,
  }));
}
