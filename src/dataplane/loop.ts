/**
 * Loop: the only scheduler of kernel writes. Nothing is written before the datastore is in sync; then everything is read and
 * made equal once; afterwards deltas only. A failure makes that driver stale: it is read again and retried with backoff while
 * the others go on. What somebody else changes of ours is repaired as soon as the kernel tells of it; an audit, which re-reads one
 * driver at a time, repairs what was not told.
 */
import type { Clock } from "../host/clock.ts";
import type { Watch, Watcher } from "../host/watcher.ts";
import { KernelError } from "../kernel/errno.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";
import type { Driver } from "./driver.ts";

export interface LoopOptions {
  readonly drivers: readonly Driver[];
  readonly clock: Clock;
  readonly watcher: Watcher;
  /** Time between two audits of one driver. */
  readonly auditIntervalMs: number;
  readonly report: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

interface State {
  readonly driver: Driver;
  failures: number;
  error: string | undefined;
  nextAuditMs: number;
  nextRetryMs: number;
  watch: Watch | undefined;
  /** Thread time that repairs of others' changes took lately, as of `spentAtMs`; it is forgiven by and by. */
  spentMs: number;
  spentAtMs: number;
}

export interface DriverStatus {
  readonly name: string;
  readonly pending: number;
  readonly writes: number;
  readonly error: string | undefined;
}

const RETRY_FIRST_MS = 50;
const RETRY_MOST_MS = 5_000;
/** Somebody who goes on changing what is ours costs at most this much of the thread at once, and then a tenth of it. */
const SPEND_MOST_MS = 1_000;
const SPEND_SHARE = 0.1;

export class Loop {
  readonly #states: State[];
  readonly #clock: Clock;
  readonly #watcher: Watcher;
  readonly #auditIntervalMs: number;
  readonly #report: LoopOptions["report"];
  #started = false;
  /** Commits that changed something, and rows repaired by audits, since start. */
  commits = 0;
  repairs = 0;

  constructor(options: LoopOptions) {
    this.#clock = options.clock;
    this.#watcher = options.watcher;
    this.#auditIntervalMs = options.auditIntervalMs;
    this.#report = options.report;
    this.#states = options.drivers.map((driver) => ({
      driver,
      failures: 0,
      error: undefined,
      nextAuditMs: 0,
      nextRetryMs: 0,
      watch: undefined,
      spentMs: 0,
      spentAtMs: 0,
    }));
  }

  /** Takes the change in; after `start` it is in the kernel on return, unless a driver failed and will be retried. */
  step(program: Program, delta: ProgramDelta): void {
    for (const state of this.#states) {
      state.driver.lower(program, delta);
      if (!this.#started) continue;
      // After a refusal what we know of the kernel is not to be trusted: it is read first, and no more often than a retry.
      if (state.error === undefined) this.#commit(state);
      else if (this.#clock.monotonicMs() >= state.nextRetryMs) this.#resync(state);
    }
  }

  /** The datastore is in sync: adopt what the kernel has, then make it agree. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const state of this.#states) this.#resync(state);
  }

  /** True when everything of this endpoint is in the kernel, whatever else is pending. */
  isProgrammed(endpoint: EndpointId, program: Program): boolean {
    return (
      this.#started &&
      program.endpoints.has(endpoint) &&
      this.#states.every(({ driver }) => driver.isProgrammed(endpoint, program))
    );
  }

  status(): readonly DriverStatus[] {
    return this.#states.map(({ driver, error }) => ({
      name: driver.name,
      pending: driver.pending,
      writes: driver.writes,
      error,
    }));
  }

  /** Retries and audits until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(RETRY_FIRST_MS, signal);
      if (signal.aborted || !this.#started) continue;
      const now = this.#clock.monotonicMs();
      for (const state of this.#states) {
        const stale = state.error !== undefined || state.driver.pending > 0;
        if (stale && now >= state.nextRetryMs) this.#resync(state);
      }
      const due = this.#states.find((state) => now >= state.nextAuditMs);
      if (due !== undefined) this.#audit(due);
    }
    for (const state of this.#states) state.watch?.close();
  }

  /** Reads and repairs what differs, on the account of those who change what is ours. `by`: who is known to have done so. */
  #audit(state: State, by?: string): void {
    const begin = this.#clock.monotonicMs();
    state.spentMs = this.#spent(state, begin);
    if (state.error === undefined) this.#repair(state, by);
    else this.#resync(state);
    state.spentAtMs = this.#clock.monotonicMs();
    state.spentMs += state.spentAtMs - begin;
  }

  #spent(state: State, nowMs: number): number {
    return Math.max(0, state.spentMs - (nowMs - state.spentAtMs) * SPEND_SHARE);
  }

  #repair(state: State, by: string | undefined): void {
    if (!this.#read(state)) return;
    if (state.driver.pending > 0) {
      this.repairs += state.driver.pending;
      const changedBy = by === undefined ? {} : { changedBy: by };
      this.#report("kernel differs from the program: repairing", {
        driver: state.driver.name,
        rows: state.driver.pending,
        ...changedBy,
      });
      this.#commit(state);
    }
  }

  #resync(state: State): void {
    if (this.#read(state)) this.#commit(state);
  }

  /** Listens before it reads, so that no change falls between. False when it failed. */
  #read(state: State): boolean {
    try {
      state.watch ??= state.driver.watch?.(this.#watcher, {
        changed: (by) => this.#disturbed(state, by),
        lost: (cause) => {
          state.watch = undefined;
          this.#report("changes of the kernel may have been missed: reading again", {
            driver: state.driver.name,
            cause,
          });
          this.#disturbed(state);
        },
      });
      state.driver.read();
    } catch (error) {
      this.#failed(state, error);
      return false;
    }
    state.nextAuditMs = this.#clock.monotonicMs() + this.#auditIntervalMs;
    return true;
  }

  /** Somebody else changed, or may have changed, what is ours: repaired before this returns, unless that happens too often. */
  #disturbed(state: State, by?: string): void {
    const now = this.#clock.monotonicMs();
    const excessMs = this.#spent(state, now) - SPEND_MOST_MS;
    if (excessMs > 0) state.nextAuditMs = Math.min(state.nextAuditMs, now + excessMs / SPEND_SHARE);
    else this.#audit(state, by);
  }

  #commit(state: State): void {
    const before = state.driver.writes;
    try {
      state.driver.commit();
    } catch (error) {
      this.#failed(state, error);
      return;
    }
    if (state.driver.writes > before) this.commits++;
    if (state.error !== undefined) this.#report("kernel agrees again", { driver: state.driver.name });
    state.error = undefined;
    state.failures = 0;
    state.nextRetryMs = state.driver.pending > 0 ? this.#clock.monotonicMs() + RETRY_FIRST_MS * 10 : 0;
  }

  #failed(state: State, error: unknown): void {
    if (!(error instanceof KernelError)) throw error;
    const isNews = state.error !== error.message;
    state.failures++;
    state.error = error.message;
    const delay = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(state.failures, 10));
    state.nextRetryMs = this.#clock.monotonicMs() + delay;
    // The retry reads as well as an audit would.
    state.nextAuditMs = this.#clock.monotonicMs() + this.#auditIntervalMs;
    if (isNews)
      this.#report("kernel write failed: will read again and retry", {
        driver: state.driver.name,
        error: error.message,
        retryMs: delay,
      });
  }
}
