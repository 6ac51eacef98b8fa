/**
 * Loop: the only scheduler of kernel writes. Nothing is written before the datastore is in sync; then everything is read and made equal
 * once; afterwards deltas only. A change that is small is in the kernel when `step` returns; what takes longer is done in steps of a few
 * milliseconds, between which the thread is given back.
 *
 * A row that the kernel refuses concerns that row alone (`Driver.failures`). What fails as a whole makes its driver stale: it is read
 * again and retried with backoff, while the others go on. What somebody else changes of ours is repaired as soon as the kernel tells of
 * it. A full look at everything comes rarely, in case something was not told. Nothing polls: timers stand for what is due.
 */
import type { Report } from "../lib/report.ts";
import type { Clock } from "../host/clock.ts";
import type { Watcher } from "../host/watcher.ts";
import { KernelError } from "../kernel/errno.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";
import type { Driver, RowStatus, Steps, Touched } from "./driver.ts";
import { isBusy, newState, type State } from "./loop-state.ts";
import { merged, type ReadRequest } from "./read-request.ts";

export interface LoopOptions {
  readonly drivers: readonly Driver[];
  readonly clock: Clock;
  readonly watcher: Watcher;
  /** Time between two full looks of one driver. */
  readonly auditIntervalMs: number;
  readonly report: Report;
  /** Hears of each row when the kernel begins to refuse it, or refuses it for another reason than before. */
  readonly refused?: (row: RowStatus) => void;
  /** Called after each turn of the loop that leaves `isWritten`. */
  readonly written?: () => void;
}

export interface DriverStatus {
  readonly name: string;
  readonly pending: number;
  readonly writes: number;
  /** Of the driver as a whole. */
  readonly error: string | undefined;
  readonly rows: readonly RowStatus[];
}

/** Of the thread at a time. */
const SLICE_MS = 5;
/** What changed last, and what others changed, may hold the thread longer: whoever asked for it waits, or packets pass that must not. */
const URGENT_MS = 50;
/** The longest that repairs of what others have changed hold the thread. */
const REPAIR_MOST_MS = 1_000;

export class Loop {
  readonly #states: State[];
  readonly #clock: Clock;
  readonly #options: LoopOptions;
  #started = false;
  /** `start` does what is to be done, so that `run` need not. */
  #isStarting = false;
  #wake = new AbortController();
  /** Commits that changed something, and rows repaired that others had changed, since start. */
  commits = 0;
  repairs = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#states = options.drivers.map((driver) => newState(driver, options));
  }

  /** Takes the change in; after `start` it is in the kernel on return, unless it is refused, large, or the driver is being read anew. */
  step(program: Program, delta: ProgramDelta): void {
    for (const state of this.#states) {
      state.driver.lower(program, delta);
      if (!this.#started) continue;
      if (state.isKnown) this.#writeFresh(state);
      else this.#pump(state, SLICE_MS);
    }
    if (this.#started) this.#kick();
  }

  /** The datastore is in sync: adopt what the kernel has, then make it agree. Resolves when each driver has done so, or has failed to. */
  async start(): Promise<void> {
    if (this.#started) return;
    this.#started = true;
    this.#isStarting = true;
    for (const state of this.#states) this.#resync(state);
    for (;;) {
      await this.#pumpAll();
      if (this.#states.every((state) => !isBusy(state))) break;
      await this.#untilAnyGoesOn();
    }
    this.#isStarting = false;
    this.#kick();
  }

  /** True when everything of this endpoint is in the kernel, whatever else is pending. */
  isProgrammed(endpoint: EndpointId, program: Program): boolean {
    return (
      this.#started &&
      program.endpoints.has(endpoint) &&
      this.#states.every(({ driver, isKnown }) => isKnown && driver.isProgrammed(endpoint))
    );
  }

  /**
   * Works until the endpoint is programmed, or until it is known why it is not, for about so long; then true or false. A change that is too
   * large for one turn (an endpoint with many large sets) takes a few.
   */
  async settle(endpoint: EndpointId, program: Program, mostMs: number): Promise<boolean> {
    const end = this.#clock.monotonicMs() + mostMs;
    for (;;) {
      if (this.isProgrammed(endpoint, program)) return true;
      const isUnderWay = this.#states.some((state) => isBusy(state) && state.driver.explain(endpoint) === undefined);
      if (!isUnderWay || this.#clock.monotonicMs() >= end) return false;
      await this.#untilAnyGoesOn();
      for (const state of this.#states) if (isBusy(state)) this.#pump(state, SLICE_MS);
    }
  }

  /** At once, unless all that are busy wait for something. */
  async #untilAnyGoesOn(): Promise<void> {
    const waiting = this.#states.filter(isBusy).map((state) => state.waiting);
    await Promise.race(waiting.map((promise) => promise ?? this.#clock.sleep(0)));
  }

  /** True when all that was stepped in is in the kernel, but for rows that it refuses, which are closed. */
  get isWritten(): boolean {
    return this.#started && this.#states.every((state) => state.isKnown && !isBusy(state) && !state.driver.isFresh);
  }

  /** Why an endpoint of the program is not programmed, in words. */
  explain(endpoint: EndpointId): string {
    const reasons = this.#states.flatMap(({ driver, retry, isKnown }) => {
      if (isKnown && driver.isProgrammed(endpoint)) return [];
      const why = retry.error ?? driver.explain(endpoint) ?? `${driver.pending} rows are still to be written`;
      return [`${driver.name}: ${why}`];
    });
    return reasons.join("; ");
  }

  /** Drivers that fail as a whole at present, each with its error. */
  get failing(): readonly string[] {
    return this.#states.flatMap(({ driver, retry }) =>
      retry.error === undefined ? [] : [`${driver.name}: ${retry.error}`],
    );
  }

  status(): readonly DriverStatus[] {
    return this.#states.map(({ driver, retry }) => ({
      name: driver.name,
      pending: driver.pending,
      writes: driver.writes,
      error: retry.error,
      rows: driver.failures,
    }));
  }

  /** Goes on with what is under way, retries and looks, each when it is due, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#wake.abort();
    signal.addEventListener("abort", stop);
    while (!signal.aborted) {
      this.#wake = new AbortController();
      if (this.#started && !this.#isStarting) await this.#pumpAll();
      if (this.isWritten) this.#options.written?.();
      const waitMs = Math.min(...this.#states.map((state) => this.#dueMs(state))) - this.#clock.monotonicMs();
      // Timers hold 31 bits.
      await this.#clock.sleep(Math.max(0, Math.min(waitMs, 2 ** 31 - 1)), this.#wake.signal);
    }
    signal.removeEventListener("abort", stop);
    for (const state of this.#states) state.watch?.close();
  }

  /** When there is next something to do. */
  #dueMs(state: State): number {
    if (!this.#started || this.#isStarting || state.waiting !== undefined) return Infinity;
    if (isBusy(state)) return 0;
    const { request, retry, driver } = state;
    if (retry.atMs !== undefined) return retry.atMs;
    const own = state.isKnown ? (driver.dueMs ?? Infinity) : Infinity;
    return Math.min(request?.atMs ?? Infinity, own, this.#nextAuditMs(state));
  }

  #nextAuditMs({ driver, lastAuditMs }: State): number {
    return lastAuditMs + Math.min(this.#options.auditIntervalMs, driver.auditMs ?? Infinity);
  }

  #kick(): void {
    this.#wake.abort();
  }

  /** What changed last, beside whatever else is under way. */
  #writeFresh(state: State): void {
    if (state.driver.isSerial === true && isBusy(state)) {
      state.again = true;
      return;
    }
    const begin = this.#clock.monotonicMs();
    const steps = state.driver.committing();
    const goesOn = (): boolean => this.#clock.monotonicMs() - begin < (state.driver.isFresh ? URGENT_MS : SLICE_MS);
    const isDone = this.#write(state, steps, goesOn);
    if (!isDone) state.writing ??= steps;
    state.refused.tell(state.driver.failures);
  }

  /** One driver after the other; the thread is given back after each that had much to do. */
  async #pumpAll(): Promise<void> {
    for (const state of this.#states) {
      const begin = this.#clock.monotonicMs();
      this.#pump(state, SLICE_MS);
      if (this.#clock.monotonicMs() - begin >= SLICE_MS) await this.#clock.sleep(0);
    }
  }

  /** Does what is under way and what is due, for about so long, or much longer while it is urgent. */
  #pump(state: State, mostMs: number, isUrgent: () => boolean = () => false): void {
    if (state.waiting !== undefined) return;
    const begin = this.#clock.monotonicMs();
    const goesOn = (): boolean => {
      const tookMs = this.#clock.monotonicMs() - begin;
      return tookMs < mostMs || (tookMs < REPAIR_MOST_MS && isUrgent());
    };
    const isOthersDoing = state.reading?.isOthersDoing === true || state.request !== undefined;
    do {
      const now = this.#clock.monotonicMs();
      if (state.writing !== undefined) {
        if (!this.#write(state, state.writing, goesOn)) break;
      } else if (state.reading !== undefined) {
        if (!this.#readOn(state, goesOn)) break;
      } else if (!this.#beginDue(state, now)) break;
    } while (goesOn());
    if (isOthersDoing) state.allowance.charge(begin, this.#clock.monotonicMs());
    state.refused.tell(state.driver.failures);
  }

  /** False when nothing is due. */
  #beginDue(state: State, now: number): boolean {
    const { request, driver } = state;
    const { again } = state;
    state.again = false;
    if (state.retry.error !== undefined) {
      if (!state.retry.isDue) return false;
      this.#resync(state);
    } else if (request !== undefined && request.atMs <= now) {
      state.request = undefined;
      this.#beginReading(state, request);
    } else if (state.isKnown && (again || (driver.dueMs ?? Infinity) <= now)) {
      state.writing = driver.committing();
    } else if (now >= this.#nextAuditMs(state))
      this.#beginReading(state, { atMs: now, only: undefined, by: undefined });
    else return false;
    return true;
  }

  /** Everything is read, then written. */
  #resync(state: State): void {
    state.isKnown = false;
    state.writing = undefined;
    state.request = undefined;
    this.#beginReading(state, { atMs: 0, only: undefined, by: undefined });
  }

  /** Listens before it reads, so that no change falls between. */
  #beginReading(state: State, { only, by }: ReadRequest): void {
    try {
      state.watch ??= state.driver.watch?.(this.#options.watcher, {
        changed: (who, touched) => this.#disturbed(state, who, touched),
        lost: (cause) => {
          state.watch = undefined;
          this.#options.report("changes of the kernel may have been missed: reading again", {
            driver: state.driver.name,
            cause,
          });
          this.#disturbed(state, undefined, undefined);
        },
      });
    } catch (error) {
      return this.#failed(state, error);
    }
    if (only === undefined) state.lastAuditMs = this.#clock.monotonicMs();
    state.reading = {
      steps: state.driver.reading(only),
      by,
      pendingBefore: state.driver.pending,
      isOthersDoing: state.isKnown && (by !== undefined || only !== undefined),
    };
  }

  /** True when it is over. */
  #readOn(state: State, goesOn: () => boolean): boolean {
    const { reading } = state;
    if (reading === undefined) return true;
    const outcome = this.#advance(state, reading.steps, goesOn);
    if (outcome !== "done") return outcome === "failed";
    state.reading = undefined;
    const rows = state.driver.pending - reading.pendingBefore;
    if (state.isKnown && rows > 0) {
      this.repairs += rows;
      const changedBy = reading.by === undefined ? {} : { changedBy: reading.by };
      this.#options.report("kernel differs from the program: repairing", {
        driver: state.driver.name,
        rows,
        ...changedBy,
      });
    }
    state.isKnown = true;
    state.writing = state.driver.committing();
    return true;
  }

  /** True when it is over. */
  #write(state: State, steps: Steps, goesOn: () => boolean): boolean {
    const before = state.driver.writes;
    const outcome = this.#advance(state, steps, goesOn);
    if (state.driver.writes > before) this.commits++;
    if (outcome !== "done") return outcome === "failed";
    if (state.writing === steps) state.writing = undefined;
    if (state.retry.succeeded()) this.#options.report("kernel agrees again", { driver: state.driver.name });
    return true;
  }

  #advance(state: State, steps: Steps, goesOn: () => boolean): "done" | "more" | "failed" {
    state.isAdvancing = true;
    try {
      do {
        const step = steps.next();
        if (step.done === true) return "done";
        if (step.value !== undefined) {
          this.#wait(state, step.value);
          return "more";
        }
      } while (goesOn());
      return "more";
    } catch (error) {
      this.#failed(state, error);
      return "failed";
    } finally {
      state.isAdvancing = false;
    }
  }

  #wait(state: State, promise: Promise<void>): void {
    const waiting = promise.then(() => {
      if (state.waiting === waiting) state.waiting = undefined;
      this.#kick();
    });
    state.waiting = waiting;
  }

  /**
   * Somebody else changed, or may have changed, what is ours: repaired before this returns, unless that happens too often or takes long, or is told
   * by a step of the driver itself: then after it.
   */
  #disturbed(state: State, by: string | undefined, touched: Touched | undefined): void {
    const now = this.#clock.monotonicMs();
    const atMs = now + state.allowance.waitMs(now);
    const { request } = state;
    state.request = request === undefined ? { atMs, by, only: touched } : merged(request, { atMs, by, only: touched });
    if (state.isAdvancing) return this.#kick();
    // Who disturbs is a reason to try at once what failed before.
    if (state.retry.error !== undefined && atMs <= now) this.#resync(state);
    const { writes } = state.driver;
    this.#pump(state, URGENT_MS, () => state.driver.writes === writes);
    this.#kick();
  }

  #failed(state: State, error: unknown): void {
    if (!(error instanceof KernelError)) throw error;
    const isNews = state.retry.failed(error.message);
    // What we know of the kernel is not to be trusted: it is read first.
    state.isKnown = false;
    state.reading = undefined;
    state.writing = undefined;
    if (isNews)
      this.#options.report("kernel cannot be read or written: will read again and retry", {
        driver: state.driver.name,
        error: error.message,
      });
  }
}
