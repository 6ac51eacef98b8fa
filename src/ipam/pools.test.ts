/** Which pools give addresses, and what becomes of blocks when pools change. */
import { expect, test } from "bun:test";
import type { Addr } from "../net/addr.ts";
import { Bench, dual, reasonOf } from "./test-bench.ts";

const POD = { pod: "web", namespace: "default", node: "n1" };

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
