/**
 * planner: which changes the next transaction makes. Units come in order of rank, so that each finds what it refers to; what goes, goes
 * once nothing in the kernel refers to it any more. A transaction takes about as long as `mostUs` at most, where it can be cut.
 */
import type { NftElement } from "../../kernel/nftables/objects.ts";
import { isSettled, type PendingElements, type SetPending } from "./pending-elements.ts";
import { costOf, type ElementsChange, type Plan, type PlannedRow, plannedRow } from "./plan.ts";
import type { Refusals } from "../refusals.ts";
import { type NftRow, setId } from "./rows.ts";
import type { TableState } from "../table-state.ts";
import { rankOf, type Unit } from "../units.ts";

/** Rough cost of one element in microseconds of the thread, ours and the kernel's. */
const ELEMENT_US = 5;
/** Units with nothing to do that are looked at in one go. */
const IDLE_AT_ONCE = 400;

export class Planner {
  readonly #state: TableState<NftRow>;
  readonly #elements: PendingElements;
  readonly #refusals: Refusals<NftRow>;

  constructor(state: TableState<NftRow>, elements: PendingElements, refusals: Refusals<NftRow>) {
    this.#state = state;
    this.#elements = elements;
    this.#refusals = refusals;
  }

  /** The units are in order of rank. Calls `done` with those for which there is nothing to do at present. */
  plan(units: Iterable<Unit>, mostUs: number, replaces: boolean, done: (unit: Unit) => void): Plan {
    const draft = new Draft(this.#state, mostUs);
    const removals: PlannedRow[] = [];
    let idle = 0;
    for (const unit of units) {
      if (idle === IDLE_AT_ONCE && mostUs !== Infinity) {
        draft.hasMore = true;
        break;
      }
      // One that had gone, and has come again as another, is planned as that.
      if (this.#state.unit(unit.id) !== unit) {
        idle++;
        done(unit);
        continue;
      }
      const changes = this.#refusals.changesOf(unit).map(plannedRow);
      const pending = this.#pendingOf(unit);
      if (changes.length === 0 && pending.length === 0) {
        idle++;
        done(unit);
        continue;
      }
      for (const change of changes) if (change.want === undefined) removals.push(change);
      this.#take(draft, unit, changes, pending);
      // The rest is for the next one.
      if (draft.isFull) break;
    }
    draft.remove(removals);
    return { units: draft.units, rows: draft.rows, elements: draft.elements, replaces, hasMore: draft.hasMore };
  }

  #take(draft: Draft, unit: Unit, changes: readonly PlannedRow[], pending: readonly [string, SetPending][]): void {
    const rows = changes.filter(({ want }) => want !== undefined);
    if (rows.length === 0 && pending.length === 0) return;
    const costUs = rows.reduce((sum, change) => sum + costOf(change), 0);
    if (!draft.hasRoom(costUs)) return void (draft.isFull = true);
    if (!rows.every((change) => this.#finds(draft, change, rows))) return;
    draft.add(unit, rows, costUs);
    for (const [set, entry] of pending) this.#takeElements(draft, unit, set, entry);
  }

  /** Whether all that the row refers to is in the kernel, or will be with what is drafted, whole. */
  #finds(draft: Draft, { id, want, references }: PlannedRow, own: readonly PlannedRow[]): boolean {
    if (want === undefined) return true;
    // What the row refers to now cannot have gone.
    for (const reference of references.added) {
      if (draft.willHave(reference) && this.#isWhole(draft, reference)) continue;
      if (reference !== id && !own.some((change) => change.id === reference)) return false;
    }
    return true;
  }

  /** A set is named by a rule only once it has all of its elements. */
  #isWhole(draft: Draft, rowId: string): boolean {
    const unit = this.#state.ownerOf(rowId);
    if (unit?.kind !== "set" || draft.holdsWhole(rowId)) return true;
    const row = this.#state.want.get(rowId);
    const entry = row?.type === "set" ? this.#elements.get(row.set) : undefined;
    return entry === undefined || (entry.filling === undefined && (this.#state.have.has(rowId) || isSettled(entry)));
  }

  #pendingOf(unit: Unit): [string, SetPending][] {
    if (unit.kind !== "set" || this.#refusals.isHeld(unit.id)) return [];
    const found: [string, SetPending][] = [];
    for (const id of this.#state.rowsOf(unit.id)) {
      const row = this.#state.want.get(id);
      const entry = row?.type === "set" ? this.#elements.get(row.set) : undefined;
      if (row?.type === "set" && entry !== undefined && !isSettled(entry)) found.push([row.set, entry]);
    }
    return found;
  }

  #takeElements(draft: Draft, unit: Unit, set: string, entry: SetPending): void {
    const room = draft.roomUs / ELEMENT_US;
    const take = (from: ReadonlyMap<string, NftElement>, most: number): NftElement[] =>
      [...from.values()].slice(0, most);
    // What goes is never left for later: it may allow something.
    const remove = [...entry.remove.values()];
    const unsure = [...entry.unsure.values()];
    // Nor is what comes in its place: an interval that grows is another one.
    const isWhole = entry.is.interval && remove.length > 0;
    const most = isWhole ? Infinity : Math.max(1, Math.floor(room) - remove.length - unsure.length);
    this.#elements.pull(entry, most);
    const add = take(entry.add, most);
    const isPartial = entry.filling !== undefined || add.length < entry.add.size;
    if (isPartial && add.length + remove.length + unsure.length === 0) return void (draft.hasMore = true);
    draft.addElements({ set, unit, is: entry.is, add, remove, unsure, isPartial });
  }
}

/** What is chosen so far. */
class Draft {
  readonly units: Unit[] = [];
  readonly rows: PlannedRow[] = [];
  readonly elements: ElementsChange[] = [];
  readonly #state: TableState<NftRow>;
  readonly #after = new Map<string, PlannedRow>();
  readonly #whole = new Set<string>();
  roomUs: number;
  /** Something did not fit. */
  isFull = false;
  /** Not everything was looked at. */
  hasMore = false;

  constructor(state: TableState<NftRow>, mostUs: number) {
    this.#state = state;
    this.roomUs = mostUs;
  }

  hasRoom(costUs: number): boolean {
    return this.units.length === 0 || costUs <= this.roomUs;
  }

  add(unit: Unit, rows: readonly PlannedRow[], costUs: number): void {
    this.#name(unit);
    for (const row of rows) {
      this.rows.push(row);
      this.#after.set(row.id, row);
    }
    this.roomUs -= costUs;
  }

  addElements(change: ElementsChange): void {
    this.elements.push(change);
    this.roomUs -= (change.add.length + change.remove.length) * ELEMENT_US;
    if (!change.isPartial) this.#whole.add(setId(change.set));
  }

  #name(unit: Unit): void {
    if (this.units.at(-1)?.id !== unit.id) this.units.push(unit);
  }

  holdsWhole(rowId: string): boolean {
    return this.#whole.has(rowId);
  }

  willHave(rowId: string): boolean {
    const planned = this.#after.get(rowId);
    return planned === undefined ? this.#state.have.has(rowId) : planned.want !== undefined;
  }

  /** Of these, what nothing will refer to; those that refer to others first. */
  remove(removals: readonly PlannedRow[]): void {
    let left = [...removals].sort((a, b) => rankOf(b.unit) - rankOf(a.unit));
    for (let before = -1; left.length !== before && left.length > 0;) {
      before = left.length;
      left = left.filter((change) => {
        const cost = costOf(change);
        if (!this.hasRoom(cost) || this.#isUsed(change.id)) return true;
        this.#after.set(change.id, change);
        this.rows.push(change);
        if (!this.units.some(({ id }) => id === change.unit.id)) this.units.push(change.unit);
        this.roomUs -= cost;
        return false;
      });
    }
  }

  /** Whether the kernel has a row that refers to this one, and goes on to. */
  #isUsed(rowId: string): boolean {
    for (const user of this.#state.usersOf(rowId))
      if (user !== rowId && this.#after.get(user)?.references.removed.includes(rowId) !== true) return true;
    return false;
  }
}
