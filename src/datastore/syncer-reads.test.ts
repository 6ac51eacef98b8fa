import { expect, test } from "bun:test";
import { distortSink } from "./distort.ts";
import { MemoryStore } from "./memory.ts";
import { KEY, namespace, slowlyRead, sorted, start, storeState } from "./syncer-bench.ts";
import { chance } from "../lib/chance.ts";

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
