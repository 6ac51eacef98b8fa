/**
 * Ipam: assigns addresses to handles and releases them, by compare-and-swap on the blocks in the datastore.
 *
 * Promises: an address is recorded in its block before it is returned; after a crash between any two writes no address is assigned twice
 * and `releaseByHandle` can free every one; operations are idempotent.
 * Upstream: libcalico-go/lib/ipam/ipam.go.
 */
import type { Store } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import { formerReserveHandle, handleOf, ownerOf, reserveHandle, reserveNode } from "../model/kinds/reserved.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { type Prefix, prefixContains, prefixCovers, prefixOf } from "../net/prefix.ts";
import { Assignment } from "./assignment.ts";
import { addrOf, heldBy, holderOf, hostAffinity, ordinalOf, reassign, take } from "./block.ts";
import { BlockWriter } from "./block-writer.ts";
import { Claims } from "./claims.ts";
import type { Report } from "../lib/report.ts";
import { IpamError } from "./errors.ts";
import { blocksOf, Handles } from "./handles.ts";
import type { KnownBlocks } from "./known-blocks.ts";
import { type Move, type Moved, Moves, type Replacement } from "./moves.ts";
import { choosePools, requestedPools, selectsNode, serves, servesAllNamespaces } from "./pools.ts";
import { Retrier } from "./retry.ts";
import { type PoolView, ViewReader } from "./view.ts";

export interface IpamOptions {
  readonly store: Store;
  readonly node: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Given by a daemon that watches the blocks; without it all blocks are read whenever one is needed. */
  readonly knownBlocks?: KnownBlocks;
  /** Called for pools and blocks that are ignored because they are malformed, once each. */
  readonly report: Report;
}

export interface AssignRequest {
  /** Number of addresses of each family. */
  readonly ipv4: number;
  readonly ipv6: number;
  readonly handle: string;
  /** `pod`, `namespace`, `node`, `timestamp`. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Names of the pools to take from; their selectors are then ignored. */
  readonly pools?: { readonly ipv4?: readonly string[]; readonly ipv6?: readonly string[] };
  /** Labels of the namespace of the pod that the addresses are for, by which pools select it; none when absent. */
  readonly namespaceLabels?: Readonly<Record<string, string>>;
  /** The view, if the caller has just read it. */
  readonly view?: PoolView;
  /** True: fewer addresses than requested are a success too, unless there are none. */
  readonly partial?: boolean;
  /** If given: take only from blocks that the node owns and in which a pod has an address, recorded or one of these. */
  readonly usedBlocks?: readonly Addr[];
}

export interface Assigned {
  readonly ipv4: readonly Addr[];
  readonly ipv6: readonly Addr[];
}

const NO_REPLACEMENT: Replacement = { most: new Map(), pools: [], reserved: [], attributes: {} };

export class Ipam {
  readonly node: string;
  readonly #options: IpamOptions;
  readonly #knownBlocks: KnownBlocks;
  readonly #claims: Claims;
  readonly #handles: Handles;
  readonly #writer: BlockWriter;
  readonly #moves: Moves;
  readonly #view: ViewReader;
  /** Blocks of this node that became empty. */
  readonly #emptied = new Set<Prefix>();
  /** Releases of unknown outcome: the address and the releasing handle, to the sequence number of the allocation that was meant. */
  readonly #releasing = new Map<string, number>();

  constructor(options: IpamOptions) {
    this.node = options.node;
    this.#options = options;
    this.#knownBlocks = options.knownBlocks ?? (() => undefined);
    const retrier = new Retrier(options.clock, options.random);
    const report = once(options.report);
    this.#view = new ViewReader(options.store, options.node, report);
    this.#claims = new Claims(options.store, options.clock, report);
    this.#handles = new Handles(options.store, retrier, options.node, this.#knownBlocks);
    this.#writer = new BlockWriter(options.store, retrier, this.#claims, this.#handles);
    const find = (addresses: readonly Addr[], handles: readonly string[]): Promise<readonly Prefix[]> =>
      this.#blocksHolding(addresses, handles);
    this.#moves = new Moves({
      node: options.node,
      claims: this.#claims,
      handles: this.#handles,
      writer: this.#writer,
      find,
    });
  }

  /**
   * Assigns as many addresses as requested, or none: rejects with IpamError (no pool, limit, exhausted) or StoreError after releasing what
   * it had taken. If that fails too, `releaseByHandle` finds the rest.
   */
  async assign(request: AssignRequest): Promise<Assigned> {
    const taken: Addr[] = [];
    try {
      const view = request.view ?? (await this.readView());
      for (const family of FAMILIES) {
        const count = family === 4 ? request.ipv4 : request.ipv6;
        if (count > 0) await this.#assignFamily(request, family, count, view, taken);
      }
      return { ipv4: taken.filter((addr) => familyOf(addr) === 4), ipv6: taken.filter((addr) => familyOf(addr) === 6) };
    } catch (error) {
      await this.#giveBack(taken, request.handle);
      throw error;
    }
  }

  /**
   * Assigns a specific address to the handle. Succeeds when the handle already has it. Rejects with `in-use` when another handle has it,
   * with `no-pool` when no enabled pool contains it, with `forbidden` when its block is another node's and strictAffinity is on. An
   * unowned block becomes this node's. Reserved ranges are ignored, as the request is explicit.
   */
  async assignAddress(addr: Addr, handle: string, attributes: Readonly<Record<string, string>>): Promise<void> {
    const { pools, settings } = await this.readView();
    if (!settings.ok) throw new IpamError("misconfigured", `Cannot assign ${addr}: ${settings.error}`);
    const { strictAffinity } = settings.value;
    const pool = pools.valid.find((candidate) => !candidate.disabled && prefixContains(candidate.prefix, addr));
    if (pool === undefined) throw new IpamError("no-pool", `Cannot assign ${addr}: no enabled IPPool contains it`);
    const prefix = prefixOf(addr, pool.blockSize);
    if ((await this.#claims.readBlock(prefix)) === "absent") await this.#claims.claim(this.node, prefix);
    const owner = ownerOf(handle, attributes);
    const done = await this.#writer.change(prefix, (block) => {
      const ordinal = ordinalOf(block, addr);
      const holder = holderOf(block.spec, ordinal);
      if (handleOf(holder) === handle) return { result: true, gains: new Map() };
      if (holder !== undefined)
        throw new IpamError("in-use", `Cannot assign ${addr}: handle ${JSON.stringify(handleOf(holder))} holds it`);
      if (strictAffinity && block.spec.affinity !== hostAffinity(this.node))
        throw new IpamError(
          "forbidden",
          `Cannot assign ${addr}: its block ${prefix} belongs to ${JSON.stringify(block.spec.affinity ?? "no node")}, and strictAffinity of the IPAMConfiguration is true`,
        );
      take(block.spec, [ordinal], owner);
      return { result: true, gains: new Map([[handle, 1]]) };
    });
    if (done === undefined)
      throw new IpamError(
        "contended",
        `Cannot assign ${addr}: its block ${prefix} is being claimed by another node, or is malformed`,
      );
  }

  /**
   * Frees those of the addresses that one of the handles holds; others are unchanged. A repetition after a failure frees only the
   * allocation that the first call meant, even if one of the handles has been assigned the address again since.
   */
  async releaseAddresses(addresses: readonly Addr[], handles: readonly string[]): Promise<void> {
    const holders = new Set(handles);
    const intent = (addr: Addr): string => `${addr} ${handles.join(" ")}`;
    for (const prefix of await this.#blocksHolding(addresses, handles)) {
      const { freed, emptied } = await this.#writer.free(prefix, (block) =>
        addresses
          .filter((addr) => prefixContains(prefix, addr))
          .flatMap((addr) => {
            const ordinal = ordinalOf(block, addr);
            const holder = handleOf(holderOf(block.spec, ordinal));
            if (holder === undefined || !holders.has(holder)) return [];
            const sequence = block.spec.sequenceNumberForAllocation?.[String(ordinal)] ?? 0;
            const meant = this.#releasing.get(intent(addr)) ?? sequence;
            this.#releasing.set(intent(addr), meant);
            return meant === sequence ? [ordinal] : [];
          }),
      );
      for (const [handle, count] of freed) await this.#handles.decrement(handle, prefix, count);
      if (emptied === hostAffinity(this.node)) this.#emptied.add(prefix);
    }
    for (const addr of addresses) this.#releasing.delete(intent(addr));
  }

  /**
   * Frees every address of the handles and removes the handles, with one write per block. No other call may assign to one of the handles
   * meanwhile: what it takes could be missed.
   */
  async releaseByHandle(...handles: readonly string[]): Promise<void> {
    await this.#writer.retry("handles that are released", async () => {
      const reserves = handles.filter((handle) => reserveNode(handle) !== undefined);
      const found = (
        await Promise.all(
          handles.filter((handle) => !reserves.includes(handle)).map((handle) => this.#handles.read(handle)),
        )
      ).filter((handle) => handle !== undefined);
      const holders = new Set([...found.map(({ spec }) => spec.handleID), ...reserves]);
      const ofReserves = (await Promise.all(reserves.map((handle) => this.#handles.blocks(handle)))).flat();
      for (const prefix of new Set([...found.flatMap(blocksOf), ...ofReserves])) {
        const { emptied } = await this.#writer.free(prefix, (block) => heldBy(block.spec, holders));
        if (emptied === hostAffinity(this.node)) this.#emptied.add(prefix);
      }
      const drops = await Promise.allSettled(
        found.map((handle) => this.#handles.drop(handle, Object.keys(handle.spec.block ?? {}))),
      );
      for (const drop of drops) if (drop.status === "rejected") throw drop.reason;
    });
  }

  /**
   * Moves addresses from the handle `from` to other handles; no address is ever free in between. An address that was moved already stays
   * moved, a free one is taken, and one that a third handle holds is refused. What `replacement` requests is assigned to `from` in the
   * same writes.
   */
  moveHandles(from: string, moves: readonly Move[], replacement: Replacement = NO_REPLACEMENT): Promise<Moved> {
    return this.#moves.run(from, moves, replacement);
  }

  /** Reads the view, for several calls that belong together. */
  readView(): Promise<PoolView> {
    return this.#view.read();
  }

  /** Converts addresses that an earlier release recorded for the node's reserve to the present form, and removes their handle. */
  async migrateReserve(): Promise<void> {
    const former = formerReserveHandle(this.node);
    const handle = reserveHandle(this.node);
    const stored = await this.#handles.read(former);
    if (stored === undefined) return;
    for (const prefix of new Set([...blocksOf(stored), ...(await this.#handles.blocks(handle))])) {
      await this.#writer.change(prefix, (block) => {
        for (const ordinal of heldBy(block.spec, new Set([handle]))) {
          const holder = holderOf(block.spec, ordinal);
          if (holder?.handle_id === former) reassign(block.spec, ordinal, ownerOf(handle, holder.secondary ?? {}));
        }
        return { result: undefined, gains: new Map([[handle, 0]]) };
      });
    }
    await this.#writer.retry(former, async () => {
      const current = await this.#handles.read(former);
      if (current !== undefined) await this.#handles.drop(current, Object.keys(current.spec.block ?? {}));
    });
  }

  /** As `releaseBlocks`, for blocks that became empty since the last call, without a request when there are none. Not at once, as the next pod may need the block. */
  async releaseEmptied(): Promise<void> {
    const prefixes = [...this.#emptied];
    if (prefixes.length === 0) return;
    // Blocks that become empty from here on are for the next call.
    this.#emptied.clear();
    try {
      await this.releaseBlocks(undefined, prefixes);
    } catch (error) {
      for (const prefix of prefixes) this.#emptied.add(prefix);
      throw error;
    }
  }

  /** Releases those of the node's blocks (or of these) that are empty and in no pool that selects the node. A disabled pool keeps its blocks. */
  async releaseBlocks(view?: PoolView, prefixes?: readonly Prefix[]): Promise<void> {
    const { pools, labels } = view ?? (await this.readView());
    const candidates =
      prefixes ??
      (await Promise.all(FAMILIES.map((family) => this.#claims.affinities(this.node, family))))
        .flat()
        .map(({ prefix }) => prefix);
    for (const prefix of candidates) {
      if (!pools.valid.some((pool) => prefixCovers(pool.prefix, prefix) && selectsNode(pool, labels)))
        await this.#claims.release(this.node, prefix);
    }
  }

  /** The addresses that blocks record for the handle. A later release of one of them refers to the allocation read here. */
  async addressesOf(handle: string): Promise<Addr[]> {
    for (const intent of this.#releasing.keys()) if (intent.endsWith(` ${handle}`)) this.#releasing.delete(intent);
    const held: Addr[] = [];
    for (const prefix of await this.#handles.blocks(handle)) {
      const block = await this.#claims.readBlock(prefix);
      if (typeof block === "object")
        for (const ordinal of heldBy(block.spec, new Set([handle]))) held.push(addrOf(block, ordinal));
    }
    return held;
  }

  /** The blocks that the node owns by a confirmed affinity. */
  async blocksOf(node: string): Promise<Prefix[]> {
    const owned: Prefix[] = [];
    for (const family of FAMILIES) {
      for (const { prefix, resource } of await this.#claims.affinities(node, family)) {
        if ((resource.spec.state ?? "confirmed") === "confirmed" && resource.spec.deleted !== true) owned.push(prefix);
      }
    }
    return owned;
  }

  /** The pools from which this node gets new addresses without naming a pool; none is not an error. */
  usablePools({ pools, labels }: PoolView): PoolRow[] {
    return pools.valid.filter((pool) => servesAllNamespaces(pool) && serves(pool, labels, undefined));
  }

  async #assignFamily(
    request: AssignRequest,
    family: Family,
    count: number,
    { pools, labels, settings, reserved }: PoolView,
    taken: Addr[],
  ): Promise<void> {
    if (!settings.ok)
      throw new IpamError(
        "misconfigured",
        `no IPv${family} address for node ${JSON.stringify(this.node)}: ${settings.error}`,
      );
    const names = family === 4 ? request.pools?.ipv4 : request.pools?.ipv6;
    const chosen =
      names === undefined || names.length === 0
        ? choosePools(pools, family, this.node, labels, request.namespaceLabels ?? {})
        : requestedPools(pools, family, names);
    const { clock, random } = this.#options;
    const assignment = new Assignment({
      store: this.#options.store,
      claims: this.#claims,
      writer: this.#writer,
      node: this.node,
      clock,
      random,
      family,
      pools: chosen,
      handle: request.handle,
      attributes: request.attributes,
      settings: settings.value,
      reserved,
      knownBlocks: this.#knownBlocks,
      usedBlocks: request.usedBlocks,
      taken,
    });
    const shortfall = await assignment.run(count);
    if (shortfall !== undefined && !(request.partial === true && assignment.count > 0)) throw shortfall;
  }

  async #giveBack(addresses: readonly Addr[], handle: string): Promise<void> {
    if (addresses.length === 0) return;
    try {
      await this.releaseAddresses(addresses, [handle]);
    } catch (error) {
      if (!(error instanceof Error) || error.name === "BugError") throw error;
      this.#options.report("addresses of a failed assignment stay with their handle until it is released", {
        handle,
        addresses,
        error: error.message,
      });
    }
  }

  /** Blocks that hold the addresses for one of the handles: those that the handles name, otherwise all blocks are searched. */
  async #blocksHolding(addresses: readonly Addr[], handles: readonly string[]): Promise<Prefix[]> {
    const named = new Set<Prefix>();
    for (const handle of handles) for (const prefix of await this.#handles.blocks(handle)) named.add(prefix);
    const covering = [...named].filter((prefix) => addresses.some((addr) => prefixContains(prefix, addr)));
    if (addresses.every((addr) => covering.some((prefix) => prefixContains(prefix, addr)))) return covering;
    const all = await this.#writer.prefixes();
    return all.filter((prefix) => addresses.some((addr) => prefixContains(prefix, addr)));
  }
}

/** Reports the same only once. */
function once(report: Report): Report {
  const reported = new Set<string>();
  return (message, fields) => {
    const text = JSON.stringify([message, fields]);
    if (reported.has(text)) return;
    reported.add(text);
    report(message, fields);
  };
}
