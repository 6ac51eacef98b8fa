import { expect, test } from "bun:test";
import { fnv32 } from "./fnv.ts";

// Values of the reference implementation.
test.each([
  ["", 0x811c9dc5],
  ["a", 0x050c5d7e],
  ["foobar", 0x31f0b262],
])("%p", (text, wanted) => {
  expect(fnv32(text)).toBe(wanted);
});
