/**
 * Outbox: updates not yet delivered to a slow consumer, one entry per key.
 *
 * A newer state of a key replaces an older one that was not delivered. An object that was created and deleted before delivery leaves
 * no entry, so the outbox never holds more than the objects that exist plus those that the consumer has.
 */
import type { KeyText } from "../model/key.ts";

/** `value`: undefined when the object does not exist. */
interface Entry {
  readonly value: unknown;
}

export class Outbox<U extends Entry> {
  #pending = new Map<KeyText, U>();
  /** Keys of the objects that the consumer has. */
  readonly #delivered = new Set<KeyText>();

  put(text: KeyText, update: U): void {
    // A replaced entry moves to the end: delivery is in the order of the last changes.
    this.#pending.delete(text);
    if (update.value !== undefined || this.#delivered.has(text)) this.#pending.set(text, update);
  }

  /** Returns everything undelivered, which counts as delivered from now on. */
  take(): readonly U[] {
    const taken = this.#pending;
    this.#pending = new Map();
    for (const [text, update] of taken) {
      if (update.value === undefined) this.#delivered.delete(text);
      else this.#delivered.add(text);
    }
    return [...taken.values()];
  }

  get size(): number {
    return this.#pending.size;
  }
}
