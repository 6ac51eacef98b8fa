import { expect, test } from "bun:test";
import { KernelError } from "../kernel/errno.ts";
import { DELTA, EBUSY, PROGRAM, running, setUp } from "./loop-bench.ts";

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
