import { beforeEach, describe, expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { openClock } from "../host/bun/clock.ts";
import { openRandom } from "../host/bun/random.ts";
import { Ipam } from "../ipam/ipam.ts";
import { rowsFor } from "../model/convert/rows.ts";
import { formatKey } from "../model/key.ts";
import { keyOf } from "../model/resource.ts";
import type { Addr } from "../net/addr.ts";
import { LeakCollector } from "./leaks.ts";

const HANDLE = "net.c1";
let store: MemoryStore;
let ipam: Ipam;
let known: Set<string>;
let released: string[];
let collector: LeakCollector;
let addresses: readonly Addr[];

beforeEach(async () => {
  store = new MemoryStore();
  for (const [name, cidr] of [
    ["v4", "10.0.0.0/24"],
    ["v6", "fd00::/112"],
  ] as const)
    await store.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { cidr },
    });
  ipam = new Ipam({ store, node: "n1", clock: openClock(), random: openRandom(), report: () => undefined });
  known = new Set();
  released = [];
  const releaseHandle = (containerId: string, handle: string): void => void released.push(`${containerId} ${handle}`);
  collector = new LeakCollector({
    node: "n1",
    store,
    clock: openClock(),
    addresses: { handles: () => known, releaseHandle },
    report: () => undefined,
  });
  const { ipv4, ipv6 } = await ipam.assign({
    ipv4: 1,
    ipv6: 1,
    handle: HANDLE,
    attributes: { node: "n1", namespace: "a", pod: "b" },
  });
  addresses = [...ipv4, ...ipv6];
  await tell();
});

/** What the watch brings. */
async function tell(): Promise<void> {
  const { items } = await store.list("IPAMBlock");
  collector.observe(
    items.map((value) =>
      rowsFor("n1")({
        kind: "IPAMBlock",
        key: keyOf("IPAMBlock", value),
        value,
        origin: { revision: "", generation: undefined, seenAt: 0 },
      }),
    ),
  );
}

async function looks(count: number): Promise<string[]> {
  for (let i = 0; i < count; i++) await collector.look();
  return released;
}

async function pod(status: object, nodeName = "n1", annotations: Readonly<Record<string, string>> = {}): Promise<void> {
  await store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: "a", name: "b", annotations },
    spec: { nodeName, containers: [] },
    status,
  });
}

describe("addresses of a container that this node does not know", () => {
  test("are given back once for both families, at the second look, when their Pod is gone", async () => {
    expect(await looks(1)).toEqual([]);
    expect(await looks(1)).toEqual(["c1 net.c1"]);
  });

  test("are kept while the Pod lives and reports one of them, whoever wired it", async () => {
    await pod({ phase: "Running", podIPs: [{ ip: addresses[1] }] });
    expect(await looks(3)).toEqual([]);
  });

  test("are kept while the Pod reports one of them from another node: the recorded node may be stale", async () => {
    await pod({ phase: "Running", podIPs: [{ ip: addresses[0] }] }, "n2");
    expect(await looks(3)).toEqual([]);
  });

  test("are kept while the Pod cannot be read", async () => {
    await pod({ phase: "Running", podIPs: [{ ip: "10.0.0.300" }] });
    expect(await looks(3)).toEqual([]);
  });

  test("are given back when the Pod has finished, is torn down, or has other addresses", async () => {
    const own = addresses.map((ip) => ({ ip }));
    const cases = [
      { status: { phase: "Failed", podIPs: own }, annotations: {} },
      { status: { phase: "Running", podIPs: own }, annotations: { "cni.projectcalico.org/podIPs": "" } },
      { status: { phase: "Running", podIPs: [{ ip: "10.0.0.99" }] }, annotations: {} },
    ];
    for (const { status, annotations } of cases) {
      await pod(status, "n1", annotations);
      known.add(HANDLE);
      await looks(1);
      known.clear();
      expect((await looks(2)).splice(0)).toEqual(["c1 net.c1"]);
      await store.delete({ kind: "Pod", namespace: "a", name: "b" });
    }
  });

  test("are kept when ADD or the journal knows the container, also if it does so only now", async () => {
    known.add(HANDLE);
    expect(await looks(3)).toEqual([]);
    known.clear();
    await looks(1);
    known.add(HANDLE);
    expect(await looks(1)).toEqual([]);
  });

  test("are kept when ADD takes them while their Pod is read", async () => {
    await looks(1);
    Object.assign(store, { get: () => Promise.resolve(void known.add(HANDLE)) });
    expect(await looks(1)).toEqual([]);
  });

  test("are forgotten once the blocks no longer record them", async () => {
    await looks(1);
    await ipam.releaseByHandle(HANDLE);
    await tell();
    expect(await looks(2)).toEqual([]);
  });
});

test("addresses of other nodes, of the reserve and of no pod are not this collector's", async () => {
  await ipam.releaseByHandle(HANDLE);
  await ipam.assign({ ipv4: 1, ipv6: 1, handle: "net.c2", attributes: { node: "n2", namespace: "a", pod: "c" } });
  await ipam.assign({ ipv4: 1, ipv6: 1, handle: "reserve-n1", attributes: { node: "n1" } });
  await tell();
  expect(await looks(3)).toEqual([]);
  expect((await store.list("IPAMHandle")).items.map((item) => formatKey(keyOf("IPAMHandle", item))).length).toBe(2);
});
