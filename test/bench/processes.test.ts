import { expect, test } from "bun:test";
import { wakeUps, wakeUpsSince } from "./processes.ts";

test("wake-ups are those of the threads that are there: one that has ended takes nothing from them", async () => {
  const before = wakeUps(process.pid);
  for (let i = 0; i < 5; i++) await Bun.sleep(1);
  expect(wakeUpsSince(process.pid, new Map([...before, ["0", 1_000_000_000]]))).toBeGreaterThan(0);
});
