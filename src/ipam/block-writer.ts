/**
 * Block writer: changes to one block, each one compare-and-swap with the handle counted up before and down when it was in vain.
 */
import { type Store, StoreError } from "../datastore/store.ts";
import { formatKey } from "../model/key.ts";
import { parsePrefix, type Prefix } from "../net/prefix.ts";
import { type Block, free, holderOf, isEmpty, nextSequence } from "./block.ts";
import type { Claims } from "./claims.ts";
import type { Handles } from "./handles.ts";
import { blockKey } from "./names.ts";
import type { Retrier } from "./retry.ts";

/** What a change came to: `count` addresses more for the handle. Nothing is written when it is `unchanged` or took none. */
export interface Change<T> {
  readonly result: T;
  readonly count: number;
  readonly unchanged?: boolean;
}

export class BlockWriter {
  readonly #store: Store;
  readonly #retrier: Retrier;
  readonly #claims: Claims;
  readonly #handles: Handles;

  constructor(store: Store, retrier: Retrier, claims: Claims, handles: Handles) {
    this.#store = store;
    this.#retrier = retrier;
    this.#claims = claims;
    this.#handles = handles;
  }

  /** A compare-and-swap loop of the caller's own, by name. */
  retry<T>(name: string, attempt: () => Promise<T>): Promise<T> {
    return this.#retrier.run(name, attempt);
  }

  /**
   * Lets `edit` change the block's spec on behalf of the handle and writes it; repeated on a fresh read when another writer came
   * first. undefined when there is no such block, or it makes no sense.
   */
  async change<T>(prefix: Prefix, handle: string, edit: (block: Block) => Change<T>): Promise<T | undefined> {
    return this.#retrier.run(formatKey(blockKey(prefix)), async () => {
      const block = await this.#claims.readBlock(prefix);
      if (typeof block !== "object") return undefined;
      const before = JSON.stringify(block.spec);
      const { result, count, unchanged } = edit(block);
      if (unchanged === true || JSON.stringify(block.spec) === before) return result;
      if (count > 0) await this.#handles.increment(handle, prefix, count);
      try {
        await this.#write(block);
      } catch (error) {
        // A refused write changed nothing. One without an answer may have been done: then the count must stay.
        if (count > 0 && error instanceof StoreError && error.reason !== "unavailable") await this.#handles.decrement(handle, prefix, count);
        throw error;
      }
      return result;
    });
  }

  /** Frees the ordinals that `choose` picks; answers how many each handle lost. An ownerless block that becomes empty is deleted. */
  async free(prefix: Prefix, choose: (block: Block) => readonly number[]): Promise<ReadonlyMap<string, number>> {
    return this.#retrier.run(formatKey(blockKey(prefix)), async () => {
      const block = await this.#claims.readBlock(prefix);
      const freed = new Map<string, number>();
      if (typeof block !== "object") return freed;
      const ordinals = choose(block);
      if (ordinals.length === 0) return freed;
      for (const ordinal of ordinals) {
        const handle = holderOf(block.spec, ordinal)?.handle_id;
        if (handle !== undefined) freed.set(handle, (freed.get(handle) ?? 0) + 1);
      }
      free(block.spec, ordinals);
      const owned = block.spec.affinity !== undefined && block.spec.affinity !== null;
      if (owned || !isEmpty(block.spec)) await this.#write(block);
      else await this.#store.delete(blockKey(prefix), { revision: block.resource.metadata.resourceVersion ?? "" });
      return freed;
    });
  }

  /** The prefixes of all blocks. */
  async prefixes(): Promise<Prefix[]> {
    return (await this.#store.list("IPAMBlock")).items.flatMap(({ spec }) => {
      const prefix = parsePrefix(String(spec.cidr));
      return prefix.ok ? [prefix.value] : [];
    });
  }

  async #write(block: Block): Promise<void> {
    block.spec.sequenceNumber = nextSequence(block.spec.sequenceNumber);
    await this.#store.update("IPAMBlock", { ...block.resource, spec: block.spec });
  }
}
