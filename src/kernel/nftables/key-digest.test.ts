import { expect, test } from "bun:test";
import { KeyDigest } from "./key-digest.ts";

function digestOf(keys: readonly (readonly number[])[], seed = 7): KeyDigest {
  const digest = new KeyDigest(seed);
  for (const key of keys) {
    for (const word of key) digest.word(word);
    digest.end();
  }
  return digest;
}

test("the order of keys does not matter, nor the sign of a word", () => {
  expect(digestOf([[1], [0xffffffff, 2]]).isSame(digestOf([[-1, 2], [1]]))).toBe(true);
});

test.each([
  ["one more", [[1], [2], [3]]],
  ["one less", [[1]]],
  ["another", [[1], [3]]],
  ["one twice in place of another", [[1], [1]]],
  ["words of one key in two", [[1], [2], []]],
  ["the same words in another order", [[2, 1]]],
])("%s is another digest", (_, keys) => {
  expect(digestOf([[1], [2]]).isSame(digestOf(keys))).toBe(false);
});

test("keys that have moved from one to the other are another digest", () => {
  expect(digestOf([[1, 2], [3]]).isSame(digestOf([[1], [2, 3]]))).toBe(false);
});

test("digests of different seeds are not the same", () => {
  expect(digestOf([[1]], 1).isSame(digestOf([[1]], 2))).toBe(false);
});
