/**
 * Applied: which numbered rules of docs/semantics.md a decision applied, as the definition itself tells while it decides. Of a written rule that matched
 * all conditions count, of one that did not the condition that failed; of alternatives the one that held, or all of them.
 */
export type RuleNumber = `POL-${number}`;

export class Applied {
  readonly rules = new Set<RuleNumber>();
  #pending: RuleNumber[] = [];
  #condition = 0;

  /** Of the condition that is being evaluated. */
  note(...rules: readonly RuleNumber[]): void {
    this.#pending.push(...rules);
  }

  beginCondition(): void {
    this.#condition = this.#pending.length;
  }

  /** The written rule, or whatever else was evaluated, has been. */
  end(holds: boolean): void {
    for (const rule of this.#pending.slice(holds ? 0 : this.#condition)) this.rules.add(rule);
    this.#pending = [];
    this.#condition = 0;
  }

  some<T>(alternatives: readonly T[], holds: (each: T) => boolean): boolean {
    const first = this.#pending.length;
    return alternatives.some((each) => {
      const own = this.#pending.length;
      if (!holds(each)) return false;
      this.#pending.splice(first, own - first);
      return true;
    });
  }
}
