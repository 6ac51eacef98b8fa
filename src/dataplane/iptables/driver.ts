/**
 * Driver of our chains in iptables, of both families, and of our IP sets. Sets come first, whole; then the chains of a table, all or nothing,
 * by `iptables-restore`; then the sets go that no rule names any more. Rules are compared as the text that `iptables-save` prints, so that a
 * change made behind our back is found and undone.
 *
 * The programs take their time, in which the thread does other work: one thing runs at a time. A change that is refused is cut until the
 * culprit stands alone (see `refusals.ts` for what stands in its place); all others go on. Others' rules are left alone: ours are the
 * chains `cali-…`, the jumps to them, and the sets `cali40…` and `cali60…`.
 */
import type { Clock } from "../../host/clock.ts";
import type { Processes } from "../../host/processes.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import { KernelError } from "../../kernel/errno.ts";
import { IpSetClient } from "../../kernel/ipset/client.ts";
import { IptablesClient, type RestoreRefusal, type Variant } from "../../kernel/iptables/client.ts";
import { formatRestore } from "../../kernel/iptables/restore.ts";
import { TABLE_NAMES } from "../../kernel/iptables/rule.ts";
import { Generations } from "../../kernel/nftables/generations.ts";
import { ForeignTransactions, openNftablesNotifications } from "../../kernel/nftables/monitor.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import type { SetId } from "../../program/policy.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { awaiting, type Driver, type DriverEvents, type PlannedChange, type RowStatus, type Steps } from "../driver.ts";
import { unfinishedUnits } from "../completion.ts";
import { Refusals, type RowChange } from "../refusals.ts";
import { explainUnits, statusOf } from "../status.ts";
import { TableState } from "../table-state.ts";
import type { Unit } from "../units.ts";
import { IptablesLowering } from "./lower.ts";
import { wantedMembers, type WantedMembers } from "./members.ts";
import { HOOK_CHAINS, isOurChain, isOurSet, setName, sourcesSet } from "./names.ts";
import { isFilled, isSettled, PendingMembers, type SetPending } from "./pending.ts";
import { describeChanges } from "./plan.ts";
import { chainId, IPT_ROWS, type IptRow, memberId, setId } from "./rows.ts";
import { readRows } from "./saved.ts";
import { familyOf, isOfRules, tableChanges } from "./table-changes.ts";

export interface IptablesOptions {
  readonly processes: Processes;
  readonly variant: Variant;
  /** Those that the kernel has. */
  readonly families: ReadonlySet<Family>;
  readonly clock: Clock;
}

type Row<Type extends IptRow["type"]> = Extract<IptRow, { type: Type }>;

/** Upstream: iptablesRefreshInterval. */
const REFRESH_MS = 180_000;
const FIRST_REFRESH_MS = 10_000;
/** Elements sent in one step: some milliseconds. */
const ELEMENTS_PER_STEP = 1_000;

export class IptablesDriver implements Driver {
  readonly name = "iptables";
  readonly isFresh = false;
  readonly isSerial = true as const;
  readonly #isWatched: boolean;
  #readings = 0;
  readonly watch: NonNullable<Driver["watch"]> | undefined;
  readonly #sys: Sys;
  readonly #generations: Generations | undefined;
  readonly #families: readonly Family[];
  readonly #clients: ReadonlyMap<Family, IptablesClient>;
  readonly #sets: IpSetClient;
  readonly #lowering = new IptablesLowering();
  readonly #state = new TableState<IptRow>(IPT_ROWS);
  readonly #members = new PendingMembers();
  readonly #refusals: Refusals<IptRow>;
  /** IP sets of the program's sets. */
  readonly #programSets = new Map<string, { readonly id: SetId; readonly family: Family }>();
  #program: Program | undefined;
  #disturbed: DriverEvents["changed"] | undefined;
  /** Counts changes of what is wanted in sets. */
  #changes = 0;

  /** Opens its socket in the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, { processes, variant, families, clock }: IptablesOptions) {
    this.#families = FAMILIES.filter((family) => families.has(family));
    this.#clients = new Map(
      this.#families.map((family) => [family, new IptablesClient(processes, clock, variant, family)]),
    );
    this.#sets = new IpSetClient(sys);
    this.#sys = sys;
    this.#isWatched = variant === "nft";
    this.#generations = variant === "legacy" ? undefined : new Generations(sys);
    this.watch = variant === "legacy" ? undefined : (watcher, events) => this.#watch(watcher, events);
    this.#refusals = new Refusals(this.#state, clock);
  }

  get pending(): number {
    return this.#state.pending + this.#members.count();
  }

  get writes(): number {
    return [...this.#clients.values()].reduce((sum, client) => sum + client.writes, this.#sets.writes);
  }

  /** Of x_tables nobody tells. A program that an earlier daemon had started may end after the first look. */
  get auditMs(): number | undefined {
    if (this.#isWatched) return undefined;
    return this.#readings > 1 ? REFRESH_MS : FIRST_REFRESH_MS;
  }

  get dueMs(): number | undefined {
    return this.#refusals.failures.nextMs;
  }

  get failures(): readonly RowStatus[] {
    this.#refusals.settle();
    return statusOf(this.#state, this.#refusals);
  }

  isProgrammed(endpoint: EndpointId): boolean {
    return this.#unfinished(endpoint)?.length === 0;
  }

  explain(endpoint: EndpointId): string | undefined {
    return explainUnits(this.#state, this.#refusals, this.#unfinished(endpoint) ?? []);
  }

  #unfinished(endpoint: EndpointId): readonly Unit[] | undefined {
    this.#refusals.settle();
    return unfinishedUnits(this.#state, this.#refusals, endpoint, (row) => {
      const entry = row.type === "set" ? this.#members.get(row.set) : undefined;
      return entry === undefined || isSettled(entry);
    });
  }

  lower(program: Program, delta: ProgramDelta): void {
    this.#program = program;
    this.#changes++;
    for (const [id, members] of delta.sets)
      for (const family of this.#families)
        if (members === undefined) this.#programSets.delete(setName(id, family));
        else this.#programSets.set(setName(id, family), { id, family });
    const { rows, elements } = this.#lowering.lower(program, delta);
    const own = new Map([...rows].filter(([id]) => this.#isOfFamilies(id)));
    for (const [id, owned] of own)
      if (owned === undefined && id.startsWith("set ")) this.#members.forget(id.slice("set ".length));
    const touched = new Set(this.#state.setWants(own));
    this.#refusals.changed(touched, "rows");
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
    this.#refusals.changed(filled, "elements");
  }

  /** `chain 4 filter cali-FORWARD`, `set cali40…`, `member cali40… …`. */
  #isOfFamilies(rowId: string): boolean {
    const family = /^(?:chain|jump) 6 |^(?:set|member) cali60/.test(rowId) ? 6 : 4;
    return this.#families.includes(family);
  }

  #wanted(set: string): WantedMembers | undefined {
    const found = this.#programSets.get(set);
    const members = found === undefined ? undefined : this.#program?.sets.get(found.id);
    return found === undefined || members === undefined ? undefined : wantedMembers(members, found.family);
  }

  /** The nft variant's rules are in tables of nf_tables, of whose changes the kernel tells. */
  #watch(watcher: Watcher, events: DriverEvents): Watch {
    const transactions = this.#families.flatMap((family) =>
      TABLE_NAMES.map((name) => new ForeignTransactions({ family: family === 4 ? "ip" : "ip6", name })),
    );
    this.#disturbed = events.changed;
    return watcher.watch(openNftablesNotifications(this.#sys), {
      received: (datagram) => {
        for (const { generation, by, touched } of transactions.flatMap((each) => each.take(datagram, undefined)))
          if (this.#generations?.isOwn(generation) !== true && (touched === undefined || concerns(touched.chains)))
            events.changed(by);
      },
      lost: (cause) => events.lost(cause),
    });
  }

  /** All of it. */
  *reading(): Steps {
    const have = new Map<string, IptRow>();
    for (const [family, client] of this.#clients) {
      const text = yield* awaiting(client.save(false));
      for (const row of yield* readRows(family, text)) have.set(...row);
    }
    yield* this.#readSets(have);
    this.#readings++;
    for (const id of Array.from(this.#state.have.keys())) if (!have.has(id)) this.#state.setHave(id, undefined);
    for (const [id, row] of have) this.#state.setHave(id, row);
  }

  *#readSets(have: Map<string, IptRow>): Steps {
    const sources = new Set(this.#families.map(sourcesSet));
    for (const { name, is } of this.#sets.list()) {
      if (!isOurSet(name) || !this.#families.includes(name.startsWith("cali60") ? 6 : 4)) continue;
      have.set(setId(name), { type: "set", set: name, is });
      if (is === undefined) continue;
      if (sources.has(name)) {
        for (const member of (yield* this.#sets.elements(name, is)) ?? [])
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
    const elements = (yield* this.#sets.elements(set, is)) ?? new Set<string>();
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

  *committing(): Steps {
    do {
      for (;;) {
        const changes = this.#changesOfAll();
        const didSets = yield* this.#commitSets(changes);
        const rules = changes.filter(isOfRules);
        if (rules.length > 0 && !didSets) yield* this.#land(rules);
        else if (!didSets) break;
      }
      yield* this.#emptySets();
      yield* this.#destroySets();
    } while (yield* this.#retry());
  }

  /** Rows to be written now, by unit. */
  #changesOfAll(): RowChange<IptRow>[] {
    const units = new Set<Unit>();
    for (const id of this.#refusals.settle()) add(units, this.#state.unit(id));
    for (const id of this.#state.pendingRows) add(units, this.#state.ownerOf(id));
    for (const id of this.#refusals.failures.all.keys()) add(units, this.#state.unit(id));
    for (const id of this.#refusals.blocked.keys()) add(units, this.#state.unit(id));
    return [...units].flatMap((unit) => this.#refusals.changesOf(unit));
  }

  /** Makes the sets that are wanted and gives them the members that they lack. True when something was refused, so that rules must be planned anew. */
  *#commitSets(changes: readonly RowChange<IptRow>[]): Generator<Promise<void> | undefined, boolean> {
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
        if (have !== undefined) this.#sets.destroy(want.set);
        this.#sets.create(want.set, is);
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
        const [first] = this.#sets.change(row.set, is, added, removed);
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
  *#emptySets(): Steps {
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
    const [first] = this.#sets.change(set, entry.is, added, removed);
    if (first !== undefined) throw first.error;
    this.#members.done(entry, added, removed);
  }

  #kindOf(set: string): Row<"set">["is"] {
    const row = this.#state.have.get(setId(set));
    return row?.type === "set" ? row.is : undefined;
  }

  /** One change of all tables; if it is refused, as many as it takes to find the culprits. Throws when it is no fault of single rows. */
  *#land(changes: readonly RowChange<IptRow>[]): Steps {
    for (const family of this.#families) {
      const own = changes.filter(({ want, have }) => familyOf(want ?? have) === family);
      if (own.length === 0) continue;
      const refused = yield* this.#send(family, own);
      if (refused !== undefined) return yield* this.#blame(family, own, refused);
    }
  }

  *#send(
    family: Family,
    changes: readonly RowChange<IptRow>[],
  ): Generator<Promise<void> | undefined, RestoreRefusal | undefined> {
    const client = this.#clients.get(family);
    if (client === undefined) return undefined;
    const tables = tableChanges(changes);
    this.#generations?.begin();
    const refused = yield* awaiting(client.restore(formatRestore(tables)));
    if (this.#generations?.end(tables.size) === false) this.#disturbed?.("somebody else");
    if (refused === undefined) for (const { id, want } of changes) this.#state.setHave(id, want);
    return refused;
  }

  *#blame(family: Family, changes: readonly RowChange<IptRow>[], { error, culprit }: RestoreRefusal): Steps {
    const units = [...new Set(changes.map(({ unit }) => unit))];
    const named =
      culprit === undefined ? undefined : this.#state.ownerOf(chainId(family, culprit.table, culprit.chain));
    const blamed = named !== undefined && units.includes(named) ? named : units.length === 1 ? units[0] : undefined;
    if (blamed !== undefined) {
      // Of a family's tables some may have been changed: what the kernel has is read anew.
      if (blamed.kind === "base") throw error;
      this.#refusals.refuse(blamed, error);
      yield* this.reading();
      return;
    }
    yield* this.reading();
    yield* this.#bisect(family, units);
  }

  /** Halves that refer to what is in the other are planned later: what a unit refers to has a lower rank, and goes first. */
  *#bisect(family: Family, units: readonly Unit[]): Steps {
    const ranked = [...units].sort((a, b) => rank(a) - rank(b));
    const middle = Math.ceil(ranked.length / 2);
    for (const half of [ranked.slice(0, middle), ranked.slice(middle)]) {
      const ids = new Set(half.map(({ id }) => id));
      const changes = this.#changesOfAll().filter(
        (change) => isOfRules(change) && ids.has(change.unit.id) && familyOf(change.want ?? change.have) === family,
      );
      if (changes.length === 0) continue;
      const refused = yield* this.#send(family, changes);
      if (refused !== undefined) yield* this.#blame(family, changes, refused);
    }
  }

  /** Those that are no longer wanted and that no rule of ours names. One that others use stays, which is told. */
  *#destroySets(): Steps {
    for (const id of Array.from(this.#state.pendingRows)) {
      const have = this.#state.have.get(id);
      const unit = this.#state.ownerOf(id);
      if (have?.type !== "set" || unit === undefined || this.#state.want.has(id) || this.#refusals.isHeld(unit.id))
        continue;
      if ([...this.#state.usersOf(id)].some(isRuleRow)) continue;
      try {
        this.#sets.destroy(have.set);
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

  /** Those refused before whose time has come. True when there were any, so that what waits for them is planned. */
  *#retry(): Generator<Promise<void> | undefined, boolean> {
    const due = this.#refusals.failures.due();
    let taken = false;
    for (const id of due) {
      const unit = this.#state.unit(id);
      const failure = this.#refusals.failures.get(id);
      this.#refusals.tryAgain(unit === undefined ? undefined : id);
      if (unit === undefined) this.#refusals.accept(id);
      else {
        const refusedSets = yield* this.#commitSets(this.#refusals.changesOf(unit));
        const rules = refusedSets ? [] : this.#refusals.changesOf(unit).filter(isOfRules);
        if (rules.length > 0) yield* this.#land(rules);
        if (unit.kind === "set") yield* this.#emptySets();
        if (unit.kind === "rest" || unit.kind === "set") yield* this.#destroySets();
        if (this.#refusals.failures.get(id) === failure) {
          this.#refusals.accept(id);
          taken = true;
        }
      }
      this.#refusals.tryAgain(undefined);
      yield;
    }
    return taken;
  }

  /** Takes all that is ours out of the kernel: nothing may be asked of the driver afterwards. `keepsSets`: the other variant names them. */
  *removing(keepsSets: boolean): Steps {
    this.#programSets.clear();
    this.#state.setWants(new Map(Array.from(this.#state.want.keys(), (id) => [id, undefined])));
    yield* this.reading();
    const changes = this.#changesOfAll().filter(isOfRules);
    if (changes.length > 0) yield* this.#land(changes);
    if (!keepsSets) yield* this.#destroySets();
  }

  plan(): readonly PlannedChange[] {
    const sets = [...this.#members.unsettled()].map(([set, { add: added, remove, filling }]) => ({
      set,
      added: [...added, ...(filling === undefined ? [] : (this.#wanted(set)?.elements() ?? []))],
      removed: [...remove],
    }));
    return describeChanges(this.#changesOfAll(), sets);
  }

  close(): void {
    this.#sets.close();
    this.#generations?.close();
  }
}

/** Whether one of them is ours, or one of the kernel's that lead to ours. */
function concerns(chains: ReadonlySet<string>): boolean {
  return [...chains].some((chain) => isOurChain(chain) || BUILT_INS.has(chain));
}

const BUILT_INS: ReadonlySet<string> = new Set(Object.values(HOOK_CHAINS).map(({ builtIn }) => builtIn));

function add<T>(to: Set<T>, value: T | undefined): void {
  if (value !== undefined) to.add(value);
}

const RANKS: readonly Unit["kind"][] = ["rest", "set", "policy", "endpoint", "base"];

/** Dispatch refers to endpoints. */
function rank({ kind }: Unit): number {
  return RANKS.indexOf(kind);
}

function isRuleRow(rowId: string): boolean {
  return rowId.startsWith("chain ") || rowId.startsWith("jump ");
}
