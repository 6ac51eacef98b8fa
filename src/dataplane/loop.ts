/**
 * Loop: the only scheduler of kernel writes. Nothing is written before the datastore is in sync; then everything is read and
 * made equal once; afterwards deltas only. A failure makes that driver stale: it is read again and retried with backoff while
 * the others go on. An audit re-reads one driver at a time and repairs drift.
 */
import type { Clock } from "../host/clock.ts";
import { KernelError } from "../kernel/errno.ts";
import type { EndpointId, Program, ProgramDelta } from "../program/program.ts";
import type { Driver } from "./driver.ts";

export interface LoopOptions {
  readonly drivers: readonly Driver[];
  readonly clock: Clock;
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
}

export interface DriverStatus {
  readonly name: string;
  readonly pending: number;
  readonly writes: number;
  readonly error: string | undefined;
}

const RETRY_FIRST_MS = 50;
const RETRY_MOST_MS = 5_000;

export class Loop {
  readonly #states: State[];
  readonly #clock: Clock;
  readonly #auditIntervalMs: number;
  readonly #report: LoopOptions["report"];
  #started = false;
  /** Commits that changed something, and rows repaired by audits, since start. */
  commits = 0;
  repairs = 0;

  constructor(options: LoopOptions) {
    this.#clock = options.clock;
    this.#auditIntervalMs = options.auditIntervalMs;
    this.#report = options.report;
    this.#states = options.drivers.map((driver) => ({ driver, failures: 0, error: undefined, nextAuditMs: 0, nextRetryMs: 0 }));
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
    return this.#started && program.endpoints.has(endpoint) && this.#states.every(({ driver }) => driver.isProgrammed(endpoint, program));
  }

  status(): readonly DriverStatus[] {
    return this.#states.map(({ driver, error }) => ({ name: driver.name, pending: driver.pending, writes: driver.writes, error }));
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
  }

  #audit(state: State): void {
    try {
      state.driver.read();
    } catch (error) {
      this.#failed(state, error);
      return;
    }
    if (state.driver.pending > 0) {
      this.repairs += state.driver.pending;
      this.#report("kernel differs from the program: repairing", { driver: state.driver.name, rows: state.driver.pending });
      this.#commit(state);
    }
    state.nextAuditMs = this.#clock.monotonicMs() + this.#auditIntervalMs;
  }

  #resync(state: State): void {
    try {
      state.driver.read();
    } catch (error) {
      this.#failed(state, error);
      return;
    }
    this.#commit(state);
    state.nextAuditMs = this.#clock.monotonicMs() + this.#auditIntervalMs;
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
    state.failures++;
    state.error = error.message;
    const delay = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(state.failures, 10));
    state.nextRetryMs = this.#clock.monotonicMs() + delay;
    this.#report("kernel write failed: will read again and retry", { driver: state.driver.name, error: error.message, retryMs: delay });
  }
}
