import { expect, test } from "bun:test";
import { openClock } from "./clock.ts";
import { openRandom } from "./random.ts";

const clock = openClock();

test("sleep lasts at least its time on the monotonic clock", async () => {
  const before = clock.monotonicMs();
  await clock.sleep(20);
  // Timers may fire a fraction of a millisecond early.
  expect(clock.monotonicMs() - before).toBeGreaterThanOrEqual(19);
  expect(Math.abs(clock.wallMs() - Date.now())).toBeLessThan(1000);
});

test("sleep ends without an error when the signal aborts, before or during", async () => {
  const controller = new AbortController();
  const sleeping = clock.sleep(1e8, controller.signal);
  controller.abort();
  await sleeping;
  await clock.sleep(1e8, controller.signal);
});

test("random numbers are in their range, identifiers are of version 4 and differ", () => {
  const random = openRandom();
  for (let i = 0; i < 100; i++) expect(random.fraction()).toBeWithin(0, 1);
  expect(random.uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(random.uuid()).not.toBe(random.uuid());
});
