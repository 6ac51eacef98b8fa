import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { CLUSTER_INFORMATION, KUBE_CONTROLLERS_CONFIGURATION } from "../model/kinds/cluster.ts";
import { formatKey } from "../model/key.ts";
import { rowsFor } from "../model/convert/rows.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import { addressRules, type AddressRules, type LocalAddress, type LocalNetwork } from "./address-detection.ts";
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

const local = (name: string, text: string, prefixLength: number, usable = true): LocalAddress => ({
  addr: addr(text),
  prefixLength,
  interface: name,
  usable,
});
const LOCAL: LocalNetwork = {
  addresses: [
    local("lo", "127.0.0.1", 8),
    local("docker0", "172.17.0.1", 16),
    local("down0", "172.20.0.1", 16, false),
    local("eth0", "172.30.0.11", 24),
    local("eth0", "fe80::1", 64),
    local("eth1", "192.168.5.1", 16),
    local("eth1", "fd00:30::11", 64),
  ],
  sourceTo: (to) => (to === "8.8.8.8" ? addr("192.168.5.1") : undefined),
};
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
  expect(missingAddresses(self, LOCAL).missing).toEqual(missing);
});

const rulesOf = (environment: Record<string, string>): AddressRules => unwrap(addressRules(environment) as never);

test.each([
  ["IP", "autodetect", "", { [FOUR]: "172.30.0.11/24" }],
  ["IP", "autodetect", "first-found", { [FOUR]: "172.30.0.11/24" }],
  ["IP", "autodetect", "skip-interface=eth0", { [FOUR]: "192.168.5.1/16" }],
  ["IP", "autodetect", "interface=docker.*", { [FOUR]: "172.17.0.1/16" }],
  ["IP", "autodetect", "interface=none, eth1", { [FOUR]: "192.168.5.1/16" }],
  ["IP", "autodetect", "cidr=10.0.0.0/8,192.168.0.0/16", { [FOUR]: "192.168.5.1/16" }],
  ["IP", "autodetect", "can-reach=8.8.8.8", { [FOUR]: "192.168.5.1/16" }],
  ["IP", "autodetect", "kubernetes-internal-ip", { [FOUR]: "172.30.0.11/24" }],
  ["IP6", "autodetect", "", { [SIX]: "fd00:30::11/64" }],
  ["IP6", "autodetect", "interface=eth0", {}],
  ["IP", "autodetect", "can-reach=9.9.9.9", {}],
  ["IP", "192.168.5.1", "", { [FOUR]: "192.168.5.1/16" }],
  ["IP", "192.0.2.1/29", "", { [FOUR]: "192.0.2.1/29" }],
  ["IP6", "2001:db8::1", "", { [SIX]: "2001:db8::1/128" }],
] as const)("%s=%s by %s", (variable, what, method, missing) => {
  const rules = rulesOf({ [variable]: what, [`${variable}_AUTODETECTION_METHOD`]: method });
  const found = missingAddresses(node(variable === "IP" ? ["172.30.0.11"] : []), LOCAL, rules);
  expect(found.missing).toMatchObject(missing);
  expect(Object.keys(found.missing).filter((name) => name === (variable === "IP" ? FOUR : SIX))).toEqual(
    Object.keys(missing),
  );
  expect(found.unfound.length).toBe(Object.keys(missing).length === 0 ? 1 : 0);
});

test("none takes the address back; another family's is left alone", () => {
  const self = node([], { [FOUR]: "172.30.0.11/24", [SIX]: "fd00:30::11/64" });
  expect(missingAddresses(self, LOCAL, rulesOf({ IP: "none" })).missing).toEqual({ [FOUR]: null });
});

test.each([
  [{ IP: "fd00::1" }, 'IP is "fd00::1", must be an IPv4 address'],
  [{ IP6: "10.0.0.1/24" }, 'IP6 is "10.0.0.1/24", must be an IPv6 address'],
  [{ IP: "10.0.0.1/33" }, "must be an IPv4 address"],
  [{ IP_AUTODETECTION_METHOD: "can-reach=example.com" }, "names are not looked up"],
  [{ IP_AUTODETECTION_METHOD: "interface=(" }, "must be interface= and regular expressions"],
  [{ IP6_AUTODETECTION_METHOD: "cidr=10.0.0.0" }, "must be cidr= and networks"],
  [{ IP_AUTODETECTION_METHOD: "best" }, "must be first-found, can-reach="],
] as const)("wrong: %p", (environment, words) => {
  const rules = addressRules(environment);
  expect(rules.ok ? "" : rules.error).toContain(words);
});

test("without Kubernetes, and without an address of its own, the first IPv4 address that is found", async () => {
  const store = Object.assign(new MemoryStore(), { isStandalone: true });
  const created: Resource<"Node"> = { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } };
  await store.create("Node", created);
  const clock = new VirtualClock();
  const abort = new AbortController();
  const registered = registration(store, clock);
  registered.observe([rowsFor("n1")(saidOf(created))]);
  const done = registered.run(abort.signal);
  await clock.advance(1_000);
  abort.abort();
  await done;
  const self = await store.get({ kind: "Node", namespace: undefined, name: "n1" });
  expect(self?.metadata.annotations).toEqual({ [FOUR]: "172.30.0.11/24" });
});

function saidOf(value: Resource<"Node">): Update {
  return { kind: "Node", key: keyOf("Node", value), value, origin: { revision: "1", generation: 1, seenAt: 0 } };
}

function registration(store: MemoryStore, clock: VirtualClock, version = "1.2.3"): Registration {
  const random = { fraction: () => 0.5, uuid: () => "00112233-4455-4677-8899-aabbccddeeff" };
  return new Registration({
    node: "n1",
    version,
    store,
    clock,
    random,
    localNetwork: () => LOCAL,
    addresses: {},
    report: () => {},
  });
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
