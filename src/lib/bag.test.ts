import { expect, test } from "bun:test";
import { type Bag, hasValue, sizeOf, valuesOf, withoutValue, withValue } from "./bag.ts";

test("a bag is a set, from none to many members and back", () => {
  let state = 1;
  const next = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
  let bag: Bag<string>;
  const set = new Set<string>();
  // It grows beyond what an array holds, and shrinks to nothing, several times.
  for (let i = 0; i < 2_000; i++) {
    const value = `v${next(40)}`;
    if (next(100) < (i % 400 < 200 ? 75 : 25)) {
      bag = withValue(bag, value);
      set.add(value);
    } else {
      bag = withoutValue(bag, value);
      set.delete(value);
    }
    expect([sizeOf(bag), hasValue(bag, value)]).toEqual([set.size, set.has(value)]);
    expect([...valuesOf(bag)].sort()).toEqual([...set].sort());
  }
});
