/**
 * ChosenDriver: the backend that the settings choose, and the change from one to another on a live node: the new one is complete before the old
 * one is taken out, so that in between both judge every packet. What another backend has left (an earlier process, or upstream's daemon) goes once
 * the chosen one is complete. One that cannot run here is said, and another stands in for it.
 */
import type { Clock } from "../host/clock.ts";
import type { Processes } from "../host/processes.ts";
import type { Watch, Watcher } from "../host/watcher.ts";
import { ENOENT, EPROTO, KernelError } from "../kernel/errno.ts";
import type { Report } from "../lib/report.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import type { DataplaneChoice, EndpointId, Program, ProgramDelta } from "../program/program.ts";
import { type Backend, backendFor, type RemovableDriver } from "./backends.ts";
import type { Counters } from "./counters.ts";
import type { Denied } from "./denied.ts";
import type { FlowSource } from "./flows/source.ts";
import {
  awaiting,
  type Driver,
  type DriverEvents,
  type PlannedChange,
  type RowStatus,
  type Steps,
  type Touched,
} from "./driver.ts";

export interface ChosenOptions {
  /** In the order in which one stands in for another. */
  readonly backends: readonly Backend[];
  /** Takes out what upstream's daemon left and no backend of ours knows. Throws KernelError. */
  readonly removeForeign: () => void;
  readonly processes: Processes;
  readonly clock: Pick<Clock, "wallMs" | "sleep">;
  readonly report: Report;
}

interface Current {
  readonly backend: Backend;
  readonly driver: RemovableDriver;
}

export class ChosenDriver implements Driver {
  readonly #options: ChosenOptions;
  #program: Program | undefined;
  /** For which choice `current` was picked. */
  #choice: DataplaneChoice | undefined;
  #current: Current | undefined;
  /** Until it is known what can run. */
  #likely: Current | undefined;
  /** Being completed, to take its place. */
  #next: Current | undefined;
  #watching: { readonly watcher: Watcher; readonly events: DriverEvents; watch: Watch | undefined } | undefined;
  /** Backends of which it is not known that they have nothing in the kernel, and that are to be looked at. */
  #unclean: readonly Backend[];
  /** Those that could not be looked at, or taken out. */
  #unclearable: readonly Backend[] = [];
  #faults: readonly RowStatus[] = [];
  /** The last change of the dataplane failed. */
  #hasFailed = false;
  /** Of drivers that are closed. */
  #writesBefore = 0;

  constructor(options: ChosenOptions) {
    this.#options = options;
    this.#unclean = options.backends;
  }

  get name(): string {
    return this.#current?.backend.name ?? "policy";
  }

  get isFresh(): boolean {
    return this.#current?.driver.isFresh ?? false;
  }

  get auditMs(): number | undefined {
    return this.#current?.driver.auditMs;
  }

  get isSerial(): boolean {
    return this.#current?.driver.isSerial === true || this.#isChanging;
  }

  get #isChanging(): boolean {
    return this.#program !== undefined && this.#program.settings.dataplane !== this.#choice;
  }

  lower(program: Program, delta: ProgramDelta): void {
    // Before the first look the program comes in parts, for which the thread need not be held.
    if (this.#program === undefined) this.#likely = this.#openLikely(program.settings.dataplane);
    this.#program = program;
    for (const each of [this.#current, this.#next, this.#likely]) each?.driver.lower(program, delta);
  }

  /** What will be picked, unless it cannot run here. */
  #openLikely(choice: DataplaneChoice): Current | undefined {
    const backend = this.#options.backends.find(({ name }) => name === choice);
    try {
      return backend && { backend, driver: backend.open() };
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    }
  }

  *reading(only?: Touched): Steps {
    if (this.#current === undefined) {
      const { backend, choice } = yield* this.#pick();
      const likely = this.#likely;
      this.#likely = undefined;
      if (likely?.backend !== backend) likely?.driver.close();
      this.#current = likely?.backend === backend ? likely : this.#open(backend);
      this.#choice = choice;
      this.#watchCurrent();
    }
    if (only === undefined) {
      this.#unclean = [...this.#unclean, ...this.#unclearable];
      this.#unclearable = [];
      if (this.#hasFailed) this.#choice = undefined;
      this.#hasFailed = false;
    }
    yield* this.#current.driver.reading(only);
  }

  *committing(): Steps {
    // The settings may change again meanwhile.
    while (this.#isChanging) yield* this.#tryChange();
    yield* this.#current?.driver.committing() ?? [];
    if (this.#unclean.length > 0) yield* this.#clean();
  }

  #open(backend: Backend): Current {
    const driver = backend.open();
    const program = this.#program;
    if (program !== undefined) {
      const { settings: _, ...tables } = program;
      driver.lower(program, { ...tables, members: new Map() });
    }
    return { backend, driver };
  }

  /** The backend for what the settings say now; one that cannot run is a fault that is told. Throws KernelError when none can. */
  *#pick(): Generator<Promise<void> | undefined, { readonly backend: Backend; readonly choice: DataplaneChoice }> {
    const choice = this.#program?.settings.dataplane ?? "nftables";
    const wanted = yield* awaiting(backendFor(choice, this.#options.processes, this.#options.clock));
    const { backends } = this.#options;
    const candidates = [...backends].sort((a, b) => Number(b.name === wanted) - Number(a.name === wanted));
    const faults: RowStatus[] = [];
    for (const backend of candidates) {
      const why = yield* awaiting(backend.probe());
      if (why === undefined) {
        this.#tellFaults(faults, backend);
        return { backend, choice };
      }
      faults.push(this.#fault(`dataplane ${backend.name}`, why));
    }
    const [first] = faults;
    throw new KernelError("program policy by", candidates.map(({ name }) => name).join(", "), EPROTO, first?.error);
  }

  #fault(row: string, error: string): RowStatus {
    const since = formatTimestamp(this.#options.clock.wallMs());
    return { row, object: undefined, state: "failed", error, errno: undefined, since, attempts: 1 };
  }

  #tellFaults(faults: readonly RowStatus[], instead: Backend): void {
    this.#faults = faults;
    for (const { row, error } of faults)
      this.#options.report("a dataplane cannot run on this node: another stands in for it", {
        wanted: row,
        error,
        instead: instead.name,
      });
  }

  /** One that fails leaves the node with what it has, which goes on, until the next look at everything. */
  *#tryChange(): Steps {
    const choice = this.#program?.settings.dataplane;
    try {
      yield* this.#change();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#options.report("cannot change the dataplane: the node goes on with the one it has", {
        wanted: choice,
        error: error.message,
      });
      this.#faults = [this.#fault(`dataplane ${choice}`, error.message)];
      this.#choice = choice;
      this.#hasFailed = true;
    }
  }

  *#change(): Steps {
    const { backend, choice } = yield* this.#pick();
    const before = this.#current;
    if (before?.backend !== backend) {
      this.#options.report("changing the dataplane", { from: before?.backend.name, to: backend.name });
      const next = this.#open(backend);
      this.#next = next;
      try {
        yield* next.driver.reading();
        yield* next.driver.committing();
      } catch (error) {
        this.#next = undefined;
        yield* this.#remove(next);
        throw error;
      }
      this.#watching?.watch?.close();
      this.#next = undefined;
      this.#current = next;
      this.#watchCurrent();
      if (before !== undefined) yield* this.#remove(before);
      this.#options.report("the dataplane is changed", { to: backend.name });
    }
    this.#choice = choice;
  }

  *#remove({ backend, driver }: Current): Steps {
    try {
      yield* driver.removing(this.#keepsSets);
      if (backend.sweep !== undefined) yield* awaiting(backend.sweep(false));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      // A program that is not there has left nothing that it could take out.
      if (error.errno === ENOENT) return;
      this.#unclearable = [...this.#unclearable, backend];
      this.#options.report("cannot take out what another dataplane has left: it goes on judging packets too", {
        dataplane: backend.name,
        error: error.message,
      });
    } finally {
      this.#writesBefore += driver.writes;
      driver.close();
    }
  }

  /** Both variants of iptables name the same sets. */
  get #keepsSets(): boolean {
    return this.#current?.backend.name.startsWith("iptables") === true;
  }

  /** Takes out what others have left, once; again with a look at everything where that failed. */
  *#clean(): Steps {
    const unclean = this.#unclean;
    this.#unclean = [];
    try {
      this.#options.removeForeign();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#options.report("cannot take out the tables of another daemon: they go on judging packets too", {
        error: error.message,
      });
    }
    for (const backend of unclean)
      if (backend !== this.#current?.backend) yield* this.#remove({ backend, driver: backend.open() });
      else yield* this.#sweep(backend);
  }

  /** What other versions of the backend that runs have left. */
  *#sweep(backend: Backend): Steps {
    try {
      if (backend.sweep !== undefined) yield* awaiting(backend.sweep(true));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#unclearable = [...this.#unclearable, backend];
      this.#options.report("cannot take out what another version of this dataplane has left", {
        dataplane: backend.name,
        error: error.message,
      });
    }
  }

  /** Closes a workload's interface that has just been made to all but policy, before it is up. Throws KernelError. */
  guard(index: number, name: string): void {
    for (const each of [this.#current, this.#next]) each?.driver.guard?.(index, name);
  }

  watch(watcher: Watcher, events: DriverEvents): Watch {
    this.#watching = { watcher, events, watch: undefined };
    this.#watchCurrent();
    return {
      close: () => {
        this.#watching?.watch?.close();
        this.#watching = undefined;
      },
    };
  }

  #watchCurrent(): void {
    const watching = this.#watching;
    if (watching !== undefined) watching.watch = this.#current?.driver.watch?.(watching.watcher, watching.events);
  }

  /** undefined: the kernel's table of connections has the flows. */
  get flows(): FlowSource | undefined {
    return this.#current?.driver.flows;
  }

  /** Takes all flows out of the flowtable, if there is one, and lets none in until it is called with false. Throws KernelError. */
  suspendOffload(isSuspended: boolean): void {
    this.#current?.driver.suspendOffload?.(isSuspended);
  }

  plan(): readonly PlannedChange[] {
    return this.#current?.driver.plan() ?? [];
  }

  isProgrammed(endpoint: EndpointId): boolean {
    return this.#current?.driver.isProgrammed(endpoint) ?? false;
  }

  explain(endpoint: EndpointId): string | undefined {
    return this.#current?.driver.explain(endpoint);
  }

  /** Rejects with KernelError. */
  counters(program: Program): Promise<Counters> {
    return this.#current?.backend.counters(program) ?? Promise.resolve({ rules: [], ends: [] });
  }

  /** Throws KernelError. */
  get denied(): Denied {
    return { dataplane: this.name, ...this.#current?.driver.denied };
  }

  get pending(): number {
    return this.#current?.driver.pending ?? 0;
  }

  get failures(): readonly RowStatus[] {
    return [...this.#faults, ...(this.#current?.driver.failures ?? [])];
  }

  get dueMs(): number | undefined {
    return this.#current?.driver.dueMs;
  }

  get writes(): number {
    return this.#writesBefore + (this.#current?.driver.writes ?? 0) + (this.#next?.driver.writes ?? 0);
  }

  close(): void {
    for (const each of [this.#current, this.#next, this.#likely]) each?.driver.close();
  }
}
