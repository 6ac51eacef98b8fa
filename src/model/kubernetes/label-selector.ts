/**
 * Label selector: Kubernetes' `matchLabels` and `matchExpressions`, checked and turned into a `Selector`.
 * Source: apimachinery pkg/apis/meta/v1/validation.
 */
import { labelKeyErrors, labelValueErrors } from "../labels.ts";
import type { FieldError } from "../schema/field-error.ts";
import { isJsonObject } from "../schema/json.ts";
import type { Selector } from "../selector/selector.ts";
import { checkFields, checkList, checkObject, wrongType } from "./fields.ts";

/** Adds the errors of an untrusted label selector. */
export function checkLabelSelector(value: unknown, path: string, errors: FieldError[]): void {
  const selector = checkObject(value, path, errors);
  if (selector === undefined) return;
  checkFields(selector, path, ["matchLabels", "matchExpressions"], errors);
  const labels = checkObject(selector["matchLabels"] ?? {}, `${path}.matchLabels`, errors) ?? {};
  for (const [key, label] of Object.entries(labels)) {
    const field = `${path}.matchLabels`;
    checkKey(key, field, errors);
    checkValue(label, field, errors);
  }
  for (const [item, itemPath] of checkList(selector["matchExpressions"], `${path}.matchExpressions`, errors))
    checkExpression(item, itemPath, errors);
}

function checkExpression(value: unknown, path: string, errors: FieldError[]): void {
  const expression = checkObject(value, path, errors);
  if (expression === undefined) return;
  checkFields(expression, path, ["key", "operator", "values"], errors);
  const values = checkList(expression["values"], `${path}.values`, errors);
  const operator = expression["operator"] ?? "";
  if (operator === "In" || operator === "NotIn") {
    if (values.length === 0)
      errors.push({
        field: `${path}.values`,
        reason: "Required",
        value: undefined,
        detail: "must be specified when `operator` is 'In' or 'NotIn'",
      });
  } else if (operator === "Exists" || operator === "DoesNotExist") {
    if (values.length > 0)
      errors.push({
        field: `${path}.values`,
        reason: "Forbidden",
        value: undefined,
        detail: "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
      });
  } else
    errors.push({
      field: `${path}.operator`,
      reason: "Invalid",
      value: operator,
      detail: "not a valid selector operator",
    });
  checkKey(expression["key"] ?? "", `${path}.key`, errors);
  for (const [item, field] of values) checkValue(item, field, errors);
}

function checkKey(key: unknown, field: string, errors: FieldError[]): void {
  if (typeof key !== "string") errors.push(wrongType(field, key, "a string"));
  else for (const detail of labelKeyErrors(key)) errors.push({ field, reason: "Invalid", value: key, detail });
}

function checkValue(value: unknown, field: string, errors: FieldError[]): void {
  if (typeof value !== "string") errors.push(wrongType(field, value, "a string"));
  else for (const detail of labelValueErrors(value)) errors.push({ field, reason: "Invalid", value, detail });
}

/** The terms of a *valid* label selector, with `prefix` before each label name; all must hold. An empty selector has none. */
export function termsOfLabelSelector(value: unknown, prefix: string): Selector[] {
  if (!isJsonObject(value)) return [];
  const terms: Selector[] = [];
  const labels = value["matchLabels"];
  if (isJsonObject(labels))
    for (const [key, label] of Object.entries(labels))
      terms.push({ op: "equal", label: prefix + key, value: String(label) });
  const expressions = value["matchExpressions"];
  for (const item of Array.isArray(expressions) ? expressions : [])
    if (isJsonObject(item)) terms.push(termOfExpression(item, prefix));
  return terms;
}

function termOfExpression(item: Readonly<Record<string, unknown>>, prefix: string): Selector {
  const label = prefix + String(item["key"]);
  const values = Array.isArray(item["values"]) ? item["values"].map(String) : [];
  switch (item["operator"]) {
    case "In":
      return { op: "in", label, values };
    case "NotIn":
      return { op: "not-in", label, values };
    case "Exists":
      return { op: "has", label };
    default:
      return { op: "not", of: { op: "has", label } };
  }
}
