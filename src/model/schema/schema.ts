/**
 * Schema: a structural schema, the subset of OpenAPI v3 that a CustomResourceDefinition may hold, as plain data.
 *
 * One constant serves for the CRD manifest, validation, pruning, defaults, OpenAPI documents and (through `Infer`) the TypeScript type.
 * Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
 */
import type { JsonValue } from "./json.ts";

export interface Schema {
  readonly type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  readonly description?: string;
  readonly properties?: { readonly [field: string]: Schema };
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly enum?: readonly JsonConstant[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  /** Checked: byte (base64), cidr, ipv4, ipv6, date, date-time, int32, int64, uuid; other names are accepted and ignored, as in Kubernetes. */
  readonly format?: string;
  readonly nullable?: boolean;
  readonly default?: JsonConstant;
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly not?: Schema;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-embedded-resource"?: boolean;
  readonly "x-kubernetes-list-type"?: "atomic" | "set" | "map";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: "atomic" | "granular";
  /** Rules in CEL; only API servers evaluate them. */
  readonly "x-kubernetes-validations"?: readonly ValidationRule[];
  /** How a strategic merge patch treats the list: built-in kinds only. */
  readonly "x-kubernetes-patch-strategy"?: "merge" | "replace" | "merge,retainKeys" | "retainKeys";
  readonly "x-kubernetes-patch-merge-key"?: string;
  /** The name under which OpenAPI documents define this schema once and refer to it: built-in kinds only, never written into a CRD. */
  readonly definition?: string;
}

/** A CEL rule about the value that the schema describes: `self`, and `oldSelf` in rules about changes. */
export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  /** An expression that returns the message; `message` is used when it fails. */
  readonly messageExpression?: string;
  readonly reason?: "FieldValueInvalid" | "FieldValueForbidden" | "FieldValueRequired" | "FieldValueDuplicate";
  /** The field that errors name, relative to the rule's value: `.blockSize`. */
  readonly fieldPath?: string;
  /** True: `oldSelf` is an optional value, and the rule also runs when there is no old value. */
  readonly optionalOldSelf?: boolean;
}

/** A JSON value as a constant. */
export type JsonConstant =
  | null
  | boolean
  | number
  | string
  | readonly JsonConstant[]
  | { readonly [field: string]: JsonConstant };

/** The TypeScript type of what a schema constant (`as const satisfies Schema`) accepts. */
export type Infer<S> = S extends { readonly nullable: true } ? InferPresent<S> | null : InferPresent<S>;

type InferPresent<S> = S extends { readonly "x-kubernetes-int-or-string": true }
  ? number | string
  : S extends { readonly enum: readonly (infer E)[] }
    ? E
    : S extends { readonly type: "string" }
      ? string
      : S extends { readonly type: "integer" | "number" }
        ? number
        : S extends { readonly type: "boolean" }
          ? boolean
          : S extends { readonly type: "array"; readonly items: infer I }
            ? Infer<I>[]
            : S extends { readonly type: "object"; readonly properties: infer P }
              ? InferObject<P, S extends { readonly required: readonly (infer R)[] } ? R : never>
              : S extends { readonly type: "object"; readonly additionalProperties: infer A }
                ? Record<string, Infer<A>>
                : JsonValue;

type InferObject<P, R> = { [K in keyof P as K extends R ? K : never]: Infer<P[K]> } & {
  [K in keyof P as K extends R ? never : K]?: Infer<P[K]>;
};
