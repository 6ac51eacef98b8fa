/**
 * Types: what a schema is to CEL: the type that rules are checked with, and its values.
 *
 * What the schema does not describe has no type: rules cannot see it. Fields whose names are no CEL identifiers are escaped as Kubernetes does.
 * Source: apiserver pkg/cel/common/{schemas,values}.go, pkg/cel/escaping.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { isJsonObject, type JsonObject, type JsonValue } from "../../../../src/model/schema/json.ts";
import type { Schema } from "../../../../src/model/schema/schema.ts";
import { BASE_ENVIRONMENT } from "./functions.ts";
import { DURATION, readDuration, readTimestamp, TIMESTAMP } from "./times.ts";
import { celEquals } from "./values.ts";

/** The type of one place in a schema. */
export interface CelType {
  /** As the environment knows it: `int`, `list<string>`, `Object3`. */
  readonly name: string;
  /** The value as rules see it; throws when the value is not of the type. */
  readonly convert: (value: JsonValue) => unknown;
  /** Of an object: by the name of the field in JSON. */
  readonly fields?: ReadonlyMap<string, CelType>;
  /** Of a list or a map. */
  readonly element?: CelType;
}

/** Declares the types of one schema in an environment of its own. */
export class TypeDeclarations {
  readonly environment: Environment = BASE_ENVIRONMENT.clone();
  #count = 0;

  /** undefined: rules cannot see values of the schema. `isRoot`: of a whole resource, which has a name whether the schema says so or not. */
  declare(schema: Schema, isRoot: boolean): CelType | undefined {
    const type = this.#declarePresent(isRoot ? withMetadata(schema) : schema);
    if (type === undefined || schema.nullable !== true) return type;
    return { ...type, name: "dyn", convert: (value) => (value === null ? null : type.convert(value)) };
  }

  #declarePresent(schema: Schema): CelType | undefined {
    if (schema["x-kubernetes-int-or-string"] === true)
      return { name: "dyn", convert: (value) => (typeof value === "number" ? BigInt(value) : textOf(value)) };
    switch (schema.type) {
      case "array":
        return this.#declareList(schema);
      case "object":
        return typeof schema.additionalProperties === "object"
          ? this.#declareMap(schema.additionalProperties)
          : this.#declareObject(schema);
      case "string":
        return stringType(schema.format);
      case "boolean":
        return { name: "bool", convert: (value) => expectType(value, typeof value === "boolean", "boolean") };
      case "number":
        return { name: "double", convert: (value) => expectType(value, typeof value === "number", "number") };
      case "integer":
        return {
          name: "int",
          convert: (value) => BigInt(Number(expectType(value, Number.isInteger(value), "integer"))),
        };
      case undefined:
        return undefined;
    }
  }

  #declareList(schema: Schema): CelType | undefined {
    const items = schema.items;
    const element =
      items === undefined ? undefined : this.declare(items, items["x-kubernetes-embedded-resource"] === true);
    if (element === undefined) return undefined;
    // The library compares values of the class Set without regard to order, which is what a list of type set means.
    const isSet = schema["x-kubernetes-list-type"] === "set";
    const convert = (value: JsonValue): unknown => {
      if (!Array.isArray(value)) return expectType(value, false, "array");
      const list = value.map(element.convert);
      return isSet ? new Set(list) : list;
    };
    return { name: `list<${element.name}>`, element, convert };
  }

  #declareMap(values: Schema): CelType | undefined {
    const element = this.declare(values, values["x-kubernetes-embedded-resource"] === true);
    if (element === undefined) return undefined;
    return {
      name: `map<string, ${element.name}>`,
      element,
      convert: (value) => new Map(entriesOf(value).map(([key, entry]) => [key, element.convert(entry)])),
    };
  }

  #declareObject(schema: Schema): CelType {
    const name = `Object${this.#count++}`;
    const fields = new Map<string, CelType>();
    const names = new Map<string, string>();
    for (const [field, rule] of Object.entries(schema.properties ?? {})) {
      const type = this.declare(rule, rule["x-kubernetes-embedded-resource"] === true);
      if (type === undefined) continue;
      fields.set(field, type);
      const identifier = escapeName(field);
      if (identifier !== undefined) names.set(field, identifier);
    }
    // One class per type: the library distinguishes types by their constructor.
    const Instance = class extends Map<string, unknown> {};
    this.environment.registerType(name, {
      ctor: Instance,
      fields: Object.fromEntries(
        [...names].map(([field, identifier]) => [identifier, fields.get(field)?.name ?? "dyn"]),
      ),
    });
    this.environment.registerOperator(`${name} == ${name}`, celEquals);
    this.environment.registerOperator(`${name} == null`, () => false);
    const convert = (value: JsonValue): unknown => {
      const instance = new Instance();
      for (const [field, entry] of entriesOf(value)) {
        const identifier = names.get(field);
        if (identifier !== undefined) instance.set(identifier, fields.get(field)?.convert(entry));
      }
      return instance;
    };
    return { name, fields, convert };
  }
}

function stringType(format: string | undefined): CelType {
  switch (format) {
    case "date":
      return { name: TIMESTAMP, convert: (value) => readTimestamp(`${textOf(value)}T00:00:00Z`) };
    case "date-time":
      return { name: TIMESTAMP, convert: (value) => readTimestamp(textOf(value)) };
    case "duration":
      return { name: DURATION, convert: (value) => readDuration(textOf(value)) };
    case "byte":
      return { name: "bytes", convert: (value) => Uint8Array.fromBase64(textOf(value)) };
    default:
      return { name: "string", convert: textOf };
  }
}

function withMetadata(schema: Schema): Schema {
  const text = { type: "string" } as const;
  return {
    ...schema,
    properties: {
      ...schema.properties,
      apiVersion: text,
      kind: text,
      metadata: { type: "object", properties: { name: text, generateName: text } },
    },
  };
}

function expectType(value: JsonValue, isOfType: boolean, type: string): JsonValue {
  if (!isOfType)
    throw new Error(
      `invalid data, expected ${type}, got ${value === null ? "null" : Array.isArray(value) ? "array" : typeof value}`,
    );
  return value;
}

function textOf(value: JsonValue): string {
  return String(expectType(value, typeof value === "string", "string"));
}

function entriesOf(value: JsonValue): [string, JsonValue][] {
  const object: JsonObject = isJsonObject(value) ? value : {};
  expectType(value, isJsonObject(value), "object");
  return Object.entries(object);
}

const RESERVED: ReadonlySet<string> = new Set([
  "true",
  "false",
  "null",
  "in",
  "as",
  "break",
  "const",
  "continue",
  "else",
  "for",
  "function",
  "if",
  "import",
  "let",
  "loop",
  "package",
  "namespace",
  "return",
  "var",
  "void",
  "while",
]);
const ESCAPES: Readonly<Record<string, string>> = {
  __: "__underscores__",
  ".": "__dot__",
  "-": "__dash__",
  "/": "__slash__",
};

/** The identifier under which rules know the field; undefined when there is none. */
export function escapeName(name: string): string | undefined {
  if (RESERVED.has(name)) return `__${name}__`;
  if (!/^[A-Za-z_.\-/][\w.\-/]*$/.test(name)) return undefined;
  return name.replace(/__|[.\-/]/g, (part) => ESCAPES[part] ?? part);
}
