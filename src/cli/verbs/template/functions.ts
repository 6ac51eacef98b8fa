/**
 * Template functions: those of Go's templates that make sense on plain data, and upstream's `join`, `joinAndTruncate` and `config`. Others
 * are refused by name.
 */
import { isJsonObject, jsonEquals, type JsonValue } from "../../../model/schema/json.ts";
import { joinText } from "../cells.ts";
import { fault } from "./syntax.ts";

/** An argument that is evaluated only when it is needed. */
export type Lazy = () => JsonValue;

export function callFunction(name: string, lazy: readonly Lazy[]): JsonValue {
  if (name === "and" || name === "or") return logic(name, lazy);
  const known = FUNCTIONS[name];
  if (known === undefined)
    throw fault(
      `function ${JSON.stringify(name)} is not supported, only and, or, ${Object.keys(FUNCTIONS).join(", ")}`,
    );
  return known(lazy.map((argument) => argument()));
}

function logic(name: "and" | "or", lazy: readonly Lazy[]): JsonValue {
  let value: JsonValue = null;
  for (const argument of lazy) {
    value = argument();
    if (isTrue(value) === (name === "or")) return value;
  }
  return value;
}

export function isTrue(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isJsonObject(value)) return Object.keys(value).length > 0;
  return value !== null && value !== "" && value !== 0 && value !== false;
}

/** As Go prints a value: `[a b]`, `map[k:v]`. */
export function print(value: JsonValue): string {
  if (value === null) return "<no value>";
  if (Array.isArray(value)) return `[${value.map(print).join(" ")}]`;
  if (!isJsonObject(value)) return String(value);
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `map[${entries.map(([key, item]) => `${key}:${print(item)}`).join(" ")}]`;
}

const FUNCTIONS: Readonly<Record<string, (args: readonly JsonValue[]) => JsonValue>> = {
  not: ([value = null]) => !isTrue(value),
  eq: ([first, ...others]) => others.some((other) => jsonEquals(first, other)),
  ne: ([a, b]) => !jsonEquals(a, b),
  lt: ([a, b]) => compare(a, b) < 0,
  le: ([a, b]) => compare(a, b) <= 0,
  gt: ([a, b]) => compare(a, b) > 0,
  ge: ([a, b]) => compare(a, b) >= 0,
  len: ([value = null]) => lengthOf(value),
  index: ([value = null, ...keys]) => keys.reduce<JsonValue>(item, value),
  print: (args) => args.map(print).join(" "),
  println: (args) => `${args.map(print).join(" ")}\n`,
  printf: ([format = "", ...args]) => formatted(String(format), args),
  join: ([items, separator = ","]) => joinText(items, String(separator)),
  joinAndTruncate: ([items, separator = ",", most = 0]) => joinText(items, String(separator), Number(most)),
  // Upstream's only setting: the AS number of nodes that have none of their own.
  config: ([name = ""]) => {
    if (String(name).toLowerCase() === "asnumber") return "64512";
    throw fault(`config ${JSON.stringify(name)} is not known, only "asnumber"`);
  },
};

function compare(a: JsonValue | undefined, b: JsonValue | undefined): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  throw fault(`cannot compare ${print(a ?? null)} with ${print(b ?? null)}`);
}

function lengthOf(value: JsonValue): number {
  if (typeof value === "string" || Array.isArray(value)) return value.length;
  if (isJsonObject(value)) return Object.keys(value).length;
  throw fault(`${print(value)} has no length`);
}

function item(value: JsonValue, key: JsonValue): JsonValue {
  if (Array.isArray(value) && typeof key === "number") {
    const found = value[key];
    if (found === undefined) throw fault(`index ${key} is not from 0 to ${value.length - 1}`);
    return found;
  }
  if (isJsonObject(value)) return Object.hasOwn(value, String(key)) ? (value[String(key)] ?? "") : "";
  if (value === "" || value === null) return "";
  throw fault(`cannot index ${print(value)} with ${print(key)}`);
}

/** %s, %v, %d, %q, %t and %%, with a width. */
function formatted(format: string, args: readonly JsonValue[]): string {
  let next = 0;
  return format.replace(/%(-?)(\d*)([^])/g, (_, left: string, width: string, verb: string) => {
    if (verb === "%") return "%";
    if (!"svdqt".includes(verb)) throw fault(`%${verb} is not supported by printf, only %s, %v, %d, %q and %t`);
    const value = args[next++];
    if (value === undefined) return `%!${verb}(MISSING)`;
    const text = verb === "q" ? JSON.stringify(print(value)) : print(value);
    return left === "-" ? text.padEnd(Number(width)) : text.padStart(Number(width));
  });
}
