/** What is known is read anew before the next work: after a failure, and after a doubt that came during work, which does not end it. */
import { expect, test } from "bun:test";
import { StoreError } from "../datastore/store.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { Recovery } from "./recovery.ts";

test("before the first work, after a failure, and after a doubt, whenever it comes", async () => {
  let recoveries = 0;
  const recovery = new Recovery(new VirtualClock(), async () => void recoveries++);
  const after = async (work: () => Promise<void>): Promise<number> => {
    await recovery.run(work).catch(() => undefined);
    await recovery.run(async () => {});
    return recoveries;
  };
  expect(await after(async () => {})).toBe(1);
  expect(await after(() => Promise.reject(new StoreError("unavailable", "IPAMBlock", undefined, "cut")))).toBe(2);
  expect(await after(async () => recovery.distrust())).toBe(3);
  recovery.distrust();
  expect(await after(async () => {})).toBe(4);
});
