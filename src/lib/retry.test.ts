import { expect, test } from "bun:test";
import { Retry } from "./retry.ts";
import { VirtualClock } from "./virtual-clock.ts";

test("waits grow up to the longest, an error is reported once, and success resets both", async () => {
  const clock = new VirtualClock();
  const retry = new Retry({ baseMs: 100, maxMs: 300 }, clock);
  expect([retry.error, retry.atMs, retry.isDue, retry.succeeded()]).toEqual([undefined, undefined, false, false]);
  const waits: number[] = [];
  const news = ["a", "a", "b", "b"].map((error) => {
    const isNews = retry.failed(error);
    waits.push((retry.atMs ?? 0) - clock.monotonicMs());
    return isNews;
  });
  expect([news, waits, retry.error]).toEqual([[true, false, true, false], [100, 200, 300, 300], "b"]);
  expect(retry.isDue).toBe(false);
  await clock.advance(300);
  expect(retry.isDue).toBe(true);
  expect([retry.succeeded(), retry.error, retry.isDue]).toEqual([true, undefined, false]);
  retry.failed("a");
  expect((retry.atMs ?? 0) - clock.monotonicMs()).toBe(100);
});

test("jitter shortens a wait by half at most", () => {
  const clock = new VirtualClock();
  const retry = new Retry({ baseMs: 100, maxMs: 300 }, clock, () => 0);
  retry.failed("a");
  expect(retry.atMs).toBe(50);
});
