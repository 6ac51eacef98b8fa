/** Evaluate: whether labels satisfy a selector. An absent label satisfies `!=`, `not in` and `!has`, and nothing else. */
import { assertNever } from "../../lib/bug.ts";
import type { Selector } from "./selector.ts";

/** Labels by name: a Map, anything with a Map's `get`, or a plain object. */
export type Labels = { get(label: string): string | undefined } | Readonly<Record<string, string>>;

export function evaluateSelector(selector: Selector, labels: Labels): boolean {
  const value = (label: string): string | undefined => labelValue(labels, label);
  switch (selector.op) {
    case "all":
      return true;
    case "has":
      return value(selector.label) !== undefined;
    case "equal":
      return value(selector.label) === selector.value;
    case "not-equal":
      return value(selector.label) !== selector.value;
    case "in":
      return isOneOf(selector.values, value(selector.label));
    case "not-in":
      return !isOneOf(selector.values, value(selector.label));
    case "contains":
      return value(selector.label)?.includes(selector.value) ?? false;
    case "starts-with":
      return value(selector.label)?.startsWith(selector.value) ?? false;
    case "ends-with":
      return value(selector.label)?.endsWith(selector.value) ?? false;
    case "not":
      return !evaluateSelector(selector.of, labels);
    case "and":
      return selector.of.every((term) => evaluateSelector(term, labels));
    case "or":
      return selector.of.some((term) => evaluateSelector(term, labels));
    default:
      return assertNever(selector);
  }
}

function isOneOf(values: readonly string[], value: string | undefined): boolean {
  return value !== undefined && values.includes(value);
}

function labelValue(labels: Labels, label: string): string | undefined {
  if (isLookup(labels)) return labels.get(label);
  return Object.hasOwn(labels, label) ? labels[label] : undefined;
}

/** A plain object may have a label called `get`, but its value is a string. */
function isLookup(labels: Labels): labels is { get(label: string): string | undefined } {
  return typeof labels.get === "function";
}
