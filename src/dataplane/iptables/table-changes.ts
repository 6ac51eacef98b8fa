/** table-changes: changes of rows as changes of tables, one table all or nothing. */
import type { ChainEdit, ChainRule, TableChange } from "../../kernel/iptables/restore.ts";
import type { Rule, TableName } from "../../kernel/iptables/rule.ts";
import { commonEnds } from "../../lib/common-ends.ts";
import type { Family } from "../../net/addr.ts";
import type { RowChange } from "../refusals.ts";
import type { IptRow } from "./rows.ts";

/** Of chains and jumps; others are of no table. */
export function isOfRules({ want, have }: RowChange<IptRow>): boolean {
  return familyOf(want ?? have) !== undefined;
}

/** undefined: it is of no table. */
export function familyOf(row: IptRow | undefined): Family | undefined {
  return row?.type === "chain" || row?.type === "jump" ? row.family : undefined;
}

/** More is written anew. */
const MOST_EDITS = 4;

interface Draft {
  readonly chains: Map<string, readonly Rule[]>;
  readonly edits: Map<string, ChainEdit>;
  readonly removed: ChainRule[];
  readonly first: ChainRule[];
  readonly gone: string[];
}

/** Of one family. `isHeard`: what others change is told at once, so that a chain is what it is known to be, and may be edited. */
export function tableChanges(
  changes: readonly RowChange<IptRow>[],
  isHeard: boolean,
): ReadonlyMap<TableName, TableChange> {
  const tables = new Map<TableName, Draft>();
  for (const { want, have } of changes) {
    const row = want ?? have;
    if (row?.type !== "chain" && row?.type !== "jump") continue;
    const change: Draft = tables.get(row.table) ?? {
      chains: new Map(),
      edits: new Map(),
      removed: [],
      first: [],
      gone: [],
    };
    tables.set(row.table, change);
    if (row.type === "chain") {
      const edit =
        isHeard && want?.type === "chain" && have?.type === "chain" ? editOf(have.rules, want.rules) : undefined;
      if (edit !== undefined) change.edits.set(row.chain, edit);
      else if (want?.type === "chain") change.chains.set(row.chain, want.rules);
      else change.gone.push(row.chain);
      continue;
    }
    if (have?.type === "jump") for (const rule of have.rules) change.removed.push({ chain: row.builtIn, rule });
    if (want?.type === "jump") for (const rule of want.rules) change.first.push({ chain: row.builtIn, rule });
  }
  return tables;
}

/** undefined: the chain is better written anew. */
export function editOf(have: readonly Rule[], want: readonly Rule[]): ChainEdit | undefined {
  const { head, tail } = commonEnds(have, want, (a, b) => a.text === b.text);
  const removed = have.slice(head, have.length - tail);
  const added = want.slice(head, want.length - tail);
  const isFew = removed.length + added.length <= MOST_EDITS && removed.length + added.length < want.length;
  const isOnce = removed.every(({ text }) => have.filter((rule) => rule.text === text).length === 1);
  return isFew && isOnce ? { removed, at: head + 1, added } : undefined;
}
