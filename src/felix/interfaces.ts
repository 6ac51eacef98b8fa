/**
 * interfaces: the addresses of the node's own interfaces, kept up to date for host endpoints that are bound by address.
 *
 * Nothing is read or watched until there is a host endpoint. Addresses of one link alone bind nothing.
 */
import type { Clock } from "../host/clock.ts";
import type { Sys } from "../host/sys.ts";
import type { Watch, Watcher } from "../host/watcher.ts";
import { equal } from "../lib/equal.ts";
import type { Report } from "../lib/report.ts";
import { Retry } from "../lib/retry.ts";
import { KernelError } from "../kernel/errno.ts";
import { RouteClient } from "../kernel/route/client.ts";
import { ADDRESS_GROUPS, openRouteNotifications } from "../kernel/route/monitor.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { Addr } from "../net/addr.ts";

const RETRY = { baseMs: 100, maxMs: 10_000 } as const;
/** Changes of this time are read together. */
const GATHER_MS = 20;

export type InterfaceAddresses = ReadonlyMap<string, readonly Addr[]>;

export interface InterfaceOptions {
  readonly sys: Sys;
  readonly watcher: Watcher;
  readonly clock: Clock;
  readonly report: Report;
  /** Interfaces whose addresses changed; undefined: it is gone, or has none any more. */
  readonly changed: (changes: ReadonlyMap<string, readonly Addr[] | undefined>) => void;
}

export class Interfaces {
  readonly #options: InterfaceOptions;
  #known: InterfaceAddresses = new Map();
  #watch: Watch | undefined;
  #wanted = false;
  #running = false;
  #stale = false;
  readonly #stopped = new AbortController();

  constructor(options: InterfaceOptions) {
    this.#options = options;
  }

  /** Starts when there is a host endpoint for the first time. */
  observe(updates: readonly RowUpdate[]): void {
    if (this.#wanted || !updates.some(({ kind, value }) => kind === "HostEndpoint" && value !== undefined)) return;
    this.#wanted = true;
    this.#refresh();
  }

  stop(): void {
    this.#stopped.abort();
    this.#watch?.close();
    this.#watch = undefined;
  }

  #refresh(): void {
    this.#stale = true;
    if (this.#running) return;
    this.#running = true;
    void this.#run().finally(() => (this.#running = false));
  }

  async #run(): Promise<void> {
    const { clock, report } = this.#options;
    const { signal } = this.#stopped;
    const retry = new Retry(RETRY, clock);
    while (this.#stale && !signal.aborted) {
      try {
        // Watched first, so that no change is between reading and watching.
        this.#watch ??= this.#open();
        this.#stale = false;
        this.#tell(this.#read());
        retry.succeeded();
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        this.#stale = true;
        if (retry.failed(error.message))
          report("cannot read the addresses of this node's interfaces: will retry", { error: error.message });
      }
      await clock.sleep(retry.waitMs ?? GATHER_MS, signal);
    }
  }

  #open(): Watch {
    const { sys, watcher } = this.#options;
    return watcher.watch(openRouteNotifications(sys, ADDRESS_GROUPS), {
      received: () => this.#refresh(),
      lost: () => {
        this.#watch = undefined;
        this.#refresh();
      },
    });
  }

  #read(): InterfaceAddresses {
    const client = new RouteClient(this.#options.sys);
    try {
      const names = new Map(client.links().map(({ index, name }) => [index, name]));
      const addresses = new Map<string, Addr[]>();
      for (const { interfaceIndex, addr } of client.addresses()) {
        const name = names.get(interfaceIndex);
        if (name === undefined) continue;
        const known = addresses.get(name);
        if (known === undefined) addresses.set(name, [addr]);
        else known.push(addr);
      }
      return addresses;
    } finally {
      client.close();
    }
  }

  #tell(now: InterfaceAddresses): void {
    const changes = new Map<string, readonly Addr[] | undefined>();
    for (const name of new Set([...this.#known.keys(), ...now.keys()]))
      if (!equal(this.#known.get(name), now.get(name))) changes.set(name, now.get(name));
    this.#known = now;
    if (changes.size > 0) this.#options.changed(changes);
  }
}
