import { expect, test } from "bun:test";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { KernelError } from "../kernel/errno.ts";
import type { Program, ProgramDelta } from "../program/program.ts";
import type { Driver } from "./driver.ts";
import { Loop } from "./loop.ts";

const PROGRAM: Program = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map() };
const DELTA: ProgramDelta = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map(), members: new Map() };
const EBUSY = 16;

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

  commit(): void {
    if (this.pending === 0) return;
    if (this.refuse !== undefined) throw this.refuse;
    this.kernel = this.known = this.wanted;
    this.writes++;
  }

  close(): void {}
}

function setUp(): { loop: Loop; a: OneRow; b: OneRow; clock: VirtualClock; reports: string[] } {
  const [a, b] = [new OneRow("a"), new OneRow("b")];
  const clock = new VirtualClock();
  const reports: string[] = [];
  return { loop: new Loop({ drivers: [a, b], clock, auditIntervalMs: 1000, report: (message) => reports.push(message) }), a, b, clock, reports };
}

test("nothing is read or written before the start; then everything is made equal", () => {
  const { loop, a, b } = setUp();
  loop.step(PROGRAM, DELTA);
  expect([a.reads, a.writes, b.writes]).toEqual([0, 0, 0]);
  loop.start();
  expect([a.reads, a.writes, b.writes]).toEqual([1, 1, 1]);
});

test("what the kernel refuses is said, held against that driver alone, and retried until it is taken", async () => {
  const { loop, a, b, clock, reports } = setUp();
  loop.start();
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
  loop.start();
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
  loop.start();
  a.refuse = new TypeError("undefined is not an object");
  expect(() => loop.step(PROGRAM, DELTA)).toThrow(TypeError);
});

test("an audit finds what was changed behind our back, repairs it and counts it", async () => {
  const { loop, a, clock } = setUp();
  loop.step(PROGRAM, DELTA);
  loop.start();
  a.kernel = 99;
  const abort = new AbortController();
  const running = loop.run(abort.signal);
  await clock.advance(2500);
  expect([a.kernel, loop.repairs]).toEqual([1, 1]);
  abort.abort();
  await clock.advance(100);
  await running;
});
