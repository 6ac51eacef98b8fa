/**
 * Driver of our nf_tables table: policy, sets and dispatch, committed as one transaction: all or nothing, no moment between.
 *
 * Ours is the whole table `inet calico`; nothing outside it is read or touched. Where the kernel can, our socket owns it: nobody else
 * can then change it while we live, and it stays when we end. The kernel's rule bodies are decoded and compared, so that a change made
 * behind our back is found by the next read and undone by the next commit.
 */
import { EPERM, KernelError } from "../../kernel/errno.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import { ForeignTransactions, openNftablesNotifications } from "../../kernel/nftables/monitor.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import type { Program, ProgramDelta } from "../../program/program.ts";
import type { Driver, DriverEvents } from "../driver.ts";
import { Tracker } from "../tracker.ts";
import { NftablesLowering } from "./lower.ts";
import { TABLE } from "./names.ts";
import { needsRebuild, type NftRow, OWNED, planTransaction, rowsOfTable, sameRow, TABLE_ROW, UNOWNED } from "./rows.ts";

export class NftablesDriver implements Driver {
  readonly name = "nftables";
  readonly #sys: Sys;
  readonly #client: NftablesClient;
  readonly #tracker = new Tracker<NftRow>(sameRow);
  readonly #lowering: NftablesLowering;

  /** `ownsTable`: where the kernel can (`canOwnTables`). Opens its socket in the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, { ownsTable }: { readonly ownsTable: boolean }) {
    this.#sys = sys;
    this.#client = new NftablesClient(sys, TABLE);
    this.#lowering = new NftablesLowering((id, row) => this.#tracker.setWant(id, row));
    this.#tracker.setWant(TABLE_ROW, ownsTable ? OWNED : UNOWNED);
  }

  get pending(): number {
    return this.#tracker.pending;
  }

  get writes(): number {
    return this.#client.writes;
  }

  /** The table is committed as a whole, so an endpoint is in it when nothing is pending. */
  isProgrammed(): boolean {
    return this.#tracker.pending === 0;
  }

  lower(program: Program, delta: ProgramDelta): void {
    this.#lowering.step(program, delta);
  }

  read(): void {
    const table = this.#client.read();
    this.#tracker.replaceHave(table === undefined ? new Map() : rowsOfTable(table, this.#client.portId));
  }

  watch(watcher: Watcher, events: DriverEvents): Watch {
    const transactions = new ForeignTransactions(TABLE);
    return watcher.watch(openNftablesNotifications(this.#sys), {
      received: (datagram) => {
        for (const { generation, by } of transactions.take(datagram, this.#client.portId)) {
          // Generations are 32 bits that wrap around. What was read last may have been newer than this news.
          if (((generation - this.#client.generation) | 0) > 0) events.changed(by);
        }
      },
      lost: (cause) => events.lost(cause),
    });
  }

  commit(): void {
    const changes = this.#tracker.changes();
    if (changes.length === 0) return;
    this.#refuseForeignOwner();
    if (needsRebuild(changes)) return this.#rebuild();
    this.#client.commit(planTransaction(changes));
    this.#tracker.committed(changes);
  }

  /** Replaces the table in one transaction: packets see the old table or the new one. */
  #rebuild(): void {
    const all = [...this.#tracker.want].map(([id, want]) => ({ id, want, have: undefined }));
    this.#client.commit([{ do: "delete-table" }, ...planTransaction(all)]);
    this.#tracker.replaceHave(new Map(this.#tracker.want));
  }

  /** The kernel would say no more than EPERM. */
  #refuseForeignOwner(): void {
    const table = this.#tracker.have.get(TABLE_ROW);
    if (table?.type !== "table" || typeof table.owner !== "number") return;
    const owner = `another process owns the table, by its netlink socket of port id ${table.owner} (as a rule its process id): only that process can change it, until it ends`;
    throw new KernelError("change", `table ${TABLE.family} ${TABLE.name}`, EPERM, owner);
  }

  close(): void {
    this.#client.close();
  }
}
