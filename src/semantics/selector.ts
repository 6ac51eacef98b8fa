/**
 * Selector: whether labels satisfy a selector text: the definition of the selector language (POL-37), evaluated as it is read.
 *
 * Part of the definition of meaning, so it shares nothing with `model/selector/`, which is tested against it. The text must be valid.
 */
import { invariant } from "../lib/bug.ts";

/** What the words of a selector refer to. */
export interface SelectorContext {
  /** The value of the label that the selector calls by this name. */
  readonly value: (label: string) => string | undefined;
  /** What `all()` and `global()` are here. */
  readonly all: boolean;
  readonly global: boolean;
}

export function selectorHolds(text: string, context: SelectorContext): boolean {
  const tokens = text.match(TOKEN) ?? [];
  if (tokens.length === 0) return context.all;
  const reader = { tokens, at: 0, context };
  const holds = readOr(reader);
  invariant(reader.at === tokens.length, `cannot read the selector ${text}`);
  return holds;
}

/** Texts in quotes, punctuation, and words, which are labels, operators and functions. */
const TOKEN = /"[^"]*"|'[^']*'|&&|\|\||==|!=|[!(){},]|[^\s"'&|=!(){},]+/g;

interface Reader {
  readonly tokens: readonly string[];
  at: number;
  readonly context: SelectorContext;
}

function accept(reader: Reader, token: string): boolean {
  if (reader.tokens[reader.at] !== token) return false;
  reader.at++;
  return true;
}

function next(reader: Reader): string {
  const token = reader.tokens[reader.at++];
  invariant(token !== undefined, "the selector ends too early");
  return token;
}

/** Every operand is read, whatever the ones before it were. */
function readOr(reader: Reader): boolean {
  let holds = readAnd(reader);
  while (accept(reader, "||")) holds = readAnd(reader) || holds;
  return holds;
}

function readAnd(reader: Reader): boolean {
  let holds = readTerm(reader);
  while (accept(reader, "&&")) holds = readTerm(reader) && holds;
  return holds;
}

function readTerm(reader: Reader): boolean {
  if (accept(reader, "!")) return !readTerm(reader);
  if (accept(reader, "(")) {
    const holds = readOr(reader);
    invariant(accept(reader, ")"), "a parenthesis of the selector is not closed");
    return holds;
  }
  const word = next(reader);
  if (!accept(reader, "(")) return readComparison(reader, reader.context.value(word));
  const label = reader.tokens[reader.at] === ")" ? undefined : next(reader);
  invariant(accept(reader, ")"), "a parenthesis of the selector is not closed");
  if (word === "has" && label !== undefined) return reader.context.value(label) !== undefined;
  return word === "all" ? reader.context.all : reader.context.global;
}

/** A label that is absent satisfies `!=` and `not in`, and nothing else. */
function readComparison(reader: Reader, value: string | undefined): boolean {
  const operator = next(reader);
  switch (operator) {
    case "==":
      return value === readText(reader);
    case "!=":
      return value !== readText(reader);
    case "contains":
      return includes(value, readText(reader));
    case "starts":
      next(reader);
      return startsWith(value, readText(reader));
    case "startswith":
      return startsWith(value, readText(reader));
    case "ends":
      next(reader);
      return endsWith(value, readText(reader));
    case "endswith":
      return endsWith(value, readText(reader));
    case "in":
      return isOneOf(value, readList(reader));
    case "not":
      next(reader);
      return !isOneOf(value, readList(reader));
    default:
      invariant(operator === "notin", `${operator} is no operator of selectors`);
      return !isOneOf(value, readList(reader));
  }
}

function includes(value: string | undefined, part: string): boolean {
  return value !== undefined && value.indexOf(part) >= 0;
}

function startsWith(value: string | undefined, part: string): boolean {
  return value !== undefined && value.slice(0, part.length) === part;
}

function endsWith(value: string | undefined, part: string): boolean {
  return value !== undefined && value.length >= part.length && value.slice(value.length - part.length) === part;
}

function isOneOf(value: string | undefined, list: readonly string[]): boolean {
  return value !== undefined && list.some((each) => each === value);
}

function readText(reader: Reader): string {
  return next(reader).slice(1, -1);
}

function readList(reader: Reader): string[] {
  const values: string[] = [];
  invariant(accept(reader, "{"), "a list of the selector is not opened");
  while (!accept(reader, "}")) if (!accept(reader, ",")) values.push(readText(reader));
  return values;
}
