import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { FaultReporter } from "./events.ts";

test.each([
  ["forbidden", 3],
  ["unavailable", 6],
] as const)("an Event that is refused as %s is written later, once", async (reason, refusals) => {
  const store = new MemoryStore();
  let asked = 0;
  store.setFault((step) => {
    if (step.verb !== "create" || step.phase !== "request") return undefined;
    return ++asked <= refusals ? reason : undefined;
  });
  const clock = new VirtualClock();
  const lines: string[] = [];
  const faults = new FaultReporter({ node: "n1", store, clock, report: (text) => lines.push(text) });
  const fault = { kind: "StagedNetworkPolicy", error: "forbidden" } as const;
  faults.tellMissing(fault);
  faults.tellMissing(fault);
  await clock.advance(120_000);
  expect([asked, (await store.list("Event")).items.length]).toEqual([refusals + 1, 1]);
  expect(lines.filter((line) => line === "cannot create the Event about it")).toHaveLength(1);
  faults.tellMissing(fault);
  await clock.advance(1_000);
  expect(asked).toBe(refusals + 1);
});

test("an Event that cannot be written is given up, and tried again when the fault is next seen", async () => {
  const store = new MemoryStore();
  let asked = 0;
  store.setFault((step) => (step.verb === "create" ? (asked++, "forbidden") : undefined));
  const clock = new VirtualClock();
  const faults = new FaultReporter({ node: "n1", store, clock, report: () => {} });
  const fault = { kind: "StagedNetworkPolicy", error: "forbidden" } as const;
  faults.tellMissing(fault);
  await clock.advance(3_600_000);
  expect(asked).toBe(7);
  faults.tellMissing(fault);
  await clock.advance(3_600_000);
  expect(asked).toBe(14);
});
