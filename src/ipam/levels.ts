/**
 * Levels: how full the pools are, maintained from the watch, and how much of each the reserve of this node may hold.
 *
 * Of a pool's addresses that no pod has, the reserves of all nodes together may hold half: each node at most its share of that half. So
 * while any address is unused, some are free for a node that needs them. All nodes see the same blocks and follow the same rule; no node
 * has to ask another.
 */
import type { Resource } from "../model/resource.ts";
import type { BlockRow } from "../model/convert/block.ts";
import { ipamSettingsOf, reservedRangesOf } from "../model/kinds/ipam-settings.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import { reserveHandle, reserveNode } from "../model/kinds/reserved.ts";
import type { KeyText } from "../model/key.ts";
import { bitsOf } from "../net/addr.ts";
import { type AddrRange, mergeRanges, type Prefix, prefixCovers, prefixFamily, prefixRange } from "../net/prefix.ts";
import { equal } from "../lib/equal.ts";
import type { KnownBlock } from "./known-blocks.ts";
import { selectsNode } from "./pools.ts";

interface Block {
  readonly prefix: Prefix;
  readonly owner: string | undefined;
  /** One entry per address: whether it is assigned. */
  readonly held: Uint8Array;
  /** Number of addresses in the reserves of all nodes, and in that of this node. */
  readonly reserves: number;
  readonly mine: number;
  /** Number of addresses that other owners have. */
  readonly used: number;
}

interface Level {
  /** Number of free addresses in blocks, without reserved ranges. */
  free: number;
  reserves: number;
  mine: number;
  /** Number of addresses in all blocks. */
  claimed: number;
}

export class PoolLevels {
  readonly #node: string;
  readonly #handle: string;
  readonly #blocks = new Map<KeyText, Block>();
  /** Blocks of this node that hold nothing but its reserve. */
  readonly #idle = new Map<KeyText, Prefix>();
  readonly #pools = new Map<KeyText, PoolRow>();
  readonly #reservations = new Map<KeyText, readonly Prefix[]>();
  readonly #nodes = new Map<KeyText, Readonly<Record<string, string>>>();
  readonly #levels = new Map<string, Level>();
  #reserved: readonly AddrRange[] = [];
  #strict = false;
  /** Pool to the number of nodes that it selects; emptied when labels or pools change. */
  readonly #selected = new Map<string, number>();

  constructor(node: string) {
    this.#node = node;
    this.#handle = reserveHandle(node);
  }

  /** Returns the blocks that are gone. A malformed block counts as absent: nothing in it can be assigned. */
  observe(updates: readonly RowUpdate[]): readonly Prefix[] {
    const gone: Prefix[] = [];
    let recount = false;
    for (const update of updates) {
      const key = update.id;
      if (update.kind === "IPAMBlock")
        this.#putBlock(key, update.value?.ok === true ? update.value.value : undefined, gone);
      else if (update.kind === "Node") this.#putNode(key, update.value?.labels ?? {}, update.value === undefined);
      else if (update.kind === "IPAMConfiguration" && update.key.name === "default")
        this.#strict = this.#isStrict(update.value);
      else if (update.kind === "IPPool") {
        const pool = update.value?.row;
        if (pool?.ok === true) this.#pools.set(key, pool.value);
        else this.#pools.delete(key);
        recount = true;
      } else if (update.kind === "IPReservation") {
        if (update.value === undefined) this.#reservations.delete(key);
        else this.#reservations.set(key, reservedRangesOf(update.value).ranges);
        recount = true;
      }
    }
    if (recount) this.#recount();
    return gone;
  }

  /** All well-formed blocks. */
  blocks(): ReadonlyMap<Prefix, KnownBlock> {
    const known = new Map<Prefix, KnownBlock>();
    for (const { prefix, owner, held, reserves, mine, used } of this.#blocks.values())
      known.set(prefix, { prefix, owner, free: held.length - reserves - used, mine });
    return known;
  }

  /** How many addresses of the pool the reserve of this node may hold. With strictAffinity no other node could use them anyway. */
  limit(pool: PoolRow): number {
    const level = this.#levels.get(pool.name);
    if (level === undefined || this.#strict) return Number.POSITIVE_INFINITY;
    return Math.floor((level.free + level.reserves + this.#unclaimed(pool, level)) / (2 * this.#nodesOf(pool)));
  }

  /** Whether other nodes' reserves hold addresses of the pool. */
  othersHold(pool: PoolRow): boolean {
    const level = this.#levels.get(pool.name);
    return level !== undefined && level.reserves > level.mine;
  }

  /** Blocks of this node that hold nothing but its reserve, in pools that have no block left for another node. */
  blocksToEmpty(): readonly Prefix[] {
    return [...this.#idle.values()].filter((prefix) => {
      const pool = this.#poolOf(prefix);
      const level = pool === undefined ? undefined : this.#levels.get(pool.name);
      return (
        pool !== undefined &&
        level !== undefined &&
        this.#unclaimed(pool, level) < 2 ** (bitsOf(pool.family) - pool.blockSize)
      );
    });
  }

  #putBlock(key: KeyText, row: BlockRow | undefined, gone: Prefix[]): void {
    const before = this.#blocks.get(key);
    const after = row === undefined ? undefined : this.#blockOf(row);
    if (before !== undefined) this.#count(before, -1);
    if (before !== undefined && after === undefined) gone.push(before.prefix);
    this.#idle.delete(key);
    if (after?.owner === this.#node && after.mine > 0 && after.mine === after.reserves && after.used === 0)
      this.#idle.set(key, after.prefix);
    if (after === undefined) this.#blocks.delete(key);
    else {
      this.#blocks.set(key, after);
      this.#count(after, 1);
    }
  }

  #blockOf({ prefix, node, size, held: ordinals, own }: BlockRow): Block {
    const held = new Uint8Array(size);
    let [reserves, mine] = [0, 0];
    for (const ordinal of ordinals) held[ordinal] = 1;
    for (const { handle } of own) {
      if (handle !== undefined && reserveNode(handle) !== undefined) reserves++;
      if (handle === this.#handle) mine++;
    }
    return { prefix, owner: node, held, reserves, mine, used: ordinals.length - reserves };
  }

  #putNode(key: KeyText, labels: Readonly<Record<string, string>>, isGone: boolean): void {
    if (!isGone && equal(this.#nodes.get(key), labels)) return;
    if (isGone) this.#nodes.delete(key);
    else this.#nodes.set(key, labels);
    this.#selected.clear();
  }

  #isStrict(value: Resource<"IPAMConfiguration"> | undefined): boolean {
    const settings = ipamSettingsOf(value);
    return settings.ok && settings.value.strictAffinity;
  }

  #count(block: Block, sign: 1 | -1): void {
    const level = this.#levels.get(this.#poolOf(block.prefix)?.name ?? "");
    if (level === undefined) return;
    level.claimed += sign * block.held.length;
    level.free += sign * this.#freeOf(block);
    level.reserves += sign * block.reserves;
    level.mine += sign * block.mine;
  }

  #freeOf({ prefix, held, reserves, used }: Block): number {
    let free = held.length - reserves - used;
    if (this.#reserved.length === 0) return free;
    const { family, first, last } = prefixRange(prefix);
    for (const hole of this.#reserved) {
      if (hole.family !== family || hole.first > last || hole.last < first) continue;
      const end = hole.last > last ? held.length - 1 : Number(hole.last - first);
      for (let i = hole.first < first ? 0 : Number(hole.first - first); i <= end; i++) if (held[i] === 0) free--;
    }
    return free;
  }

  #recount(): void {
    this.#reserved = mergeRanges([...this.#reservations.values()].flat().map(prefixRange));
    this.#levels.clear();
    this.#selected.clear();
    for (const pool of this.#pools.values()) this.#levels.set(pool.name, { free: 0, reserves: 0, mine: 0, claimed: 0 });
    for (const block of this.#blocks.values()) this.#count(block, 1);
  }

  #poolOf(prefix: Prefix): PoolRow | undefined {
    for (const pool of this.#pools.values())
      if (pool.family === prefixFamily(prefix) && prefixCovers(pool.prefix, prefix)) return pool;
    return undefined;
  }

  /** Number of addresses outside blocks. Reserved ranges are subtracted whole, wherever they are: rather too few than too many. */
  #unclaimed(pool: PoolRow, level: Level): number {
    const { family, first, last } = prefixRange(pool.prefix);
    let reserved = 0n;
    for (const hole of this.#reserved) {
      if (hole.family !== family || hole.last < first || hole.first > last) continue;
      reserved += (hole.last < last ? hole.last : last) - (hole.first > first ? hole.first : first) + 1n;
    }
    return Math.max(0, Number(last - first + 1n - reserved) - level.claimed);
  }

  #nodesOf(pool: PoolRow): number {
    let count = this.#selected.get(pool.name);
    if (count === undefined) {
      count = [...this.#nodes.values()].filter((labels) => selectsNode(pool, labels)).length;
      this.#selected.set(pool.name, count);
    }
    return Math.max(1, count);
  }
}
