/**
 * Assignment: one family's search for addresses: the node's own blocks, then a new block, then one that another node left empty,
 * then single addresses borrowed from blocks of others.
 */
import type { Store } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { parseTimestamp } from "../lib/timestamp.ts";
import type { AllocationAttributes, IPAMBlockSpec } from "../model/kinds/ipam.ts";
import type { PoolModel } from "../model/kinds/pool-model.ts";
import { type Addr, bitsOf, type Family } from "../net/addr.ts";
import { parsePrefix, type Prefix, prefixAddr, prefixContains, prefixCovers, prefixLength } from "../net/prefix.ts";
import { addrOf, blockOf, hostAffinity, isEmpty, take } from "./block.ts";
import type { BlockWriter } from "./block-writer.ts";
import { candidateBlocks, inCandidateOrder } from "./candidates.ts";
import type { Claims } from "./claims.ts";
import { IpamError } from "./errors.ts";

export interface AssignmentOptions {
  readonly store: Store;
  readonly claims: Claims;
  readonly writer: BlockWriter;
  readonly node: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly family: Family;
  /** In the order in which they are to be used. */
  readonly pools: readonly PoolModel[];
  readonly owner: AllocationAttributes & { readonly handle_id: string };
  readonly blockLimit: number;
  readonly ownBlocksOnly: boolean;
  /** Every address is added here as soon as it is recorded. */
  readonly taken: Addr[];
}

interface Existing {
  readonly prefix: Prefix;
  /** undefined when the block makes no sense: then nothing is taken from it, but its addresses count as taken. */
  readonly spec: IPAMBlockSpec | undefined;
}

/** A block is not taken from another node within this time of its claim, or two nodes could pass it to and fro without using it. */
const RECLAIM_AGE_MS = 60_000;
/** Claims that may be lost to other nodes in one search. */
const CLAIM_ATTEMPTS = 50;

export class Assignment {
  readonly #options: AssignmentOptions;
  /** Addresses found so far. */
  count = 0;

  constructor(options: AssignmentOptions) {
    this.#options = options;
  }

  /** Searches for so many addresses; answers why there are fewer, or undefined. */
  async run(wanted: number): Promise<IpamError | undefined> {
    const owned = await this.#fromOwnBlocks(wanted);
    if (this.count >= wanted) return undefined;
    if (this.#options.ownBlocksOnly) return this.#shortfall("exhausted", wanted, "the node's own blocks are full");
    let blocks = owned;
    for (let attempt = 0; this.count < wanted; attempt++) {
      if (attempt >= CLAIM_ATTEMPTS) return this.#shortfall("contended", wanted, "other nodes claimed every block first");
      if (blocks >= this.#options.blockLimit) return this.#shortfall("block-limit", wanted, `the node owns ${blocks} blocks and may own ${this.#options.blockLimit}`);
      const existing = await this.#existing();
      const prefix = this.#freeBlock(existing) ?? (await this.#reclaim(existing));
      if (prefix === undefined) {
        await this.#borrow(existing, wanted);
        return this.count >= wanted ? undefined : this.#shortfall("exhausted", wanted, "every address is taken");
      }
      const block = await this.#options.claims.claim(this.#options.node, prefix);
      if (block === undefined) continue;
      blocks++;
      await this.#take(prefix, wanted);
    }
    return undefined;
  }

  /** Takes from the blocks that the node owns; answers how many those are. */
  async #fromOwnBlocks(wanted: number): Promise<number> {
    const { claims, node, family, pools } = this.#options;
    let owned = 0;
    for (const affinity of await claims.affinities(node, family)) {
      const serves = pools.some((pool) => prefixCovers(pool.prefix, affinity.prefix));
      if (serves && this.count < wanted) {
        if ((await claims.settle(node, affinity)) === undefined) continue;
        await this.#take(affinity.prefix, wanted);
      }
      owned++;
    }
    return owned;
  }

  /** Takes what is missing from one block, whoever owns it. */
  async #take(prefix: Prefix, wanted: number): Promise<void> {
    const { writer, owner, taken } = this.#options;
    const addresses = await writer.change(prefix, (block) => {
      const ordinals = block.spec.unallocated.slice(0, wanted - this.count);
      if (ordinals.length > 0) take(block.spec, ordinals, owner);
      return { result: ordinals.map((ordinal) => addrOf(block, ordinal)), gains: new Map([[owner.handle_id, ordinals.length]]) };
    });
    taken.push(...(addresses ?? []));
    this.count += addresses?.length ?? 0;
  }

  async #existing(): Promise<Map<Prefix, Existing>> {
    const blocks = new Map<Prefix, Existing>();
    for (const resource of (await this.#options.store.list("IPAMBlock")).items) {
      const prefix = parsePrefix(String(resource.spec.cidr));
      const block = blockOf(resource);
      if (prefix.ok) blocks.set(prefix.value, { prefix: prefix.value, spec: block.ok && resource.spec.deleted !== true ? block.value.spec : undefined });
    }
    return blocks;
  }

  /** A block that nobody has, or one of this node with space whose affinity is missing. */
  #freeBlock(existing: ReadonlyMap<Prefix, Existing>): Prefix | undefined {
    const { node, random, pools, family } = this.#options;
    for (const pool of pools) {
      const inPool = [...existing.values()].filter(({ prefix }) => prefixCovers(pool.prefix, prefix) || prefixCovers(prefix, pool.prefix));
      const own = inPool.find(({ prefix, spec }) => prefixLength(prefix) === pool.blockSize && spec?.affinity === hostAffinity(node) && spec.unallocated.length > 0);
      if (own !== undefined) return own.prefix;
      // Blocks of another size are left over from a pool that was made anew: their addresses may be in use.
      const odd = inPool.filter(({ prefix }) => prefixLength(prefix) !== pool.blockSize);
      const total = 1n << BigInt(Math.min(bitsOf(family), pool.blockSize) - prefixLength(pool.prefix));
      if (odd.length === 0 && BigInt(inPool.length) >= total) continue;
      for (const candidate of candidateBlocks(pool, node, () => random.fraction())) {
        if (!existing.has(candidate) && !odd.some(({ prefix }) => prefixContains(prefix, prefixAddr(candidate)) || prefixContains(candidate, prefixAddr(prefix)))) return candidate;
      }
    }
    return undefined;
  }

  /** Takes an empty block away from another node that has had it for a while. */
  async #reclaim(existing: ReadonlyMap<Prefix, Existing>): Promise<Prefix | undefined> {
    const { claims, clock, node } = this.#options;
    for (const { prefix, spec } of this.#inOrder(existing)) {
      const owner = spec?.affinity?.startsWith("host:") === true ? spec.affinity.slice("host:".length) : undefined;
      if (spec === undefined || owner === undefined || owner === node || !isEmpty(spec)) continue;
      const claimed = parseTimestamp(spec.affinityClaimTime ?? "");
      if (claimed.ok && clock.wallMs() - claimed.value < RECLAIM_AGE_MS) continue;
      if (await claims.release(owner, prefix, spec.sequenceNumber)) return prefix;
    }
    return undefined;
  }

  async #borrow(existing: ReadonlyMap<Prefix, Existing>, wanted: number): Promise<void> {
    for (const { prefix, spec } of this.#inOrder(existing)) {
      if (this.count >= wanted) return;
      if (spec !== undefined && spec.unallocated.length > 0) await this.#take(prefix, wanted);
    }
  }

  /** The existing blocks of the pools (blocks of another size than the pool's left out), in the node's order. */
  #inOrder(existing: ReadonlyMap<Prefix, Existing>): Existing[] {
    const { node, random } = this.#options;
    return this.#options.pools.flatMap((pool) => {
      const inPool = [...existing.keys()].filter((prefix) => prefixLength(prefix) === pool.blockSize && prefixCovers(pool.prefix, prefix));
      return inCandidateOrder(inPool, pool, node, () => random.fraction()).flatMap((prefix) => existing.get(prefix) ?? []);
    });
  }

  #shortfall(reason: "exhausted" | "block-limit" | "contended", wanted: number, why: string): IpamError {
    const { family, node, pools } = this.#options;
    const names = pools.map((pool) => `${pool.name} (${pool.prefix})`).join(", ");
    return new IpamError(reason, `got ${this.count} of ${wanted} IPv${family} addresses for node ${JSON.stringify(node)} from ${names}: ${why}`);
  }
}
