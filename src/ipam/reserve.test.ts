import { expect, test } from "bun:test";
import type { Addr } from "../net/addr.ts";
import { AddressReserve } from "./reserve.ts";
import { Bench, only } from "./test-bench.ts";

async function dual(): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/24", blockSize: 28 });
  await bench.pool("v6", { cidr: "fd00::/120", blockSize: 124 });
  await bench.node("n1");
  return bench;
}

function open(bench: Bench, inUse: readonly Addr[] = []): AddressReserve {
  return new AddressReserve({ ipam: bench.ipam("n1"), node: "n1", inUse });
}

async function held(bench: Bench): Promise<Addr[]> {
  return [...(await bench.holders())].flatMap(([addr, handle]) => (handle === "reserve-n1" ? [addr] : [])).sort();
}

test("keeps eight of each family, recorded before they are offered; take is at once", async () => {
  const bench = await dual();
  const reserve = open(bench);
  expect(reserve.take(4)).toBeUndefined();
  await reserve.refill();
  expect([reserve.count(4), reserve.count(6)]).toEqual([8, 8]);
  const taken = [reserve.take(4), reserve.take(6), reserve.take(4)];
  expect(new Set(taken).size).toBe(3);
  for (const addr of taken) expect(await held(bench)).toContain(addr as Addr);
  await reserve.refill();
  expect([reserve.count(4), reserve.count(6)]).toEqual([8, 8]);
  expect((await held(bench)).length).toBe(19);
});

test("a restart offers what the handle holds, but not what pods use", async () => {
  const bench = await dual();
  const before = open(bench);
  await before.refill();
  const used = [before.take(4), before.take(6)] as Addr[];
  const after = open(bench, used);
  await after.recover();
  const offered = [...Array.from({ length: 8 }, () => after.take(4)), ...Array.from({ length: 8 }, () => after.take(6))].filter((addr) => addr !== undefined);
  expect(offered.length).toBe(14);
  expect(offered.filter((addr) => used.includes(addr))).toEqual([]);
});

test("an address that was given out is not offered again by a recovery, before and after it moved, and is once it was freed and assigned anew", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const reserve = new AddressReserve({ ipam, node: "n1", inUse: [], size: 16 });
  await reserve.refill();
  const addr = reserve.take(6) as Addr;
  await reserve.recover();
  expect(reserve.count(6)).toBe(15);
  await ipam.moveHandle(addr, reserve.handle, "pod", {});
  await reserve.recover();
  expect(reserve.count(6)).toBe(15);
  await ipam.releaseAddresses([addr], ["pod", reserve.handle]);
  await reserve.refill();
  expect(Array.from({ length: 16 }, () => reserve.take(6))).toContain(addr);
});

test("given back, it is offered again", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  const all = Array.from({ length: 8 }, () => reserve.take(4) as Addr);
  reserve.giveBack(all[3] as Addr);
  expect(reserve.take(4)).toBe(all[3] as Addr);
  expect(reserve.take(4)).toBeUndefined();
});

test("after a refill whose answer was lost, nothing is lost and nothing offered twice", async () => {
  const bench = await dual();
  const reserve = open(bench);
  bench.store.setFault((step) => (step.verb === "update" && step.kind === "IPAMBlock" && step.phase === "answer" ? "unavailable" : undefined));
  await expect(reserve.refill()).rejects.toMatchObject({ reason: "unavailable" });
  bench.store.setFault(undefined);
  await reserve.refill();
  const offered = [...Array.from({ length: 9 }, () => reserve.take(4)), ...Array.from({ length: 9 }, () => reserve.take(6))].filter((addr) => addr !== undefined);
  expect(new Set(offered).size).toBe(16);
  expect(await held(bench)).toEqual(offered.sort());
});

test("a small pool is left to others: beyond the first address only the node's own blocks are used", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/29", blockSize: 31 });
  await bench.node("n1");
  const reserve = open(bench);
  await reserve.refill();
  expect([reserve.count(4), reserve.count(6)]).toEqual([2, 0]);
  expect((await bench.names("IPAMBlock")).length).toBe(1);
  reserve.take(4);
  reserve.take(4);
  await reserve.refill();
  expect(reserve.count(4)).toBe(2);
});

test("addresses of a pool that no longer serves the node are freed", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  await bench.changePool("v4", { disabled: true });
  await reserve.refill();
  expect([reserve.count(4), reserve.count(6)]).toEqual([0, 8]);
  expect(only(await held(bench), 4)).toEqual([]);
});

test("no pool, or none left: said; and better later", async () => {
  const bench = new Bench();
  await bench.node("n1");
  const reserve = open(bench);
  await expect(reserve.refill()).rejects.toThrow('no valid, enabled IPPool selects node "n1"');
  await bench.pool("v6", { cidr: "fd00::/127", blockSize: 127 });
  await reserve.refill();
  expect([reserve.take(6), reserve.take(6)].sort()).toEqual(["fd00::", "fd00::1"] as Addr[]);
  await expect(reserve.refill()).rejects.toThrow("every address is taken");
});
