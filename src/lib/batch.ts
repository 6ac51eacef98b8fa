/** Batch: items that arrive while earlier work runs are worked on together. */

interface Waiting<T> {
  readonly item: T;
  readonly done: PromiseWithResolvers<void>;
}

export class Batch<T> {
  readonly #schedule: (work: () => Promise<void>) => void;
  readonly #work: (items: readonly T[]) => Promise<void>;
  readonly #isShared: (error: unknown) => boolean;
  #waiting: Waiting<T>[] = [];

  /**
   * `schedule` runs the work later, once. `work` must be repeatable: when it rejects for several items with an error that is not
   * `isShared` (one that says nothing of the items), it is run for each of them alone.
   */
  constructor(options: { schedule: (work: () => Promise<void>) => void; work: (items: readonly T[]) => Promise<void>; isShared: (error: unknown) => boolean }) {
    this.#schedule = options.schedule;
    this.#work = options.work;
    this.#isShared = options.isShared;
  }

  /** Settles as the item's work does. */
  add(item: T): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ item, done });
    if (this.#waiting.length === 1) this.#schedule(() => this.#run(this.#waiting.splice(0)));
    return done.promise;
  }

  async #run(batch: readonly Waiting<T>[]): Promise<void> {
    try {
      await this.#work(batch.map(({ item }) => item));
      for (const { done } of batch) done.resolve();
    } catch (error) {
      if (batch.length === 1 || this.#isShared(error)) for (const { done } of batch) done.reject(error);
      else for (const each of batch) await this.#run([each]);
    }
  }
}
