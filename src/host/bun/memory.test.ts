import { expect, test } from "bun:test";
import { trimming } from "./memory.ts";

test("garbage is collected when the process has grown by 64 MiB since it was last collected, and not before", () => {
  const MIB = 2 ** 20;
  let [resident, inUse, collections] = [100 * MIB, 100 * MIB, 0];
  const memory = trimming({
    residentBytes: () => resident,
    collect: () => {
      collections++;
      resident = inUse;
    },
  });
  const grow = (mib: number): number => {
    resident += mib * MIB;
    memory.trim();
    return collections;
  };
  expect([grow(0), grow(63), grow(1), grow(63)]).toEqual([0, 0, 1, 1]);
  inUse += 30 * MIB;
  // 63 above the last collection, then 64; from then on the size after that collection is the base.
  expect([grow(1), grow(63), grow(1)]).toEqual([2, 2, 3]);
});
