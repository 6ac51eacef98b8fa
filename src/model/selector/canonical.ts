/**
 * Canonical: the canonical text of a selector, by which equal selectors are recognised; `parseSelector` reads it back to the same meaning.
 *
 * Order and repetition of terms and of listed values, nesting of the same operator, and double negation make no difference.
 */
import { assertNever, invariant } from "../../lib/bug.ts";
import type { Selector } from "./selector.ts";

/** A value with both kinds of quotes cannot be written; no label value has either, so such a tree is a bug. */
export function formatSelector(selector: Selector): string {
  return canonical(selector).text;
}

/** A selector in its canonical form. Each part is made once, however deep it is: hostile text must not cost more than its length. */
interface Canonical {
  readonly op: Selector["op"];
  readonly text: string;
  /** What `!`, `&&` or `||` combines. */
  readonly parts: readonly Canonical[];
}

const ALL: Canonical = { op: "all", text: "all()", parts: [] };

function canonical(selector: Selector): Canonical {
  switch (selector.op) {
    case "all":
      return ALL;
    case "has":
      return leaf(selector, `has(${selector.label})`);
    case "equal":
      return leaf(selector, `${selector.label} == ${quote(selector.value)}`);
    case "not-equal":
      return leaf(selector, `${selector.label} != ${quote(selector.value)}`);
    case "contains":
      return leaf(selector, `${selector.label} contains ${quote(selector.value)}`);
    case "starts-with":
      return leaf(selector, `${selector.label} starts with ${quote(selector.value)}`);
    case "ends-with":
      return leaf(selector, `${selector.label} ends with ${quote(selector.value)}`);
    case "in":
      return leaf(selector, `${selector.label} in ${listText(selector.values)}`);
    case "not-in":
      return leaf(selector, `${selector.label} not in ${listText(selector.values)}`);
    case "not":
      return negated(canonical(selector.of));
    case "and":
    case "or":
      return combined(selector.op, selector.of.map(canonical));
    default:
      return assertNever(selector);
  }
}

function leaf({ op }: Selector, text: string): Canonical {
  return { op, text, parts: [] };
}

function listText(values: readonly string[]): string {
  return `{${[...new Set(values)].sort().map(quote).join(", ")}}`;
}

function negated(part: Canonical): Canonical {
  const [inner] = part.parts;
  return part.op === "not" && inner !== undefined ? inner : { op: "not", text: `!${inTerm(part)}`, parts: [part] };
}

/** `all()` is neutral in an AND and decides an OR; the empty AND is everything, the empty OR nothing. */
function combined(op: "and" | "or", terms: readonly Canonical[]): Canonical {
  const byText = new Map<string, Canonical>();
  for (const term of terms) for (const part of term.op === op ? term.parts : [term]) byText.set(part.text, part);
  if (op === "or" && byText.has(ALL.text)) return ALL;
  if (op === "and") byText.delete(ALL.text);
  const parts = [...byText.values()].sort((a, b) => (a.text < b.text ? -1 : 1));
  const [first] = parts;
  if (first === undefined) return op === "and" ? ALL : negated(ALL);
  return parts.length === 1 ? first : { op, text: parts.map(inTerm).join(op === "and" ? " && " : " || "), parts };
}

/** In parentheses, unless the term needs none. */
function inTerm({ op, text }: Canonical): string {
  return op === "has" || op === "all" || op === "not" ? text : `(${text})`;
}

function quote(value: string): string {
  invariant(
    !value.includes('"') || !value.includes("'"),
    `a selector cannot hold a value with both kinds of quotes: ${value}`,
  );
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}
