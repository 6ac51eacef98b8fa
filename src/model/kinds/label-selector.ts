/** Label selector: Kubernetes' `matchLabels` and `matchExpressions`, as part of a schema. Source: apimachinery pkg/apis/meta/v1. */
import type { Schema } from "../schema/schema.ts";

export const LABEL_SELECTOR = {
  type: "object",
  "x-kubernetes-map-type": "atomic",
  properties: {
    matchLabels: { type: "object", additionalProperties: { type: "string" } },
    matchExpressions: {
      type: "array",
      "x-kubernetes-list-type": "atomic",
      items: {
        type: "object",
        required: ["key", "operator"],
        properties: {
          key: { type: "string" },
          operator: { type: "string" },
          values: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "atomic" },
        },
      },
    },
  },
} as const satisfies Schema;
