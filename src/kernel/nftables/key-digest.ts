/**
 * KeyDigest: a number for a set of element keys, in whatever order they come: sets of many thousand elements are compared without a text or an
 * object for each. Two different sets have the same digest with a probability of 2^-64; by the seed nobody can choose keys for that.
 */
import { mixed } from "../../lib/fingerprint.ts";

export class KeyDigest {
  readonly #seed: number;
  #one = 0;
  #other = 0;
  #sumOfOnes = 0;
  #sumOfOthers = 0;
  /** Keys so far. */
  count = 0;

  /** Digests are compared that have the same seed, any 32 bits. */
  constructor(seed: number) {
    this.#seed = seed | 0;
    this.#begin();
  }

  #begin(): void {
    this.#one = this.#seed;
    this.#other = ~this.#seed;
  }

  /** The next four bytes of the key, as a number in network order, signed or not. */
  word(value: number): void {
    const one = Math.imul(this.#one ^ value, 0x85ebca6b);
    this.#one = one ^ (one >>> 13);
    const other = Math.imul(this.#other + value, 0xc2b2ae35);
    this.#other = other ^ (other >>> 15);
  }

  /** The key has no more. */
  end(): void {
    this.#sumOfOnes = (this.#sumOfOnes + mixed(this.#one)) | 0;
    this.#sumOfOthers = (this.#sumOfOthers + mixed(this.#other)) | 0;
    this.count++;
    this.#begin();
  }

  isSame(other: KeyDigest): boolean {
    return (
      this.count === other.count &&
      this.#sumOfOnes === other.#sumOfOnes &&
      this.#sumOfOthers === other.#sumOfOthers &&
      this.#seed === other.#seed
    );
  }
}
