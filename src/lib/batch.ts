/** Batch: items that arrive while earlier work runs are processed together. */

interface Waiting<T> {
  readonly item: T;
  readonly done: PromiseWithResolvers<void>;
}

export interface BatchOptions<T> {
  /** Runs the work later, once. */
  readonly schedule: (work: () => Promise<void>) => void;
  /** Must be idempotent: when it rejects for several items with an error that is not `isShared`, it is run for each of them alone. */
  readonly work: (items: readonly T[]) => Promise<void>;
  /** Whether the error is independent of the items, as when the server is unreachable. */
  readonly isShared: (error: unknown) => boolean;
  /** The most items per run; default: all. */
  readonly most?: number;
}

export class Batch<T> {
  readonly #options: BatchOptions<T>;
  #waiting: Waiting<T>[] = [];

  constructor(options: BatchOptions<T>) {
    this.#options = options;
  }

  /** Settles as the work for the item does. */
  add(item: T): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ item, done });
    if (this.#waiting.length === 1) this.#schedule();
    return done.promise;
  }

  #schedule(): void {
    this.#options.schedule(() => {
      const batch = this.#waiting.splice(0, this.#options.most ?? Infinity);
      if (this.#waiting.length > 0) this.#schedule();
      return this.#run(batch);
    });
  }

  async #run(batch: readonly Waiting<T>[]): Promise<void> {
    try {
      await this.#options.work(batch.map(({ item }) => item));
      for (const { done } of batch) done.resolve();
    } catch (error) {
      if (batch.length === 1 || this.#options.isShared(error)) for (const { done } of batch) done.reject(error);
      else for (const each of batch) await this.#run([each]);
    }
  }
}
