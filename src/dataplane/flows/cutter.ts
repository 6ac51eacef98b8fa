/**
 * Cutter: ends established flows that policy denies now, and no others.
 *
 * Policy is evaluated for the first packet of a flow, so a flow that a change denies would go on. After such a change is in the kernel
 * (before, the flow's next packet would be accepted again), the table of connections is read once and each denied entry deleted: the next
 * packet is then the first. Changes that can only allow more are passed over. A pass covers every change before it; the thread is given
 * back every few milliseconds, and all passes together take at most a fiftieth of it. The first pass comes at start, for what
 * changed while no daemon ran.
 */
import type { Clock } from "../../host/clock.ts";
import type { Sys } from "../../host/sys.ts";
import { EBUSY, KernelError } from "../../kernel/errno.ts";
import type { Report } from "../../lib/report.ts";
import { Retry } from "../../lib/retry.ts";
import type { Program, ProgramDelta } from "../../program/program.ts";
import { ConntrackFlows } from "./conntrack-flows.ts";
import { Narrowing } from "./narrowing.ts";
import type { FlowPass, FlowSource, Judged } from "./source.ts";

export interface CutterOptions {
  readonly sys: Sys;
  /** Where the flows are now; undefined: in the kernel's table of connections. */
  readonly flows?: () => FlowSource | undefined;
  /** Takes all flows out of the kernel's flowtable, which gets none until it is called with false. Throws KernelError. */
  readonly suspendOffload?: (isSuspended: boolean) => void;
  readonly clock: Clock;
  /** True when the kernel has what the program says, but for what it refuses, which is closed. */
  readonly isWritten: () => boolean;
  readonly report: Report;
}

export interface CutterStatus {
  /** Since start. */
  readonly passes: number;
  readonly cut: number;
  /** Thread time of all passes, and of the last. */
  readonly spentMs: number;
  readonly lastMs: number;
  /** Of the last pass, if it failed: flows that are denied may go on. */
  readonly error: string | undefined;
}

const RETRY = { baseMs: 100, maxMs: 30_000 };
/** Of the thread at a time; and reads of some 100 flows at a time, however short they took. */
const SLICE_MS = 4;
const SLICE_READS = 16;
/** Of the thread, for all passes. One takes some 10 ms at least, most of it the kernel's, which walks an empty table too. */
const SHARE = 0.02;
/** When to look again at flows that the kernel has kept, and for how long, before that is a failure. */
const HELD = { againMs: 20, mostMs: 5_000 };
/** Timers hold 31 bits. */
const LONGEST_MS = 2 ** 31 - 1;

export class FlowCutter {
  readonly #options: CutterOptions;
  readonly #clock: Clock;
  readonly #narrowing = new Narrowing();
  readonly #tracked: FlowSource;
  readonly #retry: Retry;
  #program: Program | undefined;
  #version = 0;
  /** Something may be denied that no pass that began has covered. */
  #isWanted = true;
  /** A pass waits until the kernel has what changed meanwhile. */
  #isHalted = false;
  #notBeforeMs = 0;
  /** The pass has met flows that the kernel keeps while they are in a flowtable. */
  #isHeld = false;
  /** Since when nothing enters the flowtable, so that they can be cut. */
  #suspendedMs: number | undefined;
  #wake = new AbortController();
  #passes = 0;
  #cut = 0;
  #spentMs = 0;
  #lastMs = 0;

  constructor(options: CutterOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#tracked = new ConntrackFlows(options.sys);
    this.#retry = new Retry(RETRY, options.clock);
  }

  get #flows(): FlowSource {
    return this.#options.flows?.() ?? this.#tracked;
  }

  get status(): CutterStatus {
    return {
      passes: this.#passes,
      cut: this.#cut,
      spentMs: this.#spentMs,
      lastMs: this.#lastMs,
      error: this.#retry.error,
    };
  }

  /** A change that is on its way to the kernel; `program` is the state after it. */
  changed(program: Program, delta: ProgramDelta): void {
    this.#program = program;
    this.#version++;
    if (this.#narrowing.take(delta)) this.#isWanted = true;
    this.written();
  }

  /** The kernel may have what the program says. */
  written(): void {
    if (this.#isWanted || this.#isHalted) this.#wake.abort();
  }

  /** From when everything is known, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#wake.abort();
    signal.addEventListener("abort", stop);
    while (!signal.aborted) {
      this.#resumeOffload();
      const [answersMs, passMs] = [this.#flows.dueMs - this.#clock.monotonicMs(), this.#waitMs()];
      if (answersMs <= 0) this.#cutAnswers();
      else if (passMs <= 0) await this.#tryPass(signal);
      else await this.#sleep(Math.min(answersMs, passMs));
    }
    signal.removeEventListener("abort", stop);
  }

  #waitMs(): number {
    if (!this.#isWanted || this.#program === undefined || !this.#options.isWritten()) return LONGEST_MS;
    return Math.max(this.#notBeforeMs, this.#retry.atMs ?? 0) - this.#clock.monotonicMs();
  }

  async #sleep(ms: number): Promise<void> {
    this.#wake = new AbortController();
    await this.#clock.sleep(Math.min(ms, LONGEST_MS), this.#wake.signal);
  }

  async #tryPass(signal: AbortSignal): Promise<void> {
    // What changes from now on is another pass's.
    this.#isWanted = false;
    this.#lastMs = 0;
    this.#isHeld = false;
    const cutBefore = this.#cut;
    try {
      await this.#pass(signal);
      if (this.#isHeld) this.#suspendOffload();
      else if (this.#retry.succeeded()) this.#options.report("established flows that are denied are cut again", {});
    } catch (error) {
      this.#failed(error);
    }
    const flows = this.#cut - cutBefore;
    if (flows > 0) this.#options.report("established flows that policy denies now are cut", { flows });
    this.#passes++;
    const pauseMs = this.#isHeld ? HELD.againMs : this.#lastMs * (1 / SHARE - 1);
    this.#notBeforeMs = this.#clock.monotonicMs() + pauseMs;
  }

  /** The next pass finds what the kernel has kept outside the flowtable. */
  #suspendOffload(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - (this.#suspendedMs ?? nowMs) > HELD.mostMs) {
      this.#suspendedMs = undefined;
      throw new KernelError("delete connections of", "this node", EBUSY, "they are in a flowtable that is not ours");
    }
    this.#isWanted = true;
    if (this.#suspendedMs !== undefined || !this.#options.isWritten()) return;
    this.#options.suspendOffload?.(true);
    this.#suspendedMs = nowMs;
  }

  /** Once all that is denied is cut, and what answers it. */
  #resumeOffload(): void {
    if (this.#suspendedMs === undefined || this.#isWanted || this.#flows.dueMs < Infinity) return;
    this.#suspendedMs = undefined;
    try {
      this.#options.suspendOffload?.(false);
    } catch (error) {
      this.#failed(error);
    }
  }

  #cutAnswers(): void {
    try {
      this.#flows.cutAnswers(this.#clock.monotonicMs());
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof KernelError)) throw error;
    this.#isWanted = true;
    if (this.#retry.failed(error.message))
      this.#options.report("cannot cut the established flows that policy denies now: will retry", {
        error: error.message,
      });
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const begin = this.#clock.monotonicMs();
    if (this.#program === undefined || !this.#flows.hasFlows()) return;
    const pass = this.#flows.open(this.#program);
    try {
      this.#spend(begin);
      await this.#clock.sleep(0);
      await this.#readThrough(pass, signal);
    } finally {
      pass.close();
    }
  }

  async #readThrough(pass: FlowPass, signal: AbortSignal): Promise<void> {
    for (let isDone = false; !isDone && !signal.aborted;) {
      // A flow that the kernel does not deny yet would come back.
      this.#isHalted = true;
      while (!this.#options.isWritten() && !signal.aborted) await this.#sleep(LONGEST_MS);
      this.#isHalted = false;
      const begin = this.#clock.monotonicMs();
      const judged = this.#judged;
      for (let reads = 0; judged !== undefined && !isDone && reads < SLICE_READS; reads++) {
        isDone = pass.read(judged);
        if (this.#clock.monotonicMs() - begin >= SLICE_MS) break;
      }
      this.#cut += pass.cut(this.#clock.monotonicMs());
      this.#isHeld ||= pass.isHeld === true;
      this.#spend(begin);
      if (!isDone) await this.#clock.sleep(0);
    }
  }

  get #judged(): Judged | undefined {
    if (this.#program === undefined) return undefined;
    const { looksAtSourcePorts } = this.#narrowing;
    return { program: this.#program, looksAtSourcePorts, version: this.#version };
  }

  #spend(begin: number): void {
    const tookMs = this.#clock.monotonicMs() - begin;
    this.#lastMs += tookMs;
    this.#spentMs += tookMs;
  }
}
