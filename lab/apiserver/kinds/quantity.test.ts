import { expect, test } from "bun:test";
import { canonicalQuantity, compareQuantities } from "./quantity.ts";

test.each([
  ["100m", "100m"],
  ["0.5", "500m"],
  ["1024Ki", "1Mi"],
  ["1536Mi", "1536Mi"],
  ["1.5Gi", "1536Mi"],
  ["0.5Mi", "512Ki"],
  [1000000, "1M"],
  [1, "1"],
  ["1e3", "1e3"],
  ["1E6", "1e6"],
  ["12e0", "12"],
  ["0", "0"],
  ["0Ki", "0"],
  ["-5", "-5"],
  ["+5k", "5k"],
  ["1000k", "1M"],
  ["0.1n", "1n"],
  ["512", "512"],
  ["0.5Ki", "512"],
])("%p is written %p", (value, wanted) => expect(canonicalQuantity(value)).toBe(wanted));

test.each(["much", "", "1 Gi", "1KiB", ".", "1mm", null, true])("%p is no quantity", (value) =>
  expect(canonicalQuantity(value)).toBeUndefined(),
);

test("amounts compare across suffixes", () => {
  expect(compareQuantities("1", "1000m")).toBe(0);
  expect(compareQuantities("2", "1500m")).toBe(1);
  expect(compareQuantities("1M", "1Mi")).toBe(-1);
});
