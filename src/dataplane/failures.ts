/**
 * Failures: what the kernel refused, row by row, and when each is tried again: by itself, less and less often, so that it costs nobody
 * else anything. Success forgets it.
 */
import type { Clock } from "../host/clock.ts";
import { KernelError } from "../kernel/errno.ts";
import { backoffMs } from "../lib/backoff.ts";

export interface Failure {
  readonly error: KernelError;
  /** Of the first refusal in a row, milliseconds since 1970-01-01 UTC. */
  readonly sinceMs: number;
  readonly attempts: number;
  /** By the monotonic clock. */
  readonly retryAtMs: number;
}

const RETRY = { baseMs: 100, maxMs: 30_000 };

export class Failures {
  readonly #clock: Pick<Clock, "monotonicMs" | "wallMs">;
  readonly #failures = new Map<string, Failure>();

  constructor(clock: Pick<Clock, "monotonicMs" | "wallMs">) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#failures.size;
  }

  get all(): ReadonlyMap<string, Failure> {
    return this.#failures;
  }

  get(id: string): Failure | undefined {
    return this.#failures.get(id);
  }

  add(id: string, error: KernelError): void {
    const before = this.#failures.get(id);
    const attempts = (before?.attempts ?? 0) + 1;
    this.#failures.set(id, {
      error,
      sinceMs: before?.sinceMs ?? this.#clock.wallMs(),
      attempts,
      retryAtMs: this.#clock.monotonicMs() + backoffMs(RETRY, attempts, 1),
    });
  }

  forget(id: string): void {
    this.#failures.delete(id);
  }

  /** What is wanted has changed: it is tried at once. */
  hasten(id: string): void {
    const failure = this.#failures.get(id);
    if (failure !== undefined) this.#failures.set(id, { ...failure, retryAtMs: 0 });
  }

  /** Those whose time has come. */
  due(): string[] {
    const now = this.#clock.monotonicMs();
    return [...this.#failures].flatMap(([id, { retryAtMs }]) => (retryAtMs <= now ? [id] : []));
  }

  /** When the next is due, by the monotonic clock; undefined when there is none. */
  get nextMs(): number | undefined {
    let next: number | undefined;
    for (const { retryAtMs } of this.#failures.values()) if (next === undefined || retryAtMs < next) next = retryAtMs;
    return next;
  }
}
