import { expect, test } from "bun:test";
import type { Addr } from "../net/addr.ts";
import { IpamError } from "./errors.ts";
import { StoreError } from "../datastore/store.ts";
import { Bench } from "./test-bench.ts";
import { chance } from "../lib/chance.ts";

/** Several nodes at once, with delays and lost requests and answers: no address is ever held twice, and all are free in the end. */
test.each([
  { seed: 1, faults: false, operations: 400 },
  { seed: 2, faults: false, operations: 400 },
  { seed: 3, faults: true, operations: 250 },
  { seed: 4, faults: true, operations: 250 },
])(
  "five nodes, %p",
  async ({ seed, faults, operations }) => {
    const bench = new Bench(seed);
    await bench.pool("v4", { cidr: "10.0.0.0/25", blockSize: 29 });
    await bench.pool("v6", { cidr: "fd00::/121", blockSize: 125 });
    const dice = chance(seed + 1000);
    bench.store.setFault(async () => {
      for (let turns = Math.floor(dice() * 4); turns > 0; turns--) await Promise.resolve();
      return faults && dice() < 0.01 ? "unavailable" : undefined;
    });
    const owner = new Map<Addr, string>();
    let assigned = 0;
    const node = async (name: string): Promise<void> => {
      const ipam = bench.ipam(name);
      const live: string[] = [];
      const release = async (handle: string): Promise<void> => {
        // From here on the addresses may be given to others.
        for (const [addr, holder] of owner) if (holder === handle) owner.delete(addr);
        for (;;) {
          try {
            return await ipam.releaseByHandle(handle);
          } catch (error) {
            if (!(error instanceof StoreError) || error.reason !== "unavailable") throw error;
          }
        }
      };
      for (let i = 0; i < operations; i++) {
        if (dice() < 0.45 && live.length > 0) {
          const [handle] = live.splice(Math.floor(dice() * live.length), 1);
          if (handle !== undefined) await release(handle);
          continue;
        }
        const handle = `${name}-${i}`;
        try {
          const { ipv4, ipv6 } = await ipam.assign({
            ipv4: Math.floor(dice() * 3),
            ipv6: Math.floor(dice() * 3),
            handle,
            attributes: { node: name },
          });
          for (const addr of [...ipv4, ...ipv6]) {
            if (owner.has(addr)) throw new Error(`${addr} given to ${handle} while ${owner.get(addr)} has it`);
            owner.set(addr, handle);
            assigned++;
          }
          live.push(handle);
        } catch (error) {
          if (error instanceof IpamError || (error instanceof StoreError && error.reason === "unavailable"))
            await release(handle);
          else throw error;
        }
      }
      for (const handle of live) await release(handle);
    };
    await bench.clock.until(Promise.all(["n1", "n2", "n3", "n4", "n5"].map(node)));
    bench.store.setFault(undefined);
    expect(assigned).toBeGreaterThan(operations);
    expect([...(await bench.holders())]).toEqual([]);
    expect(await bench.names("IPAMHandle")).toEqual([]);
    const blocks = (await bench.store.list("IPAMBlock")).items;
    const affinities = (await bench.store.list("BlockAffinity")).items;
    const owned = new Set(blocks.map(({ spec }) => `${spec.affinity} ${spec.cidr}`));
    const confirmed = affinities
      .filter(({ spec }) => spec.state === "confirmed")
      .map(({ spec }) => `host:${spec.node} ${spec.cidr}`);
    for (const text of confirmed) expect(owned).toContain(text);
    if (!faults) expect(new Set(confirmed)).toEqual(owned);
  },
  60_000,
);
