import { expect, test } from "bun:test";
import { fingerprint } from "./fingerprint.ts";

test("equal bytes have one fingerprint, wherever they are in memory, and it is the same in every version", () => {
  const bytes = new TextEncoder().encode("the object of the path");
  const moved = new Uint8Array(bytes.length + 3);
  moved.set(bytes, 3);
  expect(fingerprint(bytes)).toMatch(/^[0-9a-f]{16}$/);
  expect(fingerprint(moved.subarray(3))).toBe(fingerprint(bytes));
  expect(fingerprint(bytes)).toBe("32b4709dc3db6dcd");
});

test("bytes that differ in one bit, or in their length, have others", () => {
  const seen = new Set<string>();
  let count = 0;
  for (let length = 0; length <= 64; length++) {
    const bytes = new Uint8Array(length);
    seen.add(fingerprint(bytes));
    count++;
    for (let bit = 0; bit < 8 * length; bit++) {
      const at = bit >> 3;
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
      seen.add(fingerprint(bytes));
      count++;
      bytes[at] = 0;
    }
  }
  expect(seen.size).toBe(count);
});
