import { expect, test } from "bun:test";
import { Batch } from "./batch.ts";

/** A batch whose works run one after another, and what each was given. */
function serial(work: (items: readonly number[]) => Promise<void>): {
  batch: Batch<number>;
  runs: (readonly number[])[];
} {
  const runs: (readonly number[])[] = [];
  let last = Promise.resolve();
  const batch = new Batch<number>({
    schedule: (next) => void (last = last.then(next)),
    work: (items) => {
      runs.push(items);
      return work(items);
    },
    isShared: (error) => error instanceof RangeError,
  });
  return { batch, runs };
}

test("what arrives while earlier work runs is done together, and each call settles when its work does", async () => {
  const gate = Promise.withResolvers<void>();
  const { batch, runs } = serial(([first]) => (first === 1 ? gate.promise : Promise.resolve()));
  const one = batch.add(1);
  await Promise.resolve();
  const rest = Promise.all([batch.add(2), batch.add(3)]);
  expect(runs).toEqual([[1]]);
  gate.resolve();
  await one;
  await rest;
  expect(runs).toEqual([[1], [2, 3]]);
});

test("no run is for more items than allowed; the others follow in order", async () => {
  const runs: (readonly number[])[] = [];
  let last = Promise.resolve();
  const work = (items: readonly number[]): Promise<void> => {
    runs.push(items);
    return items.includes(3) ? Promise.reject(new Error("three")) : Promise.resolve();
  };
  const batch = new Batch<number>({
    schedule: (next) => void (last = last.then(next)),
    work,
    isShared: () => true,
    most: 2,
  });
  const settled = await Promise.allSettled([1, 2, 3, 4, 5].map((item) => batch.add(item)));
  expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected", "fulfilled"]);
  expect(runs).toEqual([[1, 2], [3, 4], [5]]);
  await batch.add(6);
  expect(runs.at(-1)).toEqual([6]);
});

test("one bad item fails alone; a shared error fails all items at once", async () => {
  const { batch, runs } = serial((items) =>
    items.includes(2)
      ? Promise.reject(new Error("two"))
      : items.includes(9)
        ? Promise.reject(new RangeError("shared"))
        : Promise.resolve(),
  );
  const settled = await Promise.allSettled([1, 2, 3].map((item) => batch.add(item)));
  expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(runs).toEqual([[1, 2, 3], [1], [2], [3]]);
  expect((await Promise.allSettled([8, 9].map((item) => batch.add(item)))).map(({ status }) => status)).toEqual([
    "rejected",
    "rejected",
  ]);
  expect(runs.slice(4)).toEqual([[8, 9]]);
});
