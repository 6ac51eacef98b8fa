/** Addresses that move from one handle to others. */
import { expect, test } from "bun:test";
import { type Addr, familyOf, parseAddr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import type { Ipam } from "./ipam.ts";
import { dual, only, reasonOf } from "./test-bench.ts";

const POD = { pod: "web", namespace: "default", node: "n1" };

function addr(text: string): Addr {
  return unwrap(parseAddr(text));
}

test("moving an address: one write, the allocation stays, repeating is not an error, a third holder is refused", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  for (const family of [4, 6] as const) {
    const { ipv4, ipv6 } = await ipam.assign({
      ipv4: family === 4 ? 2 : 0,
      ipv6: family === 6 ? 2 : 0,
      handle: "reserve",
      attributes: { node: "n1" },
    });
    const [moved, kept] = [...ipv4, ...ipv6] as [Addr, Addr];
    const sequence = (await bench.store.list("IPAMBlock")).items[family === 4 ? 0 : 1]?.spec
      .sequenceNumberForAllocation;
    for (let i = 0; i < 2; i++)
      expect(
        (await ipam.moveHandles("reserve", [{ addr: moved, to: `pod${family}`, attributes: POD }])).refused.size,
      ).toBe(0);
    const holders = await bench.holders();
    expect([holders.get(moved), holders.get(kept)]).toEqual([`pod${family}`, "reserve"]);
    const block = (await bench.store.list("IPAMBlock")).items[family === 4 ? 0 : 1];
    expect(block?.spec.sequenceNumberForAllocation).toEqual(sequence ?? {});
    expect(block?.spec.attributes.map(({ handle_id }) => handle_id).sort()).toEqual([`pod${family}`, "reserve"]);
    const { refused } = await ipam.moveHandles("reserve", [{ addr: moved, to: "third", attributes: POD }]);
    expect(await reasonOf(Promise.reject(refused.get(moved)))).toContain(
      `in-use: Cannot move ${moved} from handle "reserve" to "third": handle "pod${family}" holds it`,
    );
  }
  expect(
    Object.fromEntries(
      (await bench.store.list("IPAMHandle")).items.map(({ spec }) => [spec.handleID, Object.values(spec.block)]),
    ),
  ).toEqual({ reserve: [1, 1], pod4: [1], pod6: [1] });
  await ipam.releaseByHandle("pod4");
  await ipam.releaseByHandle("pod6");
  expect([...(await bench.holders()).values()]).toEqual(["reserve", "reserve"]);
});

test("many moves are one write per block and one per new handle; moved addresses are replaced in the same writes", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 4, ipv6: 4, handle: "reserve", attributes: { node: "n1" } });
  const pools = ipam.usablePools(await ipam.readView());
  const asked: string[] = [];
  bench.store.setFault(({ verb, kind, phase }) => void (phase === "request" && asked.push(`${verb} ${kind}`)));
  const moves = ["a", "b", "c"].flatMap((to, i) =>
    [ipv4[i], ipv6[i]].map((each) => ({ addr: each as Addr, to, attributes: POD })),
  );
  const { replaced } = await ipam.moveHandles("reserve", moves, {
    most: new Map([
      [4, 2],
      [6, 8],
    ]),
    pools,
    reserved: [],
    attributes: { node: "n1" },
  });
  bench.store.setFault(undefined);
  expect(asked.toSorted()).toEqual([
    "create IPAMHandle",
    "create IPAMHandle",
    "create IPAMHandle",
    "get IPAMBlock",
    "get IPAMBlock",
    "get IPAMHandle",
    "get IPAMHandle",
    "update IPAMBlock",
    "update IPAMBlock",
    "update IPAMHandle",
    "update IPAMHandle",
  ]);
  expect([only(replaced, 4).length, only(replaced, 6).length]).toEqual([2, 8]);
  const holders = await bench.holders();
  for (const { addr: each, to } of moves) expect(holders.get(each)).toBe(to);
  for (const each of replaced) expect(holders.get(each)).toBe("reserve");
  expect(
    Object.fromEntries(
      (await bench.store.list("IPAMHandle")).items.map(({ spec }) => [spec.handleID, Object.values(spec.block)]),
    ),
  ).toEqual({ reserve: [3, 9], a: [1, 1], b: [1, 1], c: [1, 1] });
});

test("moving a free address takes it, also without a handle; moving one of a deleted block is refused", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 1, ipv6: 1, handle: "reserve", attributes: {} });
  const moves = [...ipv4, ...ipv6].map((each) => ({ addr: each, to: "pod", attributes: POD }));
  await ipam.releaseByHandle("reserve");
  expect((await ipam.moveHandles("reserve", moves)).refused.size).toBe(0);
  expect([...(await bench.holders()).values()]).toEqual(["pod", "pod"]);
  await ipam.releaseByHandle("pod");
  for (const name of await bench.names("IPAMBlock"))
    await bench.store.delete({ kind: "IPAMBlock", namespace: undefined, name });
  const { refused } = await ipam.moveHandles("reserve", moves);
  expect([...refused.values()].map(({ reason }) => reason)).toEqual(["not-held", "not-held"]);
});

test("moves to a handle with addresses elsewhere, and with a concurrent writer, count every block", async () => {
  const bench = await dual();
  const [ipam, other] = [bench.ipam("n1"), bench.ipam("n1")];
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 2, ipv6: 2, handle: "reserve", attributes: {} });
  await ipam.assignAddress(addr("10.0.77.5"), "pod", POD);
  await ipam.assignAddress(addr("fd00:1::77:5"), "pod", POD);
  const moves = (i: number, to: string) =>
    [ipv4[i], ipv6[i]].map((each) => ({ addr: each as Addr, to, attributes: POD }));
  await bench.clock.until(
    Promise.all([ipam.moveHandles("reserve", moves(0, "pod")), other.moveHandles("reserve", moves(1, "new"))]),
  );
  expect(
    Object.fromEntries(
      (await bench.store.list("IPAMHandle")).items.map(({ spec }) => [spec.handleID, Object.values(spec.block)]),
    ),
  ).toEqual({ pod: [1, 1, 1, 1], new: [1, 1] });
  await ipam.releaseByHandle("pod", "new");
  expect((await bench.holders()).size).toBe(0);
});

test("replacements come from blocks of the node and of pools that serve it alone", async () => {
  const bench = await dual();
  const [n1, n2] = [bench.ipam("n1"), bench.ipam("n2")];
  const pools = n1.usablePools(await n1.readView());
  const replaced = async (by: Ipam, families: readonly number[]): Promise<readonly Addr[]> => {
    const { ipv4, ipv6 } = await n2.assign({ ipv4: 1, ipv6: 1, handle: "reserve", attributes: {} });
    const moves = [...ipv4, ...ipv6].map((each) => ({ addr: each, to: "pod", attributes: POD }));
    const moved = await by.moveHandles("reserve", moves, {
      most: new Map([
        [4, 8],
        [6, 8],
      ]),
      pools: pools.filter(({ family }) => families.includes(family)),
      reserved: [],
      attributes: {},
    });
    expect(moved.refused.size).toBe(0);
    return moved.replaced;
  };
  expect(await replaced(n1, [4, 6])).toEqual([]);
  for (const family of [4, 6] as const)
    expect((await replaced(n2, [family])).map(familyOf)).toEqual(Array(8).fill(family));
});
