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
  /** Of the pending keys, those of objects that the consumer has. */
  #heard = new Set<KeyText>();

  /** `existed`: the last state that was put, if any, was one of an object that exists. */
  put(text: KeyText, update: U, existed: boolean): void {
    // A replaced entry moves to the end: delivery is in the order of the last changes.
    const isHeard = this.#pending.delete(text) ? this.#heard.has(text) : existed;
    if (update.value !== undefined || isHeard) this.#pending.set(text, update);
    if (isHeard) this.#heard.add(text);
  }

  /** Returns everything undelivered, which counts as delivered from now on. */
  take(): readonly U[] {
    const taken = this.#pending;
    this.#pending = new Map();
    this.#heard = new Set();
    return [...taken.values()];
  }

  get size(): number {
    return this.#pending.size;
  }
}
