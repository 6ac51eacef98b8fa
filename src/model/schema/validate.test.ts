import { describe, expect, test } from "bun:test";
import { formatFieldError } from "./field-error.ts";
import type { JsonValue } from "./json.ts";
import type { Infer, Schema } from "./schema.ts";
import { validate } from "./validate.ts";

const text = (schema: Schema, value: JsonValue): string =>
  validate(schema, value, "spec").map(formatFieldError).join("; ");

describe("validate, with kube-apiserver's messages", () => {
  test.each<[string, Schema, JsonValue, string]>([
    ["a fitting object", { type: "object", properties: { a: { type: "integer" } } }, { a: 1 }, ""],
    [
      "wrong type",
      { type: "number" },
      "x",
      'spec: Invalid value: "string": spec in body must be of type number: "string"',
    ],
    [
      "a fraction is no integer",
      { type: "integer" },
      1.5,
      'spec: Invalid value: "number": spec in body must be of type integer: "number"',
    ],
    ["null", { type: "string" }, null, 'spec: Invalid value: "null": spec in body must be of type string: "null"'],
    ["nullable", { type: "string", nullable: true }, null, ""],
    ["required", { type: "object", required: ["a"] }, {}, "spec.a: Required value"],
    [
      "enum",
      { type: "string", enum: ["Allow", "Deny"] },
      "Drop",
      'spec: Unsupported value: "Drop": supported values: "Allow", "Deny"',
    ],
    [
      "minItems",
      { type: "array", minItems: 1 },
      [],
      "spec: Invalid value: 0: spec in body should have at least 1 items",
    ],
    ["maxItems", { type: "array", maxItems: 1 }, [1, 2], "spec: Too many: 2: must have at most 1 item"],
    ["maxItems of two", { type: "array", maxItems: 2 }, [1, 2, 3], "spec: Too many: 3: must have at most 2 items"],
    ["pattern", { type: "string", pattern: "^a" }, "b", "spec: Invalid value: \"b\": spec in body should match '^a'"],
    ["maxLength", { type: "string", maxLength: 1 }, "ab", "spec: Too long: may not be more than 1 bytes"],
    [
      "minLength counts characters",
      { type: "string", minLength: 2 },
      "😀",
      'spec: Invalid value: "😀": spec in body should be at least 2 chars long',
    ],
    [
      "minimum",
      { type: "integer", minimum: 1 },
      0,
      "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
    ],
    [
      "exclusive maximum",
      { type: "integer", maximum: 1, exclusiveMaximum: true },
      1,
      "spec: Invalid value: 1: spec in body should be less than 1",
    ],
    [
      "int32",
      { type: "integer", format: "int32" },
      2147483648,
      "spec: Invalid value: 2147483648: spec in body must be of type int32: 2147483648",
    ],
    ["cidr, IPv4", { type: "string", format: "cidr" }, "10.0.0.0/8", ""],
    ["cidr, IPv6", { type: "string", format: "cidr" }, "fd00::/8", ""],
    [
      "cidr",
      { type: "string", format: "cidr" },
      "10.0.0.1",
      'spec: Invalid value: "10.0.0.1": spec in body must be of type cidr: "10.0.0.1"',
    ],
    [
      "ipv4",
      { type: "string", format: "ipv4" },
      "::1",
      'spec: Invalid value: "::1": spec in body must be of type ipv4: "::1"',
    ],
    [
      "ipv6",
      { type: "string", format: "ipv6" },
      "1.1.1.1",
      'spec: Invalid value: "1.1.1.1": spec in body must be of type ipv6: "1.1.1.1"',
    ],
    [
      "date-time",
      { type: "string", format: "date-time" },
      "2024-13-01T00:00:00Z",
      'spec: Invalid value: "2024-13-01T00:00:00Z": spec in body must be of type date-time: "2024-13-01T00:00:00Z"',
    ],
    [
      "int or string",
      { "x-kubernetes-int-or-string": true },
      true,
      'spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean"',
    ],
    [
      "set",
      { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
      ["a", "a"],
      'spec[1]: Duplicate value: "a"',
    ],
    [
      "map list",
      {
        type: "array",
        items: { type: "object", properties: { p: { type: "string", default: "TCP" } } },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["p"],
      },
      [{}, { p: "TCP" }],
      'spec[1]: Duplicate value: {"p":"TCP"}',
    ],
    [
      "path into lists and maps",
      {
        type: "object",
        properties: { l: { type: "array", items: { type: "object", additionalProperties: { type: "integer" } } } },
      },
      { l: [{}, { k: "x" }] },
      'spec.l[1].k: Invalid value: "string": spec.l[1].k in body must be of type integer: "string"',
    ],
    [
      "anyOf",
      { anyOf: [{ type: "string" }, { type: "integer" }] },
      true,
      "spec: Invalid value: true: spec in body must validate at least one schema (anyOf)",
    ],
    ["not", { not: { enum: ["x"] } }, "x", 'spec: Invalid value: "x": spec in body must not validate the schema (not)'],
  ])("%s", (_, schema, value, expected) => expect(text(schema, value)).toBe(expected));
});

const SCHEMA = {
  type: "object",
  required: ["name"],
  properties: {
    name: { type: "string" },
    mode: { type: "string", enum: ["A", "B"], default: "A" },
    free: {
      type: "object",
      "x-kubernetes-preserve-unknown-fields": true,
      properties: { known: { type: "object", properties: {} } },
    },
    list: {
      type: "array",
      items: {
        type: "object",
        properties: { port: { type: "integer" }, protocol: { type: "string", default: "TCP" } },
      },
    },
    nested: { type: "object", default: {}, properties: { deep: { type: "integer", default: 7 } } },
  },
} as const satisfies Schema;

test("the type of a schema is inferred", () => {
  const value: Infer<typeof SCHEMA> = { name: "x", mode: "B", list: [{ port: 1 }] };
  // @ts-expect-error: "C" is not among the allowed values
  value.mode = "C";
  expect(validate(SCHEMA, value as JsonValue, "")).toHaveLength(1);
});
