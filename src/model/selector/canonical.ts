/**
 * Canonical: the canonical text of a selector, by which equal selectors are recognised; `parseSelector` reads it back to the same meaning.
 *
 * Order and repetition of terms and of listed values, nesting of the same operator, and double negation make no difference.
 */
import { assertNever, invariant } from "../../lib/bug.ts";
import type { Selector } from "./selector.ts";

/** A value with both kinds of quotes cannot be written; no label value has either, so such a tree is a bug. */
export function formatSelector(selector: Selector): string {
  return print(normalize(selector));
}

function normalize(selector: Selector): Selector {
  switch (selector.op) {
    case "not": {
      const of = normalize(selector.of);
      return of.op === "not" ? of.of : { op: "not", of };
    }
    case "and":
    case "or":
      return normalizeTerms(selector.op, selector.of);
    case "in":
    case "not-in":
      return { ...selector, values: [...new Set(selector.values)].sort() };
    default:
      return selector;
  }
}

/** `all()` is neutral in an AND and decides an OR; the empty AND is everything, the empty OR nothing. */
function normalizeTerms(op: "and" | "or", terms: readonly Selector[]): Selector {
  const byText = new Map<string, Selector>();
  for (const term of terms.map(normalize))
    for (const each of term.op === op ? term.of : [term]) byText.set(print(each), each);
  if (op === "or" && byText.has("all()")) return { op: "all" };
  if (op === "and") byText.delete("all()");
  const sorted = [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, term]) => term);
  const [first] = sorted;
  if (first === undefined) return op === "and" ? { op: "all" } : { op: "not", of: { op: "all" } };
  return sorted.length === 1 ? first : { op, of: sorted };
}

function print(selector: Selector): string {
  switch (selector.op) {
    case "all":
      return "all()";
    case "has":
      return `has(${selector.label})`;
    case "equal":
      return `${selector.label} == ${quote(selector.value)}`;
    case "not-equal":
      return `${selector.label} != ${quote(selector.value)}`;
    case "in":
      return `${selector.label} in ${list(selector.values)}`;
    case "not-in":
      return `${selector.label} not in ${list(selector.values)}`;
    case "contains":
      return `${selector.label} contains ${quote(selector.value)}`;
    case "starts-with":
      return `${selector.label} starts with ${quote(selector.value)}`;
    case "ends-with":
      return `${selector.label} ends with ${quote(selector.value)}`;
    case "not":
      return `!${printTerm(selector.of)}`;
    case "and":
      return selector.of.map(printTerm).join(" && ");
    case "or":
      return selector.of.map(printTerm).join(" || ");
    default:
      return assertNever(selector);
  }
}

/** In parentheses, unless the term needs none. */
function printTerm(term: Selector): string {
  return term.op === "has" || term.op === "all" || term.op === "not" ? print(term) : `(${print(term)})`;
}

function quote(value: string): string {
  invariant(
    !value.includes('"') || !value.includes("'"),
    `a selector cannot hold a value with both kinds of quotes: ${value}`,
  );
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

function list(values: readonly string[]): string {
  return `{${values.map(quote).join(", ")}}`;
}
