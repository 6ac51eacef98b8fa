import { createHash } from "node:crypto";
import { expect, test } from "bun:test";
import { sha256 } from "./sha256.ts";

test("every length around the block boundaries, as the platform computes it", () => {
  for (let length = 0; length < 200; length++) {
    const text = "ä".repeat(length % 7) + "x".repeat(length);
    expect(sha256(text)).toBe(createHash("sha256").update(text).digest("hex"));
  }
});
