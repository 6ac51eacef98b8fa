/** Retry: the state of something that is retried indefinitely with backoff: when to try next, and whether there is a change to report. The caller waits. */
import { type BackoffPolicy, backoffMs } from "./backoff.ts";

export class Retry {
  readonly #policy: BackoffPolicy;
  readonly #clock: { monotonicMs(): number };
  readonly #fraction: () => number;
  #failures = 0;
  #error: string | undefined;
  #atMs = 0;

  /** `fraction`: uniform in [0, 1), for jitter where many retry the same thing; by default each wait is the longest. */
  constructor(policy: BackoffPolicy, clock: { monotonicMs(): number }, fraction: () => number = () => 1) {
    this.#policy = policy;
    this.#clock = clock;
    this.#fraction = fraction;
  }

  /** The error of the last attempt; undefined if it succeeded or there was none. */
  get error(): string | undefined {
    return this.#error;
  }

  /** When to try again, on the monotonic clock; undefined if the last attempt succeeded. */
  get atMs(): number | undefined {
    return this.#error === undefined ? undefined : this.#atMs;
  }

  /** Time until `atMs`; undefined if the last attempt succeeded. */
  get waitMs(): number | undefined {
    return this.#error === undefined ? undefined : Math.max(0, this.#atMs - this.#clock.monotonicMs());
  }

  get isDue(): boolean {
    return this.#error !== undefined && this.#clock.monotonicMs() >= this.#atMs;
  }

  /** Returns whether to report the error: it differs from the last attempt's. */
  failed(error: string): boolean {
    const isNews = this.#error !== error;
    this.#failures++;
    this.#error = error;
    this.#atMs = this.#clock.monotonicMs() + backoffMs(this.#policy, this.#failures, this.#fraction());
    return isNews;
  }

  /** Returns whether to report the recovery: the last attempt had failed. */
  succeeded(): boolean {
    const isNews = this.#error !== undefined;
    this.#failures = 0;
    this.#error = undefined;
    return isNews;
  }
}
