/**
 * Declare: what a schema is to CEL: the types of its values, and the values themselves, converted from JSON.
 *
 * Fields that the schema does not declare are invisible to rules, as in Kubernetes. Source: apiserver pkg/cel/common, schemas.go and
 * values.go; pkg/cel/escaping.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { Duration } from "@marcbachmann/cel-js/evaluator";
import { isJsonObject, jsonEquals, type JsonValue } from "../../model/schema/json.ts";
import type { Schema } from "../../model/schema/schema.ts";

/** A schema's type in CEL and the way of a value into it. */
export interface Declared {
  readonly type: string;
  readonly convert: (value: JsonValue) => unknown;
}

const TEXT: Declared = { type: "string", convert: (value) => value };
const TIMESTAMP: Declared = { type: "google.protobuf.Timestamp", convert: (value) => (typeof value === "string" && !Number.isNaN(Date.parse(value)) ? new Date(value) : value) };
const DURATION: Declared = { type: "google.protobuf.Duration", convert: convertDuration };
const BYTES: Declared = { type: "bytes", convert: (value) => (typeof value === "string" ? new Uint8Array(Buffer.from(value, "base64")) : value) };
const INTEGER: Declared = { type: "int", convert: (value) => (Number.isInteger(value) ? BigInt(value as number) : value) };
const NUMBER: Declared = { type: "double", convert: (value) => value };
const BOOLEAN: Declared = { type: "bool", convert: (value) => value };
const INTEGER_OR_TEXT: Declared = { type: "dyn", convert: INTEGER.convert };

const META: Schema = { type: "object", properties: { name: { type: "string" }, generateName: { type: "string" } } };

/** The schema with the fields that every API object has, as far as rules may read them. */
export function withIdentity(schema: Schema): Schema {
  return { ...schema, properties: { ...schema.properties, apiVersion: { type: "string" }, kind: { type: "string" }, metadata: META } };
}

export class Declarations {
  readonly #environment: Environment;
  readonly #known = new Map<Schema, Declared | undefined>();
  #count = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** undefined for a schema without a type, of which rules can say nothing. */
  of(schema: Schema): Declared | undefined {
    if (!this.#known.has(schema)) this.#known.set(schema, this.#declare(schema));
    return this.#known.get(schema);
  }

  #declare(schema: Schema): Declared | undefined {
    if (schema["x-kubernetes-int-or-string"] === true) return INTEGER_OR_TEXT;
    switch (schema.type) {
      case "string":
        return textOf(schema.format);
      case "integer":
        return INTEGER;
      case "number":
        return NUMBER;
      case "boolean":
        return BOOLEAN;
      case "array":
        return this.#list(schema);
      case "object":
        return typeof schema.additionalProperties === "object" ? this.#map(schema.additionalProperties) : this.#object(schema);
      case undefined:
        return undefined;
    }
  }

  #list(schema: Schema): Declared | undefined {
    const items = schema.items === undefined ? undefined : this.of(schema.items);
    if (items === undefined) return undefined;
    const isSet = schema["x-kubernetes-list-type"] === "set" && schema.items?.type !== "object" && schema.items?.type !== "array";
    return {
      type: `list<${items.type}>`,
      convert: (value) => {
        if (!Array.isArray(value)) return value;
        const converted = value.map(items.convert);
        return isSet ? new Set(converted) : converted;
      },
    };
  }

  #map(schema: Schema): Declared | undefined {
    const values = this.of(schema);
    if (values === undefined) return undefined;
    return { type: `map<string, ${values.type}>`, convert: (value) => (isJsonObject(value) ? new Map(Object.entries(value).map(([key, entry]) => [key, values.convert(entry)])) : value) };
  }

  #object(schema: Schema): Declared {
    const whole = schema["x-kubernetes-embedded-resource"] === true ? withIdentity(schema) : schema;
    const fields: Record<string, string> = {};
    const readers: { readonly field: string; readonly names: readonly string[]; readonly declared: Declared }[] = [];
    for (const [field, child] of Object.entries(whole.properties ?? {})) {
      const declared = this.of(child);
      const names = namesOf(field);
      if (declared === undefined || names.length === 0) continue;
      readers.push({ field, names, declared });
      for (const name of names) fields[name] = declared.type;
    }
    const type = `selfType${++this.#count}`;
    const Message = messageClass(schema);
    this.#environment.registerType(type, { ctor: Message, fields }).registerOperator(`${type} == ${type}`, (a: Equal, b: Equal) => a.equals(b));
    return {
      type,
      convert: (value) => {
        if (!isJsonObject(value)) return value;
        const message = new Message(value);
        for (const { field, names, declared } of readers) {
          const entry = Object.hasOwn(value, field) ? value[field] : undefined;
          if (entry !== undefined && entry !== null) for (const name of names) message.set(name, declared.convert(entry));
        }
        return message;
      },
    };
  }
}

interface Equal {
  equals(other: Equal): boolean;
}

/** A class for each type: by the class of a value the library knows its type. */
function messageClass(schema: Schema): new (value: JsonValue) => Map<string, unknown> & Equal {
  return class Message extends Map<string, unknown> implements Equal {
    readonly #value: JsonValue;
    constructor(value: JsonValue) {
      super();
      this.#value = value;
    }
    equals(other: Equal): boolean {
      return other instanceof Message && sameValue(schema, this.#value, other.#value);
    }
  };
}

/** Equality as the schema has it: the order of sets, and of lists with keys, means nothing. */
export function sameValue(schema: Schema, a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return sameList(schema, a, b);
  if (!isJsonObject(a) || !isJsonObject(b)) return jsonEquals(a, b);
  const fields = Object.keys(a);
  if (fields.length !== Object.keys(b).length) return false;
  return fields.every((field) => {
    const child = schema.properties?.[field] ?? (typeof schema.additionalProperties === "object" ? schema.additionalProperties : {});
    return Object.hasOwn(b, field) && sameValue(child, a[field], b[field]);
  });
}

function sameList(schema: Schema, a: readonly JsonValue[], b: readonly JsonValue[]): boolean {
  if (a.length !== b.length) return false;
  const items = schema.items ?? {};
  const ordered = (schema["x-kubernetes-list-type"] ?? "atomic") === "atomic";
  return a.every((item, index) => (ordered ? sameValue(items, item, b[index]) : b.some((other) => sameValue(items, item, other))));
}

function textOf(format: string | undefined): Declared {
  switch (format) {
    case "date":
    case "date-time":
      return TIMESTAMP;
    case "duration":
      return DURATION;
    case "byte":
      return BYTES;
    default:
      return TEXT;
  }
}

const UNIT_NANOSECONDS: Readonly<Record<string, number>> = { h: 3.6e12, m: 6e10, s: 1e9, ms: 1e6, us: 1e3, "µs": 1e3, ns: 1 };

function convertDuration(value: JsonValue): unknown {
  const match = typeof value === "string" ? /^([-+]?)((?:\d+(?:\.\d+)?(?:h|ms|us|µs|ns|m|s))+)$/.exec(value) : null;
  if (match === null) return value;
  let nanoseconds = 0;
  for (const [, count, unit] of (match[2] ?? "").matchAll(/(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)/g)) nanoseconds += Number(count) * (UNIT_NANOSECONDS[unit ?? ""] ?? 0);
  return Duration.fromMilliseconds(((match[1] === "-" ? -1 : 1) * nanoseconds) / 1e6);
}

const KEYWORDS: ReadonlySet<string> = new Set(["true", "false", "null", "in"]);
const RESERVED: ReadonlySet<string> = new Set(["as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"]);

/** The names by which rules may call a field: words of the language and other characters are escaped; none when it cannot be called. */
function namesOf(field: string): readonly string[] {
  if (KEYWORDS.has(field)) return [`__${field}__`];
  if (RESERVED.has(field)) return [field, `__${field}__`];
  if (!/^[A-Za-z_.\-/][\w.\-/]*$/.test(field)) return [];
  return [field.replaceAll("__", "__underscores__").replaceAll(".", "__dot__").replaceAll("-", "__dash__").replaceAll("/", "__slash__")];
}
