import { expect, test } from "bun:test";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Kind } from "../model/kind.ts";
import { distortSink } from "./distort.ts";
import { MemoryStore } from "./memory.ts";
import { type ListPage, type Store, StoreError } from "./store.ts";
import { type MissingKind, startSyncer } from "./syncer.ts";
import { KEY, namespace, pool, sorted, staged, start, storeState } from "./syncer-bench.ts";
import { chance } from "../lib/chance.ts";

test("everything is delivered before in-sync, then changes as they come", async () => {
  const given = new MemoryStore();
  await given.create("IPPool", pool("a"));
  await given.create("Namespace", namespace("n"));
  const { store, clock, view, syncer } = start({ store: given });
  await clock.advance(100);
  expect(view.log.at(-1)).toBe("in-sync");
  expect(view.log.filter((line) => line === "in-sync").length).toBe(1);
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["IPPool", "Namespace"])));
  await store.create("IPPool", pool("b"));
  await store.delete({ kind: "IPPool", namespace: undefined, name: "a" });
  await clock.advance(0);
  expect(view.log.slice(-2).join(" ")).toContain("-a");
  expect([...view.objects.keys()].sort()).toEqual(["IPPool/b", "Namespace/n"]);
  await syncer.stop();
});

test("no in-sync while one kind cannot be listed; the failure is reported and retried", async () => {
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "list" && step.kind === "Namespace" ? "forbidden" : undefined));
  await store.create("IPPool", pool("a"));
  const { clock, view, errors, syncer } = start({ store });
  await clock.advance(60_000);
  expect(view.log).toEqual(["connecting", "+a"]);
  expect(errors.length).toBeGreaterThan(5);
  expect(errors.length).toBeLessThan(30);
  expect(errors[0]).toContain("Cannot list Namespace");
  expect(syncer.errors).toEqual(errors.slice(-1));
  store.setFault(undefined);
  await clock.advance(15_000);
  expect(view.log.at(-1)).toBe("in-sync");
  expect(syncer.errors).toEqual([]);
  await syncer.stop();
});

test("no in-sync while one kind can be listed but not watched", async () => {
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "watch" && step.kind === "Namespace" ? "forbidden" : undefined));
  const { clock, view, syncer } = start({ store });
  await clock.advance(60_000);
  expect(view.log).toEqual(["connecting"]);
  expect(syncer.errors).toEqual([expect.stringContaining("Cannot watch Namespace")]);
  store.setFault(undefined);
  await clock.advance(15_000);
  expect(view.log).toEqual(["connecting", "in-sync"]);
  await syncer.stop();
});

test.each(["list", "watch"] as const)(
  "a kind that decides nothing and cannot be %sed holds nobody up: it is told, and followed once it can be",
  async (verb) => {
    const store = new MemoryStore();
    store.setFault((step) => (step.verb === verb && step.kind === "StagedNetworkPolicy" ? "forbidden" : undefined));
    const missed: MissingKind[] = [];
    const { clock, view, errors, syncer } = start({
      store,
      kinds: ["Namespace", "StagedNetworkPolicy"],
      onMissing: (missing) => missed.push(missing),
    });
    await clock.advance(0);
    expect(view.log).toEqual(["connecting"]);
    await clock.advance(60_000);
    expect(view.log).toEqual(["connecting", "in-sync"]);
    const error = expect.stringMatching(
      new RegExp(`^Cannot ${verb} StagedNetworkPolicy.*: going on without, as nothing that is enforced depends on it$`),
    );
    expect(syncer.errors).toEqual([error]);
    expect(syncer.missing).toEqual([{ kind: "StagedNetworkPolicy", error }]);
    expect(missed).toEqual([...syncer.missing]);
    // The first attempts, and that it is gone on without.
    expect(errors.length).toBe(3);
    store.setFault(undefined);
    await store.create("StagedNetworkPolicy", staged("s"));
    await clock.advance(15_000);
    expect(view.log.slice(2)).toEqual(["+s"]);
    expect([syncer.errors, syncer.missing]).toEqual([[], []]);
    await syncer.stop();
  },
);

test("trouble with the server is told for such a kind as for any other, and of none is said that it is gone on without", async () => {
  const store = new MemoryStore();
  store.setFault((step) => (step.verb === "watch" ? "unavailable" : undefined));
  const missed: MissingKind[] = [];
  const { clock, syncer } = start({
    store,
    kinds: ["Namespace", "StagedNetworkPolicy"],
    onMissing: (missing) => missed.push(missing),
  });
  await clock.advance(60_000);
  expect(syncer.errors.length).toBe(2);
  expect([missed, syncer.missing]).toEqual([[], []]);
  await syncer.stop();
});

/** A server that does not grant Calico's kinds. */
class DenyingStore extends MemoryStore {
  override async *pages<K extends Kind>(kind: K, options?: Parameters<Store["pages"]>[1]): AsyncGenerator<ListPage<K>> {
    if (kind !== "Namespace")
      throw new StoreError(
        "forbidden",
        kind,
        undefined,
        `Cannot list ${kind}: the server answered 403: it is forbidden`,
      );
    yield* super.pages(kind, options);
  }
}

test("without the right to a kind that decides, nothing is in sync; the error names kind, verb and role", async () => {
  const { clock, view, syncer } = start({
    store: new DenyingStore(),
    kinds: ["Namespace", "Tier", "WorkloadEndpoint"],
    role: "calico-node",
  });
  await clock.advance(60_000);
  expect(view.log).toEqual(["connecting"]);
  expect(syncer.errors).toEqual([
    'Cannot list Tier: the server answered 403: it is forbidden; ClusterRole "calico-node" must grant list of tiers (manifests/calico-node.yaml)',
    'Cannot list WorkloadEndpoint: the server answered 403: it is forbidden; ClusterRole "calico-node" must grant list of workloadendpoints (manifests/calico-node.yaml)',
  ]);
  expect(syncer.missing).toEqual([]);
  await syncer.stop();
});

test("a busy consumer receives the newest state of each key once, and nothing of short-lived objects", async () => {
  const { store, clock, view, syncer } = start();
  await clock.advance(100);
  let open = (): void => {};
  view.gate = new Promise((resolve) => (open = resolve));
  await store.create("IPPool", pool("first"));
  await clock.advance(0);
  let object = await store.create("IPPool", pool("busy"));
  for (let i = 0; i < 50; i++) {
    object = await store.update("IPPool", { ...object, metadata: { ...object.metadata, labels: { i: String(i) } } });
    await store.create("IPPool", pool(`short-lived-${i}`));
    await store.delete({ kind: "IPPool", namespace: undefined, name: `short-lived-${i}` });
  }
  await clock.advance(0);
  view.gate = undefined;
  open();
  await clock.advance(0);
  expect(view.log.slice(-2)).toEqual(["+first", "+busy"]);
  expect(JSON.parse(view.objects.get("IPPool/busy") ?? "{}")).toMatchObject({ metadata: { labels: { i: "49" } } });
  await syncer.stop();
});

test("a lost watch resumes from the last revision: nothing is delivered twice", async () => {
  const { store, clock, view, errors, syncer } = start();
  const revisions: string[] = [];
  const watch = store.watch.bind(store);
  store.watch = (kind, revision, options) => {
    if (kind === "IPPool") revisions.push(revision);
    return watch(kind, revision, options);
  };
  await store.create("IPPool", pool("a"));
  await clock.advance(100);
  store.dropWatches("unavailable");
  await store.create("IPPool", pool("b"));
  await clock.advance(0);
  expect(view.log.at(-1)).toBe("connecting");
  await clock.advance(5000);
  expect(view.log.at(-1)).toBe("in-sync");
  expect(view.log.filter((line) => line.includes("+a")).length).toBe(1);
  expect(view.log.filter((line) => line.includes("+b")).length).toBe(1);
  expect(errors.length).toBe(2);
  expect(revisions).toEqual(["0", "1"]);
  await syncer.stop();
});

test("a watch that the server ends is not a failure", async () => {
  const { store, clock, view, errors, syncer } = start();
  await clock.advance(100);
  store.dropWatches("server");
  await clock.advance(1000);
  await store.create("IPPool", pool("b"));
  await clock.advance(0);
  expect(view.log).toEqual(["connecting", "in-sync", "+b"]);
  expect(errors).toEqual([]);
  await syncer.stop();
});

test("a server that ends every watch at once gets watches with growing backoff", async () => {
  const store = new MemoryStore();
  let watches = 0;
  store.watch = async function* () {
    watches++;
    yield [];
  };
  const { clock, syncer } = start({ store, kinds: ["IPPool"] });
  await clock.advance(60_000);
  expect(watches).toBeGreaterThan(5);
  expect(watches).toBeLessThan(30);
  await syncer.stop();
});

test.each(["unavailable", "gone"] as const)(
  "a server that breaks every watch after its first event (%s) gets requests with growing backoff",
  async (reason) => {
    const store = new MemoryStore();
    let asked = 0;
    const list = store.list.bind(store);
    store.list = (kind, options) => (asked++, list(kind, options));
    store.watch = async function* (kind) {
      asked++;
      yield [{ type: "bookmark", revision: String(asked) }];
      throw new StoreError(reason, kind, undefined, "Cannot watch: broken");
    };
    const { clock, syncer } = start({ store, kinds: ["IPPool"] });
    await clock.advance(60_000);
    expect(asked).toBeGreaterThan(5);
    expect(asked).toBeLessThan(50);
    await syncer.stop();
  },
);

test("history gone: lists again, and delivers what changed and vanished meanwhile but not what stayed", async () => {
  const { store, clock, view, syncer } = start();
  for (const name of ["stays", "changes", "goes"]) await store.create("IPPool", pool(name));
  await clock.advance(100);
  const before = view.log.length;
  store.setFault((step) => (step.verb === "watch" ? "unavailable" : undefined));
  store.dropWatches("unavailable");
  await clock.advance(0);
  const changed = await store.get({ kind: "IPPool", namespace: undefined, name: "changes" });
  if (changed !== undefined) await store.update("IPPool", { ...changed, spec: { ...changed.spec, disabled: true } });
  await store.delete({ kind: "IPPool", namespace: undefined, name: "goes" });
  store.compact();
  store.setFault(undefined);
  await clock.advance(20_000);
  const delivered = view.log.slice(before);
  const changes = delivered.filter((line) => !["connecting", "resyncing", "in-sync"].includes(line));
  expect(changes.join(" ")).toBe("+changes -goes");
  expect(delivered.at(-1)).toBe("in-sync");
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["IPPool", "Namespace"])));
  await syncer.stop();
});

test("the sink receives reduced updates", async () => {
  const store = new MemoryStore();
  await store.create("Namespace", namespace("a"));
  const delivered: string[] = [];
  const syncer = startSyncer({
    store,
    kinds: ["Namespace"],
    clock: new VirtualClock(),
    random: { fraction: chance(7), uuid: () => "" },
    reduce: ({ value }, text) => ({ text, value: value?.metadata.name.length }),
    sink: (event) => {
      if (event.type === "updates") for (const { text, value } of event.updates) delivered.push(`${text} ${value}`);
    },
    log: () => {},
  });
  await syncer.read({ ...KEY, name: "a" });
  await store.delete({ ...KEY, name: "a" });
  await syncer.read({ ...KEY, name: "a" });
  expect(delivered).toEqual(["Namespace/a 1", "Namespace/a undefined"]);
  await syncer.stop();
});

test("retry-after is obeyed", async () => {
  const store = new MemoryStore();
  let lists = 0;
  const original = store.list.bind(store);
  store.list = async (kind, options) => {
    lists++;
    if (lists === 1) throw new StoreError("unavailable", kind, undefined, "Cannot list: later", 7000);
    return original(kind, options);
  };
  const { clock, view, syncer } = start({ store, kinds: ["IPPool"] });
  await clock.advance(6_900);
  expect(lists).toBe(1);
  await clock.advance(200);
  expect(view.log.at(-1)).toBe("in-sync");
  await syncer.stop();
});

test("what the sink throws ends the syncer and rejects done", async () => {
  const { syncer, clock } = start({ sink: () => async () => Promise.reject(new Error("consumer broke")) });
  const failed = expect(syncer.done).rejects.toThrow("consumer broke");
  await clock.advance(10);
  await failed;
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "random writes, faults and distortions (seed %d): the consumer converges",
  async (seed) => {
    const dice = chance(seed);
    const store = new MemoryStore({ historyLimit: 20 });
    const { clock, view, syncer } = start({ store, sink: (view) => distortSink(view.sink, dice) });
    for (let step = 0; step < 300; step++) {
      const name = `p${Math.floor(dice() * 12)}`;
      const key = { kind: "IPPool", namespace: undefined, name } as const;
      const current = await store.get(key);
      if (current === undefined) await store.create("IPPool", pool(name));
      else if (dice() < 0.3) await store.delete(key);
      else
        await store.update("IPPool", { ...current, metadata: { ...current.metadata, labels: { step: String(step) } } });
      const event = dice();
      if (event < 0.05) store.dropWatches(event < 0.02 ? "server" : event < 0.035 ? "unavailable" : "gone");
      if (event > 0.97) store.compact();
      if (dice() < 0.3) await clock.advance(dice() * 500);
    }
    await clock.advance(60_000);
    expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["IPPool"])));
    expect(view.log.findLast((line) => /^[a-z-]+$/.test(line) && !line.startsWith("-"))).toBe("in-sync");
    await syncer.stop();
  },
);
