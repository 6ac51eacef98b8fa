import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import type { Store } from "../datastore/store.ts";
import { openClock } from "../host/bun/clock.ts";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { Ipam } from "../ipam/ipam.ts";
import { AddressReserve } from "../ipam/reserve.ts";
import { Addresses } from "./addresses.ts";
import { AddressError } from "./failures.ts";
import { Journal } from "./journal.ts";

test("a failed ADD's handle is released in the container's own queue, for which the next ADD of the container waits", async () => {
  const memory = new MemoryStore();
  const gate = Promise.withResolvers<void>();
  const store: Store = new Proxy<Store>(memory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return async (...args: readonly { kind?: string }[]) => {
        if (name === "get" && args[0]?.kind === "IPAMHandle") await gate.promise;
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
  const clock = openClock();
  const ipam = new Ipam({ store, node: "n1", clock, random: openRandom(), report: () => {} });
  const reserve = new AddressReserve({ ipam, node: "n1", inUse: [] });
  const journal = await Journal.open(openFiles(), `/dev/shm/calico-addresses-${process.pid}`, () => {});
  const addresses = new Addresses({ node: "n1", store, ipam, reserve, journal, clock, endFlows: () => {}, report: () => {} });
  const request = { containerId: "c1", network: "net", pod: { kind: "Pod", namespace: "a", name: "b" }, families: [4], requests: { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined } } as const;
  expect(await addresses.take(request).catch((error: unknown) => error)).toBeInstanceOf(AddressError);
  expect(await addresses.settled("c1", 20)).toBe(false);
  gate.resolve();
  expect(await addresses.settled("c1", 5_000)).toBe(true);
});
