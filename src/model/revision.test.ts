import { expect, test } from "bun:test";
import { hasReached, revisionOf } from "./revision.ts";

test.each([
  ["9", "10", false],
  ["10", "9", true],
  ["10", "10", true],
  [undefined, "1", false],
  ["b", "a", false],
  ["a", "a", true],
  ["010", "9", false],
  ["99999999999999999999", "9", false],
])("%s has reached %s: %j", (revision, other, reached) => {
  expect(hasReached(revision === undefined ? undefined : revisionOf(revision), revisionOf(other))).toBe(reached);
});

test("no two texts are one revision", () => {
  for (const text of ["1", "01", "", "0", "9007199254740993"]) expect(String(revisionOf(text))).toBe(text);
});
