/** Stock: the addresses of a node's reserve in memory: those that are free, and those that were taken, with the handle that took each. */
import { type Addr, type Family, familyOf } from "../net/addr.ts";
import { type Prefix, prefixContains } from "../net/prefix.ts";

export class Stock {
  #free: Addr[] = [];
  /** Taken, and possibly still recorded for the reserve's handle. */
  readonly #out: Map<Addr, string>;

  constructor(inUse: ReadonlyMap<Addr, string>) {
    this.#out = new Map(inUse);
  }

  get free(): readonly Addr[] {
    return this.#free;
  }

  freeIn(prefix: Prefix): readonly Addr[] {
    return this.#free.filter((addr) => prefixContains(prefix, addr));
  }

  get taken(): Iterable<Addr> {
    return this.#out.keys();
  }

  take(family: Family, handle: string): Addr | undefined {
    const at = this.#free.findIndex((addr) => familyOf(addr) === family);
    const [addr] = at < 0 ? [] : this.#free.splice(at, 1);
    if (addr !== undefined) this.#out.set(addr, handle);
    return addr;
  }

  giveBack(addr: Addr): void {
    if (this.#out.delete(addr)) this.#free.push(addr);
  }

  /** Those of the addresses that the handle took. One that somebody else took since is his: a release may be asked for twice. */
  takenBy(handle: string, addresses: readonly Addr[]): readonly Addr[] {
    return addresses.filter((addr) => this.#out.get(addr) === handle);
  }

  /** No longer recorded for the reserve: for their owner, or nobody. */
  recorded(addresses: readonly Addr[]): void {
    for (const addr of addresses) this.#out.delete(addr);
  }

  gain(addresses: readonly Addr[]): void {
    for (const addr of addresses) {
      this.#out.delete(addr);
      this.#free.push(addr);
    }
  }

  /** No longer offered; how many of them were. */
  forget(addresses: readonly Addr[]): number {
    const before = this.#free.length;
    const gone = new Set(addresses);
    this.#free = this.#free.filter((addr) => !gone.has(addr));
    return before - this.#free.length;
  }

  /** What the blocks record for the reserve's handle is free, or was taken; nothing else is. */
  recover(recorded: readonly Addr[]): void {
    const held = new Set(recorded);
    this.#free = this.#free.filter((addr) => held.has(addr));
    for (const addr of this.#out.keys()) if (!held.has(addr)) this.#out.delete(addr);
    for (const addr of held) if (!this.#out.has(addr) && !this.#free.includes(addr)) this.#free.push(addr);
  }
}
