/**
 * Rows: our nf_tables table as keyed rows, the unit of wanting, having and planning: one for the table itself, and one for each
 * chain (with its rules), set, element of dispatch and element of a list of ports. Members of the program's sets are no rows.
 */
import { commonEnds, differences } from "../../lib/common-ends.ts";
import { equal } from "../../lib/equal.ts";
import type {
  Expr,
  NftBaseChain,
  NftElement,
  NftRule,
  NftSet,
  NftTableFlag,
  NftVerdict,
} from "../../kernel/nftables/objects.ts";
import type { ReferenceChange, RowKind } from "../table-state.ts";
import { isStagedChain } from "./names.ts";

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
  /** Without its devices (`devices.ts`). `priority` undefined: not one that we could have made. */
  | { readonly type: "flowtable"; readonly flowtable: string; readonly priority: number | undefined }
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

export function flowtableId(flowtable: string): string {
  return `flowtable ${flowtable}`;
}

export function setId(set: string): string {
  return `set ${set}`;
}

export function elementId(set: string, element: Pick<NftElement, "key" | "keyEnd">): string {
  return element.keyEnd === undefined
    ? `element ${set} ${element.key}`
    : `element ${set} ${element.key}-${element.keyEnd}`;
}

/** Most rules of two versions of a chain are the same objects. */
export function sameRow(a: NftRow, b: NftRow): boolean {
  if (a.type !== "chain" || b.type !== "chain") return equal(a, b);
  if (a === b) return true;
  return (
    a.chain === b.chain &&
    equal(a.base, b.base) &&
    (a.rules === b.rules ||
      (a.rules.length === b.rules.length && a.rules.every((rule, i) => sameRule(rule, b.rules[i]))))
  );
}

/** Rules that differ do so as a rule in what they jump to. */
function sameRule(a: NftRule | undefined, b: NftRule | undefined): boolean {
  if (a === b) return true;
  if (a?.comment !== b?.comment || a?.expressions.length !== b?.expressions.length) return false;
  const [last, other] = [a?.expressions.at(-1), b?.expressions.at(-1)];
  if (last?.op === "verdict" && other?.op === "verdict" && targetOf(last.verdict) !== targetOf(other.verdict))
    return false;
  return equal(a, b);
}

function targetOf(verdict: NftVerdict): string | undefined {
  return verdict.type === "jump" || verdict.type === "goto" ? verdict.chain : undefined;
}

/** Rules that follow each other: so many go from the index on, and these come in their place. */
export interface Hunk {
  readonly at: number;
  readonly gone: number;
  readonly came: ChainRow["rules"];
}

/** What makes the one version of a chain of the other. */
export interface ChainEdit {
  /** By the indexes of the rules that were there, ascending; between two of them a rule is kept. */
  readonly hunks: readonly Hunk[];
  /** How many are kept. */
  readonly kept: number;
  readonly gone: ChainRow["rules"];
  readonly came: ChainRow["rules"];
}

/** Pairs of rules that are compared where what changes has more than one place. */
const MOST_PAIRS = 1_024;

export function editOf(have: ChainRow, want: ChainRow): ChainEdit {
  const { head, tail } = commonEnds(have.rules, want.rules, sameRule);
  const gone = have.rules.slice(head, have.rules.length - tail);
  const came = want.rules.slice(head, want.rules.length - tail);
  if (gone.length + came.length === 0) return { hunks: [], kept: have.rules.length, gone, came };
  const isWhole = gone.length === 0 || came.length === 0 || gone.length * came.length > MOST_PAIRS;
  const hunks = isWhole ? [{ at: head, gone: gone.length, came }] : hunksOf(gone, came, head);
  return {
    hunks,
    kept: have.rules.length - hunks.reduce((sum, hunk) => sum + hunk.gone, 0),
    gone: hunks.flatMap((hunk) => have.rules.slice(hunk.at, hunk.at + hunk.gone)),
    came: hunks.flatMap((hunk) => hunk.came),
  };
}

/** What is left of two lists when as many as can be are kept. `first`: the index of the first rule in its chain. */
function hunksOf(have: ChainRow["rules"], want: ChainRow["rules"], first: number): readonly Hunk[] {
  const width = want.length + 1;
  const longest = new Uint16Array((have.length + 1) * width);
  const of = (i: number, j: number): number => longest[i * width + j] ?? 0;
  for (let i = have.length - 1; i >= 0; i--)
    for (let j = want.length - 1; j >= 0; j--)
      longest[i * width + j] = sameRule(have[i], want[j]) ? of(i + 1, j + 1) + 1 : Math.max(of(i + 1, j), of(i, j + 1));
  const hunks: Hunk[] = [];
  for (let i = 0, j = 0; i < have.length || j < want.length;) {
    const [at, from] = [i, j];
    while ((i < have.length || j < want.length) && !(i < have.length && j < want.length && sameRule(have[i], want[j])))
      if (j === want.length || (i < have.length && of(i + 1, j) >= of(i, j + 1))) i++;
      else j++;
    if (i > at || j > from) hunks.push({ at: first + at, gone: i - at, came: want.slice(from, j) });
    if (i < have.length && j < want.length) [i, j] = [i + 1, j + 1];
  }
  return hunks;
}

/** True when the row cannot be made of what is there in its place, so that the whole table must be made anew. */
export function needsRebuild(want: NftRow, have: NftRow): boolean {
  if (want.type === "table") return !sameRow(want, OWNED) || !sameRow(have, LEFT);
  if (want.type === "set" && have.type === "set") return !equal(want.is, have.is);
  if (want.type === "flowtable") return true;
  return want.type === "chain" && have.type === "chain" && !equal(want.base, have.base);
}

const REFERENCES = new WeakMap<NftRow | NftRule, readonly string[]>();
const NONE: readonly string[] = [];

/** Ids of the rows that must be there before this one, each once, its own among them if it refers to itself. */
export function referencesOf(row: NftRow): readonly string[] {
  if (row.type !== "element" && row.type !== "chain") return NONE;
  const known = REFERENCES.get(row);
  if (known !== undefined) return known;
  const found = new Set(row.type === "element" ? [setId(row.set)] : referencesOfRules(row.rules));
  if (row.type === "element") addTarget(row.element.verdict, found);
  const references = found.size === 0 ? NONE : [...found];
  REFERENCES.set(row, references);
  return references;
}

/** Whether the row refers to that one. */
function refersTo(row: NftRow, rowId: string): boolean {
  if (row.type !== "chain") return referencesOf(row).includes(rowId);
  return row.rules.some((rule) => rule !== undefined && referencesOfRule(rule).includes(rowId));
}

/** Ids of the rows to which the rules refer, each once. */
function referencesOfRules(rules: ChainRow["rules"]): ReadonlySet<string> {
  const found = new Set<string>();
  for (const rule of rules)
    if (rule !== undefined) for (const reference of referencesOfRule(rule)) found.add(reference);
  return found;
}

/** Of a chain that changes only what goes and comes is looked at closely: it may jump to a thousand policies. */
export function referenceChange(
  before: NftRow | undefined,
  now: NftRow | undefined,
  edit = before?.type === "chain" && now?.type === "chain" ? editOf(before, now) : undefined,
): ReferenceChange {
  if (before === undefined || now === undefined || edit === undefined)
    return differences(
      before === undefined ? NONE : referencesOf(before),
      now === undefined ? NONE : referencesOf(now),
    );
  return {
    added: [...referencesOfRules(edit.came)].filter((reference) => !refersTo(before, reference)),
    removed: [...referencesOfRules(edit.gone)].filter((reference) => !refersTo(now, reference)),
  };
}

/** Chains of endpoints share the rules that jump to a policy. */
function referencesOfRule(rule: NftRule): readonly string[] {
  const known = REFERENCES.get(rule);
  if (known !== undefined) return known;
  const found = new Set<string>();
  for (const expr of rule.expressions) {
    if (expr.op === "lookup") found.add(setId(expr.set));
    else if (expr.op === "verdict-map") found.add(setId(expr.map));
    else if (expr.op === "flow-offload") found.add(flowtableId(expr.flowtable));
    else if (expr.op === "verdict") addTarget(expr.verdict, found);
  }
  const references = found.size === 0 ? NONE : [...found];
  REFERENCES.set(rule, references);
  return references;
}

function addTarget(verdict: NftVerdict | undefined, to: Set<string>): void {
  const target = verdict && targetOf(verdict);
  if (target !== undefined) to.add(chainId(target));
}

/** Chains alone decide, and of these none that counts for staged policies. */
export function closedRow(row: NftRow, because: string): NftRow {
  if (row.type !== "chain") return row;
  const isStaged = isStagedChain(row.chain);
  const drop: Expr[] = [
    { op: "counter" },
    ...(isStaged ? [] : [{ op: "verdict", verdict: { type: "drop" } } as const]),
  ];
  return { type: "chain", chain: row.chain, base: row.base, rules: [{ expressions: drop, comment: because }] };
}

export const NFT_ROWS: RowKind<NftRow> = {
  same: sameRow,
  referencesOf,
  referenceChange: (before, now) => referenceChange(before, now),
  closed: closedRow,
  isDispatchApart: false,
};
