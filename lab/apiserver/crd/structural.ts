/**
 * Structural: whether a schema that a client brings is structural, so that it can be used to validate, prune and default.
 *
 * Source: apiextensions-apiserver pkg/apiserver/schema/validation.go and the words of pkg/apis/apiextensions/validation.
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, isJsonObject, type JsonObject, type JsonValue } from "../../../src/model/schema/json.ts";
import { compilePattern } from "../../../src/model/schema/pattern.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";
import { validate } from "../../../src/model/schema/validate.ts";

/** Keywords with a list, a map of schemas, one schema, or a plain value; anything else is unknown. */
const PLAIN: ReadonlySet<string> = new Set([
  "type",
  "description",
  "title",
  "required",
  "enum",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "pattern",
  "format",
  "nullable",
  "default",
  "example",
  "externalDocs",
  "minItems",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
  "x-kubernetes-int-or-string",
  "x-kubernetes-preserve-unknown-fields",
  "x-kubernetes-embedded-resource",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
]);

/** Where a schema stands: on the spine that gives each value its type, or nested in a combination; `allOf` may hold rules in CEL, the others not. */
type Standing = "spine" | "allOf" | "combination";

const TYPES: ReadonlySet<JsonValue> = new Set(["object", "array", "string", "integer", "number", "boolean"]);

/** Everything that keeps the schema from being used; empty when it is structural. */
export function validateStructural(schema: JsonValue | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!isJsonObject(schema))
    return [{ field: path, reason: "Required", value: undefined, detail: "schemas are required" }];
  if (schema["type"] !== "object")
    errors.push({
      field: `${path}.type`,
      reason: "Invalid",
      value: schema["type"] ?? "",
      detail: "must be object at the root",
    });
  checkNode(schema, path, "spine", errors);
  if (errors.length === 0) checkDefaults(schema as Schema, path, errors);
  return errors;
}

function checkNode(schema: JsonObject, path: string, standing: Standing, errors: FieldError[]): void {
  const typed = TYPES.has(schema["type"] ?? null);
  const open = schema["x-kubernetes-int-or-string"] === true || schema["x-kubernetes-preserve-unknown-fields"] === true;
  const structural = standing === "spine";
  if (structural && !typed && !open)
    errors.push({
      field: `${path}.type`,
      reason: "Required",
      value: undefined,
      detail: "must not be empty for specified object fields",
    });
  if (schema["type"] !== undefined && !typed)
    errors.push({
      field: `${path}.type`,
      reason: "NotSupported",
      value: schema["type"],
      detail: [...TYPES].map((type) => JSON.stringify(type)).join(", "),
    });
  if (structural && schema["type"] === "array" && schema["items"] === undefined)
    errors.push({ field: `${path}.items`, reason: "Required", value: undefined, detail: "must be specified" });
  if (schema["properties"] !== undefined && schema["additionalProperties"] !== undefined) {
    errors.push({
      field: `${path}.additionalProperties`,
      reason: "Forbidden",
      value: undefined,
      detail: "additionalProperties and properties are mutual exclusive",
    });
  }
  checkPattern(schema, path, errors);
  if (standing === "combination" && schema["x-kubernetes-validations"] !== undefined)
    errors.push({
      field: `${path}.x-kubernetes-validations`,
      reason: "Forbidden",
      value: undefined,
      detail: "must be empty to be structural",
    });
  for (const [keyword, value] of Object.entries(schema)) checkKeyword(keyword, value, path, standing, errors);
}

function checkPattern(schema: JsonObject, path: string, errors: FieldError[]): void {
  const pattern = schema["pattern"];
  if (pattern === undefined) return;
  try {
    compilePattern(String(pattern));
  } catch {
    errors.push({
      field: `${path}.pattern`,
      reason: "Invalid",
      value: pattern,
      detail: "must be a valid regular expression",
    });
  }
}

function checkKeyword(keyword: string, value: JsonValue, path: string, standing: Standing, errors: FieldError[]): void {
  const at = `${path}.${keyword}`;
  switch (keyword) {
    case "properties":
      if (isJsonObject(value))
        for (const [field, child] of Object.entries(value)) checkChild(child, `${at}[${field}]`, standing, errors);
      return;
    case "items":
      checkChild(value, at, standing, errors);
      return;
    case "additionalProperties":
      if (typeof value !== "boolean") checkChild(value, at, standing, errors);
      return;
    case "allOf":
      arrayAt(value).forEach((child, index) =>
        checkChild(child, `${at}[${index}]`, standing === "combination" ? standing : "allOf", errors),
      );
      return;
    case "anyOf":
    case "oneOf":
      arrayAt(value).forEach((child, index) => checkChild(child, `${at}[${index}]`, "combination", errors));
      return;
    case "not":
      checkChild(value, at, "combination", errors);
      return;
    case "x-kubernetes-validations":
      if (!Array.isArray(value) || !value.every(isJsonObject))
        errors.push({ field: at, reason: "Invalid", value, detail: "must be a list of rules" });
      return;
    default:
      if (!PLAIN.has(keyword))
        errors.push({
          field: at,
          reason: "Forbidden",
          value: undefined,
          detail: "is no keyword of a structural schema",
        });
  }
}

function checkChild(child: JsonValue, path: string, standing: Standing, errors: FieldError[]): void {
  if (isJsonObject(child)) checkNode(child, path, standing, errors);
  else errors.push({ field: path, reason: "Invalid", value: child, detail: "must be a schema" });
}

function checkDefaults(schema: Schema, path: string, errors: FieldError[]): void {
  if (schema.default !== undefined) {
    for (const error of validate({ ...schema }, schema.default as JsonValue, `${path}.default`)) errors.push(error);
  }
  for (const [field, child] of Object.entries(schema.properties ?? {}))
    checkDefaults(child, `${path}.properties[${field}]`, errors);
  if (schema.items !== undefined) checkDefaults(schema.items, `${path}.items`, errors);
  if (typeof schema.additionalProperties === "object")
    checkDefaults(schema.additionalProperties, `${path}.additionalProperties`, errors);
}
