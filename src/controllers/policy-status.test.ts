import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Key } from "../model/key.ts";
import { type PolicyState, type ReportedKind, reportOf } from "../model/kinds/node-policy-status.ts";
import type { PolicyStatus } from "../model/kinds/network-policy.ts";
import type { Resource } from "../model/resource.ts";
import { keepPolicyStatus } from "./policy-status.ts";

type Gnp = Resource<"GlobalNetworkPolicy">;

/** A cluster without its nodes' daemons: the test says what they would. */
class Bench {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore({ wallMs: () => this.clock.wallMs() });
  readonly reports: string[] = [];
  #abort = new AbortController();
  #done: Promise<void> = Promise.resolve();
  writes = 0;

  constructor() {
    this.store.setFault(({ verb, phase }) => {
      if (verb === "updateStatus" && phase === "answer") this.writes++;
      return undefined;
    });
    this.start();
  }

  start(): void {
    const random = { fraction: () => 0.5, uuid: () => "" };
    const { store, clock } = this;
    const report = (message: string): void => void this.reports.push(message);
    this.#done = keepPolicyStatus({ store, clock, random, report }, this.#abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.#abort = new AbortController();
    await this.#done;
  }

  async nodes(...names: readonly string[]): Promise<void> {
    for (const name of names) await this.store.create("Node", { apiVersion: "v1", kind: "Node", metadata: { name } });
  }

  async put(name: string, spec: object): Promise<Gnp> {
    const key = { kind: "GlobalNetworkPolicy", namespace: undefined, name } as const;
    const found = await this.store.get(key);
    const metadata = found?.metadata ?? { name };
    const object = { apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkPolicy", metadata, spec } as Gnp;
    return found === undefined
      ? this.store.create("GlobalNetworkPolicy", object)
      : this.store.update("GlobalNetworkPolicy", { ...object, ...(found.status && { status: found.status }) });
  }

  /** What the node has of each policy; it has seen all up to now, or up to that policy. */
  async says(node: string, states: Readonly<Record<string, PolicyState>>, upTo?: Gnp): Promise<void> {
    const observed = upTo?.metadata.resourceVersion ?? (await this.store.list("GlobalNetworkPolicy")).revision;
    const spec = reportOf(
      new Map([["GlobalNetworkPolicy", observed]]),
      Object.entries(states).map(([name, state]): readonly [Key<ReportedKind>, PolicyState] => [
        { kind: "GlobalNetworkPolicy", namespace: undefined, name },
        state,
      ]),
    );
    const found = await this.store.get({ kind: "NodePolicyStatus", namespace: undefined, name: node });
    const object: Resource<"NodePolicyStatus"> = {
      apiVersion: "projectcalico.org/v3",
      kind: "NodePolicyStatus",
      metadata: found?.metadata ?? { name: node },
      spec,
    };
    if (found === undefined) await this.store.create("NodePolicyStatus", object);
    else await this.store.update("NodePolicyStatus", object);
  }

  /** `Accepted True Valid: …`, one a line, after what is on its way has come. */
  async conditions(name: string): Promise<readonly string[]> {
    await this.clock.advance(2_000);
    return ((await this.raw(name)).conditions ?? []).map(
      ({ type, status, reason, message }) => `${type} ${status} ${reason}: ${message}`,
    );
  }

  async raw(name: string): Promise<PolicyStatus> {
    return (await this.store.get({ kind: "GlobalNetworkPolicy", namespace: undefined, name }))?.status ?? {};
  }
}

const ALLOW = { selector: "all()", types: ["Ingress"], ingress: [{ action: "Allow" }] };
const VALID = "Accepted True Valid: The policy is valid";
const programmed = (generation: number): PolicyState => ({ generation, state: "programmed" });

test("accepted at once; programmed when all nodes that it concerns have it", async () => {
  const bench = new Bench();
  await bench.nodes("n1", "n2", "n3");
  const policy = await bench.put("p", ALLOW);
  expect(await bench.conditions("p")).toEqual([
    VALID,
    "Programmed Unknown NoNodes: No node has said what it has programmed",
  ]);
  for (const node of ["n1", "n2", "n3"])
    await bench.says(node, {}, { ...policy, metadata: { name: "", resourceVersion: "1" } });
  expect(await bench.conditions("p")).toEqual([
    VALID,
    "Programmed False Pending: programmed on 0 of 3 nodes; not known yet of n1, n2, n3",
  ]);
  await bench.says("n1", { p: programmed(1) });
  await bench.says("n3", {});
  expect(await bench.conditions("p")).toEqual([
    VALID,
    "Programmed False Pending: programmed on 1 of 2 nodes; not known yet of n2",
  ]);
  await bench.says("n2", { p: programmed(1) });
  expect(await bench.conditions("p")).toEqual([VALID, "Programmed True Programmed: programmed on 2 of 2 nodes"]);
  await bench.stop();
});

test("a change is programmed anew: at its generation, and since when", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.conditions("p");
  const [, before] = (await bench.raw("p")).conditions ?? [];
  expect(before).toMatchObject({ status: "True", observedGeneration: 1 });
  await bench.clock.advance(60_000);
  await bench.put("p", { ...ALLOW, order: 5 });
  expect(await bench.conditions("p")).toEqual([
    VALID,
    "Programmed False Pending: programmed on 0 of 1 nodes; not known yet of n1",
  ]);
  await bench.says("n1", { p: programmed(2) });
  await bench.conditions("p");
  const [, after] = (await bench.raw("p")).conditions ?? [];
  expect(after).toMatchObject({ status: "True", observedGeneration: 2 });
  expect(Date.parse(after?.lastTransitionTime ?? "") - Date.parse(before?.lastTransitionTime ?? "")).toBeGreaterThan(
    60_000,
  );
  // One that selects nothing.
  await bench.says("n1", {});
  expect(await bench.conditions("p")).toEqual([VALID, "Programmed True Programmed: selects no endpoint on any node"]);
  expect((await bench.raw("p")).conditions?.[1]?.lastTransitionTime).toBe(after?.lastTransitionTime ?? "");
  await bench.stop();
});

test("a change that is programmed before anything was written of it has a new time", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.conditions("p");
  const { conditions: before = [] } = await bench.raw("p");
  await bench.clock.advance(60_000);
  await bench.put("p", { ...ALLOW, order: 5 });
  await bench.says("n1", { p: programmed(2) });
  const { writes } = bench;
  await bench.conditions("p");
  expect(bench.writes).toBe(writes + 1);
  const { conditions: after = [] } = await bench.raw("p");
  for (const i of [0, 1]) expect(after[i]?.lastTransitionTime).not.toBe(before[i]?.lastTransitionTime ?? "");
  await bench.stop();
});

test("a node that goes back to an older generation has not programmed the present one", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("p", ALLOW);
  await bench.put("p", { ...ALLOW, order: 5 });
  await bench.says("n1", { p: programmed(2) });
  await bench.conditions("p");
  await bench.says("n1", { p: programmed(1) });
  expect((await bench.conditions("p"))[1]).toStartWith("Programmed False Pending");
  await bench.stop();
});

test("one made anew under the name of another is not programmed because that was", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.conditions("p");
  await bench.store.delete({ kind: "GlobalNetworkPolicy", namespace: undefined, name: "p" });
  await bench.put("p", ALLOW);
  expect((await bench.conditions("p"))[1]).toBe(
    "Programmed False Pending: programmed on 0 of 1 nodes; not known yet of n1",
  );
  await bench.stop();
});

test("a policy that is not valid, in a tier that is missing, or enforced in part", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("wrong", { selector: "all(", types: ["Ingress"] });
  await bench.put("homeless", { ...ALLOW, tier: "security" });
  await bench.put("http", { ...ALLOW, ingress: [{ action: "Allow", http: { methods: ["GET"] } }] });
  await bench.put("unmeant", { ...ALLOW, types: ["Ingress"], egress: [{ action: "Deny" }] });
  await bench.says("n1", { wrong: { generation: 1, state: "invalid" }, homeless: programmed(1), http: programmed(1) });
  const wrong = await bench.conditions("wrong");
  expect(wrong[0]).toMatch(
    /^Accepted False Invalid: It denies everything to and from what it selects: spec\.selector: /,
  );
  expect(wrong[1]).toBe("Programmed False NotAccepted: programmed on 1 of 1 nodes as a policy that denies everything");
  expect(await bench.conditions("homeless")).toEqual([
    'Accepted False TierNotFound: There is no tier "security"; the policy comes after all other tiers',
    "Programmed True Programmed: programmed on 1 of 1 nodes",
  ]);
  expect((await bench.conditions("http"))[0]).toBe(
    "Accepted True EnforcedInPart: spec.ingress[0].http is not enforced: the rule applies to all that its other fields match",
  );
  expect((await bench.conditions("unmeant"))[0]).toBe(
    'Accepted True EnforcedInPart: spec.egress: [{"action":"Deny"}] has no effect: spec.types does not name Egress, so no rule of this direction counts',
  );
  await bench.store.create("Tier", {
    apiVersion: "projectcalico.org/v3",
    kind: "Tier",
    metadata: { name: "security" },
    spec: { order: 1 },
  });
  expect((await bench.conditions("homeless"))[0]).toBe(VALID);
  await bench.put("wrong", ALLOW);
  await bench.says("n1", { wrong: programmed(2), homeless: programmed(1), http: programmed(1) });
  expect(await bench.conditions("wrong")).toEqual([VALID, "Programmed True Programmed: programmed on 1 of 1 nodes"]);
  await bench.stop();
});

test("a policy that a kernel refuses", async () => {
  const bench = new Bench();
  await bench.nodes("n1", "n2");
  await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.says("n2", { p: { generation: 1, state: "refused", reason: "E2BIG" } });
  expect((await bench.conditions("p"))[1]).toBe(
    "Programmed False Refused: programmed on 1 of 2 nodes; refused by n2: E2BIG",
  );
  await bench.says("n2", { p: programmed(1) });
  expect((await bench.conditions("p"))[1]).toBe("Programmed True Programmed: programmed on 2 of 2 nodes");
  await bench.stop();
});

test("a node that is gone does not count, one that joins does", async () => {
  const bench = new Bench();
  await bench.nodes("n1", "n2");
  const policy = await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.says("n2", {}, { ...policy, metadata: { name: "", resourceVersion: "1" } });
  expect((await bench.conditions("p"))[1]).toContain("not known yet of n2");
  await bench.store.delete({ kind: "Node", namespace: undefined, name: "n2" });
  expect((await bench.conditions("p"))[1]).toBe("Programmed True Programmed: programmed on 1 of 1 nodes");
  await bench.says("n3", {}, { ...policy, metadata: { name: "", resourceVersion: "1" } });
  await bench.nodes("n3");
  expect((await bench.conditions("p"))[1]).toContain("not known yet of n3");
  await bench.says("n3", { p: programmed(1) });
  expect((await bench.conditions("p"))[1]).toBe("Programmed True Programmed: programmed on 2 of 2 nodes");
  await bench.stop();
});

test("a node whose policies are too many to be listed says nothing", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) });
  await bench.conditions("p");
  const key = { kind: "NodePolicyStatus", namespace: undefined, name: "n1" } as const;
  const found = await bench.store.get(key);
  if (found === undefined) throw new Error("no report");
  const { observed } = found.spec;
  await bench.store.update("NodePolicyStatus", {
    ...found,
    spec: { ...(observed && { observed }), leftOut: { programmed: 1, invalid: 0, refused: 0 } },
  });
  expect((await bench.conditions("p"))[1]).toBe("Programmed Unknown TooMany: too many policies to be listed by n1");
  await bench.says("n1", {});
  expect((await bench.conditions("p"))[1]).toBe("Programmed True Programmed: selects no endpoint on any node");
  await bench.stop();
});

test("staged policies are accepted; conditions of others stay", async () => {
  const bench = new Bench();
  const created = await bench.store.create("StagedGlobalNetworkPolicy", {
    apiVersion: "projectcalico.org/v3",
    kind: "StagedGlobalNetworkPolicy",
    metadata: { name: "s" },
    spec: { stagedAction: "Set", selector: "all()" },
  });
  const others = {
    type: "Seen",
    status: "True",
    reason: "R",
    message: "",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  } as const;
  const key = { kind: "StagedGlobalNetworkPolicy", namespace: undefined, name: "s" } as const;
  await bench.store.updateStatus(key, { conditions: [others] }, created.metadata.resourceVersion ?? "");
  await bench.clock.advance(5_000);
  const { conditions = [] } = (await bench.store.get(key))?.status ?? {};
  expect(conditions).toMatchObject([others, { type: "Accepted", status: "True", reason: "Valid" }]);
  expect(conditions).toHaveLength(2);
  await bench.stop();
});

test("the admin's policies of Kubernetes: conditions of what a node has, and of one that is not valid", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  const subject = { namespaces: {} };
  const ingress = [{ action: "Deny", from: [{ namespaces: {} }] }] as const;
  const apiVersion = "policy.networking.k8s.io/v1alpha1";
  await bench.store.create("AdminNetworkPolicy", {
    apiVersion,
    kind: "AdminNetworkPolicy",
    metadata: { name: "a" },
    spec: { priority: 5, subject, ingress },
  } as unknown as Resource<"AdminNetworkPolicy">);
  const { revision } = await bench.store.list("AdminNetworkPolicy");
  await bench.store.create("BaselineAdminNetworkPolicy", {
    apiVersion,
    kind: "BaselineAdminNetworkPolicy",
    metadata: { name: "default" },
    spec: { subject, ingress: [{ action: "Pass", from: [{ namespaces: {} }] }] },
  } as unknown as Resource<"BaselineAdminNetworkPolicy">);
  const key = { kind: "AdminNetworkPolicy", namespace: undefined, name: "a" } as const;
  const spec = reportOf(new Map([["AdminNetworkPolicy", revision]]), [[key, programmed(1)]]);
  const metadata = { name: "n1" };
  await bench.store.create("NodePolicyStatus", {
    apiVersion: "projectcalico.org/v3",
    kind: "NodePolicyStatus",
    metadata,
    spec,
  });
  await bench.clock.advance(5_000);
  expect((await bench.store.get(key))?.status?.conditions).toMatchObject([
    { type: "Accepted", status: "True", reason: "Valid" },
    { type: "Programmed", status: "True", message: "programmed on 1 of 1 nodes" },
  ]);
  const baseline = { kind: "BaselineAdminNetworkPolicy", namespace: undefined, name: "default" } as const;
  expect((await bench.store.get(baseline))?.status?.conditions?.[0]).toMatchObject({
    type: "Accepted",
    status: "False",
    message: expect.stringContaining("spec.ingress[0].action"),
  });
  await bench.stop();
});

test("nothing is written at rest, nor by the next that leads, though nodes have not seen what was written", async () => {
  const bench = new Bench();
  await bench.nodes("n1", "n2");
  const policy = await bench.put("p", ALLOW);
  await bench.says("n1", { p: programmed(1) }, policy);
  await bench.says("n2", {}, policy);
  await bench.conditions("p");
  const { writes } = bench;
  await bench.clock.advance(3_600_000);
  expect(bench.writes).toBe(writes);
  await bench.stop();
  bench.start();
  await bench.clock.advance(60_000);
  expect(bench.writes).toBe(writes);
  await bench.stop();
});

test("many changes of what nodes say are few writes", async () => {
  const bench = new Bench();
  const names = Array.from({ length: 50 }, (_, i) => `n${i}`);
  await bench.nodes(...names);
  await bench.put("p", ALLOW);
  for (const name of names) {
    await bench.says(name, { p: programmed(1) });
    await bench.clock.advance(20);
  }
  expect((await bench.conditions("p"))[1]).toBe("Programmed True Programmed: programmed on 50 of 50 nodes");
  expect(bench.writes).toBeWithin(1, 5);
  await bench.stop();
});

test("what fails is written later, and told once", async () => {
  const bench = new Bench();
  await bench.nodes("n1");
  bench.store.setFault(({ verb, phase }) => (verb === "updateStatus" && phase === "request" ? "forbidden" : undefined));
  await bench.put("p", ALLOW);
  await bench.put("q", ALLOW);
  await bench.clock.advance(30_000);
  expect(new Set(bench.reports)).toEqual(new Set(["cannot write the conditions of a policy: will retry"]));
  expect(bench.reports).toHaveLength(1);
  bench.store.setFault(undefined);
  await bench.clock.advance(60_000);
  for (const name of ["p", "q"]) expect((await bench.raw(name)).conditions).toHaveLength(2);
  await bench.stop();
});
