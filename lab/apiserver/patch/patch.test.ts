import { describe, expect, test } from "bun:test";
import type { JsonObject, JsonValue } from "../../../src/model/schema/json.ts";
import { schemaOf } from "../kinds/overlay.ts";
import { applyJsonPatch } from "./json-patch.ts";
import { applyMergePatch } from "./merge-patch.ts";
import { applyStrategicMerge } from "./strategic-merge.ts";

describe("JSON patch (RFC 6902)", () => {
  const document = { a: { b: [1, 2, 3] }, "x/y": 1, "m~n": 2 };
  test.each<[string, JsonValue, JsonValue | string]>([
    ["add to a list", [{ op: "add", path: "/a/b/1", value: 9 }], { ...document, a: { b: [1, 9, 2, 3] } }],
    ["append", [{ op: "add", path: "/a/b/-", value: 9 }], { ...document, a: { b: [1, 2, 3, 9] } }],
    ["remove", [{ op: "remove", path: "/a/b/0" }], { ...document, a: { b: [2, 3] } }],
    ["replace", [{ op: "replace", path: "/a", value: 1 }], { ...document, a: 1 }],
    [
      "escapes",
      [
        { op: "replace", path: "/x~1y", value: 5 },
        { op: "replace", path: "/m~0n", value: 6 },
      ],
      { ...document, "x/y": 5, "m~n": 6 },
    ],
    ["move", [{ op: "move", from: "/a/b", path: "/c" }], { ...document, a: {}, c: [1, 2, 3] }],
    [
      "copy, then change the original",
      [
        { op: "copy", from: "/a", path: "/c" },
        { op: "add", path: "/a/b/-", value: 4 },
      ],
      { ...document, a: { b: [1, 2, 3, 4] }, c: { b: [1, 2, 3] } },
    ],
    ["test", [{ op: "test", path: "/a/b", value: [1, 2, 3] }], document],
    ["failing test", [{ op: "test", path: "/a/b", value: [] }], "rejected"],
    ["path that does not exist", [{ op: "replace", path: "/q/r", value: 1 }], "rejected"],
    ["index beyond the end", [{ op: "add", path: "/a/b/4", value: 1 }], "rejected"],
    ["no list", { op: "add" }, "malformed"],
    ["unknown operation", [{ op: "swap", path: "/a" }], "malformed"],
    ["no value", [{ op: "add", path: "/a" }], "malformed"],
  ])("%s", (_, patch, expected) => {
    const before = structuredClone(document);
    const result = applyJsonPatch(document, patch);
    expect(result.ok ? result.value : result.error.kind).toEqual(expected);
    expect(document).toEqual(before);
  });
});

test.each<[JsonValue, JsonValue, JsonValue]>([
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: { b: "c", d: 1 } }, { a: { b: "d", c: null } }, { a: { b: "d", d: 1 } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
])("merge patch (RFC 7396): %j with %j", (original, patch, expected) =>
  expect(applyMergePatch(original, patch)).toEqual(expected),
);

describe("strategic merge patch", () => {
  const pod = (spec: JsonObject, metadata: JsonObject = {}): JsonObject => ({ metadata, spec });
  const two = [
    { name: "a", image: "1", env: [{ name: "X", value: "1" }] },
    { name: "b", image: "2" },
  ];
  test.each<[string, JsonObject, JsonObject, JsonObject]>([
    [
      "containers merge by name",
      pod({ containers: two }),
      pod({ containers: [{ name: "a", image: "9" }] }),
      pod({ containers: [{ ...two[0], image: "9" }, two[1] ?? {}] }),
    ],
    [
      "a new item is appended",
      pod({ containers: two }),
      pod({ containers: [{ name: "c" }] }),
      pod({ containers: [...two, { name: "c" }] }),
    ],
    [
      "an item is deleted",
      pod({ containers: two }),
      pod({ containers: [{ name: "a", $patch: "delete" }] }),
      pod({ containers: [two[1] ?? {}] }),
    ],
    [
      "a list is replaced",
      pod({ containers: two }),
      pod({ containers: [{ $patch: "replace" }, { name: "z" }] }),
      pod({ containers: [{ name: "z" }] }),
    ],
    [
      "order is set",
      pod({ containers: two }),
      pod({ "$setElementOrder/containers": [{ name: "b" }, { name: "a" }] }),
      pod({ containers: [two[1] ?? {}, two[0] ?? {}] }),
    ],
    [
      "nested merge keys",
      pod({ containers: two }),
      pod({ containers: [{ name: "a", env: [{ name: "Y", value: "2" }] }] }),
      pod({
        containers: [
          {
            ...two[0],
            env: [
              { name: "X", value: "1" },
              { name: "Y", value: "2" },
            ],
          },
          two[1] ?? {},
        ],
      }),
    ],
    [
      "tolerations are atomic",
      pod({ tolerations: [{ key: "a" }] }),
      pod({ tolerations: [{ key: "b" }] }),
      pod({ tolerations: [{ key: "b" }] }),
    ],
    [
      "finalizers are a set",
      pod({}, { finalizers: ["a/b"] }),
      pod({}, { finalizers: ["a/b", "c/d"] }),
      pod({}, { finalizers: ["a/b", "c/d"] }),
    ],
    [
      "and lose members by directive",
      pod({}, { finalizers: ["a/b", "c/d"] }),
      pod({}, { "$deleteFromPrimitiveList/finalizers": ["a/b"] }),
      pod({}, { finalizers: ["c/d"] }),
    ],
    ["null removes", pod({ nodeName: "n", hostNetwork: true }), pod({ nodeName: null }), pod({ hostNetwork: true })],
    [
      "an object is replaced",
      pod({ securityContext: { runAsUser: 1 } }),
      pod({ securityContext: { $patch: "replace", runAsGroup: 2 } }),
      pod({ securityContext: { runAsGroup: 2 } }),
    ],
    [
      "retained keys of a volume",
      pod({ volumes: [{ name: "v", emptyDir: {} }] }),
      pod({ volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] }),
      pod({ volumes: [{ name: "v", hostPath: { path: "/x" } }] }),
    ],
  ])("%s", (_, original, patch, expected) => {
    const before = structuredClone(original);
    const result = applyStrategicMerge(schemaOf("core.v1.Pod"), original, patch);
    expect(result.ok ? result.value : result.error).toEqual(expected);
    expect(original).toEqual(before);
  });

  test("an item without its key is refused", () => {
    const result = applyStrategicMerge(
      schemaOf("core.v1.Pod"),
      pod({ containers: two }),
      pod({ containers: [{ image: "x" }] }),
    );
    expect(result.ok ? "" : result.error).toContain("does not contain declared merge key: name");
  });
});
