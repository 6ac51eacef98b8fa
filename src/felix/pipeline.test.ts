import { expect, test } from "bun:test";
import type { Watch } from "../host/watcher.ts";
import { Loop } from "../dataplane/loop.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { StoreError } from "../datastore/store.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { DatastoreGate } from "./datastore-gate.ts";
import { Pipeline } from "./pipeline.ts";
import { PolicyVersions } from "./policy-versions.ts";

test("a Pod that the datastore does not answer for in time is a refusal that says so, by the clock of the node", async () => {
  const clock = new VirtualClock();
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "get" ? clock.sleep(60_000).then(() => undefined) : undefined));
  const report = (): void => {};
  const silent = (): Watch => ({ close: () => {} });
  const watcher = { watch: silent, awaitReadable: silent };
  const pipeline = new Pipeline({
    node: "n1",
    store,
    loop: new Loop({ drivers: [], clock, watcher, auditIntervalMs: 1e9, report }),
    clock,
    random: { fraction: () => 0.5, uuid: () => "" },
    report,
    gate: new DatastoreGate(report),
    policies: new PolicyVersions(),
    onBgp: () => {},
    observe: () => {},
    onStep: () => {},
    onWithheld: () => {},
    onMissing: () => {},
    onRefusal: () => {},
    onInSync: () => {},
  });
  pipeline.start();
  const read = pipeline.readPod({ kind: "Pod", namespace: "a", name: "p" }).then(
    () => "answered",
    (error: unknown) => error,
  );
  const error = await clock.until(read);
  expect(error).toBeInstanceOf(StoreError);
  expect(String(error)).toContain("Cannot get Pod/a/p: no answer within 2000 ms");
  await pipeline.stop();
});
