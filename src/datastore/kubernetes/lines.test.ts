import { expect, test } from "bun:test";
import fc from "fast-check";
import { LineSplitter } from "./lines.ts";

test("documents come out whole and in order, wherever the chunks are split", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ name: fc.string({ unit: "binary" }), n: fc.integer() }), { maxLength: 20 }),
      fc.array(fc.nat(40)),
      (documents, cuts) => {
        const bytes = new TextEncoder().encode(documents.map((document) => `${JSON.stringify(document)}\n`).join(""));
        const splitter = new LineSplitter();
        const got: unknown[] = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          const end = Math.min(bytes.length, at + cut);
          got.push(...splitter.push(bytes.subarray(at, end)));
          at = end;
        }
        expect(got).toEqual(documents);
        expect(splitter.unfinished).toBe(false);
      },
    ),
    { numRuns: 500 },
  );
});

test("an unfinished line is detected", () => {
  const splitter = new LineSplitter();
  expect(splitter.push(new TextEncoder().encode('{"a":1}\n{"b"'))).toEqual([{ a: 1 }]);
  expect(splitter.unfinished).toBe(true);
});
