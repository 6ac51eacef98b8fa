/**
 * Evaluate: whether an object keeps the rules of its definition, told as kube-apiserver tells it.
 *
 * A rule about a value that an update leaves as it was is not asked again, unless it names `oldSelf`.
 * Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go.
 */
import type { FieldError } from "../../model/schema/field-error.ts";
import { isJsonObject, jsonEquals, type JsonObject, type JsonValue } from "../../model/schema/json.ts";
import { Optional } from "@marcbachmann/cel-js";
import type { Schema } from "../../model/schema/schema.ts";
import { sameValue } from "./declare.ts";
import type { Rule, RuleNode } from "./rules.ts";

/** Errors of the schema after which rules are not asked. */
const BLOCKING: ReadonlySet<FieldError["reason"]> = new Set(["NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid"]);

/** What the rules have against the object; `found` is what the schema has against it. */
export function evaluateRules(root: RuleNode, object: JsonObject, previous: JsonObject | undefined, found: readonly FieldError[]): FieldError[] {
  if (found.some((error) => BLOCKING.has(error.reason))) {
    return [{ field: "<nil>", reason: "Invalid", value: null, detail: "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation" }];
  }
  const errors: FieldError[] = [];
  visit(root, object, previous, "", errors);
  return errors;
}

function visit(node: RuleNode, value: JsonValue, previous: JsonValue | undefined, path: string, errors: FieldError[]): void {
  if (value === null) return;
  if (node.rules.length > 0) askRules(node, value, previous, path, errors);
  if (Array.isArray(value)) {
    const { items } = node;
    if (items !== undefined) value.forEach((item, index) => visit(items, item, correlate(node.schema, item, previous), `${path}[${index}]`, errors));
    return;
  }
  if (!isJsonObject(value)) return;
  const before = isJsonObject(previous) ? previous : {};
  for (const [field, child] of Object.entries(value)) {
    const property = node.properties.get(field);
    const below = property ?? node.additional;
    if (below === undefined || (property === undefined && node.schema.properties !== undefined && Object.hasOwn(node.schema.properties, field))) continue;
    const at = property === undefined ? `${path}[${field}]` : path === "" ? field : `${path}.${field}`;
    visit(below, child, Object.hasOwn(before, field) ? before[field] : undefined, at, errors);
  }
}

/** What an item was before: known in lists with keys only. */
function correlate(schema: Schema, item: JsonValue, previous: JsonValue | undefined): JsonValue | undefined {
  if (schema["x-kubernetes-list-type"] !== "map" || !Array.isArray(previous)) return undefined;
  const keyOf = (entry: JsonValue): JsonValue => (schema["x-kubernetes-list-map-keys"] ?? []).map((key) => (isJsonObject(entry) ? (entry[key] ?? null) : null));
  const key = keyOf(item);
  return previous.find((entry) => jsonEquals(keyOf(entry), key));
}

function askRules(node: RuleNode, value: JsonValue, previous: JsonValue | undefined, path: string, errors: FieldError[]): void {
  const { declared } = node;
  if (declared === undefined) return;
  const unchanged = previous !== undefined && sameValue(node.schema, value, previous);
  const self = declared.convert(value);
  const oldSelf = previous === undefined || previous === null ? undefined : declared.convert(previous);
  for (const rule of node.rules) {
    const { usesOldSelf } = rule.test;
    const optional = rule.source.optionalOldSelf === true;
    if (usesOldSelf && !optional && oldSelf === undefined) continue;
    if (!usesOldSelf && unchanged) continue;
    const variables = { self, oldSelf: optional ? (oldSelf === undefined ? Optional.none() : Optional.of(oldSelf)) : oldSelf };
    const problem = ask(rule, variables);
    if (problem !== undefined) errors.push(refusal(node, rule, path, problem));
  }
}

/** undefined when the rule holds, else what to say. */
function ask(rule: Rule, variables: Readonly<Record<string, unknown>>): { readonly detail: string; readonly failed: boolean } | undefined {
  const { message = "", rule: text } = rule.source;
  try {
    if (rule.test.evaluate(variables) === true) return undefined;
  } catch (error) {
    return { detail: `${error instanceof Error ? error.message : String(error)} evaluating rule: ${message.trim() || text.trim()}`, failed: true };
  }
  return { detail: composed(rule, variables) ?? (message.trim() || `failed rule: ${text.trim()}`), failed: false };
}

/** The message that `messageExpression` makes; undefined when it makes none. */
function composed(rule: Rule, variables: Readonly<Record<string, unknown>>): string | undefined {
  try {
    const text = rule.message?.evaluate(variables);
    return typeof text === "string" && text.trim() !== "" && !/[\r\n]/.test(text) ? text.trim() : undefined;
  } catch {
    return undefined;
  }
}

function refusal(node: RuleNode, rule: Rule, path: string, problem: { readonly detail: string; readonly failed: boolean }): FieldError {
  const value = node.schema.type ?? "";
  if (problem.failed) return { field: path === "" ? "<nil>" : path, reason: "Invalid", value, detail: problem.detail };
  const full = `${path}${rule.fieldPath}`.replace(/^\./, "");
  const field = full === "" ? "<nil>" : full;
  switch (rule.source.reason) {
    case "FieldValueForbidden":
      return { field, reason: "Forbidden", value, detail: problem.detail };
    case "FieldValueRequired":
      return { field, reason: "Required", value: undefined, detail: problem.detail };
    case "FieldValueDuplicate":
      return { field, reason: "Duplicate", value, detail: problem.detail };
    default:
      return { field, reason: "Invalid", value, detail: problem.detail };
  }
}
