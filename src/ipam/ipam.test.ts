import { expect, test } from "bun:test";
import { type Addr, parseAddr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import { Bench, dual, reasonOf } from "./test-bench.ts";

const POD = { pod: "web", namespace: "default", node: "n1" };

function addr(text: string): Addr {
  return unwrap(parseAddr(text));
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
