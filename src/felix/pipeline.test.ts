import { expect, test } from "bun:test";
import type { Watch } from "../host/watcher.ts";
import { Loop } from "../dataplane/loop.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { type Store, StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Resource } from "../model/resource.ts";
import type { Addr } from "../net/addr.ts";
import { DatastoreGate } from "./datastore-gate.ts";
import { Pipeline } from "./pipeline.ts";
import { PolicyVersions } from "./policy-versions.ts";

function pipelineOf(store: Store, clock: Clock, onInSync: () => void = () => {}): Pipeline {
  const report = (): void => {};
  const silent = (): Watch => ({ close: () => {} });
  const watcher = { watch: silent, awaitReadable: silent };
  return new Pipeline({
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
    onInSync,
  });
}

test("a Pod that the datastore does not answer for in time is a refusal that says so, by the clock of the node", async () => {
  const clock = new VirtualClock();
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "get" ? clock.sleep(60_000).then(() => undefined) : undefined));
  const pipeline = pipelineOf(store, clock);
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

function pod(name: string, node: string, ip: string): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a" },
    spec: { nodeName: node, containers: [] },
    status: { phase: "Running", podIPs: [{ ip }] },
  };
}

test("while a policy of many peers is calculated the thread is given back, and who calculates meanwhile ends it first", async () => {
  const store = new MemoryStore();
  const virtual = new VirtualClock();
  let onSleep = (): void => {};
  let nowMs = 0;
  const clock: Clock = {
    // So much as if everything took long.
    monotonicMs: () => (nowMs += 5),
    wallMs: () => virtual.wallMs(),
    sleep: (ms, signal) => {
      if (ms === 0) onSleep();
      return virtual.sleep(ms, signal);
    },
  };
  await store.create("Pod", pod("here", "n1", "10.1.0.1"));
  for (let i = 0; i < 3_000; i++) await store.create("Pod", pod(`p${i}`, "n2", `10.2.${i >> 8}.${i & 255}`));
  const inSync = Promise.withResolvers<void>();
  const pipeline = pipelineOf(store, clock, () => inSync.resolve());
  pipeline.start();
  await virtual.until(inSync.promise);
  const seen: (readonly [before: number, after: number])[] = [];
  onSleep = () => {
    const before = pipeline.program.policies.size;
    pipeline.setInterfaces(new Map([["eth0", [`10.3.0.${seen.length}` as Addr]]]));
    seen.push([before, pipeline.program.policies.size]);
  };
  await store.create("KubernetesNetworkPolicy", {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "peers", namespace: "a" },
    spec: { podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] },
  });
  await virtual.advance(1_000);
  expect(seen[0]).toEqual([0, 1]);
  expect([...pipeline.program.sets.values()].map((set) => set.type === "address" && set.hosts.size)).toEqual([3_001]);
  await virtual.until(pipeline.stop());
});
