/** The rows of the scale bench, and how a change finds its commit. */
import { expect, test } from "bun:test";
import type { Commit } from "./notifications.ts";
import { delaysOf } from "./phase-churn.ts";
import { lineOf, summaryOf } from "./table.ts";
import { asSeen } from "./watchers.ts";

const commit = (atMs: number, ...keys: readonly string[]): Commit => ({
  atMs,
  pid: 1,
  tables: ["calico"],
  messages: 2,
  rulesAdded: 0,
  rulesDeleted: 0,
  elementsAdded: keys.length,
  elementsDeleted: 0,
  keys,
});

test("a change's delay ends with the first later commit of its own address", () => {
  const changes = [
    { atMs: 10, key: "0a" },
    { atMs: 20, key: "0b" },
    { atMs: 30, key: "0a" },
    { atMs: 40, key: "0c" },
  ];
  const commits = [commit(5, "0a"), commit(12, "0d"), commit(15, "0a"), commit(21, "0b"), commit(33, "0a")];
  expect(delaysOf(changes, commits)).toEqual([5, 1, 3, Infinity]);
});

test("a row of many values says its distribution, a row of one its figure", () => {
  const values = Array.from({ length: 100 }, (_, i) => i + 1);
  expect(summaryOf({ what: "x", unit: "ms", values })).toMatchObject({
    n: 100,
    p25: 26,
    p50: 51,
    p75: 76,
    p90: 91,
    p99: 100,
    max: 100,
  });
  expect(lineOf({ what: "x", unit: "ms", values, aim: "9 ms" })).toMatch(
    /^x +9 ms +p50 51\.0 \(26\.0-76\.0\) p90 91\.0 p99 100 max 100 ms, n 100$/,
  );
  expect(lineOf({ what: "x", unit: "MB", values: [1.5], ratio: { value: 2, to: "y", aim: "3x" } })).toMatch(
    /^x +1\.50 MB +2\.00x y \(aim 3x\)$/,
  );
});

test("an answer that took long stands for those that would have been asked for meanwhile", () => {
  const at = (ms: number): { atMs: number; ms: number } => ({ atMs: 0, ms });
  expect(asSeen([at(1), at(9), at(2)], 2)).toEqual([1, 9, 7, 5, 3, 2]);
});
