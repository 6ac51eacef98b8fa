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
import { IptablesClient, type RestoreRefusal, type Variant } from "../../kernel/iptables/client.ts";
import { formatRestore } from "../../kernel/iptables/restore.ts";
import { TABLE_NAMES } from "../../kernel/iptables/rule.ts";
import { Generations } from "../../kernel/nftables/generations.ts";
import { ForeignTransactions, openNftablesNotifications } from "../../kernel/nftables/monitor.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { awaiting, type Driver, type DriverEvents, type PlannedChange, type RowStatus, type Steps } from "../driver.ts";
import { unfinishedUnits } from "../completion.ts";
import { Refusals, type RowChange } from "../refusals.ts";
import { explainUnits, statusOf } from "../status.ts";
import { TableState } from "../table-state.ts";
import type { Unit } from "../units.ts";
import { IptablesLowering } from "./lower.ts";
import { HOOK_CHAINS, isOurChain } from "./names.ts";
import { describeChanges } from "./plan.ts";
import { chainId, IPT_ROWS, type IptRow } from "./rows.ts";
import { readRows } from "./saved.ts";
import { IptablesSets } from "./sets.ts";
import { familyOf, isOfRules, tableChanges } from "./table-changes.ts";

export interface IptablesOptions {
  readonly processes: Processes;
  readonly variant: Variant;
  /** Those that the kernel has. */
  readonly families: ReadonlySet<Family>;
  readonly clock: Clock;
}

/** Upstream: iptablesRefreshInterval. */
const REFRESH_MS = 180_000;
const FIRST_REFRESH_MS = 10_000;

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
  readonly #sets: IptablesSets;
  readonly #lowering = new IptablesLowering();
  readonly #state = new TableState<IptRow>(IPT_ROWS);
  readonly #refusals: Refusals<IptRow>;
  #disturbed: DriverEvents["changed"] | undefined;

  /** Opens its socket in the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys, { processes, variant, families, clock }: IptablesOptions) {
    this.#families = FAMILIES.filter((family) => families.has(family));
    this.#clients = new Map(
      this.#families.map((family) => [family, new IptablesClient(processes, clock, variant, family)]),
    );
    this.#sys = sys;
    this.#isWatched = variant === "nft";
    this.#generations = variant === "legacy" ? undefined : new Generations(sys);
    this.watch = variant === "legacy" ? undefined : (watcher, events) => this.#watch(watcher, events);
    this.#refusals = new Refusals(this.#state, clock);
    this.#sets = new IptablesSets(sys, this.#families, this.#state, this.#refusals);
  }

  get pending(): number {
    return this.#state.pending + this.#sets.pending;
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
    return unfinishedUnits(this.#state, this.#refusals, endpoint, (row) => this.#sets.isSettled(row));
  }

  lower(program: Program, delta: ProgramDelta): void {
    this.#sets.lower(program, delta);
    const { rows, elements } = this.#lowering.lower(program, delta);
    const own = new Map([...rows].filter(([id]) => this.#isOfFamilies(id)));
    for (const [id, owned] of own) if (owned === undefined) this.#sets.forget(id);
    this.#refusals.changed(new Set(this.#state.setWants(own)), "rows");
    this.#refusals.changed(this.#sets.take(elements), "elements");
  }

  /** `chain 4 filter cali-FORWARD`, `set cali40…`, `member cali40… …`. */
  #isOfFamilies(rowId: string): boolean {
    const family = /^(?:chain|jump) 6 |^(?:set|member) cali60/.test(rowId) ? 6 : 4;
    return this.#families.includes(family);
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
    yield* this.#sets.reading(have);
    this.#readings++;
    for (const id of Array.from(this.#state.have.keys())) if (!have.has(id)) this.#state.setHave(id, undefined);
    for (const [id, row] of have) this.#state.setHave(id, row);
  }

  *committing(): Steps {
    do {
      for (;;) {
        const changes = this.#changesOfAll();
        const didSets = yield* this.#sets.filling(changes);
        const rules = changes.filter(isOfRules);
        if (rules.length > 0 && !didSets) yield* this.#land(rules);
        else if (!didSets) break;
      }
      yield* this.#sets.emptying();
      yield* this.#sets.destroying();
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
    // Of what others change of x_tables nobody tells: there, chains are written whole.
    const edited = tableChanges(changes, this.#isWatched);
    let refused = yield* this.#restore(client, edited);
    const hasEdits = [...edited.values()].some(({ edits }) => edits.size > 0);
    // Somebody has just taken away what was to be edited.
    if (refused !== undefined && hasEdits) refused = yield* this.#restore(client, tableChanges(changes, false));
    if (refused === undefined) for (const { id, want } of changes) this.#state.setHave(id, want);
    return refused;
  }

  *#restore(
    client: IptablesClient,
    tables: ReturnType<typeof tableChanges>,
  ): Generator<Promise<void> | undefined, RestoreRefusal | undefined> {
    this.#generations?.begin();
    const refused = yield* awaiting(client.restore(formatRestore(tables)));
    if (this.#generations?.end(tables.size) === false) this.#disturbed?.("somebody else");
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
        const refusedSets = yield* this.#sets.filling(this.#refusals.changesOf(unit));
        const rules = refusedSets ? [] : this.#refusals.changesOf(unit).filter(isOfRules);
        if (rules.length > 0) yield* this.#land(rules);
        if (unit.kind === "set") yield* this.#sets.emptying();
        if (unit.kind === "rest" || unit.kind === "set") yield* this.#sets.destroying();
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
    this.#sets.forgetAll();
    this.#state.setWants(new Map(Array.from(this.#state.want.keys(), (id) => [id, undefined])));
    yield* this.reading();
    const changes = this.#changesOfAll().filter(isOfRules);
    if (changes.length > 0) yield* this.#land(changes);
    if (!keepsSets) yield* this.#sets.destroying();
  }

  plan(): readonly PlannedChange[] {
    return describeChanges(this.#changesOfAll(), this.#sets.plan());
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
