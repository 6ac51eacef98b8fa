/** Several nodes share small pools: reserves leave unused addresses to others, whatever fails, and no address is ever assigned twice. */
import { expect, test } from "bun:test";
import { StoreError } from "../datastore/store.ts";
import { equal } from "../lib/equal.ts";
import type { Kind } from "../model/kind.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { rowsFor } from "../model/convert/rows.ts";
import type { Update } from "../model/update.ts";
import { type Addr, type Family, familyOf } from "../net/addr.ts";
import { PoolLevels } from "./levels.ts";
import { AddressReserve } from "./reserve.ts";
import { Bench } from "./test-bench.ts";
import { chance } from "../lib/chance.ts";

const KINDS = ["Node", "IPPool", "IPReservation", "IPAMConfiguration", "IPAMBlock"] as const satisfies readonly Kind[];

/** A node's daemon as far as addresses go; `look` is its watch. */
class Daemon {
  readonly reserve: AddressReserve;
  readonly #bench: Bench;
  readonly #seen = new Map<string, Update>();
  readonly #reduce: ReturnType<typeof rowsFor>;

  constructor(bench: Bench, node: string, inUse: ReadonlyMap<Addr, string> = new Map()) {
    this.#bench = bench;
    this.#reduce = rowsFor(node);
    this.reserve = new AddressReserve({
      ipam: bench.ipam(node),
      node,
      clock: bench.clock,
      inUse,
      levels: new PoolLevels(node),
    });
  }

  async look(): Promise<void> {
    const updates: Update[] = [];
    const present = new Set<string>();
    const listed: (readonly [Kind, readonly Resource[]])[] = [];
    for (const kind of KINDS) listed.push([kind, (await this.#bench.store.list(kind)).items]);
    for (const [kind, items] of listed) {
      for (const value of items) {
        const key = keyOf(kind, value);
        const id = `${kind} ${key.name}`;
        present.add(id);
        const update = { kind, key, value, origin: { revision: "", generation: undefined, seenAt: 0 } } as Update;
        if (!equal(this.#seen.get(id), update)) updates.push(update);
        this.#seen.set(id, update);
      }
    }
    for (const [id, update] of this.#seen) {
      if (present.has(id)) continue;
      updates.push({ ...update, value: undefined } as Update);
      this.#seen.delete(id);
    }
    await this.reserve.observe(updates.map((update) => this.#reduce(update)));
  }
}

async function settle(...daemons: readonly Daemon[]): Promise<void> {
  // What one releases another sees.
  for (let i = 0; i < 3; i++) for (const daemon of daemons) await daemon.look();
}

async function pod(daemon: Daemon, family: Family, handle: string, node: string): Promise<Addr | undefined> {
  const addr = await daemon.reserve.takeFound(family, handle);
  if (addr !== undefined) await daemon.reserve.record({ handle, addresses: [addr], attributes: { node } });
  if (daemon.reserve.isLow) await daemon.reserve.refill();
  return addr;
}

async function cluster(
  cidr: string,
  blockSize: number,
  nodes: readonly string[],
): Promise<{ bench: Bench; daemons: Daemon[] }> {
  const bench = new Bench();
  await bench.pool("p", { cidr, blockSize });
  for (const node of nodes) await bench.node(node);
  const daemons = nodes.map((node) => new Daemon(bench, node));
  for (const daemon of daemons) {
    await daemon.look();
    await daemon.reserve.tidy();
  }
  return { bench, daemons };
}

test.each([
  ["10.0.0.0/30", 30, 4],
  ["fd00::/126", 126, 6],
] as const)("%s, one block: what the first node does not use, the second gets", async (cidr, blockSize, family) => {
  const { bench, daemons } = await cluster(cidr, blockSize, ["n1", "n2"]);
  const [one, two] = daemons as [Daemon, Daemon];
  expect(await pod(one, family, "a", "n1")).toBeDefined();
  await settle(one, two);
  for (const handle of ["b", "c", "d"]) {
    expect(await bench.clock.until(pod(two, family, handle, "n2"))).toBeDefined();
    await settle(one, two);
  }
  expect([...(await bench.holders()).values()].sort()).toEqual(["a", "b", "c", "d"]);
  expect(await bench.clock.until(pod(two, family, "e", "n2"))).toBeUndefined();
});

test.each([
  ["10.0.0.0/29", 30, 4],
  ["fd00::/125", 126, 6],
] as const)("%s: a pod that could not be recorded leaves the reserve its share", async (cidr, blockSize, family) => {
  const { daemons } = await cluster(cidr, blockSize, ["n1", "n2"]);
  const [one, two] = daemons as [Daemon, Daemon];
  expect(await one.reserve.takeFound(family, "a")).toBeDefined();
  await settle(one, two);
  const addr = one.reserve.take(family, "b") as Addr;
  await one.reserve.refill();
  await settle(one, two);
  one.reserve.giveBack(addr);
  // Half of eight, for two nodes.
  await one.reserve.tidy();
  expect(one.reserve.count(family)).toBe(2);
});

test.each([
  ["10.0.0.0/29", 30, 4],
  ["fd00::/125", 126, 6],
] as const)("%s: a refill that failed is due, whatever is given up meanwhile", async (cidr, blockSize, family) => {
  const { bench, daemons } = await cluster(cidr, blockSize, ["n1", "n2"]);
  const [one, two] = daemons as [Daemon, Daemon];
  await one.reserve.takeFound(family, "a");
  await settle(one, two);
  const addr = one.reserve.take(family, "b") as Addr;
  await one.reserve.refill();
  await settle(one, two);
  await bench.changePool("p", { disabled: true });
  bench.store.setFault(({ verb, phase }) => (verb === "list" && phase === "request" ? "unavailable" : undefined));
  await expect(one.reserve.refill()).rejects.toThrow("Cannot list");
  bench.store.setFault(undefined);
  one.reserve.giveBack(addr);
  // The pool serves nobody any more.
  await expect(one.reserve.tidy()).rejects.toThrow("no valid, enabled IPPool");
  expect(one.reserve.count(family)).toBe(0);
  // That of the pod alone.
  expect([...(await bench.holders()).values()]).toEqual([one.reserve.handle]);
});

test.each([
  ["10.0.0.0/28", 28, 4],
  ["fd00::/124", 124, 6],
] as const)("%s: a pod waits in its ADD for what reserves release", async (cidr, blockSize, family) => {
  const { bench, daemons } = await cluster(cidr, blockSize, ["n1", "n2"]);
  const [one, two] = daemons as [Daemon, Daemon];
  await pod(one, family, "a", "n1");
  await settle(one, two);
  await one.reserve.refill();
  const spare = one.reserve.count(family);
  expect(spare).toBeGreaterThan(0);
  // The first node does not look for a while: everything else is used.
  const used: (Addr | undefined)[] = [];
  for (let i = 0; i < 15 - spare; i++) {
    used.push(await bench.clock.until(pod(two, family, `b${i}`, "n2")));
    await two.look();
  }
  expect(used).not.toContain(undefined);
  const waiting = two.reserve.takeFound(family, "pod");
  await bench.clock.advance(1_000);
  await settle(one, two);
  expect(await bench.clock.until(waiting)).toBeDefined();
  expect(one.reserve.count(family)).toBe(0);
});

test("half of what no pod has stays outside of reserves, the rest is shared evenly", async () => {
  const nodes = ["n1", "n2", "n3", "n4"];
  const { bench, daemons } = await cluster("10.0.0.0/27", 29, nodes);
  for (const [i, daemon] of daemons.entries()) await pod(daemon, 4, `p${i}`, nodes[i] ?? "");
  await settle(...daemons);
  for (const daemon of daemons) await daemon.reserve.refill();
  await settle(...daemons);
  // 28 addresses are unused: each of four nodes may hold 3 of them.
  expect(daemons.map(({ reserve }) => reserve.count(4))).toEqual([3, 3, 3, 3]);
  const holders = [...(await bench.holders()).values()];
  expect(holders.filter((handle) => handle.startsWith("reserve:"))).toHaveLength(12);
});

test("a block that holds nothing but the reserve is emptied when no other is left, and another node takes it", async () => {
  const { bench, daemons } = await cluster("10.0.0.0/25", 26, ["n1", "n2", "n3"]);
  const [one, two, three] = daemons as [Daemon, Daemon, Daemon];
  await bench.configure({ strictAffinity: true });
  await pod(one, 4, "a", "n1");
  await settle(one, two, three);
  await one.reserve.release({ handle: "a", addresses: [] });
  await settle(one, two, three);
  expect(one.reserve.count(4)).toBe(8);
  await pod(two, 4, "b", "n2");
  await settle(one, two, three);
  expect([one.reserve.count(4), two.reserve.count(4)]).toEqual([0, 8]);
  await bench.clock.advance(61_000);
  expect(await bench.clock.until(pod(three, 4, "c", "n3"))).toBeDefined();
  await settle(one, two, three);
  expect((await bench.store.list("IPAMBlock")).items.map(({ spec }) => spec.affinity).sort()).toEqual([
    "host:n2",
    "host:n3",
  ]);
});

test("addresses of a deleted block are not offered any more", async () => {
  const { bench, daemons } = await cluster("10.0.0.0/24", 26, ["n1"]);
  const [one] = daemons as [Daemon];
  await pod(one, 4, "a", "n1");
  await one.look();
  expect(one.reserve.count(4)).toBe(8);
  const [name] = await bench.names("IPAMBlock");
  await bench.store.delete({ kind: "IPAMBlock", namespace: undefined, name: name ?? "" });
  await one.look();
  expect(one.reserve.take(4, "pod")).toBeUndefined();
});

test("reserved ranges count as unusable, and the reserve releases them", async () => {
  const { bench, daemons } = await cluster("10.0.0.0/26", 26, ["n1"]);
  const [one] = daemons as [Daemon];
  await pod(one, 4, "a", "n1");
  await one.look();
  expect(one.reserve.count(4)).toBe(8);
  await bench.reserve("r", "10.0.0.4/30", "10.0.0.2");
  await one.look();
  await one.reserve.refill();
  const held = [...(await bench.holders())].filter(([, handle]) => handle === "reserve:n1").map(([addr]) => addr);
  expect(held).toHaveLength(8);
  expect(held.filter((addr) => ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"].includes(addr))).toEqual(
    [],
  );
  await bench.reserve("all", "10.0.0.0/26");
  await one.look();
  await one.reserve.refill();
  expect([...(await bench.holders()).values()]).toEqual(["a"]);
});

test.each([1, 2, 3, 4, 5, 6])(
  "three nodes, restarts and lost requests and answers, seed %p",
  async (seed) => {
    const bench = new Bench(seed);
    await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 29 });
    await bench.pool("v6", { cidr: "fd00::/124", blockSize: 125 });
    const nodes = ["n1", "n2", "n3"];
    for (const node of nodes) await bench.node(node);
    const dice = chance(seed + 77);
    /** What runs: address to handle. The kernel's truth, beside the datastore's. */
    const running = new Map<Addr, string>();
    const pods = new Map<string, { node: string; addresses: Addr[] }>();
    const daemons = new Map(nodes.map((node) => [node, new Daemon(bench, node)]));
    const retried = async (work: () => Promise<unknown>): Promise<void> => {
      for (;;) {
        try {
          return void (await work());
        } catch (error) {
          if (!(error instanceof StoreError) || error.reason !== "unavailable") throw error;
          await bench.clock.advance(6_000);
        }
      }
    };
    bench.store.setFault(() => (dice() < 0.03 ? "unavailable" : undefined));
    let [started, restarts] = [0, 0];
    for (let i = 0; i < 250; i++) {
      const node = nodes[Math.floor(dice() * nodes.length)] ?? "";
      const daemon = daemons.get(node) as Daemon;
      const act = dice();
      if (act < 0.05) {
        // Killed: the journal knows which addresses pods use.
        daemons.set(
          node,
          new Daemon(
            bench,
            node,
            new Map(
              [...pods]
                .filter(([, each]) => each.node === node)
                .flatMap(([handle, { addresses }]) => addresses.map((addr) => [addr, handle] as const)),
            ),
          ),
        );
        restarts++;
      } else if (act < 0.35) await daemon.look().catch(() => undefined);
      else if (act < 0.7) {
        const family: Family = dice() < 0.5 ? 4 : 6;
        const handle = `pod-${i}`;
        const addr =
          daemon.reserve.take(family, handle) ??
          (await bench.clock.until(daemon.reserve.takeFound(family, handle).catch(() => undefined)));
        if (addr === undefined) continue;
        if (running.has(addr)) throw new Error(`${addr} is given to ${handle} while ${running.get(addr)} has it`);
        running.set(addr, handle);
        started++;
        pods.set(handle, { node, addresses: [addr] });
        if (dice() < 0.8)
          await bench.clock.until(
            retried(() => daemon.reserve.record({ handle, addresses: [addr], attributes: { node } })),
          );
      } else {
        const [handle] = [...pods.keys()].filter((each) => pods.get(each)?.node === node);
        if (handle === undefined) continue;
        const { addresses } = pods.get(handle) ?? { addresses: [] };
        for (const addr of addresses) running.delete(addr);
        pods.delete(handle);
        await bench.clock.until(retried(() => daemon.reserve.release({ handle, addresses })));
      }
    }
    bench.store.setFault(undefined);
    expect([started > 30, restarts > 3]).toEqual([true, true]);
    for (const [handle, { node, addresses }] of pods)
      await bench.clock.until(
        retried(() => (daemons.get(node) as Daemon).reserve.record({ handle, addresses, attributes: { node } })),
      );
    const holders = await bench.holders();
    for (const [addr, handle] of running) expect(holders.get(addr)).toBe(handle);
    for (const [addr, handle] of holders) if (!running.has(addr)) expect(handle).toStartWith("reserve:");
    // Everything that no pod has can be had by one node, once all have looked.
    for (const daemon of daemons.values()) await bench.clock.until(retried(() => daemon.reserve.refill()));
    const last = daemons.get("n1") as Daemon;
    for (let i = 0; running.size < 32 && i < 40; i++) {
      await settle(...daemons.values());
      await bench.clock.advance(61_000);
      for (const family of [4, 6] as const) {
        const addr = await bench.clock.until(pod(last, family, `last-${i}-${family}`, "n1"));
        if (addr !== undefined) running.set(addr, "last");
      }
    }
    expect([...running.keys()].filter((addr) => familyOf(addr) === 4)).toHaveLength(16);
    expect([...running.keys()].filter((addr) => familyOf(addr) === 6)).toHaveLength(16);
  },
  60_000,
);
