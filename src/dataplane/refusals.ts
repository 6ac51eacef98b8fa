/**
 * Refusals: which units the kernel refuses, which wait for them, and what stands in the kernel meanwhile.
 *
 * A set or policy that is refused stays as the kernel has it. No endpoint goes on running it, though: an old version may allow what the
 * new one does not. A chain of an endpoint that refers to such a unit, directly or through a policy, is replaced by one that drops;
 * an endpoint that was never programmed is not there at all, which is as closed. An endpoint that is refused itself is closed the same
 * way, and if that is refused too, is taken out. Flows that are established go on, as always when policy changes.
 */
import type { Clock } from "../host/clock.ts";
import type { KernelError } from "../kernel/errno.ts";
import { invariant } from "../lib/bug.ts";
import { formatName } from "../model/key.ts";
import { Failures } from "./failures.ts";
import type { TableState } from "./table-state.ts";
import { inOrderOfRank, type Unit } from "./units.ts";

/** What became of an endpoint that is refused itself: closed; taken out because that was refused as well; left as it is after all. */
type Closing = "closed" | "out" | "left";

export interface RowChange<Row> {
  readonly id: string;
  readonly unit: Unit;
  readonly want: Row | undefined;
  readonly have: Row | undefined;
}

export class Refusals<Row> {
  readonly #state: TableState<Row>;
  readonly #failures: Failures;
  readonly #closing = new Map<string, Closing>();
  /** The unit that is tried again at this moment. */
  #trying: string | undefined;
  /** By unit: the unit for which it waits. */
  #blocked = new Map<string, string>();
  #isStale = false;

  constructor(state: TableState<Row>, clock: Pick<Clock, "monotonicMs" | "wallMs">) {
    this.#state = state;
    this.#failures = new Failures(clock);
  }

  get failures(): Pick<Failures, "all" | "get" | "due" | "nextMs" | "size"> {
    return this.#failures;
  }

  get blocked(): ReadonlyMap<string, string> {
    return this.#blocked;
  }

  isRefused(unitId: string): boolean {
    return this.#failures.get(unitId) !== undefined && this.#trying !== unitId;
  }

  /** Not as it is wanted: refused itself, or waiting for one that is. */
  isHeld(unitId: string): boolean {
    return this.isRefused(unitId) || this.#blocked.has(unitId);
  }

  refuse(unit: Unit, error: KernelError): void {
    const before = this.isRefused(unit.id) ? this.#closing.get(unit.id) : undefined;
    this.#failures.add(unit.id, error);
    if (unit.kind === "endpoint")
      this.#closing.set(unit.id, before === undefined ? "closed" : before === "closed" ? "out" : "left");
    this.#isStale = true;
  }

  accept(unitId: string): void {
    if (this.#failures.get(unitId) === undefined) return;
    this.#failures.forget(unitId);
    this.#closing.delete(unitId);
    this.#isStale = true;
  }

  /** Lets the unit be planned as it is wanted until the next call; undefined: none. */
  tryAgain(unitId: string | undefined): void {
    this.#trying = unitId;
    this.#isStale = true;
  }

  /** What is wanted of these has changed: their rows, or only elements of their sets. */
  changed(units: Iterable<Unit>, what: "rows" | "elements"): void {
    if (this.#failures.size === 0) return;
    for (const unit of units) {
      this.#failures.hasten(unit.id);
      const cause = what === "rows" ? this.#causeOf(unit) : this.#blocked.get(unit.id);
      if (cause === this.#blocked.get(unit.id)) continue;
      // Nothing refers to an endpoint.
      if (unit.kind !== "endpoint") this.#isStale = true;
      else if (cause === undefined) this.#blocked.delete(unit.id);
      else this.#blocked.set(unit.id, cause);
    }
  }

  /** Works out anew which units wait; returns those for which that has changed. */
  settle(): readonly string[] {
    if (!this.#isStale) return [];
    this.#isStale = false;
    const before = this.#blocked;
    this.#blocked = new Map();
    if (this.#failures.size > 0)
      for (const unit of inOrderOfRank(this.#state.units)) {
        const cause = this.#causeOf(unit);
        if (cause !== undefined) this.#blocked.set(unit.id, cause);
      }
    const ids = new Set([...before.keys(), ...this.#blocked.keys(), ...this.#failures.all.keys()]);
    return [...ids].filter((id) => this.isRefused(id) || before.get(id) !== this.#blocked.get(id));
  }

  #causeOf(unit: Unit): string | undefined {
    for (const id of this.#state.rowsOf(unit.id)) {
      const row = this.#state.want.get(id);
      const cause = row === undefined ? undefined : this.#heldReference(row, unit);
      if (cause !== undefined) return cause;
    }
    return undefined;
  }

  /** A unit that the row refers to and that is held. */
  #heldReference(row: Row, own: Unit): string | undefined {
    for (const reference of this.#state.kind.referencesOf(row)) {
      const owner = this.#state.ownerOf(reference);
      if (owner === undefined || owner.id === own.id || owner.kind === "endpoint") continue;
      if (this.isHeld(owner.id)) return owner.id;
    }
    return undefined;
  }

  /** The rows of the unit that the kernel should be given now, where it has others. */
  changesOf(unit: Unit): RowChange<Row>[] {
    const changes: RowChange<Row>[] = [];
    if (!this.isHeld(unit.id)) {
      for (const id of this.#state.pendingOf(unit.id))
        changes.push({ id, unit, want: this.#state.want.get(id), have: this.#state.have.get(id) });
      return changes;
    }
    const ids = [...this.#state.rowsOf(unit.id)];
    const exists = ids.some((id) => this.#state.have.has(id));
    for (const id of ids) {
      const have = this.#state.have.get(id);
      const want = this.#instead(unit, this.#state.want.get(id), have, exists);
      if (!this.#isSame(want, have)) changes.push({ id, unit, want, have });
    }
    return changes;
  }

  /** What the kernel should have of a row of a unit that is held. */
  #instead(unit: Unit, want: Row | undefined, have: Row | undefined, exists: boolean): Row | undefined {
    const { kind } = this.#state;
    if (unit.kind !== "endpoint" || (!exists && !kind.isDispatchApart)) return have;
    const closing = this.isRefused(unit.id) ? this.#closing.get(unit.id) : undefined;
    if (kind.isDispatchApart && closing !== undefined) {
      const row = want ?? have;
      return closing === "closed" && row !== undefined ? kind.closed(row, closedText(this.describe(unit))) : have;
    }
    if (closing === "left") return have;
    if (closing === "out") return undefined;
    if (closing === "closed")
      return have === undefined ? have : this.#state.kind.closed(have, closedText(this.describe(unit)));
    const cause = want === undefined ? undefined : this.#heldReference(want, unit);
    const culprit = cause === undefined ? undefined : this.#state.unit(cause);
    return want !== undefined && culprit !== undefined
      ? this.#state.kind.closed(want, closedText(this.describe(culprit)))
      : want;
  }

  #isSame(a: Row | undefined, b: Row | undefined): boolean {
    return a === undefined || b === undefined ? a === b : this.#state.kind.same(a, b);
  }

  /** `policy shop/web`, as the user calls it. */
  describe({ kind, id, object }: Unit): string {
    return object === undefined ? id : `${kind === "endpoint" ? "pod" : kind} ${formatName(object)}`;
  }

  /** The unit that is refused itself, from one that waits for it. */
  rootOf(unitId: string): string {
    let id = unitId;
    for (let steps = 0; !this.isRefused(id); steps++) {
      const next = this.#blocked.get(id);
      if (next === undefined) return id;
      invariant(steps < 100, `unit ${unitId} waits for itself`);
      id = next;
    }
    return id;
  }
}

/** The limit of nftables' comments is 128 bytes; names are ASCII. */
function closedText(culprit: string): string {
  const text = `closed: ${culprit} is not programmed`;
  return text.length <= 127 ? text : `${text.slice(0, 60)}…${text.slice(-60)}`;
}
