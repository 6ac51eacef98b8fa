/**
 * Landing: brings plans into the kernel: as one transaction, or where it is refused as many as it takes to find the culprits. Those are set apart and
 * tried again, each alone, when their time has come.
 */
import type { KernelError } from "../../kernel/errno.ts";
import type { NftablesClient } from "../../kernel/nftables/client.ts";
import type { Devices } from "./devices.ts";
import type { Steps, Touched } from "../driver.ts";
import { RuleHandles } from "./handles.ts";
import { FLOWTABLE } from "./names.ts";
import type { PendingElements } from "./pending-elements.ts";
import { isEmpty, type Plan } from "./plan.ts";
import type { Reading } from "./reader.ts";
import type { Refusals } from "../refusals.ts";
import { chainId, flowtableId, type NftRow, OWNED, sameRow, setId, TABLE_ROW } from "./rows.ts";
import { isOfTheWhole, type Refused, sendPlan, takesAnything } from "./send.ts";
import type { TableState } from "../table-state.ts";
import type { Unit } from "../units.ts";

/** Refusals with nothing taken in between after which the kernel is asked whether it takes anything. */
const MOST_REFUSALS = 32;

/** What landing works on: parts of one driver. */
export interface LandingOptions {
  readonly client: NftablesClient;
  readonly state: TableState<NftRow>;
  readonly elements: PendingElements;
  readonly devices: Devices;
  readonly refusals: Refusals<NftRow>;
  readonly reading: Pick<Reading, "written">;
  /** What these need now, to take so many microseconds at most. */
  readonly plan: (units: Iterable<Unit>, mostUs: number) => Plan;
  /** Something of it differs from the kernel. */
  readonly toDo: (unit: Unit) => void;
  /** Units are planned anew for which refusals have changed. */
  readonly settle: () => void;
  /** Reads what somebody else has changed. */
  readonly read: (touched: Touched) => Steps;
  /** Of one transaction. */
  readonly transactionUs: number;
}

export class Landing {
  readonly #options: LandingOptions;
  readonly handles: RuleHandles;
  /** The next transaction replaces the table. */
  replaces = false;
  #refusalsInRow = 0;
  /** Chains that were read since the last transaction was taken, because somebody else had changed them. */
  readonly #readAgain = new Set<string>();

  constructor(options: LandingOptions) {
    this.#options = options;
    const { client, state } = options;
    this.handles = new RuleHandles(client, () => {
      const table = state.have.get(TABLE_ROW);
      return table !== undefined && sameRow(table, OWNED);
    });
  }

  /** Throws when it is no fault of single rows. */
  *land(plan: Plan): Steps {
    const { client, settle } = this.#options;
    const refused = this.#send(plan);
    if (refused === undefined) return;
    const { error, units } = refused;
    if (isOfTheWhole(error) || !this.#isTableAsKnown(plan)) throw error;
    if (yield* this.#readLost(refused)) return;
    if (++this.#refusalsInRow > MOST_REFUSALS) {
      if (!takesAnything(client)) throw error;
      this.#refusalsInRow = 0;
    }
    const culprits = units.size > 0 ? units : plan.units.length === 1 ? new Map([[plan.units[0], error]]) : undefined;
    if (culprits !== undefined) {
      for (const [unit, each] of culprits) {
        if (unit === undefined || unit.kind === "base") throw each;
        this.#refuse(unit, each);
      }
      return;
    }
    const middle = Math.ceil(plan.units.length / 2);
    for (const part of [plan.units.slice(0, middle), plan.units.slice(middle)]) {
      yield;
      settle();
      const half = this.#options.plan(part, Infinity);
      if (!isEmpty(half)) yield* this.land(half);
    }
  }

  /** True when chains were read that others had changed, each once: then all is planned anew, and nobody is to blame. */
  *#readLost({ lost }: Refused): Generator<Promise<void> | undefined, boolean> {
    const chains = [...lost].filter((chain) => !this.#readAgain.has(chain));
    if (chains.length === 0) return false;
    for (const chain of chains) {
      this.#readAgain.add(chain);
      this.handles.forget(chain);
    }
    yield* this.#options.read(new Set(chains.map(chainId)));
    return true;
  }

  #refuse(unit: Unit, error: KernelError): void {
    this.#options.refusals.refuse(unit, error);
    this.#options.toDo(unit);
  }

  /** Somebody may have removed the table, which no row is to blame for. */
  #isTableAsKnown({ replaces }: Plan): boolean {
    const { client, state } = this.#options;
    return replaces || !state.have.has(TABLE_ROW) || client.hold() !== undefined;
  }

  /** Those refused before whose time has come, each alone. True when one was taken, so that others may go on. */
  *retry(): Generator<undefined, boolean> {
    const { refusals, state } = this.#options;
    let taken = false;
    for (const id of refusals.failures.due()) {
      const unit = state.unit(id);
      if (unit === undefined) {
        refusals.accept(id);
        continue;
      }
      refusals.tryAgain(id);
      const error = this.#tryAlone(unit);
      refusals.tryAgain(undefined);
      if (error !== undefined) this.#refuse(unit, error);
      else {
        // It is done, or waits for another that is refused.
        refusals.accept(id);
        taken = true;
      }
      yield;
    }
    return taken;
  }

  /** Why it is refused; undefined: nothing is left to be done for it at present. */
  #tryAlone(unit: Unit): KernelError | undefined {
    for (;;) {
      this.#options.settle();
      const plan = this.#options.plan([unit], this.#options.transactionUs);
      if (isEmpty(plan)) {
        if (plan.hasMore === true) continue;
        return undefined;
      }
      const refused = this.#send(plan);
      if (refused === undefined) continue;
      for (const chain of refused.lost) this.handles.forget(chain);
      return refused.units.get(unit) ?? refused.error;
    }
  }

  /** undefined: it is in the kernel now. */
  #send(plan: Plan): Refused | undefined {
    const refused = sendPlan(this.#options.client, this.handles, this.#options.state, plan);
    if (refused === undefined) this.#committed(plan);
    return refused;
  }

  #committed({ rows, elements }: Plan): void {
    const { state, elements: pending, devices, reading } = this.#options;
    this.#refusalsInRow = 0;
    this.#readAgain.clear();
    this.replaces = false;
    const { written } = reading;
    for (const { id, want, references } of rows) {
      state.setHave(id, want, references);
      written.add(id);
      if (id === flowtableId(FLOWTABLE)) devices.found([], true);
    }
    for (const { set, add, remove, unsure } of elements) {
      pending.committed(set, add, remove, unsure);
      written.add(setId(set));
    }
  }
}
