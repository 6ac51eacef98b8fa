/**
 * Tracker: wanted rows, rows that the kernel has, and the rows on which the two differ. Shared by every driver.
 *
 * `want` comes from lowering, `have` from reading the kernel and from our own successful commits; pending work is always at
 * hand, so a resync is only learning new facts about `have`. Costs are proportional to the rows touched.
 */
import { equal } from "../lib/equal.ts";

export interface Change<Row> {
  readonly id: string;
  readonly want: Row | undefined;
  readonly have: Row | undefined;
}

export class Tracker<Row> {
  readonly #want = new Map<string, Row>();
  readonly #have = new Map<string, Row>();
  readonly #pending = new Set<string>();
  readonly #same: (a: Row, b: Row) => boolean;

  constructor(same: (a: Row, b: Row) => boolean = equal) {
    this.#same = same;
  }

  get want(): ReadonlyMap<string, Row> {
    return this.#want;
  }

  get have(): ReadonlyMap<string, Row> {
    return this.#have;
  }

  /** Number of rows on which the kernel and our wish differ. */
  get pending(): number {
    return this.#pending.size;
  }

  isPending(id: string): boolean {
    return this.#pending.has(id);
  }

  get pendingIds(): Iterable<string> {
    return this.#pending;
  }

  /** The row must exist like this; undefined: it must not exist. */
  setWant(id: string, row: Row | undefined): void {
    if (row === undefined) this.#want.delete(id);
    else this.#want.set(id, row);
    this.#compare(id);
  }

  /** The kernel has the row like this; undefined: it has it not. */
  setHave(id: string, row: Row | undefined): void {
    if (row === undefined) this.#have.delete(id);
    else this.#have.set(id, row);
    this.#compare(id);
  }

  /** The kernel has exactly these rows. */
  replaceHave(rows: ReadonlyMap<string, Row>): void {
    for (const id of this.#have.keys()) if (!rows.has(id)) this.setHave(id, undefined);
    for (const [id, row] of rows) this.setHave(id, row);
  }

  /** What must be done to make the kernel agree, in order of ids' insertion into the pending set. */
  changes(): Change<Row>[] {
    return [...this.#pending].map((id) => ({ id, want: this.#want.get(id), have: this.#have.get(id) }));
  }

  /** The changes are in the kernel now. */
  committed(changes: readonly Change<Row>[]): void {
    for (const change of changes) this.setHave(change.id, change.want);
  }

  #compare(id: string): void {
    const want = this.#want.get(id);
    const have = this.#have.get(id);
    const agree = want === undefined || have === undefined ? want === have : this.#same(want, have);
    if (agree) this.#pending.delete(id);
    else this.#pending.add(id);
  }
}
