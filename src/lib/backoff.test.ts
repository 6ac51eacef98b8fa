import { expect, test } from "bun:test";
import { backoffMs } from "./backoff.ts";

const POLICY = { baseMs: 100, maxMs: 5000 };

test.each([
  [1, 0, 50],
  [1, 0.5, 75],
  [2, 0, 100],
  [3, 0, 200],
  [6, 0, 1600],
  [7, 0, 2500],
  [10_000, 0, 2500],
])("after failure %d with chance %d it waits %d ms", (attempt, fraction, wanted) => {
  expect(backoffMs(POLICY, attempt, fraction)).toBe(wanted);
});

test("never longer than the ceiling", () => {
  for (let attempt = 1; attempt < 100; attempt++)
    expect(backoffMs(POLICY, attempt, 0.999999)).toBeLessThanOrEqual(Math.min(5000, 100 * 2 ** (attempt - 1)));
});
