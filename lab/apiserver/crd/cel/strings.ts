/**
 * Strings: CEL's extension library for strings, version 2; positions count characters, not UTF-16 units.
 *
 * Source: cel-go ext/{strings,formatting}.go; apiserver pkg/cel/library/regex.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { UnsignedInt } from "@marcbachmann/cel-js/evaluator";
import { translatePattern } from "../../../../src/model/schema/pattern.ts";
import { nameOf, withoutPrefix } from "./source.ts";
import { Duration, Timestamp } from "./times.ts";
import { entriesOf, isList, toText } from "./values.ts";

const SPACE = String.raw`[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+`;
const ESCAPES: Readonly<Record<string, string>> = {
  "\x07": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  "\\": "\\\\",
  '"': '\\"',
};

/** The namespace of `strings.quote`. */
class StringsNamespace {}

export function registerStrings(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, { async: false });
  add("string.charAt(int): string", (text: string, index: bigint) =>
    substring(text, index, index === BigInt([...text].length) ? index : index + 1n),
  );
  add(`string.${nameOf("substring")}(int): string`, (text: string, start: bigint) => substring(text, start, undefined));
  add(`string.${nameOf("substring")}(int, int): string`, substring);
  add(`string.${nameOf("indexOf")}(string): int`, (text: string, part: string) =>
    part === "" ? 0n : indexOf(text, part, 0n),
  );
  add(`string.${nameOf("indexOf")}(string, int): int`, indexOf);
  add(`string.${nameOf("lastIndexOf")}(string): int`, (text: string, part: string) =>
    lastIndexOf(text, part, BigInt([...text].length - (part === "" ? 0 : 1))),
  );
  add(`string.${nameOf("lastIndexOf")}(string, int): int`, lastIndexOf);
  add(`string.${nameOf("lowerAscii")}(): string`, (text: string) =>
    text.replace(/[A-Z]+/g, (part) => part.toLowerCase()),
  );
  add(`string.${nameOf("upperAscii")}(): string`, (text: string) =>
    text.replace(/[a-z]+/g, (part) => part.toUpperCase()),
  );
  add(`string.${nameOf("trim")}(): string`, (text: string) =>
    text.replace(new RegExp(`^${SPACE}`), "").replace(new RegExp(`${SPACE}$`), ""),
  );
  add("string.replace(string, string): string", (text: string, from: string, to: string) =>
    replace(text, from, to, -1),
  );
  add("string.replace(string, string, int): string", (text: string, from: string, to: string, limit: bigint) =>
    replace(text, from, to, Number(limit)),
  );
  add(`string.${nameOf("split")}(string): list<string>`, (text: string, by: string) => split(text, by, -1));
  add(`string.${nameOf("split")}(string, int): list<string>`, (text: string, by: string, limit: bigint) =>
    split(text, by, Number(limit)),
  );
  add(`list<string>.${nameOf("join")}(): string`, (list: Iterable<string>) => [...list].join(""));
  add(`list<string>.${nameOf("join")}(string): string`, (list: Iterable<string>, by: string) => [...list].join(by));
  add(
    "string.find(string): string",
    (text: string, pattern: string) => new RegExp(translatePattern(pattern), "u").exec(text)?.[0] ?? "",
  );
  add("string.findAll(string): list<string>", (text: string, pattern: string) => findAll(text, pattern, -1));
  add("string.findAll(string, int): list<string>", (text: string, pattern: string, limit: bigint) =>
    findAll(text, pattern, Number(limit)),
  );
  add("string.format(list): string", format);
  environment.registerType("StringsNamespace", StringsNamespace);
  environment.registerConstant("strings", "StringsNamespace", new StringsNamespace());
  add(
    "StringsNamespace.quote(string): string",
    (_: StringsNamespace, text: string) =>
      `"${text.toWellFormed().replace(/[\p{Cc}\\"]/gu, (character) => ESCAPES[character] ?? character)}"`,
  );
}

function substring(text: string, start: bigint, end: bigint | undefined): string {
  const characters = [...text];
  if (end !== undefined && start > end) throw new Error(`invalid substring range. start: ${start}, end: ${end}`);
  for (const index of [start, end ?? start])
    if (index < 0n || index > BigInt(characters.length)) throw new Error(`index out of range: ${index}`);
  return characters.slice(Number(start), end === undefined ? undefined : Number(end)).join("");
}

function indexOf(text: string, part: string, offset: bigint): bigint {
  if (part === "") return offset;
  if (offset < 0n) throw new Error(`index out of range: ${offset}`);
  const skipped = [...text].slice(0, Number(offset)).join("").length;
  return characterIndex(text, text.indexOf(part, skipped));
}

function lastIndexOf(text: string, part: string, offset: bigint): bigint {
  if (part === "") return offset;
  const characters = [...text];
  if (offset < 0n && characters.length > 0) throw new Error(`index out of range: ${offset}`);
  if (offset >= BigInt(characters.length)) return -1n;
  return characterIndex(text, text.lastIndexOf(part, characters.slice(0, Number(offset)).join("").length));
}

/** -1 stays -1. */
function characterIndex(text: string, index: number): bigint {
  return index < 0 ? -1n : BigInt(Array.from(text.slice(0, index)).length);
}

/** The first `limit` places; all when it is negative. */
function replace(text: string, from: string, to: string, limit: number): string {
  const characters = [...text];
  const parts = from === "" ? ["", ...characters, ""] : text.split(from);
  const count = limit < 0 ? parts.length - 1 : Math.min(limit, parts.length - 1);
  return [...parts.slice(0, count), parts.slice(count).join(from)].join(to);
}

/** At most `limit` parts, the last with the rest; all when it is negative. */
function split(text: string, by: string, limit: number): string[] {
  if (limit === 0) return [];
  const parts = by === "" ? [...text] : text.split(by);
  return limit < 0 || parts.length <= limit ? parts : [...parts.slice(0, limit - 1), parts.slice(limit - 1).join(by)];
}

function findAll(text: string, pattern: string, limit: number): string[] {
  const found = Array.from(text.matchAll(new RegExp(translatePattern(pattern), "gu")), ([match]) => match);
  return limit < 0 ? found : found.slice(0, limit);
}

/** `%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`, `%%`, with a precision for `%f` and `%e`. */
function format(text: string, values: Iterable<unknown>): string {
  const left = [...values];
  let next = 0;
  return text.replace(
    /%%|%(?:\.(\d+))?([^]?)/gu,
    (clause: string, precision: string | undefined, verb: string | undefined) => {
      if (clause === "%%") return "%";
      if (next >= left.length) throw new Error(`index ${next} out of range`);
      return formatOne(verb ?? "", left[next++], precision === undefined ? 6 : Number(precision));
    },
  );
}

function formatOne(verb: string, value: unknown, precision: number): string {
  const refuse = (what: string): never => {
    throw new Error(`error during formatting: ${what}`);
  };
  const integer = value instanceof UnsignedInt ? value.valueOf() : value;
  switch (verb) {
    case "s":
      return textOf(value);
    case "d":
      return typeof integer === "bigint" ? integer.toString() : refuse("decimal clause can only be used on integers");
    case "b":
      if (typeof value === "boolean") return value ? "1" : "0";
      return typeof integer === "bigint"
        ? integer.toString(2)
        : refuse("only integers and bools can be formatted as binary");
    case "o":
      return typeof integer === "bigint" ? integer.toString(8) : refuse("octal clause can only be used on integers");
    case "x":
    case "X": {
      const hex =
        typeof integer === "bigint"
          ? integer.toString(16)
          : typeof value === "string" || value instanceof Uint8Array
            ? Buffer.from(value).toString("hex")
            : refuse("only integers, byte buffers, and strings can be formatted as hex");
      return verb === "X" ? hex.toUpperCase() : hex;
    }
    case "f":
    case "e":
      return (
        floating(verb, value, precision) ??
        refuse(`${verb === "f" ? "fixed-point" : "scientific"} clause can only be used on doubles`)
      );
    default:
      throw new Error(`could not parse formatting clause: unrecognized formatting clause "${verb}"`);
  }
}

/** As Kubernetes writes doubles, with the signs of the locale en-US; of `%e` the precision is a width there. undefined for what is no double. */
function floating(verb: "f" | "e", value: unknown, precision: number): string | undefined {
  const number = value === "NaN" || value === "Infinity" || value === "-Infinity" ? Number(value) : value;
  if (typeof number !== "number") return undefined;
  const infinite = Number.isNaN(number) ? "NaN" : number > 0 ? "∞" : "-∞";
  if (verb === "f")
    return Number.isFinite(number)
      ? new Intl.NumberFormat("en-US", {
          minimumFractionDigits: precision,
          maximumFractionDigits: precision,
          roundingMode: "halfEven",
        }).format(number)
      : infinite;
  if (!Number.isFinite(number)) return infinite.padStart(precision);
  const [mantissa = "", power = "0"] = number.toExponential(6).split("e");
  const exponent = [...Math.abs(Number(power)).toString().padStart(2, "0")]
    .map((digit) => SUPERSCRIPTS[Number(digit)])
    .join("");
  return `${mantissa}×10${power.startsWith("-") ? "⁻" : ""}${exponent}`.padStart(precision);
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function textOf(value: unknown): string {
  if (value === null) return "null";
  if (isList(value)) return `[${[...value].map(quoted).join(", ")}]`;
  const entries = entriesOf(value);
  if (entries !== undefined)
    return `{${entries
      .map(([key, item]) => `${quoted(key)}:${quoted(item)}`)
      .sort()
      .join(", ")}}`;
  if (typeof value === "object" && "name" in value && value.constructor.name === "Type")
    return withoutPrefix(String(value.name));
  const known =
    typeof value !== "object" ||
    value instanceof Timestamp ||
    value instanceof Duration ||
    value instanceof UnsignedInt ||
    value instanceof Uint8Array;
  if (!known)
    throw new Error(
      "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
    );
  return toText(value);
}

/** As it stands inside a list or a map. */
function quoted(value: unknown): string {
  if (typeof value === "number" && Number.isFinite(value)) return floating("f", value, 6) ?? "";
  const text = textOf(value);
  if (value instanceof Timestamp) return `timestamp(${JSON.stringify(text)})`;
  if (value instanceof Duration) return `duration(${JSON.stringify(text)})`;
  if (value instanceof Uint8Array) return `b${JSON.stringify(text)}`;
  return typeof value === "string" || typeof value === "number" ? JSON.stringify(text) : text;
}
