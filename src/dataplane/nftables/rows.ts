/**
 * Rows: our nf_tables table as keyed rows, the unit of wanting, having and planning: one for the table itself, and one for each
 * chain (with its rules), set, element of dispatch and element of a list of ports. Members of the program's sets are no rows.
 */
import { equal } from "../../lib/equal.ts";
import type {
  NftBaseChain,
  NftElement,
  NftRule,
  NftSet,
  NftTableFlag,
  NftVerdict,
} from "../../kernel/nftables/objects.ts";

export type NftRow =
  /** `owner`: us, or the port id of another socket. */
  | {
      readonly type: "table";
      readonly flags: readonly NftTableFlag[] | undefined;
      readonly owner: "us" | number | undefined;
    }
  /** `is` undefined: not one that we could have made. */
  | { readonly type: "set"; readonly set: string; readonly is: NftSet | undefined }
  | { readonly type: "element"; readonly set: string; readonly is: NftSet; readonly element: NftElement }
  | ChainRow;

export interface ChainRow {
  readonly type: "chain";
  readonly chain: string;
  /** `unknown`: on a hook or of a type that we do not use. */
  readonly base: NftBaseChain | "unknown" | undefined;
  /** undefined: a rule that we could not have made. */
  readonly rules: readonly (NftRule | undefined)[];
}

export const TABLE_ROW = "table";
/** Nobody but us can change it, and it stays when we end. */
export const OWNED: NftRow = { type: "table", flags: ["owner", "persist"], owner: "us" };
/** Anybody can change it. */
export const UNOWNED: NftRow = { type: "table", flags: [], owner: undefined };
/** What is left of an owned one when its owner ends. */
const LEFT: NftRow = { type: "table", flags: ["persist"], owner: undefined };

export function chainId(chain: string): string {
  return `chain ${chain}`;
}

export function setId(set: string): string {
  return `set ${set}`;
}

export function elementId(set: string, element: Pick<NftElement, "key" | "keyEnd">): string {
  return element.keyEnd === undefined
    ? `element ${set} ${element.key}`
    : `element ${set} ${element.key}-${element.keyEnd}`;
}

export function sameRow(a: NftRow, b: NftRow): boolean {
  return equal(a, b);
}

/** True when the row cannot be made of what is there in its place, so that the whole table must be made anew. */
export function needsRebuild(want: NftRow, have: NftRow): boolean {
  if (want.type === "table") return !sameRow(want, OWNED) || !sameRow(have, LEFT);
  if (want.type === "set" && have.type === "set") return !equal(want.is, have.is);
  return want.type === "chain" && have.type === "chain" && !equal(want.base, have.base);
}

const REFERENCES = new WeakMap<NftRow, readonly string[]>();
const NONE: readonly string[] = [];

/** Ids of the rows that must be there before this one, each once, its own among them if it refers to itself. */
export function referencesOf(row: NftRow): readonly string[] {
  if (row.type !== "element" && row.type !== "chain") return NONE;
  const known = REFERENCES.get(row);
  if (known !== undefined) return known;
  const found = new Set<string>();
  const verdict = (given: NftVerdict | undefined): void => {
    if (given?.type === "jump" || given?.type === "goto") found.add(chainId(given.chain));
  };
  if (row.type === "element") {
    found.add(setId(row.set));
    verdict(row.element.verdict);
  }
  if (row.type === "chain")
    for (const rule of row.rules)
      for (const expr of rule?.expressions ?? []) {
        if (expr.op === "lookup") found.add(setId(expr.set));
        else if (expr.op === "verdict-map") found.add(setId(expr.map));
        else if (expr.op === "verdict") verdict(expr.verdict);
      }
  const references = found.size === 0 ? NONE : [...found];
  REFERENCES.set(row, references);
  return references;
}
