/**
 * Address reserve: a few addresses of each family that the datastore records for the node already, so that a pod gets one without a
 * request to the datastore.
 *
 * `take` is synchronous; `record` names the new owner afterwards, and `release` ends that. Both are done for all pods that wait at once,
 * and one after another with `refill`, so that what is `out` is known exactly. It never goes by its own memory alone: whatever write had an
 * unknown outcome, the blocks are read again before more is taken.
 *
 * It claims a block or borrows only for those who wait. Beyond that it takes from blocks of the node in which a pod has an address, as many
 * as the pool's level allows (see levels.ts), and gives up what is more as soon as the watch shows it: a pod of another node that finds
 * every address taken waits that long. So an address that nobody uses is free within the time that a change takes through the watch and
 * one write; only the reserve of a node whose daemon does not run stays as it is.
 */
import type { Clock } from "../host/clock.ts";
import { StoreError } from "../datastore/store.ts";
import { Batch } from "../lib/batch.ts";
import { equal } from "../lib/equal.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { type Prefix, prefixContains } from "../net/prefix.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { Kind } from "../model/kind.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import { reserveHandle } from "../model/kinds/reserved.ts";
import { IpamError } from "./errors.ts";
import type { Ipam, PoolView } from "./ipam.ts";
import type { PoolLevels } from "./levels.ts";

export interface AddressReserveOptions {
  readonly ipam: Ipam;
  readonly node: string;
  readonly clock: Clock;
  /** Addresses that pods of this node use according to the journal; the reserve does not offer them again. */
  readonly inUse: Iterable<Addr>;
  /** Addresses to keep in each family; default 8. */
  readonly size?: number;
  /** How full the pools are; without it they count as empty. */
  readonly levels?: PoolLevels;
}

/** What the level of a pool depends on. */
const LEVEL_KINDS: readonly Kind[] = ["IPAMBlock", "IPPool", "IPReservation", "IPAMConfiguration", "Node"];

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
/** How long a pod waits for addresses that reserves of other nodes hold, and how often it looks when the watch says nothing. */
const GIVE_WAY_MS = 5_000;
const LOOK_MS = 500;
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
  #pools: readonly PoolRow[] = [];
  /** Ranges from which nothing is taken, as of the last refill. */
  #reserved: readonly Prefix[] = [];
  /** Families of which the node's blocks had no more at the last refill. */
  readonly #exhausted = new Set<Family>();
  readonly #levels: PoolLevels | undefined;
  #changed = Promise.withResolvers<void>();
  /** Whether the last refill failed, or there was none. */
  #due = true;
  #migrated = false;
  /** What the node's blocks were last compared with: those of no use are given up when it changes. */
  #tidied: PoolView | undefined;
  #work: Promise<void> = Promise.resolve();
  readonly #records: Batch<Owner>;
  readonly #releases: Batch<Leaving>;
  readonly #refills: Batch<undefined>;

  constructor(options: AddressReserveOptions) {
    this.handle = reserveHandle(options.node);
    this.#levels = options.levels;
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

  /**
   * As `take`, after a refill that fetches one more for everybody who waits here; again for some seconds while reserves of other nodes hold
   * what is missing. Rejects when the datastore does not answer.
   */
  async takeFound(family: Family): Promise<Addr | undefined> {
    const untilMs = this.#clock.monotonicMs() + GIVE_WAY_MS;
    for (;;) {
      const changed = this.#changed.promise;
      const addr = await this.#findOne(family);
      const others = this.#pools.some((pool) => pool.family === family && this.#levels?.othersHold(pool) === true);
      if (addr !== undefined || !others || this.#clock.monotonicMs() >= untilMs) return addr;
      const timer = new AbortController();
      await Promise.race([changed, this.#clock.sleep(LOOK_MS, timer.signal)]);
      timer.abort();
    }
  }

  async #findOne(family: Family): Promise<Addr | undefined> {
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

  /** Whether a refill is due: a family is not up to size, and the node's blocks may have more. */
  get isLow(): boolean {
    return (
      this.#due ||
      FAMILIES.some(
        (family) =>
          !this.#exhausted.has(family) &&
          this.#pools.some((pool) => pool.family === family && this.#missingOf(pool) > 0),
      )
    );
  }

  /** Names the owner of addresses, and takes as many new ones where that costs no further request. Rejects with `not-held` when a third handle holds one. */
  record(owner: Owner): Promise<void> {
    return this.#records.add(owner);
  }

  /** Frees what a container had; also when `record` was never called for it. */
  release(leaving: Leaving): Promise<void> {
    return this.#releases.add(leaving);
  }

  /** What the watch brings. Rejects when addresses that are to be given up could not be: `tidy` makes up for it. */
  async observe(updates: readonly RowUpdate[]): Promise<void> {
    if (this.#levels === undefined || !updates.some(({ kind }) => LEVEL_KINDS.includes(kind))) return;
    for (const prefix of this.#levels.observe(updates)) this.#forget(prefix);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    if (this.#surplus().length === 0) return;
    await this.#serially(async () => {
      this.#due = true;
      await this.#changing(() => this.#drop(this.#surplus()));
      this.#due = false;
    });
  }

  /**
   * Brings each family that a pool serves up to size; frees addresses whose pool serves this node no more, and gives up blocks of no
   * use. Call when the reserve is low and when pools or the node's labels changed. Rejects when the datastore does not answer, or
   * when somebody waits for a family that has not one address.
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
    if (!this.#migrated) await this.#ipam.migrateReserve();
    this.#migrated = true;
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
        this.#outage = {
          failures,
          error,
          untilMs: this.#clock.monotonicMs() + Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** (failures - 1)),
        };
      }
      throw error;
    }
  }

  #missing(family: Family): number {
    return Math.max(0, this.size + this.#demand(family) - this.count(family));
  }

  /** How many more the reserve may take of the pool. */
  #missingOf(pool: PoolRow): number {
    return Math.min(this.#missing(pool.family), Math.max(0, this.#limit(pool) - this.#countIn(pool)));
  }

  #limit(pool: PoolRow): number {
    return this.#levels?.limit(pool) ?? Number.POSITIVE_INFINITY;
  }

  #countIn(pool: PoolRow): number {
    return this.#free.filter((addr) => prefixContains(pool.prefix, addr)).length;
  }

  /** Addresses at hand beyond what the pools' levels allow, and those that alone keep a block from other nodes. Those who wait are served first. */
  #surplus(): readonly Addr[] {
    const blocks = this.#levels?.blocksToEmpty() ?? [];
    return this.#pools.flatMap((pool) => {
      const here = this.#free.filter((addr) => prefixContains(pool.prefix, addr));
      const most = this.#limit(pool) + this.#demand(pool.family);
      return here.filter(
        (addr, i) =>
          i >= most || (this.#demand(pool.family) === 0 && blocks.some((prefix) => prefixContains(prefix, addr))),
      );
    });
  }

  /** The block is gone: whatever was in it may be somebody else's soon. */
  #forget(prefix: Prefix): void {
    const before = this.#free.length;
    this.#free = this.#free.filter((addr) => !prefixContains(prefix, addr));
    if (this.#free.length < before) this.#stale = true;
  }

  /** Number of those who wait for an address of the family. */
  #demand(family: Family): number {
    return this.#waiting.filter((each) => each === family).length;
  }

  async #record(owners: readonly Owner[]): Promise<void> {
    const moves = owners.flatMap(({ addresses, handle, attributes }) =>
      addresses.map((addr) => ({ addr, to: handle, attributes })),
    );
    const { replaced, refused } = await this.#changing(() => {
      const most = new Map(FAMILIES.map((family) => [family, this.#missing(family)] as const));
      // Where the level allows less than that, a refill looks closer.
      const pools = this.#pools.filter((pool) => this.#missingOf(pool) === this.#missing(pool.family));
      return this.#ipam.moveHandles(this.handle, moves, {
        most,
        pools,
        reserved: this.#reserved,
        attributes: { node: this.#node },
      });
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
      this.#exhausted.clear();
    });
  }

  async #refill(): Promise<void> {
    this.#due = true;
    const failures = await this.#changing(() => this.#refillFamilies());
    this.#due = false;
    const [failure] = failures;
    if (failure !== undefined) throw failure;
    if (this.#pools.length === 0)
      throw new IpamError("no-pool", `no valid, enabled IPPool selects node ${JSON.stringify(this.#node)}`);
  }

  async #refillFamilies(): Promise<readonly IpamError[]> {
    const view = await this.#ipam.readView();
    const pools = this.#ipam.usablePools(view);
    this.#pools = pools;
    this.#reserved = view.reserved;
    this.#exhausted.clear();
    await this.#drop([...this.#unusable(view), ...this.#surplus()]);
    if (!equal(view, this.#tidied)) await this.#ipam.giveUpBlocks(view);
    this.#tidied = view;
    const failures: IpamError[] = [];
    for (const family of FAMILIES) {
      if (!pools.some((pool) => pool.family === family)) continue;
      const urgent = this.#demand(family) - this.count(family);
      try {
        if (urgent > 0) await this.#assign(family, urgent, { view, pools: [] });
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        if (this.count(family) === 0) failures.push(error);
      }
      await this.#fill(family, view);
    }
    return failures;
  }

  /** What the node's blocks have to spare. */
  async #fill(family: Family, view: PoolView): Promise<void> {
    for (const pool of this.#pools) {
      const missing = this.#missingOf(pool);
      if (pool.family !== family || missing === 0) continue;
      try {
        await this.#assign(family, missing, { view, pools: [pool.name] });
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
      }
    }
    if (this.#pools.some((pool) => pool.family === family && this.#missingOf(pool) > 0)) this.#exhausted.add(family);
  }

  /** From named pools only what lies in blocks of this node that pods use: those recorded, those that took an address here, and those that wait for one. */
  async #assign(
    family: Family,
    count: number,
    { view, pools }: { readonly view: PoolView; readonly pools: readonly string[] },
  ): Promise<void> {
    const { ipv4, ipv6 } = await this.#ipam.assign({
      ipv4: family === 4 ? count : 0,
      ipv6: family === 6 ? count : 0,
      handle: this.handle,
      attributes: { node: this.#node },
      partial: true,
      ...(pools.length === 0 ? {} : { usedBlocks: [...this.#out, ...(this.#demand(family) > 0 ? this.#free : [])] }),
      pools: family === 4 ? { ipv4: pools } : { ipv6: pools },
      view,
    });
    this.#gain([...ipv4, ...ipv6]);
  }

  #gain(addresses: readonly Addr[]): void {
    for (const addr of addresses) {
      this.#out.delete(addr);
      this.#free.push(addr);
    }
  }

  /** Addresses whose pool serves this node no more, and those that are reserved for others. */
  #unusable({ reserved }: PoolView): readonly Addr[] {
    return this.#free.filter(
      (addr) =>
        !this.#pools.some((pool) => prefixContains(pool.prefix, addr)) ||
        reserved.some((range) => prefixContains(range, addr)),
    );
  }

  /** Before anything else they leave the reserve: from then on no pod gets them here. */
  async #drop(addresses: readonly Addr[]): Promise<void> {
    if (addresses.length === 0) return;
    this.#free = this.#free.filter((addr) => !addresses.includes(addr));
    await this.#ipam.releaseAddresses(addresses, [this.handle]);
  }
}
