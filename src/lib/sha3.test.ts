import { createHash } from "node:crypto";
import { expect, test } from "bun:test";
import { sha3 } from "./sha3.ts";

test("agrees with the platform's SHA3-256 for lengths around the block size", () => {
  for (const length of [0, 1, 7, 8, 135, 136, 137, 271, 272, 300]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + length) & 255);
    expect(Buffer.from(sha3(bytes)).toString("hex")).toBe(createHash("sha3-256").update(bytes).digest("hex"));
  }
});
