/**
 * IptablesSets: the IP sets of the driver: read, made, given their members, emptied and destroyed, each when its turn comes: what rules need is there
 * before them, and what they no longer need goes after them.
 */
import type { Sys } from "../../host/sys.ts";
import { KernelError } from "../../kernel/errno.ts";
import { IpSetClient, type IpSetKind } from "../../kernel/ipset/client.ts";
import type { Family } from "../../net/addr.ts";
import type { SetId } from "../../program/policy.ts";
import type { Program, ProgramDelta } from "../../program/program.ts";
import type { Steps } from "../driver.ts";
import type { Refusals, RowChange } from "../refusals.ts";
import type { TableState } from "../table-state.ts";
import type { Unit } from "../units.ts";
import type { IptChange } from "./lower.ts";
import { wantedMembers, type WantedMembers } from "./members.ts";
import { isOurSet, setName, sourcesSet } from "./names.ts";
import { isFilled, isSettled, PendingMembers, type SetPending } from "./pending.ts";
import type { MembersPlan } from "./plan.ts";
import { type IptRow, memberId, setId } from "./rows.ts";

/** Elements sent in one step: some milliseconds. */
const ELEMENTS_PER_STEP = 1_000;

export class IptablesSets {
  readonly #families: readonly Family[];
  readonly #state: TableState<IptRow>;
  readonly #refusals: Refusals<IptRow>;
  readonly #client: IpSetClient;
  readonly #members = new PendingMembers();
  /** IP sets of the program's sets. */
  readonly #programSets = new Map<string, { readonly id: SetId; readonly family: Family }>();
  #program: Program | undefined;
  /** Counts changes of what is wanted in sets. */
  #changes = 0;

  /** Opens its socket in the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, families: readonly Family[], state: TableState<IptRow>, refusals: Refusals<IptRow>) {
    this.#families = families;
    this.#state = state;
    this.#refusals = refusals;
    this.#client = new IpSetClient(sys);
  }

  /** Members that are known to differ; a set that is being filled counts at least one. */
  get pending(): number {
    return this.#members.count();
  }

  get writes(): number {
    return this.#client.writes;
  }

  /** Whether the set of the row, if it is one, has its members. */
  isSettled(row: IptRow): boolean {
    const entry = row.type === "set" ? this.#members.get(row.set) : undefined;
    return entry === undefined || isSettled(entry);
  }

  /** Takes a change of the program in, before its rows are wanted. */
  lower(program: Program, delta: ProgramDelta): void {
    this.#program = program;
    this.#changes++;
    for (const [id, members] of delta.sets)
      for (const family of this.#families)
        if (members === undefined) this.#programSets.delete(setName(id, family));
        else this.#programSets.set(setName(id, family), { id, family });
  }

  /** The set of that row is no longer wanted. */
  forget(rowId: string): void {
    if (rowId.startsWith("set ")) this.#members.forget(rowId.slice("set ".length));
  }

  /** No set of the program is wanted any more. */
  forgetAll(): void {
    this.#programSets.clear();
  }

  /** Takes changes of members in, after their sets' rows are wanted; the units that have some. */
  take(elements: IptChange["elements"]): ReadonlySet<Unit> {
    const filled = new Set<Unit>();
    for (const [set, change] of elements) {
      const unit = this.#state.ownerOf(setId(set));
      const row = this.#state.want.get(setId(set));
      const wanted = this.#wanted(set);
      if (unit === undefined || row?.type !== "set" || row.is === undefined || wanted === undefined) continue;
      filled.add(unit);
      if (change === "all" || this.#members.get(set) === undefined)
        this.#members.fill(set, unit.id, row.is, wanted.elements());
      else this.#members.change(set, change.added, change.removed);
    }
    return filled;
  }

  #wanted(set: string): WantedMembers | undefined {
    const found = this.#programSets.get(set);
    const members = found === undefined ? undefined : this.#program?.sets.get(found.id);
    return found === undefined || members === undefined ? undefined : wantedMembers(members, found.family);
  }

  /** Adds the rows of our sets to what the kernel has. Throws KernelError. */
  *reading(have: Map<string, IptRow>): Steps {
    const sources = new Set(this.#families.map(sourcesSet));
    for (const { name, is } of this.#client.list()) {
      if (!isOurSet(name) || !this.#families.includes(name.startsWith("cali60") ? 6 : 4)) continue;
      have.set(setId(name), { type: "set", set: name, is });
      if (is === undefined) continue;
      if (sources.has(name)) {
        for (const member of (yield* this.#client.elements(name, is)) ?? [])
          have.set(memberId(name, member), { type: "member", set: name, member });
      } else yield* this.#readMembers(name);
    }
    for (const [set, { id }] of this.#programSets)
      if (!have.has(setId(set)) && this.#members.get(set)?.filling === undefined) this.#fill(set, id);
  }

  #fill(set: string, id: SetId): void {
    const row = this.#state.want.get(setId(set));
    const wanted = this.#wanted(set);
    if (row?.type === "set" && row.is !== undefined && wanted !== undefined)
      this.#members.fill(set, `set ${id}`, row.is, wanted.elements());
  }

  /** What the kernel lacks and has too many; again when what is wanted has changed meanwhile. */
  *#readMembers(set: string): Steps {
    const row = this.#state.want.get(setId(set));
    const found = this.#programSets.get(set);
    if (row?.type !== "set" || row.is === undefined || found === undefined) return;
    const { is } = row;
    const elements = (yield* this.#client.elements(set, is)) ?? new Set<string>();
    for (let changes = -1; changes !== this.#changes;) {
      changes = this.#changes;
      const wanted = this.#wanted(set);
      if (wanted === undefined) return;
      const add = new Set<string>();
      const remove = new Set<string>();
      let count = 0;
      for (const element of elements) {
        if (!wanted.has(element)) remove.add(element);
        if (++count % ELEMENTS_PER_STEP === 0) yield;
      }
      for (const element of wanted.elements()) {
        if (!elements.has(element)) add.add(element);
        if (++count % ELEMENTS_PER_STEP === 0) yield;
      }
      this.#members.replace(set, `set ${found.id}`, is, add, remove);
    }
  }

  /** Makes the sets that are wanted and gives them the members that they lack. True when something was refused, so that rules must be planned anew. */
  *filling(changes: readonly RowChange<IptRow>[]): Generator<Promise<void> | undefined, boolean> {
    let refused = false;
    const attempt = (unit: Unit, run: () => void): void => {
      try {
        run();
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        this.#refusals.refuse(unit, error);
        refused = true;
      }
    };
    for (const { id, unit, want, have } of changes) {
      const is = want?.type === "set" ? want.is : undefined;
      if (want?.type !== "set" || is === undefined || refused) continue;
      attempt(unit, () => {
        if (have !== undefined) this.#client.destroy(want.set);
        this.#client.create(want.set, is);
        this.#state.setHave(id, want);
      });
    }
    for (const { id, unit, want, have } of changes) {
      const row = want ?? have;
      if (row?.type !== "member" || refused) continue;
      const is = this.#kindOf(row.set);
      if (is === undefined) continue;
      const [added, removed] = want === undefined ? [[], [row.member]] : [[row.member], []];
      attempt(unit, () => {
        const [first] = this.#client.change(row.set, is, added, removed);
        if (first !== undefined) throw first.error;
        this.#state.setHave(id, want);
      });
    }
    for (const [set, entry] of Array.from(this.#members.unsettled())) {
      const unit = this.#state.unit(entry.unitId);
      if (unit === undefined || this.#refusals.isHeld(unit.id) || !this.#state.have.has(setId(set))) continue;
      while (!isFilled(entry) && this.#members.get(set) === entry && !refused) {
        attempt(unit, () => this.#sendMembers(set, entry, this.#members.next(entry, ELEMENTS_PER_STEP), []));
        yield;
      }
    }
    return refused;
  }

  /** Takes members away that are too many: no rule that was changed before needs them any more. */
  *emptying(): Steps {
    for (const [set, entry] of Array.from(this.#members.unsettled())) {
      const unit = this.#state.unit(entry.unitId);
      if (unit === undefined || this.#refusals.isHeld(unit.id) || !this.#state.have.has(setId(set))) continue;
      while (entry.remove.size > 0 && this.#members.get(set) === entry && !this.#refusals.isHeld(unit.id)) {
        try {
          this.#sendMembers(set, entry, [], [...entry.remove].slice(0, ELEMENTS_PER_STEP));
        } catch (error) {
          if (!(error instanceof KernelError)) throw error;
          this.#refusals.refuse(unit, error);
        }
        yield;
      }
    }
  }

  #sendMembers(set: string, entry: SetPending, added: readonly string[], removed: readonly string[]): void {
    const [first] = this.#client.change(set, entry.is, added, removed);
    if (first !== undefined) throw first.error;
    this.#members.done(entry, added, removed);
  }

  #kindOf(set: string): IpSetKind | undefined {
    const row = this.#state.have.get(setId(set));
    return row?.type === "set" ? row.is : undefined;
  }

  /** Those that are no longer wanted and that no rule of ours names. One that others use stays, which is told. */
  *destroying(): Steps {
    for (const id of Array.from(this.#state.pendingRows)) {
      const have = this.#state.have.get(id);
      const unit = this.#state.ownerOf(id);
      if (have?.type !== "set" || unit === undefined || this.#state.want.has(id) || this.#refusals.isHeld(unit.id))
        continue;
      if ([...this.#state.usersOf(id)].some(isRuleRow)) continue;
      try {
        this.#client.destroy(have.set);
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        this.#refusals.refuse(unit, error);
        continue;
      }
      for (const user of Array.from(this.#state.usersOf(id))) this.#state.setHave(user, undefined);
      this.#state.setHave(id, undefined);
      yield;
    }
  }

  plan(): readonly MembersPlan[] {
    return [...this.#members.unsettled()].map(([set, { add: added, remove, filling }]) => ({
      set,
      added: [...added, ...(filling === undefined ? [] : (this.#wanted(set)?.elements() ?? []))],
      removed: [...remove],
    }));
  }

  close(): void {
    this.#client.close();
  }
}

function isRuleRow(rowId: string): boolean {
  return rowId.startsWith("chain ") || rowId.startsWith("jump ");
}
