/** The etcd store against Debian's etcd: the store contract, and deaths of etcd. */
import { expect, test } from "bun:test";
import { storeContract } from "./contract.ts";
import { answering, dependencies, serveEtcd } from "./servers.ts";
import { openEtcdStore } from "../../src/datastore/etcd/store.ts";
import { startSyncer } from "../../src/datastore/syncer.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { SyncEvent } from "../../src/model/update.ts";

function pool(name: string): Resource<"IPPool"> {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr: "fd00::/48" } };
}

storeContract("etcd", async () => {
  const { etcd, store } = await serveEtcd();
  return { store, compact: () => store.compact(), close: async () => (await store.close(), await etcd.close()) };
});

test("a list of several pages is of one revision", async () => {
  const { etcd, store } = await serveEtcd();
  for (let from = 0; from < 2100; from += 100)
    await Promise.all(Array.from({ length: 100 }, (_, i) => store.create("IPPool", pool(`p${from + i}`))));
  const { items, revision } = await store.list("IPPool");
  expect(new Set(items.map((item) => item.metadata.name)).size).toBe(2100);
  expect(items.every((item) => BigInt(item.metadata.resourceVersion ?? "0") <= BigInt(revision))).toBe(true);
  await store.close();
  await etcd.close();
}, 60_000);

test("etcd killed and restarted under a syncer: no event is lost or delivered twice", async () => {
  const { etcd, store } = await serveEtcd();
  const delivered: string[] = [];
  const statuses: string[] = [];
  const sink = (event: SyncEvent): void => {
    if (event.type === "status") statuses.push(event.status);
    else
      for (const update of event.updates) delivered.push(`${update.value === undefined ? "-" : "+"}${update.key.name}`);
  };
  const syncer = startSyncer({
    store,
    kinds: ["IPPool"],
    clock: dependencies.clock,
    random: dependencies.random,
    reduce: (update) => update,
    sink,
    log: () => {},
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await Bun.sleep(10);
  };
  await until(() => statuses.at(-1) === "in-sync");
  for (let i = 0; i < 50; i++) await store.create("IPPool", pool(`before-${i}`));
  await until(() => delivered.length === 50);
  await etcd.kill();
  await until(() => statuses.at(-1) === "connecting");
  expect(await store.create("IPPool", pool("meanwhile")).catch((caught: unknown) => caught)).toMatchObject({
    reason: "unavailable",
  });
  await etcd.start();
  const second = openEtcdStore({ endpoints: ["http://127.0.0.1:1", etcd.endpoint] }, dependencies);
  await answering(second);
  for (let i = 0; i < 50; i++) await second.create("IPPool", pool(`after-${i}`));
  await second.delete({ kind: "IPPool", namespace: undefined, name: "before-7" });
  await until(() => delivered.at(-1) === "-before-7");
  expect(delivered.length).toBe(101);
  expect(new Set(delivered).size).toBe(101);
  expect(statuses.at(-1)).toBe("in-sync");
  await syncer.stop();
  await second.close();
  await store.close();
  await etcd.close();
}, 60_000);

test("a watch from a revision that etcd has not reached is gone", async () => {
  const { etcd, store } = await serveEtcd();
  const watch = async (): Promise<void> => {
    for await (const batch of store.watch("IPPool", "999999", { signal: new AbortController().signal }))
      expect(batch).toEqual([]);
  };
  // Not with `rejects`, which runs the event loop inside the callback it is called from.
  const error = await watch().catch((caught: unknown) => caught);
  expect(error).toMatchObject({ reason: "gone" });
  await store.close();
  await etcd.close();
}, 30_000);
