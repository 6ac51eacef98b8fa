/** Breath: gives the thread back between the parts of long work, so that nobody waits long for it: health, the CNI server, other changes. */
import type { Clock } from "./clock.ts";

/** How long the thread is held at a time. */
const HOLD_MS = 4;

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
    this.#parts += parts;
    if (this.#parts < this.#most && this.#clock.monotonicMs() - this.#sinceMs < HOLD_MS) return;
    await this.#clock.sleep(0);
    this.#parts = 0;
    this.#sinceMs = this.#clock.monotonicMs();
  }
}
