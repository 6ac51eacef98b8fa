/**
 * Driver of our nf_tables table: policy, sets and dispatch. A change is committed as one transaction, all or nothing, no moment between;
 * much at once (a start) as several, of which none opens anything: rules come after what they refer to, dispatch after its chains.
 *
 * A transaction that the kernel refuses is cut until the culprit stands alone (see `refusals.ts` for what stands in its place); all
 * others go on. Ours is the whole table `inet calico`. Where the kernel can, our socket owns it: nobody else can then change it while we
 * live, and it stays when we end. Rule bodies are compared, so that a change made behind our back is found and undone.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import { EPERM, KernelError } from "../../kernel/errno.ts";
import { NftablesClient } from "../../kernel/nftables/client.ts";
import type { NftRule } from "../../kernel/nftables/objects.ts";
import { whyNoFlowtables } from "../../kernel/nftables/flowtables.ts";
import { ForeignTransactions, openNftablesNotifications } from "../../kernel/nftables/monitor.ts";
import type { EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import {
  type Driver,
  type DriverEvents,
  finishSteps,
  type PlannedChange,
  type RowStatus,
  type Steps,
  type Touched,
} from "../driver.ts";
import { unfinishedUnits } from "../completion.ts";
import { type NftChange, NftablesLowering } from "./lower.ts";
import { FLOWTABLE, OFFLOAD_CHAIN, TABLE } from "./names.ts";
import { Devices } from "./devices.ts";
import { isSettled, PendingElements } from "./pending-elements.ts";
import { Landing } from "./landing.ts";
import { removingTable } from "./remove.ts";
import { describePlan, isEmpty, type Plan, plannedRow } from "./plan.ts";
import { Planner } from "./planner.ts";
import { forgetTable, readTable, type Reading } from "./reader.ts";
import { Refusals } from "../refusals.ts";
import { chainId, flowtableId, needsRebuild, NFT_ROWS, type NftRow, OWNED, setId, TABLE_ROW, UNOWNED } from "./rows.ts";
import { type WantedElements, wantedElements } from "./sets.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import { explainUnits, statusOf } from "../status.ts";
import { TableState } from "../table-state.ts";
import { BASE_UNIT, inOrderOfRank, type Unit, UnitQueue } from "../units.ts";

const NOTHING: Program = {
  settings: DEFAULT_SETTINGS,
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
};
/** Of the thread, for one transaction, as far as it can be cut. A rule with a verdict makes the kernel look at the whole table: 1,500 at 2,000 policies. */
const TRANSACTION_US = 5_000;
/** So many are looked at together with what changed last. */
const FEW_UNITS = 100;
export class NftablesDriver implements Driver {
  readonly name = "nftables";
  readonly #sys: Sys;
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #client: NftablesClient;
  readonly #lowering = new NftablesLowering();
  readonly #state = new TableState(NFT_ROWS);
  readonly #elements = new PendingElements();
  readonly #devices: Devices;
  readonly #refusals: Refusals<NftRow>;
  readonly #planner: Planner;
  readonly #landing: Landing;
  readonly #reading: Reading;
  readonly #onlyLooks: boolean;
  #program = NOTHING;
  /** Units with something to do, as far as is known; and of these, those that changed last. */
  readonly #todo = new UnitQueue();
  readonly #fresh = new Set<Unit>();
  /** Units of which it is not known whether they can be made of what the kernel has. */
  readonly #suspects = new Set<Unit>();
  /** Sets that are wanted again before they had gone: what they hold must be known first. */
  readonly #unread = new Set<string>();
  /** Whether flows can be offloaded here, once that is asked for. */
  #offload: { readonly fault: RowStatus | undefined } | undefined;

  /** `ownsTable`: where the kernel can (`canOwnTables`); undefined for one that only looks. Opens its sockets in the thread's network namespace. Throws KernelError. */
  constructor(
    sys: Sys,
    {
      ownsTable,
      clock,
    }: { readonly ownsTable: boolean | undefined; readonly clock: Pick<Clock, "monotonicMs" | "wallMs"> },
  ) {
    this.#sys = sys;
    this.#client = new NftablesClient(sys, TABLE);
    this.#clock = clock;
    this.#devices = new Devices(clock);
    this.#refusals = new Refusals(this.#state, clock);
    this.#planner = new Planner(this.#state, this.#elements, this.#refusals);
    this.#reading = {
      client: this.#client,
      state: this.#state,
      elements: this.#elements,
      devices: this.#devices,
      wanted: (set) => this.#wanted(set),
      written: new Set(),
      changed: new Set(),
      seed: clock.wallMs() * 1_000,
    };
    this.#landing = new Landing({
      client: this.#client,
      state: this.#state,
      elements: this.#elements,
      devices: this.#devices,
      refusals: this.#refusals,
      reading: this.#reading,
      plan: (units, mostUs) => this.#planOf(units, mostUs),
      toDo: (unit) => this.#todo.add(unit),
      settle: () => this.#settle(),
      read: (touched) => this.reading(touched),
      transactionUs: TRANSACTION_US,
    });
    this.#onlyLooks = ownsTable === undefined;
    const table = { row: ownsTable === true ? OWNED : UNOWNED, unit: BASE_UNIT };
    const base = this.#lowering.lower(NOTHING, { ...NOTHING, members: new Map() });
    this.#take({ ...base, rows: new Map([[TABLE_ROW, table], ...base.rows]) });
  }

  get pending(): number {
    return this.#state.pending + this.#elements.count() + this.#devices.pending;
  }

  get isFresh(): boolean {
    return this.#fresh.size > 0;
  }

  get writes(): number {
    return this.#client.writes;
  }

  get dueMs(): number | undefined {
    const due = [this.#refusals.failures.nextMs, this.#devices.dueMs].flatMap((ms) => ms ?? []);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  get failures(): readonly RowStatus[] {
    this.#settle();
    const offload = this.#program.settings.offloadsFlows ? (this.#offload?.fault ?? []) : [];
    return [offload, this.#devices.status, statusOf(this.#state, this.#refusals)].flat();
  }

  isProgrammed(endpoint: EndpointId): boolean {
    return this.#unfinished(endpoint)?.length === 0;
  }

  explain(endpoint: EndpointId): string | undefined {
    return explainUnits(this.#state, this.#refusals, this.#unfinished(endpoint) ?? []);
  }

  #unfinished(endpoint: EndpointId): readonly Unit[] | undefined {
    this.#settle();
    return unfinishedUnits(this.#state, this.#refusals, endpoint, (row) => {
      const entry = row.type === "set" ? this.#elements.get(row.set) : undefined;
      return entry === undefined || isSettled(entry);
    });
  }

  lower(program: Program, delta: ProgramDelta): void {
    this.#program = program;
    const possible = this.#withoutImpossible(program);
    this.#devices.lower(possible, delta);
    this.#take(this.#lowering.lower(possible, delta));
  }

  /** A kernel without flowtables is told, and the node goes on without. */
  #withoutImpossible(program: Program): Program {
    if (!program.settings.offloadsFlows) return program;
    this.#offload ??= { fault: this.#offloadFault() };
    return this.#offload.fault === undefined
      ? program
      : { ...program, settings: { ...program.settings, offloadsFlows: false } };
  }

  #offloadFault(): RowStatus | undefined {
    const error = whyNoFlowtables(this.#sys);
    if (error === undefined) return undefined;
    const since = formatTimestamp(this.#clock.wallMs());
    return { row: "flowtable", object: undefined, state: "failed", error, errno: undefined, since, attempts: 1 };
  }

  #take({ rows, elements }: NftChange): void {
    const touched = new Set(this.#state.setWants(rows));
    this.#refusals.changed(touched, "rows");
    for (const unit of touched) this.#suspects.add(unit);
    const filled = new Set<Unit>();
    for (const [id, owned] of rows)
      if (owned === undefined && id.startsWith("set ")) this.#elements.forget(id.slice("set ".length));
    for (const [set, change] of elements) {
      const unit = this.#state.ownerOf(setId(set));
      const row = this.#state.want.get(setId(set));
      if (unit === undefined || row?.type !== "set" || row.is === undefined) continue;
      filled.add(unit);
      this.#reading.changed.add(set);
      // What was an interval while others are still to come may overlap what the kernel got of them.
      const isKnown = !row.is.interval || this.#elements.get(set)?.filling === undefined;
      if (change.type === "some" && isKnown) this.#elements.change(set, change.added, change.removed);
      else if (this.#state.have.has(setId(set))) this.#unread.add(set);
      else {
        const wanted = this.#wanted(set);
        if (wanted !== undefined) this.#elements.fill(set, unit.id, row.is, wanted.filling());
      }
    }
    this.#refusals.changed(filled, "elements");
    for (const unit of [...touched, ...filled]) {
      this.#todo.add(unit);
      this.#fresh.add(unit);
    }
  }

  #wanted(set: string): WantedElements | undefined {
    return wantedElements(this.#program, set, this.#lowering.netsOf);
  }

  *reading(only?: Touched): Steps {
    this.#reading.changed.clear();
    yield* readTable(this.#reading, only);
    for (const id of this.#state.pendingRows) {
      const unit = this.#state.ownerOf(id);
      if (unit === undefined) continue;
      this.#todo.add(unit);
      this.#suspects.add(unit);
    }
    for (const unit of this.#state.units) if (unit.kind === "set") this.#todo.add(unit);
  }

  /** Reads all at once. */
  read(): void {
    finishSteps(this.reading());
  }

  watch(watcher: Watcher, events: DriverEvents): Watch {
    const transactions = new ForeignTransactions(TABLE);
    return watcher.watch(openNftablesNotifications(this.#sys), {
      received: (datagram) => {
        for (const { generation, by, touched } of transactions.take(datagram, this.#client.portId)) {
          // Generations are 32 bits that wrap around. What was read last may have been newer than this news.
          if (((generation - this.#client.generation) | 0) <= 0) continue;
          const ids = touched && new Set([...[...touched.chains].map(chainId), ...[...touched.sets].map(setId)]);
          events.changed(by, ids);
        }
      },
      lost: (cause) => events.lost(cause),
    });
  }

  *committing(): Steps {
    this.#refuseForeignOwner();
    if (this.#unread.size > 0) {
      const sets = new Set([...this.#unread].map(setId));
      this.#unread.clear();
      yield* this.reading(sets);
    }
    do {
      for (;;) {
        const plan = this.#next();
        if (!isEmpty(plan)) yield* this.#landing.land(plan);
        else if (plan.hasMore !== true) break;
        yield;
      }
    } while (yield* this.#landing.retry());
    yield* this.#commitDevices();
  }

  *#commitDevices(): Steps {
    const rules = this.#offloadRules;
    if (rules === undefined) return;
    yield* this.#devices.committing(this.#client, rules);
    // It may have been made anew.
    this.#landing.handles.forget(OFFLOAD_CHAIN);
  }

  /** undefined: there is no flowtable. */
  get #offloadRules(): readonly NftRule[] | undefined {
    const chain = this.#state.have.get(chainId(OFFLOAD_CHAIN));
    if (!this.#state.have.has(flowtableId(FLOWTABLE)) || chain?.type !== "chain") return undefined;
    return chain.rules.flatMap((rule) => rule ?? []);
  }

  suspendOffload(isSuspended: boolean): void {
    const rules = this.#offloadRules;
    if (rules === undefined) return;
    if (isSuspended) this.#devices.suspend(this.#client);
    else this.#devices.resume(this.#client, rules);
    finishSteps(this.#commitDevices());
  }

  /** Takes the table out of the kernel: nothing may be asked of the driver afterwards. Throws KernelError. */
  removing(): Steps {
    return removingTable(this.#client);
  }

  /** Commits all at once. Throws the first refusal that stands then. */
  commit(): void {
    finishSteps(this.committing());
    const [first] = this.#refusals.failures.all.values();
    if (first !== undefined) throw first.error;
  }

  plan(): readonly PlannedChange[] {
    this.#settle();
    const plan = this.#planOf(inOrderOfRank(this.#state.units), Infinity);
    const devices = this.#devices.plan();
    if (!this.#onlyLooks) return [...describePlan(plan), ...devices];
    // Whoever holds the table, it is there.
    const rows = plan.rows.filter(({ id, have }) => id !== TABLE_ROW || have === undefined);
    return [...describePlan({ ...plan, rows }), ...devices];
  }

  /** What changed last comes first, with what it refers to. */
  #next(): Plan {
    this.#settle();
    this.#landing.replaces ||= this.#needsRebuild();
    if (this.#landing.replaces) return this.#startAnew();
    const adopting = this.#adopting();
    if (adopting !== undefined) return adopting;
    if (this.#fresh.size > 0 && this.#fresh.size < this.#todo.size && this.#todo.size > FEW_UNITS) {
      const plan = this.#planOf(this.#withReferences(this.#fresh), TRANSACTION_US);
      this.#fresh.clear();
      if (!isEmpty(plan)) return plan;
    }
    this.#fresh.clear();
    return this.#planOf(this.#todo, TRANSACTION_US);
  }

  #planOf(units: Iterable<Unit>, mostUs: number): Plan {
    return this.#planner.plan(units, mostUs, this.#landing.replaces, (unit) => this.#todo.delete(unit));
  }

  #withReferences(units: Iterable<Unit>): Iterable<Unit> {
    const all = new Set(units);
    for (const unit of all)
      for (const referred of this.#state.referredBy(unit.id)) if (this.#todo.has(referred)) all.add(referred);
    return inOrderOfRank(all);
  }

  #needsRebuild(): boolean {
    const suspects = [...this.#suspects];
    this.#suspects.clear();
    return suspects.some((unit) =>
      [...this.#state.pendingOf(unit.id)].some((id) => {
        const [want, have] = [this.#state.want.get(id), this.#state.have.get(id)];
        return want !== undefined && have !== undefined && needsRebuild(want, have);
      }),
    );
  }

  /** A table that an earlier process left becomes ours before anything in it changes: the kernel refuses base chains in the same transaction. */
  #adopting(): Plan | undefined {
    const have = this.#state.have.get(TABLE_ROW);
    const unit = this.#state.ownerOf(TABLE_ROW);
    if (have === undefined || unit === undefined || !this.#state.isPending(TABLE_ROW)) return undefined;
    const row = plannedRow({ id: TABLE_ROW, unit, want: this.#state.want.get(TABLE_ROW), have });
    return { units: [unit], rows: [row], elements: [], replaces: false };
  }

  /** Replaces the table in one transaction: packets see the old table or the new one. */
  #startAnew(): Plan {
    forgetTable(this.#reading);
    for (const unit of this.#state.units) this.#todo.add(unit);
    return this.#planOf(this.#todo, Infinity);
  }

  #settle(): void {
    for (const id of this.#refusals.settle()) {
      const unit = this.#state.unit(id);
      if (unit !== undefined) this.#todo.add(unit);
    }
  }

  /** The kernel would say no more than EPERM. */
  #refuseForeignOwner(): void {
    const table = this.#state.have.get(TABLE_ROW);
    if (table?.type !== "table" || typeof table.owner !== "number") return;
    const owner = `another process owns the table, by its netlink socket of port id ${table.owner} (as a rule its process id): only that process can change it, until it ends`;
    throw new KernelError("change", `table ${TABLE.family} ${TABLE.name}`, EPERM, owner);
  }

  close(): void {
    this.#client.close();
  }
}
