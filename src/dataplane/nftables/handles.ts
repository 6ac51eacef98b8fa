/**
 * RuleHandles: the handles by which the kernel knows the rules of chains that are edited. It tells those of rules that come, also with a chain of an
 * endpoint; those of other chains are read before the first edit. Where our socket owns the table, nobody else can change them; elsewhere
 * they are read for each edit.
 */
import type { NftablesClient } from "../../kernel/nftables/client.ts";
import type { PlannedCommand, PlannedRow } from "./plan.ts";
import type { ChainEdit } from "./rows.ts";

export class RuleHandles {
  readonly #client: Pick<NftablesClient, "handlesOf">;
  readonly #isOwned: () => boolean;
  /** By chain, in the order of its rules. */
  readonly #known = new Map<string, readonly bigint[]>();

  constructor(client: Pick<NftablesClient, "handlesOf">, isOwned: () => boolean) {
    this.#client = client;
    this.#isOwned = isOwned;
  }

  /** Those of a chain that is to have so many rules; undefined: it has not. Throws KernelError. */
  of(chain: string, rules: number): readonly bigint[] | undefined {
    const known = this.#isOwned() ? this.#known.get(chain) : undefined;
    if (known?.length === rules) return known;
    const handles = this.#client.handlesOf(chain);
    this.#known.set(chain, handles);
    return handles.length === rules ? handles : undefined;
  }

  /** The commands, made of these rows, are in the kernel. `inserted`: what it told of them, by index. */
  committed(
    rows: readonly PlannedRow[],
    commands: readonly PlannedCommand[],
    inserted: ReadonlyMap<number, bigint>,
  ): void {
    if (!this.#isOwned()) return this.clear();
    const came = new Map<string, (bigint | undefined)[]>();
    for (const [index, { command }] of commands.entries()) {
      if (command.do !== "insert-rule") continue;
      const handles = came.get(command.chain);
      if (handles === undefined) came.set(command.chain, [inserted.get(index)]);
      else handles.push(inserted.get(index));
    }
    for (const { have, want, edit } of rows) {
      const row = want ?? have;
      if (row?.type !== "chain") continue;
      const before = this.#known.get(row.chain);
      this.#known.delete(row.chain);
      const told = came.get(row.chain) ?? [];
      const now =
        edit === undefined
          ? allOf(told, want?.type === "chain" ? want.rules.length : 0)
          : have?.type === "chain" && before?.length === have.rules.length
            ? edited(before, edit, told)
            : undefined;
      if (now !== undefined) this.#known.set(row.chain, now);
    }
  }

  /** Its rules may be others now. */
  forget(chain: string): void {
    this.#known.delete(chain);
  }

  /** All may be others. */
  clear(): void {
    this.#known.clear();
  }
}

/** undefined: the kernel has not told them all, so that they have to be read again. */
function edited(
  before: readonly bigint[],
  { hunks, came }: ChainEdit,
  told: readonly (bigint | undefined)[],
): readonly bigint[] | undefined {
  if (told.length !== came.length) return undefined;
  const now: bigint[] = [];
  let [from, next] = [0, 0];
  const keep = (to: number): void => {
    for (; from < to; from++) {
      const handle = before[from];
      if (handle !== undefined) now.push(handle);
    }
  };
  for (const { at, gone, came: inserted } of hunks) {
    keep(at);
    for (const end = next + inserted.length; next < end; next++) {
      const handle = told[next];
      if (handle === undefined) return undefined;
      now.push(handle);
    }
    from = at + gone;
  }
  keep(before.length);
  return now;
}

/** Of a chain that was written whole; undefined: the kernel has not told them, or not all. */
function allOf(told: readonly (bigint | undefined)[], rules: number): readonly bigint[] | undefined {
  const handles = told.filter((handle) => handle !== undefined);
  return rules > 0 && handles.length === rules ? handles : undefined;
}
