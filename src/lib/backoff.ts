/**
 * Backoff: how long to wait before the next attempt, growing and jittered, so that many clients do not retry in step.
 *
 * Pure arithmetic: the caller owns the clock and the random numbers.
 */
export interface BackoffPolicy {
  /** Longest wait after the first failure. */
  readonly baseMs: number;
  /** Longest wait ever. */
  readonly maxMs: number;
}

/**
 * Milliseconds to wait after failure number `attempt` (1 is the first): uniform between half of the ceiling and the ceiling, which
 * doubles with each attempt up to `maxMs`. `fraction` is uniform in [0, 1).
 */
export function backoffMs(policy: BackoffPolicy, attempt: number, fraction: number): number {
  const ceiling = Math.min(policy.maxMs, policy.baseMs * 2 ** Math.min(attempt - 1, 52));
  return ceiling * (0.5 + fraction / 2);
}
