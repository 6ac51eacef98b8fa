/**
 * JSON stream: the objects of a text of JSON, one after the other with or without white space between them, as kubectl reads them. A field
 * given twice in an object is refused: `JSON.parse` would silently keep the last one.
 */
import type { JsonValue } from "../model/schema/json.ts";
import { type Document, SyntaxFault } from "./yaml.ts";

/** Whether kubectl takes the text for JSON: its first character is a brace. */
export function looksLikeJson(text: string): boolean {
  return /^\s*\{/.test(text);
}

/** Throws SyntaxFault. */
export function readJsonStream(text: string): Document[] {
  const documents: Document[] = [];
  let line = 1;
  let at = 0;
  for (;;) {
    const begin = skipSpace(text, at);
    line += newlines(text, at, begin);
    if (begin >= text.length) return documents;
    const end = endOfValue(text, begin, line);
    documents.push({ value: parse(text.slice(begin, end), () => line), line });
    line += newlines(text, begin, end);
    at = end;
  }
}

/** `lineOf` is called only for a malformed text: counting lines costs as much as reading. */
function parse(text: string, lineOf: () => number): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw new SyntaxFault(lineOf(), error instanceof Error ? error.message : String(error));
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && " \t\r\n".includes(text[at] ?? "")) at++;
  return at;
}

function newlines(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = from; at < to; at++) if (text[at] === "\n") count++;
  return count;
}

/** Where the object that begins at `begin` ends; its braces and fields are looked at, the rest is left to `JSON.parse`. */
function endOfValue(text: string, begin: number, firstLine: number): number {
  const lineAt = (at: number): number => firstLine + newlines(text, begin, at);
  if (text[begin] !== "{")
    throw new SyntaxFault(firstLine, `an object must begin with "{", not with ${JSON.stringify(text[begin])}`);
  /** The fields of each object that is open, undefined for a list. */
  const open: (Set<string> | undefined)[] = [];
  for (let at = begin; at < text.length; at++) {
    const character = text[at];
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(undefined);
    else if (character === "}" || character === "]") {
      open.pop();
      if (open.length === 0) return at + 1;
    } else if (character === '"') {
      const end = endOfString(text, at);
      if (end === undefined) throw new SyntaxFault(lineAt(at), "a string does not end");
      const fields = open.at(-1);
      if (fields !== undefined && text[skipSpace(text, end)] === ":") {
        const begins = at;
        const name = String(parse(text.slice(at, end), () => lineAt(begins)));
        if (fields.has(name)) throw new SyntaxFault(lineAt(at), `key ${JSON.stringify(name)} is given twice`);
        fields.add(name);
      }
      at = end - 1;
    }
  }
  throw new SyntaxFault(lineAt(text.length), "an object does not end");
}

function endOfString(text: string, begin: number): number | undefined {
  let at = begin;
  for (;;) {
    at = text.indexOf('"', at + 1);
    if (at < 0) return undefined;
    let slashes = 0;
    while (text[at - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return at + 1;
  }
}
