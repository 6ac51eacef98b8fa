/**
 * Machines: WorkloadEndpoints on real interfaces, from the datastore to packets: routes, source check and policy as a pod has them, closed
 * without an object, and never a pod's interface.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { LinksDriver } from "../../src/dataplane/links/driver.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { droppingOthers } from "../../src/dataplane/others.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { RoutesDriver } from "../../src/dataplane/routes/driver.ts";
import { MemoryStore } from "../../src/datastore/memory.ts";
import { DatastoreGate } from "../../src/felix/datastore-gate.ts";
import { Pipeline } from "../../src/felix/pipeline.ts";
import { PolicyVersions } from "../../src/felix/policy-versions.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openProcesses } from "../../src/host/bun/processes.ts";
import { openRandom } from "../../src/host/bun/random.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Sys } from "../../src/host/sys.ts";
import { workloadEndpointName } from "../../src/model/kinds/workload-endpoint.ts";
import type { Resource } from "../../src/model/resource.ts";
import { type Addr, FAMILIES, type Family } from "../../src/net/addr.ts";
import { UDP } from "../../src/net/protocol.ts";
import type { EndpointId } from "../../src/program/program.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, POD_MAC, routeDefault } from "./pods.ts";
import { Port } from "./wire.ts";

const V3 = "projectcalico.org/v3";
const WORLD: { readonly [F in Family]: Addr } = { 4: "198.51.100.7" as Addr, 6: "2001:db8:1::7" as Addr };
const MACHINE: { readonly [F in Family]: Addr } = { 4: "10.65.0.9" as Addr, 6: "fd00:65::9" as Addr };
const FORGED: { readonly [F in Family]: Addr } = { 4: "10.65.0.10" as Addr, 6: "fd00:65::a" as Addr };
const MARK = 0xca10_0000;

const store = new MemoryStore();
const abort = new AbortController();
const refusals: string[] = [];
const withheld: string[] = [];
let node: Namespace;
let world: Namespace;
let vm: Namespace;
let outside: Port;
let pipeline: Pipeline;
let running: Promise<void>;
let sent = 0;

/** Every socket and file is opened in the namespace, whenever that may be. */
function sysOf(namespace: Namespace): Sys {
  return {
    ...sys,
    socket: (domain, type, protocol) => namespace.enter(() => sys.socket(domain, type, protocol)),
    open: (path, flags) => namespace.enter(() => sys.open(path, flags)),
  };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !holds(); await Bun.sleep(2))
    if (performance.now() > end) throw new Error(`waited 20 s in vain for ${what}`);
}

function machine(
  interfaceName: string,
  more: Partial<Resource<"WorkloadEndpoint">["spec"]> = {},
): Resource<"WorkloadEndpoint"> {
  const spec = {
    node: "n1",
    orchestrator: "kvm",
    workload: interfaceName,
    endpoint: "eth0",
    interfaceName,
    ipNetworks: FAMILIES.map((family) => MACHINE[family]),
    profiles: ["projectcalico-default-allow"],
    ports: [{ name: "shut", port: 81, protocol: "UDP" as const }],
    ...more,
  };
  const metadata = { name: workloadEndpointName(spec) ?? "", namespace: "machines", labels: { app: "vm" } };
  return { apiVersion: V3, kind: "WorkloadEndpoint", metadata, spec };
}

function keyOf({ metadata }: Resource<"WorkloadEndpoint">) {
  return { kind: "WorkloadEndpoint", namespace: "machines", name: metadata.name } as const;
}

/** A cable between the node and the machine, which replaces an older one. */
function plug(name: string): Port {
  if (vm.run(["ip", "-o", "link", "show"]).includes(": eth0@")) vm.run(["ip", "link", "del", "eth0"]);
  connect(node, name, vm);
  for (const family of FAMILIES)
    node.run([
      "ip",
      `-${family}`,
      "neigh",
      "replace",
      MACHINE[family],
      "lladdr",
      POD_MAC,
      "dev",
      name,
      "nud",
      "permanent",
    ]);
  return new Port(vm, "eth0", HOST_MAC);
}

function routes(): string {
  return FAMILIES.map((family) => node.run(["ip", `-${family}`, "route", "show", "proto", "80"])).join("");
}

function hasRoutes(name: string): boolean {
  return FAMILIES.every((family) => routes().includes(`${MACHINE[family]} dev ${name}`));
}

/** Packets that rules of ours have dropped. */
function dropped(): number {
  const text = node.run(["nft", "list", "table", "inet", "calico"]);
  return [...text.matchAll(/counter packets (\d+) bytes \d+ drop/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Whether it arrives; else one of our rules has dropped it. */
async function passes(from: Port, to: Port, source: Addr, destination: Addr, port = 80): Promise<boolean> {
  const marker = MARK + ++sent;
  const before = dropped();
  let arrived = false;
  from.send({ source, destination, protocol: UDP, sourcePort: 20_000 + sent, destinationPort: port }, marker);
  await until("a packet to arrive or to be dropped", () => (arrived ||= to.received(marker)) || dropped() > before);
  return arrived;
}

/** Behind it comes a packet that arrives: frames of one wire stay in order. The kernel itself drops forgeries of IPv4 too. */
async function isForgeryDelivered(from: Port, family: Family): Promise<boolean> {
  const [forged, honest] = [MARK + ++sent, MARK + ++sent];
  for (const [source, marker] of [
    [FORGED[family], forged],
    [MACHINE[family], honest],
  ] as const)
    from.send(
      { source, destination: WORLD[family], protocol: UDP, sourcePort: 20_000 + sent, destinationPort: 80 },
      marker,
    );
  const seen: number[] = [];
  await until("the honest packet", () => seen.push(...outside.markers()) > 0 && seen.includes(honest));
  return seen.includes(forged);
}

beforeAll(async () => {
  [node, world, vm] = ["node", "world", "vm"].map(makeNamespace) as [Namespace, Namespace, Namespace];
  makeRouter(node);
  connect(node, "world", world);
  routeDefault(node, "world");
  for (const other of [world, vm])
    other.run(
      ["nft", "-f", "-"],
      "table inet silence { chain output { type filter hook output priority 0; policy drop; }; }",
    );
  outside = new Port(world, "eth0", HOST_MAC);
  await store.create("FelixConfiguration", {
    apiVersion: V3,
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: { interfacePrefix: "cali,tap" },
  });
  const own = sysOf(node);
  const clock = openClock();
  const report = (): void => {};
  const loop = new Loop({
    drivers: [
      new LinksDriver(own, clock, new Set(FAMILIES)),
      new RoutesDriver(own, clock),
      new NftablesDriver(own, { ownsTable: false, clock }),
    ],
    clock,
    watcher: openWatcher(),
    auditIntervalMs: 3_600_000,
    report,
  });
  let inSync = false;
  pipeline = new Pipeline({
    node: "n1",
    store,
    loop,
    clock,
    random: openRandom(),
    report,
    gate: new DatastoreGate(report),
    onBgp: report,
    observe: report,
    policies: new PolicyVersions(),
    onStep: report,
    onWithheld: ({ why }) => withheld.push(why),
    onMissing: () => {},
    onRefusal: ({ name }, why) => refusals.push(`${name}: ${why}`),
    onInSync: () => (inSync = true),
  });
  pipeline.start();
  running = loop.run(abort.signal);
  await until("the node to be in sync", () => inSync);
});

afterAll(async () => {
  abort.abort();
  await running;
  await pipeline?.stop();
  outside?.close();
  for (const namespace of [node, world, vm]) if (namespace !== undefined) removeNamespace(namespace);
});

async function remove(object: Resource<"WorkloadEndpoint">): Promise<void> {
  await store.delete(keyOf(object));
  await until("the endpoint to go", () => !pipeline.program.endpoints.has(object.spec.interfaceName as EndpointId));
}

test("an object before its interface: routes, traffic, policy and source check once that appears; nothing when the object is gone", async () => {
  const object = machine("tap0");
  await store.create("WorkloadEndpoint", object);
  await until("the endpoint", () => pipeline.program.endpoints.has("tap0" as EndpointId));
  const inside = plug("tap0");
  await until("its routes", () => hasRoutes("tap0"));
  for (const family of FAMILIES) {
    expect(await passes(inside, outside, MACHINE[family], WORLD[family])).toBe(true);
    expect(await passes(outside, inside, WORLD[family], MACHINE[family])).toBe(true);
    expect(await isForgeryDelivered(inside, family)).toBe(false);
  }
  await store.create("GlobalNetworkPolicy", {
    apiVersion: V3,
    kind: "GlobalNetworkPolicy",
    metadata: { name: "guard" },
    spec: {
      selector: "app == 'vm'",
      ingress: [{ action: "Deny", protocol: "UDP", destination: { ports: ["shut"] } }, { action: "Allow" }],
      egress: [{ action: "Deny", protocol: "UDP", destination: { ports: [53] } }, { action: "Pass" }],
    },
  });
  await until("the policy", () => pipeline.program.policies.size > 1 && pipeline.isProgrammed("tap0"));
  for (const family of FAMILIES) {
    const way = [inside, outside, MACHINE[family], WORLD[family]] as const;
    const back = [outside, inside, WORLD[family], MACHINE[family]] as const;
    expect([await passes(...back, 80), await passes(...back, 81)]).toEqual([true, false]);
    expect([await passes(...way, 80), await passes(...way, 53)]).toEqual([true, false]);
  }
  await until("its settings", () => node.run(["sysctl", "-n", "net.ipv4.conf.tap0.rp_filter"]) === "1\n");
  await remove(object);
  await until("the routes to go", () => !routes().includes("tap0"));
  // Without the kernel's own check the table alone closes it.
  node.run(["sysctl", "-qw", "net.ipv4.conf.tap0.rp_filter=0"]);
  for (const family of FAMILIES) expect(await passes(inside, outside, MACHINE[family], WORLD[family])).toBe(false);
  inside.close();
}, 60_000);

test("an interface before its object is closed until that comes; without a profile nothing passes but what a rule allows", async () => {
  const inside = plug("tap1");
  for (const family of FAMILIES) expect(await passes(inside, outside, MACHINE[family], WORLD[family])).toBe(false);
  const object = machine("tap1", { profiles: [] });
  await store.create("WorkloadEndpoint", object);
  await until("its routes", () => hasRoutes("tap1"));
  for (const family of FAMILIES) {
    expect(await passes(outside, inside, WORLD[family], MACHINE[family], 80)).toBe(true);
    expect(await passes(outside, inside, WORLD[family], MACHINE[family], 81)).toBe(false);
    expect(await passes(inside, outside, MACHINE[family], WORLD[family])).toBe(false);
  }
  await remove(object);
  inside.close();
}, 60_000);

test("source prefixes have an effect while workloadSourceSpoofing is Any, and are told of in vain otherwise", async () => {
  const spoof = async (workloadSourceSpoofing: string): Promise<void> => {
    const key = { kind: "FelixConfiguration", namespace: undefined, name: "default" } as const;
    const found = await store.get(key);
    if (found === undefined) throw new Error("no FelixConfiguration");
    await store.update("FelixConfiguration", { ...found, spec: { ...found.spec, workloadSourceSpoofing } });
  };
  const sourcesOf = (): readonly string[] | undefined => pipeline.program.endpoints.get("tap0" as EndpointId)?.sources;
  const isFilter = async (value: string): Promise<void> => {
    await until(
      `rp_filter to be ${value}`,
      () =>
        node.run(["sysctl", "-n", "net.ipv4.conf.tap0.rp_filter"]) === `${value}\n` && pipeline.isProgrammed("tap0"),
    );
  };
  const inside = plug("tap0");
  // All of IPv4 is all but 127.0.0.0/8, of which a machine must not be able to send.
  const object = machine("tap0", { allowSpoofedSourcePrefixes: ["fd00:65::8/125", "0.0.0.0/0", FORGED[6]] });
  await store.create("WorkloadEndpoint", object);
  await until("its routes", () => hasRoutes("tap0"));
  for (const family of FAMILIES) expect(await isForgeryDelivered(inside, family)).toBe(false);
  expect(sourcesOf()).toBeUndefined();
  expect(withheld.at(-1)).toContain("fd00:65::8/125: they have an effect where workloadSourceSpoofing");
  expect(pipeline.withheld.map(({ workload }) => workload.name)).toEqual([object.metadata.name]);
  await spoof("Any");
  await until("the prefixes", () => sourcesOf()?.length === 9);
  expect(sourcesOf()).not.toContain("0.0.0.0/0");
  expect(pipeline.withheld).toEqual([]);
  await isFilter("0");
  for (const family of FAMILIES) {
    expect(await isForgeryDelivered(inside, family)).toBe(true);
    // Policy is the machine's own, whatever it calls itself.
    expect(await passes(inside, outside, FORGED[family], WORLD[family], 53)).toBe(false);
  }
  // The kernel's own check, if the node insists on it, is told of.
  const others = (hasSources: boolean): Promise<readonly string[]> =>
    droppingOthers({
      sys: sysOf(node),
      processes: openProcesses(),
      clock: openClock(),
      families: new Set(FAMILIES),
      dataplane: "iptables-legacy",
      prefixes: ["cali"],
      hasSources,
    });
  expect(await others(true)).toEqual([]);
  node.run(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
  expect([await others(false), await others(true)]).toEqual([
    [],
    ["net/ipv4/conf/all/rp_filter is 1: the kernel drops IPv4 packets from source prefixes unless it is 0"],
  ]);
  node.run(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"]);
  await store.delete(keyOf(object));
  await until("the endpoint to go", () => sourcesOf() === undefined);
  await store.create("WorkloadEndpoint", machine("tap0", { allowSpoofedSourcePrefixes: ["192.0.2.0/24", "nonsense"] }));
  await until("other prefixes", () => sourcesOf()?.join() === "192.0.2.0/24" && pipeline.isProgrammed("tap0"));
  for (const family of FAMILIES) expect(await passes(inside, outside, FORGED[family], WORLD[family])).toBe(false);
  await spoof("Disabled");
  await until("no prefixes", () => sourcesOf() === undefined);
  await isFilter("1");
  expect(node.run(["nft", "list", "table", "inet", "calico"])).not.toContain("sources-4-nets");
  await remove(object);
  inside.close();
}, 60_000);

test("a pod's interface stays the pod's, and the refusal is told", async () => {
  await store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web", namespace: "machines" },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: [{ ip: FORGED[4] }] },
  });
  const pod = { kind: "Pod", namespace: "machines", name: "web" } as const;
  const record = { containerId: "c", pod, interface: "cali1", mac: "", netns: "", podInterface: "eth0" };
  pipeline.attach({ ...record, addresses: [FORGED[4]] });
  const endpoint = () => pipeline.program.endpoints.get("cali1" as EndpointId);
  await until("the pod's endpoint", () => endpoint() !== undefined);
  const object = machine("cali1");
  await store.create("WorkloadEndpoint", object);
  await until("the refusal", () => refusals.length > 0);
  expect(refusals[0]).toBe("n1-kvm-cali1-eth0: interface cali1 is that of Pod machines/web");
  expect(endpoint()).toMatchObject({ source: pod, addresses: [FORGED[4]] });
  expect(routes()).not.toContain("cali1 scope");
  // The pod goes first: then the interface is free.
  pipeline.detach("cali1");
  await until("the machine's endpoint", () => endpoint()?.source.kind === "WorkloadEndpoint");
  await remove(object);
}, 60_000);
