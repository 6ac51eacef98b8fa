/** Retry: what is tried for ever, less and less often while it fails: when next, and whether there is news to report. The caller waits. */
import { type BackoffPolicy, backoffMs } from "./backoff.ts";

export class Retry {
  readonly #policy: BackoffPolicy;
  readonly #clock: { monotonicMs(): number };
  readonly #fraction: () => number;
  #failures = 0;
  #error: string | undefined;
  #atMs = 0;

  /** `fraction`: uniform in [0, 1), where many retry the same; else the longest wait is taken. */
  constructor(policy: BackoffPolicy, clock: { monotonicMs(): number }, fraction: () => number = () => 1) {
    this.#policy = policy;
    this.#clock = clock;
    this.#fraction = fraction;
  }

  /** Of the last attempt; undefined when that succeeded, or there was none. */
  get error(): string | undefined {
    return this.#error;
  }

  /** When to try again, by the monotonic clock; undefined when the last attempt succeeded. */
  get atMs(): number | undefined {
    return this.#error === undefined ? undefined : this.#atMs;
  }

  /** How long until then; undefined when the last attempt succeeded. */
  get waitMs(): number | undefined {
    return this.#error === undefined ? undefined : Math.max(0, this.#atMs - this.#clock.monotonicMs());
  }

  get isDue(): boolean {
    return this.#error !== undefined && this.#clock.monotonicMs() >= this.#atMs;
  }

  /** Returns true when it is not the same error as the last time: then it is to be reported. */
  failed(error: string): boolean {
    const isNews = this.#error !== error;
    this.#failures++;
    this.#error = error;
    this.#atMs = this.#clock.monotonicMs() + backoffMs(this.#policy, this.#failures, this.#fraction());
    return isNews;
  }

  /** Returns true when it failed before: then that it is over is to be reported. */
  succeeded(): boolean {
    const isNews = this.#error !== undefined;
    this.#failures = 0;
    this.#error = undefined;
    return isNews;
  }
}
