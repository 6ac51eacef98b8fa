import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { MemoryStore } from "../datastore/memory.ts";
import type { Store } from "../datastore/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { unwrap } from "../lib/result.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { familyOf, parseAddr } from "../net/addr.ts";
import { Ipam } from "../ipam/ipam.ts";
import { AddressReserve } from "../ipam/reserve.ts";
import { Addresses, type Taken } from "./addresses.ts";
import { AddressError } from "./failures.ts";
import { Journal } from "./journal.ts";

/** A store on which calls that `waits` picks wait for the gate. */
function gated(
  memory: MemoryStore,
  waits: (method: string | symbol, kind: string | undefined, name: string | undefined) => boolean,
  gate: Promise<void>,
): Store {
  return new Proxy<Store>(memory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return async (...args: readonly ({ kind?: string; name?: string } | string)[]) => {
        const [first] = args;
        if (typeof first === "string" ? waits(name, first, undefined) : waits(name, first?.kind, first?.name))
          await gate;
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

/** Of the journal, in memory as on a node. */
let directory = "";
beforeEach(() => {
  directory = mkdtempSync("/dev/shm/calico-addresses-");
});
afterEach(() => rmSync(directory, { recursive: true }));

const NOTHING_ASKED = { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined };

test.each([
  ["any address", NOTHING_ASKED],
  ["a fixed address", { ...NOTHING_ASKED, addresses: [unwrap(parseAddr("fd00::7"))] }],
])("a datastore that is slow: ADD for %s fails in time, and what comes late is given back", async (_, requests) => {
  const memory = new MemoryStore();
  await memory.create("IPPool", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec: { cidr: "fd00::/112" },
  });
  const gate = Promise.withResolvers<void>();
  const store = gated(memory, (method, kind) => method === "list" && kind === "IPPool", gate.promise);
  const clock = new VirtualClock();
  const ipam = new Ipam({ store, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
  const journal = await Journal.open(openFiles(), directory, () => {});
  const addresses = new Addresses({
    node: "n1",
    store,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: () => ({}),
    closeLoser: async () => {},
    endFlows: () => {},
    report: () => {},
  });
  const taken = addresses
    .take({
      containerId: "c1",
      network: "net",
      pod: { kind: "Pod", namespace: "a", name: "b" },
      families: [6],
      requests,
      namespaceLabels: {},
    })
    .catch((error: unknown) => error);
  await clock.advance(30_000);
  expect(await taken).toMatchObject({
    name: "AddressError",
    message: expect.stringContaining("the datastore did not finish within 30000 ms"),
  });
  expect(addresses.backlog).toBe(1);
  gate.resolve();
  for (let seconds = 0; addresses.backlog > 0 && seconds < 60; seconds++) await clock.advance(1_000);
  expect(addresses.backlog).toBe(0);
  // What was fetched by way of the reserve is there for the next pod.
  const kept = requests.addresses === undefined ? reserve.size + 1 : 0;
  expect(reserve.count(6)).toBe(kept);
  const [block] = (await memory.list("IPAMBlock")).items;
  expect(block?.spec.allocations.filter((index) => index !== null)).toHaveLength(kept);
  expect((await memory.list("IPAMHandle")).items.map(({ spec }) => spec.handleID)).toEqual([]);
});

test("many pods at once: what the reserve lacks is fetched for all of them together", async () => {
  const memory = new MemoryStore();
  for (const [name, cidr] of [
    ["p4", "10.0.0.0/16"],
    ["p6", "fd00::/112"],
  ] as const)
    await memory.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { cidr },
    });
  const clock = openClock();
  const ipam = new Ipam({ store: memory, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
  await reserve.refill();
  const journal = await Journal.open(openFiles(), directory, () => {});
  const addresses = new Addresses({
    node: "n1",
    store: memory,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: () => ({}),
    closeLoser: async () => {},
    endFlows: () => {},
    report: () => {},
  });
  let requests = 0;
  memory.setFault(({ phase }) => void (phase === "request" && requests++));
  const pods = Array.from({ length: 30 }, (_, i) =>
    addresses.take({
      containerId: `c${i}`,
      network: "net",
      pod: { kind: "Pod", namespace: "a", name: `p${i}` },
      families: [4, 6],
      requests: NOTHING_ASKED,
      namespaceLabels: {},
    }),
  );
  const given = (await Promise.all(pods)).flatMap((taken) => taken.addresses);
  expect(new Set(given).size).toBe(60);
  expect(given.map(familyOf)).toEqual(Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? 4 : 6)));
  // Two refills, of about sixteen requests each, not one search for each address.
  expect(requests).toBeLessThan(60);
  expect([reserve.count(4), reserve.count(6)]).toEqual([8, 8]);
});

describe("work for the datastore after an answer", () => {
  let memory: MemoryStore;
  let clock: VirtualClock;
  let addresses: Addresses;
  const record = (name: string, taken: Taken) =>
    ({
      containerId: name,
      pod: { kind: "Pod", namespace: "a", name },
      interface: `cali${name}`,
      addresses: taken.addresses,
      mac: "",
      netns: "",
      podInterface: "eth0",
    }) as const;

  /** ADD of so many pods, to the end of the answer. */
  async function add(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const taken = await addresses.take({
        containerId: `c${i}`,
        network: "net",
        pod: { kind: "Pod", namespace: "a", name: `c${i}` },
        families: [4, 6],
        requests: NOTHING_ASKED,
        namespaceLabels: {},
      });
      addresses.confirm({
        record: record(`c${i}`, taken),
        handle: taken.handle,
        assignedAt: taken.assignedAt,
        mtuBytes: 1500,
        state: "attached",
        wired: false,
      });
    }
  }

  async function recorded(): Promise<string[]> {
    return (await memory.list("IPAMHandle")).items
      .map(({ spec }) => spec.handleID)
      .filter((handle) => handle.startsWith("net."));
  }

  beforeEach(async () => {
    memory = new MemoryStore();
    clock = new VirtualClock();
    for (const [name, cidr] of [
      ["p4", "10.0.0.0/16"],
      ["p6", "fd00::/112"],
    ] as const)
      await memory.create("IPPool", {
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name },
        spec: { cidr },
      });
    const ipam = new Ipam({ store: memory, node: "n1", clock, random: openRandom(), report: () => {} });
    const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
    // The reserve takes from blocks in which a pod has an address.
    await ipam.assign({ ipv4: 1, ipv6: 1, handle: "other", attributes: { node: "n1" } });
    await clock.until(reserve.refill());
    const journal = await Journal.open(openFiles(), directory, () => {});
    addresses = new Addresses({
      node: "n1",
      store: memory,
      ipam,
      reserve,
      journal,
      clock,
      annotationsOf: () => ({}),
      closeLoser: async () => {},
      endFlows: () => {},
      report: () => {},
    });
  });

  test("waits until the runtime has the pod, and is done for all at once", async () => {
    await add(2);
    await clock.advance(150);
    expect(await recorded()).toEqual([]);
    await clock.advance(100);
    expect(await recorded()).toEqual(["net.c0", "net.c1"]);
  });

  test("does not wait when the reserve gets low", async () => {
    await add(5);
    await clock.advance(1);
    expect(await recorded()).toEqual(["net.c0", "net.c1", "net.c2", "net.c3"]);
  });

  test("does not wait while somebody waits for it", async () => {
    await add(1);
    await clock.advance(1);
    const settled = addresses.settled("c0", 5_000);
    await clock.advance(1);
    expect([await settled, await recorded()]).toEqual([true, ["net.c0"]]);
  });
});

test("when the pool is used up, ADD says so in words of its own", async () => {
  const memory = new MemoryStore();
  await memory.create("IPPool", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec: { cidr: "fd00::/127", blockSize: 127 },
  });
  const clock = openClock();
  const ipam = new Ipam({ store: memory, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
  const journal = await Journal.open(openFiles(), directory, () => {});
  const addresses = new Addresses({
    node: "n1",
    store: memory,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: () => ({}),
    closeLoser: async () => {},
    endFlows: () => {},
    report: () => {},
  });
  const take = (i: number) =>
    addresses.take({
      containerId: `c${i}`,
      network: "net",
      pod: { kind: "Pod", namespace: "a", name: `p${i}` },
      families: [6],
      requests: NOTHING_ASKED,
      namespaceLabels: {},
    });
  const outcomes = await Promise.allSettled([take(0), take(1), take(2)]);
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "fulfilled", "rejected"]);
  expect(outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [String(outcome.reason)] : []))).toEqual([
    expect.stringContaining('got 0 of 1 IPv6 addresses for node "n1" from p (fd00::/127): every address is taken'),
  ]);
});

test("a failed ADD's handle is released in the container's own queue, for which the next ADD of the container waits", async () => {
  const memory = new MemoryStore();
  const gate = Promise.withResolvers<void>();
  const store = gated(
    memory,
    (method, kind, name) => method === "get" && kind === "IPAMHandle" && name === "net.c1",
    gate.promise,
  );
  const clock = openClock();
  const ipam = new Ipam({ store, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
  const journal = await Journal.open(openFiles(), directory, () => {});
  const addresses = new Addresses({
    node: "n1",
    store,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: () => ({}),
    closeLoser: async () => {},
    endFlows: () => {},
    report: () => {},
  });
  const request = {
    containerId: "c1",
    network: "net",
    pod: { kind: "Pod", namespace: "a", name: "b" },
    families: [4],
    requests: NOTHING_ASKED,
    namespaceLabels: {},
  } as const;
  expect(await addresses.take(request).catch((error: unknown) => error)).toBeInstanceOf(AddressError);
  expect(await addresses.settled("c1", 20)).toBe(false);
  gate.resolve();
  expect(await addresses.settled("c1", 5_000)).toBe(true);
});

test("a write that is retried is reported once for each reason that it fails for", async () => {
  const memory = new MemoryStore();
  const clock = new VirtualClock();
  const reports: string[] = [];
  const ipam = new Ipam({ store: memory, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map() });
  const journal = await Journal.open(openFiles(), directory, () => {});
  const report = (message: string, fields: Readonly<Record<string, unknown>>): void =>
    void reports.push(`${message}: ${String(fields["error"])}`);
  const addresses = new Addresses({
    node: "n1",
    store: memory,
    ipam,
    reserve,
    journal,
    clock,
    annotationsOf: () => ({}),
    closeLoser: async () => {},
    endFlows: () => {},
    report,
  });
  memory.setFault(() => "unavailable");
  addresses.releaseHandle("c1", "net.c1");
  await clock.advance(60_000);
  memory.setFault(() => "forbidden");
  await clock.advance(60_000);
  expect(reports).toEqual([expect.stringContaining("unavailable"), expect.stringContaining("forbidden")]);
  memory.setFault(undefined);
  await clock.advance(60_000);
  expect(addresses.backlog).toBe(0);
  // What fails because the daemon stops is no failure.
  memory.setFault(() => {
    addresses.stop();
    return "unavailable";
  });
  addresses.releaseHandle("c2", "net.c2");
  await clock.advance(60_000);
  expect([addresses.backlog, reports.length]).toEqual([0, 2]);
});
