/** History: what happened in a world, line by line: the last lines for people, and a digest of all, by which two runs of a seed are compared. */
const KEPT = 4000;

export class History {
  readonly #lines: string[] = [];
  #low = 0x811c9dc5;
  #high = 0x1b873593;
  count = 0;

  add(line: string): void {
    this.count++;
    this.#lines.push(line);
    if (this.#lines.length > 2 * KEPT) this.#lines.splice(0, KEPT);
    for (let i = 0; i < line.length; i++) {
      const code = line.charCodeAt(i);
      this.#low = Math.imul(this.#low ^ code, 0x01000193);
      this.#high = Math.imul(this.#high ^ code, 0x85ebca6b) ^ (this.#high >>> 13);
    }
  }

  get digest(): string {
    return `${this.count} lines, ${(this.#low >>> 0).toString(16)}${(this.#high >>> 0).toString(16)}`;
  }

  /** The last so many lines among those that `wanted` takes. */
  last(count: number, wanted: (line: string) => boolean = () => true): readonly string[] {
    return this.#lines.filter(wanted).slice(-count);
  }
}
