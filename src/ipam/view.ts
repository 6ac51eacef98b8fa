/** View: what an assignment depends on beside the blocks, read at once: pools, labels of the node, settings, reserved ranges. */
import type { Store } from "../datastore/store.ts";
import type { Report } from "../lib/report.ts";
import { fail, type Result } from "../lib/result.ts";
import {
  IPAM_CONFIGURATION,
  type IpamSettings,
  ipamSettingsOf,
  reservedRangesOf,
} from "../model/kinds/ipam-settings.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import type { Prefix } from "../net/prefix.ts";
import { type PoolList, readPools } from "./pools.ts";

/** What an assignment depends on: the pools and the labels of this node, by which they select it; the settings; the reserved ranges. */
export interface PoolView {
  readonly pools: PoolList;
  readonly labels: Readonly<Record<string, string>>;
  /** Or their error: then nothing new is assigned. */
  readonly settings: Result<IpamSettings, string>;
  readonly reserved: readonly Prefix[];
}

export class ViewReader {
  readonly #store: Store;
  readonly #node: string;
  readonly #report: Report;

  constructor(store: Store, node: string, report: Report) {
    this.#store = store;
    this.#node = node;
    this.#report = report;
  }

  async read(): Promise<PoolView> {
    const [pools, labels, settings, reserved] = await Promise.all([
      this.#pools(),
      this.#nodeLabels(),
      this.#settings(),
      this.#reserved(),
    ]);
    return { pools, labels, settings, reserved };
  }

  async #pools(): Promise<PoolList> {
    const pools = await readPools(this.#store);
    for (const [pool, error] of pools.invalid)
      this.#report("a pool gives no addresses because it is invalid", { pool, error });
    return pools;
  }

  async #settings(): Promise<Result<IpamSettings, string>> {
    const settings = ipamSettingsOf(await this.#store.get(IPAM_CONFIGURATION));
    return settings.ok ? settings : fail(`IPAMConfiguration "default" is invalid: ${formatFieldError(settings.error)}`);
  }

  async #reserved(): Promise<readonly Prefix[]> {
    return (await this.#store.list("IPReservation")).items.flatMap((reservation) => {
      const { ranges, errors } = reservedRangesOf(reservation);
      for (const error of errors)
        this.#report("an entry of an IPReservation has no effect because it is invalid", {
          reservation: reservation.metadata.name,
          error: formatFieldError(error),
        });
      return ranges;
    });
  }

  async #nodeLabels(): Promise<Readonly<Record<string, string>>> {
    const node = await this.#store.get({ kind: "Node", namespace: undefined, name: this.#node });
    return node?.metadata.labels ?? {};
  }
}
