import { expect, test } from "bun:test";
import { openClock } from "../../host/bun/clock.ts";
import { FakeKernel } from "../../kernel/fake/kernel.ts";
import type { Program } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { FlowCutter } from "./cutter.ts";
import type { FlowSource } from "./source.ts";

const PROGRAM: Program = {
  settings: DEFAULT_SETTINGS,
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
};

/** A pass meets held flows as long as `isHeld` says so. */
async function run(isHeld: (passes: number) => boolean, until: (seen: Seen) => boolean): Promise<Seen> {
  const seen: Seen = { calls: [], reports: [], passes: 0 };
  const flows: FlowSource = {
    hasFlows: () => true,
    dueMs: Infinity,
    cutAnswers: () => {},
    open: () => ({ read: () => true, cut: () => 1, isHeld: isHeld(++seen.passes), close: () => {} }),
  };
  const end = new AbortController();
  const cutter = new FlowCutter({
    sys: new FakeKernel().startProcess().sys,
    flows: () => flows,
    suspendOffload: (isSuspended) => void seen.calls.push(`${isSuspended} at pass ${seen.passes}`),
    clock: openClock(),
    isWritten: () => true,
    report: (message) => void seen.reports.push(message),
  });
  cutter.changed(PROGRAM, {
    sets: new Map(),
    policies: new Map(),
    endpoints: new Map(),
    routes: new Map(),
    members: new Map(),
  });
  const running = cutter.run(end.signal);
  while (!until(seen)) await Bun.sleep(1);
  end.abort();
  await running;
  return seen;
}

interface Seen {
  readonly calls: string[];
  readonly reports: string[];
  passes: number;
}

test("flows that the kernel keeps while they are in a flowtable: offloading is suspended until all are cut", async () => {
  const { calls, reports } = await run(
    (passes) => passes < 4,
    ({ calls }) => calls.length === 2,
  );
  expect(calls).toEqual(["true at pass 1", "false at pass 4"]);
  expect(new Set(reports)).toEqual(new Set(["established flows that policy denies now are cut"]));
});

test("where nothing is kept nothing is suspended", async () => {
  const { calls } = await run(
    () => false,
    ({ passes }) => passes > 0,
  );
  expect(calls).toEqual([]);
});
