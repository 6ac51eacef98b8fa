/**
 * Outbox: what a slow consumer has still to be told, one entry a key.
 *
 * Newer states of a key replace older ones that were not delivered. An object that came and went before it was delivered leaves
 * nothing, so that the outbox never holds more than the objects that exist plus those that the consumer believes in.
 */
import type { KeyText } from "../model/key.ts";

/** `value`: undefined when the object does not exist. */
interface Told {
  readonly value: unknown;
}

export class Outbox<U extends Told> {
  #pending = new Map<KeyText, U>();
  /** Keys whose existence the consumer was told. */
  readonly #told = new Set<KeyText>();

  put(text: KeyText, update: U): void {
    // A replaced entry moves to the end: the order of delivery is that of the last changes.
    this.#pending.delete(text);
    if (update.value !== undefined || this.#told.has(text)) this.#pending.set(text, update);
  }

  /** Everything undelivered; from now on it counts as told. */
  take(): readonly U[] {
    const taken = this.#pending;
    this.#pending = new Map();
    for (const [text, update] of taken) {
      if (update.value === undefined) this.#told.delete(text);
      else this.#told.add(text);
    }
    return [...taken.values()];
  }

  get size(): number {
    return this.#pending.size;
  }
}
