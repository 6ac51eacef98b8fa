/**
 * Assignment: one family's search for addresses: the node's own blocks, then a new block, then one that another node left empty,
 * then single addresses borrowed from blocks of others.
 */
import type { Store } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { parseTimestamp } from "../lib/timestamp.ts";
import type { IPAMBlockSpec } from "../model/kinds/ipam.ts";
import type { IpamSettings } from "../model/kinds/ipam-settings.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import { ownerOf } from "../model/kinds/reserved.ts";
import { type Addr, bitsOf, type Family } from "../net/addr.ts";
import {
  parsePrefix,
  type Prefix,
  prefixAddr,
  prefixContains,
  prefixCovers,
  prefixLength,
  prefixRange,
  subtractRanges,
} from "../net/prefix.ts";
import { addrOf, type Block, blockOf, freeOrdinals, hostAffinity, isEmpty, isUsed, take } from "./block.ts";
import type { BlockWriter } from "./block-writer.ts";
import { candidateBlocks, inCandidateOrder } from "./candidates.ts";
import type { Claims } from "./claims.ts";
import { IpamError } from "./errors.ts";
import type { KnownBlock, KnownBlocks } from "./known-blocks.ts";

export interface AssignmentOptions {
  readonly store: Store;
  readonly claims: Claims;
  readonly writer: BlockWriter;
  readonly node: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly family: Family;
  /** In order of use. */
  readonly pools: readonly PoolRow[];
  readonly handle: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly settings: IpamSettings;
  /** Ranges from which nothing is taken. */
  readonly reserved: readonly Prefix[];
  readonly knownBlocks: KnownBlocks;
  /** See AssignRequest. */
  readonly usedBlocks: readonly Addr[] | undefined;
  /** Every address is added here as soon as it is recorded. */
  readonly taken: Addr[];
}

interface Existing {
  readonly prefix: Prefix;
  /** undefined when the block is malformed: nothing is taken from it, and its addresses count as taken. */
  readonly block: Block | undefined;
}

/** A block is not taken from another node within this time of its claim, or two nodes could pass it back and forth without using it. */
const RECLAIM_AGE_MS = 60_000;
/** The most claims that one search may lose to other nodes. */
const CLAIM_ATTEMPTS = 50;

export class Assignment {
  readonly #options: AssignmentOptions;
  /** Addresses found so far. */
  count = 0;

  constructor(options: AssignmentOptions) {
    this.#options = options;
  }

  /** Searches for that many addresses; returns the error if there are fewer. */
  async run(wanted: number): Promise<IpamError | undefined> {
    const owned = await this.#fromOwnBlocks(wanted);
    if (this.count >= wanted) return undefined;
    if (this.#options.usedBlocks !== undefined)
      return this.#shortfall("exhausted", wanted, "the node's own blocks are full");
    const { settings } = this.#options;
    let blocks = owned;
    for (let attempt = 0; this.count < wanted; attempt++) {
      if (attempt >= CLAIM_ATTEMPTS)
        return this.#shortfall("contended", wanted, "other nodes claimed every block first");
      if (blocks >= settings.blockLimit)
        return this.#shortfall(
          "block-limit",
          wanted,
          `the node owns ${blocks} blocks and may own ${settings.blockLimit}`,
        );
      const prefix = (attempt === 0 ? this.#guess() : undefined) ?? (await this.#search(wanted));
      if (prefix === undefined)
        return this.count >= wanted ? undefined : this.#shortfall("exhausted", wanted, this.#whyExhausted());
      const block = await this.#options.claims.claim(this.#options.node, prefix);
      if (block === undefined) continue;
      blocks++;
      await this.#take(prefix, wanted);
    }
    return undefined;
  }

  /** A free block, as far as is known without reading all blocks of the cluster. */
  #guess(): Prefix | undefined {
    const known = this.#options.settings.autoAllocateBlocks ? this.#options.knownBlocks() : undefined;
    return known === undefined ? undefined : this.#freeBlock(known);
  }

  /** The block to claim next, after reading all blocks from the datastore; without one, addresses are borrowed. */
  async #search(wanted: number): Promise<Prefix | undefined> {
    const { settings, node } = this.#options;
    const existing = await this.#existing();
    const blocks = new Map<Prefix, KnownBlock>();
    for (const { prefix, block } of existing.values()) {
      const owner = block?.spec.affinity === hostAffinity(node) ? node : undefined;
      const free = block !== undefined && owner === node ? freeOrdinals(block, this.#options.reserved).length : 0;
      blocks.set(prefix, { prefix, owner, free, mine: 0 });
    }
    const prefix = settings.autoAllocateBlocks
      ? (this.#freeBlock(blocks) ?? (await this.#reclaim(existing)))
      : undefined;
    if (prefix === undefined && !settings.strictAffinity) await this.#borrow(existing, wanted);
    return prefix;
  }

  /** Takes from the blocks that the node owns; returns their number. */
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

  /** Takes what is missing from one block of any owner. */
  async #take(prefix: Prefix, wanted: number): Promise<void> {
    const { writer, handle, attributes, reserved, taken, usedBlocks } = this.#options;
    const addresses = await writer.change(prefix, (block) => {
      const mayTake =
        usedBlocks === undefined || isUsed(block.spec) || usedBlocks.some((addr) => prefixContains(prefix, addr));
      const ordinals = mayTake ? freeOrdinals(block, reserved).slice(0, wanted - this.count) : [];
      if (ordinals.length > 0) take(block.spec, ordinals, ownerOf(handle, attributes));
      return { result: ordinals.map((ordinal) => addrOf(block, ordinal)), gains: new Map([[handle, ordinals.length]]) };
    });
    taken.push(...(addresses ?? []));
    this.count += addresses?.length ?? 0;
  }

  async #existing(): Promise<Map<Prefix, Existing>> {
    const blocks = new Map<Prefix, Existing>();
    for (const resource of (await this.#options.store.list("IPAMBlock")).items) {
      const prefix = parsePrefix(String(resource.spec.cidr));
      const block = blockOf(resource);
      if (prefix.ok)
        blocks.set(prefix.value, {
          prefix: prefix.value,
          block: block.ok && resource.spec.deleted !== true ? block.value : undefined,
        });
    }
    return blocks;
  }

  /** A free block, or one of this node with space whose affinity is missing. */
  #freeBlock(existing: ReadonlyMap<Prefix, KnownBlock>): Prefix | undefined {
    const { node, random, pools, family } = this.#options;
    for (const pool of pools) {
      const inPool = [...existing.values()].filter(
        ({ prefix }) => prefixCovers(pool.prefix, prefix) || prefixCovers(prefix, pool.prefix),
      );
      const own = inPool.find(
        ({ prefix, owner, free }) => prefixLength(prefix) === pool.blockSize && owner === node && free > 0,
      );
      if (own !== undefined) return own.prefix;
      // Blocks of another size remain from an earlier pool of the same range: their addresses may be in use.
      const odd = inPool.filter(({ prefix }) => prefixLength(prefix) !== pool.blockSize);
      const total = 1n << BigInt(Math.min(bitsOf(family), pool.blockSize) - prefixLength(pool.prefix));
      if (odd.length === 0 && BigInt(inPool.length) >= total) continue;
      for (const candidate of candidateBlocks(pool, node, () => random.fraction(), this.#options.reserved)) {
        if (
          !existing.has(candidate) &&
          !odd.some(
            ({ prefix }) =>
              prefixContains(prefix, prefixAddr(candidate)) || prefixContains(candidate, prefixAddr(prefix)),
          ) &&
          !this.#isReserved(candidate)
        )
          return candidate;
      }
    }
    return undefined;
  }

  /** Takes an empty block away from another node that has had it for a while. */
  async #reclaim(existing: ReadonlyMap<Prefix, Existing>): Promise<Prefix | undefined> {
    const { claims, clock, node } = this.#options;
    for (const { prefix, block } of this.#inOrder(existing)) {
      const spec: IPAMBlockSpec | undefined = block?.spec;
      const owner = spec?.affinity?.startsWith("host:") === true ? spec.affinity.slice("host:".length) : undefined;
      if (
        spec === undefined ||
        block === undefined ||
        owner === undefined ||
        owner === node ||
        !isEmpty(spec) ||
        !this.#hasSpace(block)
      )
        continue;
      const claimed = parseTimestamp(spec.affinityClaimTime ?? "");
      if (claimed.ok && clock.wallMs() - claimed.value < RECLAIM_AGE_MS) continue;
      if (await claims.release(owner, prefix, spec.sequenceNumber)) return prefix;
    }
    return undefined;
  }

  async #borrow(existing: ReadonlyMap<Prefix, Existing>, wanted: number): Promise<void> {
    for (const { prefix, block } of this.#inOrder(existing)) {
      if (this.count >= wanted) return;
      if (block !== undefined && this.#hasSpace(block)) await this.#take(prefix, wanted);
    }
  }

  /** Whether reserved ranges cover the whole block. */
  #isReserved(prefix: Prefix): boolean {
    const ranges = this.#options.reserved.filter((range) => prefixCovers(prefix, range)).map(prefixRange);
    return ranges.length > 0 && subtractRanges([prefixRange(prefix)], ranges).length === 0;
  }

  #hasSpace(block: Block): boolean {
    return freeOrdinals(block, this.#options.reserved).length > 0;
  }

  #whyExhausted(): string {
    const { settings, reserved } = this.#options;
    const limits = [
      ...(settings.strictAffinity
        ? ["strictAffinity of the IPAMConfiguration prevents it from using blocks of other nodes"]
        : []),
      ...(settings.autoAllocateBlocks
        ? []
        : ["autoAllocateBlocks of the IPAMConfiguration prevents it from claiming one"]),
      ...(reserved.length === 0 ? [] : ["IPReservations exclude some"]),
    ];
    return limits.length === 0
      ? "every address is taken"
      : ["every address that it may use is taken", ...limits].join("; ");
  }

  /** The existing blocks of the pools (blocks of another size than the pool's left out), in the node's order. */
  #inOrder(existing: ReadonlyMap<Prefix, Existing>): Existing[] {
    const { node, random } = this.#options;
    return this.#options.pools.flatMap((pool) => {
      const inPool = [...existing.keys()].filter(
        (prefix) => prefixLength(prefix) === pool.blockSize && prefixCovers(pool.prefix, prefix),
      );
      return inCandidateOrder(inPool, pool, node, () => random.fraction()).flatMap(
        (prefix) => existing.get(prefix) ?? [],
      );
    });
  }

  #shortfall(reason: "exhausted" | "block-limit" | "contended", wanted: number, why: string): IpamError {
    const { family, node, pools } = this.#options;
    const names = pools.map((pool) => `${pool.name} (${pool.prefix})`).join(", ");
    return new IpamError(
      reason,
      `got ${this.count} of ${wanted} IPv${family} addresses for node ${JSON.stringify(node)} from ${names}: ${why}`,
    );
  }
}
