/**
 * plan: chosen changes of rows and elements as the commands of one transaction, each with the unit that wants it, and as lines for people.
 *
 * Referents are added first and removed last. A chain whose rules change keeps what its old and new rules have in common, with its
 * counters: only the others go and come, each rule by a command of its own.
 */
import type { NftCommand, NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import { printElement } from "../../kernel/nftables/print-values.ts";
import { printBase, printRule } from "../../kernel/nftables/print.ts";
import type { PlannedChange } from "../driver.ts";
import type { RowChange } from "../refusals.ts";
import { type ChainEdit, type ChainRow, editOf, type NftRow, OWNED, referenceChange, sameRow } from "./rows.ts";
import type { ReferenceChange } from "../table-state.ts";
import type { Unit } from "../units.ts";

/** A change that is to be made. */
export interface PlannedRow extends RowChange<NftRow> {
  readonly references: ReferenceChange;
  /** Of a chain that keeps some of its rules. */
  readonly edit: ChainEdit | undefined;
}

/** The change with what follows from it. */
export function plannedRow(change: RowChange<NftRow>): PlannedRow {
  const { id, unit, want, have } = change;
  const edit = want?.type === "chain" && have?.type === "chain" ? editOf(have, want) : undefined;
  const references = referenceChange(have, want, edit);
  return { id, unit, want, have, references, edit: edit !== undefined && edit.kept > 0 ? edit : undefined };
}

export interface ElementsChange {
  readonly set: string;
  readonly unit: Unit;
  readonly is: NftSet;
  readonly add: readonly NftElement[];
  readonly remove: readonly NftElement[];
  /** To be added and then removed. */
  readonly unsure: readonly NftElement[];
  /** More will follow in a later transaction. */
  readonly isPartial: boolean;
}

export function isEmpty({ rows, elements }: Plan): boolean {
  return rows.length === 0 && elements.length === 0;
}

export interface PlannedCommand {
  readonly command: NftCommand;
  readonly unit: Unit;
}

/** What one transaction does. */
export interface Plan {
  /** In order of rank. */
  readonly units: readonly Unit[];
  readonly rows: readonly PlannedRow[];
  readonly elements: readonly ElementsChange[];
  /** The table is made anew: whatever it holds goes first. */
  readonly replaces: boolean;
  /** More was to be looked at than the thread may be held for, and is to be planned again. Nothing in it does not mean that all is done. */
  readonly hasMore?: boolean;
}

/** The handles of the rules of one chain as it is now, in order; undefined: it has not so many rules. */
export type HandlesOf = (chain: string, rules: number) => readonly bigint[] | undefined;

/** By stage of the transaction, in order. */
const STAGES = [
  "table",
  "add sets",
  "add flowtables",
  "add chains",
  "remove elements",
  "add elements",
  // By themselves: the kernel tells of rules that come in few datagrams as long as nothing else is between.
  "remove rules",
  "rules",
  "flushes",
  "remove chains",
  "remove sets",
  "remove flowtables",
] as const;
type Stage = (typeof STAGES)[number];

export function commandsOf(plan: Plan, handlesOf: HandlesOf): readonly PlannedCommand[] {
  const stages = new Map<Stage, PlannedCommand[]>(STAGES.map((stage) => [stage, []]));
  const put = (stage: Stage, unit: Unit, command: NftCommand): void => void stages.get(stage)?.push({ command, unit });
  const [first] = plan.units;
  if (plan.replaces && first !== undefined) put("table", first, { do: "delete-table" });
  const goneSets = new Set(
    plan.rows.flatMap(({ want, have }) => (want === undefined && have?.type === "set" ? [have.set] : [])),
  );
  for (const change of plan.rows) commandsOfRow(change, goneSets, handlesOf, put);
  for (const { set, unit, is, add, remove, unsure } of plan.elements) {
    if (unsure.length > 0) put("remove elements", unit, { do: "add-elements", set, is, elements: unsure });
    const gone = [...unsure, ...remove];
    if (gone.length > 0) put("remove elements", unit, { do: "delete-elements", set, is, elements: gone });
    if (add.length > 0) put("add elements", unit, { do: "add-elements", set, is, elements: add });
  }
  return [...stages.values()].flat();
}

type Put = (stage: Stage, unit: Unit, command: NftCommand) => void;

function commandsOfRow(
  { unit, want, have, edit }: PlannedRow,
  goneSets: ReadonlySet<string>,
  handlesOf: HandlesOf,
  put: Put,
): void {
  if (have?.type === "element" && !goneSets.has(have.set))
    put("remove elements", unit, { do: "delete-elements", set: have.set, is: have.is, elements: [have.element] });
  if (want?.type === "element")
    put("add elements", unit, { do: "add-elements", set: want.set, is: want.is, elements: [want.element] });
  if (want?.type === "table") put("table", unit, { do: sameRow(want, OWNED) ? "own-table" : "add-table" });
  if (want?.type === "set" && want.is !== undefined)
    put("add sets", unit, { do: "add-set", set: want.set, is: want.is });
  if (want === undefined && have?.type === "set") put("remove sets", unit, { do: "delete-set", set: have.set });
  if (want?.type === "flowtable" && want.priority !== undefined)
    put("add flowtables", unit, {
      do: "add-flowtable",
      flowtable: want.flowtable,
      priority: want.priority,
      devices: [],
    });
  if (want === undefined && have?.type === "flowtable")
    put("remove flowtables", unit, { do: "delete-flowtable", flowtable: have.flowtable });
  if (want?.type === "chain") {
    if (edit === undefined || have?.type !== "chain" || !editChain(unit, have, edit, handlesOf, put))
      writeChain(unit, want, have?.type === "chain" ? have : undefined, put);
  }
  if (want === undefined && have?.type === "chain") {
    put("flushes", unit, { do: "flush-chain", chain: have.chain });
    put("remove chains", unit, { do: "delete-chain", chain: have.chain });
  }
}

/** The whole chain anew. */
function writeChain(unit: Unit, { chain, base, rules }: ChainRow, have: ChainRow | undefined, put: Put): void {
  if (have === undefined)
    put("add chains", unit, { do: "add-chain", chain, base: base === "unknown" ? undefined : base });
  else if (have.rules.length > 0) put("rules", unit, { do: "flush-chain", chain });
  // An endpoint's chains are those that are edited when tiers and policies change, 200 at a time: the kernel tells the handles of their rules now.
  const isTold = unit.kind === "endpoint";
  for (const rule of rules)
    if (rule !== undefined)
      put("rules", unit, isTold ? { do: "insert-rule", chain, rule, place: "last" } : { do: "add-rule", chain, rule });
}

/** False when the chain has no longer as many rules as we believe. */
function editChain(unit: Unit, { chain, rules }: ChainRow, edit: ChainEdit, handlesOf: HandlesOf, put: Put): boolean {
  const handles = handlesOf(chain, rules.length);
  if (handles === undefined) return false;
  for (const { at, gone, came } of edit.hunks) {
    const end = at + gone;
    for (const handle of handles.slice(at, end)) put("remove rules", unit, { do: "delete-rule", chain, handle });
    const place = handles[end] ?? "last";
    for (const rule of came) if (rule !== undefined) put("rules", unit, { do: "insert-rule", chain, rule, place });
  }
  return true;
}

/** Rough cost of a change in microseconds of the thread, ours and the kernel's. */
export function costOf({ want, have, edit }: PlannedRow): number {
  if (edit !== undefined) return EDIT_US + EDITED_RULE_US * (edit.came.length + edit.gone.length);
  const wanted = want?.type === "chain" ? want.rules.length : 0;
  const had = have?.type === "chain" ? have.rules.length : 0;
  return ROW_US + RULE_US * wanted + (RULE_US * had) / 4;
}

const ROW_US = 15;
const RULE_US = 20;
/** Of a chain that is edited, and of each rule that comes or goes. */
const EDIT_US = 8;
const EDITED_RULE_US = 6;

/** The plan as lines, sets with their elements counted or, if few, named. */
export function describePlan(plan: Plan): readonly PlannedChange[] {
  const lines: PlannedChange[] = [];
  if (plan.replaces) lines.push({ sign: "~", what: "table: made anew", lines: [] });
  for (const { want, have } of plan.rows) {
    const row = want ?? have;
    if (row === undefined) continue;
    const sign = want === undefined ? "-" : have === undefined ? "+" : "~";
    if (row.type === "table")
      lines.push({ sign, what: "table", lines: row.flags?.map((flag) => `flag ${flag}`) ?? [] });
    else if (row.type === "set") lines.push({ sign, what: `set ${row.set}`, lines: [] });
    else if (row.type === "flowtable") lines.push({ sign, what: `flowtable ${row.flowtable}`, lines: [] });
    else if (row.type === "element")
      lines.push({ sign, what: `element ${row.set} { ${printElement(row.is, row.element)} }`, lines: [] });
    else lines.push({ sign, what: `chain ${row.chain} ${ruleCount(row)}`, lines: chainLines(want, have) });
  }
  for (const { set, is, add, remove } of plan.elements) {
    for (const element of add)
      lines.push({ sign: "+", what: `element ${set} { ${printElement(is, element)} }`, lines: [] });
    for (const element of remove)
      lines.push({ sign: "-", what: `element ${set} { ${printElement(is, element)} }`, lines: [] });
  }
  return lines;
}

function ruleCount({ rules }: ChainRow): string {
  return `(${rules.length} ${rules.length === 1 ? "rule" : "rules"})`;
}

function chainLines(want: NftRow | undefined, have: NftRow | undefined): string[] {
  if (want?.type !== "chain") return [];
  const text = (rule: ChainRow["rules"][number]): string =>
    rule === undefined ? "# not one of ours" : printRule(rule);
  const base = want.base === undefined || want.base === "unknown" ? [] : [printBase(want.base)];
  if (have?.type !== "chain") return [...base, ...want.rules.map((rule) => `+ ${text(rule)}`)];
  const { gone, came } = editOf(have, want);
  return [...gone.map((rule) => `- ${text(rule)}`), ...came.map((rule) => `+ ${text(rule)}`)];
}
