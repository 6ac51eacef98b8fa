import { expect, test } from "bun:test";
import fc from "fast-check";
import { Tracker } from "./tracker.ts";

const rows = fc.dictionary(fc.constantFrom("a", "b", "c", "d"), fc.integer({ min: 0, max: 2 }));

test("applying the changes to what is had gives what is wanted", () => {
  fc.assert(
    fc.property(fc.array(rows), rows, (wants, have) => {
      const tracker = new Tracker<number>();
      tracker.replaceHave(new Map(Object.entries(have)));
      const kernel = new Map(Object.entries(have));
      for (const want of wants) {
        for (const id of "abcd") tracker.setWant(id, want[id]);
        for (const change of tracker.changes()) {
          expect(kernel.get(change.id)).toBe(change.have as number);
          if (change.want === undefined) kernel.delete(change.id);
          else kernel.set(change.id, change.want);
        }
        tracker.committed(tracker.changes());
        expect(Object.fromEntries(kernel)).toEqual(want);
        expect(tracker.pending).toBe(0);
      }
    }),
  );
});

test("drift in the kernel becomes pending, and its repair settles it", () => {
  const tracker = new Tracker<{ body: string }>();
  tracker.setWant("x", { body: "drop" });
  tracker.committed(tracker.changes());
  tracker.replaceHave(
    new Map([
      ["x", { body: "accept" }],
      ["y", { body: "accept" }],
    ]),
  );
  expect(tracker.changes()).toEqual([
    { id: "x", want: { body: "drop" }, have: { body: "accept" } },
    { id: "y", want: undefined, have: { body: "accept" } },
  ]);
  tracker.committed(tracker.changes());
  expect(tracker.pending).toBe(0);
});
