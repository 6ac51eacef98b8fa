/**
 * Address reserve: a few addresses of each family that the datastore already records for the node, so that a pod gets one without a
 * request to the datastore.
 *
 * `take` is synchronous; `record` records the new owner afterwards, and `release` frees the address. Both are batched over all waiting pods
 * and serialized with `refill`, so that `out` is exact. The in-memory state is never trusted after a write of unknown outcome: the blocks are
 * read again before more is taken.
 *
 * It claims a block or borrows only for waiting pods. Otherwise it takes from the node's blocks in which a pod has an address, as many as
 * the pool's level allows (see levels.ts), and releases the surplus as soon as the watch shows it: a pod of another node that finds every
 * address taken waits that long. So an unused address is free after one change through the watch and one write; only the reserve of a node
 * whose daemon is down stays as it is.
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
import type { Ipam } from "./ipam.ts";
import type { PoolLevels } from "./levels.ts";
import { Recovery } from "./recovery.ts";
import { Stock } from "./stock.ts";
import type { PoolView } from "./view.ts";

export interface AddressReserveOptions {
  readonly ipam: Ipam;
  readonly node: string;
  readonly clock: Clock;
  /** Addresses that pods of this node use according to the journal, with their handles; the reserve does not offer them. */
  readonly inUse: ReadonlyMap<Addr, string>;
  /** Addresses to keep in each family; default 8. */
  readonly size?: number;
  /** How full the pools are; without it they count as empty. */
  readonly levels?: PoolLevels;
}

/** What the level of a pool depends on. */
const LEVEL_KINDS: readonly Kind[] = ["IPAMBlock", "IPPool", "IPReservation", "IPAMConfiguration", "Node"];

/** A container's handle, its addresses, and the attributes to record with them. */
export interface Owner {
  readonly handle: string;
  readonly addresses: readonly Addr[];
  readonly attributes: Readonly<Record<string, string>>;
}

/** What a container had: everything its handle holds, and those of the addresses that it took and that are still recorded for the reserve. */
export interface Released {
  readonly handle: string;
  readonly addresses: readonly Addr[];
}

/** Pods per batch: each costs one or two requests, which are made concurrently. */
const PODS_AT_ONCE = 50;
/** How long a pod waits for addresses in the reserves of other nodes, and how often it checks when the watch brings no change. */
const WAIT_MS = 5_000;
const CHECK_MS = 500;

export class AddressReserve {
  /** The handle under which reserved addresses are recorded. */
  readonly handle: string;
  readonly #ipam: Ipam;
  readonly #node: string;
  readonly #clock: Clock;
  /** Addresses to keep of each family. */
  readonly size: number;
  readonly #stock: Stock;
  /** The family of each pod that is waiting for an address. */
  readonly #waiting: Family[] = [];
  /** Runs work that changes what the handle holds. */
  readonly #recovery: Recovery;
  /** The pools that served this node at the last refill. */
  #pools: readonly PoolRow[] = [];
  /** Ranges from which nothing is taken, as of the last refill. */
  #reserved: readonly Prefix[] = [];
  /** Families for which the node's blocks had no more at the last refill. */
  readonly #exhausted = new Set<Family>();
  readonly #levels: PoolLevels | undefined;
  #changed = Promise.withResolvers<void>();
  /** Whether the last refill failed, or there was none. */
  #due = true;
  #migrated = false;
  /** What the node's blocks were last compared with: useless ones are released when it changes. */
  #tidied: PoolView | undefined;
  #work: Promise<void> = Promise.resolve();
  readonly #records: Batch<Owner>;
  readonly #releases: Batch<Released>;
  readonly #refills: Batch<undefined>;

  constructor(options: AddressReserveOptions) {
    this.handle = reserveHandle(options.node);
    this.#levels = options.levels;
    this.#ipam = options.ipam;
    this.#node = options.node;
    this.#clock = options.clock;
    this.#recovery = new Recovery(options.clock, () => this.#recover());
    this.size = options.size ?? 8;
    this.#stock = new Stock(options.inUse);
    const schedule = (work: () => Promise<void>): void => void this.#serially(work);
    const isShared = (error: unknown): boolean => error instanceof StoreError && error.reason === "unavailable";
    this.#records = new Batch({ schedule, isShared, most: PODS_AT_ONCE, work: (owners) => this.#record(owners) });
    this.#releases = new Batch({ schedule, isShared, most: PODS_AT_ONCE, work: (released) => this.#release(released) });
    this.#refills = new Batch({ schedule, isShared: () => true, work: () => this.#refill() });
  }

  /** Takes an address of the family for the handle of a pod; undefined when there is none. */
  take(family: Family, handle: string): Addr | undefined {
    return this.#stock.take(family, handle);
  }

  /**
   * As `take`, after a refill that fetches one address for each waiting pod; repeated for some seconds while reserves of other nodes hold the
   * missing addresses. Rejects when the datastore does not answer.
   */
  async takeFound(family: Family, handle: string): Promise<Addr | undefined> {
    const untilMs = this.#clock.monotonicMs() + WAIT_MS;
    for (;;) {
      const changed = this.#changed.promise;
      const addr = await this.#findOne(family, handle);
      const others = this.#pools.some((pool) => pool.family === family && this.#levels?.othersHold(pool) === true);
      if (addr !== undefined || !others || this.#clock.monotonicMs() >= untilMs) return addr;
      const timer = new AbortController();
      await Promise.race([changed, this.#clock.sleep(CHECK_MS, timer.signal)]);
      timer.abort();
    }
  }

  async #findOne(family: Family, handle: string): Promise<Addr | undefined> {
    this.#waiting.push(family);
    try {
      await this.refill();
    } catch (error) {
      // Some family has none, but not necessarily this one.
      if (!(error instanceof IpamError)) throw error;
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(family), 1);
    }
    return this.take(family, handle);
  }

  /** Returns an address that was taken but not used, before `record` was called for it. What is then beyond the reserve's share is released. */
  giveBack(addr: Addr): void {
    this.#stock.giveBack(addr);
    // No change in the watch would show it. A failure is retried by `tidy`.
    this.#releaseSurplus().catch(() => undefined);
  }

  /** Number of available addresses. */
  count(family: Family): number {
    return this.#stock.free.filter((addr) => familyOf(addr) === family).length;
  }

  /** Whether a refill is due: a family is below its size, and the node's blocks may have more. */
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

  /** Records the owner of addresses, and takes as many new ones where that costs no extra request. Rejects with `not-held` when a third handle holds one. */
  record(owner: Owner): Promise<void> {
    return this.#records.add(owner);
  }

  /** Frees what a container had; also when `record` was never called for it. */
  release(released: Released): Promise<void> {
    return this.#releases.add(released);
  }

  /** Applies updates of the watch. Rejects when a surplus could not be released: `tidy` retries it. */
  async observe(updates: readonly RowUpdate[]): Promise<void> {
    if (this.#levels === undefined || !updates.some(({ kind }) => LEVEL_KINDS.includes(kind))) return;
    for (const prefix of this.#levels.observe(updates)) this.#dropBlock(prefix);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    await this.#releaseSurplus();
  }

  async #releaseSurplus(): Promise<void> {
    if (this.#surplus().length === 0) return;
    await this.#serially(async () => {
      // A refill that failed before is due all the same.
      const isDue = this.#due;
      this.#due = true;
      await this.#recovery.run(() => this.#drop(this.#surplus()));
      this.#due = isDue;
    });
  }

  /**
   * Fills each family that a pool serves up to its size; frees addresses whose pool no longer serves this node, and releases useless
   * blocks. Call when the reserve is low and when pools or the node's labels changed. Rejects when the datastore does not answer, or when
   * a pod waits for a family without a single address.
   */
  refill(): Promise<void> {
    return this.#refills.add(undefined);
  }

  /** Does the first refill, and repeats one that failed; releases useless blocks that became empty since. Call periodically. */
  tidy(): Promise<void> {
    return this.#serially(async () => {
      if (this.#due) await this.#refill();
      await this.#ipam.releaseEmptied();
    });
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const mine = this.#work.then(work, work);
    this.#work = mine;
    // The caller gets the failure; the chain itself continues.
    mine.catch(() => undefined);
    return mine;
  }

  /** Reads from the blocks what the handle holds; at start, and after a failure of unknown outcome. */
  async #recover(): Promise<void> {
    if (!this.#migrated) await this.#ipam.migrateReserve();
    this.#migrated = true;
    this.#stock.recover(await this.#ipam.addressesOf(this.handle));
  }

  #missing(family: Family): number {
    return Math.max(0, this.size + this.#demand(family) - this.count(family));
  }

  /** How many more addresses of the pool the reserve may take. */
  #missingOf(pool: PoolRow): number {
    return Math.min(this.#missing(pool.family), Math.max(0, this.#limit(pool) - this.#countIn(pool)));
  }

  #limit(pool: PoolRow): number {
    return this.#levels?.limit(pool) ?? Number.POSITIVE_INFINITY;
  }

  #countIn(pool: PoolRow): number {
    return this.#stock.freeIn(pool.prefix).length;
  }

  /** Available addresses beyond what the pools' levels allow, and those that alone keep a block from other nodes; waiting pods come first. */
  #surplus(): readonly Addr[] {
    const blocks = this.#levels?.blocksToEmpty() ?? [];
    return this.#pools.flatMap((pool) => {
      const here = this.#stock.freeIn(pool.prefix);
      const most = this.#limit(pool) + this.#demand(pool.family);
      return here.filter(
        (addr, i) =>
          i >= most || (this.#demand(pool.family) === 0 && blocks.some((prefix) => prefixContains(prefix, addr))),
      );
    });
  }

  /** The block was deleted: its addresses may soon be another owner's. */
  #dropBlock(prefix: Prefix): void {
    if (this.#stock.forget(this.#stock.freeIn(prefix)) > 0) this.#recovery.distrust();
  }

  /** Number of pods waiting for an address of the family. */
  #demand(family: Family): number {
    return this.#waiting.filter((each) => each === family).length;
  }

  async #record(owners: readonly Owner[]): Promise<void> {
    const moves = owners.flatMap(({ addresses, handle, attributes }) =>
      addresses.map((addr) => ({ addr, to: handle, attributes })),
    );
    const { replaced, refused } = await this.#recovery.run(() => {
      const most = new Map(FAMILIES.map((family) => [family, this.#missing(family)] as const));
      // Where the level allows less than that, the refill decides.
      const pools = this.#pools.filter((pool) => this.#missingOf(pool) === this.#missing(pool.family));
      return this.#ipam.moveHandles(this.handle, moves, {
        most,
        pools,
        reserved: this.#reserved,
        attributes: { node: this.#node },
      });
    });
    this.#stock.recorded(moves.map(({ addr }) => addr));
    this.#stock.gain(replaced);
    const [refusal] = refused.values();
    if (refusal !== undefined) throw refusal;
  }

  async #release(released: readonly Released[]): Promise<void> {
    await this.#recovery.run(async () => {
      const out = released.flatMap(({ handle, addresses }) => this.#stock.takenBy(handle, addresses));
      if (out.length > 0) await this.#ipam.releaseAddresses(out, [this.handle]);
      this.#stock.recorded(out);
      await this.#ipam.releaseByHandle(...released.map(({ handle }) => handle));
      this.#exhausted.clear();
    });
  }

  async #refill(): Promise<void> {
    this.#due = true;
    const failures = await this.#recovery.run(() => this.#refillFamilies());
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
    if (!equal(view, this.#tidied)) await this.#ipam.releaseBlocks(view);
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

  /** Takes what the node's blocks can spare. */
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

  /** From named pools, takes only from this node's blocks that pods use: pods that are recorded, took an address here, or wait for one. */
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
      ...(pools.length === 0
        ? {}
        : { usedBlocks: [...this.#stock.taken, ...(this.#demand(family) > 0 ? this.#stock.free : [])] }),
      pools: family === 4 ? { ipv4: pools } : { ipv6: pools },
      view,
    });
    this.#stock.gain([...ipv4, ...ipv6]);
  }

  /** Addresses whose pool no longer serves this node, and those in reserved ranges. */
  #unusable({ reserved }: PoolView): readonly Addr[] {
    return this.#stock.free.filter(
      (addr) =>
        !this.#pools.some((pool) => prefixContains(pool.prefix, addr)) ||
        reserved.some((range) => prefixContains(range, addr)),
    );
  }

  /** Removes addresses from the reserve first, so that no pod gets them, and then frees them. */
  async #drop(addresses: readonly Addr[]): Promise<void> {
    if (addresses.length === 0) return;
    this.#stock.forget(addresses);
    await this.#ipam.releaseAddresses(addresses, [this.handle]);
  }
}
