/** table-changes: changes of rows as changes of tables, one table all or nothing. */
import type { ChainRule, TableChange } from "../../kernel/iptables/restore.ts";
import type { Rule, TableName } from "../../kernel/iptables/rule.ts";
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

interface Draft {
  readonly chains: Map<string, readonly Rule[]>;
  readonly removed: ChainRule[];
  readonly first: ChainRule[];
  readonly gone: string[];
}

/** Of one family. */
export function tableChanges(changes: readonly RowChange<IptRow>[]): ReadonlyMap<TableName, TableChange> {
  const tables = new Map<TableName, Draft>();
  for (const { want, have } of changes) {
    const row = want ?? have;
    if (row?.type !== "chain" && row?.type !== "jump") continue;
    const change: Draft = tables.get(row.table) ?? { chains: new Map(), removed: [], first: [], gone: [] };
    tables.set(row.table, change);
    if (row.type === "chain") {
      if (want?.type === "chain") change.chains.set(row.chain, want.rules);
      else change.gone.push(row.chain);
      continue;
    }
    if (have?.type === "jump") for (const rule of have.rules) change.removed.push({ chain: row.builtIn, rule });
    if (want?.type === "jump") for (const rule of want.rules) change.first.push({ chain: row.builtIn, rule });
  }
  return tables;
}
