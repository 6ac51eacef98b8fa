/**
 * Canonical: the one text of a selector, by which equal selectors are recognised; `parseSelector` reads it back to the same meaning.
 *
 * Order and repetition of terms and of listed values, nesting of the same operator, and double negation do not count.
 */
import { assertNever, invariant } from "../../lib/bug.ts";
import type { Selector } from "./selector.ts";

/** A value with both kinds of quotes cannot be written; no label value has either, so that is a bug of whoever built the tree. */
export function formatSelector(selector: Selector): string {
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
      return selector.of.op === "not" ? formatSelector(selector.of.of) : `!${parenthesise(formatSelector(selector.of))}`;
    case "and":
      return formatTerms("and", selector.of);
    case "or":
      return formatTerms("or", selector.of);
    default:
      return assertNever(selector);
  }
}

/** `all()` is neutral in an AND and decides an OR; the empty AND is everything, the empty OR nothing. */
function formatTerms(op: "and" | "or", terms: readonly Selector[]): string {
  const texts = new Set<string>();
  collect(op, terms, texts);
  if (op === "and") texts.delete("all()");
  else if (texts.has("all()")) return "all()";
  const sorted = [...texts].sort();
  if (sorted.length === 0) return op === "and" ? "all()" : "!all()";
  if (sorted.length === 1) return sorted[0] ?? "";
  return sorted.map(parenthesise).join(op === "and" ? " && " : " || ");
}

function collect(op: "and" | "or", terms: readonly Selector[], into: Set<string>): void {
  for (const term of terms) {
    if (term.op === op) collect(op, term.of, into);
    else into.add(formatSelector(term));
  }
}

/** Every term but the self-contained ones is wrapped, so that text splits back as the tree did. */
function parenthesise(text: string): string {
  return /^!?(has\([^()]*\)|all\(\))$/.test(text) ? text : `(${text})`;
}

function quote(value: string): string {
  invariant(!value.includes('"') || !value.includes("'"), `a selector cannot hold a value with both kinds of quotes: ${value}`);
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

function list(values: readonly string[]): string {
  return `{${[...new Set(values)].sort().map(quote).join(", ")}}`;
}
