import { expect, test } from "bun:test";
import type { JsonValue } from "./json.ts";
import type { Schema } from "./schema.ts";
import { applyDefaults, dropNulls, prune } from "./normalize.ts";

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

test("prune reports what it drops, and keeps free-form content", () => {
  const value = { name: "x", extra: 1, free: { any: 1, known: { inner: 1 } }, list: [{ port: 1, wat: 2 }] };
  expect(prune(SCHEMA, value, "")).toEqual(["extra", "free.known.inner", "list[0].wat"]);
  expect(value).toEqual({ name: "x", free: { any: 1, known: {} }, list: [{ port: 1 }] } as never);
});

test("defaults fill absent fields, in lists and in defaults", () => {
  const value = { list: [{ port: 1 }, { protocol: "UDP" }] };
  applyDefaults(SCHEMA, value);
  expect(value).toEqual({
    list: [{ port: 1, protocol: "TCP" }, { protocol: "UDP" }],
    mode: "A",
    nested: { deep: 7 },
  } as never);
});

test("nulls go that the schema does not allow, but stay in lists", () => {
  const value: { [field: string]: JsonValue } = { name: null, mode: null, list: [null] };
  dropNulls(SCHEMA, value);
  expect(value).toEqual({ list: [null] });
});
