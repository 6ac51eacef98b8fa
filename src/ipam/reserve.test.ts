import { expect, test } from "bun:test";
import type { Addr } from "../net/addr.ts";
import { AddressReserve } from "./reserve.ts";
import { Bench, only } from "./test-bench.ts";

async function dual(): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/24", blockSize: 28 });
  await bench.pool("v6", { cidr: "fd00::/120", blockSize: 124 });
  await bench.node("n1");
  // The reserve takes only from blocks in which a pod has an address.
  await bench.ipam("n1").assign({ ipv4: 1, ipv6: 1, handle: "seed", attributes: { node: "n1" } });
  return bench;
}

function open(bench: Bench, inUse: readonly Addr[] = []): AddressReserve {
  return new AddressReserve({
    ipam: bench.ipam("n1"),
    node: "n1",
    clock: bench.clock,
    inUse: new Map(inUse.map((addr) => [addr, "pod"] as const)),
  });
}

async function held(bench: Bench): Promise<Addr[]> {
  return [...(await bench.holders())].flatMap(([addr, handle]) => (handle === "reserve:n1" ? [addr] : [])).sort();
}

/** A write of unknown outcome, after which the reserve reads the blocks before its next work. */
async function rereads(bench: Bench, reserve: AddressReserve): Promise<void> {
  bench.store.setFault(() => "unavailable");
  await expect(reserve.refill()).rejects.toMatchObject({ reason: "unavailable" });
  bench.store.setFault(undefined);
  await reserve.release({ handle: "nobody", addresses: [] });
}

test("keeps eight of each family, recorded before they are offered; take is synchronous", async () => {
  const bench = await dual();
  const reserve = open(bench);
  expect(reserve.take(4, "pod")).toBeUndefined();
  await reserve.refill();
  expect([reserve.count(4), reserve.count(6)]).toEqual([8, 8]);
  const taken = [reserve.take(4, "pod"), reserve.take(6, "pod"), reserve.take(4, "pod")];
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
  const used = [before.take(4, "pod"), before.take(6, "pod")] as Addr[];
  const after = open(bench, used);
  await after.refill();
  const offered = [
    ...Array.from({ length: 9 }, () => after.take(4, "pod")),
    ...Array.from({ length: 9 }, () => after.take(6, "pod")),
  ].filter((addr) => addr !== undefined);
  expect(offered.length).toBe(16);
  expect(offered.filter((addr) => used.includes(addr))).toEqual([]);
});

test("a recovery does not offer a taken address, before or after its move, until it was freed and assigned again", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const reserve = new AddressReserve({ ipam, node: "n1", clock: bench.clock, inUse: new Map(), size: 15 });
  await reserve.refill();
  const addr = reserve.take(6, "pod") as Addr;
  await rereads(bench, reserve);
  expect(reserve.count(6)).toBe(14);
  await ipam.moveHandles(reserve.handle, [{ addr, to: "pod", attributes: {} }]);
  await rereads(bench, reserve);
  expect(reserve.count(6)).toBe(14);
  await ipam.releaseAddresses([addr], ["pod", reserve.handle]);
  await reserve.refill();
  expect(Array.from({ length: 15 }, () => reserve.take(6, "pod"))).toContain(addr);
});

test("recording owners replaces what they took, in one batch; releasing frees it, recorded or not", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  const owner = (handle: string) => ({
    handle,
    addresses: [reserve.take(4, handle), reserve.take(6, handle)] as Addr[],
    attributes: { pod: handle },
  });
  let requests = 0;
  bench.store.setFault(({ phase }) => void (phase === "request" && requests++));
  const first = owner("first");
  await reserve.record(first);
  // Its handle, and a read and a write of each of both blocks.
  expect(requests).toBe(5);
  await reserve.release(first);
  // A read of the handle, and its deletion.
  expect(requests).toBe(5 + 6);
  const owners = ["a", "b", "c", "d"].map(owner);
  await Promise.all(owners.slice(0, 3).map((each) => reserve.record(each)));
  // Three handles, and the blocks: the reserve has no handle to count up.
  expect(requests).toBe(11 + 3 + 4);
  // The address that was never recorded was replaced as well.
  expect([reserve.count(4), reserve.count(6), reserve.isLow]).toEqual([8, 8, false]);
  const holders = await bench.holders();
  for (const { handle, addresses } of owners)
    for (const addr of addresses) expect(holders.get(addr)).toBe(handle === "d" ? "reserve:n1" : handle);
  await Promise.all(owners.map((each) => reserve.release(each)));
  expect([...new Set((await bench.holders()).values())].sort()).toEqual(["reserve:n1", "seed"]);
  expect((await held(bench)).length).toBe(16);
  expect(await bench.names("IPAMHandle")).toEqual(["seed"]);
});

test("an address of a third holder fails only the owner that wants it", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  const { ipv4 } = await bench.ipam("n1").assign({ ipv4: 1, ipv6: 0, handle: "third", attributes: {} });
  const records = [
    reserve.record({ handle: "bad", addresses: ipv4, attributes: {} }),
    reserve.record({ handle: "good", addresses: [reserve.take(6, "pod") as Addr], attributes: {} }),
  ];
  expect(
    (await Promise.allSettled(records)).map((result) =>
      result.status === "rejected" ? String(result.reason) : result.status,
    ),
  ).toEqual([expect.stringContaining('handle "third" holds it'), "fulfilled"]);
});

test("an address that a pod had before a crash, and the reserve has taken since, is not freed by the pod's release", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/30", blockSize: 30 });
  await bench.pool("v6", { cidr: "fd00::/126", blockSize: 126 });
  await bench.node("n1");
  const before = new AddressReserve({
    ipam: bench.ipam("n1"),
    node: "n1",
    clock: bench.clock,
    inUse: new Map(),
    size: 4,
  });
  const pod = {
    handle: "pod",
    addresses: [await before.takeFound(4, "pod"), await before.takeFound(6, "pod")] as Addr[],
    attributes: {},
  };
  await before.record(pod);
  await before.release(pod);
  // The journal still has the pod's addresses: the process died before it was updated.
  const after = new AddressReserve({
    ipam: bench.ipam("n1"),
    node: "n1",
    clock: bench.clock,
    inUse: new Map(pod.addresses.map((addr) => [addr, pod.handle] as const)),
    size: 4,
  });
  await after.refill();
  await after.release(pod);
  expect((await held(bench)).length).toBe(6);
  expect([after.count(4), after.count(6)]).toEqual([3, 3]);
});

test("an address is not freed by a second release after another pod took it", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.7/32", blockSize: 32 });
  await bench.node("n1");
  const reserve = open(bench);
  const first = { handle: "first", addresses: [(await reserve.takeFound(4, "first")) as Addr] };
  await reserve.release(first);
  const second = await reserve.takeFound(4, "second");
  expect([second]).toEqual(first.addresses);
  await reserve.release(first);
  expect(await held(bench)).toEqual(first.addresses);
  await reserve.release({ ...first, handle: "second" });
  expect(await held(bench)).toEqual([]);
});

test("a block of a deleted pool is released after its last pod, not together with it", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  const pod = { handle: "pod", addresses: [reserve.take(4, "pod"), reserve.take(6, "pod")] as Addr[], attributes: {} };
  await reserve.record(pod);
  await bench.ipam("n1").releaseByHandle("seed");
  await bench.pool("next", { cidr: "10.9.0.0/24", blockSize: 28 });
  for (const name of ["v4", "v6"]) await bench.store.delete({ kind: "IPPool", namespace: undefined, name });
  await reserve.refill();
  expect(await bench.affinities()).toHaveLength(2);
  await reserve.release(pod);
  expect(await bench.affinities()).toHaveLength(2);
  await reserve.tidy();
  expect(await bench.affinities()).toEqual([]);
  let requests = 0;
  bench.store.setFault(() => void requests++);
  await reserve.tidy();
  expect(requests).toBe(0);
});

test("a failed refill is retried", async () => {
  const bench = await dual();
  const reserve = open(bench);
  let requests = 0;
  bench.store.setFault(() => {
    requests++;
    return "unavailable";
  });
  // However many callers retry, ten seconds see no more requests than a single caller would make.
  for (let i = 0; i < 1_000; i++) {
    await expect(
      i % 2 === 0 ? reserve.tidy() : reserve.release({ handle: `c${i}`, addresses: [] }),
    ).rejects.toMatchObject({ reason: "unavailable" });
    await bench.clock.advance(10);
  }
  expect(requests).toBe(7);
  bench.store.setFault(undefined);
  await bench.clock.advance(5_000);
  await reserve.tidy();
  expect([reserve.count(4), reserve.count(6), reserve.isLow]).toEqual([8, 8, false]);
});

test("hundreds of concurrent pods leave nothing behind", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/16", blockSize: 26 });
  await bench.pool("v6", { cidr: "fd00::/112", blockSize: 122 });
  await bench.node("n1");
  const reserve = open(bench);
  const pods = await Promise.all(
    Array.from({ length: 600 }, async (_, i) => ({
      handle: `pod-${i}`,
      addresses: [await reserve.takeFound(4, "pod"), await reserve.takeFound(6, "pod")].filter(
        (addr) => addr !== undefined,
      ),
      attributes: {},
    })),
  );
  expect(new Set(pods.flatMap(({ addresses }) => addresses)).size).toBe(1200);
  let most = 0;
  let under = 0;
  bench.store.setFault(async ({ phase }) => {
    under += phase === "request" ? 1 : -1;
    most = Math.max(most, under);
    await Promise.resolve();
    return undefined;
  });
  await Promise.all(pods.map((pod) => reserve.record(pod)));
  const holders = await bench.holders();
  for (const { handle, addresses } of pods) for (const addr of addresses) expect(holders.get(addr)).toBe(handle);
  await Promise.all(pods.map((pod) => reserve.release(pod)));
  expect(most).toBeLessThanOrEqual(60);
  expect([...new Set((await bench.holders()).values())]).toEqual([reserve.handle]);
  expect(await bench.names("IPAMHandle")).toEqual([]);
});

test("an empty block is released when its pool is deleted", async () => {
  const bench = await dual();
  await bench.pool("w4", { cidr: "10.9.0.0/24", blockSize: 28 });
  await bench.pool("w6", { cidr: "fd09::/120", blockSize: 124 });
  const reserve = open(bench);
  await reserve.refill();
  const ipam = bench.ipam("n1");
  await ipam.assign({ ipv4: 1, ipv6: 1, handle: "pod", attributes: {}, pools: { ipv4: ["w4"], ipv6: ["w6"] } });
  await ipam.releaseByHandle("pod");
  expect(await bench.affinities()).toHaveLength(4);
  for (const name of ["w4", "w6"]) await bench.store.delete({ kind: "IPPool", namespace: undefined, name });
  await reserve.refill();
  expect(await bench.affinities()).toHaveLength(2);
});

test("an address is fetched for every waiting pod, of the family that has some", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/24", blockSize: 28 });
  await bench.pool("v6", { cidr: "fd00::/128", blockSize: 128 });
  await bench.node("n1");
  const reserve = open(bench);
  const fetched = await Promise.all([4, 6, 4, 6, 4].map((family) => reserve.takeFound(family as 4 | 6, "pod")));
  expect(fetched.map((addr) => addr?.includes(":"))).toEqual([false, true, false, undefined, false]);
  expect(new Set(fetched.slice(0, 3)).size).toBe(3);
  expect([reserve.count(4), reserve.count(6)]).toEqual([8, 0]);
  expect([await reserve.takeFound(6, "pod"), (await reserve.takeFound(4, "pod"))?.startsWith("10.0.0.")]).toEqual([
    undefined,
    true,
  ]);
});

test("a returned address is offered again", async () => {
  const bench = await dual();
  const reserve = open(bench);
  await reserve.refill();
  const all = Array.from({ length: 8 }, () => reserve.take(4, "pod") as Addr);
  reserve.giveBack(all[3] as Addr);
  expect(reserve.take(4, "pod")).toBe(all[3] as Addr);
  expect(reserve.take(4, "pod")).toBeUndefined();
});

test("after a refill with a lost answer, no address is lost or offered twice", async () => {
  const bench = await dual();
  const reserve = open(bench);
  bench.store.setFault((step) =>
    step.verb === "update" && step.kind === "IPAMBlock" && step.phase === "answer" ? "unavailable" : undefined,
  );
  await expect(reserve.refill()).rejects.toMatchObject({ reason: "unavailable" });
  bench.store.setFault(undefined);
  await reserve.refill();
  const offered = [
    ...Array.from({ length: 9 }, () => reserve.take(4, "pod")),
    ...Array.from({ length: 9 }, () => reserve.take(6, "pod")),
  ].filter((addr) => addr !== undefined);
  expect(new Set(offered).size).toBe(16);
  expect(await held(bench)).toEqual(offered.sort());
});

test("no block is claimed for the reserve alone", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/29", blockSize: 31 });
  await bench.node("n1");
  const reserve = open(bench);
  await reserve.refill();
  // No block is claimed for the reserve alone, neither at first nor when one is exactly full.
  expect(await bench.affinities()).toEqual([]);
  const addresses = [await reserve.takeFound(4, "pod"), reserve.take(4, "pod")] as Addr[];
  await reserve.record({ handle: "pods", addresses, attributes: {} });
  await reserve.refill();
  expect([(await bench.affinities()).length, reserve.count(4), reserve.isLow]).toEqual([1, 0, false]);
  await reserve.takeFound(4, "pod");
  expect([(await bench.affinities()).length, reserve.count(4)]).toEqual([2, 1]);
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

test("no pool, or none left: an error, and recovery later", async () => {
  const bench = new Bench();
  await bench.node("n1");
  const reserve = open(bench);
  await expect(reserve.refill()).rejects.toThrow('no valid, enabled IPPool selects node "n1"');
  await bench.pool("v6", { cidr: "fd00::/127", blockSize: 127 });
  expect([await reserve.takeFound(6, "pod"), reserve.take(6, "pod")].sort()).toEqual(["fd00::", "fd00::1"] as Addr[]);
  await reserve.refill();
  expect(await reserve.takeFound(6, "pod")).toBeUndefined();
});
