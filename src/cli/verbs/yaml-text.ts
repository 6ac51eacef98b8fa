/**
 * YAML text: a value as YAML with its fields in alphabetical order, as upstream and kubectl print it. Text stands plain only where every
 * reader takes it for text, those of YAML 1.1 too: `yes`, `0777` and `1:30` are quoted.
 */
import { isJsonObject, type JsonValue } from "../../model/schema/json.ts";

export function formatYaml(value: JsonValue): string {
  return `${blockOf(value, "").replace(/^\n/, "")}\n`;
}

/** What follows `key:` or `-`: a scalar on the same line, or a block on the next ones. */
function blockOf(value: JsonValue, indent: string): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return value.map((item) => `\n${indent}- ${blockOf(item, `${indent}  `).replace(/^\n\s*/, "")}`).join("");
  }
  if (!isJsonObject(value)) return scalarOf(value, indent);
  const fields = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (fields.length === 0) return "{}";
  return fields
    .map(([name, item]) => {
      // Lists stand at the indentation of their key.
      const text = Array.isArray(item) ? blockOf(item, indent) : blockOf(item, `${indent}  `);
      return `\n${indent}${isPlain(name) ? name : quoted(name)}:${text.startsWith("\n") ? "" : " "}${text}`;
    })
    .join("");
}

function scalarOf(value: string | number | boolean | null, indent: string): string {
  if (typeof value !== "string") return JSON.stringify(value);
  if (isPlain(value)) return value;
  if (isLiteral(value)) {
    const body = value.replace(/\n$/, "");
    return `|${value.endsWith("\n") ? "" : "-"}\n${body.replace(/^(?=.)/gm, `${indent === "" ? "  " : indent}`)}`;
  }
  // Fewer signs to escape.
  return /^[\x20-\x26\x28-\x7e]*["\\][\x20-\x26\x28-\x7e]*$/.test(value) ? `'${value}'` : quoted(value);
}

/** JSON's escapes are YAML's, except for characters that YAML takes for line breaks or refuses. */
function quoted(value: string): string {
  return JSON.stringify(value).replace(/[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

const WORDS = /^(y|n|yes|no|on|off|true|false|null|nan|inf)$/i;
/** Begins with a letter, or is an address or range; has no sign that ends a plain scalar; is one line of printable characters. */
const LETTER_FIRST = /^[A-Za-z_/]([\x21-\x7e ]*[\x21-\x7e])?$/;
const ADDRESS = /^\d{1,3}(\.\d{1,3}){3}(\/\d{1,2})?$/;
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

function isPlain(text: string): boolean {
  if (ADDRESS.test(text) || UUID.test(text)) return true;
  return LETTER_FIRST.test(text) && !WORDS.test(text) && !/: |:$| #/.test(text);
}

/** Several lines that a literal block keeps as they are. */
function isLiteral(text: string): boolean {
  return /^[^\s][\x20-\x7e\n]*[^\s]\n?$/.test(text) && text.includes("\n") && !/[ \t]\n|\n[ \t]*\n|\n\n$/.test(text);
}
