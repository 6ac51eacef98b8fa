/**
 * leaks: addresses that the datastore records for pods of this node and nobody uses, found and given back.
 *
 * They come about when a machine is lost with its journal: no DEL will ever come for its pods. When the node is there again under its
 * name, whatever its blocks record for a container that the journal does not know is suspect. The plugin's own record counts before
 * anything else; then a Pod that lives and reports the address has it, whoever wired it. Only what is suspect in two looks in a row
 * is given back: a Pod that another plugin wires just now reports its address between them.
 * Upstream: kube-controllers/pkg/controllers/node/ipam.go (there, one collector for the cluster).
 */
import type { Store } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { formatKey, type Key, type KeyText } from "../model/key.ts";
import { endpointOfPod } from "../model/convert/pod.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { Addr } from "../net/addr.ts";
import type { Addresses } from "./addresses.ts";
import { isFailure } from "./failures.ts";
import type { Report } from "../lib/report.ts";

export interface LeakCollectorOptions {
  readonly node: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly addresses: Pick<Addresses, "handles" | "releaseHandle">;
  readonly report: Report;
}

/** Addresses of one container. */
interface Holding {
  readonly pod: Key<"Pod">;
  readonly addresses: readonly Addr[];
}

/** Between two looks: much longer than a Pod takes from ADD to its report. */
const LOOK_INTERVAL_MS = 30_000;

export class LeakCollector {
  readonly #options: LeakCollectorOptions;
  /** What blocks record for pods of this node, by block, then by handle. */
  readonly #recorded = new Map<KeyText, ReadonlyMap<string, Holding>>();
  #suspects: ReadonlySet<string> = new Set();

  constructor(options: LeakCollectorOptions) {
    this.#options = options;
  }

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind !== "IPAMBlock") continue;
      const held = new Map<string, Holding>();
      const block = update.value;
      for (const { addr, handle, node, pod } of block?.ok === true ? block.value.own : []) {
        if (node !== this.#options.node || handle === undefined || pod === undefined) continue;
        held.set(handle, { pod, addresses: [...(held.get(handle)?.addresses ?? []), addr] });
      }
      if (held.size > 0) this.#recorded.set(update.id, held);
      else this.#recorded.delete(update.id);
    }
  }

  /** Looks again and again until the signal aborts; call when the datastore is in sync. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, report } = this.#options;
    while (!signal.aborted) {
      try {
        await this.look();
      } catch (error) {
        if (!isFailure(error)) throw error;
        report("cannot look for addresses that nobody uses: will retry", { error: error.message });
      }
      await clock.sleep(LOOK_INTERVAL_MS, signal);
    }
  }

  /** One look: gives back what was suspect in the last one and still is. Rejects when the datastore does not answer. */
  async look(): Promise<void> {
    const { addresses, report } = this.#options;
    const found = this.#unknown();
    const before = this.#suspects;
    this.#suspects = new Set(found.keys());
    for (const [handle, holding] of found) {
      if (!before.has(handle) || (await this.#isReported(holding)) || addresses.handles().has(handle)) continue;
      report("addresses that nobody uses are given back", {
        handle,
        pod: formatKey(holding.pod),
        addresses: holding.addresses,
      });
      addresses.releaseHandle(handle.slice(handle.lastIndexOf(".") + 1), handle);
    }
  }

  /** By handle, over all blocks. */
  #unknown(): ReadonlyMap<string, Holding> {
    const known = this.#options.addresses.handles();
    const found = new Map<string, Holding>();
    for (const held of this.#recorded.values()) {
      for (const [handle, { pod, addresses }] of held) {
        if (!known.has(handle))
          found.set(handle, { pod, addresses: [...(found.get(handle)?.addresses ?? []), ...addresses] });
      }
    }
    return found;
  }

  /** A Pod that cannot be read may well have the address. */
  async #isReported({ pod, addresses }: Holding): Promise<boolean> {
    const stored = await this.#options.store.get(pod);
    const model = stored === undefined ? undefined : endpointOfPod(stored);
    if (model === undefined) return false;
    return !model.ok || model.value.addresses.some((addr) => addresses.includes(addr));
  }
}
