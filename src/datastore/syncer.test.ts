import { expect, test } from "bun:test";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Kind } from "../model/kind.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import type { SyncEvent, Update } from "../model/update.ts";
import { distortSink } from "./distort.ts";
import { MemoryStore } from "./memory.ts";
import type { ReducedLists, ReducedPage } from "./reduced-lists.ts";
import { type ListPage, type Store, StoreError } from "./store.ts";
import { type MissingKind, startSyncer, type Syncer } from "./syncer.ts";

function pool(name: string, labels: Record<string, string> = {}): Resource<"IPPool"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name, labels },
    spec: { cidr: "10.0.0.0/16" },
  };
}

function namespace(name: string): Resource<"Namespace"> {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}

function staged(name: string): Resource<"StagedNetworkPolicy"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "StagedNetworkPolicy",
    metadata: { name, namespace: "n" },
    spec: { stagedAction: "Set" },
  };
}

const KEY = { kind: "Namespace", namespace: undefined, name: "n" } as const;

/** A deterministic source of chance (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A consumer that keeps what was delivered. */
class View {
  readonly objects = new Map<string, string>();
  readonly log: string[] = [];
  gate: Promise<void> | undefined;
  readonly sink = async (event: SyncEvent): Promise<void> => {
    if (event.type === "status") this.log.push(event.status);
    else {
      this.log.push(
        event.updates.map((update) => `${update.value === undefined ? "-" : "+"}${update.key.name}`).join(" "),
      );
      for (const update of event.updates) {
        if (update.value === undefined) this.objects.delete(formatKey(update.key));
        else this.objects.set(formatKey(update.key), JSON.stringify(update.value));
      }
    }
    await this.gate;
  };
}

interface Bench {
  readonly store: MemoryStore;
  readonly clock: VirtualClock;
  readonly view: View;
  readonly errors: string[];
  readonly syncer: Syncer;
}

function start(
  options: {
    store?: MemoryStore;
    kinds?: readonly Kind[];
    reduce?: (update: Update) => Update;
    sink?: (view: View) => (event: SyncEvent) => Promise<void>;
    role?: string;
    onMissing?: (missing: MissingKind) => void;
    lists?: ReducedLists<Update>;
  } = {},
): Bench {
  const store = options.store ?? new MemoryStore();
  const clock = new VirtualClock();
  const view = new View();
  const errors: string[] = [];
  const fraction = chance(7);
  const syncer = startSyncer({
    store,
    kinds: options.kinds ?? ["IPPool", "Namespace"],
    clock,
    random: { fraction, uuid: () => "" },
    reduce: options.reduce ?? ((update) => update),
    sink: options.sink?.(view) ?? view.sink,
    log: (message) => errors.push(message),
    lists: options.lists,
    ...(options.role === undefined ? {} : { role: options.role }),
    ...(options.onMissing === undefined ? {} : { onMissing: options.onMissing }),
  });
  return { store, clock, view, errors, syncer };
}

async function storeState(store: MemoryStore, kinds: readonly Kind[]): Promise<Map<string, string>> {
  const state = new Map<string, string>();
  for (const kind of kinds) {
    for (const object of (await store.list(kind)).items)
      state.set(
        formatKey({ kind, namespace: object.metadata.namespace, name: object.metadata.name }),
        JSON.stringify(object),
      );
  }
  return state;
}

const sorted = (map: ReadonlyMap<string, string>): string[] => [...map].map(([key, value]) => `${key} ${value}`).sort();

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

test("an object read out of turn is delivered before the read ends; a later list without it delivers its deletion", async () => {
  const { store, clock, view, syncer } = start();
  await clock.advance(100);
  // The watch is lost, and the list has to wait.
  store.setFault((step) =>
    step.kind === "Namespace" && (step.verb === "list" || step.verb === "watch") ? "unavailable" : undefined,
  );
  store.dropWatches("gone");
  await clock.advance(0);
  await store.create("Namespace", namespace("n"));
  expect((await syncer.read(KEY))?.metadata.name).toBe("n");
  expect(view.objects.has("Namespace/n")).toBe(true);
  await store.delete(KEY);
  store.compact();
  store.setFault(undefined);
  await clock.advance(60_000);
  expect(view.log.at(-1)).toBe("in-sync");
  expect(view.objects.has("Namespace/n")).toBe(false);
  await syncer.stop();
});

/** A store whose `get` returns the state at the time of the call, once the gate opens. */
function slowlyRead(store: MemoryStore, gate: Promise<void>): MemoryStore {
  const { get } = store;
  store.get = async (...args) => {
    const answer = await get.apply(store, args as never);
    await gate;
    return answer as never;
  };
  return store;
}

for (const { name, change, log } of [
  { name: "changed", change: (store: MemoryStore) => store.annotate(KEY, { newer: "yes" }), log: "+n" },
  { name: "deleted", change: (store: MemoryStore) => store.delete(KEY), log: "-n" },
]) {
  for (const way of ["watch", "list"] as const) {
    test(`a slow read of an object that was ${name} meanwhile, as seen by the ${way}: the older state is not delivered`, async () => {
      const gate = Promise.withResolvers<void>();
      const store = new MemoryStore();
      await store.create("Namespace", namespace("n"));
      const { clock, view, syncer } = start({ store: slowlyRead(store, gate.promise) });
      await clock.advance(100);
      const reading = syncer.read(KEY);
      if (way === "list") {
        store.setFault((step) =>
          step.kind === "Namespace" && (step.verb === "list" || step.verb === "watch") ? "unavailable" : undefined,
        );
        store.dropWatches("gone");
        await clock.advance(0);
        store.setFault(undefined);
      }
      await change(store);
      if (way === "list") store.compact();
      await clock.advance(30_000);
      const delivered = [...view.log];
      expect(
        delivered.findLast(
          (line) => line.includes("n") && line !== "in-sync" && line !== "connecting" && line !== "resyncing",
        ),
      ).toBe(log);
      gate.resolve();
      expect((await reading)?.metadata.name).toBe("n");
      await clock.advance(30_000);
      expect(view.log).toEqual(delivered);
      await syncer.stop();
    });
  }
}

test("a read of an unchanged object delivers nothing; a read of a missing object returns undefined", async () => {
  const store = new MemoryStore();
  await store.create("Namespace", namespace("n"));
  const { clock, view, syncer } = start({ store });
  await clock.advance(100);
  const delivered = [...view.log];
  expect((await syncer.read(KEY))?.metadata.name).toBe("n");
  expect(await syncer.read({ ...KEY, name: "none" })).toBeUndefined();
  expect(view.log).toEqual(delivered);
  await syncer.stop();
});

test("reads between distorted deliveries, while watches break: the consumer converges", async () => {
  const fraction = chance(11);
  const { store, clock, view, syncer } = start({ sink: (inner) => distortSink(inner.sink, fraction) });
  await clock.advance(100);
  const reads: Promise<unknown>[] = [];
  for (let i = 0; i < 300; i++) {
    const key = { ...KEY, name: `n-${Math.floor(fraction() * 5)}` };
    reads.push(syncer.read(key));
    const exists = (await store.get(key)) !== undefined;
    await (!exists
      ? store.create("Namespace", namespace(key.name))
      : fraction() < 0.5
        ? store.delete(key)
        : store.annotate(key, { i: String(i) }));
    reads.push(syncer.read(key));
    if (fraction() < 0.1) store.dropWatches("gone");
    if (fraction() < 0.1) store.compact();
    if (fraction() < 0.5) await clock.advance(Math.floor(fraction() * 500));
  }
  await clock.advance(60_000);
  await Promise.all(reads);
  expect(sorted(view.objects)).toEqual(sorted(await storeState(store, ["IPPool", "Namespace"])));
  await syncer.stop();
});

test("a read waits until the consumer has received its object", async () => {
  const { store, clock, view, syncer } = start();
  await clock.advance(100);
  const gate = Promise.withResolvers<void>();
  view.gate = gate.promise;
  await store.create("Namespace", namespace("other"));
  await clock.advance(100);
  await store.create("Namespace", namespace("n"));
  let done = false;
  const reading = syncer.read(KEY).then(() => (done = true));
  await clock.advance(100);
  expect([done, view.objects.has("Namespace/n")]).toEqual([false, false]);
  view.gate = undefined;
  gate.resolve();
  await reading;
  expect(view.objects.has("Namespace/n")).toBe(true);
  await syncer.stop();
});

test("a read that waits for the consumer ends with the syncer", async () => {
  const { store, clock, view, syncer } = start();
  await clock.advance(100);
  const gate = Promise.withResolvers<void>();
  view.gate = gate.promise;
  await store.create("Namespace", namespace("n"));
  const reading = syncer.read(KEY);
  await clock.advance(100);
  const stopped = syncer.stop();
  gate.resolve();
  await stopped;
  expect((await reading)?.metadata.name).toBe("n");
});
