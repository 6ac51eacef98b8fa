/**
 * Moves: moves addresses from one handle to others in batches: one write per block, in which the source handle may take as many new ones.
 */
import { equal } from "../lib/equal.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import { handleOf, ownerOf } from "../model/kinds/reserved.ts";
import type { Addr, Family } from "../net/addr.ts";
import { type Prefix, prefixContains, prefixCovers, prefixFamily } from "../net/prefix.ts";
import { addrOf, type Block, freeOrdinals, holderOf, hostAffinity, ordinalOf, reassign, take } from "./block.ts";
import type { BlockWriter } from "./block-writer.ts";
import type { Claims } from "./claims.ts";
import { IpamError } from "./errors.ts";
import type { Handles } from "./handles.ts";

export interface Move {
  readonly addr: Addr;
  /** The handle that is to hold it. */
  readonly to: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** What the source handle takes in blocks that are written anyway: at most so many addresses of each family, from these pools. */
export interface Replacement {
  readonly most: ReadonlyMap<Family, number>;
  readonly pools: readonly PoolRow[];
  /** Ranges that are assigned only on request. */
  readonly reserved: readonly Prefix[];
  readonly attributes: Readonly<Record<string, string>>;
}

export interface Moved {
  readonly replaced: readonly Addr[];
  /** Addresses that a third handle holds, or no block. */
  readonly refused: ReadonlyMap<Addr, IpamError>;
}

interface Group {
  /** The block as read for the plan. */
  readonly block: Block;
  readonly moves: Move[];
}

export interface MovesOptions {
  readonly node: string;
  readonly claims: Claims;
  readonly handles: Handles;
  readonly writer: BlockWriter;
  /** The blocks that hold the addresses for one of the handles, found by requests. */
  readonly find: (addresses: readonly Addr[], handles: readonly string[]) => Promise<readonly Prefix[]>;
}

export class Moves {
  readonly #options: MovesOptions;

  constructor(options: MovesOptions) {
    this.#options = options;
  }

  async run(from: string, moves: readonly Move[], replacement: Replacement): Promise<Moved> {
    const { handles, writer } = this.#options;
    const refused = new Map<Addr, IpamError>();
    const replaced: Addr[] = [];
    const groups = new Map<Prefix, Group>();
    for (const move of moves) {
      const group = await this.#groupOf(move, from, groups);
      if (group === undefined) refused.set(move.addr, notHeld(move, from, "no block holds it"));
      else group.moves.push(move);
    }
    const counted = await this.#begin(from, groups);
    const rest = new Map(replacement.most);
    for (const [prefix, { block, moves: here }] of groups) {
      const done = await writer.change(
        prefix,
        (current) => this.#edit(current, from, here, replacement, rest.get(prefixFamily(prefix)) ?? 0),
        { block, counted: counted.get(prefix) ?? new Map<string, number>() },
      );
      if (done === undefined) {
        for (const move of here) refused.set(move.addr, notHeld(move, from, "its block was deleted"));
        continue;
      }
      for (const [addr, error] of done.refused) refused.set(addr, error);
      replaced.push(...done.replaced);
      rest.set(prefixFamily(prefix), (rest.get(prefixFamily(prefix)) ?? 0) - done.replaced.length);
      if (done.left > done.replaced.length) await handles.decrement(from, prefix, done.left - done.replaced.length);
    }
    return { replaced, refused };
  }

  /** A block that was seen before needs no search. */
  async #groupOf({ addr, to }: Move, from: string, groups: Map<Prefix, Group>): Promise<Group | undefined> {
    const { claims, find } = this.#options;
    const read = async (prefix: Prefix | undefined): Promise<Group | undefined> => {
      if (prefix === undefined) return undefined;
      const known = groups.get(prefix);
      if (known !== undefined) return known;
      const block = await claims.readBlock(prefix);
      if (typeof block !== "object") return undefined;
      const group = { block, moves: [] };
      groups.set(prefix, group);
      return group;
    };
    const known = [...groups.keys()].find((prefix) => prefixContains(prefix, addr)) ?? claims.seen(addr);
    return (await read(known)) ?? read((await find([addr], [from, to]))[0]);
  }

  /** Creates the new handles in one write each; returns the counts that this wrote, by block and handle. */
  async #begin(
    from: string,
    groups: ReadonlyMap<Prefix, Group>,
  ): Promise<ReadonlyMap<Prefix, ReadonlyMap<string, number>>> {
    const wanted = new Map<string, Map<Prefix, number>>();
    for (const [prefix, { block, moves }] of groups) {
      for (const { addr, to } of moves) {
        const holder = handleOf(holderOf(block.spec, ordinalOf(block, addr)));
        if (to === from || (holder !== undefined && holder !== from)) continue;
        const counts = wanted.get(to) ?? new Map<Prefix, number>();
        wanted.set(to, counts.set(prefix, (counts.get(prefix) ?? 0) + 1));
      }
    }
    const counted = new Map<Prefix, Map<string, number>>();
    await Promise.all(
      [...wanted].map(async ([handle, counts]) => {
        if (!(await this.#options.handles.begin(handle, counts))) return;
        for (const [prefix, count] of counts)
          counted.set(prefix, (counted.get(prefix) ?? new Map<string, number>()).set(handle, count));
      }),
    );
    return counted;
  }

  #edit(
    block: Block,
    from: string,
    moves: readonly Move[],
    replacement: Replacement,
    most: number,
  ): { result: Moved & { readonly left: number }; gains: ReadonlyMap<string, number> } {
    const refused = new Map<Addr, IpamError>();
    const gains = new Map<string, number>();
    let left = 0;
    for (const move of moves) {
      const { addr, to } = move;
      const owner = ownerOf(to, move.attributes);
      const ordinal = ordinalOf(block, addr);
      const holder = holderOf(block.spec, ordinal);
      const handle = handleOf(holder);
      if (holder === undefined) take(block.spec, [ordinal], owner);
      else if (handle !== from && handle !== to) {
        refused.set(
          addr,
          new IpamError(
            "in-use",
            `Cannot move ${addr} from handle ${JSON.stringify(from)} to ${JSON.stringify(to)}: handle ${JSON.stringify(handle)} holds it`,
          ),
        );
        continue;
      } else if (!equal(holder, owner)) reassign(block.spec, ordinal, owner);
      if (handle !== to) gains.set(to, (gains.get(to) ?? 0) + 1);
      if (handle === from && from !== to) left++;
    }
    const ordinals = this.#mayReplace(block, replacement)
      ? freeOrdinals(block, replacement.reserved).slice(0, most)
      : [];
    if (ordinals.length > 0) take(block.spec, ordinals, ownerOf(from, replacement.attributes));
    if (ordinals.length > left) gains.set(from, ordinals.length - left);
    return { result: { refused, left, replaced: ordinals.map((ordinal) => addrOf(block, ordinal)) }, gains };
  }

  /** New addresses come from the node's own blocks alone: others need theirs. */
  #mayReplace(block: Block, { pools }: Replacement): boolean {
    return (
      block.spec.affinity === hostAffinity(this.#options.node) &&
      pools.some((pool) => prefixCovers(pool.prefix, block.prefix))
    );
  }
}

function notHeld({ addr, to }: Move, from: string, why: string): IpamError {
  return new IpamError(
    "not-held",
    `Cannot move ${addr} from handle ${JSON.stringify(from)} to ${JSON.stringify(to)}: ${why}`,
  );
}
