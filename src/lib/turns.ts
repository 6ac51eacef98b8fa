/** Turns: runs work for one key one after another, in order of arrival, and work for different keys concurrently. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Settles as the work does. A failure does not prevent the next work from running. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const mine = (async () => {
      await before?.catch(() => undefined);
      return work();
    })();
    this.#last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    }
  }
}
