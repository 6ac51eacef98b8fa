import { expect, test } from "bun:test";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import type { Addr } from "../net/addr.ts";
import type { Stage } from "../program/policy.ts";
import type { EndpointId } from "../program/program.ts";
import { Graph } from "./graph.ts";

function present<K extends Kind>(kind: K, value: Resource<K>): RowUpdate {
  const origin = { revision: "1", generation: undefined, seenAt: 0 };
  return rowsFor("n1")({ kind, key: keyOf(kind, value), value, origin } as unknown as Update);
}

const VERSION = { apiVersion: "projectcalico.org/v3" } as const;

function tier(name: string, order: number): RowUpdate {
  const spec = { order, defaultAction: "Pass" } as const;
  return present("Tier", { ...VERSION, kind: "Tier", metadata: { name }, spec });
}

function policy(name: string, of: string, port: number): RowUpdate {
  const spec = {
    tier: of,
    order: 1,
    selector: "all()",
    types: ["Ingress" as const],
    ingress: [{ action: "Allow" as const, protocol: "TCP", destination: { ports: [port] } }],
  };
  return present("GlobalNetworkPolicy", { ...VERSION, kind: "GlobalNetworkPolicy", metadata: { name }, spec });
}

function absentTier(name: string): RowUpdate {
  const origin = { revision: "1", generation: undefined, seenAt: 0 };
  return rowsFor("n1")({ kind: "Tier", key: { kind: "Tier", namespace: undefined, name }, value: undefined, origin });
}

/** A pod of this node with a policy in each of two tiers. */
function makeGraph(): { readonly graph: Graph; readonly stage: (direction: "ingress" | "egress") => Stage } {
  const graph = new Graph({ node: "n1" });
  const key = { kind: "Pod", namespace: "a", name: "p" } as const;
  graph.setCniRecord({
    containerId: "c",
    pod: key,
    interface: "cali-p",
    addresses: ["10.0.0.1" as Addr],
    mac: "",
    netns: "",
    podInterface: "eth0",
  });
  graph.update([
    present("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "a" },
      spec: { nodeName: "n1", containers: [] },
      status: { podIPs: [{ ip: "10.0.0.1" }] },
    }),
    tier("t0", 10),
    tier("t1", 20),
    policy("t0.a", "t0", 80),
    policy("t1.a", "t1", 80),
  ]);
  graph.flush();
  return {
    graph,
    stage(direction) {
      const stage = graph.program.endpoints.get("cali-p" as EndpointId)?.stages.normal?.[direction];
      if (stage === undefined) throw new Error("no stage");
      return stage;
    },
  };
}

test("a policy that comes leaves the other direction and the other tiers the same objects", () => {
  const { graph, stage } = makeGraph();
  const [ingress, egress] = [stage("ingress"), stage("egress")];
  graph.update([policy("t1.b", "t1", 80)]);
  expect([...graph.flush().endpoints.keys()]).toEqual(["cali-p" as EndpointId]);
  expect(stage("ingress").tiers.map(({ policies }) => policies.length)).toEqual([1, 2]);
  expect(stage("egress")).toBe(egress);
  expect(stage("ingress").tiers[0]).toBe(ingress.tiers[0] as never);
});

test("tiers that change places are the same objects, in another order", () => {
  const { graph, stage } = makeGraph();
  const [first, second] = stage("ingress").tiers;
  graph.update([tier("t0", 30)]);
  expect(graph.flush().endpoints.size).toBe(1);
  const { tiers } = stage("ingress");
  expect(tiers.map(({ tier: name }) => name)).toEqual(["t1", "t0"]);
  expect(tiers[0]).toBe(second as never);
  expect(tiers[1]).toBe(first as never);
});

test("a tier that ends otherwise is another object, in its place; the others and the other direction are the same", () => {
  const { graph, stage } = makeGraph();
  const [egress, [first, second]] = [stage("egress"), stage("ingress").tiers];
  const spec = { order: 20, defaultAction: "Deny" } as const;
  graph.update([present("Tier", { ...VERSION, kind: "Tier", metadata: { name: "t1" }, spec })]);
  expect(graph.flush().endpoints.size).toBe(1);
  const { tiers } = stage("ingress");
  expect(tiers[0]).toBe(first as never);
  expect(tiers[1]).toEqual({ ...second, otherwise: "deny" } as never);
  expect(stage("egress")).toBe(egress);
  // Without its object it comes last and denies; what it orders is as it was.
  graph.update([absentTier("t0")]);
  graph.flush();
  expect(stage("ingress").tiers.map(({ tier: name, otherwise }) => `${name} ${otherwise}`)).toEqual([
    "t1 deny",
    "t0 deny",
  ]);
  // One that no policy of the endpoint is of changes nothing.
  graph.update([tier("t9", 5)]);
  expect(graph.flush().endpoints.size).toBe(0);
});

test("a policy that only changes its rules, and one that is told as it was, leave the endpoints as they were", () => {
  const { graph, stage } = makeGraph();
  const before = stage("ingress");
  graph.update([policy("t1.a", "t1", 90)]);
  const { endpoints, policies } = graph.flush();
  expect([endpoints.size, policies.size]).toEqual([0, 1]);
  graph.update([policy("t0.a", "t0", 80), tier("t0", 10)]);
  expect(graph.flush().endpoints.size).toBe(0);
  expect(stage("ingress")).toBe(before);
});
