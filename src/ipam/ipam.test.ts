import { expect, test } from "bun:test";
import { type Addr, familyOf, parseAddr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import { IpamError } from "./errors.ts";
import type { Ipam } from "./ipam.ts";
import { Bench, only } from "./test-bench.ts";

const POD = { pod: "web", namespace: "default", node: "n1" };

function addr(text: string): Addr {
  return unwrap(parseAddr(text));
}

async function dual(): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/16" });
  await bench.pool("v6", { cidr: "fd00:1::/48" });
  await bench.node("n1", { zone: "a" });
  await bench.node("n2", { zone: "b" });
  return bench;
}

async function reasonOf(operation: Promise<unknown>): Promise<string> {
  const error = await operation.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof IpamError)) throw error ?? new Error("it succeeded");
  return `${error.reason}: ${error.message}`;
}

test("the first address of each family: affinity, block and handle of upstream's shape", async () => {
  const bench = await dual();
  const { ipv4, ipv6 } = await bench
    .ipam("n1")
    .assign({ ipv4: 1, ipv6: 1, handle: "k8s-pod-network.ABC", attributes: POD });
  const [block4, block6] = (await bench.store.list("IPAMBlock")).items;
  expect(block4?.spec.cidr).toMatch(/^10\.0\.\d+\.\d+\/26$/);
  expect(block4?.metadata.name).toBe(String(block4?.spec.cidr).replace(/[./]/g, "-"));
  expect(block6?.spec.cidr).toMatch(/^fd00:1:.*\/122$/);
  expect(ipv4).toEqual([addr(String(block4?.spec.cidr).replace("/26", ""))]);
  expect(ipv6).toEqual([addr(String(block6?.spec.cidr).replace("/122", ""))]);
  expect(block4?.spec).toMatchObject({
    affinity: "host:n1",
    affinityClaimTime: "2025-01-01T00:00:00Z",
    attributes: [{ handle_id: "k8s-pod-network.ABC", secondary: POD }],
    deleted: false,
  });
  expect(block4?.spec.allocations).toEqual([0, ...Array<null>(63).fill(null)]);
  expect(block4?.spec.unallocated).toEqual(Array.from({ length: 63 }, (_, i) => i + 1));
  const start = bench.clock.wallMs() * 1000;
  expect([block4?.spec.sequenceNumber, block4?.spec.sequenceNumberForAllocation]).toEqual([start + 1, { "0": start }]);
  const affinities = (await bench.store.list("BlockAffinity")).items;
  expect(affinities.map(({ metadata }) => metadata.name).sort()).toEqual(
    [`n1-${block4?.metadata.name}`, `n1-${block6?.metadata.name}`].sort(),
  );
  expect(affinities.map(({ spec }) => spec.state)).toEqual(["confirmed", "confirmed"]);
  const labels = affinities.find(({ spec }) => spec.cidr === block4?.spec.cidr)?.metadata.labels;
  expect(labels).toEqual({
    "projectcalico.org/hostname-hash": expect.stringMatching(/^[A-Z2-7]{52}$/),
    "projectcalico.org/affinity-type": "host",
    "projectcalico.org/ip-version": "4",
  });
  const [handle] = (await bench.store.list("IPAMHandle")).items;
  expect(handle?.metadata.name).toBe("k8s-pod-network.abc");
  expect(handle?.spec).toEqual({
    handleID: "k8s-pod-network.ABC",
    block: { [String(block4?.spec.cidr)]: 1, [String(block6?.spec.cidr)]: 1 },
    deleted: false,
  });
});

test("a node fills its block before it claims the next; freed addresses are reused last", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/16", blockSize: 29 });
  const ipam = bench.ipam("n1");
  const first = (await ipam.assign({ ipv4: 8, ipv6: 0, handle: "a", attributes: POD })).ipv4;
  expect((await bench.names("IPAMBlock")).length).toBe(1);
  await ipam.releaseAddresses(first.slice(2, 3), ["a"]);
  await ipam.releaseAddresses(first.slice(0, 1), ["a"]);
  const again = (await ipam.assign({ ipv4: 3, ipv6: 0, handle: "b", attributes: POD })).ipv4;
  expect(again.slice(0, 2)).toEqual([first[2], first[0]] as Addr[]);
  expect((await bench.names("IPAMBlock")).length).toBe(2);
});

test("different nodes start in different blocks, one node always in the same block", async () => {
  const bench = await dual();
  const [a] = (await bench.ipam("n1").assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD })).ipv4;
  const [b] = (await bench.ipam("n2").assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD })).ipv4;
  const other = new Bench(99);
  await other.pool("v4", { cidr: "10.0.0.0/16" });
  const [c] = (await other.ipam("n1").assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD })).ipv4;
  expect(a).not.toBe(b);
  expect(a).toBe(c);
});

test("release by handle frees all families and removes the handle; repeating it, or an unknown handle, is not an error", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  await ipam.assign({ ipv4: 3, ipv6: 2, handle: "a", attributes: POD });
  await ipam.assign({ ipv4: 1, ipv6: 1, handle: "b", attributes: POD });
  await ipam.releaseByHandle("a");
  await ipam.releaseByHandle("a");
  await ipam.releaseByHandle("never seen");
  expect([...(await bench.holders()).values()]).toEqual(["b", "b"]);
  expect(await bench.names("IPAMHandle")).toEqual(["b"]);
  expect((await bench.store.list("IPAMBlock")).items.map(({ spec }) => spec.attributes.length)).toEqual([1, 1]);
});

test("release by address frees only what one of the handles holds", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 2, ipv6: 1, handle: "a", attributes: POD });
  await ipam.releaseAddresses([...ipv4, ...ipv6], ["b"]);
  expect((await bench.holders()).size).toBe(3);
  await ipam.releaseAddresses([ipv4[0], ipv6[0]] as Addr[], ["b", "a"]);
  expect([...(await bench.holders()).keys()]).toEqual([ipv4[1] as Addr]);
  await ipam.releaseAddresses([...ipv4, ...ipv6], ["a"]);
  await ipam.releaseAddresses([...ipv4, ...ipv6], ["a"]);
  expect((await bench.holders()).size).toBe(0);
  expect(await bench.names("IPAMHandle")).toEqual([]);
});

test("a release whose answer was lost does not free the address again from a later holder", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/30", blockSize: 32 });
  const ipam = bench.ipam("n1");
  const { ipv4 } = await ipam.assign({ ipv4: 4, ipv6: 0, handle: "pod", attributes: POD });
  bench.store.setFault((step) =>
    step.verb === "update" && step.kind === "IPAMBlock" && step.phase === "answer" ? "unavailable" : undefined,
  );
  await expect(ipam.releaseAddresses(ipv4.slice(0, 1), ["pod", "reserve"])).rejects.toMatchObject({
    reason: "unavailable",
  });
  bench.store.setFault(undefined);
  expect((await ipam.assign({ ipv4: 1, ipv6: 0, handle: "reserve", attributes: {} })).ipv4).toEqual(ipv4.slice(0, 1));
  await ipam.releaseAddresses(ipv4.slice(0, 1), ["pod", "reserve"]);
  expect((await bench.holders()).get(ipv4[0] as Addr)).toBe("reserve");
  await ipam.releaseAddresses(ipv4.slice(0, 1), ["pod", "reserve"]);
  expect((await bench.holders()).get(ipv4[0] as Addr)).toBeUndefined();
});

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

test("a fixed address: assigned, kept by its handle, refused to others, never from a disabled pool", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  for (const text of ["10.0.77.5", "fd00:1::77:5"]) {
    await ipam.assignAddress(addr(text), "a", POD);
    await ipam.assignAddress(addr(text), "a", POD);
    expect((await bench.holders()).get(addr(text))).toBe("a");
    expect(await reasonOf(bench.ipam("n2").assignAddress(addr(text), "b", POD))).toBe(
      `in-use: Cannot assign ${text}: handle "a" holds it`,
    );
  }
  expect(await bench.affinities()).toHaveLength(2);
  expect(await reasonOf(ipam.assignAddress(addr("10.9.0.1"), "a", POD))).toContain("no-pool");
  await bench.changePool("v4", { disabled: true });
  expect(await reasonOf(ipam.assignAddress(addr("10.0.77.6"), "a", POD))).toContain("no-pool");
});

test("pools: selectors, disabled pools, pools requested by name, and why none serves", async () => {
  const bench = new Bench();
  await bench.node("n1", { zone: "a" });
  const ipam = bench.ipam("n1");
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: POD }))).toContain(
    "there is no IPPool",
  );
  await bench.pool("elsewhere", { cidr: "10.1.0.0/16", nodeSelector: "zone == 'b'" });
  await bench.pool("off", { cidr: "10.2.0.0/16", disabled: true });
  await bench.pool("six", { cidr: "fd00::/48" });
  await bench.pool("broken", { cidr: "10.300.0.0/16" });
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: POD }))).toBe(
    'no-pool: no IPPool serves node "n1" with IPv4: the nodeSelector of elsewhere does not select the node, off is disabled, six is IPv6, broken is invalid (spec.cidr: Invalid value: "10.300.0.0/16": must be an IPv4 or IPv6 address such as 10.0.0.1 or fd00::1)',
  );
  expect(bench.reports.length).toBe(1);
  expect(
    (await ipam.assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: POD, pools: { ipv4: ["elsewhere"] } })).ipv4[0],
  ).toStartWith("10.1.");
  for (const [name, why] of [
    ["off", "is disabled"],
    ["six", "is IPv6, must be IPv4"],
    ["broken", "is invalid"],
    ["none", "does not exist"],
  ] as const) {
    expect(
      await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: POD, pools: { ipv4: [name] } })),
    ).toContain(why);
  }
  await bench.pool("here", { cidr: "10.4.0.0/16", nodeSelector: "has(zone)" });
  expect((await ipam.assign({ ipv4: 1, ipv6: 1, handle: "h", attributes: POD })).ipv4[0]).toStartWith("10.4.");
});

test.each([
  ["assignmentMode: Manual", { assignmentMode: "Manual" }, "the assignmentMode of p is Manual"],
  [
    "a namespaceSelector",
    { namespaceSelector: "team == 'a'" },
    "the namespaceSelector of p does not select the pod's namespace",
  ],
  ["other uses", { allowedUses: ["Tunnel"] }, "the allowedUses of p lack Workload"],
] as const)("a pool with %s gives addresses only to pods that name it", async (_, spec, why) => {
  for (const [family, cidr] of [
    [4, "10.6.0.0/24"],
    [6, "fd06::/112"],
  ] as const) {
    const bench = new Bench();
    await bench.node("n1", {});
    await bench.pool("p", { cidr, ...spec });
    const ipam = bench.ipam("n1");
    const request = { ipv4: family === 4 ? 1 : 0, ipv6: family === 6 ? 1 : 0, handle: "h", attributes: POD };
    expect(await reasonOf(ipam.assign(request))).toBe(`no-pool: no IPPool serves node "n1" with IPv${family}: ${why}`);
    const named = ipam.assign({ ...request, pools: family === 4 ? { ipv4: ["p"] } : { ipv6: ["p"] } });
    if ("allowedUses" in spec)
      expect(await reasonOf(named)).toContain("is not for pods: its allowedUses lack Workload");
    else expect(Object.values(await named).flat().length).toBe(1);
  }
});

test("a pool that no longer selects the node gives no new address; its empty blocks are released, used ones stay", async () => {
  const bench = await dual();
  await bench.pool("other", { cidr: "10.5.0.0/16", nodeSelector: "zone == 'nowhere'" });
  const ipam = bench.ipam("n1");
  await ipam.assign({ ipv4: 1, ipv6: 0, handle: "stays", attributes: POD });
  await bench.changePool("v4", { nodeSelector: "zone == 'b'" });
  await bench.changePool("other", { nodeSelector: "all()" });
  expect((await ipam.assign({ ipv4: 1, ipv6: 0, handle: "new", attributes: POD })).ipv4[0]).toStartWith("10.5.");
  expect((await bench.affinities()).length).toBe(2);
  await ipam.releaseByHandle("stays");
  expect((await bench.affinities()).length).toBe(2);
  await ipam.releaseEmptied();
  expect((await bench.affinities()).map((text) => text.split(" ")[1]?.slice(0, 5))).toEqual(["10.5."]);
  const { ipv4 } = await ipam.assign({ ipv4: 1, ipv6: 0, handle: "named", attributes: POD, pools: { ipv4: ["v4"] } });
  await ipam.releaseAddresses(ipv4, ["named"]);
  await ipam.releaseEmptied();
  expect((await bench.affinities()).length).toBe(1);
});

test("a block that becomes empty while it is processed is processed again; after a failure all are", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  for (const name of ["v4", "v6"]) await bench.changePool(name, { nodeSelector: "zone == 'nowhere'" });
  const take = (): Promise<unknown> =>
    ipam.assign({ ipv4: 1, ipv6: 1, handle: "pod", attributes: POD, pools: { ipv4: ["v4"], ipv6: ["v6"] } });
  await take();
  await ipam.releaseByHandle("pod");
  bench.store.setFault(() => "unavailable");
  await expect(ipam.releaseEmptied()).rejects.toMatchObject({ reason: "unavailable" });
  let looked = 0;
  bench.store.setFault(async ({ verb, kind, phase }) => {
    if (looked === 0 && kind === "IPPool") {
      looked = 1;
      await take();
      looked = 2;
    } else if (
      looked > 1 &&
      looked < 4 &&
      verb === "get" &&
      kind === "IPAMBlock" &&
      phase === "answer" &&
      ++looked === 4
    )
      await ipam.releaseByHandle("pod");
    return undefined;
  });
  await ipam.releaseEmptied();
  bench.store.setFault(undefined);
  expect([looked, (await bench.affinities()).length]).toEqual([4, 2]);
  await ipam.releaseEmptied();
  expect(await bench.affinities()).toEqual([]);
});

test("empty blocks outside the pools are released when the pools are read again", async () => {
  const bench = await dual();
  await bench.pool("w4", { cidr: "10.9.0.0/24", blockSize: 28 });
  await bench.pool("w6", { cidr: "fd09::/120", blockSize: 124 });
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({
    ipv4: 100,
    ipv6: 100,
    handle: "many",
    attributes: POD,
    pools: { ipv4: ["v4"], ipv6: ["v6"] },
  });
  await ipam.assign({ ipv4: 1, ipv6: 1, handle: "last", attributes: POD, pools: { ipv4: ["w4"], ipv6: ["w6"] } });
  await ipam.releaseByHandle("last");
  await ipam.releaseAddresses([ipv4[0], ipv6[0]] as Addr[], ["many"]);
  for (const name of ["w4", "w6"]) await bench.store.delete({ kind: "IPPool", namespace: undefined, name });
  expect((await bench.affinities()).length).toBe(6);
  await ipam.releaseBlocks();
  expect((await bench.affinities()).filter((text) => /10\.9\.|fd09:/.test(text))).toEqual([]);
  expect((await bench.affinities()).length).toBe(4);
});

test("a disabled pool keeps its blocks, and gives no addresses", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const { ipv4 } = await ipam.assign({ ipv4: 1, ipv6: 1, handle: "a", attributes: POD });
  await ipam.releaseAddresses(ipv4, ["a"]);
  await bench.changePool("v4", { disabled: true });
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD }))).toContain("v4 is disabled");
  await ipam.assign({ ipv4: 0, ipv6: 1, handle: "b", attributes: POD });
  expect((await bench.affinities()).length).toBe(2);
});

test("all blocks are owned: addresses are borrowed, and the owner keeps the block", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 29 });
  await bench.pool("v6", { cidr: "fd00::/124", blockSize: 125 });
  const [n1, n2, n3] = [bench.ipam("n1"), bench.ipam("n2"), bench.ipam("n3")];
  await n1.assign({ ipv4: 3, ipv6: 3, handle: "a", attributes: { node: "n1" } });
  await n2.assign({ ipv4: 3, ipv6: 3, handle: "b", attributes: { node: "n2" } });
  const borrowed = await n3.assign({ ipv4: 10, ipv6: 10, handle: "c", attributes: { node: "n3" } });
  expect([borrowed.ipv4.length, borrowed.ipv6.length]).toEqual([10, 10]);
  expect((await bench.holders()).size).toBe(32);
  expect((await bench.affinities()).map((text) => text.split(" ")[0]).sort()).toEqual(["n1", "n1", "n2", "n2"]);
  expect(await reasonOf(n1.assign({ ipv4: 1, ipv6: 0, handle: "d", attributes: POD }))).toContain(
    'exhausted: got 0 of 1 IPv4 addresses for node "n1" from v4 (10.0.0.0/28): every address is taken',
  );
});

test("all or nothing: addresses of one family are released when the other fails", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/26" });
  await bench.pool("v6", { cidr: "fd00::/127", blockSize: 127 });
  const ipam = bench.ipam("n1");
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 3, handle: "a", attributes: POD }))).toContain(
    "exhausted: got 2 of 3 IPv6",
  );
  expect((await bench.holders()).size).toBe(0);
  expect(await bench.names("IPAMHandle")).toEqual([]);
  expect((await ipam.assign({ ipv4: 1, ipv6: 3, handle: "a", attributes: POD, partial: true })).ipv6.length).toBe(2);
});

test("the block limit holds before borrowing", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/24", blockSize: 30 });
  await bench.configure({ strictAffinity: true, maxBlocksPerHost: 2 });
  const ipam = bench.ipam("n1");
  await bench.ipam("n2").assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD });
  await ipam.assign({ ipv4: 8, ipv6: 0, handle: "a", attributes: POD });
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD }))).toContain(
    "block-limit: got 0 of 1",
  );
});

test("an empty block is taken from its owner only a minute after the claim", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/32", blockSize: 32 });
  const [n1, n2] = [bench.ipam("n1"), bench.ipam("n2")];
  const { ipv4 } = await n1.assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD });
  await n1.releaseAddresses(ipv4, ["a"]);
  // The claim is too recent to be taken over: the address is borrowed.
  expect((await n2.assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD })).ipv4).toEqual([...ipv4]);
  expect(await bench.affinities()).toEqual(["n1 10.0.0.0/32 confirmed"]);
  await n2.releaseByHandle("b");
  await bench.clock.advance(61_000);
  await n2.assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD });
  expect(await bench.affinities()).toEqual(["n2 10.0.0.0/32 confirmed"]);
  expect(await n2.blocksOf("n2")).toEqual(["10.0.0.0/32"] as never);
});

test("addresses in blocks of an earlier pool with another block size are not assigned twice", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 28 });
  await bench.ipam("n1").assign({ ipv4: 4, ipv6: 0, handle: "a", attributes: POD });
  await bench.changePool("v4", { cidr: "10.0.0.0/27", blockSize: 30 });
  const { ipv4 } = await bench.ipam("n2").assign({ ipv4: 16, ipv6: 0, handle: "b", attributes: POD });
  const holders = await bench.holders();
  expect(ipv4.every((taken) => holders.get(taken) === "b" && Number(taken.split(".")[3]) >= 16)).toBe(true);
  expect([...holders.values()].filter((handle) => handle === "a").length).toBe(4);
});

test("a malformed block is ignored and reported", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 29 });
  const ipam = bench.ipam("n1");
  await ipam.assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD });
  const [block] = (await bench.store.list("IPAMBlock")).items;
  if (block === undefined) throw new Error("no block");
  await bench.store.update("IPAMBlock", { ...block, spec: { ...block.spec, unallocated: [0, 1, 2] } });
  const { ipv4 } = await ipam.assign({ ipv4: 8, ipv6: 0, handle: "b", attributes: POD });
  expect(new Set(ipv4).size).toBe(8);
  expect(bench.reports.join()).toContain("spec.unallocated");
});

test("large sequence numbers of upstream's blocks increase exactly", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/26" });
  const ipam = bench.ipam("n1");
  await ipam.assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD });
  const [block] = (await bench.store.list("IPAMBlock")).items;
  if (block === undefined) throw new Error("no block");
  await bench.store.update("IPAMBlock", {
    ...block,
    spec: { ...block.spec, sequenceNumber: 1_764_117_600_123_456_800 },
  });
  const seen: number[] = [];
  for (const handle of ["b", "c", "d"]) {
    await ipam.assign({ ipv4: 1, ipv6: 0, handle, attributes: POD });
    seen.push((await bench.store.list("IPAMBlock")).items[0]?.spec.sequenceNumber ?? 0);
  }
  expect(seen).toEqual([1_764_117_600_123_457_024, 1_764_117_600_123_457_280, 1_764_117_600_123_457_536]);
});
