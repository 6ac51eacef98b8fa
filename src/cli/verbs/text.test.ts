import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isJsonObject, type JsonValue } from "../../model/schema/json.ts";
import { readYaml } from "../yaml.ts";
import { floatText, joinText, labelSelectorText } from "./cells.ts";
import { nearest } from "./nearest.ts";
import { formatTable } from "./table.ts";
import { formatYaml } from "./yaml-text.ts";

test("numbers with a fraction are written as Go writes them", () => {
  const cases = [
    [0, "0"],
    [100, "100"],
    [100000, "100000"],
    [1000000, "1e+06"],
    [1234567, "1.234567e+06"],
    [12.5, "12.5"],
    [-3, "-3"],
    [0.0001, "0.0001"],
    [0.00001, "1e-05"],
    [1e21, "1e+21"],
    [-1e100, "-1e+100"],
  ] as const;
  for (const [value, text] of cases) expect(floatText(value)).toBe(text);
});

test("lists and maps are joined, and cut at a width", () => {
  expect(joinText(["a", "b"], ",")).toBe("a,b");
  expect(joinText({ z: "1", a: "2" }, ",")).toBe("a=2,z=1");
  expect(joinText(undefined, ",")).toBe("");
  const nets = Array.from({ length: 10 }, (_, i) => `10.0.${i}.0/28`);
  expect(joinText(nets, ",", 80)).toBe(
    "10.0.0.0/28,10.0.1.0/28,10.0.2.0/28,10.0.3.0/28,10.0.4.0/28,10.0.5.0/28,10.0....",
  );
});

test("a label selector is written as kubectl writes it", () => {
  expect(
    labelSelectorText({
      matchLabels: { app: "web" },
      matchExpressions: [
        { key: "tier", operator: "In", values: ["a", "b"] },
        { key: "old", operator: "DoesNotExist" },
        { key: "x", operator: "NotIn", values: ["y"] },
        { key: "z", operator: "Exists" },
      ],
    }),
  ).toBe("app=web,tier in (a,b),!old,x notin (y),z");
  expect(labelSelectorText({})).toBe("");
});

test("a table has upstream's layout", () => {
  expect(formatTable(["NAME", "CIDR", "S"], [["a-long-name", "10.0.0.0/8", ""]])).toBe(
    ["NAME          CIDR         S    ", "a-long-name   10.0.0.0/8        ", "", ""].join("\n"),
  );
  expect(formatTable(["NAME"], [])).toBe("NAME   \n\n");
});

test("control characters do not reach the terminal", () => {
  expect(formatTable(["NAME"], [["a\u001b[31m\nb"]])).toContain("a\\u001b[31m\\nb   ");
});

test("the word that was meant", () => {
  const kinds = ["NetworkPolicy", "GlobalNetworkPolicy", "Tier"];
  expect(nearest("NetworkPolcy", kinds)).toBe("NetworkPolicy");
  expect(nearest("teir", kinds)).toBe("Tier");
  expect(nearest("Deployment", kinds)).toBeUndefined();
});

describe("YAML", () => {
  const read = (text: string): unknown => readYaml(text)[0]?.value;

  test("is written as kubectl writes it", () => {
    const value = {
      spec: {
        order: 5,
        nets: ["10.0.0.0/8", "fd00::/8"],
        types: [],
        rules: [{ b: 1, a: [[1], {}] }],
        selector: "a == 'b'",
      },
      metadata: { resourceVersion: "17", name: "x", annotations: { text: "one\ntwo\n", bad: "yes" } },
    };
    expect(formatYaml(value)).toBe(
      [
        "metadata:",
        "  annotations:",
        '    bad: "yes"',
        "    text: |",
        "      one",
        "      two",
        "  name: x",
        '  resourceVersion: "17"',
        "spec:",
        "  nets:",
        "  - 10.0.0.0/8",
        "  - fd00::/8",
        "  order: 5",
        "  rules:",
        "  - a:",
        "    - - 1",
        "    - {}",
        "    b: 1",
        "  selector: a == 'b'",
        "  types: []",
        "",
      ].join("\n"),
    );
  });

  test("text that a reader would take for something else is quoted", () => {
    for (const text of [
      "yes",
      "No",
      "on",
      "y",
      "~",
      "null",
      "0777",
      "0x1f",
      "1e3",
      "1_000",
      "1:30",
      ".5",
      ".inf",
      "<<",
      "",
      " a",
      "a ",
      "a: b",
      "a #b",
      "a:",
      "- a",
      "? a",
      "[a",
      "{a",
      "*a",
      "&a",
      "!a",
      "%a",
      "@a",
      "`a",
      "#a",
      "'",
      '"',
      "a\\b",
      "é",
      "\u2028",
      "a\nb",
      "a\n",
      "\na",
      "a\n\nb",
      "a \nb",
      "\t",
      "---",
      "...",
      "2001-12-14",
      "a\u0085b",
      "a\u007fb",
      "\ufeff",
      "true",
      "a\rb",
      "a\n b",
      "=",
    ])
      expect(read(formatYaml({ a: text, [text]: [text, { b: text }] }))).toEqual({
        a: text,
        [text]: [text, { b: text }],
      });
  });

  test("is read back as it was", () => {
    const values = fc.jsonValue({ maxDepth: 4 }).filter((value) => isJsonObject(value));
    fc.assert(
      fc.property(values, (value) => {
        // JSON has no negative zero.
        const plain = JSON.parse(JSON.stringify(value)) as JsonValue;
        expect(read(formatYaml(plain))).toEqual(plain);
      }),
      { numRuns: 300 },
    );
  });
});
