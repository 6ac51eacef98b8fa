/**
 * SimProcess: one process of a simulated machine: every call that it makes of the outside world passes here, and here it may end.
 *
 * A process that ends goes no further: a promise that it awaits never settles, a synchronous call throws `Stopped` through whatever it is in,
 * and its clean-up code finds no door open any more. What it had done before the call stays done.
 */
export class Stopped extends Error {
  override readonly name = "Stopped";
}

export class SimProcess {
  /** Asked before each operation; true ends the process there. */
  readonly #strikes: (operation: string) => boolean;
  readonly #atEnd: (() => void)[] = [];
  #stopped = false;

  constructor(strikes: (operation: string) => boolean = () => false) {
    this.#strikes = strikes;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** What the machine takes back when the process ends: sockets, descriptors. */
  atEnd(run: () => void): void {
    if (this.#stopped) run();
    else this.#atEnd.push(run);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const run of this.#atEnd.splice(0).reverse()) run();
  }

  /** Before a synchronous operation. Throws Stopped. */
  pass(operation: string): void {
    if (!this.#stopped && this.#strikes(operation)) this.stop();
    if (this.#stopped) throw new Stopped(`the process ended before ${operation}`);
  }

  /** One asynchronous operation. */
  async run<T>(operation: string, work: () => T | Promise<T>): Promise<T> {
    if (!this.#stopped && this.#strikes(operation)) this.stop();
    if (this.#stopped) return never();
    try {
      const value = await work();
      return this.#stopped ? await never() : value;
    } catch (error) {
      if (this.#stopped) return never();
      throw error;
    }
  }

  /** Waiting that is no operation: it ends with the process. */
  async wait<T>(promise: Promise<T>): Promise<T> {
    const value = await promise;
    return this.#stopped ? never() : value;
  }
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}
