import { expect, test } from "bun:test";
import type { RowStatus } from "../dataplane/driver.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import { formatKey, type Key } from "../model/key.ts";
import type { NodePolicyStatusSpec } from "../model/kinds/node-policy-status.ts";
import type { Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import type { Policy, PolicyId } from "../program/policy.ts";
import type { Program, ProgramDelta } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import { PolicyReporter } from "./policy-reporter.ts";
import { PolicyVersions } from "./policy-versions.ts";

const KEY: Key<"NodePolicyStatus"> = { kind: "NodePolicyStatus", namespace: undefined, name: "n1" };

/** A node of which the test says what its program and its kernel have. */
class Bench {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore();
  readonly versions = new PolicyVersions();
  readonly policies = new Map<PolicyId, Policy>();
  readonly reports: string[] = [];
  readonly #abort = new AbortController();
  failures: RowStatus[] = [];
  isCurrent = true;
  writes = 0;
  readonly reporter = new PolicyReporter({
    node: "n1",
    store: this.store,
    clock: this.clock,
    report: (message) => void this.reports.push(message),
    policies: this.versions,
    program: () => this.#program(),
    failures: () => this.failures,
    isCurrent: () => this.isCurrent,
  });

  constructor() {
    this.store.setFault(({ verb, phase }) => {
      if (phase === "answer" && (verb === "create" || verb === "update")) this.writes++;
      return undefined;
    });
  }

  start(): void {
    void this.reporter.run(this.#abort.signal);
  }

  stop(): void {
    this.#abort.abort();
  }

  #program(): Program {
    return {
      settings: DEFAULT_SETTINGS,
      sets: new Map(),
      policies: this.policies,
      endpoints: new Map(),
      routes: new Map(),
    };
  }

  /** The policy arrives, and is programmed if it selects something here. */
  put(
    name: string,
    generation: number,
    revision: string,
    { isHere = true, error }: { isHere?: boolean; error?: string } = {},
  ): void {
    const key = { kind: "GlobalNetworkPolicy", namespace: undefined, name } as const;
    const metadata = { name, uid: name, resourceVersion: revision };
    const value = { apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkPolicy", metadata, spec: {} };
    this.versions.take([
      rowsFor("n1")({ kind: key.kind, key, value, origin: { revision, generation, seenAt: 0 } } as Update),
    ]);
    const policy = { source: key, tier: "default", ingress: [], egress: undefined, error };
    if (isHere) this.#set(formatKey(key) as string as PolicyId, policy);
    this.reporter.written();
  }

  #set(id: PolicyId, policy: Policy): void {
    this.policies.set(id, policy);
    const none = new Map<never, never>();
    const delta: ProgramDelta = {
      sets: none,
      members: none,
      endpoints: none,
      routes: none,
      policies: new Map([[id, policy]]),
    };
    this.reporter.changed(delta);
  }

  async stored(): Promise<NodePolicyStatusSpec | undefined> {
    return (await this.store.get(KEY))?.spec;
  }
}

function node(name: string, uid: string): RowUpdate {
  const value: Resource<"Node"> = { apiVersion: "v1", kind: "Node", metadata: { name, uid } };
  const key = { kind: "Node", namespace: undefined, name } as const;
  return rowsFor("n1")({ kind: "Node", key, value, origin: { revision: "1", generation: undefined, seenAt: 0 } });
}

test("what the kernel has, at which generation, and up to where the node has seen policies; owned by the Node", async () => {
  const bench = new Bench();
  bench.reporter.observe([node("n1", "uid-1"), node("n2", "uid-2")]);
  bench.put("a", 3, "10");
  bench.put("elsewhere", 1, "12", { isHere: false });
  bench.put("wrong", 1, "11", { error: "spec.order: …" });
  bench.start();
  await bench.clock.advance(1_000);
  expect(await bench.stored()).toEqual({
    observed: { GlobalNetworkPolicy: "12" },
    policies: [{ kind: "GlobalNetworkPolicy", programmed: { a: 3 }, invalid: { wrong: 1 } }],
  });
  expect((await bench.store.get(KEY))?.metadata.ownerReferences).toEqual([
    { apiVersion: "v1", kind: "Node", name: "n1", uid: "uid-1" },
  ]);
  bench.stop();
});

test("nothing is said while the kernel lacks something", async () => {
  const bench = new Bench();
  bench.isCurrent = false;
  bench.put("a", 1, "1");
  bench.start();
  await bench.clock.advance(60_000);
  expect(bench.writes).toBe(0);
  bench.isCurrent = true;
  await bench.clock.advance(1_000);
  expect(bench.writes).toBe(1);
  bench.stop();
});

test("what changes within a second is one write; in a large cluster, within more", async () => {
  const bench = new Bench();
  bench.start();
  await bench.clock.advance(5_000);
  const before = bench.writes;
  for (let i = 1; i <= 100; i++) {
    bench.put("a", i, String(i));
    await bench.clock.advance(100);
  }
  expect(bench.writes - before).toBeWithin(9, 12);
  bench.reporter.observe(Array.from({ length: 500 }, (_, i) => node(`m${i}`, "")));
  await bench.clock.advance(10_000);
  const then = bench.writes;
  for (let i = 101; i <= 200; i++) {
    bench.put("a", i, String(i));
    await bench.clock.advance(100);
  }
  expect(bench.writes - then).toBeWithin(1, 4);
  await bench.clock.advance(10_000);
  expect((await bench.stored())?.policies).toEqual([{ kind: "GlobalNetworkPolicy", programmed: { a: 200 } }]);
  bench.stop();
});

test("nothing is written at rest, nor after a start that finds what it would write", async () => {
  const bench = new Bench();
  bench.put("a", 1, "1");
  bench.start();
  await bench.clock.advance(10_000);
  expect(bench.writes).toBe(1);
  for (let i = 0; i < 100; i++) bench.reporter.written();
  await bench.clock.advance(3_600_000);
  expect(bench.writes).toBe(1);
  bench.stop();
  const object = await bench.store.get(KEY);

  const next = new Bench();
  if (object !== undefined) await next.store.create("NodePolicyStatus", { ...object, metadata: { name: "n1" } });
  next.writes = 0;
  next.put("a", 1, "1");
  next.start();
  await next.clock.advance(3_600_000);
  expect(next.writes).toBe(0);
  next.stop();
});

test("an update that says nothing new is written late, or with the next change", async () => {
  const bench = new Bench();
  bench.put("a", 1, "1");
  bench.start();
  await bench.clock.advance(5_000);
  bench.put("a", 1, "2", { isHere: false });
  await bench.clock.advance(2_000);
  expect((await bench.stored())?.observed).toEqual({ GlobalNetworkPolicy: "1" });
  await bench.clock.advance(10_000);
  expect((await bench.stored())?.observed).toEqual({ GlobalNetworkPolicy: "2" });
  bench.stop();
});

test("a policy that the kernel refuses, and then takes", async () => {
  const bench = new Bench();
  const object = { kind: "GlobalNetworkPolicy", namespace: undefined, name: "a" } as const;
  const row = { row: "policy a", object, errno: 7, since: "", attempts: 1 };
  bench.start();
  await bench.clock.advance(5_000);
  bench.failures = [{ ...row, state: "failed", error: "E2BIG" }];
  bench.put("a", 1, "1");
  await bench.clock.advance(2_000);
  expect((await bench.stored())?.policies).toEqual([
    { kind: "GlobalNetworkPolicy", refused: { a: { generation: 1, reason: "E2BIG" } } },
  ]);
  bench.failures = [];
  bench.reporter.written();
  await bench.clock.advance(2_000);
  expect((await bench.stored())?.policies).toEqual([{ kind: "GlobalNetworkPolicy", programmed: { a: 1 } }]);
  bench.stop();
});

test("what others change or delete is written again some time; failures are retried and told once", async () => {
  const bench = new Bench();
  bench.put("a", 1, "1");
  bench.start();
  await bench.clock.advance(5_000);
  await bench.store.delete(KEY);
  await bench.clock.advance(700_000);
  expect(await bench.stored()).toBeDefined();
  bench.store.setFault(({ phase }) => (phase === "request" ? "forbidden" : undefined));
  bench.put("a", 2, "2");
  await bench.clock.advance(100_000);
  // Of the update, and of the reading that comes before the next.
  expect(bench.reports).toEqual(Array(2).fill("cannot write the status of policies on this node: will retry"));
  bench.store.setFault(undefined);
  await bench.clock.advance(300_000);
  expect((await bench.stored())?.policies).toEqual([{ kind: "GlobalNetworkPolicy", programmed: { a: 2 } }]);
  expect(bench.reports).toHaveLength(3);
  bench.stop();
});
