import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import type { Store } from "../datastore/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { unwrap } from "../lib/result.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { parseAddr } from "../net/addr.ts";
import { Ipam } from "../ipam/ipam.ts";
import { AddressReserve } from "../ipam/reserve.ts";
import { Addresses } from "./addresses.ts";
import { AddressError } from "./failures.ts";
import { Journal } from "./journal.ts";

/** A store on which calls that `waits` picks wait for the gate. */
function gated(memory: MemoryStore, waits: (method: string | symbol, kind: string | undefined) => boolean, gate: Promise<void>): Store {
  return new Proxy<Store>(memory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return async (...args: readonly ({ kind?: string } | string)[]) => {
        const [first] = args;
        if (waits(name, typeof first === "string" ? first : first?.kind)) await gate;
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

const NOTHING_ASKED = { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined };

test.each([
  ["any address", NOTHING_ASKED],
  ["a fixed address", { ...NOTHING_ASKED, addresses: [unwrap(parseAddr("fd00::7"))] }],
])("a datastore that is slow: ADD for %s fails in time, and what comes late is given back", async (_, requests) => {
  const memory = new MemoryStore();
  await memory.create("IPPool", { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name: "p" }, spec: { cidr: "fd00::/112" } });
  const gate = Promise.withResolvers<void>();
  const store = gated(memory, (method, kind) => method === "list" && kind === "IPPool", gate.promise);
  const clock = new VirtualClock();
  const ipam = new Ipam({ store, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", inUse: [] });
  const journal = await Journal.open(openFiles(), `/dev/shm/calico-addresses-${process.pid}`, () => {});
  const addresses = new Addresses({ node: "n1", store, ipam, reserve, journal, clock, endFlows: () => {}, report: () => {} });
  const taken = addresses.take({ containerId: "c1", network: "net", pod: { kind: "Pod", namespace: "a", name: "b" }, families: [6], requests }).catch((error: unknown) => error);
  await clock.advance(30_000);
  expect(await taken).toMatchObject({ name: "AddressError", message: expect.stringContaining("the datastore did not finish within 30000 ms") });
  expect(addresses.backlog).toBe(1);
  gate.resolve();
  await clock.advance(60_000);
  expect(addresses.backlog).toBe(0);
  const [block] = (await memory.list("IPAMBlock")).items;
  expect(block?.spec.allocations.filter((index) => index !== null)).toEqual([]);
  expect((await memory.list("IPAMHandle")).items).toEqual([]);
});

test("a failed ADD's handle is released in the container's own queue, for which the next ADD of the container waits", async () => {
  const memory = new MemoryStore();
  const gate = Promise.withResolvers<void>();
  const store = gated(memory, (method, kind) => method === "get" && kind === "IPAMHandle", gate.promise);
  const clock = openClock();
  const ipam = new Ipam({ store, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", inUse: [] });
  const journal = await Journal.open(openFiles(), `/dev/shm/calico-addresses-${process.pid}`, () => {});
  const addresses = new Addresses({ node: "n1", store, ipam, reserve, journal, clock, endFlows: () => {}, report: () => {} });
  const request = { containerId: "c1", network: "net", pod: { kind: "Pod", namespace: "a", name: "b" }, families: [4], requests: NOTHING_ASKED } as const;
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
  const reserve = new AddressReserve({ ipam, node: "n1", inUse: [] });
  const journal = await Journal.open(openFiles(), `/dev/shm/calico-addresses-${process.pid}`, () => {});
  const report = (message: string, fields: Readonly<Record<string, unknown>>): void => void reports.push(`${message}: ${String(fields["error"])}`);
  const addresses = new Addresses({ node: "n1", store: memory, ipam, reserve, journal, clock, endFlows: () => {}, report });
  memory.setFault(() => "unavailable");
  addresses.releaseHandle("c1", "net.c1");
  await clock.advance(60_000);
  memory.setFault(() => "forbidden");
  await clock.advance(60_000);
  expect(reports).toEqual([expect.stringContaining("unavailable"), expect.stringContaining("forbidden")]);
  memory.setFault(undefined);
  await clock.advance(60_000);
  expect(addresses.backlog).toBe(0);
});
