/**
 * SimClock: the time of a simulated world: it passes only when nothing else can happen, from one sleeper to the next.
 *
 * Between two sleepers everything runs that can run without time passing: all of it is in the microtask queue, which one turn of the
 * platform's event loop empties. Sleepers that are due at the same time wake in the order in which they went to sleep.
 */
interface Sleeper {
  readonly dueMs: number;
  readonly order: number;
  readonly wake: () => void;
  gone: boolean;
}

/** Of sleepers that wake at one time: more than any world needs. A program that only gives the thread back and takes it again waits for nothing. */
const MOST_AT_ONCE = 20_000;
/** 2025-01-01T00:00:00Z. */
const START_MS = 1_735_689_600_000;

export class SimClock {
  #nowMs = 0;
  #orders = 0;
  /** How many woke at that time so far. */
  #woken = 0;
  #wokenAtMs = 0;
  /** A binary heap by due time, then by order. */
  readonly #heap: Sleeper[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return START_MS + this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        sleeper.gone = true;
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper: Sleeper = { dueMs: this.#nowMs + Math.max(0, ms), order: this.#orders++, wake, gone: false };
      signal?.addEventListener("abort", wake, { once: true });
      this.#push(sleeper);
    });
  }

  /** Lets so much time pass. */
  async advance(ms: number): Promise<void> {
    const target = this.#nowMs + ms;
    await settle();
    for (let next = this.#next(); next !== undefined && next.dueMs <= target; next = this.#next())
      await this.#wake(next);
    this.#nowMs = target;
  }

  /** Lets time pass until the promise settles, for at most so long; false when it has not by then. */
  async until(promise: Promise<unknown>, mostMs: number): Promise<boolean> {
    let settled = false;
    const mark = (): void => void (settled = true);
    promise.then(mark, mark);
    const limit = this.#nowMs + mostMs;
    await settle();
    while (!settled) {
      const next = this.#next();
      if (next === undefined || next.dueMs > limit) return false;
      await this.#wake(next);
    }
    return true;
  }

  async #wake(sleeper: Sleeper): Promise<void> {
    this.#pop();
    this.#nowMs = Math.max(this.#nowMs, sleeper.dueMs);
    this.#woken = this.#wokenAtMs === this.#nowMs ? this.#woken + 1 : 1;
    this.#wokenAtMs = this.#nowMs;
    if (this.#woken > MOST_AT_ONCE)
      throw new Error("time stands still: somebody wakes again and again without waiting");
    sleeper.wake();
    await settle();
  }

  #next(): Sleeper | undefined {
    while (this.#heap[0]?.gone === true) this.#pop();
    return this.#heap[0];
  }

  #push(sleeper: Sleeper): void {
    const heap = this.#heap;
    let at = heap.push(sleeper) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || isBefore(above, sleeper)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = sleeper;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      const [left, right] = [heap[child], heap[child + 1]];
      if (left === undefined) break;
      let least = left;
      if (right !== undefined && isBefore(right, left)) {
        least = right;
        child++;
      }
      if (isBefore(last, least)) break;
      heap[at] = least;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Sleeper, b: Sleeper): boolean {
  return a.dueMs === b.dueMs ? a.order < b.order : a.dueMs < b.dueMs;
}

/** Resolves when the microtask queue is empty. */
function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
