import { expect, test } from "bun:test";
import type { JsonValue } from "../../model/schema/json.ts";
import { Refusal } from "./failures.ts";
import { patched } from "./patch.ts";

const OBJECT = { metadata: { name: "x", labels: { a: "1" } }, spec: { order: 1, nets: ["a", "b"] } };

test("a merge patch sets, replaces lists and removes with null", () => {
  const patch = { metadata: { labels: { a: null, b: "2" } }, spec: { nets: ["c"], tier: "t" } };
  for (const type of ["merge", "strategic"] as const)
    expect(patched(OBJECT, patch, type)).toEqual({
      metadata: { name: "x", labels: { b: "2" } },
      spec: { order: 1, nets: ["c"], tier: "t" },
    });
  expect(OBJECT.metadata.labels).toEqual({ a: "1" });
});

test("a JSON patch does what RFC 6902 says", () => {
  const run = (...patch: JsonValue[]) => patched(OBJECT, patch, "json");
  expect(run({ op: "add", path: "/spec/nets/1", value: "x" })["spec"]).toEqual({ order: 1, nets: ["a", "x", "b"] });
  expect(run({ op: "add", path: "/spec/nets/-", value: "x" })["spec"]).toEqual({ order: 1, nets: ["a", "b", "x"] });
  expect(run({ op: "remove", path: "/spec/nets/0" })["spec"]).toEqual({ order: 1, nets: ["b"] });
  expect(run({ op: "replace", path: "/spec/order", value: 2 })["spec"]).toEqual({ order: 2, nets: ["a", "b"] });
  expect(run({ op: "replace", path: "/spec/nets/1", value: "z" })["spec"]).toEqual({ order: 1, nets: ["a", "z"] });
  expect(run({ op: "move", from: "/spec/order", path: "/spec/a~1b" })["spec"]).toEqual({ nets: ["a", "b"], "a/b": 1 });
  expect(run({ op: "copy", from: "/spec/order", path: "/spec/c~0" })["spec"]).toEqual({
    order: 1,
    nets: ["a", "b"],
    "c~": 1,
  });
  expect(run({ op: "test", path: "/spec/order", value: 1 }, { op: "remove", path: "/metadata" })).toEqual({
    spec: OBJECT.spec,
  });
  expect(run({ op: "replace", path: "", value: { a: 1 } })).toEqual({ a: 1 });
});

test("what cannot be done is refused, with the reason", () => {
  for (const [patch, type, message] of [
    [[], "merge", "the patch must be an object"],
    [{}, "json", "the patch must be a list of operations"],
    [{ spec: { $patch: "replace" } }, "strategic", "directive spec.$patch is not supported: use --type json"],
    [[{ op: "remove", path: "/spec/none" }], "json", "operation 1: /spec/none does not exist"],
    [[{ op: "remove", path: "/spec/nets/2" }], "json", '"2" must be an index from 0 to 1'],
    [[{ op: "add", path: "/spec/nets/01", value: 1 }], "json", '"01" must be an index from 0 to 2'],
    [[{ op: "add", path: "spec", value: 1 }], "json", 'path "spec" must be a path such as /spec/order'],
    [[{ op: "add", path: "/spec/x" }], "json", "operation 1 must have value"],
    [[{ op: "move", path: "/spec/x" }], "json", "from null must be a path"],
    [[{ op: "test", path: "/spec/order", value: 2 }], "json", "operation 1: test failed: /spec/order is 1"],
    [[{ op: "jump", path: "/spec" }], "json", 'op "jump" must be add, remove'],
    [[1], "json", "operation 1 must be an object"],
    [[{ op: "replace", path: "", value: 1 }], "json", "something that is no object"],
  ] as const) {
    let said = "";
    try {
      patched(OBJECT, patch as unknown as JsonValue, type);
    } catch (error) {
      expect(error).toBeInstanceOf(Refusal);
      said = (error as Refusal).message;
    }
    expect(said).toContain(message);
  }
});
