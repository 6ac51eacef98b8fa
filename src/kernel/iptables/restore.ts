/** restore: changes of one family as the input of `iptables-restore --noflush`, which makes those of one table all or nothing. */
import { type Rule, TABLE_NAMES, type TableName } from "./rule.ts";

export interface ChainRule {
  readonly chain: string;
  readonly rule: Rule;
}

/** Rules that go, each of which is in the chain once, and those that come instead, the first as rule `at` (from 1). */
export interface ChainEdit {
  readonly removed: readonly Rule[];
  readonly at: number;
  readonly added: readonly Rule[];
}

export interface TableChange {
  /** Chains of ours: made or emptied, then filled. */
  readonly chains: ReadonlyMap<string, readonly Rule[]>;
  /** Chains of ours of which little changes. */
  readonly edits: ReadonlyMap<string, ChainEdit>;
  /** Rules of others' chains, such as our jumps: taken away, then put first. */
  readonly removed: readonly ChainRule[];
  readonly first: readonly ChainRule[];
  /** Chains that no rule leads to any more. */
  readonly gone: readonly string[];
}

/** Lines, and in the same order what each is about: a chain, or undefined for the frame. */
export interface RestoreInput {
  readonly text: string;
  /** By line, from 1. */
  readonly about: ReadonlyMap<number, { readonly table: TableName; readonly chain: string }>;
}

export function formatRestore(changes: ReadonlyMap<TableName, TableChange>): RestoreInput {
  const lines: string[] = [];
  const about = new Map<number, { readonly table: TableName; readonly chain: string }>();
  for (const table of TABLE_NAMES) {
    const change = changes.get(table);
    if (change === undefined) continue;
    const { chains, edits, removed, first, gone } = change;
    const add = (chain: string, line: string): void => void about.set(lines.push(line), { table, chain });
    lines.push(`*${table}`);
    // All are there before a rule refers to one.
    for (const chain of [...chains.keys(), ...gone]) add(chain, `:${chain} - [0:0]`);
    for (const { chain, rule } of removed) add(chain, `-D ${chain} ${rule.text}`);
    for (const [chain, rules] of chains) for (const { text } of rules) add(chain, `-A ${chain} ${text}`.trimEnd());
    for (const [chain, edit] of edits) {
      for (const { text } of edit.removed) add(chain, `-D ${chain} ${text}`.trimEnd());
      for (const [i, { text }] of edit.added.entries()) add(chain, `-I ${chain} ${edit.at + i} ${text}`.trimEnd());
    }
    for (const { chain, rule } of first) add(chain, `-I ${chain} 1 ${rule.text}`);
    for (const chain of gone) add(chain, `-X ${chain}`);
    lines.push("COMMIT");
  }
  return { text: lines.length === 0 ? "" : `${lines.join("\n")}\n`, about };
}
