/** Clock: the only source of time; simulated in tests. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number;
  /** Milliseconds since 1970-01-01 UTC. */
  wallMs(): number;
  /** Resolves after the time, or at once when the signal aborts (without an error). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
