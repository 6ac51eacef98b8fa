import { expect, test } from "bun:test";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { KernelError } from "../kernel/errno.ts";
import type { Endpoint, EndpointId } from "../program/program.ts";
import type { RowStatus, Steps } from "./driver.ts";
import { Loop } from "./loop.ts";
import { DELTA, EBUSY, NO_WATCHER, OneRow, PROGRAM, running, setUp } from "./loop-bench.ts";

test("nothing is read or written before the start; then everything is made equal", () => {
  const { loop, a, b } = setUp();
  loop.step(PROGRAM, DELTA);
  expect([a.reads, a.writes, b.writes]).toEqual([0, 0, 0]);
  void loop.start();
  expect([a.reads, a.writes, b.writes]).toEqual([1, 1, 1]);
});

test("what the kernel refuses is said, held against that driver alone, and retried until it is taken", async () => {
  const { loop, a, b, clock, reports } = setUp();
  void loop.start();
  a.refuse = new KernelError("add", "row", EBUSY);
  loop.step(PROGRAM, DELTA);
  expect(loop.status().map(({ error }) => error === undefined)).toEqual([false, true]);
  expect(b.writes).toBe(1);
  const abort = new AbortController();
  const running = loop.run(abort.signal);
  await clock.advance(300);
  expect(a.writes).toBe(0);
  a.refuse = undefined;
  await clock.advance(6000);
  expect([a.writes, loop.status()[0]?.error]).toEqual([1, undefined]);
  expect(reports).toContain("kernel agrees again");
  abort.abort();
  await clock.advance(100);
  await running;
});

test("a wish taken back does not make a refusal undone: the kernel is read before it is believed again", async () => {
  const { loop, a, clock } = setUp();
  loop.step(PROGRAM, DELTA);
  void loop.start();
  a.kernel = 99;
  a.refuse = new KernelError("add", "row", EBUSY);
  loop.step(PROGRAM, DELTA);
  a.change = -1;
  loop.step(PROGRAM, DELTA);
  expect([a.pending, loop.status()[0]?.error === undefined]).toEqual([0, false]);
  const abort = new AbortController();
  const running = loop.run(abort.signal);
  await clock.advance(500);
  expect([loop.status()[0]?.error === undefined, a.kernel]).toEqual([false, 99]);
  a.refuse = undefined;
  await clock.advance(6000);
  expect([loop.status()[0]?.error, a.kernel]).toEqual([undefined, 1]);
  abort.abort();
  await clock.advance(100);
  await running;
});

test("a mistake of a driver is nobody's to retry", () => {
  const { loop, a } = setUp();
  void loop.start();
  a.refuse = new TypeError("undefined is not an object");
  expect(() => loop.step(PROGRAM, DELTA)).toThrow(TypeError);
});

test("an audit finds what was changed behind our back, repairs it and counts it", async () => {
  const { loop, a, clock } = setUp();
  loop.step(PROGRAM, DELTA);
  void loop.start();
  a.kernel = 99;
  const abort = new AbortController();
  const running = loop.run(abort.signal);
  await clock.advance(2500);
  expect([a.kernel, loop.repairs]).toEqual([1, 1]);
  abort.abort();
  await clock.advance(100);
  await running;
});

test("a driver that cannot be read is tried less and less often, and starves none", async () => {
  const all = setUp(1_000);
  const { clock, a, b, loop, reports } = all;
  await running(all, async () => {
    let attempts = 0;
    a.read = () => {
      attempts++;
      throw new KernelError("read", "table", EBUSY);
    };
    const before = b.reads;
    await clock.advance(60_000);
    expect(attempts).toBeLessThan(20);
    // What the kernel has is not known: nothing is written on top of it.
    const { writes } = a;
    loop.step(PROGRAM, DELTA);
    expect([a.writes - writes, a.pending]).toEqual([0, 1]);
    expect(b.reads - before).toBe(60);
    expect(reports.filter((message) => message.startsWith("kernel cannot be read"))).toHaveLength(1);
    b.kernel = 99;
    b.watches[0]?.changed("nft");
    expect([b.kernel, loop.status()[0]?.error]).toEqual([2, "Cannot read table: EBUSY (device or resource busy)"]);
  });
});

test("what is read in many steps is read in slices, and what changes meanwhile is written at once", async () => {
  const all = setUp(1e9);
  const { clock, a, loop } = all;
  await running(all, async () => {
    let tookMs = 0;
    const now = clock.monotonicMs.bind(clock);
    clock.monotonicMs = () => now() + tookMs;
    a.reading = function* () {
      for (let i = 0; i < 100; i++) {
        tookMs += 2;
        yield;
      }
      this.read();
    };
    const begin = tookMs;
    a.kernel = 99;
    a.watches[0]?.changed("nft");
    // One urgent slice, then the thread is given back.
    expect(tookMs - begin).toBeLessThan(1_100);
    const { writes } = a;
    loop.step(PROGRAM, DELTA);
    expect(a.writes).toBe(writes + 1);
    await clock.advance(1_000);
    expect([a.kernel, a.pending]).toEqual([2, 0]);
  });
});

test("drivers that have much to read at the start take turns: the thread is given back between them", async () => {
  const { clock, a, b, loop } = setUp(1e9);
  let tookMs = 0;
  const now = clock.monotonicMs.bind(clock);
  clock.monotonicMs = () => now() + tookMs;
  const held: number[] = [];
  let sinceMs = 0;
  const sleep = clock.sleep.bind(clock);
  clock.sleep = (ms, signal) => {
    held.push(tookMs - sinceMs);
    return sleep(ms, signal).finally(() => (sinceMs = tookMs));
  };
  for (const driver of [a, b])
    driver.reading = function* () {
      for (let i = 0; i < 20; i++) {
        tookMs += 2;
        yield;
      }
      this.read();
    };
  const stop = new AbortController();
  const running = loop.run(stop.signal);
  await clock.until(loop.start());
  expect(tookMs).toBe(80);
  expect(Math.max(...held)).toBeLessThanOrEqual(6);
  stop.abort();
  await clock.until(running);
});

test("rows that are refused are told once, with what became of them, and are no error of the driver", async () => {
  const rows: RowStatus[] = [];
  const told: string[] = [];
  const [a, clock, reports] = [new OneRow("a"), new VirtualClock(), [] as string[]];
  Object.defineProperty(a, "failures", { get: () => rows });
  const loop = new Loop({
    drivers: [a],
    clock,
    watcher: NO_WATCHER,
    auditIntervalMs: 1e9,
    report: (message) => reports.push(message),
    refused: ({ row, error }) => told.push(`${row}: ${error}`),
  });
  void loop.start();
  const row = { object: undefined, errno: EBUSY, since: "2025-01-01T00:00:00Z", attempts: 1 } as const;
  rows.push({ ...row, row: "policy a/b", state: "failed", error: "EBUSY" });
  rows.push({ ...row, row: "pod a/p", state: "closed", error: "waits for policy a/b" });
  loop.step(PROGRAM, DELTA);
  loop.step(PROGRAM, DELTA);
  expect(told).toEqual(["policy a/b: EBUSY"]);
  rows[0] = { ...row, row: "policy a/b", state: "failed", error: "ENOMEM" };
  loop.step(PROGRAM, DELTA);
  expect(told).toEqual(["policy a/b: EBUSY", "policy a/b: ENOMEM"]);
  expect(loop.status()[0]).toMatchObject({ error: undefined, rows });
  rows.length = 0;
  loop.step(PROGRAM, DELTA);
  expect(reports.at(-1)).toBe("a row that the kernel refused is programmed or gone");
});

test("whoever waits for an endpoint whose change takes several steps waits for these, and no longer than it is known why not", async () => {
  let nowMs = 0;
  const clock = { monotonicMs: () => nowMs, wallMs: () => nowMs, sleep: () => Promise.resolve() };
  const a = new OneRow("a");
  const loop = new Loop({ drivers: [a], clock, watcher: NO_WATCHER, auditIntervalMs: 1e9, report: () => {} });
  await loop.start();
  const endpoint = "cali1" as EndpointId;
  const program = { ...PROGRAM, endpoints: new Map([[endpoint, {} as Endpoint]]) };
  let steps = 0;
  a.committing = function* (): Steps {
    for (steps = 0; steps < 5; steps++) {
      nowMs += 6;
      yield;
    }
    this.kernel = this.known = this.wanted;
    this.writes++;
  };
  loop.step(program, DELTA);
  expect([steps < 5, loop.isProgrammed(endpoint, program)]).toEqual([true, false]);
  expect(await loop.settle(endpoint, program, 1000)).toBe(true);
  expect(steps).toBe(5);
  loop.step(program, DELTA);
  expect(await loop.settle(endpoint, program, 0)).toBe(false);
  a.explain = () => "it is refused" as unknown as undefined;
  expect(await loop.settle(endpoint, program, 1000)).toBe(false);
  expect(steps).toBeLessThan(5);
});
