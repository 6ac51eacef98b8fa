/**
 * Handles: which blocks hold addresses of a handle, so that everything of one owner can be found and freed.
 *
 * A handle's count is incremented before a block is written and decremented after, so that after a crash it may be too high, never too
 * low: all readers expect counts that are too high, and blocks without an address of the handle.
 * A node's reserve has no object (see model/kinds/reserved.ts): its blocks are kept in memory, after a first search of all blocks.
 * Upstream: libcalico-go/lib/ipam/ipam_handle.go.
 */
import { type Store, StoreError } from "../datastore/store.ts";
import { formatKey } from "../model/key.ts";
import { wholeBlockOf } from "../model/convert/block.ts";
import { reserveNode } from "../model/kinds/reserved.ts";
import type { Resource } from "../model/resource.ts";
import { parsePrefix, type Prefix } from "../net/prefix.ts";
import { IpamError } from "./errors.ts";
import type { KnownBlocks } from "./known-blocks.ts";
import { handleKey } from "./names.ts";
import { type Retrier, unlessLost } from "./retry.ts";

export class Handles {
  readonly #store: Store;
  readonly #retrier: Retrier;
  /** The blocks of each reserve, since the first search; possibly too many, never too few. */
  readonly #reserves = new Map<string, Set<Prefix>>();
  readonly #searched = new Set<string>();
  readonly #knownBlocks: KnownBlocks;
  readonly #node: string;

  /** `knownBlocks` is about the reserve of that node. */
  constructor(store: Store, retrier: Retrier, node: string, knownBlocks: KnownBlocks) {
    this.#store = store;
    this.#node = node;
    this.#knownBlocks = knownBlocks;
    this.#retrier = retrier;
  }

  /** The stored handle, or undefined. Finishes a deletion that upstream's client began. */
  async read(handle: string): Promise<Resource<"IPAMHandle"> | undefined> {
    const key = handleKey(handle);
    const found = await this.#store.get(key);
    if (found === undefined) return undefined;
    if (found.spec.deleted === true) {
      await unlessLost(this.#store.delete(key, { revision: found.metadata.resourceVersion ?? "" }));
      return undefined;
    }
    if (found.spec.handleID !== handle)
      throw new IpamError(
        "in-use",
        `Cannot use handle ${JSON.stringify(handle)}: its object ${key.name} belongs to handle ${JSON.stringify(found.spec.handleID)}`,
      );
    return found;
  }

  /** The blocks that may hold addresses of the handle. */
  async blocks(handle: string): Promise<Prefix[]> {
    if (reserveNode(handle) !== undefined) return this.#blocksOfReserve(handle);
    return blocksOf(await this.read(handle));
  }

  async #blocksOfReserve(handle: string): Promise<Prefix[]> {
    const blocks = this.#reserve(handle);
    if (!this.#searched.has(handle)) {
      for (const prefix of this.#knownInReserve(handle) ?? (await this.#searchFor(handle))) blocks.add(prefix);
      this.#searched.add(handle);
    }
    return [...blocks];
  }

  #knownInReserve(handle: string): readonly Prefix[] | undefined {
    const known = reserveNode(handle) === this.#node ? this.#knownBlocks() : undefined;
    return known && [...known.values()].flatMap(({ prefix, mine }) => (mine > 0 ? [prefix] : []));
  }

  async #searchFor(handle: string): Promise<readonly Prefix[]> {
    return (await this.#store.list("IPAMBlock")).items.flatMap((resource) => {
      const block = wholeBlockOf(resource);
      const holds = block.ok && block.value.allocations.some((allocation) => allocation.handle === handle);
      return holds ? [block.value.prefix] : [];
    });
  }

  #reserve(handle: string): Set<Prefix> {
    let blocks = this.#reserves.get(handle);
    if (blocks === undefined) this.#reserves.set(handle, (blocks = new Set()));
    return blocks;
  }

  /** Creates a handle with these counts; returns false, without a change, when it exists. */
  async begin(handle: string, counts: ReadonlyMap<Prefix, number>): Promise<boolean> {
    if (reserveNode(handle) !== undefined) return false;
    const spec = { handleID: handle, block: Object.fromEntries(counts), deleted: false };
    const created = this.#store.create("IPAMHandle", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMHandle",
      metadata: { name: handleKey(handle).name },
      spec,
    });
    return (await unlessLost(created)) !== undefined;
  }

  async increment(handle: string, prefix: Prefix, count: number): Promise<void> {
    if (reserveNode(handle) !== undefined) return void this.#reserve(handle).add(prefix);
    const key = handleKey(handle);
    await this.#retrier.run(formatKey(key), async () => {
      const found = await this.read(handle);
      if (found === undefined) {
        if (await this.begin(handle, new Map([[prefix, count]]))) return;
        throw new StoreError("exists", "IPAMHandle", key, `Cannot create ${formatKey(key)}: another writer was first`);
      }
      const block = { ...found.spec.block, [prefix]: (found.spec.block?.[prefix] ?? 0) + count };
      await this.#store.update("IPAMHandle", { ...found, spec: { ...found.spec, block } });
    });
  }

  /** Decrements the count; a block that reaches zero is removed, and with the last one the handle. */
  async decrement(handle: string, prefix: Prefix, count: number): Promise<void> {
    if (reserveNode(handle) !== undefined) return;
    await this.#retrier.run(formatKey(handleKey(handle)), async () => {
      const found = await this.read(handle);
      const current = found?.spec.block?.[prefix];
      if (found === undefined || current === undefined) return;
      if (current > count)
        await this.#store.update("IPAMHandle", {
          ...found,
          spec: { ...found.spec, block: { ...found.spec.block, [prefix]: current - count } },
        });
      else await this.drop(found, [prefix]);
    });
  }

  /** Removes blocks from the handle; rejects with a lost race when it has changed since it was read. */
  async drop(found: Resource<"IPAMHandle">, prefixes: readonly string[]): Promise<void> {
    const block = { ...found.spec.block };
    for (const prefix of prefixes) delete block[prefix];
    if (Object.keys(block).length > 0)
      await this.#store.update("IPAMHandle", { ...found, spec: { ...found.spec, block } });
    else await this.#store.delete(handleKey(found.spec.handleID), { revision: found.metadata.resourceVersion ?? "" });
  }
}

/** The blocks that a stored handle names; malformed ones are ignored. */
export function blocksOf(handle: Resource<"IPAMHandle"> | undefined): Prefix[] {
  return Object.keys(handle?.spec.block ?? {}).flatMap((text) => {
    const prefix = parsePrefix(text);
    return prefix.ok ? [prefix.value] : [];
  });
}
