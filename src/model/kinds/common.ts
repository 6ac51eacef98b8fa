/** Common: parts that the schemas of several kinds share. */
import type { Schema } from "../schema/schema.ts";

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
/** Longest text of a range: IPv6 with an IPv4 address at its end, and a length. */
export const MOST_RANGE = 49;
/** Longest name of a Kubernetes object. */
export const MOST_NAME = 253;

/** A selector; its grammar is in `model/selector/parse.ts`, which a schema cannot say. */
export const SELECTOR = { type: "string", maxLength: MOST_SELECTOR } as const satisfies Schema;
