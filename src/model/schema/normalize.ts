/**
 * Normalize: a value made to fit its schema where Kubernetes does so silently: unknown fields dropped, nulls dropped, defaults filled in.
 *
 * Every function changes the value in place; the value must be the caller's own copy.
 */
import { cloneJson, isJsonObject, type JsonObject, type JsonValue } from "./json.ts";
import type { Schema } from "./schema.ts";
import { childPath } from "./validate.ts";

function childSchema(schema: Schema, field: string): Schema | undefined {
  if (schema.properties !== undefined && Object.hasOwn(schema.properties, field)) return schema.properties[field];
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
}

/** Removes fields that the schema does not know and returns their paths, in document order. */
export function prune(schema: Schema, value: JsonValue, path: string): string[] {
  const dropped: string[] = [];
  pruneInto(schema, value, path, dropped);
  return dropped;
}

function pruneInto(schema: Schema, value: JsonValue, path: string, dropped: string[]): void {
  if (Array.isArray(value)) {
    const items = schema.items;
    if (items !== undefined) value.forEach((item, index) => pruneInto(items, item, `${path}[${index}]`, dropped));
    return;
  }
  if (!isJsonObject(value)) return;
  const keepUnknown = schema["x-kubernetes-preserve-unknown-fields"] === true || schema.additionalProperties === true;
  for (const field of Object.keys(value)) {
    const child = value[field];
    const rule = childSchema(schema, field);
    if (rule !== undefined && child !== undefined) pruneInto(rule, child, childPath(path, field), dropped);
    else if (!keepUnknown && !(schema["x-kubernetes-embedded-resource"] === true && isTypeField(field))) {
      delete value[field];
      dropped.push(childPath(path, field));
    }
  }
}

function isTypeField(field: string): boolean {
  return field === "apiVersion" || field === "kind" || field === "metadata";
}

/** Removes fields that are null although their schema does not allow null; defaults may fill in then. Nulls in lists stay, to be refused. */
export function dropNulls(schema: Schema, value: JsonValue): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) dropNulls(schema.items, item);
    return;
  }
  if (!isJsonObject(value)) return;
  for (const [field, child] of Object.entries(value)) {
    const rule = childSchema(schema, field);
    if (rule === undefined) continue;
    if (child === null && rule.nullable !== true) delete value[field];
    else if (child !== null) dropNulls(rule, child);
  }
}

/** A copy without fields that are null, at any depth: Go writes what is absent so. Items of lists stay. */
export function withoutNullFields(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withoutNullFields);
  if (!isJsonObject(value)) return value;
  const fields = Object.entries(value).filter(([, child]) => child !== null);
  return Object.fromEntries(fields.map(([name, child]) => [name, withoutNullFields(child)]));
}

/** Fills in the defaults of absent fields, also inside the defaults themselves. */
export function applyDefaults(schema: Schema, value: JsonValue): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) applyDefaults(schema.items, item);
    return;
  }
  if (!isJsonObject(value)) return;
  for (const [field, rule] of Object.entries(schema.properties ?? {})) fillIn(value, field, rule);
  if (typeof schema.additionalProperties === "object")
    for (const child of Object.values(value)) applyDefaults(schema.additionalProperties, child);
}

function fillIn(value: JsonObject, field: string, rule: Schema): void {
  if (!Object.hasOwn(value, field)) {
    if (rule.default === undefined) return;
    value[field] = cloneJson(rule.default as JsonValue);
  }
  const child = value[field];
  if (child !== undefined) applyDefaults(rule, child);
}
