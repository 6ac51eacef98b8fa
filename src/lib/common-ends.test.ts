import { expect, test } from "bun:test";
import { commonEnds, differences } from "./common-ends.ts";

const endsOf = (before: string, now: string): unknown => commonEnds([...before], [...now], (a, b) => a === b);

test("the ends that two lists have in common are counted, and no item twice", () => {
  expect(endsOf("abcd", "abxcd")).toEqual({ head: 2, tail: 2 });
  expect(endsOf("abcd", "abd")).toEqual({ head: 2, tail: 1 });
  expect(endsOf("aaa", "aaaa")).toEqual({ head: 3, tail: 0 });
  expect(endsOf("abc", "abc")).toEqual({ head: 3, tail: 0 });
  expect(endsOf("abc", "xyz")).toEqual({ head: 0, tail: 0 });
  expect(endsOf("", "abc")).toEqual({ head: 0, tail: 0 });
});

test("what only one of two lists has is found wherever it is", () => {
  expect(differences([..."abcd"], [..."abxcd"])).toEqual({ added: ["x"], removed: [] });
  expect(differences([..."abcd"], [..."acbd"])).toEqual({ added: [], removed: [] });
  expect(differences([..."abcd"], [..."dxb"])).toEqual({ added: ["x"], removed: ["a", "c"] });
  expect(differences([], [..."ab"])).toEqual({ added: ["a", "b"], removed: [] });
});
