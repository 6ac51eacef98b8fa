import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { CLUSTER_INFORMATION, KUBE_CONTROLLERS_CONFIGURATION } from "../model/kinds/cluster.ts";
import { formatKey } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import { missingAddresses, Registration } from "./registration.ts";

const addr = (text: string): Addr => unwrap(parseAddr(text));

function node(addresses: readonly string[], annotations: Record<string, string> = {}): Resource<"Node"> {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n1", annotations },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  };
}

const LOCAL = [
  { addr: addr("127.0.0.1"), prefixLength: 8 },
  { addr: addr("172.30.0.11"), prefixLength: 24 },
  { addr: addr("192.168.5.1"), prefixLength: 16 },
  { addr: addr("fd00:30::11"), prefixLength: 64 },
];
const FOUR = "projectcalico.org/IPv4Address";
const SIX = "projectcalico.org/IPv6Address";

test.each([
  [
    "both families, with the lengths of their subnets",
    node(["172.30.0.11", "fd00:30::11"]),
    { [FOUR]: "172.30.0.11/24", [SIX]: "fd00:30::11/64" },
  ],
  ["what is right stays", node(["172.30.0.11"], { [FOUR]: "172.30.0.11/24" }), {}],
  ["a length is mended", node(["172.30.0.11"], { [FOUR]: "172.30.0.11" }), { [FOUR]: "172.30.0.11/24" }],
  ["another address of the node that somebody chose stays", node(["172.30.0.11"], { [FOUR]: "192.168.5.1/16" }), {}],
  [
    "an address that the node lost is replaced",
    node(["172.30.0.11", "fd00:30::11"], { [FOUR]: "10.9.9.9/24", [SIX]: "fd00:30::99/64" }),
    { [FOUR]: "172.30.0.11/24", [SIX]: "fd00:30::11/64" },
  ],
  ["an address that no interface has is not written", node(["8.8.8.8"]), {}],
] as const)("address annotations: %s", (_, self, missing) => {
  expect(missingAddresses(self, LOCAL)).toEqual(missing);
});

function registration(store: MemoryStore, clock: VirtualClock, version = "1.2.3"): Registration {
  const random = { fraction: () => 0.5, uuid: () => "00112233-4455-4677-8899-aabbccddeeff" };
  return new Registration({ node: "n1", version, store, clock, random, localAddresses: () => LOCAL, report: () => {} });
}

async function ran(store: MemoryStore, version?: string): Promise<void> {
  const clock = new VirtualClock();
  const abort = new AbortController();
  const done = registration(store, clock, version).run(abort.signal);
  await clock.advance(60_000);
  abort.abort();
  await done;
}

test("what the cluster is: written once, filled in later, and a second node changes nothing", async () => {
  const store = new MemoryStore();
  await ran(store);
  const spec = {
    clusterGUID: "00112233445546778899aabbccddeeff",
    clusterType: "k8s,bgp,kdd",
    calicoVersion: "1.2.3",
    datastoreReady: true,
  };
  const written = await store.get(CLUSTER_INFORMATION);
  expect(written?.spec).toEqual(spec);
  expect((await store.get(KUBE_CONTROLLERS_CONFIGURATION))?.spec).toEqual({ controllers: {} });
  await ran(store);
  expect(await store.get(CLUSTER_INFORMATION)).toEqual(written);
  await ran(store, "1.2.4");
  expect((await store.get(CLUSTER_INFORMATION))?.spec).toEqual({ ...spec, calicoVersion: "1.2.4" });
});

test("words of others, a cluster's identity and datastoreReady: false stay", async () => {
  const store = new MemoryStore();
  const put = (spec: object) =>
    store.create("ClusterInformation", {
      apiVersion: "projectcalico.org/v3",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec,
    });
  await put({ clusterGUID: "abc", clusterType: "typha,kdd,k8s", variant: "Calico" });
  await ran(store);
  expect((await store.get(CLUSTER_INFORMATION))?.spec).toEqual({
    clusterGUID: "abc",
    clusterType: "typha,kdd,k8s,bgp",
    calicoVersion: "1.2.3",
    datastoreReady: true,
    variant: "Calico",
  });
  await store.delete(CLUSTER_INFORMATION);
  await put({ datastoreReady: false });
  await ran(store);
  expect((await store.get(CLUSTER_INFORMATION))?.spec).toEqual({ datastoreReady: false });
});

test("without Kubernetes the daemon makes its own Node, again after somebody deleted it, and is of no Kubernetes cluster", async () => {
  const store = new MemoryStore({ isStandalone: true });
  await ran(store);
  const key = { kind: "Node", name: "n1", namespace: undefined } as const;
  expect(await store.get(key)).toMatchObject({ metadata: { name: "n1" } });
  expect((await store.get(CLUSTER_INFORMATION))?.spec.clusterType).toBe("bgp");
  const clock = new VirtualClock();
  const abort = new AbortController();
  const subject = registration(store, clock);
  const done = subject.run(abort.signal);
  const own = node([]);
  const update = {
    kind: "Node",
    key,
    id: formatKey(key),
    origin: { revision: "1", generation: 1, seenAt: 0 },
  } as const;
  const addresses = { ipv4: undefined, ipv6: undefined };
  subject.observe([{ ...update, value: { addresses, labels: {}, own } }]);
  await clock.advance(60_000);
  await store.delete(key);
  subject.observe([{ ...update, value: undefined }]);
  await clock.advance(60_000);
  expect(await store.get(key)).toMatchObject({ metadata: { name: "n1" } });
  abort.abort();
  await done;
});

test("goes on after failures and lost races", async () => {
  const store = new MemoryStore();
  const answers = ["unavailable", "forbidden", undefined, "conflict"] as const;
  let asked = 0;
  store.setFault(({ phase }) => (phase === "request" ? answers[asked++] : undefined));
  await ran(store);
  expect((await store.get(CLUSTER_INFORMATION))?.spec.clusterGUID).toBe("00112233445546778899aabbccddeeff");
});

test("the built-in tiers exist, keep what others wrote, and come back when somebody deletes one", async () => {
  const store = new MemoryStore();
  await ran(store);
  const tiers = async (): Promise<Record<string, unknown>> => {
    const items = (await store.list("Tier")).items;
    return Object.fromEntries(items.map(({ metadata, spec }) => [metadata.name, spec]));
  };
  expect(await tiers()).toEqual({
    "kube-admin": { order: 1_000, defaultAction: "Pass" },
    default: { order: 1_000_000, defaultAction: "Deny" },
    "kube-baseline": { order: 10_000_000, defaultAction: "Pass" },
  });
  const before = await store.list("Tier");
  await ran(store);
  expect((await store.list("Tier")).items).toEqual(before.items);

  const clock = new VirtualClock();
  const abort = new AbortController();
  const subject = registration(store, clock);
  const done = subject.run(abort.signal);
  const key = { kind: "Tier", name: "kube-admin", namespace: undefined } as const;
  const update = {
    kind: "Tier",
    key,
    id: formatKey(key),
    origin: { revision: "1", generation: 1, seenAt: 0 },
  } as const;
  subject.observe([{ ...update, value: { name: "kube-admin", order: 1_000, otherwise: "pass" } }]);
  await clock.advance(60_000);
  await store.delete(key);
  subject.observe([{ ...update, value: undefined }]);
  await clock.advance(60_000);
  expect(Object.keys(await tiers()).sort()).toEqual(["default", "kube-admin", "kube-baseline"]);
  abort.abort();
  await done;
});
