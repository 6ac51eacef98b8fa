import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { sha1Hex } from "./sha1.ts";

test("RFC 3174 test vectors", () => {
  expect(sha1Hex("abc")).toBe("a9993e364706816aba3e25717850c26c9cd0d89d");
  expect(sha1Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")).toBe(
    "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
  );
});

test("every length around the block size equals the platform's digest", () => {
  for (let length = 0; length < 200; length++) {
    const text = "é".repeat(length % 7) + "x".repeat(length);
    expect(sha1Hex(text)).toBe(createHash("sha1").update(text).digest("hex"));
  }
});
