/**
 * Rows: what is ours in iptables as keyed rows, the unit of wanting, having and planning: our chains with their rules, the jumps to them from
 * the kernel's own chains, and the IP sets without the members that the program gives them.
 */
import { differences } from "../../lib/common-ends.ts";
import { equal } from "../../lib/equal.ts";
import type { IpSetKind } from "../../kernel/ipset/client.ts";
import type { Family } from "../../net/addr.ts";
import { makeRule, type Rule, type TableName } from "../../kernel/iptables/rule.ts";
import type { ReferenceChange, RowKind } from "../table-state.ts";
import { isStagedChain } from "./names.ts";

export type IptRow =
  | {
      readonly type: "chain";
      readonly family: Family;
      readonly table: TableName;
      readonly chain: string;
      readonly rules: readonly Rule[];
    }
  /** Rules that lead to chains of ours from one of the kernel's. Wanted is one, before all others of the chain. */
  | {
      readonly type: "jump";
      readonly family: Family;
      readonly table: TableName;
      readonly builtIn: string;
      readonly rules: readonly Rule[];
      readonly isFirst: boolean;
    }
  /** `is` undefined: of a type that we do not use. */
  | { readonly type: "set"; readonly set: string; readonly is: IpSetKind | undefined }
  /** Of a set that is ours alone: `10.0.0.1,cali0`. Members of the program's sets are no rows. */
  | { readonly type: "member"; readonly set: string; readonly member: string };

export function chainId(family: Family, table: TableName, chain: string): string {
  return `chain ${family} ${table} ${chain}`;
}

export function jumpId(family: Family, table: TableName, builtIn: string): string {
  return `jump ${family} ${table} ${builtIn}`;
}

export function setId(set: string): string {
  return `set ${set}`;
}

export function memberId(set: string, member: string): string {
  return `member ${set} ${member}`;
}

export function idOf(row: IptRow): string {
  switch (row.type) {
    case "chain":
      return chainId(row.family, row.table, row.chain);
    case "jump":
      return jumpId(row.family, row.table, row.builtIn);
    case "set":
      return setId(row.set);
    case "member":
      return memberId(row.set, row.member);
  }
}

/** Rules are their text. */
export function sameRow(a: IptRow, b: IptRow): boolean {
  if (a.type === "jump" && b.type === "jump") return a.isFirst === b.isFirst && sameRules(a.rules, b.rules);
  if (a.type === "chain" && b.type === "chain") return sameRules(a.rules, b.rules);
  return equal(a, b);
}

function sameRules(a: readonly Rule[], b: readonly Rule[]): boolean {
  return a.length === b.length && a.every(({ text }, i) => text === b[i]?.text);
}

/** Ids of the rows that must be there before this one, each once. */
export function referencesOf(row: IptRow): readonly string[] {
  if (row.type === "set") return [];
  if (row.type === "member") return [setId(row.set)];
  const found = new Set<string>();
  for (const { chain, sets } of row.rules) {
    if (chain !== undefined) found.add(chainId(row.family, row.table, chain));
    for (const set of sets) found.add(setId(set));
  }
  return [...found];
}

/** Chains alone decide, and of these none that counts for staged policies. */
function closed(row: IptRow, because: string): IptRow {
  if (row.type !== "chain") return row;
  const target = isStagedChain(row.chain) ? undefined : ({ do: "target", text: "DROP" } as const);
  return { ...row, rules: [makeRule({}, target, because)] };
}

function referenceChange(before: IptRow | undefined, now: IptRow | undefined): ReferenceChange {
  return differences(before === undefined ? [] : referencesOf(before), now === undefined ? [] : referencesOf(now));
}

export const IPT_ROWS: RowKind<IptRow> = {
  same: sameRow,
  referencesOf,
  referenceChange,
  closed,
  isDispatchApart: true,
};
