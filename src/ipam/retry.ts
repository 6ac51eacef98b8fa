/**
 * Retry: compare-and-swap loops. A conflict means that another writer was first: read and try again, a bounded number of times.
 *
 * Writers inside this process take turns by name, so that they do not conflict with each other.
 */
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { backoffMs } from "../lib/backoff.ts";
import { StoreError, type StoreReason } from "../datastore/store.ts";
import { IpamError } from "./errors.ts";

const ATTEMPTS = 100;
const WAIT = { baseMs: 2, maxMs: 100 } as const;

export class Retrier {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #turns = new Map<string, Promise<void>>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * Runs `attempt` until it does not reject with a lost race (conflict, exists, not-found). `name` is the object of the loop: only one
   * loop of that name runs at a time in this process. Rejects with `contended` when no attempt succeeded.
   */
  async run<T>(name: string, attempt: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(name);
    const turn = Promise.withResolvers<void>();
    this.#turns.set(name, turn.promise);
    try {
      await before;
      return await this.#loop(name, attempt);
    } finally {
      turn.resolve();
      if (this.#turns.get(name) === turn.promise) this.#turns.delete(name);
    }
  }

  async #loop<T>(name: string, attempt: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        if (!isLostRace(error)) throw error;
        if (failures >= ATTEMPTS)
          throw new IpamError(
            "contended",
            `Cannot change ${name}: other writers were first ${ATTEMPTS} times; the last time: ${error.message}`,
          );
      }
      await this.#clock.sleep(backoffMs(WAIT, failures, this.#random.fraction()));
    }
  }
}

const RACES: readonly StoreReason[] = ["conflict", "exists", "not-found"];

/** Whether a write failed because the object is not as it was read. */
function isLostRace(error: unknown): error is StoreError {
  return error instanceof StoreError && RACES.includes(error.reason);
}

/** The promise's value, or undefined when the write lost a race. */
export async function unlessLost<T>(write: Promise<T>): Promise<T | undefined> {
  try {
    return await write;
  } catch (error) {
    if (isLostRace(error)) return undefined;
    throw error;
  }
}
