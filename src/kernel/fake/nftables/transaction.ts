/**
 * Transaction: what one batch has done so far, each step of it reversible, so that all or nothing remains.
 *
 * What a command deletes is gone for those after it, and what it adds is there, as in the kernel's next generation.
 * Source: linux net/netfilter/nf_tables_api.c.
 */
import type { FakeRequest, KernelFaults } from "../faults.ts";
import type { Part } from "../messages.ts";
import { refuse } from "../refusal.ts";
import type { FakeTable } from "./objects.ts";

export class Transaction {
  readonly tables: FakeTable[];
  /** Of the socket that asks. */
  readonly portId: number;
  readonly ownsTables: boolean;
  readonly hasFlowtables: boolean;
  /** Of the interface with that name. */
  readonly indexOf: (device: string) => number | undefined;
  readonly #faults: KernelFaults;
  readonly #undo: (() => void)[] = [];
  readonly generation: number;
  /** What subscribers hear of it. */
  readonly told: Part[] = [];
  /** What the asking socket is told as the answer to a request that asks for it (NLM_F_ECHO). */
  readonly echoes: { readonly sequence: number; readonly part: Part }[] = [];
  /** Whether a jump or a map's verdict was added: then the chains must be looked at. */
  jumps = false;
  /** Tables whose flags it has changed. */
  readonly updated = new Set<FakeTable>();
  /** For a new table. */
  readonly nextHandle: () => number;

  constructor(options: {
    readonly tables: FakeTable[];
    readonly portId: number;
    readonly ownsTables: boolean;
    readonly hasFlowtables: boolean;
    readonly indexOf: (device: string) => number | undefined;
    readonly faults: KernelFaults;
    readonly generation: number;
    readonly nextHandle: () => number;
  }) {
    this.tables = options.tables;
    this.portId = options.portId;
    this.ownsTables = options.ownsTables;
    this.hasFlowtables = options.hasFlowtables;
    this.indexOf = options.indexOf;
    this.#faults = options.faults;
    this.generation = options.generation;
    this.nextHandle = options.nextHandle;
  }

  get isEmpty(): boolean {
    return this.told.length === 0;
  }

  /** Something was done that `undo` takes back; `part` tells of it. */
  did(undo: () => void, part: Part): void {
    this.#undo.push(undo);
    this.told.push(part);
  }

  /** The last that was done is echoed. */
  echo(sequence: number): void {
    const part = this.told.at(-1);
    if (part !== undefined) this.echoes.push({ sequence, part });
  }

  abort(): void {
    for (const undo of this.#undo.reverse()) undo();
    this.#undo.length = 0;
    this.told.length = 0;
    this.echoes.length = 0;
  }

  ask(does: FakeRequest["does"], object: string): void {
    const errno = this.#faults.request?.({ subsystem: "nftables", does, object });
    if (errno !== undefined) refuse(errno);
  }

  limitOf(set: string): number | undefined {
    return this.#faults.setLimit?.(set);
  }
}
