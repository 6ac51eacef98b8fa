/** loop-bench: the loop with two drivers of one row each, on a clock that tests move. */
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Program, ProgramDelta } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import type { Driver, DriverEvents, Steps } from "./driver.ts";
import { Loop } from "./loop.ts";
import type { Watch, Watcher } from "../host/watcher.ts";

export const PROGRAM: Program = {
  settings: DEFAULT_SETTINGS,
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
};

export const DELTA: ProgramDelta = {
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
  members: new Map(),
};

export const EBUSY = 16;

const watchesNothing = (): never => {
  throw new Error("a driver of this test watches no descriptor");
};

export const NO_WATCHER: Watcher = { watch: watchesNothing, awaitReadable: watchesNothing };

/** A driver of one row: wanted once lowered, there once committed; refuses while `refuse` is set. */
export class OneRow implements Driver {
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

export function setUp(auditIntervalMs = 1000): {
  loop: Loop;
  a: OneRow;
  b: OneRow;
  clock: VirtualClock;
  reports: string[];
} {
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

/** Starts with one row in the kernel, runs the loop through the test and ends it. */
export async function running(setUpOf: ReturnType<typeof setUp>, body: () => Promise<void>): Promise<void> {
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
