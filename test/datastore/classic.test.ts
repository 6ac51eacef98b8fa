/** Calico's kinds as `crd.projectcalico.org/v1` has them: objects as upstream writes them, read; and what we write, as the server has it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Clock } from "../../src/host/clock.ts";
import { UNSERVED_MS } from "../../src/datastore/kubernetes/unserved.ts";
import { openKubernetesStore } from "../../src/datastore/kubernetes/store.ts";
import type { Store, WatchEvent } from "../../src/datastore/store.ts";
import type { Key } from "../../src/model/key.ts";
import type { Resource } from "../../src/model/resource.ts";
import { affinityLabels } from "../../src/model/affinity.ts";
import { classicCrds, dependencies, serveKubernetes, type Server } from "./servers.ts";

const API = "/apis/crd.projectcalico.org/v1";
const V1 = "crd.projectcalico.org/v1";
const V3 = "projectcalico.org/v3";
const METADATA = "projectcalico.org/metadata";

let server: Server;
let store: Store;

beforeAll(async () => {
  server = await serveKubernetes(classicCrds());
  store = openKubernetesStore(server.access, dependencies, "detect");
}, 60_000);
afterAll(() => store.close());

const gnp = (name: string): Key<"GlobalNetworkPolicy"> => ({ kind: "GlobalNetworkPolicy", namespace: undefined, name });

/** As another client sees it. */
const raw = (plural: string, name: string) =>
  server.call("GET", `${API}/${plural}/${name}`) as Promise<{
    metadata: { uid: string; annotations: Record<string, string>; resourceVersion: string };
  }>;

test("a policy of upstream's: its labels, annotations and time are read from the annotation, its uid is another one", async () => {
  const written =
    '{"name":"allow-dns","generation":3,"creationTimestamp":"2024-05-06T07:08:09Z","labels":{"app":"dns","projectcalico.org/tier":"default"},"annotations":{"note":"a<b"},"managedFields":null}';
  await server.call("POST", `${API}/globalnetworkpolicies`, {
    apiVersion: V1,
    kind: "GlobalNetworkPolicy",
    metadata: {
      name: "allow-dns",
      labels: { "projectcalico.org/tier": "default" },
      annotations: { [METADATA]: written, "projectcalico.org/other": "kept" },
    },
    spec: { tier: "default", selector: "all()", unknownField: { a: [1] } },
  });
  const before = await raw("globalnetworkpolicies", "allow-dns");
  const policy = await store.get(gnp("allow-dns"));
  expect(policy).toMatchObject({
    apiVersion: V3,
    kind: "GlobalNetworkPolicy",
    metadata: {
      name: "allow-dns",
      creationTimestamp: "2024-05-06T07:08:09Z",
      labels: { app: "dns", "projectcalico.org/tier": "default" },
      annotations: { note: "a<b", "projectcalico.org/other": "kept" },
    },
  });
  expect(policy?.metadata.uid).not.toBe(before.metadata.uid);
  // Written back, it is what it was.
  await store.update("GlobalNetworkPolicy", policy as Resource<"GlobalNetworkPolicy">);
  const after = await raw("globalnetworkpolicies", "allow-dns");
  expect(after).toMatchObject({
    metadata: {
      name: "allow-dns",
      uid: before.metadata.uid,
      labels: { "projectcalico.org/tier": "default" },
      annotations: { "projectcalico.org/other": "kept" },
    },
    spec: { tier: "default", selector: "all()", unknownField: { a: [1] } },
  });
  expect(JSON.parse(after.metadata.annotations[METADATA] ?? "")).toEqual({
    name: "allow-dns",
    creationTimestamp: "2024-05-06T07:08:09Z",
    labels: { app: "dns", "projectcalico.org/tier": "default" },
    annotations: { note: "a<b", "projectcalico.org/other": "kept" },
  });
});

test("a policy of an older release is called default.NAME in the server, and NAME here; it is changed and deleted where it is", async () => {
  await server.call("POST", `${API}/globalnetworkpolicies`, {
    apiVersion: V1,
    kind: "GlobalNetworkPolicy",
    metadata: { name: "default.old", annotations: { [METADATA]: '{"creationTimestamp":null}' } },
    spec: { order: 5 },
  });
  const policy = await store.get(gnp("old"));
  expect(policy?.metadata.name).toBe("old");
  expect(await store.get(gnp("default.old"))).toBeUndefined();
  const names = (await store.list("GlobalNetworkPolicy")).items.map(({ metadata }) => metadata.name);
  expect(names).toContain("old");
  const changed = { ...policy, spec: { order: 6 } } as Resource<"GlobalNetworkPolicy">;
  await store.update("GlobalNetworkPolicy", changed);
  expect(await raw("globalnetworkpolicies", "default.old")).toMatchObject({ spec: { order: 6 } });
  const { resourceVersion: _, ...metadata } = changed.metadata;
  const again = store.create("GlobalNetworkPolicy", { ...changed, metadata });
  expect(await again.catch((error: unknown) => error)).toMatchObject({ reason: "exists" });
  await store.delete(gnp("old"));
  expect(await raw("globalnetworkpolicies", "default.old")).toMatchObject({ code: 404 });
});

test("an object that kubectl made has its own labels", async () => {
  const metadata = { name: "plain", labels: { role: "friend" } };
  await server.call("POST", `${API}/globalnetworksets`, {
    apiVersion: V1,
    kind: "GlobalNetworkSet",
    metadata,
    spec: {},
  });
  expect((await store.list("GlobalNetworkSet", { labels: { role: "friend" } })).items).toMatchObject([{ metadata }]);
});

test("what is created has the user's metadata in the annotation, and is selected by any label", async () => {
  const created = await store.create("HostEndpoint", {
    apiVersion: V3,
    kind: "HostEndpoint",
    metadata: { name: "h", labels: { zone: "a" }, annotations: { note: "x" } },
    spec: { node: "n1", interfaceName: "eth0" },
  });
  expect(created).toMatchObject({ metadata: { labels: { zone: "a" }, annotations: { note: "x" } } });
  const there = await raw("hostendpoints", "h");
  expect(there).toMatchObject({ apiVersion: V1, kind: "HostEndpoint", spec: { node: "n1", interfaceName: "eth0" } });
  expect(there.metadata).not.toHaveProperty("labels");
  expect(there.metadata.annotations).toEqual({
    [METADATA]: '{"creationTimestamp":null,"labels":{"zone":"a"},"annotations":{"note":"x"}}',
  });
  expect((await store.list("HostEndpoint", { labels: { zone: "a" } })).items).toHaveLength(1);
  expect((await store.list("HostEndpoint", { labels: { zone: "b" } })).items).toEqual([]);
  const key = { kind: "HostEndpoint", namespace: undefined, name: "h" } as const;
  await store.annotate(key, { note: null, other: "y" });
  expect((await store.get(key))?.metadata.annotations).toEqual({ other: "y" });
  const { uid } = created.metadata;
  const wrong = store.delete(key, { uid: there.metadata.uid });
  expect(await wrong.catch((error: unknown) => error)).toMatchObject({ reason: "conflict" });
  await store.delete(key, { uid: uid ?? "" });
  expect(await store.get(key)).toBeUndefined();
});

test("IPAM's settings are the kind IPAMConfig, and an affinity's `deleted` is text", async () => {
  await store.create("IPAMConfiguration", {
    apiVersion: V3,
    kind: "IPAMConfiguration",
    metadata: { name: "default" },
    spec: { strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 4 },
  });
  expect(await raw("ipamconfigs", "default")).toMatchObject({
    kind: "IPAMConfig",
    spec: { strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 4 },
  });
  const labels = affinityLabels("n1", 4);
  const spec = { cidr: "10.0.0.0/26", node: "n1", state: "confirmed", type: "host", deleted: false } as const;
  const metadata = { name: "n1-10-0-0-0-26", labels };
  await store.create("BlockAffinity", { apiVersion: V3, kind: "BlockAffinity", metadata, spec });
  expect(await raw("blockaffinities", metadata.name)).toMatchObject({
    metadata: { labels },
    spec: { ...spec, deleted: "false" },
  });
  expect((await store.list("BlockAffinity", { labels })).items).toMatchObject([{ metadata, spec }]);
});

test("an owner in the native group is one in the older group there, with the uid that it has there", async () => {
  const owner = { apiVersion: V3, kind: "Tier", name: "t", uid: "00112233-4455-4677-8899-aabbccddeeff" };
  const metadata = { name: "owned", ownerReferences: [owner] };
  const set = { apiVersion: V3, kind: "GlobalNetworkSet", metadata, spec: {} } as Resource<"GlobalNetworkSet">;
  expect(await store.create("GlobalNetworkSet", set)).toMatchObject({ metadata: { ownerReferences: [owner] } });
  const { metadata: there } = await raw("globalnetworksets", "owned");
  expect(JSON.parse(there.annotations[METADATA] ?? "")).toMatchObject({
    ownerReferences: [{ ...owner, apiVersion: V1, uid: "008844cc-22aa-46ee-8899-55dd33bb77ff" }],
  });
});

test("a watch brings the objects as they are here", async () => {
  const { revision } = await store.list("Tier");
  const abort = new AbortController();
  const seen: WatchEvent<"Tier">[] = [];
  const watch = (async () => {
    for await (const batch of store.watch("Tier", revision, { signal: abort.signal })) {
      seen.push(...batch.filter(({ type }) => type !== "bookmark"));
      if (seen.length > 0) abort.abort();
    }
  })();
  await store.create("Tier", { apiVersion: V3, kind: "Tier", metadata: { name: "t", labels: { a: "b" } }, spec: {} });
  await watch;
  expect(seen).toMatchObject([
    { type: "added", object: { apiVersion: V3, metadata: { name: "t", labels: { a: "b" } } } },
  ]);
});

test("kinds that an older release does not have are empty, until the cluster has them; other kinds are errors", async () => {
  const crds = classicCrds() as readonly { readonly metadata: { readonly name: string } }[];
  const isOf = (plural: string) => (crd: { readonly metadata: { readonly name: string } }) =>
    crd.metadata.name.startsWith(`${plural}.`);
  const old = await serveKubernetes(crds.filter((crd) => !isOf("tiers")(crd) && !isOf("hostendpoints")(crd)));
  let looks = 0;
  const { clock: real } = dependencies;
  const clock: Clock = {
    ...real,
    sleep: (ms, signal) => real.sleep(ms === UNSERVED_MS && ++looks > 0 ? 10 : ms, signal),
  };
  const older = openKubernetesStore(old.access, { ...dependencies, clock }, "detect");
  expect((await older.list("ClusterNetworkPolicy")).items).toEqual([]);
  const missing = await older.list("HostEndpoint").catch((error: unknown) => error);
  expect(missing).toMatchObject({ reason: "unavailable" });
  const { items, revision } = await older.list("Tier");
  expect(items).toEqual([]);
  const watch = older.watch("Tier", revision, { signal: new AbortController().signal })[Symbol.asyncIterator]();
  expect((await watch.next()).value).toEqual([]);
  const next = watch.next().catch((error: unknown) => error);
  while (looks < 3) await Bun.sleep(5);
  const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  await old.call("POST", path, crds.find(isOf("tiers")));
  expect(await next).toMatchObject({ reason: "gone" });
  await older.close();
}, 30_000);
