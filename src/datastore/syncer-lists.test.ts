import { expect, test } from "bun:test";
import type { Kind } from "../model/kind.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Update } from "../model/update.ts";
import { MemoryStore } from "./memory.ts";
import type { ReducedLists, ReducedPage } from "./reduced-lists.ts";
import { StoreError } from "./store.ts";
import { KEY, namespace, pool, sorted, start, storeState } from "./syncer-bench.ts";

test("a list in pages: all are delivered, what is on none of them is deleted, and paging waits for a busy consumer", async () => {
  const store = new MemoryStore({ pageSize: 400 });
  for (let i = 0; i < 2_000; i++) await store.create("Namespace", namespace(`n-${i}`));
  let reduced = 0;
  const gate = Promise.withResolvers<void>();
  const reduce = (update: Update): Update => {
    reduced++;
    return update;
  };
  const { clock, view, syncer } = start({ store, kinds: ["Namespace"], reduce });
  view.gate = gate.promise;
  await clock.advance(100);
  // Only the page that the consumer has, and the pages that may wait for it.
  expect([reduced < 2_000, view.objects.size < 2_000, view.log.includes("in-sync")]).toEqual([true, true, false]);
  view.gate = undefined;
  gate.resolve();
  await clock.advance(100);
  expect([reduced, view.objects.size, view.log.at(-1)]).toEqual([2_000, 2_000, "in-sync"]);
  for (const i of [0, 399, 400, 1_999]) await store.delete({ ...KEY, name: `n-${i}` });
  store.compact();
  store.dropWatches("gone");
  await clock.advance(20_000);
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["Namespace"])));
  await syncer.stop();
});

test("a list that restarts: only what follows the last restart counts", async () => {
  const store = new MemoryStore();
  for (const name of ["stays", "goes"]) await store.create("Namespace", namespace(name));
  const { list } = store;
  store.pages = async function* (kind, options) {
    const first = await list.call(store, kind, options);
    yield { items: first.items as never, isFirst: true, isLast: false, revision: first.revision };
    if ((await store.get({ ...KEY, name: "goes" })) !== undefined) await store.delete({ ...KEY, name: "goes" });
    const again = await list.call(store, kind, options);
    yield { items: again.items as never, isFirst: true, isLast: true, revision: again.revision };
  };
  const { clock, view, syncer } = start({ store, kinds: ["Namespace"] });
  await clock.advance(100);
  expect(view.log.at(-1)).toBe("in-sync");
  expect([...view.objects.keys()]).toEqual(["Namespace/stays"]);
  await syncer.stop();
});

/** Lists of Namespaces that somebody else reads from the store; each as many times as `attempts` says it fails first. */
function listsOf(store: MemoryStore, failures = 0): ReducedLists<Update> & { asked: number } {
  const lists = { asked: 0, pages: (kind: Kind) => (kind === "Namespace" ? read() : undefined) };
  async function* read(): AsyncGenerator<ReducedPage<Update>> {
    lists.asked++;
    const { items, revision } = await store.list("Namespace");
    const updates = items.map((value) => {
      const key = { ...KEY, name: value.metadata.name };
      const origin = { revision: value.metadata.resourceVersion ?? "", generation: undefined, seenAt: 0 };
      return { kind: key.kind, key, id: formatKey(key), value, origin } as Update & { readonly id: KeyText };
    });
    yield { items: updates.slice(0, 1), isFirst: true, revision };
    if (lists.asked <= failures) throw new StoreError("unavailable", "Namespace", undefined, "the reader broke");
    yield { items: updates.slice(1), isFirst: false, revision };
  }
  return lists;
}

test("a list of more than a page is read elsewhere, after a failure again, and what it does not show is gone", async () => {
  const store = new MemoryStore({ pageSize: 2 });
  for (const name of ["a", "b", "c"]) await store.create("Namespace", namespace(name));
  const lists = listsOf(store, 1);
  const { clock, view, errors, syncer } = start({ store, kinds: ["Namespace"], lists });
  await clock.advance(1_000);
  expect(view.log.at(-1)).toBe("in-sync");
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["Namespace"])));
  expect([lists.asked, errors]).toEqual([2, ["the reader broke"]]);
  await store.delete({ ...KEY, name: "b" });
  for (const name of ["d", "e"]) await store.create("Namespace", namespace(name));
  store.compact();
  store.dropWatches("gone");
  await clock.advance(20_000);
  expect(lists.asked).toBe(3);
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["Namespace"])));
  // What is known is not told again.
  expect(view.log.filter((line) => line.split(" ").includes("+a")).length).toBe(1);
  await syncer.stop();
});

test("a list of one page is read here", async () => {
  const store = new MemoryStore({ pageSize: 3 });
  for (const name of ["a", "b", "c"]) await store.create("Namespace", namespace(name));
  const lists = listsOf(store);
  const { clock, view, syncer } = start({ store, kinds: ["Namespace"], lists });
  await clock.advance(100);
  expect([view.log.at(-1), view.objects.size, lists.asked]).toEqual(["in-sync", 3, 0]);
  await syncer.stop();
});

test("of a kind that is read nowhere else a long list is read here", async () => {
  const store = new MemoryStore({ pageSize: 1 });
  for (const name of ["a", "b", "c"]) await store.create("IPPool", pool(name));
  const { clock, view, syncer } = start({ store, kinds: ["IPPool"], lists: listsOf(store) });
  await clock.advance(100);
  expect([view.log.at(-1), view.objects.size]).toEqual(["in-sync", 3]);
  await syncer.stop();
});
