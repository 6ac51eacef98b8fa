/**
 * Breath: gives the thread back between the parts of long work, so that nobody waits long for it: health, the CNI server, other changes. Of
 * several that do long work at a time, one goes on at a turn of the event loop.
 */
import type { Clock } from "./clock.ts";

/** How long the thread is held at a time. */
const HOLD_MS = 4;

/** By clock, that is by process: when it is the turn of the last who waits. */
const LAST = new WeakMap<Clock, Promise<void>>();

/** Gives the thread back. Resolves when it is the turn of whoever asked, in the order of asking, one between two turns of all others. */
export function nextTurn(clock: Clock): Promise<void> {
  const turn = LAST.get(clock)?.then(() => clock.sleep(0)) ?? clock.sleep(0);
  LAST.set(clock, turn);
  return turn;
}

/** Does one after the other, each in a turn of its own, until the signal aborts. */
export async function inTurns(clock: Clock, parts: readonly (() => void)[], signal: AbortSignal): Promise<void> {
  for (const part of parts) {
    await nextTurn(clock);
    if (signal.aborted) return;
    part();
  }
}

export class Breath {
  readonly #clock: Clock;
  readonly #most: number;
  #sinceMs: number;
  #parts = 0;

  /** `most`: parts after which the thread is given back however short they were. */
  constructor(clock: Clock, most = Infinity) {
    this.#clock = clock;
    this.#most = most;
    this.#sinceMs = clock.monotonicMs();
  }

  /** So many parts were done. Resolves when the work may go on. */
  async after(parts: number): Promise<void> {
    if (this.isDue(parts)) await this.taken();
  }

  /** So many parts were done. Whether the thread is to be given back, for who asks so often that each promise would be too many. */
  isDue(parts: number): boolean {
    this.#parts += parts;
    return this.#parts >= this.#most || this.#clock.monotonicMs() - this.#sinceMs >= HOLD_MS;
  }

  /** Gives it back. Resolves when the work may go on. */
  async taken(): Promise<void> {
    await nextTurn(this.#clock);
    this.#parts = 0;
    this.#sinceMs = this.#clock.monotonicMs();
  }
}
