import { expect, test } from "bun:test";
import type { CniRecord, EndpointRow } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import { Wires } from "./wires.ts";

const [FIRST, SECOND] = ["WorkloadEndpoint/a/first", "WorkloadEndpoint/a/second"] as KeyText[] as [KeyText, KeyText];
const CALI = { workloadPrefixes: ["cali"] };
const TAP = { workloadPrefixes: ["cali", "tap"] };
const ADDRESS = "10.0.0.9" as Addr;

function row(device: string, node = "n1"): EndpointRow {
  return {
    uid: undefined,
    node,
    namespace: "a",
    serviceAccount: undefined,
    labels: new Map(),
    state: "live",
    addresses: [ADDRESS],
    addressesFrom: "status",
    ports: [],
    device,
    profiles: [],
  };
}

function record(name: string): CniRecord {
  const pod = { kind: "Pod", namespace: "a", name: "web" } as const;
  return { containerId: "c", pod, interface: name, addresses: [], mac: "", netns: "", podInterface: "eth0" };
}

/** Whose each interface of the change is. */
function owners(delta: ReturnType<Wires["step"]>): Record<string, string | undefined> {
  return Object.fromEntries([...delta].map(([name, wire]) => [name, wire?.workload.name]));
}

test("an interface that a WorkloadEndpoint of this node names is its own", () => {
  const wires = new Wires("n1");
  expect(owners(wires.step(new Map([[FIRST, row("tap0")]]), new Map(), TAP))).toEqual({ tap0: "first" });
  expect(owners(wires.step(new Map([[SECOND, row("tap1", "n2")]]), new Map(), TAP))).toEqual({});
  expect(owners(wires.step(new Map([[FIRST, row("tap2")]]), new Map(), TAP))).toEqual({
    tap0: undefined,
    tap2: "first",
  });
  expect(owners(wires.step(new Map([[FIRST, undefined]]), new Map(), TAP))).toEqual({ tap2: undefined });
  expect(wires.refusals.size).toBe(0);
});

test("a pod's interface stays the pod's, whichever comes first, and the refusal says so", () => {
  const why = "interface cali1 is that of Pod a/web";
  const wires = new Wires("n1");
  expect(owners(wires.step(new Map([[FIRST, row("cali1")]]), new Map(), CALI))).toEqual({ cali1: "first" });
  expect(owners(wires.step(new Map(), new Map([["cali1", record("cali1")]]), CALI))).toEqual({ cali1: "web" });
  expect([...wires.refusals]).toEqual([[FIRST, why]]);
  expect(owners(wires.step(new Map(), new Map([["cali1", undefined]]), CALI))).toEqual({ cali1: "first" });
  expect([...wires.refusals]).toEqual([]);
  const late = new Wires("n1");
  late.step(new Map(), new Map([["cali1", record("cali1")]]), CALI);
  expect(owners(late.step(new Map([[FIRST, row("cali1")]]), new Map(), CALI))).toEqual({ cali1: "web" });
  expect([...late.refusals]).toEqual([[FIRST, why]]);
});

test("of two WorkloadEndpoints for one interface the first by name counts", () => {
  const wires = new Wires("n1");
  expect(owners(wires.step(new Map([[SECOND, row("tap0")]]), new Map(), TAP))).toEqual({ tap0: "second" });
  expect(owners(wires.step(new Map([[FIRST, row("tap0")]]), new Map(), TAP))).toEqual({ tap0: "first" });
  expect([...wires.refusals]).toEqual([[SECOND, "interface tap0 is that of WorkloadEndpoint a/first"]]);
});

test("an interface whose name is no workload's is refused until the settings say otherwise", () => {
  const wires = new Wires("n1");
  expect(owners(wires.step(new Map([[FIRST, row("tap0")]]), new Map(), CALI))).toEqual({ tap0: undefined });
  expect([...wires.refusals.values()]).toEqual(["the name of interface tap0 begins as no workload's does (cali)"]);
  expect(owners(wires.step(new Map(), new Map(), TAP))).toEqual({ tap0: "first" });
  expect([...wires.refusals]).toEqual([]);
  expect(owners(wires.step(new Map(), new Map(), CALI))).toEqual({ tap0: undefined });
});
