/** The etcd store against Debian's etcd: the store contract, and deaths of etcd. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { storeContract } from "./contract.ts";
import { Proxy } from "./proxy.ts";
import { answering, dependencies, Etcd, makeParties, serveEtcd } from "./servers.ts";
import type { EtcdAccess } from "../../src/datastore/etcd/client.ts";
import { StoreError } from "../../src/datastore/store.ts";
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

test("an endpoint that accepts and says nothing, and one that refuses, are passed over, by whoever has just started too", async () => {
  const { etcd, store } = await serveEtcd();
  await store.create("IPPool", pool("p"));
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  const endpoints = [`http://127.0.0.1:${port}`, "http://127.0.0.1:1", etcd.endpoint];
  const late = openEtcdStore({ endpoints }, dependencies);
  const before = performance.now();
  expect((await late.list("IPPool")).items.map(({ metadata }) => metadata.name)).toEqual(["p"]);
  await late.create("IPPool", pool("q"));
  // A call may take half a minute.
  expect(performance.now() - before).toBeLessThan(20_000);
  await late.close();
  silent.close();
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

test("with etcd's authentication on: a wrong password is forbidden; reads and watches go on when etcd has forgotten the login", async () => {
  const { etcd, store: open } = await serveEtcd();
  const call = async (path: string, body: object): Promise<void> => {
    const response = await fetch(`${etcd.endpoint}/v3/auth/${path}`, { method: "POST", body: JSON.stringify(body) });
    expect(response.status).toBe(200);
  };
  await call("role/add", { name: "root" });
  await call("user/add", { name: "root", password: "right" });
  await call("user/grant", { user: "root", role: "root" });
  await call("enable", {});
  const anonymous = await open.list("IPPool").catch((error: unknown) => error);
  expect(anonymous).toMatchObject({ reason: "forbidden" });
  const as = (password: string) =>
    openEtcdStore({ endpoints: [etcd.endpoint], user: { name: "root", password } }, dependencies);
  const wrong = as("wrong");
  const refused = (await wrong.list("IPPool").catch((error: unknown) => error)) as Error;
  expect(refused).toMatchObject({ reason: "forbidden" });
  expect(refused.message).not.toContain("wrong");
  const store = as("right");
  const names: string[] = [];
  // Nothing but its watches asks for this one's login.
  const follower = as("right");
  const syncer = startSyncer({
    store: follower,
    kinds: ["IPPool", "Tier"],
    clock: dependencies.clock,
    random: dependencies.random,
    reduce: (update) => update,
    sink: (event) => void (event.type === "updates" && names.push(...event.updates.map(({ key }) => key.name))),
    log: () => {},
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await Bun.sleep(10);
  };
  await store.create("IPPool", pool("first"));
  await until(() => names.includes("first"));
  await etcd.kill();
  await etcd.start();
  await answering(store);
  await store.create("IPPool", pool("second"));
  await until(() => names.includes("second"));
  await syncer.stop();
  for (const each of [open, wrong, store, follower]) await each.close();
  await etcd.close();
}, 60_000);

test("a slow etcd: a list of several pages and a watch come late, and whole", async () => {
  const { etcd, store } = await serveEtcd();
  const proxy = new Proxy(etcd.port);
  await proxy.start();
  proxy.delayMs = 150;
  const slow = openEtcdStore({ endpoints: [`http://127.0.0.1:${proxy.port}`] }, dependencies);
  for (let from = 0; from < 1200; from += 100)
    await Promise.all(Array.from({ length: 100 }, (_, i) => store.create("IPPool", pool(`p${from + i}`))));
  const { items, revision } = await slow.list("IPPool");
  expect(items).toHaveLength(1200);
  const abort = new AbortController();
  const seen: string[] = [];
  let last = revision;
  const watch = async (): Promise<void> => {
    for await (const batch of slow.watch("IPPool", last, { signal: abort.signal })) {
      for (const event of batch) {
        if (event.type === "bookmark") continue;
        seen.push(event.object.metadata.name);
        last = event.object.metadata.resourceVersion ?? last;
      }
      if (seen.length === 300) abort.abort();
    }
  };
  // A stream that the machine is too slow for is dropped, and goes on from where it was.
  const watched = (async () => {
    while (!abort.signal.aborted)
      await watch().catch((error: unknown) => {
        if (!(error instanceof StoreError) || error.reason !== "unavailable") throw error;
      });
  })();
  for (let i = 0; i < 300; i++) await store.create("IPPool", pool(`late-${i}`));
  await watched;
  expect(seen).toEqual(Array.from({ length: 300 }, (_, i) => `late-${i}`));
  await slow.close();
  await store.close();
  await proxy.stop();
  await etcd.close();
}, 60_000);

test("by TLS: the server's certificate must be for its address, of the authority, and the client's of the server's", async () => {
  const directory = mkdtempSync(join(tmpdir(), "calico-parties-"));
  const { server, client } = makeParties(directory);
  const read = (path: string): string => readFileSync(path, "utf8");
  const tls = { ca: read(client.ca), cert: read(client.cert), key: read(client.key) };
  const etcd = new Etcd(server);
  await etcd.start();
  const right = openEtcdStore({ endpoints: [etcd.endpoint], tls }, dependencies);
  await answering(right);
  const elsewhere = etcd.endpoint.replace("127.0.0.1", "127.0.0.2");
  const proxy = new Proxy(etcd.port, "127.0.0.2");
  await proxy.start();
  const wrongs: Readonly<Record<string, EtcdAccess>> = {
    "its certificate is not for 127.0.0.2": { endpoints: [elsewhere.replace(/\d+$/, String(proxy.port))], tls },
    "self-signed|self signed|unable to": { endpoints: [etcd.endpoint], tls: { cert: tls.cert, key: tls.key } },
    "": { endpoints: [etcd.endpoint], tls: { ca: tls.ca } },
  };
  for (const [message, access] of Object.entries(wrongs)) {
    const store = openEtcdStore(access, dependencies);
    const error = await store.list("Tier").catch((caught: unknown) => caught);
    expect(error).toMatchObject({ reason: "unavailable", message: expect.stringMatching(new RegExp(message)) });
    await store.close();
  }
  await right.close();
  await proxy.stop();
  await etcd.close();
  rmSync(directory, { recursive: true });
}, 60_000);
