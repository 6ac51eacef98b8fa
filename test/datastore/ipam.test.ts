/** IPAM over the real datastores: our objects pass the schemas of the API server, and racing nodes never assign an address twice. */
import { expect, test } from "bun:test";
import { openKubernetesStore } from "../../src/datastore/kubernetes/store.ts";
import type { Store } from "../../src/datastore/store.ts";
import { Ipam } from "../../src/ipam/ipam.ts";
import { AddressReserve } from "../../src/ipam/reserve.ts";
import type { Addr } from "../../src/net/addr.ts";
import { classicCrds, dependencies, serveEtcd, serveKubernetes } from "./servers.ts";

const STORES: Readonly<Record<string, () => Promise<{ store: Store; close: () => Promise<void> }>>> = {
  kubernetes: async () => {
    const server = await serveKubernetes();
    return { store: openKubernetesStore(server.access, dependencies), close: () => server.close() };
  },
  "kubernetes, crd.projectcalico.org/v1": async () => {
    const server = await serveKubernetes(classicCrds());
    const store = openKubernetesStore(server.access, dependencies, "crd.projectcalico.org/v1");
    return { store, close: () => server.close() };
  },
  etcd: async () => {
    const { etcd, store } = await serveEtcd();
    return { store, close: () => etcd.close() };
  },
};

test.each(Object.entries(STORES))(
  "three nodes over %s",
  async (_, open) => {
    const { store, close } = await open();
    const pool = (name: string, cidr: string, blockSize: number) =>
      store.create("IPPool", {
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name },
        spec: { cidr, blockSize },
      });
    await pool("v4", "10.0.0.0/27", 29);
    await pool("v6", "fd00::/123", 125);
    const reports: string[] = [];
    const ipams = ["n1", "n2", "n3"].map(
      (node) =>
        new Ipam({
          store,
          node,
          clock: dependencies.clock,
          random: dependencies.random,
          report: (message, fields) => void reports.push(`${message} ${JSON.stringify(fields)}`),
        }),
    );
    const given = await Promise.all(
      ipams.flatMap((ipam) =>
        Array.from({ length: 5 }, async (_, i) => {
          const { ipv4, ipv6 } = await ipam.assign({
            ipv4: 1,
            ipv6: 2,
            handle: `k8s-pod-network.${ipam.node}-${i}`,
            attributes: { node: ipam.node, pod: `p${i}`, namespace: "default" },
          });
          return [...ipv4, ...ipv6];
        }),
      ),
    );
    expect(new Set(given.flat()).size).toBe(45);
    const [ipam] = ipams;
    if (ipam === undefined) throw new Error("no IPAM");
    const reserve = new AddressReserve({ ipam, node: "n1", clock: dependencies.clock, inUse: new Map() });
    const addr = (await reserve.takeFound(6, "k8s-pod-network.n1-0")) as Addr;
    expect(given.flat()).not.toContain(addr);
    await reserve.record({ handle: "k8s-pod-network.n1-0", addresses: [addr], attributes: { node: "n1" } });
    for (const each of ipams)
      for (let i = 0; i < 5; i++) await each.releaseByHandle(`k8s-pod-network.${each.node}-${i}`);
    await ipam.releaseByHandle(reserve.handle);
    expect((await store.list("IPAMHandle")).items).toEqual([]);
    const blocks = (await store.list("IPAMBlock")).items;
    expect(blocks.length).toBeGreaterThan(5);
    expect(
      blocks.every(({ spec }) => spec.allocations.every((index) => index === null) && spec.unallocated.length === 8),
    ).toBe(true);
    expect((await store.list("BlockAffinity")).items.every(({ spec }) => spec.state === "confirmed")).toBe(true);
    expect(reports).toEqual([]);
    await store.close();
    await close();
  },
  60_000,
);
