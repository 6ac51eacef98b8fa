import { expect, test } from "bun:test";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { KernelError } from "../kernel/errno.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import type { Driver, DriverEvents, RowStatus, Steps } from "./driver.ts";
import { Loop } from "./loop.ts";
import type { Watch, Watcher } from "../host/watcher.ts";

const PROGRAM: Program = {
  settings: DEFAULT_SETTINGS,
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
};
const DELTA: ProgramDelta = {
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
  members: new Map(),
};
const EBUSY = 16;

const watchesNothing = (): never => {
  throw new Error("a driver of this test watches no descriptor");
};
const NO_WATCHER: Watcher = { watch: watchesNothing, awaitReadable: watchesNothing };

/** A driver of one row: wanted once lowered, there once committed; refuses while `refuse` is set. */
class OneRow implements Driver {
  readonly name: string;
  refuse: Error | undefined;
  wanted = 0;
  /** What a step of the program adds to the wish. */
  change = 1;
  kernel = 0;
  known = 0;
  reads = 0;
  writes = 0;

  constructor(name: string) {
    this.name = name;
  }

  get pending(): number {
    return this.wanted === this.known ? 0 : 1;
  }

  /** One entry a watch; undefined once it was closed. */
  readonly watches: (DriverEvents | undefined)[] = [];
  deaf: Error | undefined;

  watch(_watcher: Watcher, events: DriverEvents): Watch {
    if (this.deaf !== undefined) throw this.deaf;
    const index = this.watches.push(events) - 1;
    return { close: () => (this.watches[index] = undefined) };
  }

  isProgrammed(): boolean {
    return this.pending === 0;
  }

  lower(): void {
    this.wanted += this.change;
  }

  read(): void {
    this.reads++;
    this.known = this.kernel;
  }

  *reading(): Steps {
    this.read();
    yield;
  }

  *committing(): Steps {
    if (this.pending === 0) return;
    if (this.refuse !== undefined) throw this.refuse;
    this.kernel = this.known = this.wanted;
    this.writes++;
    yield;
  }

  readonly isFresh = false;
  readonly failures = [];
  readonly dueMs = undefined;

  plan(): [] {
    return [];
  }

  explain(): undefined {}

  close(): void {}
}

function setUp(auditIntervalMs = 1000): { loop: Loop; a: OneRow; b: OneRow; clock: VirtualClock; reports: string[] } {
  const [a, b] = [new OneRow("a"), new OneRow("b")];
  const clock = new VirtualClock();
  const reports: string[] = [];
  return {
    loop: new Loop({
      drivers: [a, b],
      clock,
      watcher: NO_WATCHER,
      auditIntervalMs,
      report: (message) => reports.push(message),
    }),
    a,
    b,
    clock,
    reports,
  };
}

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

/** Starts with one row in the kernel, runs the loop through the test and ends it. */
async function running(setUpOf: ReturnType<typeof setUp>, body: () => Promise<void>): Promise<void> {
  const { loop, clock } = setUpOf;
  loop.step(PROGRAM, DELTA);
  void loop.start();
  const abort = new AbortController();
  const run = loop.run(abort.signal);
  await body();
  abort.abort();
  await clock.advance(100);
  await run;
}

test("a change of somebody else is repaired as soon as it is heard, and told with who made it", async () => {
  const all = setUp(1e9);
  const { loop, a, b, reports } = all;
  await running(all, async () => {
    a.kernel = 99;
    a.watches[0]?.changed("nft (process 7)");
    expect([a.kernel, loop.repairs, b.reads]).toEqual([1, 1, 1]);
    expect(reports).toEqual(["kernel differs from the program: repairing"]);
  });
  expect([...a.watches, ...b.watches]).toEqual([undefined, undefined]);
});

test("a heard change that cannot be undone is an error in the status; the next one heard is tried at once", async () => {
  const all = setUp(1e9);
  const { loop, a } = all;
  await running(all, async () => {
    a.kernel = 99;
    a.refuse = new KernelError("add", "row", EBUSY);
    a.watches[0]?.changed("nft");
    expect(loop.status()[0]).toMatchObject({ pending: 1, error: expect.stringContaining("EBUSY") });
    a.refuse = undefined;
    a.watches[0]?.changed("nft");
    expect([loop.status()[0]?.error, a.kernel]).toEqual([undefined, 1]);
  });
});

test("a step that itself finds out that others have changed something: it is read again after it", async () => {
  const all = setUp(1e9);
  const { loop, a, clock } = all;
  await running(all, async () => {
    const commit = a.committing.bind(a);
    let isFirst = true;
    a.committing = function* () {
      yield* commit();
      if (!isFirst) return;
      isFirst = false;
      yield Promise.resolve();
      a.kernel = 99;
      a.watches[0]?.changed("somebody else");
    };
    loop.step(PROGRAM, DELTA);
    await clock.advance(1);
    expect([a.kernel, a.wanted, loop.repairs, loop.isWritten]).toEqual([2, 2, 1, true]);
    expect(loop.status()[0]?.error).toBeUndefined();
  });
});

test("notifications that were lost: it listens anew, then reads; while it cannot listen that is an error", async () => {
  const all = setUp(1e9);
  const { loop, a, clock } = all;
  await running(all, async () => {
    a.kernel = 99;
    a.watches[0]?.lost("ENOBUFS");
    expect([a.kernel, a.watches.length]).toEqual([1, 2]);
    a.deaf = new KernelError("open", "socket", EBUSY);
    a.watches[1]?.lost("ENOBUFS");
    expect(loop.status()[0]?.error).toContain("EBUSY");
    a.deaf = undefined;
    await clock.advance(300);
    expect([loop.status()[0]?.error, a.watches.length]).toEqual([undefined, 3]);
  });
});

test("somebody who goes on changing what is ours costs a tenth of the thread", async () => {
  const all = setUp(1e9);
  const { a, clock } = all;
  await running(all, async () => {
    // Each read takes 100 ms.
    let slowMs = 0;
    const now = clock.monotonicMs.bind(clock);
    clock.monotonicMs = () => now() + slowMs;
    const read = a.read.bind(a);
    a.read = () => {
      slowMs += 100;
      read();
    };
    const before = a.reads;
    for (let i = 0; i < 1000; i++) {
      a.kernel = 99;
      a.watches[0]?.changed("nft");
      await clock.advance(10);
    }
    // 10 s: 1 s at once, 1 s afterwards.
    expect(a.reads - before).toBeGreaterThan(15);
    expect(a.reads - before).toBeLessThan(25);
    await clock.advance(2_000);
    expect(a.kernel).toBe(1);
  });
});

test("the same refusal again is no news", async () => {
  const all = setUp();
  const { loop, a, clock, reports } = all;
  a.refuse = new KernelError("add", "row", EBUSY);
  await running(all, async () => {
    await clock.advance(20_000);
    expect(reports).toEqual(["kernel cannot be read or written: will read again and retry"]);
    expect(loop.status()[0]?.error).toContain("EBUSY");
  });
});

test("while nothing is due nobody wakes", async () => {
  const all = setUp(600_000);
  const { clock, a } = all;
  let sleeps = 0;
  const sleep = clock.sleep.bind(clock);
  clock.sleep = (ms, signal) => (sleeps++, sleep(ms, signal));
  await running(all, async () => {
    await clock.advance(0);
    const before = sleeps;
    await clock.advance(599_000);
    expect([sleeps - before, a.reads]).toEqual([0, 1]);
    await clock.advance(1_000);
    expect(a.reads).toBe(2);
  });
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
