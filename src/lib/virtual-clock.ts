/**
 * Virtual clock: time that advances only on request, for tests and simulation. Has the shape of the Clock interface.
 *
 * Sleepers wake in order of due time; between two wake-ups everything that can run without time passing runs.
 */
interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/** Turns of the microtask queue that woken code gets before time advances. */
const SETTLE_TURNS = 200;

/** Rounds of these turns without a sleeper after which nothing more can happen without time passing. */
const IDLE_ROUNDS = 1000;

export class VirtualClock {
  #nowMs = 0;
  readonly #startMs: number;
  readonly #sleepers = new Set<Sleeper>();

  /** `startMs`: wall time at the beginning, milliseconds since 1970-01-01 UTC. */
  constructor(startMs = NEW_YEAR_2025_MS) {
    this.#startMs = startMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#startMs + this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper: Sleeper = {
        dueMs: this.#nowMs + Math.max(0, ms),
        wake: () => (this.#sleepers.delete(sleeper), resolve()),
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", sleeper.wake, { once: true });
    });
  }

  /** Advances time by that much, waking sleepers on the way. */
  async advance(ms: number): Promise<void> {
    const target = this.#nowMs + ms;
    await settle();
    for (let next = this.#next(); next !== undefined && next.dueMs <= target; next = this.#next()) {
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.wake();
      await settle();
    }
    this.#nowMs = target;
  }

  /** Advances time until the promise settles; fails when there is no sleeper left and it still has not settled. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = (): void => void (settled = true);
    promise.then(mark, mark);
    for (let idle = 0; ;) {
      await settle();
      if (settled) return promise;
      const next = this.#next();
      if (next === undefined) {
        if (++idle > IDLE_ROUNDS) throw new Error("the promise waits for something other than time");
        continue;
      }
      idle = 0;
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.wake();
    }
  }

  #next(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const sleeper of this.#sleepers) if (first === undefined || sleeper.dueMs < first.dueMs) first = sleeper;
    return first;
  }
}

/** 2025-01-01T00:00:00Z. */
const NEW_YEAR_2025_MS = 1_735_689_600_000;

async function settle(): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn++) await Promise.resolve();
}
