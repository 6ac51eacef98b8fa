/** IPReservation, IPAMConfiguration and the selectors of pools: which addresses they exclude for which pods. */
import { expect, test } from "bun:test";
import type { IPAMBlockSpec } from "../model/kinds/ipam.ts";
import { ipamSettingsOf, type IPAMConfigurationSpec, reservedRangesOf } from "../model/kinds/ipam-settings.ts";
import type { Resource } from "../model/resource.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { AddressReserve } from "./reserve.ts";
import { Bench } from "./test-bench.ts";
import { unwrap } from "../lib/result.ts";

const POD = { namespace: "default", pod: "p", node: "n1" };

async function dual(): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 30 });
  await bench.pool("v6", { cidr: "fd00::/124", blockSize: 126 });
  await bench.node("n1");
  await bench.node("n2");
  return bench;
}

function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (error: unknown) => `${(error as { reason?: string }).reason}: ${(error as Error).message}`,
  );
}

test("reserved addresses are assigned only on request; wholly reserved blocks are not claimed", async () => {
  const bench = await dual();
  await bench.reserve(
    "r",
    "10.0.0.4/30",
    "10.0.0.8/29",
    "10.0.0.1",
    "fd00::2/127",
    "fd00::4/126",
    "fd00::8/125",
    "nonsense",
  );
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 9, ipv6: 9, handle: "all", attributes: POD, partial: true });
  expect(ipv4.toSorted()).toEqual(["10.0.0.0", "10.0.0.2", "10.0.0.3"] as Addr[]);
  expect(ipv6.toSorted()).toEqual(["fd00::", "fd00::1"] as Addr[]);
  expect(bench.reports).toEqual([expect.stringContaining("spec.reservedCIDRs[6]")]);
  expect((await bench.names("IPAMBlock")).sort()).toEqual(["10-0-0-0-30", "fd00---126"]);
  expect(await reasonOf(ipam.assign({ ipv4: 1, ipv6: 0, handle: "more", attributes: POD }))).toContain(
    "IPReservations exclude some",
  );
  for (const text of ["10.0.0.1", "10.0.0.9", "fd00::9"])
    await ipam.assignAddress(unwrap(parseAddr(text)), "asks", POD);
  expect([...(await bench.holders())].filter(([, handle]) => handle === "asks")).toHaveLength(3);
});

test("a reserved range of 2^60 blocks is skipped, wherever the node starts", async () => {
  for (const node of ["n1", "n2", "n3", "n4", "n5"]) {
    const bench = new Bench();
    await bench.pool("v6", { cidr: "fd00::/48" });
    await bench.node(node);
    await bench.reserve("r", "fd00:0:0:0::/49", "fd00:0:0:8000::/50", "fd00:0:0:c000::/51");
    const { ipv6 } = await bench.ipam(node).assign({ ipv4: 0, ipv6: 1, handle: "h", attributes: POD });
    expect(ipv6[0]).toMatch(/^fd00:0:0:[ef]/);
  }
});

test("a block that several small reserved ranges cover is skipped", async () => {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/29", blockSize: 30 });
  await bench.node("n1");
  await bench.reserve("r", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.4", "10.0.0.5", "10.0.0.6");
  expect((await bench.ipam("n1").assign({ ipv4: 1, ipv6: 0, handle: "h", attributes: POD })).ipv4).toEqual([
    "10.0.0.7",
  ] as Addr[]);
  expect(await bench.names("IPAMBlock")).toEqual(["10-0-0-4-30"]);
});

test("strictAffinity: no address from another node's block, not even on request", async () => {
  const bench = await dual();
  await bench.configure({ strictAffinity: true });
  const [n1, n2] = [bench.ipam("n1"), bench.ipam("n2")];
  await n1.assign({ ipv4: 13, ipv6: 13, handle: "a", attributes: POD });
  const refusal = await reasonOf(n2.assign({ ipv4: 1, ipv6: 0, handle: "b", attributes: POD }));
  expect(refusal).toStartWith("exhausted: ");
  expect(refusal).toContain("strictAffinity of the IPAMConfiguration prevents it from using blocks of other nodes");
  const holders = await bench.holders();
  for (const text of Array.from({ length: 16 }, (_, i) => `10.0.0.${i}`)) {
    if (holders.has(text as Addr)) continue;
    expect(await reasonOf(n2.assignAddress(unwrap(parseAddr(text)), "c", POD))).toStartWith("forbidden: ");
    await n1.assignAddress(unwrap(parseAddr(text)), "d", POD);
    break;
  }
  await bench.configure({});
  expect((await n2.assign({ ipv4: 1, ipv6: 1, handle: "b", attributes: POD })).ipv4).toHaveLength(1);
});

test("autoAllocateBlocks: false: a node claims no further blocks", async () => {
  const bench = await dual();
  await bench.ipam("n1").assign({ ipv4: 1, ipv6: 1, handle: "a", attributes: POD });
  await bench.configure({ strictAffinity: true, autoAllocateBlocks: false });
  expect((await bench.ipam("n1").assign({ ipv4: 3, ipv6: 3, handle: "b", attributes: POD })).ipv6).toHaveLength(3);
  for (const node of ["n1", "n2"])
    expect(await reasonOf(bench.ipam(node).assign({ ipv4: 0, ipv6: 1, handle: "c", attributes: POD }))).toContain(
      "autoAllocateBlocks of the IPAMConfiguration prevents it from claiming one",
    );
  expect(await bench.affinities()).toHaveLength(2);
});

test.each([
  [{}, { strictAffinity: false, blockLimit: 20, autoAllocateBlocks: true }],
  [
    { strictAffinity: true, maxBlocksPerHost: 3 },
    { strictAffinity: true, blockLimit: 3, autoAllocateBlocks: true },
  ],
  [{ maxBlocksPerHost: 3 }, "spec.maxBlocksPerHost"],
  [{ autoAllocateBlocks: false }, "spec.autoAllocateBlocks"],
  [{ strictAffinity: "yes" }, "spec.strictAffinity"],
  [{ strictAffinity: true, maxBlocksPerHost: -1 }, "spec.maxBlocksPerHost"],
])("IPAMConfiguration %p", (spec, wanted) => {
  const settings = ipamSettingsOf({ spec: spec as IPAMConfigurationSpec });
  if (typeof wanted === "string") expect(settings).toMatchObject({ ok: false, error: { field: wanted } });
  else expect(settings).toEqual({ ok: true, value: wanted });
});

test("with a contradictory configuration nothing is assigned, and the error names the field", async () => {
  const bench = await dual();
  await bench.configure({ autoAllocateBlocks: false });
  const refusal = await reasonOf(bench.ipam("n1").assign({ ipv4: 1, ipv6: 0, handle: "a", attributes: POD }));
  expect(refusal).toStartWith("misconfigured: ");
  expect(refusal).toContain('IPAMConfiguration "default" is invalid: spec.autoAllocateBlocks');
});

test("reserved entries: ranges and plain addresses of both families", () => {
  const read = (reservedCIDRs: unknown) =>
    reservedRangesOf({
      apiVersion: "",
      kind: "",
      metadata: { name: "r" },
      spec: { reservedCIDRs },
    } as unknown as Resource<"IPReservation">);
  expect<readonly string[]>(read(["10.0.0.5/24", "10.0.0.7", "fd00::/64", "fd00::1"]).ranges).toEqual([
    "10.0.0.0/24",
    "10.0.0.7/32",
    "fd00::/64",
    "fd00::1/128",
  ]);
  expect(read(["10.0.0", 5]).errors.map(({ field }) => field)).toEqual([
    "spec.reservedCIDRs[0]",
    "spec.reservedCIDRs[1]",
  ]);
  expect(read("10.0.0.1").errors.map(({ field }) => field)).toEqual(["spec.reservedCIDRs"]);
});

test("namespaceSelector: by the labels of the pod's namespace; the reserve takes only from pools that serve all namespaces", async () => {
  const bench = new Bench();
  await bench.node("n1");
  await bench.pool("blue4", { cidr: "10.1.0.0/24", namespaceSelector: "team == 'blue'" });
  await bench.pool("blue6", { cidr: "fd01::/112", namespaceSelector: "team == 'blue'" });
  const ipam = bench.ipam("n1");
  const ask = (namespaceLabels?: Record<string, string>) =>
    ipam.assign({
      ipv4: 1,
      ipv6: 1,
      handle: "h",
      attributes: POD,
      ...(namespaceLabels === undefined ? {} : { namespaceLabels }),
    });
  expect((await ask({ team: "blue" })).ipv6[0]).toStartWith("fd01:");
  for (const labels of [undefined, {}, { team: "red" }])
    expect(await reasonOf(ask(labels))).toContain("the namespaceSelector of blue4 does not select the pod's namespace");
  expect(ipam.usablePools(await ipam.readView())).toEqual([]);
  await bench.pool("all", { cidr: "10.2.0.0/24", namespaceSelector: "all()" });
  await bench.pool("unlabelled", { cidr: "10.3.0.0/24", namespaceSelector: "!has(team)" });
  expect(ipam.usablePools(await ipam.readView()).map(({ name }) => name)).toEqual(["all"]);
  expect(
    (await ipam.assign({ ipv4: 1, ipv6: 0, handle: "i", attributes: POD, namespaceLabels: { team: "red" } })).ipv4[0],
  ).toStartWith("10.2.");
});

test("a reserve of an earlier release is migrated: its form changes, its handle is removed, pods' addresses stay", async () => {
  const bench = await dual();
  const ipam = bench.ipam("n1");
  const { ipv4, ipv6 } = await ipam.assign({ ipv4: 3, ipv6: 3, handle: "reserve-n1", attributes: { node: "n1" } });
  await bench.ipam("n2").assign({ ipv4: 1, ipv6: 0, handle: "reserve-n2", attributes: { node: "n2" } });
  const used = [ipv4[0], ipv6[0]] as Addr[];
  for (let deaths = 0; ; deaths++) {
    // Whichever request the process dies at, the next process continues.
    const reserve = new AddressReserve({
      ipam: bench.ipam("n1"),
      node: "n1",
      clock: bench.clock,
      inUse: new Map(used.map((addr) => [addr, "pod"] as const)),
    });
    let asked = 0;
    bench.store.setFault(({ phase }) => (phase === "request" && asked++ >= deaths ? "unavailable" : undefined));
    const done = await reserve.refill().then(
      () => true,
      () => false,
    );
    bench.store.setFault(undefined);
    if (!done) continue;
    // Two that no pod has, and the fourth of each block.
    expect([reserve.count(4), reserve.count(6)]).toEqual([3, 3]);
    await reserve.record({ handle: "pod", addresses: used, attributes: POD });
    break;
  }
  const holders = await bench.holders();
  for (const addr of used) expect(holders.get(addr)).toBe("pod");
  expect([...holders.values()].filter((handle) => handle === "reserve:n1").length).toBeGreaterThanOrEqual(4);
  expect((await bench.names("IPAMHandle")).sort()).toEqual(["pod", "reserve-n2"]);
  const specs: IPAMBlockSpec[] = (await bench.store.list("IPAMBlock")).items.map(({ spec }) => spec);
  const recorded = new Set(
    specs.flatMap(({ attributes }) =>
      attributes.map(({ handle_id, secondary }) => `${handle_id} ${secondary?.["node"]} ${secondary?.["type"]}`),
    ),
  );
  expect([...recorded].sort()).toEqual([
    "pod n1 undefined",
    "reserve-n2 n2 undefined",
    "windows-reserved-ipam-handle n1 reserve",
  ]);
});
