/**
 * TableState: the rows that a driver keeps, wanted and had, with the unit that each belongs to, and which rows refer to a row in the kernel.
 */
import { addTo, type Bag, removeFrom, valuesOf } from "../lib/bag.ts";
import { Tracker } from "./tracker.ts";
import { restUnit, type Unit } from "./units.ts";

/** What a driver's rows are. */
export interface RowKind<Row> {
  same(a: Row, b: Row): boolean;
  /** Ids of the rows that must be there before this one, each once, its own among them if it refers to itself. */
  referencesOf(row: Row): readonly string[];
  /** How these change with the row; undefined: there is none. */
  referenceChange(before: Row | undefined, now: Row | undefined): ReferenceChange;
  /** What stands in a row's place while its endpoint is closed: it drops. The row itself, if it is none that decides. */
  closed(row: Row, because: string): Row;
  /** What leads to an endpoint's rows belongs to the base: a closed endpoint must be there. */
  readonly isDispatchApart: boolean;
}

/** References that only one of two versions of a row has, each once. */
export interface ReferenceChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** A row that is wanted, and the unit that it belongs to. */
export interface OwnedRow<Row> {
  readonly row: Row;
  readonly unit: Unit;
}

export class TableState<Row> {
  readonly kind: RowKind<Row>;
  readonly #rows: Tracker<Row>;
  /** Of every row that is wanted or had. */
  readonly #owners = new Map<string, Unit>();
  readonly #rowsOf = new Map<string, Bag<string>>();
  /** Of these, those on which the kernel and our wish differ. */
  readonly #pendingOf = new Map<string, Bag<string>>();
  readonly #units = new Map<string, Unit>();
  /** Of the rows that the kernel has: those that refer to this one. */
  readonly #users = new Map<string, Bag<string>>();

  constructor(kind: RowKind<Row>) {
    this.kind = kind;
    this.#rows = new Tracker((a, b) => kind.same(a, b));
  }

  get want(): ReadonlyMap<string, Row> {
    return this.#rows.want;
  }

  get have(): ReadonlyMap<string, Row> {
    return this.#rows.have;
  }

  get pending(): number {
    return this.#rows.pending;
  }

  isPending(rowId: string): boolean {
    return this.#rows.isPending(rowId);
  }

  get pendingRows(): Iterable<string> {
    return this.#rows.pendingIds;
  }

  /** undefined: it is neither wanted nor had. */
  ownerOf(rowId: string): Unit | undefined {
    return this.#owners.get(rowId);
  }

  unit(id: string): Unit | undefined {
    return this.#units.get(id);
  }

  get units(): Iterable<Unit> {
    return this.#units.values();
  }

  rowsOf(unitId: string): Iterable<string> {
    return valuesOf(this.#rowsOf.get(unitId));
  }

  /** Ids of the unit's rows on which the kernel and our wish differ. */
  pendingOf(unitId: string): Iterable<string> {
    return valuesOf(this.#pendingOf.get(unitId));
  }

  usersOf(rowId: string): Iterable<string> {
    return valuesOf(this.#users.get(rowId));
  }

  /** The units that the wanted rows of this one refer to; itself among them if it does. */
  *referredBy(unitId: string): Generator<Unit> {
    for (const id of this.rowsOf(unitId)) {
      const row = this.want.get(id);
      for (const reference of row === undefined ? NONE : this.kind.referencesOf(row)) {
        const owner = this.#owners.get(reference);
        if (owner !== undefined) yield owner;
      }
    }
  }

  /** Returns the units that the rows belong to. */
  setWants(rows: ReadonlyMap<string, OwnedRow<Row> | undefined>): ReadonlySet<Unit> {
    const touched = new Set<Unit>();
    for (const [id, owned] of rows) {
      const owner = owned === undefined ? this.#owners.get(id) : this.#own(id, owned.unit);
      if (owner !== undefined) touched.add(owner);
      this.#rows.setWant(id, owned?.row);
      if (owned === undefined) this.#disown(id);
      if (owner !== undefined) this.#notePending(id, owner);
    }
    return touched;
  }

  /** `references`: how these change, if that is known already. */
  setHave(id: string, row: Row | undefined, references?: ReferenceChange): void {
    const { added, removed } = references ?? this.kind.referenceChange(this.#rows.have.get(id), row);
    // Of two equal rows only the wanted one is kept.
    const want = this.#rows.want.get(id);
    this.#rows.setHave(id, want !== undefined && row !== undefined && this.kind.same(want, row) ? want : row);
    const owner = this.#owners.get(id) ?? (row === undefined ? undefined : this.#own(id, restUnit(id)));
    if (row === undefined) this.#disown(id);
    if (owner !== undefined) this.#notePending(id, owner);
    for (const reference of removed) removeFrom(this.#users, reference, id);
    for (const reference of added) addTo(this.#users, reference, id);
  }

  #own(id: string, given: Unit): Unit {
    const before = this.#owners.get(id);
    if (before?.id === given.id) return before;
    if (before !== undefined) this.#drop(id, before);
    // One object for each unit, as long as it has rows.
    const unit = this.#units.get(given.id) ?? given;
    this.#owners.set(id, unit);
    this.#units.set(unit.id, unit);
    addTo(this.#rowsOf, unit.id, id);
    return unit;
  }

  /** Once it is neither wanted nor had. */
  #disown(id: string): void {
    const owner = this.#owners.get(id);
    if (owner === undefined || this.want.has(id) || this.have.has(id)) return;
    this.#owners.delete(id);
    this.#drop(id, owner);
  }

  #notePending(id: string, owner: Unit): void {
    if (this.#rows.isPending(id)) addTo(this.#pendingOf, owner.id, id);
    else removeFrom(this.#pendingOf, owner.id, id);
  }

  #drop(id: string, unit: Unit): void {
    removeFrom(this.#rowsOf, unit.id, id);
    removeFrom(this.#pendingOf, unit.id, id);
    if (!this.#rowsOf.has(unit.id)) this.#units.delete(unit.id);
  }
}

const NONE: readonly string[] = [];
