/**
 * Contract suite: what every Store must do, run against each of them. Imported by tests only.
 *
 * Uses ServiceAccount as the namespaced and IPPool as the cluster kind: both are accepted by a real API server as written here.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Key } from "../../src/model/key.ts";
import type { Kind } from "../../src/model/kind.ts";
import type { PolicyStatus } from "../../src/model/kinds/network-policy.ts";
import type { Resource } from "../../src/model/resource.ts";
import { type Store, StoreError, type WatchEvent } from "../../src/datastore/store.ts";

export interface OpenStore {
  readonly store: Store;
  readonly close: () => Promise<void>;
  /** Makes the store discard its history. */
  readonly compact: () => Promise<void>;
  /** It keeps no status of policies. */
  readonly hasNoStatus?: true;
}

let serial = 0;

/** A name that no other test uses. */
function fresh(prefix: string): string {
  return `${prefix}-${++serial}`;
}

function pool(name: string, cidr = "10.0.0.0/16"): Resource<"IPPool"> {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr } };
}

function account(name: string, namespace: string, labels?: Record<string, string>): Resource<"ServiceAccount"> {
  const metadata = labels === undefined ? { name, namespace } : { name, namespace, labels };
  return { apiVersion: "v1", kind: "ServiceAccount", metadata };
}

function poolKey(name: string): Key<"IPPool"> {
  return { kind: "IPPool", namespace: undefined, name };
}

function accountKey(name: string, namespace: string): Key<"ServiceAccount"> {
  return { kind: "ServiceAccount", namespace, name };
}

async function reasonOf(operation: Promise<unknown>): Promise<string> {
  try {
    await operation;
    return "no error";
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    expect(error.message).not.toBe("");
    return error.reason;
  }
}

function revisionOf(object: { readonly metadata: { readonly resourceVersion?: string } }): string {
  const revision = object.metadata.resourceVersion;
  if (revision === undefined) throw new Error("the object has no resourceVersion");
  return revision;
}

/** `added a`, `modified a`, …: events of the names with the prefix, bookmarks left out, up to `count` of them. */
async function collect<K extends Kind>(
  store: Store,
  kind: K,
  revision: string,
  prefix: string,
  count: number,
): Promise<{ seen: string[]; last: string }> {
  const abort = new AbortController();
  const seen: string[] = [];
  let last = revision;
  while (seen.length < count) {
    for await (const batch of store.watch(kind, last, { signal: abort.signal })) {
      for (const event of batch) {
        last = event.revision;
        if (event.type === "bookmark" || !event.object.metadata.name.startsWith(prefix)) continue;
        seen.push(`${event.type} ${event.object.metadata.name}`);
        expect(revisionOf(event.object)).toBe(event.revision);
      }
      if (seen.length >= count) abort.abort();
    }
  }
  return { seen, last };
}

/** Holds the store that `open` gives to the contract. Namespaces `contract-a` and `contract-b` must not exist before. */
export function storeContract(name: string, open: () => Promise<OpenStore>): void {
  describe(`store contract: ${name}`, () => {
    let opened: OpenStore;
    let store: Store;
    beforeAll(async () => {
      opened = await open();
      store = opened.store;
      for (const namespace of ["contract-a", "contract-b"]) {
        await store.create("Namespace", { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
      }
    });
    afterAll(() => opened.close());
    reads(() => store);
    writes(() => store);
    statuses(
      () => store,
      () => opened.hasNoStatus !== true,
    );
    deletes(() => store);
    watches(() => store);
    test("a watch from a revision that is no longer kept is refused with gone", async () => {
      const { revision } = await store.list("IPPool");
      for (let i = 0; i < 3; i++) await store.create("IPPool", pool(fresh("gone")));
      await opened.compact();
      const drain = async (): Promise<void> => {
        for await (const batch of store.watch("IPPool", revision, { signal: new AbortController().signal }))
          expect(batch).toEqual([]);
      };
      expect(await reasonOf(drain())).toBe("gone");
    });
  });
}

function reads(store: () => Store): void {
  test("get: the object with its version and identity, or undefined; both scopes", async () => {
    const [name, other] = [fresh("get"), fresh("get")];
    const created = await store().create("IPPool", pool(name));
    expect(await store().get(poolKey(name))).toEqual(created);
    expect(created.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(created.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(created.spec.cidr).toBe("10.0.0.0/16");
    expect(await store().get(poolKey(other))).toBeUndefined();
    await store().create("ServiceAccount", account(name, "contract-a"));
    expect((await store().get(accountKey(name, "contract-a")))?.metadata.namespace).toBe("contract-a");
    expect(await store().get(accountKey(name, "contract-b"))).toBeUndefined();
  });

  test("what is read or was written is a copy", async () => {
    const name = fresh("copy");
    const written = pool(name);
    const created = await store().create("IPPool", written);
    written.spec.cidr = "10.9.0.0/16";
    created.spec.cidr = "10.9.0.0/16";
    const read = await store().get(poolKey(name));
    expect(read?.spec.cidr).toBe("10.0.0.0/16");
    if (read !== undefined) read.spec.cidr = "10.9.0.0/16";
    expect((await store().get(poolKey(name)))?.spec.cidr).toBe("10.0.0.0/16");
  });

  test("list: by namespace and labels, every item complete", async () => {
    const label = fresh("list");
    for (const namespace of ["contract-a", "contract-b"]) {
      await store().create("ServiceAccount", account(`${label}-x`, namespace, { suite: label, color: "red" }));
      await store().create("ServiceAccount", account(`${label}-y`, namespace, { suite: label, color: "blue" }));
    }
    const names = async (options: { namespace?: string; labels?: Record<string, string> }): Promise<string[]> =>
      (await store().list("ServiceAccount", options)).items
        .map((item) => `${item.metadata.namespace}/${item.metadata.name}`)
        .sort();
    expect(await names({ labels: { suite: label } })).toEqual(
      ["contract-a", "contract-b"].flatMap((at) => [`${at}/${label}-x`, `${at}/${label}-y`]),
    );
    expect(await names({ labels: { suite: label, color: "red" } })).toEqual([
      `contract-a/${label}-x`,
      `contract-b/${label}-x`,
    ]);
    expect(await names({ namespace: "contract-b", labels: { suite: label } })).toEqual([
      `contract-b/${label}-x`,
      `contract-b/${label}-y`,
    ]);
    expect(await names({ labels: { suite: label, color: "green" } })).toEqual([]);
    const [item] = (
      await store().list("ServiceAccount", { namespace: "contract-a", labels: { suite: label, color: "red" } })
    ).items;
    expect([item?.apiVersion, item?.kind]).toEqual(["v1", "ServiceAccount"]);
    expect(item).toEqual((await store().get(accountKey(`${label}-x`, "contract-a"))) as Resource<"ServiceAccount">);
  });

  test("list: more objects than fit one page", async () => {
    const label = fresh("page");
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        store().create("ServiceAccount", account(`${label}-${i}`, "contract-a", { suite: label })),
      ),
    );
    expect((await store().list("ServiceAccount", { labels: { suite: label } })).items.length).toBe(30);
  });

  test("pages: together they are the list, only the first is marked as first, and an empty list has one page to watch from", async () => {
    const label = fresh("pages");
    for (let i = 0; i < 5; i++)
      await store().create("ServiceAccount", account(fresh("pages"), "contract-a", { suite: label }));
    for (const [suite, count] of [
      [label, 5],
      ["nobody", 0],
    ] as const) {
      const options = { labels: { suite } };
      const pages = await Array.fromAsync(store().pages("ServiceAccount", options));
      expect(pages.map(({ isFirst }) => isFirst)).toEqual(pages.map((_, index) => index === 0));
      expect(pages.length).toBeGreaterThan(0);
      expect(pages.flatMap(({ items }) => items)).toEqual([...(await store().list("ServiceAccount", options)).items]);
      expect(pages.flatMap(({ items }) => items).length).toBe(count);
      expect(pages.at(-1)?.revision).toMatch(/^[1-9]\d*$/);
    }
  });

  test("an aborted signal rejects before anything is done", async () => {
    const name = fresh("abort");
    const signal = AbortSignal.abort(new Error("stopped"));
    await expect(store().create("IPPool", pool(name), { signal })).rejects.toThrow("stopped");
    expect(await store().get(poolKey(name))).toBeUndefined();
  });
}

function writes(store: () => Store): void {
  test("create: refuses an object that exists and leaves it unchanged", async () => {
    const name = fresh("create");
    const created = await store().create("IPPool", pool(name));
    expect(await reasonOf(store().create("IPPool", pool(name, "10.1.0.0/16")))).toBe("exists");
    expect(await store().get(poolKey(name))).toEqual(created);
  });

  test("update: only from the current version", async () => {
    const name = fresh("update");
    const first = await store().create("IPPool", pool(name));
    const second = await store().update("IPPool", { ...first, spec: { ...first.spec, disabled: true } });
    expect(revisionOf(second)).not.toBe(revisionOf(first));
    expect([second.metadata.uid, second.metadata.creationTimestamp]).toEqual([
      first.metadata.uid,
      first.metadata.creationTimestamp,
    ]);
    expect((second.metadata.generation ?? 0) - (first.metadata.generation ?? 0)).toBe(1);
    expect(await store().get(poolKey(name))).toEqual(second);
    expect(await reasonOf(store().update("IPPool", { ...first, spec: { ...first.spec, disabled: false } }))).toBe(
      "conflict",
    );
    expect((await store().get(poolKey(name)))?.spec.disabled).toBe(true);
    await store().delete(poolKey(name));
    expect(await reasonOf(store().update("IPPool", second))).toBe("not-found");
  });

  test("a version from before a delete and create does not update the new object", async () => {
    const name = fresh("recreate");
    const first = await store().create("IPPool", pool(name));
    await store().delete(poolKey(name));
    const second = await store().create("IPPool", pool(name));
    expect(second.metadata.uid).not.toBe(first.metadata.uid);
    expect(
      await reasonOf(
        store().update("IPPool", { ...second, metadata: { ...second.metadata, resourceVersion: revisionOf(first) } }),
      ),
    ).toBe("conflict");
  });

  test("concurrent compare-and-swap loses no increment", async () => {
    const name = fresh("counter");
    await store().create("IPAMHandle", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMHandle",
      metadata: { name },
      spec: { handleID: name, block: { b: 0 } },
    });
    const key: Key<"IPAMHandle"> = { kind: "IPAMHandle", namespace: undefined, name };
    const increment = async (): Promise<void> => {
      for (;;) {
        const object = await store().get(key);
        if (object === undefined) throw new Error("the counter is gone");
        object.spec.block["b"] = (object.spec.block["b"] ?? 0) + 1;
        if ((await reasonOf(store().update("IPAMHandle", object))) === "no error") return;
      }
    };
    await Promise.all(
      Array.from({ length: 5 }, async () => {
        for (let i = 0; i < 5; i++) await increment();
      }),
    );
    expect((await store().get(key))?.spec.block["b"]).toBe(25);
  });

  test("annotate: sets, replaces and removes, leaves the rest alone", async () => {
    const name = fresh("annotate");
    const created = await store().create("ServiceAccount", account(name, "contract-a", { keep: "me" }));
    const key = accountKey(name, "contract-a");
    await store().annotate(key, { "example.org/a": "1", "example.org/b": "2" });
    await store().annotate(key, { "example.org/a": "3", "example.org/b": null, "example.org/c": null });
    const read = await store().get(key);
    expect(read?.metadata.annotations).toEqual({ "example.org/a": "3" });
    expect(read?.metadata.labels).toEqual({ keep: "me" });
    expect(read?.metadata.uid).toBe(created.metadata.uid ?? "");
    expect(await reasonOf(store().update("ServiceAccount", created))).toBe("conflict");
    expect(
      await reasonOf(store().annotate(accountKey(fresh("annotate"), "contract-a"), { "example.org/a": "1" })),
    ).toBe("not-found");
  });
}

function statuses(store: () => Store, keepsStatus: () => boolean): void {
  test("updateStatus: at that revision alone; leaves the rest and the generation alone", async () => {
    const name = fresh("status");
    const key = { kind: "GlobalNetworkPolicy", namespace: undefined, name } as const;
    const condition = (type: string): Condition => ({
      type,
      status: "True",
      reason: "Programmed",
      message: "on 1 of 1 nodes that it concerns",
      lastTransitionTime: "2026-11-25T23:59:42Z",
      observedGeneration: 1,
    });
    const created = await store().create("GlobalNetworkPolicy", {
      apiVersion: "projectcalico.org/v3",
      kind: "GlobalNetworkPolicy",
      metadata: { name },
      spec: { order: 1 },
    });
    const first = store().updateStatus(key, { conditions: [condition("Accepted")] }, revisionOf(created));
    if (!keepsStatus()) return expect(await reasonOf(first)).toBe("invalid");
    await first;
    expect(
      await reasonOf(store().updateStatus(key, { conditions: [condition("Programmed")] }, revisionOf(created))),
    ).toBe("conflict");
    const read = await store().get(key);
    expect(read?.status?.conditions).toEqual([condition("Accepted")]);
    expect(read?.metadata.generation).toBe(1);
    expect(read?.spec).toEqual(created.spec);
    if (read === undefined) return;
    await store().updateStatus(key, { conditions: [condition("Programmed")] }, revisionOf(read));
    const again = await store().get(key);
    expect(again?.status?.conditions).toEqual([condition("Programmed")]);
    expect(again?.metadata.generation).toBe(1);
    const gone = { ...key, name: fresh("status") };
    expect(await reasonOf(store().updateStatus(gone, { conditions: [] }, revisionOf(read)))).toBe("not-found");
  });
}

type Condition = NonNullable<PolicyStatus["conditions"]>[number];

function deletes(store: () => Store): void {
  test("delete: with revision and uid as preconditions", async () => {
    const name = fresh("delete");
    const key = poolKey(name);
    const first = await store().create("IPPool", pool(name));
    const second = await store().update("IPPool", { ...first, spec: { ...first.spec, disabled: true } });
    expect(await reasonOf(store().delete(key, { revision: revisionOf(first) }))).toBe("conflict");
    expect(await reasonOf(store().delete(key, { uid: "00000000-0000-4000-8000-00000000dead" }))).toBe("conflict");
    expect(await store().get(key)).toEqual(second);
    await store().delete(key, { revision: revisionOf(second), uid: second.metadata.uid ?? "" });
    expect(await store().get(key)).toBeUndefined();
    expect(await reasonOf(store().delete(key))).toBe("not-found");
    expect(await reasonOf(store().delete(key, { revision: revisionOf(second) }))).toBe("not-found");
  });

  test("delete: without preconditions, of a namespaced object, leaves its namesake", async () => {
    const name = fresh("delete");
    for (const namespace of ["contract-a", "contract-b"])
      await store().create("ServiceAccount", account(name, namespace));
    await store().delete(accountKey(name, "contract-a"));
    expect(await store().get(accountKey(name, "contract-a"))).toBeUndefined();
    expect(await store().get(accountKey(name, "contract-b"))).toBeDefined();
  });
}

function watches(store: () => Store): void {
  test("watch: everything after the list, in order, and resumes from the last revision", async () => {
    const prefix = fresh("watch");
    const [a, b] = [`${prefix}-a`, `${prefix}-b`];
    await store().create("IPPool", pool(`${prefix}-before`));
    const { revision } = await store().list("IPPool");
    const created = await store().create("IPPool", pool(a));
    await store().create("IPPool", pool(b));
    await store().update("IPPool", { ...created, spec: { ...created.spec, disabled: true } });
    await store().delete(poolKey(b));
    const first = await collect(store(), "IPPool", revision, prefix, 4);
    expect(first.seen).toEqual([`added ${a}`, `added ${b}`, `modified ${a}`, `deleted ${b}`]);
    const rest = collect(store(), "IPPool", first.last, prefix, 2);
    await store().create("IPPool", pool(b));
    await store().delete(poolKey(a));
    expect((await rest).seen).toEqual([`added ${b}`, `deleted ${a}`]);
  });

  test("watch: an open watch sees writes of both namespaces and only its kind", async () => {
    const prefix = fresh("both");
    const { revision } = await store().list("ServiceAccount");
    const watched = collect(store(), "ServiceAccount", revision, prefix, 3);
    await store().create("IPPool", pool(`${prefix}-pool`));
    await store().create("ServiceAccount", account(`${prefix}-a`, "contract-a"));
    await store().create("ServiceAccount", account(`${prefix}-b`, "contract-b"));
    await store().delete(accountKey(`${prefix}-b`, "contract-b"));
    expect((await watched).seen).toEqual([`added ${prefix}-a`, `added ${prefix}-b`, `deleted ${prefix}-b`]);
  });

  test("watch: 200 writes by ten writers arrive once each, in an order that ends with what is stored", async () => {
    const prefix = fresh("many");
    const { revision } = await store().list("IPPool");
    const write = async (writer: number): Promise<void> => {
      let object = await store().create("IPPool", pool(`${prefix}-${writer}`));
      for (let i = 1; i < 20; i++)
        object = await store().update("IPPool", {
          ...object,
          metadata: { ...object.metadata, labels: { step: String(i) } },
        });
    };
    const watched = newest(store(), revision, prefix, 200);
    await Promise.all(Array.from({ length: 10 }, (_, writer) => write(writer)));
    const { count, steps } = await watched;
    expect(count).toBe(200);
    expect([...steps.values()]).toEqual(Array.from({ length: 10 }, () => "19"));
  });

  test("watch: the first batch is empty and comes at once, without any change", async () => {
    const { revision } = await store().list("IPPool");
    const abort = new AbortController();
    const iterator = store().watch("IPPool", revision, { signal: abort.signal })[Symbol.asyncIterator]();
    expect(await iterator.next()).toEqual({ value: [], done: false });
    abort.abort();
    await iterator.return?.();
  });

  test("watch: aborting ends it without an error, even while it waits", async () => {
    const { revision } = await store().list("IPPool");
    const abort = new AbortController();
    const iterator = store().watch("IPPool", revision, { signal: abort.signal })[Symbol.asyncIterator]();
    let pending = iterator.next();
    const name = fresh("abort");
    await store().create("IPPool", pool(name));
    for (
      let result = await pending;
      !(result.value as readonly WatchEvent<"IPPool">[]).some((e) => e.type === "added");
      result = await pending
    )
      pending = iterator.next();
    pending = iterator.next();
    abort.abort();
    for (let result = await pending; result.done !== true; result = await iterator.next());
    const again = store().watch("IPPool", revision, { signal: AbortSignal.abort() })[Symbol.asyncIterator]();
    expect((await again.next()).done).toBe(true);
  });
}

async function newest(
  store: Store,
  revision: string,
  prefix: string,
  wanted: number,
): Promise<{ count: number; steps: Map<string, string> }> {
  const abort = new AbortController();
  const steps = new Map<string, string>();
  let count = 0;
  let last = revision;
  while (count < wanted) {
    for await (const batch of store.watch("IPPool", last, { signal: abort.signal })) {
      for (const event of batch) {
        last = event.revision;
        if (event.type === "bookmark" || !event.object.metadata.name.startsWith(`${prefix}-`)) continue;
        count++;
        steps.set(event.object.metadata.name, event.object.metadata.labels?.["step"] ?? "0");
      }
      if (count >= wanted) abort.abort();
    }
  }
  return { count, steps };
}
