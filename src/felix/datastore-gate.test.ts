import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { objectOf, type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import type { Update } from "../model/update.ts";
import { DatastoreGate, gatedStore } from "./datastore-gate.ts";

function information(ready: boolean | undefined, name = "default"): RowUpdate {
  const spec = ready === undefined ? {} : { datastoreReady: ready };
  return of("ClusterInformation", name, spec);
}

function of(kind: "ClusterInformation" | "IPPool", name: string, spec: object | undefined): RowUpdate {
  const value = spec === undefined ? undefined : { apiVersion: "projectcalico.org/v3", kind, metadata: { name }, spec };
  return rowsFor("n1")({
    kind,
    key: { kind, namespace: undefined, name },
    value,
    origin: { revision: "", generation: undefined, seenAt: 0 },
  } as Update);
}

const names = (updates: readonly RowUpdate[]): string[] =>
  updates.map((update) => {
    const object = objectOf(update);
    return `${update.key.name}${object === undefined ? " gone" : ` ${JSON.stringify("spec" in object ? object.spec : {})}`}`;
  });

test("while closed nothing passes; opened, the last state of each object does", () => {
  const said: string[] = [];
  const gate = new DatastoreGate((message) => void said.push(message));
  expect(names(gate.pass([of("IPPool", "a", { v: 1 })]))).toEqual(['a {"v":1}']);
  expect(gate.pass([of("IPPool", "a", { v: 2 }), information(false), of("IPPool", "b", { v: 1 })])).toEqual([]);
  expect(gate.reason).toBe('marked not ready: spec.datastoreReady of ClusterInformation "default" is false');
  expect(gate.pass([of("IPPool", "a", { v: 3 }), of("IPPool", "b", undefined)])).toEqual([]);
  expect(gate.pass([information(true, "other")])).toEqual([]);
  expect(names(gate.pass([information(true)]))).toEqual([
    'a {"v":3}',
    'default {"datastoreReady":true}',
    "b gone",
    'other {"datastoreReady":true}',
  ]);
  expect(names(gate.pass([of("IPPool", "c", {})]))).toEqual(["c {}"]);
  expect(said).toHaveLength(2);
});

test.each([
  ["the object is deleted", of("ClusterInformation", "default", undefined)],
  ["the field is absent", information(undefined)],
])("opens when %s", (_, update) => {
  const gate = new DatastoreGate(() => {});
  gate.pass([information(false)]);
  gate.pass([update]);
  expect(gate.reason).toBeUndefined();
});

test("Calico's objects are not written while it is closed; others are, and reading goes on", async () => {
  const gate = new DatastoreGate(() => {});
  const memory = new MemoryStore();
  const store = gatedStore(memory, gate);
  const pool = {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec: { cidr: "10.0.0.0/16" },
  };
  const stored = await store.create("IPPool", pool);
  gate.pass([information(false)]);
  const key = { kind: "IPPool", namespace: undefined, name: "p" } as const;
  for (const write of [
    () => store.create("IPPool", pool),
    () => store.update("IPPool", stored),
    () => store.delete(key),
    () => store.annotate(key, { a: "b" }),
    () => store.updateStatus({ kind: "Tier", namespace: undefined, name: "t" }, {}, "1"),
  ]) {
    await expect(write()).rejects.toMatchObject({
      reason: "unavailable",
      message: expect.stringContaining("spec.datastoreReady"),
    });
  }
  await store.create("Node", { apiVersion: "v1", kind: "Node", metadata: { name: "n" } });
  expect((await store.list("IPPool")).items).toEqual([stored]);
  gate.pass([information(true)]);
  await store.delete(key);
});
