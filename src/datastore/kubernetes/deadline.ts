/** Deadline: an AbortSignal that follows the caller's and also fires when a time is over. */
import type { Clock } from "../../host/clock.ts";

export interface Deadline {
  readonly signal: AbortSignal;
  /** Whether the deadline, not the caller, aborted. */
  readonly expired: () => boolean;
  /** Postpones the deadline to this many milliseconds from now. */
  readonly renew: (ms: number) => void;
  /** Ends the timer; must be called on every exit path. */
  readonly clear: () => void;
}

export function startDeadline(clock: Clock, ms: number, outer: AbortSignal | undefined): Deadline {
  const controller = new AbortController();
  const timer = new AbortController();
  let due = clock.monotonicMs() + ms;
  let expired = false;
  const follow = (): void => controller.abort(outer?.reason);
  if (outer?.aborted === true) follow();
  else outer?.addEventListener("abort", follow, { once: true });
  const run = async (): Promise<void> => {
    for (;;) {
      const left = due - clock.monotonicMs();
      if (left <= 0) break;
      await clock.sleep(left, timer.signal);
      if (timer.signal.aborted) return;
    }
    expired = true;
    controller.abort();
  };
  const clear = (): void => {
    timer.abort();
    outer?.removeEventListener("abort", follow);
  };
  void run();
  return {
    signal: controller.signal,
    expired: () => expired,
    renew: (later) => (due = Math.max(due, clock.monotonicMs() + later)),
    clear,
  };
}
