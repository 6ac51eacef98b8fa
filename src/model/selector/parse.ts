/**
 * Parse: Calico's selector text to a `Selector`.
 *
 * The whole language: `k == 'v'`, `k != 'v'`, `k in {'a', 'b'}`, `k not in {…}`, `has(k)`, `k contains|starts with|ends with 'v'`, `all()`,
 * `global()`, `!`, `&&`, `||`, parentheses; `!` binds tightest, `||` loosest; empty text selects everything.
 * Upstream: libcalico-go/lib/selector/{tokenizer,parser}.
 */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import { NAMESPACE_LABEL } from "../labels.ts";
import type { Selector } from "./selector.ts";

/** Deepest nesting of parentheses: more than the longest selector of an object can have; hostile text must not exhaust the stack. */
const MAX_DEPTH = 512;
/** Longest name of a label, as upstream. */
const MAX_LABEL = 512;
const LABEL_CHARACTER = /[a-zA-Z0-9_./-]/;

/** Reads a selector; the error names the position and what is allowed there. */
export function parseSelector(text: string): Result<Selector, ParseError> {
  const reader = new Reader(text);
  try {
    if (reader.atEnd()) return ok({ op: "all" });
    const selector = parseOr(reader, 0);
    if (!reader.atEnd()) reader.refuse("must be && or || or the end");
    return ok(selector);
  } catch (error) {
    if (error instanceof SelectorError) return fail({ what: "selector", found: text, wanted: error.message });
    throw error;
  }
}

/** Ends the recursive descent; never leaves this file. */
class SelectorError extends Error {}

/** A position in the text; between tokens, blanks and tabs are skipped. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Consumes the match of a sticky pattern and returns its first group (or all of it), or undefined. */
  take(pattern: RegExp): string | undefined {
    this.#skipBlanks();
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[1] ?? match[0];
  }

  /** Whether the very next character, blank or not, matches. */
  isAt(pattern: RegExp): boolean {
    return pattern.test(this.#text.charAt(this.#at));
  }

  atEnd(): boolean {
    this.#skipBlanks();
    return this.#at === this.#text.length;
  }

  refuse(wanted: string): never {
    this.#skipBlanks();
    const rest = this.#text.slice(this.#at, this.#at + 12);
    throw new SelectorError(
      `at character ${this.#at + 1}${rest === "" ? " (the end)" : `, ${JSON.stringify(rest)}`}: ${wanted}`,
    );
  }

  #skipBlanks(): void {
    while (this.#text[this.#at] === " " || this.#text[this.#at] === "\t") this.#at++;
  }
}

function parseOr(reader: Reader, depth: number): Selector {
  const terms = [parseAnd(reader, depth)];
  while (reader.take(/\|\|/y) !== undefined) terms.push(parseAnd(reader, depth));
  return terms.length === 1 && terms[0] !== undefined ? terms[0] : { op: "or", of: terms };
}

function parseAnd(reader: Reader, depth: number): Selector {
  const terms = [parseNot(reader, depth)];
  while (reader.take(/&&/y) !== undefined) terms.push(parseNot(reader, depth));
  return terms.length === 1 && terms[0] !== undefined ? terms[0] : { op: "and", of: terms };
}

function parseNot(reader: Reader, depth: number): Selector {
  let negated = false;
  while (reader.take(/!(?!=)/y) !== undefined) negated = !negated;
  const term = parseTerm(reader, depth);
  return negated ? { op: "not", of: term } : term;
}

function parseTerm(reader: Reader, depth: number): Selector {
  if (reader.take(/\(/y) !== undefined) {
    if (depth === MAX_DEPTH) reader.refuse(`parentheses must not nest deeper than ${MAX_DEPTH}`);
    const inner = parseOr(reader, depth + 1);
    if (reader.take(/\)/y) === undefined) reader.refuse("must be )");
    return inner;
  }
  if (reader.take(/all\([ \t]*\)/y) !== undefined) return { op: "all" };
  if (reader.take(/global\([ \t]*\)/y) !== undefined) return { op: "not", of: { op: "has", label: NAMESPACE_LABEL } };
  const had = reader.take(/has\([ \t]*([a-zA-Z0-9_./-]{1,512})[ \t]*\)/y);
  if (had !== undefined) return { op: "has", label: had };
  const label = reader.take(/[a-zA-Z0-9_./-]{1,512}/y);
  if (label === undefined) reader.refuse("must be a label name, has(…), all(), global(), ! or (");
  if (label.length === MAX_LABEL && reader.isAt(LABEL_CHARACTER))
    reader.refuse(`the name of a label must have at most ${MAX_LABEL} characters`);
  return parseComparison(reader, label);
}

function parseComparison(reader: Reader, label: string): Selector {
  if (reader.take(/==/y) !== undefined) return { op: "equal", label, value: parseText(reader) };
  if (reader.take(/!=/y) !== undefined) return { op: "not-equal", label, value: parseText(reader) };
  if (reader.take(/contains/y) !== undefined) return { op: "contains", label, value: parseText(reader) };
  if (reader.take(/starts[ \t]*with/y) !== undefined) return { op: "starts-with", label, value: parseText(reader) };
  if (reader.take(/ends[ \t]*with/y) !== undefined) return { op: "ends-with", label, value: parseText(reader) };
  if (reader.take(/not[ \t]*in/y) !== undefined) return { op: "not-in", label, values: parseList(reader) };
  if (reader.take(/in/y) !== undefined) return { op: "in", label, values: parseList(reader) };
  if (reader.isAt(/\(/) && label === "has")
    return reader.refuse(
      `has must be followed at once by (, the name of a label of at most ${MAX_LABEL} characters, and )`,
    );
  if (reader.isAt(/\(/) && (label === "all" || label === "global"))
    return reader.refuse(`${label} must be followed at once by ( and )`);
  return reader.refuse(
    `after label ${JSON.stringify(label)} must come ==, !=, in, not in, contains, starts with or ends with`,
  );
}

function parseText(reader: Reader): string {
  return takeText(reader) ?? reader.refuse("must be text in quotes");
}

function takeText(reader: Reader): string | undefined {
  return reader.take(/"([^"]*)"/y) ?? reader.take(/'([^']*)'/y);
}

function parseList(reader: Reader): string[] {
  if (reader.take(/\{/y) === undefined) reader.refuse("must be a list such as {'a', 'b'}");
  const values: string[] = [];
  for (let value = takeText(reader); value !== undefined; value = takeText(reader)) {
    values.push(value);
    if (reader.take(/,/y) === undefined) break;
  }
  if (reader.take(/\}/y) === undefined) reader.refuse("must be text in quotes, a comma or }");
  return values;
}
