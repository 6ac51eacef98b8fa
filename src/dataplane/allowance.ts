/** Allowance: how much of the thread those may cost who go on changing what is ours: this much at once, and then a tenth of it. */
const MOST_MS = 1_000;
const SHARE = 0.1;

export class Allowance {
  /** Thread time that repairs of others' changes took lately, as of `#atMs`; it is forgiven by and by. */
  #spentMs = 0;
  #atMs = 0;

  /** How long the next repair has to wait: 0 while no more was spent than is allowed at once. */
  waitMs(nowMs: number): number {
    const excessMs = this.#spentAt(nowMs) - MOST_MS;
    return excessMs > 0 ? excessMs / SHARE : 0;
  }

  /** A repair took the time from `beginMs` to now. */
  charge(beginMs: number, nowMs: number): void {
    this.#spentMs = this.#spentAt(beginMs) + (nowMs - beginMs);
    this.#atMs = nowMs;
  }

  #spentAt(nowMs: number): number {
    return Math.max(0, this.#spentMs - (nowMs - this.#atMs) * SHARE);
  }
}
