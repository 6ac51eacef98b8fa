import { expect, test } from "bun:test";
import { MemoryStore } from "../datastore/memory.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { leadInTurn } from "./leadership.ts";

const LEASE = { kind: "Lease", namespace: "kube-system", name: "calico-controllers" } as const;

class Candidate {
  readonly #abort = new AbortController();
  readonly ended: Promise<void>;
  isLeading = false;
  /** Everything that it asks fails, or takes until the caller gives up. */
  trouble: "unavailable" | "silent" | undefined;
  readonly reports: string[] = [];

  constructor(store: MemoryStore, clock: VirtualClock, identity: string) {
    const asked = async <T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
      if (this.trouble === "silent")
        await new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new Error("gave up"))));
      if (this.trouble === "unavailable") store.setFault(() => "unavailable");
      try {
        return await work();
      } finally {
        store.setFault(undefined);
      }
    };
    this.ended = leadInTurn(
      {
        store: {
          get: (key, options) => asked(() => store.get(key, options), options?.signal),
          create: (kind, object, options) => asked(() => store.create(kind, object, options), options?.signal),
          update: (kind, object, options) => asked(() => store.update(kind, object, options), options?.signal),
        },
        clock,
        report: (message) => void this.reports.push(message),
        lease: LEASE,
        identity,
      },
      async (signal) => {
        this.isLeading = true;
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        this.isLeading = false;
      },
      this.#abort.signal,
    );
  }

  stop(): Promise<void> {
    this.#abort.abort();
    return this.ended;
  }
}

test("one leads; another takes over when the first gives the Lease back", async () => {
  const [store, clock] = [new MemoryStore(), new VirtualClock()];
  const a = new Candidate(store, clock, "a");
  await clock.advance(1_000);
  const b = new Candidate(store, clock, "b");
  await clock.advance(600_000);
  expect([a.isLeading, b.isLeading]).toEqual([true, false]);
  await a.stop();
  await clock.advance(3_000);
  expect([a.isLeading, b.isLeading]).toEqual([false, true]);
  expect((await store.get(LEASE))?.spec).toMatchObject({ holderIdentity: "b", leaseTransitions: 1 });
  await b.stop();
});

test.each(["unavailable", "silent"] as const)(
  "a leader that cannot renew (%s) stops before another leads, and the two never lead at once",
  async (trouble) => {
    const [store, clock] = [new MemoryStore(), new VirtualClock()];
    const a = new Candidate(store, clock, "a");
    await clock.advance(1_000);
    const b = new Candidate(store, clock, "b");
    await clock.advance(10_000);
    a.trouble = trouble;
    let [stopped, taken] = [0, 0];
    for (let i = 0; i < 600; i++) {
      await clock.advance(100);
      expect(a.isLeading && b.isLeading).toBe(false);
      if (!a.isLeading && stopped === 0) stopped = i;
      if (b.isLeading && taken === 0) taken = i;
    }
    expect(stopped).toBeWithin(1, 150);
    expect(taken).toBeWithin(stopped, 220);
    a.trouble = undefined;
    await clock.advance(60_000);
    expect([a.isLeading, b.isLeading]).toEqual([false, true]);
    await Promise.all([a.stop(), b.stop()]);
  },
);

test("trouble that passes before the Lease is over is no change of leaders", async () => {
  const [store, clock] = [new MemoryStore(), new VirtualClock()];
  const a = new Candidate(store, clock, "a");
  await clock.advance(10_000);
  a.trouble = "unavailable";
  await clock.advance(7_000);
  a.trouble = undefined;
  await clock.advance(60_000);
  expect(a.isLeading).toBeTrue();
  expect(a.reports).toEqual(["leading", "cannot take or renew the Lease: will retry"]);
  await a.stop();
});

test("a Lease of one that is gone is taken once nobody has renewed it for its time, whatever its clock said", async () => {
  const [store, clock] = [new MemoryStore(), new VirtualClock()];
  await store.create("Lease", {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: LEASE.name, namespace: LEASE.namespace },
    spec: { holderIdentity: "gone", leaseDurationSeconds: 15, renewTime: "2099-01-01T00:00:00.000000Z" },
  });
  const a = new Candidate(store, clock, "a");
  await clock.advance(14_000);
  expect(a.isLeading).toBeFalse();
  await clock.advance(5_000);
  expect(a.isLeading).toBeTrue();
  await a.stop();
});
