import { expect, test } from "bun:test";
import { Breath, inTurns, nextTurn } from "./breath.ts";
import type { Clock } from "./clock.ts";

/** A clock whose sleepers wake all at once, when told, as those of one turn of the event loop do. */
class TurningClock implements Clock {
  nowMs = 0;
  readonly #sleepers: (() => void)[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  sleep(): Promise<void> {
    return new Promise((resolve) => this.#sleepers.push(resolve));
  }

  async turn(): Promise<void> {
    for (const wake of this.#sleepers.splice(0)) wake();
    await Bun.sleep(0);
  }
}

test("of several that wait for the thread one goes on at a turn, in the order of asking", async () => {
  const clock = new TurningClock();
  const done: string[] = [];
  for (const name of ["a", "b", "c"]) void nextTurn(clock).then(() => done.push(name));
  for (const so of [["a"], ["a", "b"], ["a", "b", "c"]]) {
    await clock.turn();
    expect(done).toEqual(so);
  }
});

test("the thread is given back once it was held for some milliseconds, or after so many parts", async () => {
  const clock = new TurningClock();
  const breath = new Breath(clock, 10);
  const isHeld = async (parts: number): Promise<boolean> => {
    let isOver = false;
    const after = breath.after(parts).then(() => (isOver = true));
    await Bun.sleep(0);
    const held = !isOver;
    await clock.turn();
    await after;
    return held;
  };
  expect(await isHeld(9)).toBe(false);
  expect(await isHeld(1)).toBe(true);
  expect(await isHeld(1)).toBe(false);
  clock.nowMs += 4;
  expect(await isHeld(1)).toBe(true);
});

test("parts are done one at a turn, and none once it is aborted", async () => {
  const clock = new TurningClock();
  const stop = new AbortController();
  const done: string[] = [];
  const parts = ["a", "b", "c"].map((name) => () => void done.push(name));
  const all = inTurns(clock, parts, stop.signal);
  expect(done).toEqual([]);
  await clock.turn();
  expect(done).toEqual(["a"]);
  await clock.turn();
  expect(done).toEqual(["a", "b"]);
  stop.abort();
  await clock.turn();
  await all;
  expect(done).toEqual(["a", "b"]);
});
