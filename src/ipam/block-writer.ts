/**
 * Block writer: changes one block by compare-and-swap, incrementing the handles' counts before the write and decrementing them if it failed.
 */
import { type Store, StoreError } from "../datastore/store.ts";
import { formatKey } from "../model/key.ts";
import { handleOf } from "../model/kinds/reserved.ts";
import { parsePrefix, type Prefix } from "../net/prefix.ts";
import { type Block, free, holderOf, isEmpty, nextSequence } from "./block.ts";
import type { Claims } from "./claims.ts";
import type { Handles } from "./handles.ts";
import { blockKey } from "./names.ts";
import type { Retrier } from "./retry.ts";

/** The result of a change: handle to the number of addresses it gained. Nothing is written when the block is unchanged. */
export interface Change<T> {
  readonly result: T;
  readonly gains: ReadonlyMap<string, number>;
}

export interface ChangeOptions {
  /** The block as it was just read, for the first attempt. */
  readonly block?: Block;
  /** By how much the handles' counts were already incremented for this change. */
  readonly counted?: ReadonlyMap<string, number>;
}

export interface Freed {
  /** How many addresses each handle lost. */
  readonly freed: ReadonlyMap<string, number>;
  /** The block's recorded owner, when the block became empty and is kept. */
  readonly emptied: string | undefined;
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
   * Lets `edit` change the block's spec and writes it, after incrementing the counts of handles that gain addresses; repeats on a fresh read
   * when another writer was first. undefined when the block does not exist or is malformed.
   */
  async change<T>(
    prefix: Prefix,
    edit: (block: Block) => Change<T>,
    { block: given, counted }: ChangeOptions = {},
  ): Promise<T | undefined> {
    let first = given;
    return this.#retrier.run(formatKey(blockKey(prefix)), async () => {
      const block = first ?? (await this.#claims.readBlock(prefix));
      first = undefined;
      if (typeof block !== "object") return undefined;
      const before = JSON.stringify(block.spec);
      const { result, gains } = edit(block);
      if (JSON.stringify(block.spec) === before) return result;
      const added: [string, number][] = [];
      try {
        for (const [handle, count] of gains) {
          const missing = count - (counted?.get(handle) ?? 0);
          if (missing <= 0) continue;
          await this.#handles.increment(handle, prefix, missing);
          added.push([handle, missing]);
        }
        await this.#write(block);
      } catch (error) {
        // A refused write changed nothing. One without an answer may have succeeded: then the counts must stay.
        if (error instanceof StoreError && error.reason !== "unavailable")
          for (const [handle, count] of added) await this.#handles.decrement(handle, prefix, count);
        throw error;
      }
      return result;
    });
  }

  /** Frees the ordinals that `choose` picks. An ownerless block that becomes empty is deleted. */
  async free(prefix: Prefix, choose: (block: Block) => readonly number[]): Promise<Freed> {
    return this.#retrier.run(formatKey(blockKey(prefix)), async () => {
      const block = await this.#claims.readBlock(prefix);
      const freed = new Map<string, number>();
      if (typeof block !== "object") return { freed, emptied: undefined };
      const ordinals = choose(block);
      if (ordinals.length === 0) return { freed, emptied: undefined };
      for (const ordinal of ordinals) {
        const handle = handleOf(holderOf(block.spec, ordinal));
        if (handle !== undefined) freed.set(handle, (freed.get(handle) ?? 0) + 1);
      }
      free(block.spec, ordinals);
      const owner = block.spec.affinity ?? undefined;
      if (owner !== undefined || !isEmpty(block.spec)) await this.#write(block);
      else await this.#store.delete(blockKey(prefix), { revision: block.resource.metadata.resourceVersion ?? "" });
      return { freed, emptied: isEmpty(block.spec) ? owner : undefined };
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
