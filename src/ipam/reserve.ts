/**
 * Address reserve: a few addresses of each family that the datastore records for the node already, so that a pod gets one without a
 * request to the datastore.
 *
 * Owns the handle `reserve-NODE`. `take` is synchronous; `record` names the new owner afterwards, and `release` ends that. Both are
 * done for all pods that wait at once, and one after another with `refill`, so that what is `out` is known exactly.
 * The reserve claims a new block or borrows only for those who wait, or for the first address of a family: beyond that it uses what the
 * node's blocks have, so that in a small pool it does not keep from other nodes what they need. It never goes by its own memory alone: whatever write
 * had an unknown outcome, the blocks are read again before more is taken.
 */
import type { Clock } from "../host/clock.ts";
import { StoreError } from "../datastore/store.ts";
import { Batch } from "../lib/batch.ts";
import { equal } from "../lib/equal.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { prefixContains } from "../net/prefix.ts";
import type { PoolModel } from "../model/kinds/pool-model.ts";
import { IpamError } from "./errors.ts";
import type { Ipam, PoolView } from "./ipam.ts";

export interface AddressReserveOptions {
  readonly ipam: Ipam;
  readonly node: string;
  readonly clock: Clock;
  /** Addresses that pods of this node use according to the journal; the reserve does not offer them again. */
  readonly inUse: Iterable<Addr>;
  /** Addresses to keep in each family; default 8. */
  readonly size?: number;
}

/** A container's handle, the addresses it has, and what is noted with them. */
export interface Owner {
  readonly handle: string;
  readonly addresses: readonly Addr[];
  readonly attributes: Readonly<Record<string, string>>;
}

/** What a container had: all that its handle holds, and those of the addresses that are recorded for the reserve still. */
export interface Leaving {
  readonly handle: string;
  readonly addresses: readonly Addr[];
}

/** Each costs a request or two of its own, which are made together. */
const PODS_AT_ONCE = 50;
/** Between recoveries that fail, doubling. */
const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 5_000;

export class AddressReserve {
  /** The handle under which reserved addresses are recorded. */
  readonly handle: string;
  readonly #ipam: Ipam;
  readonly #node: string;
  readonly #clock: Clock;
  /** Addresses to keep of each family. */
  readonly size: number;
  #free: Addr[] = [];
  /** Given out, and perhaps still recorded for the reserve's handle. */
  readonly #out: Set<Addr>;
  /** Of those who wait for an address. */
  readonly #waiting: Family[] = [];
  /** Whether the blocks may record more for the handle than is known here. */
  #stale = true;
  /** Recoveries that failed in a row, the last one's error, and when the next may be tried. */
  #outage: { readonly failures: number; readonly error: StoreError; readonly untilMs: number } | undefined;
  /** The pools that served this node at the last refill. */
  #pools: readonly PoolModel[] = [];
  /** Whether the last refill failed, or there was none. */
  #due = true;
  /** What the node's blocks were last compared with: those of no use are given up when it changes. */
  #tidied: PoolView | undefined;
  #work: Promise<void> = Promise.resolve();
  readonly #records: Batch<Owner>;
  readonly #releases: Batch<Leaving>;
  readonly #refills: Batch<undefined>;

  constructor(options: AddressReserveOptions) {
    this.handle = `reserve-${options.node}`;
    this.#ipam = options.ipam;
    this.#node = options.node;
    this.#clock = options.clock;
    this.size = options.size ?? 8;
    this.#out = new Set(options.inUse);
    const schedule = (work: () => Promise<void>): void => void this.#serially(work);
    const isShared = (error: unknown): boolean => error instanceof StoreError && error.reason === "unavailable";
    this.#records = new Batch({ schedule, isShared, most: PODS_AT_ONCE, work: (owners) => this.#record(owners) });
    this.#releases = new Batch({ schedule, isShared, most: PODS_AT_ONCE, work: (leaving) => this.#release(leaving) });
    this.#refills = new Batch({ schedule, isShared: () => true, work: () => this.#refill() });
  }

  /** An address of the family for a pod, or undefined when there is none at hand. */
  take(family: Family): Addr | undefined {
    const at = this.#free.findIndex((addr) => familyOf(addr) === family);
    const [addr] = at < 0 ? [] : this.#free.splice(at, 1);
    if (addr !== undefined) this.#out.add(addr);
    return addr;
  }

  /** As `take`, after a refill that fetches one more for everybody who waits here. Rejects when the datastore does not answer. */
  async takeFound(family: Family): Promise<Addr | undefined> {
    this.#waiting.push(family);
    try {
      await this.refill();
    } catch (error) {
      // Of some family there is none; it need not be this one.
      if (!(error instanceof IpamError)) throw error;
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(family), 1);
    }
    return this.take(family);
  }

  /** Returns an address that was taken and not used, before anybody else was recorded as its owner. */
  giveBack(addr: Addr): void {
    if (this.#out.delete(addr)) this.#free.push(addr);
  }

  /** Number of addresses at hand. */
  count(family: Family): number {
    return this.#free.filter((addr) => familyOf(addr) === family).length;
  }

  /** Whether a refill is due: a family that a pool serves is not up to size. */
  get isLow(): boolean {
    return this.#due || FAMILIES.some((family) => this.#missing(family) > 0 && this.#pools.some((pool) => pool.family === family));
  }

  /** Names the owner of addresses, and takes as many new ones where that costs no further request. Rejects with `not-held` when a third handle holds one. */
  record(owner: Owner): Promise<void> {
    return this.#records.add(owner);
  }

  /** Frees what a container had; also when `record` was never called for it. */
  release(leaving: Leaving): Promise<void> {
    return this.#releases.add(leaving);
  }

  /**
   * Brings each family that a pool serves up to size; frees addresses whose pool serves this node no more, and gives up blocks of no
   * use. Call when the reserve is low and when pools or the node's labels changed. Rejects when the datastore does not answer, or
   * when a family has not one address.
   */
  refill(): Promise<void> {
    return this.#refills.add(undefined);
  }

  /** The first refill; later gives up blocks of no use that became empty since, and makes up for a refill that failed: call now and then. */
  tidy(): Promise<void> {
    return this.#serially(async () => {
      if (this.#due) await this.#refill();
      await this.#ipam.giveUpEmptied();
    });
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const mine = this.#work.then(work, work);
    this.#work = mine;
    // Whoever called hears of a failure; the chain itself goes on.
    mine.catch(() => undefined);
    return mine;
  }

  /** Learns from the blocks what the handle holds; at start, and after a failure of unknown outcome. */
  async #recover(): Promise<void> {
    const held = new Set(await this.#ipam.addressesOf(this.handle));
    this.#free = this.#free.filter((addr) => held.has(addr));
    for (const addr of this.#out) if (!held.has(addr)) this.#out.delete(addr);
    for (const addr of held) if (!this.#out.has(addr) && !this.#free.includes(addr)) this.#free.push(addr);
    this.#stale = false;
  }

  /** Runs work that changes what the handle holds: if it fails, the blocks are read before the next. */
  async #changing<T>(work: () => Promise<T>): Promise<T> {
    if (this.#stale) await this.#recoverPatiently();
    this.#stale = true;
    const result = await work();
    this.#stale = false;
    return result;
  }

  /** Everybody who has work here tries again by himself: all of them together ask no more often than one would. */
  async #recoverPatiently(): Promise<void> {
    if (this.#outage !== undefined && this.#clock.monotonicMs() < this.#outage.untilMs) throw this.#outage.error;
    try {
      await this.#recover();
      this.#outage = undefined;
    } catch (error) {
      if (error instanceof StoreError) {
        const failures = (this.#outage?.failures ?? 0) + 1;
        this.#outage = { failures, error, untilMs: this.#clock.monotonicMs() + Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** (failures - 1)) };
      }
      throw error;
    }
  }

  #missing(family: Family): number {
    return Math.max(0, this.size + this.#demand(family) - this.count(family));
  }

  /** Number of those who wait for an address of the family. */
  #demand(family: Family): number {
    return this.#waiting.filter((each) => each === family).length;
  }

  async #record(owners: readonly Owner[]): Promise<void> {
    const moves = owners.flatMap(({ addresses, handle, attributes }) => addresses.map((addr) => ({ addr, to: handle, attributes })));
    const { replaced, refused } = await this.#changing(() => {
      const most = new Map(FAMILIES.map((family) => [family, this.#missing(family)] as const));
      return this.#ipam.moveHandles(this.handle, moves, { most, pools: this.#pools, attributes: { node: this.#node } });
    });
    for (const { addr } of moves) this.#out.delete(addr);
    this.#gain(replaced);
    const [refusal] = refused.values();
    if (refusal !== undefined) throw refusal;
  }

  async #release(leaving: readonly Leaving[]): Promise<void> {
    await this.#changing(async () => {
      const out = leaving.flatMap(({ addresses }) => addresses.filter((addr) => this.#out.has(addr)));
      if (out.length > 0) await this.#ipam.releaseAddresses(out, [this.handle]);
      for (const addr of out) this.#out.delete(addr);
      await this.#ipam.releaseByHandle(...leaving.map(({ handle }) => handle));
    });
  }

  async #refill(): Promise<void> {
    this.#due = true;
    const failures = await this.#changing(() => this.#refillFamilies());
    this.#due = false;
    const [failure] = failures;
    if (failure !== undefined) throw failure;
    if (this.#pools.length === 0) throw new IpamError("no-pool", `no valid, enabled IPPool selects node ${JSON.stringify(this.#node)}`);
  }

  async #refillFamilies(): Promise<readonly IpamError[]> {
    const view = await this.#ipam.readView();
    const pools = this.#ipam.usablePools(view);
    this.#pools = pools;
    await this.#dropUnserved(pools);
    if (!equal(view, this.#tidied)) await this.#ipam.giveUpBlocks(view);
    this.#tidied = view;
    const failures: IpamError[] = [];
    for (const family of FAMILIES) {
      if (!pools.some((pool) => pool.family === family)) continue;
      try {
        await this.#fill(family, view);
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        if (this.count(family) === 0) failures.push(error);
      }
    }
    return failures;
  }

  async #fill(family: Family, view: PoolView): Promise<void> {
    const urgent = Math.max(1, this.#demand(family)) - this.count(family);
    if (urgent > 0) await this.#assign(family, urgent, false, view);
    const missing = this.#missing(family);
    if (missing > 0) await this.#assign(family, missing, true, view);
  }

  async #assign(family: Family, count: number, ownBlocksOnly: boolean, view: PoolView): Promise<void> {
    const request = { ipv4: family === 4 ? count : 0, ipv6: family === 6 ? count : 0, handle: this.handle, attributes: { node: this.#node }, partial: true, ownBlocksOnly, view };
    const { ipv4, ipv6 } = await this.#ipam.assign(request);
    this.#gain([...ipv4, ...ipv6]);
  }

  #gain(addresses: readonly Addr[]): void {
    for (const addr of addresses) {
      this.#out.delete(addr);
      this.#free.push(addr);
    }
  }

  async #dropUnserved(pools: readonly PoolModel[]): Promise<void> {
    const unserved = this.#free.filter((addr) => !pools.some((pool) => prefixContains(pool.prefix, addr)));
    if (unserved.length === 0) return;
    this.#free = this.#free.filter((addr) => !unserved.includes(addr));
    await this.#ipam.releaseAddresses(unserved, [this.handle]);
  }
}
