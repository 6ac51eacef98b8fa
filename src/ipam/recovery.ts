/** Recovery: work on what the datastore records; after a write of unknown outcome that is read anew before the next work, with backoff. */
import { StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { Retry } from "../lib/retry.ts";

const RETRY = { baseMs: 100, maxMs: 5_000 } as const;

export class Recovery {
  readonly #recover: () => Promise<void>;
  readonly #retry: Retry;
  /** Whether the datastore may record something else than is known here. */
  #stale = true;
  /** Whether a doubt came during the work that runs, which does not end it. */
  #doubted = false;
  /** The error of the last recovery, if it failed. */
  #outage: StoreError | undefined;

  constructor(clock: Clock, recover: () => Promise<void>) {
    this.#recover = recover;
    this.#retry = new Retry(RETRY, clock);
  }

  /** What is known here may be wrong. */
  distrust(): void {
    this.#stale = true;
    this.#doubted = true;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#stale) await this.#recoverWithBackoff();
    this.#stale = true;
    this.#doubted = false;
    const result = await work();
    this.#stale = this.#doubted;
    return result;
  }

  /** Each caller retries separately: with this backoff all of them together make no more requests than one would. */
  async #recoverWithBackoff(): Promise<void> {
    if (this.#outage !== undefined && !this.#retry.isDue) throw this.#outage;
    try {
      await this.#recover();
      this.#stale = false;
      this.#outage = undefined;
      this.#retry.succeeded();
    } catch (error) {
      if (error instanceof StoreError) {
        this.#outage = error;
        this.#retry.failed(error.message);
      }
      throw error;
    }
  }
}
