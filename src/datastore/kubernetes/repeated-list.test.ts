/** A list that is read by what changed is that which JSON says. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { RepeatedList } from "./repeated-list.ts";

const COUNT = 1_000;
const LIST = Array.from({ length: COUNT }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);

function documentOf(nets: unknown, more: object = {}): string {
  return JSON.stringify({ type: "MODIFIED", object: { metadata: { name: "a" }, spec: { nets, ...more }, status: {} } });
}

/** Edits of a list: at a place, so many go and these come. */
const edit = fc.record({
  at: fc.oneof(fc.constantFrom(0, 1, COUNT - 1, COUNT, COUNT + 1), fc.nat(COUNT)),
  gone: fc.oneof(fc.nat(3), fc.constant(COUNT - 1)),
  came: fc.array(
    fc.oneof(
      fc.constantFrom(
        "10.0.0.0/24",
        "10.0.1.0/24",
        "",
        "]",
        "[",
        ",",
        '"',
        '","',
        '"nets":[',
        '"nets":0',
        "\\",
        "ü",
        "\u2028",
      ),
      fc.string({ unit: "binary", maxLength: 5 }),
      fc.nat(255).map((i) => `10.9.${i}.0/24`),
    ),
    { maxLength: 3 },
  ),
});

test("a document is that of JSON.parse, whatever became of its list since the one before", () => {
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 12 }), (edits) => {
      const reader = new RepeatedList(["object", "spec", "nets"]);
      let list = LIST;
      for (const { at, gone, came } of edits) {
        list = list.toSpliced(at, gone, ...came);
        if (list.length < COUNT / 2) list = [...list, ...LIST];
        const text = documentOf(list);
        expect(reader.parse(text)).toEqual(JSON.parse(text));
      }
    }),
    { numRuns: 300 },
  );
});

test("items that did not change are the same texts, and the JSON between them alone is read", () => {
  const reader = new RepeatedList(["object", "spec", "nets"]);
  reader.parse(documentOf(LIST));
  const read: number[] = [];
  const { parse } = JSON;
  JSON.parse = (text: string): unknown => {
    read.push(text.length);
    return parse(text) as unknown;
  };
  try {
    expect(reader.parse(documentOf(LIST.toSpliced(500, 1, "192.0.2.0/24")))).toEqual(
      parse(documentOf(LIST.toSpliced(500, 1, "192.0.2.0/24"))),
    );
  } finally {
    JSON.parse = parse;
  }
  expect(read.length).toBe(2);
  expect(Math.max(...read)).toBeLessThan(200);
});

test.each([
  ["elsewhere", (list: string) => `{"object":{"spec":{"nets":null},"status":{"nets":[${list}]}}}`],
  ["elsewhere, where the stand-in is", (list: string) => `{"object":{"spec":{"nets":0},"status":{"nets":[${list}]}}}`],
  ["twice", (list: string) => `{"object":{"spec":{"nets":[${list}],"nets":["a",${list}]}}}`],
  ["of something else than texts", (list: string) => `{"object":{"spec":{"nets":[${list},1,{"a":[2]}]}}}`],
  ["with blanks", (list: string) => `{"object":{"spec":{"nets":[${list.replaceAll(",", ", ")}]}}}`],
  ["in a text", (list: string) => `{"object":{"spec":{"a":${JSON.stringify(`{"nets":[${list}]}`)}}}}`],
  ["after a text that ends as if before a name", (list: string) => `{"object":{"spec":{"a":"{","nets":[${list}]}}}`],
])("a list %s is read as JSON says", (_, documentWith) => {
  const list = JSON.stringify(LIST).slice(1, -1);
  const reader = new RepeatedList(["object", "spec", "nets"]);
  reader.parse(documentOf(LIST));
  for (const text of [documentWith(list), documentOf(LIST), documentWith(list)])
    expect(reader.parse(text)).toEqual(JSON.parse(text));
});

test.each(['"a",', '"a" "b"', ',"a"', '"a",,"b"', "]"])("what is no JSON is refused: %s in the list", (wrong) => {
  const list = JSON.stringify(LIST).slice(1, -1);
  const reader = new RepeatedList(["object", "spec", "nets"]);
  reader.parse(documentOf(LIST));
  for (const nets of [`${list},${wrong}`, `${wrong},${list}`, `"a" ${list}`])
    expect(() => reader.parse(`{"object":{"spec":{"nets":[${nets}]}}}`)).toThrow(SyntaxError);
  expect(() => reader.parse(`{"object":{"spec":{"nets":[${list},]}}}`)).toThrow(SyntaxError);
  expect(reader.parse(documentOf(LIST))).toEqual(JSON.parse(documentOf(LIST)));
});
