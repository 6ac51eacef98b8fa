/** clock: the platform's monotonic and wall clock, and its timers. */
import type { Clock } from "../clock.ts";

export function openClock(): Clock {
  return {
    monotonicMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep,
  };
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    // A timer takes a millisecond at least: to give the thread back once is less.
    const timer = ms > 0 ? setTimeout(wake, ms) : undefined;
    if (timer === undefined) setImmediate(wake);
    signal?.addEventListener("abort", wake, { once: true });
  });
}
