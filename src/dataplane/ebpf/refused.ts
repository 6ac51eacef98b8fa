/**
 * RefusedUnits: what the kernel refuses of the program, when each is tried again, and how all that is told: a unit is `set ID`, `policy KEY`, `endpoint ID`
 * `staged ID` (what an endpoint counts for staged policies) or `interface NAME`.
 */
import type { Clock } from "../../host/clock.ts";
import { E2BIG, ENOMEM, ENOSPC, type KernelError } from "../../kernel/errno.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import type { Key } from "../../model/key.ts";
import type { RowStatus } from "../driver.ts";
import { Failures } from "../failures.ts";
import type { RefusedUnit } from "./changes.ts";
import type { Held } from "./placement.ts";

export class RefusedUnits {
  readonly #clock: Pick<Clock, "wallMs" | "monotonicMs">;
  readonly #failures: Failures;
  /** Tried again by the commit under way. */
  readonly #trying = new Set<string>();
  #rows: readonly RowStatus[] = [];

  constructor(clock: Pick<Clock, "wallMs" | "monotonicMs">) {
    this.#clock = clock;
    this.#failures = new Failures(clock);
  }

  get dueMs(): number | undefined {
    return this.#failures.nextMs;
  }

  /** As of the last commit. */
  get rows(): readonly RowStatus[] {
    return this.#rows;
  }

  /** What is wanted has changed: all are tried at once. */
  hasten(): void {
    for (const unit of this.#failures.all.keys()) this.#failures.hasten(unit);
  }

  /** True when some are tried again from here on. */
  tryDue(): boolean {
    const due = this.#failures.due();
    for (const unit of due) this.#trying.add(unit);
    return due.length > 0;
  }

  /** Why the unit must not be written; undefined: it may. */
  errorOf(unit: string): KernelError | undefined {
    return this.#trying.has(unit) ? undefined : this.#failures.get(unit)?.error;
  }

  refuse({ unit, error }: RefusedUnit): void {
    this.#trying.delete(unit);
    this.#failures.add(unit, error);
  }

  /** After a commit: what is held, and interfaces that cannot have their programs. What was tried and is not among them is accepted. */
  settle(held: ReadonlyMap<string, Held>, interfaces: readonly (Held & { readonly unit: string })[]): void {
    const refused = new Map<string, KernelError>();
    for (const { unit, error } of interfaces) if (error !== undefined) refused.set(unit, error);
    // There may be room when something else has gone.
    for (const [unit, { error }] of held) if (error?.errno === ENOSPC) refused.set(unit, error);
    for (const [unit, error] of refused)
      if (this.#trying.delete(unit) || this.#failures.get(unit) === undefined) this.#failures.add(unit, error);
    for (const unit of this.#trying) this.#failures.forget(unit);
    this.#trying.clear();
    const all = [...[...held].map(([unit, each]) => ({ unit, ...each })), ...interfaces];
    const before = new Map(this.#rows.map((row) => [row.row, row]));
    // One policy may be held in both directions.
    this.#rows = [...new Map(all.map((each) => [each.row, this.#rowOf(each, before.get(each.row))])).values()];
  }

  #rowOf({ unit, row, object, error }: HeldUnit, before: RowStatus | undefined): RowStatus {
    const failure = this.#failures.get(unit);
    const isEndpoint = unit.startsWith("endpoint ");
    const sinceMs = failure?.sinceMs ?? this.#clock.wallMs();
    return {
      row,
      object,
      state: error !== undefined ? "failed" : isEndpoint ? "closed" : "waiting",
      error: error?.message ?? `a ${unit.startsWith("policy ") ? "set" : "policy"} of it is not programmed`,
      errno: error?.errno,
      since: before?.since ?? formatTimestamp(sinceMs),
      attempts: failure?.attempts ?? (before?.attempts ?? 0) + 1,
    };
  }
}

/** A map is full, or the kernel has no memory for it: nobody's fault but that of the unit that does not fit. */
export function isHeldAlone(unit: string, { errno }: KernelError): boolean {
  return (errno === E2BIG || errno === ENOSPC || errno === ENOMEM) && /^(set|policy|endpoint|staged) /.test(unit);
}

interface HeldUnit extends Held {
  readonly unit: string;
  readonly object: Key | undefined;
}
