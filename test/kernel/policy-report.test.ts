/** What a node says of policies is what its kernel has: one that is refused, those that share a set which is, and all once they are taken. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { MemoryStore } from "../../src/datastore/memory.ts";
import { PolicyReporter } from "../../src/felix/policy-reporter.ts";
import { PolicyVersions } from "../../src/felix/policy-versions.ts";
import { VirtualClock } from "../../src/lib/virtual-clock.ts";
import type { RowUpdate } from "../../src/model/convert/rows.ts";
import type { NodePolicyStatusSpec } from "../../src/model/kinds/node-policy-status.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { updateOf } from "../property/updates.ts";
import { makeNamespace, removeNamespace } from "./fixture.ts";
import { Unwilling } from "./unwilling.ts";

const POD: Resource<"Pod"> = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p", namespace: "a", labels: { app: "x" } },
  spec: { nodeName: "n1", containers: [] },
  status: { podIPs: [{ ip: "10.65.0.1" }] },
};

function policy(name: string, generation: number, selector?: string): RowUpdate {
  const source = selector === undefined ? {} : { source: { selector } };
  const update = updateOf("NetworkPolicy", {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name, namespace: "a", uid: name },
    spec: { types: ["Ingress"], ingress: [{ action: "Allow", ...source }], order: generation },
  });
  return { ...update, origin: { ...update.origin, generation } };
}

test("refused, waiting for a set that is refused, and taken in the end", async () => {
  const node = makeNamespace("report");
  const unwilling = new Unwilling();
  const clock = new VirtualClock();
  const graph = new Graph({ node: "n1" });
  const driver = node.enter(() => new NftablesDriver(unwilling.sys, { ownsTable: false, clock }));
  const loop: Loop = new Loop({
    drivers: [driver],
    clock,
    watcher: { watch: () => ({ close: () => {} }), awaitReadable: () => ({ close: () => {} }) },
    auditIntervalMs: 3_600_000,
    report: () => {},
    written: () => reporter.written(),
  });
  const store = new MemoryStore();
  const policies = new PolicyVersions();
  const reporter = new PolicyReporter({
    node: "n1",
    store,
    clock,
    report: () => {},
    policies,
    program: () => graph.program,
    failures: () => loop.status().flatMap(({ rows }) => rows),
    isCurrent: () => loop.isWritten,
  });
  const said = async (): Promise<NodePolicyStatusSpec["policies"]> => {
    await clock.advance(2_000);
    return (await store.get({ kind: "NodePolicyStatus", namespace: undefined, name: "n1" }))?.spec.policies;
  };
  const take = (...updates: readonly RowUpdate[]): void => {
    graph.update(policies.take(updates));
    const delta = graph.flush();
    loop.step(graph.program, delta);
    reporter.changed(delta);
  };
  const end = new AbortController();
  try {
    await loop.start();
    void loop.run(end.signal);
    void reporter.run(end.signal);
    graph.setCniRecord({
      containerId: "p",
      pod: keyOf("Pod", POD),
      interface: "cali-p",
      addresses: ["10.65.0.1" as Addr],
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
    unwilling.words = ["a/bad"];
    take(updateOf("Pod", POD), policy("bad", 1), policy("good", 1));
    expect(await said()).toMatchObject([
      { programmed: { good: 1 }, refused: { bad: { generation: 1, reason: expect.stringContaining("ENOMEM") } } },
    ]);
    // The bytes of 10.65.0.1 as an element's key.
    unwilling.words = ["\x08\0\x01\0\x0a\x41\0\x01"];
    take(policy("bad", 2, "app == 'x'"), policy("good", 2, "app == 'x'"), policy("other", 1));
    expect(await said()).toMatchObject([
      { programmed: { other: 1 }, refused: { bad: { generation: 2 }, good: { generation: 2 } } },
    ]);
    unwilling.words = [];
    await clock.advance(60_000);
    expect(await said()).toEqual([
      { kind: "NetworkPolicy", namespace: "a", programmed: { bad: 2, good: 2, other: 1 } },
    ]);
  } finally {
    end.abort();
    driver.close();
    removeNamespace(node);
  }
});
