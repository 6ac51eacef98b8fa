import { expect, test } from "bun:test";
import { MemoryStore } from "../../datastore/memory.ts";
import { StoreError } from "../../datastore/store.ts";
import type { Kind } from "../../model/kind.ts";
import type { Resource } from "../../model/resource.ts";
import type { JsonObject } from "../../model/schema/json.ts";
import { forAll } from "./batch.ts";
import { Refusal } from "./failures.ts";
import { kindOfWord } from "./kinds.ts";
import { readAll, readOne } from "./reads.ts";
import { runLabel, runPatch } from "./run-change.ts";
import { type FileVerb, type Task, writeTasks } from "./run-files.ts";

const BATCH = { sleep: async () => {}, now: () => 0, tell: () => {} };

function task(word: string, name: string, more: JsonObject = {}, metadata: JsonObject = {}): Task {
  const kind = kindOfWord(word);
  if (kind === undefined) throw new Error(word);
  const namespace = kind.namespaced ? "default" : undefined;
  const meta = { name, ...(namespace === undefined ? {} : { namespace }), ...metadata };
  const object = { apiVersion: kind.apiVersion, kind: kind.apiKind, metadata: meta, spec: {}, ...more };
  return { kind, namespace, name, object, where: undefined };
}

function run(
  verb: FileVerb,
  store: MemoryStore,
  tasks: readonly Task[],
  options: Partial<Parameters<typeof writeTasks>[3]> = {},
) {
  return writeTasks(verb, tasks, store, { ...BATCH, skipExists: false, skipNotExists: false, ...options });
}

async function stored(store: MemoryStore, { kind, namespace, name }: Task): Promise<Resource | undefined> {
  return store.get({ kind: kind.kind as Kind, namespace, name });
}

test("apply creates, then updates and keeps what is the server's", async () => {
  const store = new MemoryStore();
  const web = task("np", "web", { spec: { order: 1 } }, { labels: { a: "1" }, uid: "forged" });
  expect((await run("apply", store, [web])).out).toBe("Successfully applied 1 'NetworkPolicy' resource(s)\n");
  const first = await stored(store, web);
  expect(first?.metadata.uid).not.toBe("forged");
  await store.update("NetworkPolicy", {
    ...first,
    metadata: { ...first?.metadata, finalizers: ["x/y"] },
    status: { conditions: [] },
  } as never);
  await run("apply", store, [task("np", "web", { spec: { order: 2 } })]);
  const second = await stored(store, web);
  expect(second).toMatchObject({ spec: { order: 2 }, status: { conditions: [] }, metadata: { finalizers: ["x/y"] } });
  expect(second?.metadata.labels).toBeUndefined();
  expect(second?.metadata.uid).toBe(first?.metadata.uid ?? "");
});

test("a resourceVersion in the file is compared, and without one a conflict is retried", async () => {
  const store = new MemoryStore();
  const web = task("np", "web");
  await run("create", store, [web]);
  const revision = (await stored(store, web))?.metadata.resourceVersion ?? "";
  const with5 = task("np", "web", { spec: { order: 5 } }, { resourceVersion: revision });
  expect((await run("replace", store, [with5])).code).toBe(0);
  for (const verb of ["apply", "replace"] as const) {
    const stale = await run(verb, store, [with5]);
    expect(stale).toMatchObject({ code: 1, out: "" });
    expect(stale.error).toContain(
      `update conflict: NetworkPolicy(default/web): resource version '${revision}' is out of date (latest: `,
    );
  }
  let conflicts = 0;
  store.setFault(({ verb, phase }) =>
    verb === "update" && phase === "request" && conflicts++ < 3 ? "conflict" : undefined,
  );
  expect((await run("apply", store, [task("np", "web", { spec: { order: 6 } })])).code).toBe(0);
  expect(conflicts).toBe(4);
  store.setFault(({ verb, phase }) => (verb === "update" && phase === "request" ? "conflict" : undefined));
  expect((await run("apply", store, [task("np", "web")])).error).toContain(
    "update conflict: NetworkPolicy(default/web): it changed in the meantime",
  );
});

test("create and replace want the object absent and present", async () => {
  const store = new MemoryStore();
  const [a, b] = [task("gnp", "a"), task("gnp", "b")];
  expect((await run("replace", store, [a])).error).toBe(
    "Failed to replace 'GlobalNetworkPolicy' resource: resource does not exist: GlobalNetworkPolicy(a): use create or apply to make it\ncalicoctl replace: failed to replace 'GlobalNetworkPolicy' resource\n",
  );
  await run("create", store, [a]);
  const partly = await run("create", store, [a, b]);
  expect(partly).toMatchObject({
    code: 1,
    out: "Partial success: created 1 out of 2 'GlobalNetworkPolicy' resources\n",
  });
  expect(partly.error).toContain("resource already exists: GlobalNetworkPolicy(a): use apply or replace");
  expect(partly.error).toEndWith("calicoctl create: hit error: 1 out of 2 'GlobalNetworkPolicy' resources failed\n");
  expect((await run("create", store, [a, b], { skipExists: true })).out).toBe(
    "Successfully created 2 'GlobalNetworkPolicy' resource(s)\n",
  );
});

test("delete: missing objects, and a revision that is not current", async () => {
  const store = new MemoryStore();
  const [a, tier] = [task("gnp", "a"), task("tier", "t")];
  await run("create", store, [a]);
  expect((await run("delete", store, [task("gnp", "a", {}, { resourceVersion: "999" })])).error).toContain(
    "update conflict",
  );
  expect((await run("delete", store, [a])).code).toBe(0);
  expect((await run("delete", store, [a, tier])).error).toContain("calicoctl delete: failed to delete any resources");
  expect((await run("delete", store, [a, tier], { skipNotExists: true })).out).toBe(
    "Successfully deleted 2 resource(s)\n",
  );
});

test("a tier comes before its policies and goes after them, and stays while it is used", async () => {
  const store = new MemoryStore();
  const inTier = ["a", "b", "c", "d", "e", "f"].map((name) => task("np", name, { spec: { tier: "t" } }));
  expect((await run("create", store, inTier)).error).toContain(
    "resource does not exist: Tier(t): create the tier first",
  );
  expect((await run("create", store, [...inTier, task("tier", "t")])).out).toBe("Successfully created 7 resource(s)\n");
  const used = await run("delete", store, [task("tier", "t")]);
  expect(used.error).toContain(
    "operation delete is not supported on Tier(t): Cannot delete a non-empty tier: delete or move NetworkPolicy/default/a, NetworkPolicy/default/b, NetworkPolicy/default/c, NetworkPolicy/default/d, NetworkPolicy/default/e and 1 more first",
  );
  expect((await run("delete", store, [task("tier", "t"), ...inTier])).code).toBe(0);
  expect((await run("delete", store, [task("tier", "kube-admin")])).error).toContain(
    "Cannot delete kube-admin tier: it is built in",
  );
});

test("views and what the nodes maintain are not written", async () => {
  const store = new MemoryStore();
  for (const [verb, object, reason] of [
    [
      "apply",
      task("profile", "kns.shop"),
      "operation apply is not supported on Profile(kns.shop): profiles are read-only",
    ],
    [
      "delete",
      task("profile", "projectcalico-default-allow"),
      "operation delete is not supported on Profile(projectcalico-default-allow)",
    ],
    ["create", task("node", "n1"), "it is a view of a Kubernetes Node"],
    ["replace", task("wep", "n1-k8s-web-eth0"), "it is a view of a Pod"],
    [
      "apply",
      task("clusterinfo", "default"),
      "operation apply is not supported on ClusterInformation(default): resource is readonly",
    ],
  ] as const)
    expect((await run(verb, store, [object])).error).toContain(reason);
});

test("patch and label change what is stored and validate the result", async () => {
  const store = new MemoryStore();
  const web = task("np", "web", { spec: { selector: "all()" } });
  await run("create", store, [web]);
  const sleep = BATCH.sleep;
  expect((await runPatch(store, web, { spec: { egress: [] } }, "strategic", sleep)).out).toBe(
    "Successfully patched 1 'NetworkPolicy' resource\n",
  );
  expect(await stored(store, web)).toMatchObject({ spec: { selector: "all()", egress: [], types: ["Egress"] } });
  for (const [patch, message] of [
    [{ spec: { selector: "a = b" } }, "the result is invalid: spec.selector: "],
    [{ metadata: { name: "x" } }, "metadata.name cannot be changed by a patch"],
    [{ kind: "Tier" }, "kind cannot be changed by a patch"],
    [{ metadata: { resourceVersion: "0" } }, 'resource version "0" of the patch is out of date'],
  ] as const) {
    const result = await runPatch(store, web, patch, "merge", sleep);
    expect([result.code, result.error]).toEqual([1, expect.stringContaining(message)]);
  }
  const label = (labels: readonly string[], options: { overwrite?: boolean; remove?: boolean } = {}) =>
    runLabel(store, web, { kindWord: "np", labels, overwrite: false, remove: false, ...options }, sleep);
  expect((await label(["a=1", "b=2"])).out).toBe(
    "Successfully set label a on np web\nSuccessfully set label b on np web\n",
  );
  expect((await label(["a=2"])).error).toContain("key a is already present. please use '--overwrite'");
  expect((await label(["a=1"])).out).toBe("Successfully updated label a on np web\n");
  expect((await label(["a=2"], { overwrite: true })).out).toBe("Successfully updated label a on np web\n");
  expect((await label(["b"], { remove: true })).out).toBe("Successfully removed label b from np web\n");
  expect((await label(["b"], { remove: true })).error).toContain("cannot remove label of np web, key b does not exist");
  expect((await stored(store, web))?.metadata.labels).toEqual({ a: "2", "projectcalico.org/tier": "default" });
  await expect(label(["x"])).rejects.toThrow("invalid label x: it must be KEY=VALUE");
  await expect(label(["x=-"])).rejects.toThrow("invalid label x=-: ");
  const missing = await runPatch(store, task("np", "none"), {}, "merge", sleep);
  expect(missing.error).toContain("resource does not exist: NetworkPolicy(default/none)");
});

test("profiles, nodes and endpoints are made from Kubernetes' objects", async () => {
  const store = new MemoryStore();
  const create = (kind: Kind, object: object) => store.create(kind, object as never);
  await create("Namespace", { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { a: "b" } } });
  await create("ServiceAccount", {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "sa", namespace: "shop", labels: { c: "d" } },
  });
  await create("Node", {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: "n-1",
      annotations: { "projectcalico.org/IPv4Address": "192.0.2.1/24", "projectcalico.org/ASNumber": "64513" },
    },
    status: {
      addresses: [
        { type: "InternalIP", address: "192.0.2.1" },
        { type: "Hostname", address: "n-1" },
      ],
    },
  });
  const pod = (name: string, spec: object): object => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop" },
    spec,
    status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
  });
  await create("Pod", pod("web-0", { nodeName: "n-1", serviceAccountName: "sa" }));
  await create("Pod", pod("host", { nodeName: "n-1", hostNetwork: true }));
  await create("Pod", pod("waiting", {}));
  const all = async (word: string) => {
    const { kind } = task(word, "x");
    return (await readAll(store, kind, undefined, (object) => object)).items;
  };
  const profiles = await all("profiles");
  expect(profiles.map(({ metadata }) => (metadata as JsonObject)["name"])).toEqual([
    "projectcalico-default-allow",
    "kns.shop",
    "ksa.shop.sa",
  ]);
  expect(profiles[1]).toMatchObject({
    spec: { ingress: [{ action: "Allow" }], labelsToApply: { "pcns.a": "b", "pcns.projectcalico.org/name": "shop" } },
  });
  expect(profiles[2]).toMatchObject({
    spec: { labelsToApply: { "pcsa.c": "d", "pcsa.projectcalico.org/name": "sa" } },
  });
  expect((await all("nodes"))[0]).toMatchObject({
    apiVersion: "projectcalico.org/v3",
    spec: {
      bgp: { ipv4Address: "192.0.2.1/24", asNumber: 64513 },
      addresses: [
        { address: "192.0.2.1/24", type: "CalicoNodeIP" },
        { address: "192.0.2.1", type: "InternalIP" },
      ],
      orchRefs: [{ nodeName: "n-1", orchestrator: "k8s" }],
    },
  });
  const endpoints = await all("weps");
  expect(endpoints).toHaveLength(1);
  expect(endpoints[0]).toMatchObject({
    metadata: { name: "n--1-k8s-web--0-eth0", namespace: "shop" },
    spec: {
      node: "n-1",
      pod: "web-0",
      ipNetworks: ["10.0.0.1/32", "fd00::1/128"],
      profiles: ["kns.shop", "ksa.shop.sa"],
      interfaceName: expect.stringMatching(/^cali[0-9a-f]{11}$/),
    },
  });
  for (const [word, name, found] of [
    ["profile", "kns.shop", true],
    ["profile", "kns.none", false],
    ["profile", "ksa.shop.sa", true],
    ["profile", "projectcalico-default-allow", true],
    ["profile", "other", false],
    ["node", "n-1", true],
    ["wep", "n--1-k8s-web--0-eth0", true],
    ["wep", "n--2-k8s-web--0-eth0", false],
    ["wep", "web-0", false],
  ] as const)
    expect([name, (await readOne(store, task(word, name).kind, "shop", name)) !== undefined]).toEqual([name, found]);
});

test("many objects: a few at a time, waits where the server asks for it, an end where it is gone", async () => {
  let active = 0;
  let most = 0;
  const told: number[] = [];
  let time = 0;
  const items = Array.from({ length: 200 }, (_, index) => index);
  const outcomes = await forAll(
    items,
    async (index) => {
      most = Math.max(most, ++active);
      time += 100;
      await Promise.resolve();
      active--;
      if (index === 7) throw new Refusal("no");
    },
    { sleep: async () => {}, now: () => time, tell: (done) => told.push(done) },
  );
  expect(outcomes.flatMap((outcome, index) => (outcome === undefined ? [] : [index]))).toEqual([7]);
  expect(most).toBe(8);
  expect(told.length).toBeGreaterThan(5);
  const waits: number[] = [];
  let asked = 0;
  const busy = new StoreError("unavailable", "Tier", undefined, "429", 50);
  const once = await forAll([0], async () => (asked++ < 2 ? Promise.reject(busy) : undefined), {
    ...BATCH,
    sleep: async (ms) => void waits.push(ms),
  });
  expect([once, waits]).toEqual([[undefined], [60, 60]]);
  let tried = 0;
  const gone = await forAll(
    items,
    async () => {
      tried++;
      throw new StoreError("unavailable", "Tier", undefined, "connection refused");
    },
    BATCH,
  );
  expect(tried).toBeLessThan(30);
  expect(gone.at(-1)?.message).toContain("not tried: the server did not answer");
  const bug = forAll(
    [0],
    async () => {
      throw new TypeError("bug");
    },
    BATCH,
  );
  await expect(bug).rejects.toThrow(TypeError);
});

test("WorkloadEndpoints of machines are stored objects, shown beside those of pods", async () => {
  const store = new MemoryStore();
  const spec = { node: "n1", orchestrator: "kvm", workload: "db", endpoint: "eth0", interfaceName: "tap0" };
  expect((await run("apply", store, [task("wep", "n1-kvm-db-eth0", { spec })])).out).toBe(
    "Successfully applied 1 'WorkloadEndpoint' resource(s)\n",
  );
  await store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web", namespace: "default" },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: [{ ip: "10.0.0.1" }] },
  });
  const kind = kindOfWord("wep");
  if (kind === undefined) throw new Error("there is no such kind");
  const all = await readAll(store, kind, "default", (object) =>
    ["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"].map((heading) => kind.cells[heading]?.(object)),
  );
  expect(all.items).toEqual([
    ["web", "n1", "10.0.0.1/32", expect.stringMatching(/^cali/)],
    ["db", "n1", "", "tap0"],
  ]);
  expect(await readOne(store, kind, "default", "n1-kvm-db-eth0")).toMatchObject({ kind: "WorkloadEndpoint", spec });
  expect((await run("delete", store, [task("wep", "n1-kvm-db-eth0")])).code).toBe(0);
  expect(await readOne(store, kind, "default", "n1-kvm-db-eth0")).toBeUndefined();
});
