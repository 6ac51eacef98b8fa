/** The Kubernetes store against the embedded API server over TLS: the store contract, and the syncer on top. */
import { expect, test } from "bun:test";
import { storeContract } from "./contract.ts";
import { classicCrds, dependencies, HISTORY, serveKubernetes } from "./servers.ts";
import { openKubernetesStore } from "../../src/datastore/kubernetes/store.ts";
import { startSyncer } from "../../src/datastore/syncer.ts";
import { StoreError } from "../../src/datastore/store.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { SyncEvent } from "../../src/model/update.ts";

storeContract("kubernetes", async () => {
  const server = await serveKubernetes();
  const store = openKubernetesStore(server.access, dependencies);
  const compact = async (): Promise<void> => {
    for (let i = 0; i < 4 * HISTORY; i++)
      await store.annotate({ kind: "Namespace", namespace: undefined, name: "contract-a" }, { step: String(i) });
  };
  return { store, compact, close: async () => (await store.close(), await server.close()) };
});

storeContract("kubernetes, crd.projectcalico.org/v1", async () => {
  const server = await serveKubernetes(classicCrds());
  const store = openKubernetesStore(server.access, dependencies, "detect");
  const compact = async (): Promise<void> => {
    for (let i = 0; i < 4 * HISTORY; i++)
      await store.annotate({ kind: "Namespace", namespace: undefined, name: "contract-a" }, { step: String(i) });
  };
  return { hasNoStatus: true, store, compact, close: async () => (await store.close(), await server.close()) };
});

test("wrong credentials are forbidden, an untrusted certificate is unavailable", async () => {
  const server = await serveKubernetes();
  const { access } = server;
  await expect(openKubernetesStore({ ...access, token: "wrong" }, dependencies).list("Node")).rejects.toMatchObject({
    reason: "forbidden",
  });
  await expect(
    openKubernetesStore({ server: access.server, token: "x" }, dependencies).list("Node"),
  ).rejects.toMatchObject({
    reason: "unavailable",
  });
  await server.close();
});

test("what a schema refuses is invalid, with the server's message", async () => {
  const server = await serveKubernetes();
  const bad = {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec: { cidr: "10.0.0.0/16", blockSize: "x" },
  } as unknown as Resource<"IPPool">;
  await expect(openKubernetesStore(server.access, dependencies).create("IPPool", bad)).rejects.toMatchObject({
    reason: "invalid",
    message: expect.stringContaining("blockSize"),
  });
  await server.close();
});

test("annotating a Pod leaves everything else unchanged", async () => {
  const server = await serveKubernetes();
  const store = openKubernetesStore(server.access, dependencies);
  const key = { kind: "Pod", namespace: "pods", name: "p" } as const;
  await store.create("Namespace", { apiVersion: "v1", kind: "Namespace", metadata: { name: "pods" } });
  await store
    .create("ServiceAccount", {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: "default", namespace: "pods" },
    })
    .catch((error: unknown) => {
      // The server creates one itself, shortly after the namespace.
      if (!(error instanceof StoreError) || error.reason !== "exists") throw error;
    });
  const created = await store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "pods", annotations: { keep: "me" } },
    spec: { containers: [{ name: "c", image: "i:1" }] },
  } as unknown as Resource<"Pod">);
  await store.annotate(key, { "example.org/a": "1", "example.org/b": "2" });
  await store.annotate(key, { "example.org/b": null });
  const read = await store.get(key);
  expect(read?.metadata.annotations).toEqual({ keep: "me", "example.org/a": "1" });
  expect({ spec: read?.spec, status: read?.status }).toEqual({ spec: created.spec, status: created.status });
  await store.close();
  await server.close();
});

test("the server restarts under a syncer: it resumes and misses nothing", async () => {
  const server = await serveKubernetes();
  const store = openKubernetesStore(server.access, dependencies);
  const names = new Set<string>();
  const statuses: string[] = [];
  const sink = (event: SyncEvent): void => {
    if (event.type === "status") statuses.push(event.status);
    else
      for (const { key, value } of event.updates)
        void (value === undefined ? names.delete(key.name) : names.add(key.name));
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
  const pool = (name: string): Resource<"IPPool"> => ({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr: "fd00::/48" },
  });
  await until(() => statuses.at(-1) === "in-sync");
  await store.create("IPPool", pool("before"));
  await until(() => names.has("before"));
  await server.stop();
  await until(() => statuses.at(-1) === "connecting");
  await server.start();
  await store.delete({ kind: "IPPool", namespace: undefined, name: "before" });
  await store.create("IPPool", pool("after"));
  await until(() => statuses.at(-1) === "in-sync" && names.has("after") && !names.has("before"));
  await syncer.stop();
  await store.close();
  await server.close();
}, 30_000);
