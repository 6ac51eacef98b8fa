/** A client that dies before or after every possible operation, and what the next client finds. */
import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import type { Store } from "../datastore/store.ts";
import type { Addr } from "../net/addr.ts";
import type { Ipam } from "./ipam.ts";
import { Bench } from "./test-bench.ts";

class Killed extends Error {}

/** The store of a process that is killed at its operation number `at`: `before` it is sent, or `after` it was done. */
function killedAt(
  store: MemoryStore,
  at: number,
  phase: "before" | "after",
): { store: Store; operations: () => number } {
  let count = 0;
  const step = async <T>(operation: () => Promise<T>): Promise<T> => {
    count++;
    if (count > at || (count === at && phase === "before")) throw new Killed();
    const answer = await operation();
    if (count >= at) throw new Killed();
    return answer;
  };
  return {
    operations: () => count,
    store: {
      isStandalone: store.isStandalone,
      get: (key, options) => step(() => store.get(key, options)),
      list: (kind, options) => step(() => store.list(kind, options)),
      pages: (kind, options) => store.pages(kind, options),
      create: (kind, object) => step(() => store.create(kind, object)),
      update: (kind, object) => step(() => store.update(kind, object)),
      annotate: (key, annotations) => step(() => store.annotate(key, annotations)),
      updateStatus: (key, status, revision) => step(() => store.updateStatus(key, status, revision)),
      delete: (key, precondition) => step(() => store.delete(key, precondition)),
      watch: (kind, revision, options) => store.watch(kind, revision, options),
      close: () => store.close(),
    },
  };
}

interface Scenario {
  readonly name: string;
  readonly prepare?: (ipam: Ipam, bench: Bench) => Promise<void>;
  /** What the doomed process does. */
  readonly act: (ipam: Ipam) => Promise<void>;
  /** Handles that the doomed process could have given addresses to. */
  readonly handles: readonly string[];
}

let moved: Addr[] = [];

const SCENARIOS: readonly Scenario[] = [
  {
    name: "first assignment, new blocks",
    handles: ["a"],
    act: async (ipam) => void (await ipam.assign({ ipv4: 2, ipv6: 2, handle: "a", attributes: { node: "n1" } })),
  },
  {
    name: "assignment over two blocks",
    handles: ["a", "old"],
    prepare: async (ipam) => void (await ipam.assign({ ipv4: 3, ipv6: 3, handle: "old", attributes: {} })),
    act: async (ipam) => void (await ipam.assign({ ipv4: 3, ipv6: 3, handle: "a", attributes: {} })),
  },
  {
    name: "release by handle",
    handles: ["old"],
    prepare: async (ipam) => void (await ipam.assign({ ipv4: 5, ipv6: 5, handle: "old", attributes: {} })),
    act: (ipam) => ipam.releaseByHandle("old"),
  },
  {
    name: "move to another handle",
    handles: ["old", "new"],
    prepare: async (ipam) => {
      const { ipv4, ipv6 } = await ipam.assign({ ipv4: 2, ipv6: 2, handle: "old", attributes: {} });
      moved = [...ipv4.slice(0, 1), ...ipv6.slice(0, 1)];
    },
    act: async (ipam) => {
      await ipam.moveHandles(
        "old",
        moved.map((addr) => ({ addr, to: "new", attributes: { pod: "p" } })),
      );
    },
  },
  {
    name: "move to other handles, with replacement",
    handles: ["old", "new0", "new1", "new2", "new3"],
    prepare: async (ipam) => {
      const { ipv4, ipv6 } = await ipam.assign({ ipv4: 2, ipv6: 2, handle: "old", attributes: {} });
      moved = [...ipv4, ...ipv6];
    },
    act: async (ipam) => {
      const moves = moved.map((addr, i) => ({ addr, to: `new${i}`, attributes: { pod: "p" } }));
      await ipam.moveHandles("old", moves, {
        most: new Map([
          [4, 1],
          [6, 4],
        ]),
        pools: ipam.usablePools(await ipam.readView()),
        reserved: [],
        attributes: {},
      });
    },
  },
  {
    name: "release of several handles",
    handles: ["one", "two"],
    prepare: async (ipam) => {
      for (const handle of ["one", "two"]) await ipam.assign({ ipv4: 3, ipv6: 3, handle, attributes: {} });
    },
    act: (ipam) => ipam.releaseByHandle("one", "two"),
  },
  {
    name: "taking over an empty block of another node",
    handles: ["a"],
    prepare: async (_, bench) => {
      const other = bench.ipam("n2");
      await other.assign({ ipv4: 16, ipv6: 16, handle: "gone", attributes: {} });
      await other.releaseByHandle("gone");
      await bench.clock.advance(120_000);
    },
    act: async (ipam) => void (await ipam.assign({ ipv4: 1, ipv6: 1, handle: "a", attributes: {} })),
  },
  {
    name: "releasing a block outside the pools",
    handles: ["a"],
    prepare: async (ipam, bench) => {
      await ipam.assign({ ipv4: 1, ipv6: 1, handle: "x", attributes: {} });
      await ipam.releaseByHandle("x");
      await bench.changePool("v4", { nodeSelector: "has(nothing)" });
      await bench.pool("next", { cidr: "10.9.0.0/28", blockSize: 30 });
    },
    act: (ipam) => ipam.releaseBlocks(),
  },
];

async function begin(scenario: Scenario): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/28", blockSize: 30 });
  await bench.pool("v6", { cidr: "fd00::/124", blockSize: 126 });
  for (const node of ["n1", "n2"]) await bench.node(node);
  await scenario.prepare?.(bench.ipam("n1"), bench);
  return bench;
}

/** Invariants after a death: others can use every address, none is assigned twice, and releasing the handles frees everything. */
async function recover(bench: Bench, scenario: Scenario): Promise<void> {
  const before = await bench.holders();
  const next = bench.ipam("n1");
  const neighbor = bench.ipam("n2");
  // As every start does.
  await bench.clock.until(next.releaseBlocks());
  const [mine, theirs] = await bench.clock.until(
    Promise.all([
      next.assign({ ipv4: 1, ipv6: 1, handle: "after-1", attributes: { node: "n1" } }),
      neighbor.assign({ ipv4: 1, ipv6: 1, handle: "after-2", attributes: { node: "n2" } }),
    ]),
  );
  for (const addr of [...mine.ipv4, ...mine.ipv6, ...theirs.ipv4, ...theirs.ipv6]) expect(before.has(addr)).toBe(false);
  const after = await bench.holders();
  for (const [addr, handle] of before) expect(after.get(addr)).toBe(handle);
  expect(after.size).toBe(before.size + 4);
  for (const handle of [...scenario.handles, "after-1", "after-2"])
    await bench.clock.until(next.releaseByHandle(handle));
  expect([...(await bench.holders())]).toEqual([]);
  expect(await bench.names("IPAMHandle")).toEqual([]);
  // One node can get all addresses of both pools, whatever affinities were left behind.
  await bench.clock.advance(120_000);
  const free = (await bench.store.list("IPPool")).items.some(({ metadata }) => metadata.name === "next")
    ? "next"
    : "v4";
  const all = await bench.clock.until(
    next.assign({ ipv4: 16, ipv6: 16, handle: "all", attributes: {}, pools: { ipv4: [free], ipv6: ["v6"] } }),
  );
  expect(new Set([...all.ipv4, ...all.ipv6]).size).toBe(32);
  const affinities = await bench.affinities();
  for (const { spec } of (await bench.store.list("IPAMBlock")).items) {
    // An affinity of the other node may wait in another state until that node looks at it.
    const own = affinities.filter((text) => text.startsWith(`${spec.affinity?.slice("host:".length)} ${spec.cidr} `));
    expect(own).toEqual([expect.stringMatching(spec.affinity === "host:n1" ? /confirmed$/ : /./)]);
  }
}

test.each(SCENARIOS.map((scenario) => [scenario.name, scenario] as const))("%s", async (_, scenario) => {
  let died = 0;
  for (const phase of ["before", "after"] as const) {
    for (let at = 1; ; at++) {
      const bench = await begin(scenario);
      const doomed = killedAt(bench.store, at, phase);
      const outcome = await bench.clock.until(
        scenario.act(bench.ipam("n1", { store: doomed.store })).then(
          () => "done",
          (error: unknown) => error,
        ),
      );
      if (outcome !== "done" && !(outcome instanceof Killed)) throw outcome;
      await recover(bench, scenario);
      if (outcome === "done") break;
      died++;
    }
  }
  expect(died).toBeGreaterThan(6);
});
