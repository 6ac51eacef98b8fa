/**
 * Rows: what is ours in iptables as keyed rows, the unit of wanting, having and planning: our chains with their rules, the jumps to them from
 * the kernel's own chains, and the IP sets without the members that the program gives them.
 */
import { equal } from "../../lib/equal.ts";
import type { IpSetKind } from "../../kernel/ipset/client.ts";
import type { Family } from "../../net/addr.ts";
import type { Rule, TableName } from "../../kernel/iptables/rule.ts";

export type IptRow =
  | {
      readonly type: "chain";
      readonly family: Family;
      readonly table: TableName;
      readonly chain: string;
      readonly rules: readonly Rule[];
    }
  /** The first rule of a chain of the kernel. */
  | {
      readonly type: "jump";
      readonly family: Family;
      readonly table: TableName;
      readonly builtIn: string;
      readonly rule: Rule;
    }
  | { readonly type: "set"; readonly set: string; readonly is: IpSetKind }
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
  if (a.type === "chain" && b.type === "chain")
    return a.rules.length === b.rules.length && a.rules.every(({ text }, i) => text === b.rules[i]?.text);
  if (a.type === "jump" && b.type === "jump") return a.rule.text === b.rule.text;
  return equal(a, b);
}

/** Ids of the rows that must be there before this one, each once. */
export function referencesOf(row: IptRow): readonly string[] {
  if (row.type === "set") return [];
  if (row.type === "member") return [setId(row.set)];
  const found = new Set<string>();
  for (const { chain, sets } of row.type === "chain" ? row.rules : [row.rule]) {
    if (chain !== undefined) found.add(chainId(row.family, row.table, chain));
    for (const set of sets) found.add(setId(set));
  }
  return [...found];
}
