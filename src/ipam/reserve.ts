/**
 * Address reserve: a few addresses of each family that the datastore records for the node already, so that a pod gets one without a
 * request to the datastore.
 *
 * Owns the handle `reserve-NODE`. `take` is synchronous; recording the new owner (`Ipam.moveHandle`) and `refill` come afterwards.
 * The reserve claims a new block or borrows only for the first address of a family: beyond that it uses what the node's blocks have,
 * so that in a small pool it does not keep from other nodes what they need. It never goes by its own memory alone: whatever write
 * had an unknown outcome, the blocks are read again before more is taken.
 */
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { prefixContains } from "../net/prefix.ts";
import type { PoolModel } from "../model/kinds/pool-model.ts";
import { IpamError } from "./errors.ts";
import type { Ipam } from "./ipam.ts";

export interface AddressReserveOptions {
  readonly ipam: Ipam;
  readonly node: string;
  /** Addresses that pods of this node use according to the journal; the reserve does not offer them again. */
  readonly inUse: Iterable<Addr>;
  /** Addresses to keep in each family; default 8. */
  readonly size?: number;
}

export class AddressReserve {
  /** The handle under which reserved addresses are recorded. */
  readonly handle: string;
  readonly #ipam: Ipam;
  readonly #node: string;
  readonly #size: number;
  #free: Addr[] = [];
  /** Given out, and perhaps still recorded for the reserve's handle. */
  readonly #out: Set<Addr>;
  /** Whether the blocks may record more for the handle than is known here. */
  #stale = true;
  #work: Promise<void> = Promise.resolve();
  #refills = 0;

  constructor(options: AddressReserveOptions) {
    this.handle = `reserve-${options.node}`;
    this.#ipam = options.ipam;
    this.#node = options.node;
    this.#size = options.size ?? 8;
    this.#out = new Set(options.inUse);
  }

  /** An address of the family for a pod, or undefined when there is none at hand. */
  take(family: Family): Addr | undefined {
    const at = this.#free.findIndex((addr) => familyOf(addr) === family);
    const [addr] = at < 0 ? [] : this.#free.splice(at, 1);
    if (addr !== undefined) this.#out.add(addr);
    return addr;
  }

  /** Returns an address that was taken and not used, before anybody else was recorded as its owner. */
  giveBack(addr: Addr): void {
    if (this.#out.delete(addr)) this.#free.push(addr);
  }

  /** Number of addresses at hand. */
  count(family: Family): number {
    return this.#free.filter((addr) => familyOf(addr) === family).length;
  }

  /** Learns from the blocks what the handle holds; at start, and after a failure of unknown outcome. */
  recover(): Promise<void> {
    return this.#serially(() => this.#recover());
  }

  /**
   * Brings each family that a pool serves up to size, and frees addresses whose pool serves this node no more. Call after addresses
   * were taken and when pools or the node's labels changed; calls while one waits are one. Rejects when the datastore does not
   * answer, or when a family has not one address.
   */
  refill(): Promise<void> {
    if (this.#refills > 0) return this.#work;
    this.#refills++;
    return this.#serially(async () => {
      this.#refills--;
      await this.#refill();
    });
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const mine = this.#work.then(work, work);
    this.#work = mine;
    // Whoever called hears of a failure; the chain itself goes on.
    mine.catch(() => undefined);
    return mine;
  }

  async #recover(): Promise<void> {
    const held = new Set(await this.#ipam.addressesOf(this.handle));
    this.#free = this.#free.filter((addr) => held.has(addr));
    for (const addr of this.#out) if (!held.has(addr)) this.#out.delete(addr);
    for (const addr of held) if (!this.#out.has(addr) && !this.#free.includes(addr)) this.#free.push(addr);
    this.#stale = false;
  }

  async #refill(): Promise<void> {
    if (this.#stale) await this.#recover();
    this.#stale = true;
    const pools = await this.#ipam.usablePools();
    await this.#dropUnserved(pools);
    const failures: IpamError[] = [];
    for (const family of FAMILIES) {
      if (!pools.some((pool) => pool.family === family)) continue;
      try {
        await this.#fill(family);
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        if (this.count(family) === 0) failures.push(error);
      }
    }
    this.#stale = false;
    const [failure] = failures;
    if (failure !== undefined) throw failure;
    if (pools.length === 0) throw new IpamError("no-pool", `no valid, enabled IPPool selects node ${JSON.stringify(this.#node)}`);
  }

  async #fill(family: Family): Promise<void> {
    if (this.count(family) === 0) await this.#assign(family, 1, false);
    const missing = this.#size - this.count(family);
    if (missing > 0) await this.#assign(family, missing, true);
  }

  async #assign(family: Family, count: number, ownBlocksOnly: boolean): Promise<void> {
    const request = { ipv4: family === 4 ? count : 0, ipv6: family === 6 ? count : 0, handle: this.handle, attributes: { node: this.#node }, partial: true, ownBlocksOnly };
    const { ipv4, ipv6 } = await this.#ipam.assign(request);
    for (const addr of [...ipv4, ...ipv6]) {
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
