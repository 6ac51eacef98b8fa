import { expect, test } from "bun:test";
import type { Resource } from "../model/resource.ts";
import { MemoryStore } from "./memory.ts";
import { StoreError } from "./store.ts";

function pool(name: string): Resource<"IPPool"> {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr: "fd00::/48" } };
}

/** The first batch after the empty one that means the watch is established. */
async function firstBatch(store: MemoryStore, kind: "IPPool" | "Node", revision: string) {
  const watch = store.watch(kind, revision, { signal: new AbortController().signal });
  await watch.next();
  return watch.next();
}

const POOL = { kind: "IPPool", namespace: undefined, name: "p" } as const;

test("a lost request does nothing, a lost answer comes after the write", async () => {
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "create" && step.phase === "request" ? "unavailable" : undefined));
  await expect(store.create("IPPool", pool("p"))).rejects.toBeInstanceOf(StoreError);
  expect(await store.get(POOL)).toBeUndefined();
  store.setFault((step) => (step.verb === "create" && step.phase === "answer" ? "unavailable" : undefined));
  await expect(store.create("IPPool", pool("p"))).rejects.toBeInstanceOf(StoreError);
  store.setFault(undefined);
  expect(await store.get(POOL)).toBeDefined();
});

test("a bounded history refuses watches from before it", async () => {
  const store = new MemoryStore({ historyLimit: 5 });
  let object = await store.create("IPPool", pool("p"));
  for (let i = 0; i < 20; i++) object = await store.update("IPPool", object);
  await expect(firstBatch(store, "IPPool", "1")).rejects.toThrow("history begins after");
  expect((await firstBatch(store, "IPPool", "20")).value).toMatchObject([{ type: "modified", revision: "21" }]);
});

test("a watch of a quiet kind gets bookmarks", async () => {
  const store = new MemoryStore();
  const first = firstBatch(store, "Node", "0");
  let object = await store.create("IPPool", pool("p"));
  for (let i = 1; i < 100; i++) object = await store.update("IPPool", object);
  expect((await first).value).toEqual([{ type: "bookmark", revision: "100" }]);
});

test.each(["server", "gone", "unavailable"] as const)("dropped watches: %s", async (how) => {
  const store = new MemoryStore();
  const next = firstBatch(store, "IPPool", "0");
  await Promise.resolve();
  await store.get(POOL);
  store.dropWatches(how);
  if (how === "server") expect((await next).done).toBe(true);
  else await expect(next).rejects.toMatchObject({ reason: how });
});
