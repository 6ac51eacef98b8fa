import { expect, test } from "bun:test";
import { rowsFor } from "../model/convert/rows.ts";
import { reserveHandle } from "../model/kinds/reserved.ts";
import { keyOf } from "../model/resource.ts";
import type { Ipam } from "./ipam.ts";
import { PoolLevels } from "./levels.ts";
import { Bench } from "./test-bench.ts";

const ORIGIN = { revision: "", generation: undefined, seenAt: 0 };

/** The blocks as a watch of node n1 has brought them by now. */
async function watched(bench: Bench): Promise<PoolLevels> {
  const levels = new PoolLevels("n1");
  levels.observe(
    (await bench.store.list("IPAMBlock")).items.map((value) =>
      rowsFor("n1")({ kind: "IPAMBlock", key: keyOf("IPAMBlock", value), value, origin: ORIGIN }),
    ),
  );
  return levels;
}

/** How often all blocks are read in the body. */
async function listsIn(bench: Bench, body: () => Promise<unknown>): Promise<number> {
  let lists = 0;
  bench.store.setFault(({ verb, kind, phase }) => {
    if (verb === "list" && kind === "IPAMBlock" && phase === "request") lists++;
    return undefined;
  });
  await body();
  bench.store.setFault(undefined);
  return lists;
}

const POOLS = [
  ["p4", "10.0.0.0/24"],
  ["p6", "fd00::/118"],
] as const;

async function benchWithPools(): Promise<Bench> {
  const bench = new Bench();
  for (const [name, cidr] of POOLS) await bench.pool(name, { cidr });
  return bench;
}

function assignOne(ipam: Ipam, handle: string, node = "n1"): Promise<unknown> {
  return ipam.assign({ ipv4: 1, ipv6: 1, handle, attributes: { node } });
}

test("a node that watches the blocks claims one without reading them all: the same one that it would claim otherwise", async () => {
  const [asking, watching] = [await benchWithPools(), await benchWithPools()];
  for (const bench of [asking, watching])
    for (const node of ["n2", "n3"]) await assignOne(bench.ipam(node), `h-${node}`, node);
  expect(await listsIn(asking, () => assignOne(asking.ipam("n1"), "h"))).toBe(2);
  const levels = await watched(watching);
  const ipam = watching.ipam("n1", { knownBlocks: () => levels.blocks() });
  expect(await listsIn(watching, () => assignOne(ipam, "h"))).toBe(0);
  expect(await watching.affinities()).toEqual(await asking.affinities());
});

test("its own full block is not read again", async () => {
  const bench = await benchWithPools();
  await bench.ipam("n1").assign({ ipv4: 64, ipv6: 64, handle: "h", attributes: { node: "n1" } });
  const levels = await watched(bench);
  const ipam = bench.ipam("n1", { knownBlocks: () => levels.blocks() });
  expect(await listsIn(bench, () => assignOne(ipam, "h"))).toBe(0);
  expect((await bench.affinities()).length).toBe(4);
});

test("with an outdated watch the write fails, and the datastore is read", async () => {
  const [alone, bench] = [await benchWithPools(), await benchWithPools()];
  const first = await alone.ipam("n1").assign({ ipv4: 1, ipv6: 1, handle: "h", attributes: { node: "n1" } });
  const levels = await watched(bench);
  // The blocks that it would take are another node's since.
  for (const addr of [...first.ipv4, ...first.ipv6])
    await bench.ipam("n2").assignAddress(addr, "other", { node: "n2" });
  const ipam = bench.ipam("n1", { knownBlocks: () => levels.blocks() });
  expect(await listsIn(bench, () => assignOne(ipam, "h"))).toBe(2);
  expect([...(await bench.holders()).values()].sort()).toEqual(["h", "h", "other", "other"]);
  expect((await bench.affinities()).map((text) => text.replace(/ .* /, " ")).sort()).toEqual([
    "n1 confirmed",
    "n1 confirmed",
    "n2 confirmed",
    "n2 confirmed",
  ]);
});

test("a pool that the watch shows as full is read from the datastore before assignment fails", async () => {
  const bench = new Bench();
  await bench.pool("p", { cidr: "10.0.0.0/31", blockSize: 31 });
  await bench.ipam("n2").assign({ ipv4: 2, ipv6: 0, handle: "h-n2", attributes: { node: "n2" } });
  const levels = await watched(bench);
  const ipam = bench.ipam("n1", { knownBlocks: () => levels.blocks() });
  const assign = (): Promise<unknown> => ipam.assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: { node: "n1" } });
  expect(await assign().catch((error: unknown) => error)).toMatchObject({ reason: "exhausted" });
  await bench.ipam("n2").releaseByHandle("h-n2");
  expect(await assign()).toMatchObject({ ipv4: ["10.0.0.0"] });
});

test("the addresses of a node's reserve are found in the known blocks, without reading all", async () => {
  const bench = await benchWithPools();
  await bench.ipam("n1").assign({ ipv4: 2, ipv6: 2, handle: reserveHandle("n1"), attributes: { node: "n1" } });
  await bench.ipam("n2").assign({ ipv4: 2, ipv6: 2, handle: reserveHandle("n2"), attributes: { node: "n2" } });
  const levels = await watched(bench);
  // A daemon that was started anew.
  const ipam = bench.ipam("n1", { knownBlocks: () => levels.blocks() });
  expect(await listsIn(bench, () => ipam.releaseByHandle(reserveHandle("n1")))).toBe(0);
  expect([...(await bench.holders()).values()]).toEqual(Array.from({ length: 4 }, () => reserveHandle("n2")));
  // It knows what its own node has, and of others nothing.
  expect(await listsIn(bench, () => ipam.releaseByHandle(reserveHandle("n2")))).toBe(1);
  expect((await bench.holders()).size).toBe(0);
});
