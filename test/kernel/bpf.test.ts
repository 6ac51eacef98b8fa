/** bpf(2) on the real kernel: maps of each kind, programs and their verifier's words, pins, and attachment to interfaces between namespaces. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { BPF_F_NO_PREALLOC, BpfMap, type MapDefinition, pin } from "../../src/kernel/bpf/map.ts";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { callsAtOnce } from "../../src/kernel/bpf/long-calls.ts";
import { type LoadedObject, loadingObject } from "../../src/kernel/bpf/object.ts";
import { loadProgram, openProgram, runProgram } from "../../src/kernel/bpf/program.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { makeBpfFs } from "./bpffs.ts";
import { sys, withNamespaces } from "./fixture.ts";

const OBJECT = new URL("../../bpf/path.o", import.meta.url);

function load(given?: ReadonlyMap<string, BpfMap>): LoadedObject {
  return finishSteps(loadingObject(sys, new Uint8Array(readFileSync(OBJECT)), callsAtOnce(sys), given));
}

function definition(changes: Partial<MapDefinition>): MapDefinition {
  return { name: "test", type: "hash", keyBytes: 4, valueBytes: 8, maxEntries: 10_000, flags: 0, ...changes };
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function numberOf(bytes: Uint8Array | undefined): number | undefined {
  return bytes === undefined ? undefined : Number(new DataView(bytes.buffer).getBigUint64(0, true));
}

/** Returns the number: mov r0, N; exit. */
function returning(value: number, name = "returns"): number {
  const instructions = new Uint8Array(16);
  const view = new DataView(instructions.buffer);
  view.setUint8(0, 0xb7);
  view.setInt32(4, value, true);
  view.setUint8(8, 0x95);
  return loadProgram(sys, { type: "tc", name, license: "GPL", instructions });
}

const FRAME = new Uint8Array(64);

for (const type of ["hash", "lru-hash"] as const)
  test(`${type}: elements are written, read and deleted, singly and in batches`, () => {
    const map = BpfMap.create(sys, definition({ type }));
    expect(map.lookup(u32(1))).toBeUndefined();
    map.update(u32(1), u64(5));
    map.update(u32(1), u64(6));
    expect(numberOf(map.lookup(u32(1)))).toBe(6);
    expect([map.delete(u32(1)), map.delete(u32(1))]).toEqual([true, false]);
    const count = 5000;
    map.updateAll(Array.from({ length: count }, (_, i) => ({ key: u32(i), value: u64(2 * i) })));
    const entries = map.entries();
    expect(entries.length).toBe(count);
    expect(entries.every(({ key, value }) => numberOf(value) === 2 * new DataView(key.buffer).getUint32(0, true))).toBe(
      true,
    );
    // Every other one is not there any more.
    for (let i = 0; i < count; i += 2) map.delete(u32(i));
    map.deleteAll(Array.from({ length: count }, (_, i) => u32(i)));
    expect(map.entries()).toEqual([]);
    map.close();
  });

test("array: all elements are there, as zeros", () => {
  const map = BpfMap.create(sys, definition({ type: "array", maxEntries: 3 }));
  map.update(u32(1), u64(7));
  expect(map.entries().map(({ value }) => numberOf(value))).toEqual([0, 7, 0]);
  map.updateValues(0, Uint8Array.from([...u64(4), ...u64(5)]));
  expect(map.values(1, 2)).toEqual(Uint8Array.from([...u64(5), ...u64(0)]));
  expect(() => map.values(2, 2)).toThrow("it has no element 3");
  expect(() => map.update(u32(3), u64(1))).toThrow("Cannot update element of map test: E2BIG");
  map.close();
});

test("the memory of a map is what the kernel says", () => {
  const memory = (maxEntries: number): number => {
    const map = BpfMap.create(sys, definition({ type: "array", maxEntries }));
    const bytes = map.memoryBytes();
    map.close();
    return bytes;
  };
  // Its values are of eight bytes.
  expect(memory(100_000)).toBeGreaterThanOrEqual(800_000);
  // Linux 5.11 to 6.3 tell an estimate, with the keys.
  expect(memory(100_000)).toBeLessThan(1_700_000);
  expect(memory(1000)).toBeLessThan(20_000);
  const silent = BpfMap.create({ ...sys, read: () => 0 }, definition({ type: "array" }));
  expect(() => silent.memoryBytes()).toThrow("it says nothing of memlock");
  silent.close();
});

test("lpm-trie: the longest prefix is found", () => {
  const map = BpfMap.create(sys, definition({ type: "lpm-trie", keyBytes: 8, flags: BPF_F_NO_PREALLOC }));
  const key = (bits: number, ...address: readonly number[]): Uint8Array => Uint8Array.from([...u32(bits), ...address]);
  map.updateAll([
    { key: key(8, 10, 0, 0, 0), value: u64(8) },
    { key: key(24, 10, 0, 1, 0), value: u64(24) },
  ]);
  const find = (...address: readonly number[]): number | undefined => numberOf(map.lookup(key(32, ...address)));
  expect([find(10, 0, 1, 5), find(10, 9, 9, 9), find(11, 0, 0, 1)]).toEqual([24, 8, undefined]);
  expect(
    map
      .entries()
      .map(({ value }) => numberOf(value))
      .sort(),
  ).toEqual([24, 8]);
  map.close();
});

test("array-of-maps holds maps of one kind; a ring is made", () => {
  const inner = BpfMap.create(sys, definition({ type: "array", maxEntries: 1 }));
  const outer = BpfMap.create(sys, definition({ type: "array-of-maps", valueBytes: 4, maxEntries: 1 }), { inner });
  outer.update(u32(0), u32(inner.fd));
  const ring = BpfMap.create(sys, definition({ type: "ring", keyBytes: 0, valueBytes: 0, maxEntries: 4096 }));
  for (const map of [inner, outer, ring]) map.close();
});

test("a program runs on a frame; of a refused one the error says what the verifier says", () => {
  const fd = returning(2);
  expect(runProgram(sys, fd, FRAME).result).toBe(2);
  sys.close(fd);
  // ldxw r0, [r1+512]; exit: beyond the context.
  const instructions = Uint8Array.from([0x61, 0x10, 0, 2, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  const load = (): number => loadProgram(sys, { type: "tc", name: "beyond", license: "GPL", instructions });
  expect(load).toThrow(/^Cannot load program beyond: EACCES .*invalid bpf_context access off=512/s);
});

test("the object of clang is loaded with the maps that are given, and the kernel knows its lines", () => {
  const first = load();
  const records = first.maps.get("records");
  if (records === undefined) throw new Error("no records");
  const again = load(new Map([["records", records]]));
  expect(again.maps.get("records")).toBe(records);
  expect(again.programs.size).toBe(first.programs.size);
  expect([...first.programs.keys()]).toContain("from_workload");
  again.close();
  first.close();
});

test("pins keep maps and programs; nothing is where nothing was pinned", () => {
  const fs = makeBpfFs();
  try {
    const map = BpfMap.create(sys, definition({ name: "kept" }));
    map.update(u32(1), u64(9));
    map.pin(`${fs.path}/map`);
    map.close();
    const found = BpfMap.pinnedAt(sys, `${fs.path}/map`);
    expect(found?.definition).toEqual(definition({ name: "kept" }));
    expect(numberOf(found?.lookup(u32(1)))).toBe(9);
    found?.close();
    expect(BpfMap.pinnedAt(sys, `${fs.path}/none`)).toBeUndefined();
    const program = returning(7);
    pin(sys, program, `${fs.path}/program`);
    sys.close(program);
    const opened = openProgram(sys, `${fs.path}/program`);
    expect(opened === undefined ? undefined : runProgram(sys, opened, FRAME).result).toBe(7);
    if (opened !== undefined) sys.close(opened);
    expect(openProgram(sys, `${fs.path}/none`)).toBeUndefined();
  } finally {
    fs.remove();
  }
});

test("an attached program drops, is replaced at once, survives its process's descriptors, and is detached", () => {
  withNamespaces(["a", "b"], (a, b) => {
    a.run(["ip", "link", "add", "v", "type", "veth", "peer", "name", "eth0", "netns", b.name]);
    a.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "v"]);
    b.run(["ip", "addr", "add", "192.0.2.2/24", "dev", "eth0"]);
    a.run(["ip", "link", "set", "v", "up"]);
    b.run(["ip", "link", "set", "eth0", "up"]);
    const routes = a.enter(() => new RouteClient(sys));
    const attachments = a.enter(() => new Attachments(sys, { priority: 0xca, handle: 1 }));
    const index = routes.linkByName("v")?.index ?? 0;
    const answers = (): boolean => {
      try {
        b.run(["ping", "-c", "1", "-W", "1", "192.0.2.1"]);
        return true;
      } catch {
        return false;
      }
    };
    const attach = (value: number): void => {
      const program = returning(value);
      attachments.attach(index, "ingress", program, "test");
      sys.close(program);
    };
    const attached = (): unknown => attachments.attached(index).map(({ side, name }) => `${side} ${name}`);
    expect([answers(), attached()]).toEqual([true, []]);
    attach(2);
    expect([answers(), attached()]).toEqual([false, ["ingress test"]]);
    attach(-1);
    expect([answers(), attached()]).toEqual([true, ["ingress test"]]);
    attach(2);
    attachments.detach(index, "ingress");
    attachments.detach(index, "ingress");
    expect([answers(), attached()]).toEqual([true, []]);
    attachments.removeClsact(index);
    attachments.removeClsact(index);
    expect(a.run(["tc", "qdisc", "show", "dev", "v"])).not.toContain("clsact");
    expect(attachments.attached(99_999)).toEqual([]);
    attachments.close();
    routes.close();
  });
});
