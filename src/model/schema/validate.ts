/**
 * Validate: whether a value matches a schema, with kube-apiserver's messages and field paths.
 *
 * Reads only; prune and default first (`normalize.ts`). Unknown fields are no error here.
 * Source of the words: apiextensions-apiserver pkg/apiserver/validation, kube-openapi pkg/validation/errors.
 */
import type { FieldError } from "./field-error.ts";
import { hasFormat, integerRange } from "./format.ts";
import { isJsonObject, jsonEquals, type JsonObject, type JsonValue } from "./json.ts";
import { compilePattern } from "./pattern.ts";
import type { JsonConstant, Schema } from "./schema.ts";

/** `spec` + `ports` is `spec.ports`; the root's path is empty. */
export function childPath(path: string, field: string): string {
  return path === "" ? field : `${path}.${field}`;
}

/** Everything wrong with the value, in document order; empty when it fits. `path` is the field path of the value itself. */
export function validate(schema: Schema, value: JsonValue, path: string): FieldError[] {
  const errors: FieldError[] = [];
  check(schema, value, path, errors);
  return errors;
}

function check(schema: Schema, value: JsonValue, path: string, errors: FieldError[]): void {
  if (value === null && schema.nullable === true) return;
  const isTyped = checkType(schema, value, path, errors);
  if (schema.enum !== undefined && !schema.enum.some((allowed) => jsonEquals(allowed as JsonValue, value))) {
    errors.push({
      field: path,
      reason: "NotSupported",
      value,
      detail: schema.enum.map((allowed) => JSON.stringify(isScalar(allowed) ? String(allowed) : allowed)).join(", "),
    });
  }
  if (!isTyped) return;
  if (typeof value === "string") checkString(schema, value, path, errors);
  else if (typeof value === "number") checkNumber(schema, value, path, errors);
  else if (Array.isArray(value)) checkArray(schema, value, path, errors);
  else if (isJsonObject(value)) checkObject(schema, value, path, errors);
  checkCombinations(schema, value, path, errors);
}

/** False: the value is of another type, so that nothing but `enum` says more about it. */
function checkType(schema: Schema, value: JsonValue, path: string, errors: FieldError[]): boolean {
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (typeof value !== "string" && !Number.isInteger(value)) errors.push(wrongType(path, value, "integer,string"));
    return true;
  }
  if (schema.type === undefined || hasType(schema.type, value)) return true;
  errors.push(wrongType(path, value, schema.type));
  return false;
}

function isScalar(value: JsonConstant): boolean {
  return typeof value !== "object";
}

function hasType(type: NonNullable<Schema["type"]>, value: JsonValue): boolean {
  switch (type) {
    case "object":
      return isJsonObject(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "string":
    case "boolean":
      return typeof value === type;
  }
}

function typeName(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function wrongType(path: string, value: JsonValue, wanted: string): FieldError {
  const found = typeName(value);
  return {
    field: nameOf(path),
    reason: "TypeInvalid",
    value: found,
    detail: `${path} in body must be of type ${wanted}: ${JSON.stringify(found)}`,
  };
}

function nameOf(path: string): string {
  return path === "" ? "<nil>" : path;
}

function invalid(path: string, value: unknown, detail: string): FieldError {
  return { field: nameOf(path), reason: "Invalid", value, detail: `${path} in body ${detail}` };
}

function checkString(schema: Schema, value: string, path: string, errors: FieldError[]): void {
  if (schema.maxLength !== undefined && [...value].length > schema.maxLength) {
    errors.push({ field: path, reason: "TooLong", value, detail: `may not be more than ${schema.maxLength} bytes` });
  } else if (schema.minLength !== undefined && [...value].length < schema.minLength)
    errors.push(invalid(path, value, `should be at least ${schema.minLength} chars long`));
  else if (schema.pattern !== undefined && !compilePattern(schema.pattern).test(value))
    errors.push(invalid(path, value, `should match '${schema.pattern}'`));
  if (schema.format !== undefined && !hasFormat(schema.format, value)) {
    errors.push({
      ...invalid(path, value, `must be of type ${schema.format}: ${JSON.stringify(value)}`),
      reason: "TypeInvalid",
    });
  }
}

function checkNumber(schema: Schema, value: number, path: string, errors: FieldError[]): void {
  if (
    schema.minimum !== undefined &&
    (schema.exclusiveMinimum === true ? value <= schema.minimum : value < schema.minimum)
  ) {
    errors.push(
      invalid(
        path,
        value,
        `should be greater than ${schema.exclusiveMinimum === true ? "" : "or equal to "}${schema.minimum}`,
      ),
    );
  }
  if (
    schema.maximum !== undefined &&
    (schema.exclusiveMaximum === true ? value >= schema.maximum : value > schema.maximum)
  ) {
    errors.push(
      invalid(
        path,
        value,
        `should be less than ${schema.exclusiveMaximum === true ? "" : "or equal to "}${schema.maximum}`,
      ),
    );
  }
  if (schema.multipleOf !== undefined && value % schema.multipleOf !== 0)
    errors.push(invalid(path, value, `should be a multiple of ${schema.multipleOf}`));
  const range = integerRange(schema.format);
  if (range !== undefined && (value < range[0] || value > range[1]))
    errors.push({
      ...invalid(path, value, `must be of type ${schema.format}: ${JSON.stringify(value)}`),
      reason: "TypeInvalid",
    });
}

function itemsOf(count: number): string {
  return count === 1 ? "1 item" : `${count} items`;
}

function checkArray(schema: Schema, value: readonly JsonValue[], path: string, errors: FieldError[]): void {
  if (schema.minItems !== undefined && value.length < schema.minItems)
    errors.push(invalid(path, value.length, `should have at least ${schema.minItems} items`));
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    errors.push({
      field: path,
      reason: "TooMany",
      value: value.length,
      detail: `${value.length}: must have at most ${itemsOf(schema.maxItems)}`,
    });
  }
  const items = schema.items;
  if (items !== undefined) value.forEach((item, index) => check(items, item, `${path}[${index}]`, errors));
  checkDuplicates(schema, value, path, errors);
}

function checkDuplicates(schema: Schema, value: readonly JsonValue[], path: string, errors: FieldError[]): void {
  const listType = schema["x-kubernetes-list-type"];
  if (listType !== "set" && listType !== "map" && schema.uniqueItems !== true) return;
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  const seen = new Set<string>();
  value.forEach((item, index) => {
    const key = listType === "map" ? keyOfItem(schema, item, keys) : item;
    const text = JSON.stringify(key);
    if (seen.has(text)) errors.push({ field: `${path}[${index}]`, reason: "Duplicate", value: key, detail: "" });
    seen.add(text);
  });
}

function keyOfItem(schema: Schema, item: JsonValue, keys: readonly string[]): JsonObject {
  const key: JsonObject = {};
  for (const name of keys) {
    const value =
      (isJsonObject(item) ? item[name] : undefined) ??
      (schema.items?.properties?.[name]?.default as JsonValue | undefined);
    if (value !== undefined) key[name] = value;
  }
  return key;
}

function checkObject(schema: Schema, value: JsonObject, path: string, errors: FieldError[]): void {
  for (const field of schema.required ?? []) {
    if (!Object.hasOwn(value, field))
      errors.push({ field: childPath(path, field), reason: "Required", value: undefined, detail: "" });
  }
  const count = Object.keys(value).length;
  if (schema.minProperties !== undefined && count < schema.minProperties)
    errors.push(invalid(path, count, `should have at least ${schema.minProperties} properties`));
  if (schema.maxProperties !== undefined && count > schema.maxProperties) {
    errors.push({
      field: path,
      reason: "TooMany",
      value: count,
      detail: `${count}: must have at most ${itemsOf(schema.maxProperties)}`,
    });
  }
  const additional = typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
  for (const [field, child] of Object.entries(value)) {
    const known =
      schema.properties !== undefined && Object.hasOwn(schema.properties, field) ? schema.properties[field] : undefined;
    const rule = known ?? additional;
    if (rule !== undefined) check(rule, child, childPath(path, field), errors);
  }
}

function checkCombinations(schema: Schema, value: JsonValue, path: string, errors: FieldError[]): void {
  for (const part of schema.allOf ?? []) check(part, value, path, errors);
  if (schema.anyOf !== undefined && !schema.anyOf.some((part) => validate(part, value, path).length === 0)) {
    errors.push(invalid(path, value, "must validate at least one schema (anyOf)"));
  }
  if (
    schema.oneOf !== undefined &&
    schema.oneOf.filter((part) => validate(part, value, path).length === 0).length !== 1
  ) {
    errors.push(invalid(path, value, "must validate one and only one schema (oneOf)"));
  }
  if (schema.not !== undefined && validate(schema.not, value, path).length === 0)
    errors.push(invalid(path, value, "must not validate the schema (not)"));
}
