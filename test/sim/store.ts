/**
 * SimStore: the shared datastore as one process sees it over a network: late, sometimes not reached, sometimes without its answer, with watches
 * that break. Each request is an operation of the process.
 */
import type { SimClock } from "../../src/host/sim/clock.ts";
import type { SimProcess } from "../../src/host/sim/process.ts";
import type { MemoryStore } from "../../src/datastore/memory.ts";
import { type Store, StoreError, type StoreReason } from "../../src/datastore/store.ts";
import { formatKey, type Key } from "../../src/model/key.ts";
import type { Kind } from "../../src/model/kind.ts";
import type { Random } from "../property/random.ts";
import type { StoreTrouble } from "./faults.ts";

const QUICK_MS = 4;
const SLOW_MS = 6_000;

export interface SimStoreOptions {
  readonly store: MemoryStore;
  readonly clock: SimClock;
  readonly random: Random;
  readonly owner: SimProcess;
  /** At the moment. */
  readonly trouble: () => StoreTrouble;
}

export function openSimStore({ store, clock, random, owner, trouble }: SimStoreOptions): Store {
  const ended = new AbortController();
  owner.atEnd(() => ended.abort());
  const delay = async (signal: AbortSignal | undefined): Promise<void> => {
    const isSlow = random.chance(trouble().slow);
    await clock.sleep(1 + random.below(isSlow ? SLOW_MS : QUICK_MS), signal);
  };
  const fail = (verb: string, kind: Kind, key: Key | undefined, reason: StoreReason, why: string): never => {
    throw new StoreError(reason, kind, key, `Cannot ${verb} ${key === undefined ? kind : formatKey(key)}: ${why}`);
  };
  const request = <T>(
    verb: string,
    kind: Kind,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
  ): Promise<T> =>
    owner.run(`store ${verb} ${key === undefined ? kind : formatKey(key)}`, async () => {
      await delay(signal);
      signal?.throwIfAborted();
      if (random.chance(trouble().unreached)) fail(verb, kind, key, "unavailable", "the request did not arrive");
      const answer = await work();
      await delay(signal);
      signal?.throwIfAborted();
      if (random.chance(trouble().answerLost)) fail(verb, kind, key, "unavailable", "the answer was lost");
      return answer;
    });
  const metadataKey = (kind: Kind, object: { metadata: { name: string; namespace?: string } }): Key =>
    ({ kind, namespace: object.metadata.namespace, name: object.metadata.name }) as Key;

  async function* watch<K extends Kind>(kind: K, revision: string, { signal }: { readonly signal: AbortSignal }) {
    await request("watch", kind, undefined, signal, async () => undefined);
    const both = AbortSignal.any([signal, ended.signal]);
    for await (const batch of store.watch(kind, revision, { signal: both })) {
      await owner.wait(delay(signal));
      if (signal.aborted) return;
      if (random.chance(trouble().watchBroken)) {
        const how = random.pick(["end", "unavailable", "gone"] as const);
        if (how === "end") return;
        fail("watch", kind, undefined, how, "the watch broke");
      }
      yield batch;
    }
    await owner.wait(Promise.resolve());
  }

  return {
    isStandalone: store.isStandalone,
    get: (key, options) => request("get", key.kind, key, options?.signal, () => store.get(key)),
    list: (kind, options) => request("list", kind, undefined, options?.signal, () => store.list(kind, options)),
    async *pages(kind, options) {
      yield { ...(await this.list(kind, options)), isFirst: true, isLast: true };
    },
    create: (kind, object, options) =>
      request("create", kind, metadataKey(kind, object), options?.signal, () => store.create(kind, object)),
    update: (kind, object, options) =>
      request("update", kind, metadataKey(kind, object), options?.signal, () => store.update(kind, object)),
    annotate: (key, annotations, options) =>
      request("annotate", key.kind, key, options?.signal, () => store.annotate(key, annotations)),
    updateStatus: (key, status, revision, options) =>
      request("updateStatus", key.kind, key, options?.signal, () => store.updateStatus(key, status, revision)),
    delete: (key, precondition, options) =>
      request("delete", key.kind, key, options?.signal, () => store.delete(key, precondition)),
    watch,
    close: async () => ended.abort(),
  };
}
